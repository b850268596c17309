"""Episodes as text: turns, trajectories, and the windows of them that a policy may remember."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of an episode, by the agent (`is_action`) or by the environment."""

    text: str
    is_action: bool
    reward: float = 0.0
    """The reward of this action; observations have none."""
    tokens: tuple[int, ...] | None = None
    """The exact ids that a model sampled. `None`: nobody sampled this turn, its text is encoded."""
    log_probs: tuple[float, ...] | None = None
    """Log-probability of each sampled id under the distribution it was drawn from. `None`: unknown."""

    def __post_init__(self) -> None:
        if self.reward != 0 and not self.is_action:
            raise ValueError(f"only an action can earn a reward, but the observation {self.text!r} has {self.reward}")
        if self.log_probs is not None and (self.tokens is None or len(self.tokens) != len(self.log_probs)):
            raise ValueError("a turn needs one log-probability for each of its sampled tokens")


History = tuple[Turn, ...]
"""The turns so far, oldest first."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One whole episode, always stored whole: `windows` determines a policy's memory of it."""

    turns: History
    terminated: bool
    """The episode reached an end of the game itself: nothing can be earned afterwards."""
    truncated: bool = False
    """The episode was cut off (turn limit, end of a recording): the game would have gone on."""
    seed: int | None = None
    """The seed that the environment was reset with. `None`: unknown (imported data)."""
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_reward(self) -> float:
        """The undiscounted sum of rewards: the episode's return as the benchmark reports it."""
        return sum(turn.reward for turn in self.turns)

    @property
    def length(self) -> int:
        """How many times the agent acted."""
        return sum(turn.is_action for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Window:
    """The turns around one decision (or, without a memory limit, around all decisions of an episode).

    Example, memory of 1: `turns = (observation, action, reply)`, `first_decision = 1`, `successor = (reply,)`.
    """

    turns: History
    first_decision: int
    """Actions before this index are remembered context and are not trained."""
    successor: History | None
    """The state after the last action. `None`: the game ended there, or the recording does not say."""
    terminated: bool
    """Nothing can be earned after the last action, so its successor is worth 0."""

    @property
    def is_known(self) -> bool:
        """Whether the value after the last action can be told: it is 0, or its state was recorded."""
        return self.terminated or self.successor is not None


def view(history: History, memory: int | None) -> History:
    """Return the part of `history` that is the agent's state: its last `memory` turns (`None`: everything)."""
    return history if memory is None else history[-memory:]


def windows(trajectory: Trajectory, memory: int | None, replies: bool = False) -> Iterator[Window]:
    """Cut an episode into training rows.

    Without a memory limit the whole episode is one row with all its decisions. With one, each decision is a row of
    its own that begins with exactly the turns the policy is shown when it acts.

    Args:
        trajectory: the episode.
        memory: how many of the last turns form the state (LMRL-Gym's `last_k`); `None` for all.
        replies: whether each row ends with the environment's reply to its action, for models that also learn to
            predict observations. Rows without a memory limit always contain the replies.

    Raises:
        ValueError: `memory` is not positive.
    """
    if memory is not None and memory < 1:
        raise ValueError(f"memory must be at least 1 turn (or null for the whole episode), got {memory}")
    turns = trajectory.turns
    if memory is None:
        open_end = not trajectory.terminated and bool(turns) and not turns[-1].is_action
        if trajectory.length:
            yield Window(turns, 0, turns if open_end else None, trajectory.terminated)
        return
    last_action = max((i for i, turn in enumerate(turns) if turn.is_action), default=-1)
    for i, turn in enumerate(turns):
        if not turn.is_action:
            continue
        start = max(0, i - memory)
        terminated = trajectory.terminated and i == last_action
        reply = i + 1
        while reply < len(turns) and not turns[reply].is_action:
            reply += 1
        has_reply = reply > i + 1
        successor = view(turns[:reply], memory) if has_reply and not terminated else None
        yield Window(turns[start : reply if replies else i + 1], i - start, successor, terminated)


def messages(trajectory: Trajectory) -> list[dict[str, str]]:
    """Return the turns as chat messages: actions are the assistant's, observations the user's."""
    return [{"role": "assistant" if turn.is_action else "user", "content": turn.text} for turn in trajectory.turns]
