"""One episode as one row of a table, and back: the schema of all stored data, checked field by field."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Features, List, Value

from lmrl.data.outside import FormatError, number_problem, parsed, short, text_problem
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


OWN_LABELS = ("episode_id", "split", "policy", "env_version")
"""Fields that an imported row keeps, where other rows get those of their dataset."""


class RowError(ValueError):
    """A row that is not an episode; tells the field."""


@dataclass(frozen=True, slots=True)
class LabelledTrajectory(Trajectory):
    """An episode that keeps fields of the row it was read from."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Values of some of `OWN_LABELS`."""


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
        "messages": _messages(trajectory),
        "rewards": [_stored(turn.reward) for turn in trajectory.turns],
        "terminated": trajectory.terminated,
        "truncated": trajectory.truncated,
        "return": 0.0,
        "policy": policy,
        "env_version": env_version,
        "meta": json.dumps(dict(trajectory.info), sort_keys=True),
    }
    row["return"] = _stored(math.fsum(row["rewards"]))  # of the stored rewards, so that a row read is a row written
    if isinstance(trajectory, LabelledTrajectory):
        row |= trajectory.labels
    from_row(row)
    return row


def _messages(trajectory: Trajectory) -> list[dict[str, str]]:
    return [{"role": "assistant" if turn.is_action else "user", "content": turn.text} for turn in trajectory.turns]


def flaw(trajectory: Trajectory) -> str | None:
    """Return the fault in the texts of an episode or their order, or `None`."""
    return _are_messages(_messages(trajectory))


def _stored(number: float) -> float:
    """Return a number as it is stored, with 32 bits."""
    with np.errstate(over="ignore"):
        return float(np.float32(number))


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


def _order_problem(roles: Sequence[str]) -> str | None:
    """Return why these are not the roles of an episode: observation, action, observation, and so on."""
    if ROLES[roles[0]]:
        return "message 0: an episode begins with an observation (role user), not with an action (role assistant)"
    if not any(ROLES[role] for role in roles):
        return "an episode needs at least one action (role assistant), and this one has none"
    for index in range(1, len(roles)):
        if roles[index] == roles[index - 1]:
            return (
                f"message {index}: role {roles[index]} follows role {roles[index]}, but observations (user) and "
                "actions (assistant) must alternate: join the two messages into one"
            )
    return None


def _is_text(value: Any) -> str | None:
    return text_problem(value) if isinstance(value, str) and value else f"expected text, got {short(value)}"


def _is_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"expected true or false, got {short(value)}"


def _is_seed(value: Any) -> str | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return None if value is None or is_whole else f"expected a whole number of 64 bits or null, got {short(value)}"


def _is_number(value: Any) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"expected a finite number, got {short(value)}"
    return number_problem(value)


def _are_numbers(value: Any) -> str | None:
    if not isinstance(value, list):
        return f"expected a list, got {short(value)}"
    problems = ((index, _is_number(item)) for index, item in enumerate(value))
    return next((f"entry {index}: {problem}" for index, problem in problems if problem), None)


def _are_messages(value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return f"expected a list of messages, got {short(value)}"
    for index, message in enumerate(value):
        problem = _message_problem(message)
        if problem:
            return f"message {index}: {problem}"
    return _order_problem([message["role"] for message in value])


def _message_problem(message: Any) -> str | None:
    """Return the fault of a single message."""
    if not isinstance(message, Mapping) or message.get("role") not in tuple(ROLES):
        return f"expected a role of {' or '.join(ROLES)}, got {short(message)}"
    content = message.get("content")
    if not isinstance(content, str):
        return f"expected text as content, got {short(content)}"
    if not content:
        return "its content is empty, and nothing can be read or learned from that"
    return text_problem(content)


def _is_json_object(value: Any) -> str | None:
    try:
        if isinstance(value, str) and isinstance(parsed(value), dict):
            return None
    except FormatError as error:
        return f"expected a JSON object: {error}"
    return f"expected a JSON object, got {short(value)}"


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
