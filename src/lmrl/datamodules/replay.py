"""The newest episodes of a run, for methods that learn from more than the last round."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lmrl.text.trajectory import Trajectory, Turn


class Replay:
    """Keeps episodes up to a capacity; the oldest leave first.

    Args:
        capacity: how many episodes; `None` keeps only those of the newest round.
    """

    def __init__(self, capacity: int | None) -> None:
        self._capacity = capacity
        self._episodes: list[Trajectory] = []

    def add(self, episodes: Sequence[Trajectory]) -> list[Trajectory]:
        """Add a round, and return all that is kept, oldest first."""
        if self._capacity is None:
            return list(episodes)
        self._episodes = [*self._episodes, *episodes][-self._capacity :]
        return list(self._episodes)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the episodes as plain values, sampled ids and log-probabilities included."""
        return [{**asdict(episode), "info": dict(episode.info)} for episode in self._episodes]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Restore the state of `state_dict`."""
        self._episodes = [
            Trajectory(**{**episode, "turns": tuple(Turn(**turn) for turn in episode["turns"])}) for episode in state
        ]
