"""The summary of a run: the blocks of summary.json, and the same numbers as a table."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmrl.runs.formats import duration, number, percent
from lmrl.runs.provenance import FORMAT, git_commit, timestamp, versions
from lmrl.runs.recorded import environment_changes
from lmrl.scores import Anchors

Status = Literal["finished", "interrupted", "failed"]
"""How a run ended."""

BLOCKS: dict[str, tuple[str, ...]] = {
    "dataset": ("fingerprint", "trajectories", "return_mean"),
    "train": (
        *("steps", "tokens", "tokens_per_second", "seconds", "episodes", "environment_steps"),
        *("checkpoint_step", "parameters", "trained_parameters"),
    ),
    "rollout": ("episodes", "turns", "turns_per_second"),
    "evaluation": (
        *("episodes", "return_mean", "return_std", "return_ci95", "score", "score_ci95"),
        *("own_score", "own_score_ci95"),
        *("success_rate", "invalid_action_rate", "turns_mean"),
    ),
    "paper": ("return", "score"),
    "usage": (
        *("requests", "retries", "prompt_tokens", "completion_tokens", "cut_off", "unmetered", "unparsable"),
        "cost",
    ),
    "partner": (
        *("kind", "model", "prompts", "repeated", "cached", "asked", "shortened"),
        *("requests", "retries", "prompt_tokens", "completion_tokens", "cut_off", "unmetered", "cost"),
    ),
}
"""The keys of each block of summary.json; unknown values are null."""
OPTIONAL = ("paper", "usage", "partner")
"""Blocks that are left out if they do not apply."""


def build_summary(
    *,
    task: str,
    algo: str,
    model: str,
    seed: int,
    status: Status,
    dataset: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    rollout: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    paper: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
    partner: Mapping[str, Any] | None = None,
    anchors: Anchors | None = None,
    config_hash: str | None = None,
    started: str | None = None,
    changed: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """Put the blocks of summary.json together; values that an interrupted or failed run lacks are null.

    `started` is the time of its start, as `lmrl.runs.provenance.timestamp` writes it; `changed` its differences from
    the defaults, as from `lmrl.runs.recorded.changes_of`; and `error` the reason of its failure, in one line.

    Raises:
        ValueError: a key of a block is unknown.
    """
    given = {
        **{"dataset": dataset, "train": train, "rollout": rollout, "evaluation": evaluation},
        "paper": None if environment_changes(changed) else paper,  # its numbers are of the unchanged task
        **{"usage": usage, "partner": partner},
    }
    blocks = {name: _block(name, values or {}) for name, values in given.items() if values or name not in OPTIONAL}
    head = {
        "format": FORMAT,
        "task": task,
        "algo": algo,
        "model": model,
        "seed": seed,
        "status": status,
        "config_hash": config_hash,
    }
    head |= {"started": started, "ended": timestamp(), "changed": changed}
    scale = {} if anchors is None else {"anchors": _returns(anchors)}
    return {**head, **blocks, **scale, "error": error, "versions": versions(), "git_commit": git_commit()}


def print_summary(summary: Mapping[str, Any], files: Mapping[str, str | Path], console: Console | None = None) -> None:
    """Print the table at the end of a run: its results next to the paper's, its costs, and its files.

    Args:
        summary: as from `build_summary`.
        files: paths and addresses, by a name for their content (`summary`, `checkpoint`, `MLflow`, ...).
        console: the console to print to. `None`: the terminal.
    """
    screen = console or Console()
    title = f"{summary['task']} · {summary['algo']} · {summary['model']} · seed {summary['seed']}"
    style = {"finished": "green", "interrupted": "yellow", "failed": "red"}[summary["status"]]
    results = Table(title=Text.assemble((title, "bold"), "  ", (summary["status"], style)), title_justify="left")
    head, *rows = _rows(summary)
    for name in head:
        results.add_column(name, justify="right" if name else "left", style="bold" if name == "this run" else None)
    for row in rows:
        results.add_row(*row)
    screen.print()
    screen.print(results)
    lines = {**_meaning(summary), **_costs(summary), **files, **_next(summary, files)}
    width = max(map(len, lines), default=0)
    for name, text in lines.items():
        # Soft wrapping leaves a long path in one piece, so that it can be copied.
        screen.print(Text.assemble((f"{name:<{width}}  ", "dim"), str(text)), soft_wrap=True)


def markdown(summary: Mapping[str, Any]) -> str:
    """Return the results as a Markdown table, for example for MLflow's description of a run."""
    head, *rows = _rows(summary)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    lines = _meaning(summary) | _costs(summary)
    return "\n".join([table, "", *(f"- {name}: {text}" for name, text in lines.items())])


def _rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of results as cells, its head first; the paper has a column if it has numbers of this task."""
    evaluated, paper = summary["evaluation"], summary.get("paper") or {}
    # The scores by published and by own constants are two scales: the paper has no number on the second.
    own = [] if evaluated.get("own_score") is None else [["score, own constants", *_mean(evaluated, "own_score"), ""]]
    rows = [
        ["", "this run", "95 % interval", "paper"],
        ["return", *_mean(evaluated, "return"), number(paper.get("return"))],
        ["score", *_mean(evaluated, "score"), number(paper.get("score"), 1)],
        *own,
        ["success", percent(evaluated["success_rate"]), "", ""],
        ["invalid actions", percent(evaluated["invalid_action_rate"]), "", ""],
        ["turns per episode", number(evaluated["turns_mean"], 1), "", ""],
    ]
    return rows if paper else [row[:-1] for row in rows]


def _meaning(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the returns that score 0, 50 and 100, and a note if the environment was changed."""
    lines: dict[str, str] = {}
    if (anchors := summary.get("anchors")) is not None:
        lines["score"] = _scale(anchors)
        if "own" in anchors:
            lines["own constants"] = _scale(anchors["own"])
    if changes := environment_changes(summary.get("changed")):
        names = ", ".join(f"{key.removeprefix('task.env.')}={value}" for key, value in changes.items())
        lines["note"] = (
            f"the environment differs from the task's own ({names}): score anchors belong to the unchanged task"
        )
    return lines


def _scale(anchors: Mapping[str, float]) -> str:
    """Explain the points of a score."""
    return f"0 is a return of {anchors['min']:g}, 50 of {anchors['data']:g}, 100 of {anchors['max']:g}"


def _returns(anchors: Anchors) -> dict[str, Any]:
    """Return the `anchors` block of summary.json: the returns that score 0, 50 and 100 points."""
    own = {} if anchors.own is None else {"own": _returns(anchors.own)}
    return {"min": anchors.min, "data": anchors.data, "max": anchors.max, **own}


def _next(summary: Mapping[str, Any], files: Mapping[str, str | Path]) -> dict[str, str]:
    """Return the commands that a reader may want next."""
    run = files.get("run") or files.get("folder")
    if summary["status"] != "finished" or run is None:
        return {}
    task = Path(run).parent.parent  # the runs of a task lie in one folder, by method
    place = f" {shlex.quote(str(task))}" if task.name == summary["task"] else ""
    lines = {"compare": f"python -m lmrl.report{place}"}
    if "policy" in files:
        player = shlex.quote(str(files["policy"]))
        lines["play"] = f"python -m lmrl.play task={summary['task']} --player {player}"
    return lines | {"evaluate": f"python run.py mode=eval run={shlex.quote(str(run))} evaluation.repeats=..."}


def _costs(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the data and the cost of training and playing; unknown values are left out."""
    train, rollout, data = summary["train"], summary["rollout"], summary["dataset"]
    lines: dict[str, str] = {}
    if data["trajectories"] is not None:
        mean = f"mean return {number(data['return_mean'])}"
        lines["data"] = f"{data['trajectories']:,} episodes, {mean}, fingerprint {str(data['fingerprint'])[:12]}"
    if train["steps"] is not None:
        speed = f", {number(train['tokens_per_second'], 0)} tokens/s" if train["tokens_per_second"] else ""
        lines["training"] = f"{train['steps']:,} steps in {duration(train['seconds'])}{speed}"
    if train["episodes"] is not None:
        lines["collected"] = f"{train['episodes']:,} episodes, {train['environment_steps']:,} environment steps"
    if rollout["episodes"] is not None:
        played = f"{rollout['episodes']:,} episodes, {rollout['turns']:,} turns"
        lines["evaluation"] = f"{played}, {number(rollout['turns_per_second'], 0)} turns/s"
    if (used := summary.get("usage", {})).get("requests") is not None:
        tokens = f"{used['prompt_tokens']:,} + {used['completion_tokens']:,} tokens"
        price = "" if used["cost"] is None else f", {used['cost']:.2f} USD"
        trouble = f"{used['retries']:,} retries, {used['unparsable']:,} unreadable answers"
        lines["endpoint"] = f"{used['requests']:,} requests, {tokens}{price}, {trouble}"
    if (other := summary.get("partner", {})).get("prompts") is not None:
        counts = f"{other['prompts']:,} replies: {other['asked']:,} asked, {other['cached']:,} from disk"
        lines["partner"] = f"{other['model']}, {counts}, {other['repeated']:,} repeated"
    return lines


def _mean(block: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return a mean and its interval as table cells."""
    digits = 2 if name == "return" else 1
    mean, interval = block["return_mean" if name == "return" else name], block[f"{name}_ci95"]
    if interval is None:
        return number(mean, digits), ""
    return number(mean, digits), " … ".join(number(end, digits) for end in interval)


def _block(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block with exactly its declared keys."""
    unknown = sorted(set(values) - set(BLOCKS[name]))
    if unknown:
        raise ValueError(f"summary block {name!r} has no key {', '.join(unknown)}; it has {', '.join(BLOCKS[name])}")
    return {key: values.get(key) for key in BLOCKS[name]}
