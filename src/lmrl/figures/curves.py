"""Learning curves of a run, one panel for each metric."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1f2933"
MUTED = "#8a94a0"
SERIES = {"validation": "#0b6e99", "rollout": "#7a5195", "train": "#d1495b"}
"""Colour of a metric by the word before its first slash."""
REFERENCE = "#9a6b15"
FIRST = ("validation/return_mean", "validation/score", "validation/success_rate", "train/loss")
"""The first metrics; others follow by name."""


def learning_curves(
    rows: Sequence[Mapping[str, float | int | None]],
    path: Path,
    *,
    title: str = "",
    references: Mapping[str, Mapping[str, float | int]] | None = None,
    metrics: Sequence[str] | None = None,
    panels: int = 12,
) -> Path:
    """Draw metrics over steps and save them as a PNG.

    Args:
        rows: logged values, each row with its `step` and any metrics; values that are not finite are left out.
        path: the PNG to write.
        title: the name of the run.
        references: horizontal lines by metric and label, such as the paper's return.
        metrics: the metrics to draw. `None`: all of `validation/`, `rollout/` and `train/`, the most important first.
        panels: draw at most so many.

    Raises:
        ValueError: no row has any of the metrics.
    """
    curves = {name: _curve(rows, name) for name in (_default_metrics(rows) if metrics is None else metrics)}
    curves = {name: curve for name, curve in curves.items() if curve[0]}
    if not curves:
        raise ValueError("there is nothing to draw: no row has any of the metrics")
    shown = list(curves.items())[:panels]
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * lines + (0.5 if title else 0)), layout="constrained")
    if title:
        figure.suptitle(title, color=INK, fontsize=13, fontweight="bold", x=0.01, ha="left")
    for position, (name, (steps, values)) in enumerate(shown):
        axes = figure.add_subplot(lines, columns, position + 1)
        _draw(axes, name, steps, values, (references or {}).get(name, {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def _draw(
    axes: Axes, name: str, steps: list[float], values: list[float], references: Mapping[str, float | int]
) -> None:
    """Draw one metric with its reference lines."""
    axes.margins(x=0.03, y=0.14)
    colour = SERIES.get(name.split("/")[0], INK)
    marker = "o" if len(steps) <= 30 else ""
    noisy = len(values) > 60
    axes.plot(
        steps, values, color=colour, linewidth=0.8 if noisy else 1.8, alpha=0.3 if noisy else 1, marker=marker, ms=4
    )
    if noisy:
        axes.plot(steps, _smooth(values, len(values) // 30), color=colour, linewidth=1.8)
        # The first steps' losses are many times the later ones and would press these flat.
        later = values[len(values) // 10 :]
        low, high = np.min(later), np.max(later)
        axes.set_ylim(low - 0.14 * (high - low), high + 0.14 * (high - low) + 1e-9)
    _draw_references(axes, references)
    axes.set_title(name, loc="left", fontsize=10, color=INK)
    axes.set_xlabel("optimizer steps", fontsize=8, color=MUTED)
    axes.tick_params(labelsize=8, colors=MUTED, length=0)
    axes.grid(axis="y", color="#e5e9ee", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#c9d1d9")


def _draw_references(axes: Axes, references: Mapping[str, float | int]) -> None:
    """Draw dashed lines; levels that lie close together share one label above the highest of them."""
    for level in references.values():
        axes.axhline(level, color=REFERENCE, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    bottom, top = axes.get_ylim()
    groups: list[list[tuple[str, float]]] = []
    for label, level in sorted(references.items(), key=lambda pair: pair[1]):
        is_close = bool(groups) and level - groups[-1][-1][1] < (top - bottom) / 12
        groups[-1].append((label, level)) if is_close else groups.append([(label, level)])
    for group in groups:
        axes.annotate(
            " · ".join(f"{label} {level:g}" for label, level in reversed(group)),
            (0, group[-1][1]),
            (2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=7.5,
            color=REFERENCE,
            va="bottom",
        )


def _default_metrics(rows: Sequence[Mapping[str, float | int | None]]) -> list[str]:
    """Return the metrics worth drawing, the telling ones first."""
    found = {name for row in rows for name in row if name.split("/")[0] in SERIES}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def _curve(rows: Sequence[Mapping[str, float | int | None]], name: str) -> tuple[list[float], list[float]]:
    """Return the steps and finite values of a metric; the last value of a step logged twice (a resumed run)."""
    logged = [(row["step"], row.get(name)) for row in rows]
    points = {float(step or 0): float(value) for step, value in logged if value is not None and math.isfinite(value)}
    steps = sorted(points)
    return steps, [points[step] for step in steps]


def _smooth(values: Sequence[float], window: int) -> list[float]:
    """Return means over the `window` values on each side, fewer at the ends."""
    totals = [0.0]
    for value in values:
        totals.append(totals[-1] + value)
    spans = [(max(0, i - window), min(len(values), i + window + 1)) for i in range(len(values))]
    return [(totals[end] - totals[start]) / (end - start) for start, end in spans]
