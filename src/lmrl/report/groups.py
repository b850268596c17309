"""Which runs are repetitions of one experiment, and by what experiments differ."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmrl.report.runs import Run
from lmrl.runs import decisive

ABSENT = "null"
"""How the value of a key is shown that a configuration does not have."""

_TELLING = (
    "(model)",
    "algo.module.",
    "algo.",
    "model.",
    "task.env.",
    "task.",
    "(dataset)",
    "evaluation.",
    "validation.",
)
"""The order in which keys are preferred for naming a variant."""

Settings = Mapping[str, str]
"""A configuration as one line of text for each dotted key."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one configuration, which differ in their seeds only."""

    task: str
    algo: str
    runs: tuple[Run, ...]
    settings: Settings
    variant: str = ""
    """By what it differs from the other groups of its task and method. Empty: it is the only one, or the main one."""

    @property
    def name(self) -> str:
        """What it is called beside the groups of other tasks: the method, and what was varied."""
        return f"{self.algo} · {self.variant}" if self.variant else self.algo


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[Run]]:
    """Sort finished runs by configuration, and return the groups and the runs that do not count, which say why.

    Of several runs of one configuration and seed only the newest counts: they are one draw, not several.
    """
    apart = [run for run in runs if not run.is_finished]
    pairs: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.is_finished:
            pairs[run.task, run.algo].append(run)
    groups = []
    for (task, algo), members in sorted(pairs.items()):
        found = []
        for settings, same in _by_settings(members):
            kept, repeated = _newest(same)
            found.append(Group(task, algo, kept, settings))
            apart += repeated
        groups += _named(found)
    return groups, apart


def differences(settings: Sequence[Settings]) -> dict[str, tuple[str, ...]]:
    """Return the keys whose values are not equal everywhere, each with its values in the given order."""
    keys = sorted({key for one in settings for key in one})
    rows = {key: tuple(one.get(key, ABSENT) for one in settings) for key in keys}
    return {key: values for key, values in rows.items() if len(set(map(_meant, values))) > 1}


def _meant(value: str) -> str:
    """Return one text for all ways to write a number, such as 10 and 10.0."""
    try:
        return repr(float(value))
    except ValueError:
        return value


def settings_of(run: Run) -> dict[str, Any]:
    """Return what a run computes: what decides its results but for the seed, with the data it learned from."""
    what = decisive(run.config)
    what.pop("seed", None)
    # Equal configurations can still read different data, for example a file that was replaced.
    return what | {"(model)": run.model, "(dataset)": (run.summary.get("dataset") or {}).get("fingerprint")}


def text(value: Any) -> str:
    """Return a value as YAML would write it, in one line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _by_settings(runs: Sequence[Run]) -> list[tuple[Settings, list[Run]]]:
    """Sort runs of one task and method by configuration.

    A configuration is kept with its references resolved, so the run's seed may stand in further places: a key named
    `seed` that is the run's seed in all of the runs is one of them.
    """
    found = [(run, settings_of(run)) for run in runs]
    names = {key for _, what in found for key in what if key.rsplit(".", 1)[-1] == "seed"}
    # With a single seed, a constant that happens to equal it cannot be told from it, and need not be.
    follow = {key for key in names if all(what.get(key, run.seed) == run.seed for run, what in found)}
    groups: dict[frozenset[tuple[str, str]], tuple[Settings, list[Run]]] = {}
    for run, what in found:
        settings = {key: text(value) for key, value in sorted(what.items()) if key not in follow}
        alike = frozenset((key, _meant(value)) for key, value in settings.items())
        groups.setdefault(alike, (settings, []))[1].append(run)
    return list(groups.values())


def _newest(runs: Sequence[Run]) -> tuple[tuple[Run, ...], list[Run]]:
    """Return one run for each seed, and the others; names begin with the time, and MLflow's runs come by time."""
    kept: dict[int, Run] = {}
    repeated = []
    for run in sorted(runs, key=lambda run: run.name):
        older = kept.get(run.seed)
        if older is not None:
            repeated.append(replace(older, reason=f"repeated: {run.name} is a newer run of the same configuration"))
        kept[run.seed] = run
    return tuple(kept[seed] for seed in sorted(kept)), repeated


def _named(groups: Sequence[Group]) -> list[Group]:
    """Name groups of one task and method by what differs between them, as shortly as it is clear.

    The one with the most seeds, if there is one, is what was meant by the method: it has the method's plain name.
    """
    if len(groups) < 2:
        return list(groups)
    rows = differences([group.settings for group in groups])
    chosen = _telling(rows, len(groups))
    labels = [", ".join(_said(key, rows[key][index]) for key in chosen) for index in range(len(groups))]
    if len(set(labels)) < len(labels):  # long values that begin alike
        labels = [f"{label} #{index + 1}" for index, label in enumerate(labels)]
    most, second = sorted((len(group.runs) for group in groups), reverse=True)[:2]
    return [
        replace(group, variant="" if len(group.runs) == most > second else label)
        for group, label in zip(groups, labels, strict=True)
    ]


def _telling(rows: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Choose few keys whose values together tell all groups apart, a method's own before others."""
    chosen: list[str] = []
    told = [("",)] * count

    def rank(key: str) -> tuple[Any, ...]:
        kinds = len({(*known, value) for known, value in zip(told, rows[key], strict=True)})
        place = next((i for i, start in enumerate(_TELLING) if key.startswith(start)), len(_TELLING))
        return -kinds, place, max(map(len, rows[key])) > 24, key.count("."), key

    while len(set(told)) < count:
        best = min(rows, key=rank)
        chosen.append(best)
        told = [(*known, value) for known, value in zip(told, rows[best], strict=True)]
    return chosen


def _said(key: str, value: str, longest: int = 32) -> str:
    """Write a value with its key, without the parts that say little."""
    name = key.removeprefix("algo.").removeprefix("module.").strip("()")
    return f"{name}={value if len(value) <= longest else value[: longest - 1] + '…'}"
