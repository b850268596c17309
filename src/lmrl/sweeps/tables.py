"""The tables that end a sweep: every job, and the means over seeds; for the terminal, files and MLflow."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmrl.runs.formats import duration, number
from lmrl.sweeps.jobs import Job, Status, group_of, has_effect

STYLES: Mapping[Status, str] = {
    "finished": "green", "failed": "red", "interrupted": "yellow", "running": "cyan", "waiting": "dim",
}  # fmt: skip
_LONG_NUMBER = re.compile(r"(?<==)-?\d+\.\d{4,}(?:e-?\d+)?$")
HEAD = ("job", "status", "return", "score", "time", "folder")


def labels(jobs: Sequence[Job]) -> list[str]:
    """Return a label for each job: the varied values in which it differs from another job."""
    found = Counter(override for job in jobs for override in set(job.varied))
    names = [[o for o in job.varied if found[o] < max(2, len(jobs)) and _matters(o)] for job in jobs]
    everything = [[o for o in job.overrides if _matters(o)] for job in jobs]
    return [" ".join(map(_rounded, name or whole)) for name, whole in zip(names, everything, strict=True)]


def counts(jobs: Sequence[Job]) -> dict[str, int]:
    """Return the number of jobs in each state, without empty ones."""
    found = Counter(job.status for job in jobs)
    return {status: found[status] for status in STYLES if found[status]}


def best(jobs: Sequence[Job]) -> dict[str, Job]:
    """Return the job with the highest return of each task."""
    winners: dict[str, Job] = {}
    for job in jobs:
        if job.runs is None or job.status != "finished" or job.return_mean is None:
            continue
        held = winners.get(job.runs.task)
        if held is None or job.return_mean > (held.return_mean or -math.inf):
            winners[job.runs.task] = job
    return winners


def over_seeds(jobs: Sequence[Job]) -> list[tuple[str, str, str, str]]:
    """Return label, seeds, return and score of jobs that differ in their seed only, where several are finished."""
    groups: dict[str, list[Job]] = {}
    for job, label in zip(jobs, labels(jobs), strict=True):
        if job.status == "finished":
            rest = " ".join(part for part in label.split() if group_of(part) != "seed")
            groups.setdefault(rest, []).append(job)
    rows = []
    for label, members in groups.items():
        if len(members) > 1:
            returns, scores = [job.return_mean for job in members], [job.score for job in members]
            rows.append((label or "all", str(len(members)), _spread(returns, 2), _spread(scores, 1)))
    return rows


def rows(jobs: Sequence[Job]) -> list[tuple[str, ...]]:
    """Return the cells of the table of jobs, without its head."""
    return [
        (label, job.status, number(job.return_mean), number(job.score, 1), duration(job.seconds), short(job.folder))
        for label, job in zip(labels(jobs), jobs, strict=True)
    ]


def print_tables(name: str, jobs: Sequence[Job], console: Console) -> None:
    """Print the end of a sweep: its jobs, the means over seeds, where the runs are, and why some failed."""
    named = list(zip(labels(jobs), jobs, strict=True))
    console.print()
    # Not as the table's title, which would be wrapped where the table is narrow.
    console.print(Text.assemble((f"sweep {name}", "bold"), "  ", state_counts(jobs)), soft_wrap=True)
    console.print(_jobs_table(jobs))
    if means := over_seeds(jobs):
        seeds = Table(title="over seeds: mean ± standard deviation", title_justify="left", title_style="bold")
        for head in ("job", "seeds", "return", "score"):
            seeds.add_column(head, justify="left" if head == "job" else "right")
        for cells in means:
            seeds.add_row(*map(Text, cells))
        console.print(seeds)
    for label, job in named:
        if job.folder is not None:
            console.print(Text.assemble((f"{label}  ", "dim"), short(job.folder)), soft_wrap=True)
    for label, job in named:
        if job.reason:
            log = "" if job.command is None else f" (log: {short(job.command.log)})"
            console.print(Text.assemble((f"{label}: ", STYLES[job.status]), job.reason, (log, "dim")), soft_wrap=True)


def _jobs_table(jobs: Sequence[Job]) -> Table:
    """Return the table of jobs; the best of each task is bold."""
    table = Table()
    for head in HEAD[:-1]:
        table.add_column(head, justify="right" if head in HEAD[2:5] else "left", overflow="fold")
    winners = {id(job) for job in best(jobs).values()}
    for job, (label, status, *numbers, _) in zip(jobs, rows(jobs), strict=True):
        style = "bold" if id(job) in winners else ""
        table.add_row(Text(label, style), Text(status, STYLES[job.status]), *(Text(cell, style) for cell in numbers))
    return table


def markdown(jobs: Sequence[Job]) -> str:
    """Return the same as Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *rows(jobs)]
    parts = [state_counts(jobs), "", *(_line(cells) for cells in lines)]
    if means := over_seeds(jobs):
        parts += ["", "Over seeds (mean ± standard deviation):", "", _line(("job", "seeds", "return", "score"))]
        parts += [_line(("---",) * 4), *(_line(cells) for cells in means)]
    reasons = [f"- {label}: {job.reason}" for label, job in zip(labels(jobs), jobs, strict=True) if job.reason]
    winners = [f"- best on {task}: {labels_of(job, jobs)}" for task, job in best(jobs).items()]
    return "\n".join([*parts, "", *winners, *reasons]) + "\n"


def labels_of(job: Job, jobs: Sequence[Job]) -> str:
    """Return a job's label among others."""
    return labels(jobs)[[id(other) for other in jobs].index(id(job))]


def state_counts(jobs: Sequence[Job]) -> str:
    """Return the number of jobs in each state as text."""
    return f"{plural(len(jobs), 'job')}: " + ", ".join(f"{count} {status}" for status, count in counts(jobs).items())


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def short(path: Path | None) -> str:
    """Return a path as seen from the working folder, if it is below it."""
    if path is None:
        return ""
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


def _rounded(override: str) -> str:
    """Return an override for people: no more digits than they read."""
    return _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.4g}", override)


def _matters(override: str) -> bool:
    """Return whether an override identifies a job, and not only the place or manner of its run."""
    return has_effect(override) and group_of(override) not in ("sweeps", "hydra")


def _spread(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return number(known[0] if known else None, digits)
    return f"{number(statistics.mean(known), digits)} ± {number(statistics.stdev(known), digits)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
