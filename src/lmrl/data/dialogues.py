"""Reads dialogues as JSON lines: those that `python -m lmrl.data export` wrote, and a user's own in the same fields."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrl.config.signatures import suggest
from lmrl.data.outside import FormatError, short
from lmrl.data.published import Place, PublishedFile, flag, listed, number, text
from lmrl.data.recipe import Recipe
from lmrl.data.rows import FEATURES, OWN_LABELS, ROLES, LabelledTrajectory, RowError, from_row
from lmrl.text.trajectory import Trajectory, Turn

FIELDS = ("messages", "rewards", "return", "success", "terminated", "truncated", "seed", "policy", "meta")
"""The fields of a user's own dialogue; only `messages` and one of `rewards` and `return` are needed."""
SYSTEM = "system"
"""A role that may only begin a dialogue: its text is put before the first observation."""


class Dialogues(PublishedFile):
    """A file of dialogues, one JSON object per line.

    A line with `episode_id` was exported by lmrl: all fields are there, and are kept as they are. Other lines need:

    * `messages`, a list of objects with `role` (`user` for an observation, `assistant` for an action) and `content`; a
      message of the role `system` may come first. Texts that do not end in a line break get one.
    * `rewards`, with one number for each action or one for each message, or `return`, which the last action earns.

    They may have `terminated` (whether the game ended; true unless `truncated` is), `truncated`, `success`, `seed`,
    `policy` (who acted) and `meta`, an object with anything else.

    Args:
        path: the file.
        like: see `PublishedFile`; names the task.
    """

    policy = "imported"

    def __init__(self, *, path: str | Path, like: Recipe) -> None:
        super().__init__(path=path, like=like)
        first = _first_value(self.path)
        self._is_exported = isinstance(first, dict) and "episode_id" in first
        if self._is_exported:
            self.policy = str(first.get("policy"))
            self.env_version = str(first.get("env_version"))

    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Read a dialogue from each line."""
        for _, value in values:
            if not isinstance(value, dict):
                raise FormatError(f"the whole line: expected an object, got {short(value)}")
            yield self._exported(value) if "episode_id" in value else _own(value)

    def statistics(self, trajectories: Iterable[Trajectory]) -> Mapping[str, int | float]:
        """Return the task's own statistics of dialogues that lmrl exported; others may be of any kind."""
        return super().statistics(trajectories) if self._is_exported else {}

    def _exported(self, row: Mapping[str, Any]) -> Trajectory:
        """Return the episode of an exported row."""
        unknown = [name for name in row if name not in FEATURES]
        if unknown:
            raise FormatError(f"field {unknown[0]!r}: not a field of an exported episode")
        if not isinstance(row.get("meta"), dict):
            raise FormatError(f"field 'meta': expected an object, got {short(row.get('meta'))}")
        try:
            read = from_row({**row, "meta": json.dumps(row["meta"], sort_keys=True)})
        except RowError as error:
            raise FormatError(str(error)) from error
        for name, expected in (("task", self.task), ("env_version", self.env_version)):
            if row[name] != expected:
                raise FormatError(
                    f"field {name!r}: expected {expected!r}, as the whole file is one dataset of the "
                    f"task {self.task}, got {short(row[name])}"
                )
        labels = {name: row[name] for name in OWN_LABELS}
        return LabelledTrajectory(read.turns, read.terminated, read.truncated, read.seed, read.info, labels)


def holds_dialogues(path: Path) -> bool:
    """Tell whether a file's first line is an object with `messages`."""
    first = _first_value(path) if path.is_file() else None
    return isinstance(first, dict) and "messages" in first


def _first_value(path: Path) -> Any:
    """Return the JSON value of the first line, or `None` where it is none."""
    with path.open("rb") as file:
        line = next((line for line in file if line.strip()), b"")
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _own(value: Mapping[str, Any]) -> Trajectory:
    """Return the episode of a user's own dialogue."""
    for name in value:
        if name not in FIELDS:
            known = suggest(name, list(FIELDS)) or f"; known are {', '.join(FIELDS)}"
            raise FormatError(f"field {name!r}: not a field of a dialogue{known}; put other facts into 'meta'")
    said = [_message(item, index) for index, item in enumerate(listed(value, "messages"))]
    if not any(ROLES.get(role) for role, _ in said):
        raise FormatError("field 'messages': an episode needs at least one action (role assistant)")
    rewards = _rewards(value, [role for role, _ in said])
    turns = [Turn(words, ROLES.get(role, False), reward) for (role, words), reward in zip(said, rewards, strict=True)]
    if said[0][0] == SYSTEM and len(turns) > 1 and not turns[1].is_action:
        turns[:2] = [Turn(turns[0].text + turns[1].text, is_action=False)]
    truncated = flag(value.get("truncated", False), "field 'truncated'")
    terminated = flag(value.get("terminated", not truncated), "field 'terminated'")
    info = value.get("meta", {})
    if not isinstance(info, dict):
        raise FormatError(f"field 'meta': expected an object, got {short(info)}")
    if "success" in value:
        info = info | {"success": flag(value["success"], "field 'success'")}
    if terminated and truncated:
        raise FormatError("field 'truncated': an episode is either terminated or truncated, not both")
    labels = {"policy": text(value["policy"], "field 'policy'")} if "policy" in value else {}
    return LabelledTrajectory(tuple(turns), terminated, not terminated, _seed(value.get("seed")), info, labels)


def _message(item: Any, index: int) -> tuple[str, str]:
    """Return role and text of a message, the text with a line break at its end."""
    place = f"field 'messages', entry {index}"
    if not isinstance(item, dict):
        raise FormatError(f"{place}: expected an object with role and content, got {short(item)}")
    role = item.get("role")
    if not isinstance(role, str) or (role not in ROLES and (role != SYSTEM or index)):
        allowed = "user or assistant, or system in the first message"
        raise FormatError(f"{place}, field 'role': expected {allowed}, got {short(role)}")
    words = text(item.get("content"), f"{place}, field 'content'")
    if not words.strip():
        raise FormatError(f"{place}, field 'content': it is empty, and nothing can be read or learned from that")
    return role, words if words.endswith("\n") else f"{words}\n"


def _rewards(value: Mapping[str, Any], roles: Sequence[str]) -> list[float]:
    """Return a reward for each message, from those that the file gives for actions, for messages, or for the whole."""
    actions = [index for index, role in enumerate(roles) if ROLES.get(role)]
    spread = [0.0] * len(roles)
    if "rewards" not in value:
        if "return" not in value:
            raise FormatError("field 'rewards': missing; give one number for each action, or 'return' for the whole")
        spread[actions[-1]] = number(value["return"], "field 'return'")
        return spread
    given = [number(item, f"field 'rewards', entry {index}") for index, item in enumerate(listed(value, "rewards"))]
    if len(given) not in (len(actions), len(roles)):
        raise FormatError(
            f"field 'rewards': {len(given)} numbers for {len(actions)} actions in {len(roles)} messages: give one for "
            "each action, or one for each message"
        )
    for index, reward in zip(range(len(roles)) if len(given) == len(roles) else actions, given, strict=True):
        if reward and index not in actions:
            raise FormatError(f"field 'rewards', entry {index}: {reward} for a message that is not an action")
        spread[index] = reward
    if "return" in value:
        _compare(number(value["return"], "field 'return'"), math.fsum(spread))
    return spread


def _compare(promised: float, total: float) -> None:
    if not math.isclose(promised, total, rel_tol=1e-4, abs_tol=1e-3):
        raise FormatError(f"field 'return': {promised}, but the rewards sum to {total}")


def _seed(value: Any) -> int | None:
    if value is None or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    raise FormatError(f"field 'seed': expected a whole number of 64 bits or null, got {short(value)}")
