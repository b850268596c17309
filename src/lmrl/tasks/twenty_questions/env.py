"""Twenty Questions as in LMRL-Gym: find out which object is hidden, by questions answered with yes or no."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lmrl.config.types import PositiveCount
from lmrl.envs.core import DialogueEnv
from lmrl.policies.core import Policy
from lmrl.tasks.twenty_questions.facts import facts
from lmrl.tasks.twenty_questions.partner import default_oracle
from lmrl.tasks.twenty_questions.players import question_texts
from lmrl.tasks.twenty_questions.rules import NO, YES, is_guess_of, is_question, says_yes

OPENING = "Questions:\n"
"""The text that every game begins with."""
QUESTION_REWARD, WIN_REWARD = -1.0, 0.0
"""The rewards of a question and of the winning one."""


class TwentyQuestions(DialogueEnv):
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

    name, first_turn = "twenty_questions", 0
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
        """Identifies this game; stored with data."""
        self._questions = questions
        self._thing = self.things[0]

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
        self.begin(json.dumps(brief, sort_keys=True), own if seed is None else seed)
        return OPENING, {}

    def respond(self, utterance: str, reply: str) -> tuple[str, float, bool, dict[str, Any]]:
        """Read the oracle's reply: a text that does not begin with yes means no. The last info contains the object."""
        is_yes = says_yes(reply)
        success = is_yes and is_guess_of(utterance, self._thing)
        is_over = success or self.utterances == self._questions
        info: dict[str, Any] = {"success": success, "is_invalid": not is_question(utterance)}
        if is_over:
            info["object"] = self._thing.name
        return YES if is_yes else NO, WIN_REWARD if success else QUESTION_REWARD, is_over, info

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return every object as the hidden one, so that a mean over the starts is exact in this."""
        return tuple({"object": thing.name} for thing in self.things)

    def legal_actions(self) -> Sequence[str]:
        """Return one question for each attribute that the players ask about, and one guess for each object."""
        return question_texts()
