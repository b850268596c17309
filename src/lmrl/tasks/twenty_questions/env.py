"""Twenty Questions as in LMRL-Gym: find out which object is hidden, by questions answered with yes or no."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lmrl.config.types import PositiveCount
from lmrl.envs.core import StepResult, TextEnv
from lmrl.policies.core import Action, Policy, Request
from lmrl.tasks.twenty_questions.facts import facts
from lmrl.tasks.twenty_questions.partner import default_oracle
from lmrl.tasks.twenty_questions.players import question_texts
from lmrl.tasks.twenty_questions.rules import NO, YES, is_guess_of, is_question, says_yes
from lmrl.text.trajectory import Turn

OPENING = "Questions:\n"
"""The text that every game begins with."""
QUESTION_REWARD, WIN_REWARD = -1.0, 0.0
"""What a question pays, and what the one pays that wins."""


class TwentyQuestions(TextEnv):
    """One game; `reset` takes the option `object`, the hidden one. Without it, every object is equally likely.

    A question is answered by `partner` with yes or no. The game is won by a question that ends with a name of the
    object, names nothing else, and is answered with yes; the referee decides about the first two. It is over after a
    win or the last question; both are ends of the game itself (terminated), so a win with question k returns -(k - 1),
    and a loss minus the number of questions.

    Args:
        partner: the oracle. It is shown `{"object": ..., "variants": [...]}`, then the dialogue, which ends with the
            question. `None`: the embedded one, which looks answers up in a table.
        questions: how many there are in a game.

    Raises:
        ValueError: `questions` is not positive.
    """

    version: ClassVar[str] = "1"

    def __init__(self, *, partner: Policy | None = None, questions: PositiveCount = 20) -> None:
        super().__init__()
        if questions < 1:
            raise ValueError(f"twenty_questions: questions must be at least 1, got {questions}")
        self.partner = default_oracle() if partner is None else partner
        """Who answers, shared by all environments alike."""
        self.things, self._index = facts().things, facts().index
        oracle = getattr(self.partner, "settings", None)
        self.settings = {
            "objects": len(self.things),
            "questions": questions,
            "oracle": dict(oracle) if isinstance(oracle, Mapping) else type(self.partner).__name__,
        }
        """What tells this game from others; stored with data."""
        self._questions = questions
        self._thing, self._brief = self.things[0], Turn("", is_action=False)
        self._said: list[Turn] = []
        self._asked: str | None = None
        self._seed, self._left = 0, 0

    @property
    def object(self) -> str:
        """The hidden object's first name."""
        return self._thing.name

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Hide an object and begin.

        Raises:
            ValueError: an unknown option, or no object of the game.
        """
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"object"}
        if unknown:
            raise ValueError(f"twenty_questions: unknown reset options {sorted(unknown)}, the only one is object")
        drawn, own = int(self.np_random.integers(len(self.things))), int(self.np_random.integers(2**63))
        name = options.get("object", self.things[drawn].name)
        if name not in self._index:
            raise ValueError(
                f"twenty_questions: the option object must be one of the {len(self.things)} objects, got {name!r}"
            )
        self._thing = self.things[self._index[name]]
        brief = {"object": self._thing.name, "variants": self._thing.variants}
        self._brief = Turn(json.dumps(brief, sort_keys=True), is_action=False)
        self._said, self._asked = [], None
        self._seed, self._left = own if seed is None else seed, self._questions
        return OPENING, {}

    def step(self, action: str) -> StepResult:
        """Ask a question; the last step's info also tells the object.

        Raises:
            RuntimeError: no game is running.
        """
        return self.judge(self.partner.act([self.address(action)])[0])

    def address(self, action: str) -> Request:
        """Take the agent's question and return what the oracle is shown.

        Raises:
            RuntimeError: no game is running.
        """
        if not self._left:
            raise RuntimeError("twenty_questions: the game has ended, call reset() before step()")
        self._asked = action
        question = Turn(action, is_action=False)
        return Request((self._brief, *self._said, question), seed=self._seed, turn=self._questions - self._left)

    def judge(self, reply: Action) -> StepResult:
        """Take the oracle's reply and return the step's result; what does not begin with yes means no.

        Raises:
            RuntimeError: no question was asked before.
        """
        if self._asked is None:
            raise RuntimeError("twenty_questions: call address() before judge()")
        question, self._asked = self._asked, None
        is_yes = says_yes(reply.text)
        success = is_yes and is_guess_of(question, self._thing)
        self._left -= 1
        answer = YES if is_yes else NO
        self._said += (Turn(question, is_action=False), Turn(answer, is_action=True))
        info: dict[str, Any] = {"success": success, "is_invalid": not is_question(question)}
        if success:
            self._left = 0
        if not self._left:
            info["object"] = self._thing.name
        return answer, WIN_REWARD if success else QUESTION_REWARD, not self._left, False, info

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return every object as the hidden one, so that a mean over the starts is exact in this."""
        return tuple({"object": thing.name} for thing in self.things)

    def legal_actions(self) -> Sequence[str]:
        """Return one question for each attribute that the players ask about, and one guess for each object."""
        return question_texts()
