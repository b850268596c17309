"""One episode as one row of a table, and back: the schema of all stored data, checked field by field."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Features, List, Value

from lmrl.text.trajectory import History, Trajectory, Turn

FEATURES = Features(
    {
        "episode_id": Value("string"),
        "task": Value("string"),
        "split": Value("string"),
        "seed": Value("int64"),
        "messages": List({"role": Value("string"), "content": Value("string")}),
        "rewards": List(Value("float32")),
        "terminated": Value("bool"),
        "truncated": Value("bool"),
        "return": Value("float32"),
        "policy": Value("string"),
        "env_version": Value("string"),
        "meta": Value("string"),
    }
)
"""Role `assistant` is an action and `user` an observation; `rewards` has one entry per message; `meta` is JSON."""

ROLES = {"user": False, "assistant": True}


class RowError(ValueError):
    """A row that is not an episode; tells the field."""


def to_row(trajectory: Trajectory, *, episode_id: str, task: str, policy: str, env_version: str) -> dict[str, Any]:
    """Return the row of an episode. Sampled tokens and log-probabilities are not stored, only their text.

    Raises:
        ValueError: `info` cannot be written as JSON, or the episode cannot be read back.
    """
    row = {
        "episode_id": episode_id,
        "task": task,
        "split": "train",
        "seed": trajectory.seed,
        "messages": [{"role": "assistant" if t.is_action else "user", "content": t.text} for t in trajectory.turns],
        "rewards": [float(turn.reward) for turn in trajectory.turns],
        "terminated": trajectory.terminated,
        "truncated": trajectory.truncated,
        "return": float(trajectory.total_reward),
        "policy": policy,
        "env_version": env_version,
        "meta": json.dumps(dict(trajectory.info), sort_keys=True),
    }
    from_row(row)
    return row


def from_row(row: Mapping[str, Any]) -> Trajectory:
    """Return the episode of a row.

    Raises:
        RowError: a field is missing, has the wrong type, or contradicts another one.
    """
    for name, check in _CHECKS.items():
        problem = check(row[name]) if name in row else "missing"
        if problem:
            raise RowError(f"field {name!r}: {problem}")
    if row["terminated"] and row["truncated"]:
        raise RowError("field 'truncated': an episode is either terminated or truncated, not both")
    turns = _turns(row["messages"], row["rewards"])
    total = math.fsum(row["rewards"])
    if not math.isclose(total, row["return"], rel_tol=1e-4, abs_tol=1e-3):
        raise RowError(f"field 'return': {row['return']}, but the rewards sum to {total}")
    return Trajectory(turns, row["terminated"], row["truncated"], seed=row["seed"], info=json.loads(row["meta"]))


def _turns(messages: Sequence[Mapping[str, str]], rewards: Sequence[float]) -> History:
    """Join messages and their rewards."""
    if len(rewards) != len(messages):
        raise RowError(f"field 'rewards': {len(rewards)} rewards for {len(messages)} messages")
    for index, (message, reward) in enumerate(zip(messages, rewards, strict=True)):
        if reward and not ROLES[message["role"]]:
            raise RowError(f"field 'rewards': entry {index} is {reward}, but message {index} is not an action")
    pairs = zip(messages, rewards, strict=True)
    return tuple(Turn(message["content"], ROLES[message["role"]], reward) for message, reward in pairs)


def _is_text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else f"expected text, got {value!r}"


def _is_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"expected true or false, got {value!r}"


def _is_seed(value: Any) -> str | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return None if value is None or is_whole else f"expected a whole number or nothing, got {value!r}"


def _is_number(value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and math.isfinite(value) else f"expected a finite number, got {value!r}"


def _are_numbers(value: Any) -> str | None:
    if not isinstance(value, list):
        return f"expected a list, got {value!r}"
    problems = ((index, _is_number(item)) for index, item in enumerate(value))
    return next((f"entry {index}: {problem}" for index, problem in problems if problem), None)


def _are_messages(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return f"expected a list of messages, got {value!r}"
    for index, message in enumerate(value):
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            return f"message {index}: expected a role of {' or '.join(ROLES)}, got {message!r}"
        if not isinstance(message.get("content"), str):
            return f"message {index}: expected text as content, got {message.get('content')!r}"
    return None


def _is_json_object(value: Any) -> str | None:
    try:
        is_object = isinstance(json.loads(value), dict)
    except (TypeError, ValueError):
        is_object = False
    return None if is_object else f"expected a JSON object, got {value!r}"


_CHECKS: Mapping[str, Callable[[Any], str | None]] = {
    "episode_id": _is_text,
    "task": _is_text,
    "split": _is_text,
    "seed": _is_seed,
    "messages": _are_messages,
    "rewards": _are_numbers,
    "terminated": _is_flag,
    "truncated": _is_flag,
    "return": _is_number,
    "policy": _is_text,
    "env_version": _is_text,
    "meta": _is_json_object,
}
