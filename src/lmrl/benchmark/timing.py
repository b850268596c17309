"""Time several ways of doing the same work in turn, and compare them by medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one piece of work."""

    wall: float
    """Seconds that passed."""
    cpu: float
    """Seconds that all threads of this process were computing: other programs on the machine do not count."""

    @classmethod
    def now(cls) -> "Timing":
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def elapsed(self) -> "Timing":
        """Return the time since these readings."""
        now = Timing.now()
        return Timing(now.wall - self.wall, now.cpu - self.cpu)


Leg = Callable[[], Timing]
"""Does its work once, and returns the time of the part that counts."""


def timed(work: Callable[[], Any]) -> Leg:
    """Make a leg of work that counts as a whole."""

    def leg() -> Timing:
        began = Timing.now()
        work()
        return began.elapsed()

    return leg


def interleave(legs: Mapping[str, Leg], repeats: int, warm_up: int = 1) -> dict[str, list[Timing]]:
    """Run all legs in turn (A B C A B C ...), so that whatever slows the machine down for a while slows all of them.

    Args:
        legs: the work to time, by name.
        repeats: how many timings of each leg are kept.
        warm_up: how many rounds before them are thrown away.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    timings: dict[str, list[Timing]] = {name: [] for name in legs}
    for turn in range(warm_up + repeats):
        for name, leg in legs.items():
            timing = leg()
            if turn >= warm_up:
                timings[name].append(timing)
    return timings


def median(timings: list[Timing]) -> Timing:
    """Return the median of wall-clock and of CPU seconds."""
    return Timing(statistics.median(t.wall for t in timings), statistics.median(t.cpu for t in timings))


def ratios(plain: list[Timing], ours: list[Timing]) -> dict[str, float]:
    """Return how many times longer plain code takes: median, smallest and largest of the pairs that ran side by side.

    `cpu_...` compares CPU seconds, `wall_...` wall-clock seconds.
    """
    result = {}
    for clock in ("cpu", "wall"):
        pairs = [getattr(p, clock) / max(getattr(o, clock), 1e-9) for p, o in zip(plain, ours, strict=True)]
        result |= {f"{clock}_median": statistics.median(pairs), f"{clock}_min": min(pairs), f"{clock}_max": max(pairs)}
    return result


def matrix_product(dtype: torch.dtype, size: int = 1024, count: int = 2) -> tuple[Leg, float]:
    """Return a leg that multiplies square matrices, and its floating-point operations: the machine's peak."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype)

    def work() -> None:
        for _ in range(count):
            torch.mm(left, right, out=out)

    return timed(work), 2.0 * size**3 * count
