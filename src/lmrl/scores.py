"""The benchmark's normalised score, and the confidence interval of a mean over episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, slots=True)
class Anchors:
    """The three returns of a task that the benchmark calls 0, 50 and 100 points."""

    min: float
    """The worst return that the task pays: 0 points."""
    data: float
    """The return of a policy that acts as often as the data do: 50 points."""
    max: float
    """The return that the benchmark calls the maximum: 100 points. It can be beaten on some tasks."""
    own: "Anchors | None" = None
    """The same three of this project's own data and players, where the published ones are of another partner."""

    def __post_init__(self) -> None:
        if not self.min < self.data < self.max:
            raise ValueError(f"score anchors must grow, min < data < max, got {self.min}, {self.data}, {self.max}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, float | int], own: Mapping[str, float | int] | None = None) -> "Anchors":
        """Build anchors from a task's `score` block, and its `own_score` block if it has one.

        Raises:
            ValueError: a key is missing or unknown, or the values do not grow.
        """
        if set(values) != {"min", "data", "max"}:
            raise ValueError(f"score anchors need exactly min, data and max, got {sorted(values)}")
        low, data, high = (float(values[name]) for name in ("min", "data", "max"))
        return cls(low, data, high, cls.from_mapping(own) if own else None)

    @classmethod
    def of_task(cls, task: Mapping[str, Any]) -> "Anchors | None":
        """Return the anchors of a task's configuration; `None` if it has no scores.

        Raises:
            ValueError: as `from_mapping`.
        """
        return cls.from_mapping(task["score"], task.get("own_score")) if task.get("score") else None


def score(value: float, anchors: Anchors, *, clamp: bool = False) -> float:
    """Map a return to points, linearly on both sides of the data: min -> 0, data -> 50, max -> 100.

    LMRL-Gym (arXiv 2311.18232), appendix E. Without `clamp` a return outside of the anchors scores below 0 or above
    100, so that a policy which beats a "maximum" is seen to do so.
    """
    span = anchors.max - anchors.data if value >= anchors.data else anchors.data - anchors.min
    points = 50 + 50 * (value - anchors.data) / span
    return float(min(max(points, 0.0), 100.0)) if clamp else float(points)


def mean_over_groups(groups: Sequence[Sequence[float]]) -> float:
    """Average the means of the groups, so that each start counts the same however often it was played.

    Raises:
        ValueError: there is no group, or an empty one.
    """
    if not groups or not all(groups):
        raise ValueError("a mean needs at least one group, and at least one value in each")
    return float(np.mean([np.mean(group) for group in groups]))


def bootstrap_means(
    groups: Sequence[Sequence[float]], generator: np.random.Generator, resamples: int = 2000
) -> Float[np.ndarray, " R"]:
    """Draw `resamples` bootstrap replicates of `mean_over_groups`, resampling episodes within each start.

    The starts are fixed by the benchmark, so only the episodes are random: they are drawn within their start. Of n
    episodes n - 1 are drawn, which makes the spread of the replicates that of the mean without bias (Rao & Wu, 1988);
    drawing n would be too narrow by the factor sqrt((n - 1) / n), much for 2 or 4 episodes per start. Starts that were
    played once say nothing about their own spread; then all episodes are resampled together, which is wider. A single
    episode says nothing at all: its replicates are NaN.

    Raises:
        ValueError: there is no group or an empty one, or `resamples` is not positive.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    mean = mean_over_groups(groups)
    strata = [np.asarray(group, dtype=np.float64) for group in groups]
    if min(map(len, strata)) < 2:
        # Deviations weighted so that every start counts the same; for equally long groups these are just the values.
        count = sum(map(len, strata))
        weighted = [(values - mean) * count / (len(strata) * len(values)) for values in strata]
        strata = [mean + np.concatenate(weighted)]
    if min(map(len, strata)) < 2:
        return np.full(resamples, np.nan)
    total = np.zeros(resamples)
    for values in strata:
        drawn = generator.integers(len(values), size=(resamples, len(values) - 1))
        total += values[drawn].mean(axis=1)
    return total / len(strata)


def confidence_interval(
    groups: Sequence[Sequence[float]], generator: np.random.Generator, *, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of `mean_over_groups`.

    Raises:
        ValueError: `level` is not between 0 and 1, or as for `bootstrap_means`.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    tail = (1 - level) / 2
    low, high = np.quantile(bootstrap_means(groups, generator, resamples), [tail, 1 - tail])
    return float(low), float(high)


def interquartile_mean(values: Sequence[float]) -> float:
    """Average the middle half of the values: a quarter is cut from each end, rounded down (rliable's IQM).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("an interquartile mean needs at least one value")
    cut = len(values) // 4
    return float(np.sort(np.asarray(values, dtype=np.float64))[cut : len(values) - cut].mean())
