"""Put the page together: the values of the templates, and the files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lmrl.report import charts
from lmrl.report.curves import INTERACTIONS, STEPS, curve
from lmrl.report.dialogues import Dialogue, best_and_worst
from lmrl.report.groups import Group
from lmrl.report.naming import differences
from lmrl.report.results import Result, close_to_best, compare, result_of
from lmrl.report.runs import Run
from lmrl.report.words import FILTERS
from lmrl.scores import Anchors

SUCCESS = "validation/success_rate"


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, in the page and as a file."""

    name: str
    svg: str
    said: str


@dataclass(frozen=True, slots=True)
class TaskPart:
    """The part of the page about one task, or about one changed form of it."""

    name: str
    anchor: str
    is_changed: bool
    results: tuple[Result, ...]
    """The best first, and behind them those that are not ranked."""
    best: Result | None
    """`None`: none of the results is ranked."""
    close: tuple[Result, ...]
    charts: tuple[Chart, ...]
    dialogues: Mapping[str, Sequence[Dialogue]]
    varied: Mapping[str, Sequence[tuple[str, Sequence[str]]]]
    """For each method with several configurations, the keys that differ, with the value of each result."""
    different: Sequence[tuple[str, Sequence[str]]]
    """The keys that differ between all configurations of the task."""
    has_own: bool
    has_iqm: bool


def build_page(
    groups: Sequence[Group], apart: Sequence[Run], *, title: str, made: str, dialogues: int
) -> dict[str, Any]:
    """Return all that the templates show.

    Args:
        groups: runs by configuration.
        apart: runs that do not count, which say why.
        title: of the page.
        made: time and sources of the page.
        dialogues: how many best and worst episodes of each group are shown.
    """
    results = [result_of(group) for group in groups]
    names = sorted({group.section for group in groups})
    parts = [_task_part(name, [r for r in results if r.group.section == name], dialogues) for name in names]
    unchanged = [part for part in parts if not part.is_changed and part.best is not None]
    compared = [result for part in unchanged for result in part.results if not result.group.trial]
    return {
        "title": title,
        "made": made,
        "parts": parts,
        "unchanged": unchanged,
        "methods": _order(compared),
        "cells": {(result.group.name, result.group.section): result for result in compared},
        "comparison": compare(results),
        "apart": apart,
        "runs": [(result, run) for part in parts for result in part.results for run in result.group.runs],
        "mixed": _mixed(groups),
        "style": charts.STYLE,
    }


def write_page(page: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write report.html, report.md and the pictures of the latter, and return the paths of the two.

    Raises:
        OSError: the folder cannot be written.
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for part in page["parts"]:
        for chart in part.charts:
            (pictures / f"{chart.name}.svg").write_text(charts.standalone(chart.svg), encoding="utf-8")
    written = []
    for name, escaped in (("report.html", True), ("report.md", False)):
        environment = Environment(
            loader=PackageLoader("lmrl.report"), autoescape=escaped, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        environment.filters |= FILTERS
        written.append(folder / name)
        written[-1].write_text(environment.get_template(f"{name}.j2").render(page), encoding="utf-8")
    return written[0], written[1]


def _task_part(name: str, results: Sequence[Result], dialogues: int) -> TaskPart:
    """Collect the part about one task, or about one changed form of it."""
    ordered = tuple(sorted(results, key=lambda result: (bool(result.group.trial), -result.main.value)))
    ranked = [result for result in ordered if not result.group.trial]
    best, close = close_to_best(ranked) if ranked else (None, [])
    methods = sorted({result.group.algo for result in ordered})
    members = {algo: [r.group for r in ranked if r.group.algo == algo] for algo in methods}
    return TaskPart(
        name=name,
        anchor=f"task-{_slug(name)}",
        is_changed=bool(ordered[0].group.environment),
        results=ordered,
        best=best,
        close=tuple(close),
        charts=tuple(_charts(name, ranked or ordered)),
        dialogues={result.group.name: best_and_worst(result.group, dialogues) for result in ordered},
        varied={algo: _differences(found) for algo, found in members.items() if len(found) > 1},
        different=_differences([result.group for result in ordered]),
        has_own=any(result.own_score is not None for result in ordered),
        has_iqm=any(result.iqm is not None for result in ordered),
    )


def _slug(name: str) -> str:
    """Return a name as it can stand in an address and in the name of a file."""
    return re.sub(r"[^\w.-]+", "_", name)


def _differences(groups: Sequence[Group]) -> list[tuple[str, Sequence[str]]]:
    """Return the keys that differ between groups, with the value of each."""
    return list(differences([group.settings for group in groups]).items())


def _charts(task: str, results: Sequence[Result]) -> list[Chart]:
    """Draw the charts of a task."""
    has_score = all(result.score is not None for result in results)
    main = "score" if has_score else "return"
    anchors = _anchors(results)
    said = f"{main} of the reported evaluation; a diamond is the paper's number"
    bars = charts.intervals([_bar(result, main) for result in results], title=said, references=anchors[main])
    found = [Chart(f"{_slug(task)}_results", bars, f"{task}: {said}")]
    ranked = f"validation/{'score' if has_score else 'return_mean'}"
    for metric, axis in ((ranked, STEPS), (ranked, INTERACTIONS), (SUCCESS, STEPS)):
        made = [curve(result.group, metric, number=i, axis=axis) for i, result in enumerate(results)]
        lines = [line for line in made if line is not None]
        if lines:
            name = metric.removeprefix("validation/").removesuffix("_mean")
            title = f"{name.replace('_', ' ')} on validation episodes"
            svg = charts.lines(lines, title=title, axis=axis, references=anchors.get(name, {}))
            suffix = "steps" if axis == STEPS else "interactions"
            found.append(Chart(f"{_slug(task)}_{name}_{suffix}", svg, f"{task}: {title} over {axis}"))
    return found


def _order(results: Sequence[Result]) -> list[str]:
    """Return the methods' names: those that were run on many tasks first, and among these the best."""
    values: dict[str, list[float]] = {}
    for result in results:
        values.setdefault(result.group.name, []).append(result.main.value)
    return sorted(values, key=lambda name: (-len(values[name]), -sum(values[name]) / len(values[name])))


def _anchors(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Return the lines that help to read a score or a return."""
    config = results[0].group.runs[0].config.get("task") or {}
    try:
        anchors = Anchors.of_task(config)
    except (KeyError, TypeError, ValueError):  # a configuration of another version; its runs are results all the same
        anchors = None
    if anchors is None:
        return {"score": {}, "return": {}}
    return {
        "score": {"data": 50.0, "maximum": 100.0},
        "return": {"data": anchors.data, "maximum": anchors.max},
    }


def _bar(result: Result, main: str) -> charts.Bar:
    """Return the line of a result in the chart of intervals."""
    estimate = result.main
    said = f"{result.group.name}: {FILTERS['estimate'](estimate, 2)} ({FILTERS['basis'](result)})"
    return charts.Bar(result.group.name, estimate.value, estimate.interval, result.paper.get(main), said)


def _mixed(groups: Sequence[Group]) -> list[tuple[Group, str, list[str]]]:
    """Return the groups whose runs are of different code or versions, which a reader should know of."""
    found = []
    for group in groups:
        versions: list[tuple[str, set[str]]] = [
            ("git commit", {str(run.summary.get("git_commit"))[:10] for run in group.runs}),
            *(
                (name, {str((run.summary.get("versions") or {}).get(name)) for run in group.runs})
                for name in ("python", "torch", "transformers", "lightning", "lmrl")
            ),
        ]
        found += [(group, name, sorted(values)) for name, values in versions if len(values) > 1]
    return found
