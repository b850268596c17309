"""Reads the maze data that LMRL-Gym published, in both of its JSON-lines layouts."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lmrl.data.generate import Recipe
from lmrl.text.trajectory import Trajectory, Turn


class PublishedFile:
    """A published file as a recipe, so that it is stored and described like data made here.

    Two layouts are read, each with one trajectory per line. Fully observed: a list of objects with `state`, `action`,
    `reward` and `done`. Partially observed: an object with `text_history` (observations at even places, actions at odd
    ones) and the equally long lists `rewards` and `dones`, which are read at the actions.

    The last action has no recorded successor unless the history goes on after it. The trajectory counts as terminated
    exactly if its last action earned `goal_reward`; every other end is a cut.

    Args:
        path: the file.
        like: the task's own recipe, which names the task and the environment version and knows the statistics.
        goal_reward: what reaching the goal pays.
    """

    policy = "lmrl-gym"

    def __init__(self, *, path: str | Path, like: Recipe, goal_reward: float = 0.0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: there is no such file to import")
        self.task, self.env_version = like.task, like.env_version
        self._like, self._goal_reward = like, goal_reward

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the imported data: the file's content and how it is read."""
        with self.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        importer = "lmrl.data.lmrl_gym.PublishedFile"
        return {"importer": importer, "file": self.path.name, "sha256": content, "goal_reward": self._goal_reward}

    def __len__(self) -> int:
        with self.path.open("rb") as file:
            return sum(1 for line in file if line.strip())

    def __iter__(self) -> Iterator[Trajectory]:
        return read_lines(self.path, goal_reward=self._goal_reward)

    def statistics(self, trajectories: Iterable[Trajectory]) -> Mapping[str, int | float]:
        """Return the statistics that the task's own recipe computes."""
        return self._like.statistics(trajectories)


def read_lines(path: str | Path, *, goal_reward: float = 0.0) -> Iterator[Trajectory]:
    """Read the trajectories of a published file.

    Raises:
        ValueError: a line is damaged; the message names file, line and field.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                steps, rest = _steps(_parsed(line))
                yield _trajectory(steps, rest, goal_reward, {"line": number})
            except _DamagedError as error:
                raise ValueError(f"{path}, line {number}, {error}") from error


class _DamagedError(Exception):
    """A line that is not a trajectory; tells the field."""


def _parsed(line: bytes) -> Any:
    """Return the JSON value of a line."""
    try:
        return json.loads(line)
    except ValueError as error:
        raise _DamagedError(f"the whole line: not JSON ({error})") from error


def _steps(value: Any) -> tuple[list[tuple[str, str, float]], str | None]:
    """Return the steps (observation, action, reward) of either layout, and what was observed after the last one."""
    if isinstance(value, list):
        return [_step(item, index) for index, item in enumerate(value)], None
    if not isinstance(value, dict):
        raise _DamagedError(f"the whole line: expected a list or an object, got {_short(value)}")
    texts, rewards, dones = (_listed(value, name) for name in ("text_history", "rewards", "dones"))
    for name, other in (("rewards", rewards), ("dones", dones)):
        if len(other) != len(texts):
            raise _DamagedError(f"field {name!r}: {len(other)} entries for {len(texts)} texts")
    for index, text in enumerate(texts):
        _text(text, f"field 'text_history', entry {index}")
    for index in range(1, len(texts), 2):
        _flag(dones[index], f"field 'dones', entry {index}")
    actions = range(1, len(texts), 2)
    steps = [(texts[i - 1], texts[i], _number(rewards[i], f"field 'rewards', entry {i}")) for i in actions]
    return steps, texts[-1] if len(texts) % 2 else None


def _step(item: Any, index: int) -> tuple[str, str, float]:
    """Return one object of the fully observed layout as (observation, action, reward)."""
    if not isinstance(item, dict):
        raise _DamagedError(f"step {index}: expected an object, got {_short(item)}")
    for name in ("state", "action", "reward", "done"):
        if name not in item:
            raise _DamagedError(f"step {index}, field {name!r}: missing")
    place = f"step {index}, field"
    _flag(item["done"], f"{place} 'done'")
    return (
        _text(item["state"], f"{place} 'state'"),
        _text(item["action"], f"{place} 'action'"),
        _number(item["reward"], f"{place} 'reward'"),
    )


def _trajectory(
    steps: list[tuple[str, str, float]], rest: str | None, goal_reward: float, info: dict[str, Any]
) -> Trajectory:
    """Join steps into a trajectory and tell how it ended."""
    if not steps:
        raise _DamagedError("the whole line: a trajectory without any action")
    turns: list[Turn] = []
    for observation, action, reward in steps:
        turns += [Turn(observation, is_action=False), Turn(action, is_action=True, reward=reward)]
    if rest is not None:
        turns.append(Turn(rest, is_action=False))
    terminated = steps[-1][2] == goal_reward
    return Trajectory(tuple(turns), terminated, not terminated, info={**info, "success": terminated})


def _listed(value: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(value.get(name), list):
        raise _DamagedError(f"field {name!r}: expected a list, got {_short(value.get(name))}")
    return value[name]


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise _DamagedError(f"{place}: expected text, got {_short(value)}")
    return value


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _DamagedError(f"{place}: expected a finite number, got {_short(value)}")
    return float(value)


def _flag(value: Any, place: str) -> None:
    if not isinstance(value, bool):
        raise _DamagedError(f"{place}: expected true or false, got {_short(value)}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
