"""What an environment is: a Gymnasium environment over text, single, seeded, and free of torch."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium
from gymnasium.spaces import Text

from lmrl.policies.core import Action, Policy, Request

PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"
"""The characters that Gymnasium's text spaces declare."""

StepResult = tuple[str, float, bool, bool, dict[str, Any]]
"""Observation, reward, terminated, truncated, info: Gymnasium's five-tuple."""


class TextEnv(gymnasium.Env[str, str]):
    """Base of all tasks: `reset(seed=, options=)` and five-tuple `step`, both over plain text.

    A subclass draws all randomness from `self.np_random`, ends every text in the delimiter that its format needs
    (histories are concatenated without separators), and puts into a step's `info` whatever of
    `{"success": bool, "is_invalid": bool}` it can tell, which evaluation turns into rates.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium declares it as an instance attribute
    version: ClassVar[str] = "0"
    """Changes whenever texts, rewards or rules change; stored with data."""

    def __init__(self, *, max_observation: int = 4096, max_action: int = 1024) -> None:
        self.observation_space = Text(min_length=0, max_length=max_observation, charset=PRINTABLE)
        self.action_space = Text(min_length=0, max_length=max_action, charset=PRINTABLE)

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return the `reset` options of every start that the benchmark's evaluation plays equally often."""
        return ({},)

    def validation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return the `reset` options of every start that checkpoints are chosen by.

        They are the evaluation's own, which flatters the report of a checkpoint, unless a task has others of the kind.
        """
        return self.evaluation_starts()

    def legal_actions(self) -> Sequence[str] | None:
        """Return every sensible action now, for rerankers and random players; `None` where there is no such list."""
        return None

    def picture(self) -> str | None:
        """Return a drawing of the state for a person who plays; `None` where the texts say it well enough."""
        return None


@runtime_checkable
class Dialogue(Protocol):
    """An environment whose reply comes from a partner policy (an oracle, a buyer, an engine).

    `step` must equal `judge(partner.act([address(action)])[0])`; `rollout` uses the two halves to ask the partner once
    for all environments that wait.
    """

    partner: Policy

    def address(self, action: str) -> Request:
        """Take the agent's action and return what the partner is shown."""
        ...

    def judge(self, reply: Action) -> StepResult:
        """Take the partner's reply and return the step's result."""
        ...
