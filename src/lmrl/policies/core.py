"""The policy: many histories in, one action for each out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lmrl.text.trajectory import History, Turn


@dataclass(frozen=True, slots=True)
class Request:
    """One environment that waits for an action."""

    history: History
    """The turns that the policy may see; the last one is an observation."""
    slot: int = 0
    """Which of the environments played at once asks: a policy may keep a key-value cache for each slot."""
    seed: int = 0
    """The episode's own seed: all randomness of the policy in this episode must derive from it."""
    turn: int = 0
    """How many actions the episode has had so far."""
    earned: float = 0.0
    """The sum of its rewards so far, for policies that aim at a return."""
    tried: tuple[Turn, ...] = ()
    """The actions taken since the observation last changed; none of them had any effect."""


@dataclass(frozen=True, slots=True)
class Action:
    """The action of a policy, with its tokens if a language model sampled it."""

    text: str
    tokens: tuple[int, ...] | None = None
    """The ids that were sampled. `None`: the policy does not work with tokens (scripted, human)."""
    log_probs: tuple[float, ...] | None = None
    """Log-probability of each id under the distribution that it was drawn from."""


@runtime_checkable
class Policy(Protocol):
    """Chooses one action for each request; results must not depend on the other requests of the batch."""

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one action per request, in order."""
        ...
