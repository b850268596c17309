"""The numbers of a group of runs, and of methods over several tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lmrl.report.groups import Group
from lmrl.report.statistics import (
    PAIR_RESAMPLES,
    interquartile_mean,
    mean,
    optimality_gap,
    probability_of_improvement,
    stratified_interval,
)
from lmrl.scores import confidence_interval

Interval = tuple[float, float]
Over = Literal["seeds", "episodes"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and how sure it is."""

    value: float
    interval: Interval | None = None
    over: Over = "seeds"
    """The unit of the interval: trained seeds, or the episodes of the only seed."""


@dataclass(frozen=True, slots=True)
class Result:
    """The results of a group of runs."""

    group: Group
    seeds: tuple[int, ...]
    episodes: str
    """Evaluation episodes of each seed."""
    returns: Estimate
    score: Estimate | None
    own_score: Estimate | None
    iqm: Estimate | None
    """The interquartile mean of the seeds' scores. `None`: fewer than 4 seeds, of which it cuts none."""
    paper: Mapping[str, float | None]
    rates: Mapping[str, float | None]
    """Means over seeds of numbers that explain a result."""

    @property
    def main(self) -> Estimate:
        """The estimate for ranking: the score, or the return of a task without scores."""
        return self.score or self.returns


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A method over several tasks."""

    name: str
    runs: int
    iqm: Estimate
    mean: Estimate
    gap: Estimate


@dataclass(frozen=True, slots=True)
class Comparison:
    """Methods over the tasks that all of them were run on."""

    tasks: tuple[str, ...]
    methods: tuple[Aggregate, ...]
    better: Mapping[tuple[str, str], Estimate]
    """The probability that the first method of the pair beats the second."""
    left_out: tuple[str, ...]
    """Methods that are not compared, because they lack a task."""


def result_of(group: Group) -> Result:
    """Sum up the runs of a group."""
    evaluated = [run.results for run in group.runs]
    episodes = sorted({int(block.get("episodes") or 0) for block in evaluated})
    scores = _values(evaluated, "score")
    iqm = None
    if scores is not None and len(scores) >= 4:
        interval = stratified_interval(interquartile_mean, [scores], generator=_generator())
        iqm = Estimate(float(interquartile_mean([scores])), interval)
    return Result(
        group=group,
        seeds=tuple(run.seed for run in group.runs),
        episodes=" or ".join(f"{count:,}" for count in episodes),
        returns=_estimate(evaluated, "return_mean", "return_ci95") or Estimate(float("nan")),
        score=_estimate(evaluated, "score", "score_ci95"),
        own_score=_estimate(evaluated, "own_score", "own_score_ci95"),
        iqm=iqm,
        paper={} if group.environment else group.runs[-1].summary.get("paper") or {},
        rates=_rates(group),
    )


def compare(results: Sequence[Result]) -> Comparison | None:
    """Compare methods over several tasks by their scores; `None` if there are not two of both.

    Compared are the methods that have a score on all tasks. While these are fewer than two, the task that the fewest
    methods were run on is left out. Smoke runs and changed tasks are not compared.
    """
    ranked = [r for r in results if r.score is not None and not r.group.trial and not r.group.environment]
    cells = {(r.group.name, r.group.task): _scores(r) for r in ranked}
    tasks = sorted({task for _, task in cells})
    names = sorted({name for name, _ in cells})
    while len(tasks) > 1 and len(_complete(cells, names, tasks)) < 2:
        tasks.remove(min(tasks, key=lambda task: sum((name, task) in cells for name in names)))
    complete = _complete(cells, names, tasks)
    if len(tasks) < 2 or len(complete) < 2:
        return None
    strata = {name: [cells[name, task] for task in tasks] for name in complete}
    methods = [_aggregate(name, values) for name, values in strata.items()]
    better = {
        (ours, theirs): _probability(strata[ours], strata[theirs])
        for ours in complete
        for theirs in complete
        if ours != theirs
    }
    left_out = tuple(name for name in names if name not in complete)
    return Comparison(tuple(tasks), tuple(sorted(methods, key=lambda m: -m.iqm.value)), better, left_out)


def close_to_best(results: Sequence[Result]) -> tuple[Result, list[Result]]:
    """Return the best result of one task, and those whose intervals overlap with its own.

    Raises:
        ValueError: there is no result.
    """
    best, *others = sorted(results, key=lambda result: -result.main.value)
    low = best.main.interval[0] if best.main.interval else best.main.value
    close = [r for r in others if (r.main.interval[1] if r.main.interval else r.main.value) >= low]
    return best, close


def _estimate(evaluated: Sequence[Mapping[str, Any]], key: str, interval_key: str) -> Estimate | None:
    """Average over seeds; a single seed has the interval of its own episodes."""
    values = _values(evaluated, key)
    if values is None:
        return None
    if len(values) > 1:
        return Estimate(float(values.mean()), confidence_interval([values.tolist()], _generator()))
    ends: Any = evaluated[0].get(interval_key)
    if ends is None or any(end is None for end in ends):  # a single episode has no interval
        return Estimate(float(values[0]), None, "episodes")
    return Estimate(float(values[0]), (float(ends[0]), float(ends[1])), "episodes")


def _values(evaluated: Sequence[Mapping[str, Any]], key: str) -> np.ndarray | None:
    """Return a number of each run; `None` if one lacks it."""
    values = [block.get(key) for block in evaluated]
    return None if any(value is None for value in values) else np.asarray(values, dtype=np.float64)


def _rates(group: Group) -> dict[str, float | None]:
    """Return means over seeds of further numbers, by the names that they have in summary.json."""
    places = {
        "evaluation": ("success_rate", "invalid_action_rate", "turns_mean"),
        "train": ("steps", "seconds", "environment_steps"),
    }
    found: dict[str, float | None] = {}
    for block, keys in places.items():
        for key in keys:
            values = _values([run.summary.get(block) or {} for run in group.runs], key)
            found[key] = None if values is None else float(values.mean())
    return found


def _scores(result: Result) -> np.ndarray:
    """Return the scores of a group's runs."""
    return np.asarray([run.results["score"] for run in result.group.runs], dtype=np.float64)


def _complete(cells: Mapping[tuple[str, str], Any], names: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Return the methods that have all tasks."""
    return [name for name in names if all((name, task) in cells for task in tasks)]


def _aggregate(name: str, tasks: Sequence[np.ndarray]) -> Aggregate:
    """Sum up a method over tasks."""
    found = [
        Estimate(float(statistic(tasks)), stratified_interval(statistic, tasks, generator=_generator()))
        for statistic in (interquartile_mean, mean, optimality_gap)
    ]
    return Aggregate(name, sum(len(values) for values in tasks), *found)


def _probability(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Estimate:
    """Return how likely one method beats another."""
    interval = stratified_interval(
        probability_of_improvement, ours, theirs, generator=_generator(), resamples=PAIR_RESAMPLES
    )
    return Estimate(float(probability_of_improvement(ours, theirs)), interval)


def _generator() -> np.random.Generator:
    """Return a generator with a fixed seed: the interval of given runs is a fixed pair of numbers."""
    return np.random.default_rng(0)
