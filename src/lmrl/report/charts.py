"""Charts as SVG: they stand in a page or in a file of their own, and follow light and dark mode."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.ticker import MaxNLocator

from lmrl.report.curves import Curve

COLOURS = 8
"""How many colours lines have before they repeat, dashed."""
STYLE = """
svg.chart{--ink:#1f2933;--muted:#5f6b76;--rule:#e3e7ec;--ref:#9a6b15;--c0:#0b6e99;--c1:#d1495b;--c2:#2e8540;
--c3:#7a5195;--c4:#b8620e;--c5:#00808a;--c6:#a8326f;--c7:#5b6770;font:12px system-ui,sans-serif;max-width:100%;
height:auto}
@media (prefers-color-scheme:dark){svg.chart{--ink:#e6e9ed;--muted:#a3adb8;--rule:#323a44;--ref:#e0b252;
--c0:#5ab4e0;--c1:#f2808c;--c2:#6cc57f;--c3:#b99ae0;--c4:#f0a35a;--c5:#4cc9d1;--c6:#ee86bd;--c7:#b4bec8}}
@media print{svg.chart{--ink:#000;--muted:#444;--rule:#ddd;--ref:#7a5410;--c0:#0b6e99;--c1:#d1495b;--c2:#2e8540;
--c3:#7a5195;--c4:#b8620e;--c5:#00808a;--c6:#a8326f;--c7:#5b6770}}
.chart text{fill:var(--ink)}.chart .muted{fill:var(--muted);font-size:11px}.chart .rule{stroke:var(--rule)}
.chart .ref{stroke:var(--ref);stroke-dasharray:4 3}.chart .reftext{fill:var(--ref);font-size:11px}
.chart .line{fill:none;stroke-width:2}
.chart .series:hover .line{stroke-width:4}.chart .series:hover .band{opacity:.4}
.chart .band{opacity:.16;stroke:none}.chart .paper{fill:none;stroke-width:1.6;
stroke:var(--ink)}
""".strip().replace("\n", "")
_LEFT, _TOP, _BOTTOM = 62, 26, 42


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a chart of intervals."""

    name: str
    value: float
    interval: tuple[float, float] | None
    paper: float | None
    said: str
    """The text shown when the pointer is over it."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to pixels."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.begin + (value - self.low) / ((self.high - self.low) or 1) * (self.end - self.begin)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values between the ends."""
        found = MaxNLocator(count).tick_values(self.low, self.high)
        return [float(tick) for tick in found if self.low <= tick <= self.high]


def standalone(svg: str) -> str:
    """Return a chart as a file of its own, with its colours."""
    begin, rest = svg.split(">", 1)
    return f"{begin}><style>{STYLE}</style>{rest}\n"


def lines(curves: Sequence[Curve], *, title: str, axis: str, references: Mapping[str, float]) -> str:
    """Draw learning curves with their bands, names and reference lines."""
    width, plot, legend = 900, 580, 20 * len(curves) + 30
    height = max(300, legend + _TOP)
    low, high = _limits(curves, references)
    x = Scale(min(c.x[0] for c in curves), max(c.x[-1] for c in curves), _LEFT, plot)
    y = Scale(low, high, height - _BOTTOM, _TOP)
    clip = f"clip-{zlib.crc32(f'{title}/{axis}/{[c.name for c in curves]}'.encode()):x}"
    parts = [
        f'<clipPath id="{clip}"><rect x="{_LEFT}" y="{_TOP}" width="{plot - _LEFT}" '
        f'height="{height - _TOP - _BOTTOM}"/></clipPath>',
        *_grid(x, y, axis, title),
        *_references(references, y, plot),
        f'<g clip-path="url(#{clip})">',
        *(part for one in curves for part in _line(one, x, y)),
        "</g>",
        *(part for index, one in enumerate(curves) for part in _legend(one, index, plot + 24)),
    ]
    return _svg(parts, width, height, f"{title} over {axis}")


def intervals(bars: Sequence[Bar], *, title: str, references: Mapping[str, float]) -> str:
    """Draw a point with its interval for each method, and a diamond for the paper's number."""
    left = 24 + 7 * min(max(len(bar.name) for bar in bars), 44)
    width, height = 900, _TOP + 26 * len(bars) + _BOTTOM + 8
    ends = [e for b in bars for e in (b.value, *(b.interval or ()), *([] if b.paper is None else [b.paper]))]
    low, high = min([*ends, *references.values()]), max([*ends, *references.values()])
    pad = 0.04 * (high - low) or 1.0
    x = Scale(low - pad, high + pad, left, width - 24)
    bottom = height - _BOTTOM
    parts = []
    for tick in x.ticks(8):
        parts.append(f'<line class="rule" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="muted" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for label, value in references.items():
        parts.append(f'<line class="ref" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text class="reftext" x="{x(value):.1f}" y="{_TOP - 6}" text-anchor="middle">{escape(label)}</text>'
        )
    for index, bar in enumerate(bars):
        parts += _bar(bar, _TOP + 26 * index + 16, left, x)
    parts.append(f'<text class="muted" x="{left}" y="{height - 8}">{escape(title)}</text>')
    return _svg(parts, width, height, title)


def _bar(bar: Bar, y: float, left: float, x: Scale) -> Iterator[str]:
    """Draw one method."""
    name = bar.name if len(bar.name) <= 44 else f"{bar.name[:43]}…"
    yield f"<g><title>{escape(bar.said)}</title>"
    yield f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
    if bar.interval:
        begin, end = x(bar.interval[0]), x(bar.interval[1])
        yield f'<line stroke="var(--c0)" stroke-width="3" x1="{begin:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>'
    yield f'<circle fill="var(--c0)" cx="{x(bar.value):.1f}" cy="{y}" r="5"/>'
    if bar.paper is not None:
        at = x(bar.paper)
        yield f'<path class="paper" d="M{at:.1f} {y - 7}l6 7l-6 7l-6 -7z"/>'
    yield "</g>"


def _grid(x: Scale, y: Scale, axis: str, title: str) -> Iterator[str]:
    """Draw the axes."""
    for tick in y.ticks():
        yield f'<line class="rule" x1="{x.begin}" x2="{x.end}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield f'<text class="muted" x="{x.begin - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
    for tick in x.ticks():
        yield f'<text class="muted" x="{x(tick):.1f}" y="{y.begin + 16}" text-anchor="middle">{tick:,g}</text>'
    yield f'<text x="{x.begin}" y="14" font-weight="600">{escape(title)}</text>'
    yield f'<text class="muted" x="{x.end}" y="{y.begin + 34}" text-anchor="end">{escape(axis)}</text>'


def _references(references: Mapping[str, float], y: Scale, right: float) -> Iterator[str]:
    """Draw dashed lines; values outside of the range are left out."""
    for label, value in references.items():
        if y.low <= value <= y.high:
            at = y(value)
            yield f'<line class="ref" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            yield f'<text class="reftext" x="{_LEFT + 4}" y="{at - 4:.1f}">{escape(label)} {value:g}</text>'


def _line(one: Curve, x: Scale, y: Scale) -> Iterator[str]:
    """Draw one curve with its band."""
    colour = f"var(--c{one.number % COLOURS})"
    dash = ' stroke-dasharray="6 4"' if one.number >= COLOURS else ""
    yield f'<g class="series"><title>{escape(one.name)}</title>'
    if one.seeds > 1:
        border = [*zip(one.x, one.high, strict=True), *zip(one.x[::-1], one.low[::-1], strict=True)]
        yield f'<polygon class="band" fill="{colour}" points="{_points(border, x, y)}"/>'
    points = list(zip(one.x, one.mean, strict=True))
    if len(points) == 1:
        yield f'<circle fill="{colour}" cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="3.5"/>'
    yield f'<polyline class="line" stroke="{colour}"{dash} points="{_points(points, x, y)}"/></g>'


def _legend(one: Curve, index: int, left: float) -> Iterator[str]:
    """Write the name of a curve beside a piece of it."""
    y = _TOP + 8 + 20 * index
    dash = ' stroke-dasharray="6 4"' if one.number >= COLOURS else ""
    name = one.name if len(one.name) <= 32 else f"{one.name[:31]}…"
    plural = "seed" if one.seeds == 1 else "seeds"
    colour = f"var(--c{one.number % COLOURS})"
    yield f'<line stroke="{colour}" stroke-width="3"{dash} x1="{left}" x2="{left + 22}" y1="{y}" y2="{y}"/>'
    yield (
        f'<text x="{left + 30}" y="{y + 4}"><title>{escape(one.name)}</title>{escape(name)} '
        f'<tspan class="muted">{one.seeds} {plural}</tspan></text>'
    )


def _points(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    """Write points as SVG does."""
    return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)


def _limits(curves: Sequence[Curve], references: Mapping[str, float]) -> tuple[float, float]:
    """Return the ends of the vertical axis: a few very low values may be cut off, so that the rest is not flat."""
    values = np.concatenate([np.concatenate([c.mean, c.low, c.high]) for c in curves])
    low, high, usual = float(values.min()), float(values.max()), float(np.quantile(values, 0.05))
    low = max(low, usual - (high - usual))
    near = [value for value in references.values() if low - (high - low) / 4 <= value <= high + (high - low) / 4]
    low, high = min([low, *near]), max([high, *near])
    pad = 0.05 * (high - low) or 1.0
    return low - pad, high + pad


def _svg(parts: Sequence[str], width: float, height: float, label: str) -> str:
    """Put a chart together."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {width} {height}" width="{width}" '
    return f'{head}height="{height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
