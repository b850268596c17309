"""Sums up episodes one by one, so that data larger than the memory can be described."""

import math
from collections.abc import Mapping

from lmrl.text.trajectory import Trajectory

SUMS = ("episodes", "told", "successes", "length", "length_squares", "return", "return_squares")


class Summary:
    """Counts episodes, and sums lengths, returns and successes.

    Args:
        sums: the `sums` of another summary, to go on from.
    """

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        self.sums: dict[str, float] = dict.fromkeys(SUMS, 0.0) | dict(sums or {})
        """Counts, sums and sums of squares by name; those of parts of the data add up to those of all."""

    def add(self, trajectory: Trajectory) -> Trajectory:
        """Count one more episode, and return it."""
        length, total, sums = trajectory.length, trajectory.total_reward, self.sums
        sums["episodes"] += 1
        sums["told"] += "success" in trajectory.info
        sums["successes"] += bool(trajectory.info.get("success", False))
        sums["length"] += length
        sums["length_squares"] += length * length
        sums["return"] += total
        sums["return_squares"] += total * total
        return trajectory

    def merge(self, sums: Mapping[str, float]) -> None:
        """Count all episodes of another summary, given its `sums`."""
        for name, value in sums.items():
            self.sums[name] += value

    def statistics(self) -> dict[str, int | float]:
        """Return number, length and return with standard deviations, and the success rate where it is known."""
        count = max(self.sums["episodes"], 1)
        numbers: dict[str, int | float] = {"trajectories": int(self.sums["episodes"])}
        for name in ("length", "return"):
            mean = self.sums[name] / count
            numbers[f"{name}_mean"] = mean
            numbers[f"{name}_std"] = math.sqrt(max(self.sums[f"{name}_squares"] / count - mean * mean, 0.0))
        if self.sums["told"]:
            numbers["success_rate"] = self.sums["successes"] / self.sums["told"]
        return numbers
