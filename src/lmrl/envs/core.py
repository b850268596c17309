"""The environment: a Gymnasium environment over text, single, seeded, and free of torch."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium
from gymnasium.spaces import Text

from lmrl.policies.core import Action, Policy, Request
from lmrl.text.trajectory import Turn

PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"
"""The characters that Gymnasium's text spaces declare."""

StepResult = tuple[str, float, bool, bool, dict[str, Any]]
"""Observation, reward, terminated, truncated, info: Gymnasium's five-tuple."""


class TextEnv(gymnasium.Env[str, str]):
    """Base of all tasks: `reset(seed=, options=)` and five-tuple `step`, both over plain text.

    A subclass draws all randomness from `self.np_random`, ends every text in the delimiter that its format needs
    (histories are concatenated without separators), and puts `{"success": bool, "is_invalid": bool}` into the `info` of
    a step, as far as they are known; the evaluation reports them as rates.
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

        By default the evaluation's own, which makes the report of a chosen checkpoint slightly optimistic.
        """
        return self.evaluation_starts()

    def legal_actions(self) -> Sequence[str] | None:
        """Return every sensible action now, for rerankers and random players; `None` if there is no such list."""
        return None

    def picture(self) -> str | None:
        """Return a drawing of the state for a person who plays; `None` if the texts suffice."""
        return None


@runtime_checkable
class Dialogue(Protocol):
    """An environment whose reply comes from a partner policy (an oracle, a buyer, an engine).

    `step` must equal `judge(partner.act([address(action)])[0])`; `rollout` uses the two halves to ask the partner once
    for all environments that wait.
    """

    partner: Policy

    def address(self, action: str) -> Request:
        """Take the agent's action and return the request to the partner."""
        ...

    def judge(self, reply: Action) -> StepResult:
        """Take the partner's reply and return the step's result."""
        ...


class DialogueEnv(TextEnv):
    """A conversation: every utterance of the agent is answered by a partner, and the referee prices the answer.

    The partner is shown its brief and the dialogue, in which the agent's utterances are observations. A subclass calls
    `begin` at the end of `reset`, and implements `respond`.
    """

    name: ClassVar[str]
    """The task's name, for error messages."""
    first_turn: ClassVar[int] = 1
    """Number of the first utterance in requests to the partner."""
    partner: Policy

    def begin(self, brief: str, seed: int) -> None:
        """Start a conversation.

        Args:
            brief: the partner's hidden knowledge, as text.
            seed: of the partner's choices.
        """
        self._brief, self._turns, self._seed = Turn(brief, is_action=False), list[Turn](), seed
        self._running, self._waiting = True, False

    _running = _waiting = False

    @property
    def utterances(self) -> int:
        """The number of utterances of the agent."""
        return sum(not turn.is_action for turn in self._turns)

    def respond(self, utterance: str, reply: str) -> tuple[str, float, bool, dict[str, Any]]:
        """Return observation, reward, whether the conversation is over, and info, from the partner's reply."""
        raise NotImplementedError

    def transcribed(self, action: str) -> str:
        """Return an action as the partner reads it."""
        return action

    def shown(self, utterance: str) -> tuple[Turn, ...]:  # noqa: ARG002 - for subclasses
        """Return the history that the partner is shown; empty: it is not asked."""
        return (self._brief, *self._turns)

    def step(self, action: str) -> StepResult:
        """Say something to the partner, and return its answer.

        Raises:
            RuntimeError: no conversation is running.
        """
        return self.judge(self.partner.act([self.address(action)])[0])

    def address(self, action: str) -> Request:
        """Take the agent's utterance and return the request to the partner.

        Raises:
            RuntimeError: no conversation is running, or the last utterance was not answered yet.
        """
        if not self._running:
            raise RuntimeError(f"{self.name}: no conversation is running, call reset() before step()")
        if self._waiting:
            raise RuntimeError(f"{self.name}: call judge() after each address()")
        turn, utterance = self.first_turn + self.utterances, self.transcribed(action)
        self._turns.append(Turn(utterance, is_action=False))
        self._waiting = True
        return Request(self.shown(utterance), seed=self._seed, turn=turn)

    def judge(self, reply: Action) -> StepResult:
        """Take the partner's reply and return the step's result.

        Raises:
            RuntimeError: no utterance waits for an answer.
        """
        if not self._waiting:
            raise RuntimeError(f"{self.name}: call address() before judge()")
        observation, reward, is_over, info = self.respond(self._turns[-1].text, reply.text)
        self._turns.append(Turn(observation, is_action=True))
        self._running, self._waiting = not is_over, False
        return observation, reward, is_over, False, info
