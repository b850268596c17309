"""Reads the maze data that LMRL-Gym published, in both of its layouts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmrl.config.types import Number
from lmrl.data.published import FormatError, Place, PublishedFile, flag, listed, number, short, step, text
from lmrl.data.recipe import Recipe
from lmrl.text.trajectory import Trajectory, Turn


class PublishedMaze(PublishedFile):
    """A published maze file, one trajectory per line.

    Fully observed: a list of objects with `state`, `action`, `reward` and `done`. Partially observed: an object with
    `text_history` (observations at even places, actions at odd ones) and the equally long lists `rewards` and `dones`,
    which are read at the actions.

    The last action has no recorded successor unless the history goes on after it. The trajectory counts as terminated
    exactly if its last action earned `goal_reward`; every other end is a cut.

    Args:
        path: the file.
        like: see `PublishedFile`.
        goal_reward: the reward of reaching the goal.
    """

    def __init__(self, *, path: str | Path, like: Recipe, goal_reward: Number = 0.0) -> None:
        super().__init__(path=path, like=like)
        self._goal_reward = goal_reward

    def options(self) -> Mapping[str, Any]:
        """Return the settings that distinguish arrival from the time limit."""
        return {"goal_reward": self._goal_reward}

    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Read a trajectory from each line."""
        for place, value in values:
            steps, rest = _steps(value)
            if not steps:
                raise FormatError("the whole line: a trajectory without any action")
            turns: list[Turn] = []
            for observation, action, reward in steps:
                turns += [Turn(observation, is_action=False), Turn(action, is_action=True, reward=reward)]
            if rest is not None:
                turns.append(Turn(rest, is_action=False))
            terminated = steps[-1][2] == self._goal_reward
            yield Trajectory(tuple(turns), terminated, not terminated, info={**place, "success": terminated})


def _steps(value: Any) -> tuple[list[tuple[str, str, float]], str | None]:
    """Return the steps (observation, action, reward) of either layout, and the observation after the last one."""
    if isinstance(value, list):
        return [step(item, index) for index, item in enumerate(value)], None
    if not isinstance(value, dict):
        raise FormatError(f"the whole line: expected a list or an object, got {short(value)}")
    texts, rewards, dones = (listed(value, name) for name in ("text_history", "rewards", "dones"))
    for name, other in (("rewards", rewards), ("dones", dones)):
        if len(other) != len(texts):
            raise FormatError(f"field {name!r}: {len(other)} entries for {len(texts)} texts")
    for index, said in enumerate(texts):
        text(said, f"field 'text_history', entry {index}")
    for index in range(1, len(texts), 2):
        flag(dones[index], f"field 'dones', entry {index}")
    actions = range(1, len(texts), 2)
    steps = [(texts[i - 1], texts[i], number(rewards[i], f"field 'rewards', entry {i}")) for i in actions]
    return steps, texts[-1] if len(texts) % 2 else None
