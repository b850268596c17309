"""Aggregates over seeds and tasks, as in rliable (arXiv 2108.13264)."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Strata = Sequence[Float[np.ndarray, "*batch runs"]]
"""The scores of a method: one array for each task, its last axis the runs. Tasks may differ in their number of runs."""

AGGREGATE_RESAMPLES, PAIR_RESAMPLES = 50_000, 2_000
"""rliable's own numbers of bootstrap replicates."""


def mean(tasks: Strata) -> Float[np.ndarray, "*batch"]:
    """Average the tasks' means, so that each task counts the same."""
    return np.mean([values.mean(axis=-1) for values in tasks], axis=0)


def interquartile_mean(tasks: Strata) -> Float[np.ndarray, "*batch"]:
    """Average the middle half of all runs of all tasks; each task weighs the same, however many runs it has.

    With equally many runs this is rliable's: the runs are pooled, and a quarter, rounded down, is cut from each end.

    Raises:
        ValueError: there is no task, or one without runs.
    """
    _check(tasks)
    values = np.concatenate(tasks, axis=-1)
    weights = np.concatenate([np.full(task.shape[-1], 1 / (len(tasks) * task.shape[-1])) for task in tasks])
    count = values.shape[-1]
    cut = count // 4 / count
    order = np.argsort(values, axis=-1)
    ends = np.cumsum(weights[order], axis=-1)
    kept = np.clip(np.minimum(ends, 1 - cut) - np.maximum(ends - weights[order], cut), 0, None)
    return (np.take_along_axis(values, order, axis=-1) * kept).sum(axis=-1) / kept.sum(axis=-1)


def optimality_gap(tasks: Strata, target: float = 100.0) -> Float[np.ndarray, "*batch"]:
    """Return the optimality gap: the mean shortfall below the target. Smaller is better."""
    _check(tasks)
    return target - mean([np.minimum(values, target) for values in tasks])


def probability_of_improvement(ours: Strata, theirs: Strata) -> Float[np.ndarray, "*batch"]:
    """Return how likely a run of ours beats one of theirs on a task drawn by chance; a tie counts half.

    Raises:
        ValueError: the two are not of the same tasks, or one has no runs.
    """
    _check(ours)
    _check(theirs)
    pairs = [a[..., :, None] - b[..., None, :] for a, b in zip(ours, theirs, strict=True)]
    wins = [((difference > 0) + 0.5 * (difference == 0)).mean(axis=(-2, -1)) for difference in pairs]
    return np.mean(wins, axis=0)


def stratified_interval(
    statistic: Callable[..., Float[np.ndarray, "*batch"]],
    *methods: Strata,
    generator: np.random.Generator,
    resamples: int = AGGREGATE_RESAMPLES,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a statistic of one or more methods.

    Runs are drawn with replacement within each task, each method for itself. `None` where a task has a single run:
    nothing is known then about the spread between its seeds, and an interval would pretend that there is none.

    Raises:
        ValueError: `level` is not between 0 and 1, or `resamples` is not positive.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if min(len(values) for tasks in methods for values in tasks) < 2:
        return None
    drawn = [[_resampled(values, generator, resamples) for values in tasks] for tasks in methods]
    low, high = np.quantile(statistic(*drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(
    values: Float[np.ndarray, " runs"], generator: np.random.Generator, resamples: int
) -> Float[np.ndarray, "resamples runs"]:
    """Draw as many runs as there are, with replacement, `resamples` times."""
    return values[generator.integers(len(values), size=(resamples, len(values)))]


def _check(tasks: Strata) -> None:
    """Raise unless every task has a run."""
    if not tasks or not all(values.shape[-1] for values in tasks):
        raise ValueError("an aggregate needs at least one task, and at least one run of each")
