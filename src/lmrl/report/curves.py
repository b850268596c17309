"""Learning curves of groups of runs: the mean over seeds, and a band from the lowest seed to the highest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmrl.report.groups import Group
from lmrl.report.runs import is_number

STEPS = "optimizer steps"
INTERACTIONS = "environment steps of training"
_COLLECTED = "collect/environment_steps"


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart."""

    name: str
    number: int
    """Chooses its colour: a method has the same in all charts."""
    seeds: int
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve(group: Group, metric: str, *, number: int = 0, axis: str = STEPS) -> Curve | None:
    """Return the curve of a metric over a group's seeds; `None` if a seed did not log it along that axis.

    Over optimizer steps it has the steps that all seeds logged. Seeds play different numbers of turns, so over
    environment steps each is interpolated linearly between the points that it logged, where all of them have some.
    """
    found = [_points(run.rows, metric, axis) for run in group.runs]
    if not found or any(len(x) == 0 for x, _ in found):
        return None
    if axis == STEPS:
        x = np.asarray(sorted(set.intersection(*(set(x.tolist()) for x, _ in found))))
    else:
        first, last = max(x[0] for x, _ in found), min(x[-1] for x, _ in found)
        x = np.linspace(first, last, min(len(x) for x, _ in found)) if last > first else np.empty(0)
    if not len(x):
        return None
    values = np.stack([np.interp(x, steps, y) for steps, y in found])
    return Curve(group.name, number, len(found), x, values.mean(0), values.min(0), values.max(0))


def _points(rows: Sequence[Mapping[str, float]], metric: str, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a run's curve; of a step that was logged twice (a resumed run) the later value."""
    values = {float(row["step"]): float(row[metric]) for row in rows if is_number(row.get(metric))}
    steps = sorted(values)
    y = np.asarray([values[step] for step in steps])
    if axis == STEPS:
        return np.asarray(steps), y
    collected = {float(row["step"]): float(row[_COLLECTED]) for row in rows if is_number(row.get(_COLLECTED))}
    if not collected or not steps:
        return np.empty(0), np.empty(0)
    when = sorted(collected)
    # The experience when the value was measured: the last round that began before.
    rounds = np.searchsorted(when, steps, side="right") - 1
    known = rounds >= 0
    x = np.asarray([collected[when[index]] for index in rounds[known]])
    # A resumed run counts on from its checkpoint, so the counts never fall; np.interp needs that.
    return np.maximum.accumulate(x) if len(x) else x, y[known]
