"""Which episodes to learn from: the choices that turn behaviour cloning into filtered behaviour cloning."""

from collections.abc import Sequence

from lmrl.config.types import PositiveShare, checked
from lmrl.text.trajectory import Trajectory


class TopFraction:
    """Keep the episodes with the highest returns.

    Args:
        fraction: how many of all episodes to keep, rounded up; of equal returns the earlier ones are kept.
    """

    @checked
    def __init__(self, *, fraction: PositiveShare) -> None:
        self.fraction = fraction

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Return the best episodes in their original order."""
        # Rounding first: 0.1 * 30 is a little more than 3.
        count = -int(-round(self.fraction * len(trajectories), 6) // 1)
        ranked = sorted(range(len(trajectories)), key=lambda index: -trajectories[index].total_reward)
        return [trajectories[index] for index in sorted(ranked[:count])]


class Successful:
    """Keep the episodes that ended in success, as their `info["success"]` tells."""

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Return the successful episodes.

        Raises:
            ValueError: an episode does not say whether it succeeded.
        """
        for index, trajectory in enumerate(trajectories):
            if "success" not in trajectory.info:
                raise ValueError(f"episode {index} does not say whether it succeeded (info has no 'success')")
        return [trajectory for trajectory in trajectories if trajectory.info["success"]]
