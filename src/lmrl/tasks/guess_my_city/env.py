"""Guess My City as in LMRL-Gym: find out by at most 20 questions, open ones too, which city somebody is from."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lmrl.envs.core import DialogueEnv
from lmrl.policies.core import Policy
from lmrl.tasks.guess_my_city.cities import City, cities
from lmrl.tasks.guess_my_city.guesses import gives_away, guessed
from lmrl.tasks.guess_my_city.location import CONFIRMED, DENIED, SECRET_CITY, UNSURE, yes_or_no
from lmrl.tasks.guess_my_city.partner import city_of, embedded_citizen
from lmrl.tasks.guess_my_city.repertoire import GUESSES, SENTENCES
from lmrl.text.trajectory import Turn

QUESTIONS = 20
"""Questions in a game."""
OPENING = "Questions:\n"
"""The text that every game begins with."""
WORDS = 50
"""An utterance of more words is no question."""
ANSWER_CHARACTERS = 600
"""A longer answer is cut off."""


class GuessMyCity(DialogueEnv):
    """One game; `reset` takes the option `city`, its name. Without it, every city is equally likely.

    The agent asks, the partner (a citizen of the hidden city) answers. Every question costs 1; the one that proposes
    the right city, as `Is it X?`, costs nothing and ends the game. The 20th question ends it, too: both are ends of the
    game itself (terminated). Whether a question proposes the city is decided here, by the rules of `guessed`, whatever
    the partner says. An answer that gives the city or its country away is replaced.

    Args:
        partner: answers the questions; `None` for the embedded citizen.
        yes_no_only: show only `Yes.` or `No.` of every answer, as the published environment does.
    """

    name = "guess_my_city"
    version: ClassVar[str] = "2"

    def __init__(self, *, partner: Policy | None = None, yes_no_only: bool = False) -> None:
        super().__init__()
        self.partner: Policy = embedded_citizen() if partner is None else partner
        """The citizen."""
        self.yes_no_only = yes_no_only
        told = getattr(self.partner, "settings", None)
        self.settings = {
            "cities": len(cities()),
            "questions": QUESTIONS,
            "citizen": dict(told) if isinstance(told, Mapping) else type(self.partner).__qualname__,
            "yes_no_only": yes_no_only,
        }
        """Identifies this game; stored with data."""
        self._city: City = cities()[0]

    @property
    def city(self) -> str:
        """The name of the hidden city."""
        return self._city.name

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Choose a city and begin.

        Raises:
            ValueError: an unknown option, or a city that is not in the table.
        """
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"city"}
        if unknown:
            raise ValueError(f"guess_my_city: unknown reset options {sorted(unknown)}, the only one is city")
        drawn = cities()[int(self.np_random.integers(len(cities())))]
        self._city = city_of(options["city"]) if "city" in options else drawn
        self.begin(json.dumps(self._city.brief, sort_keys=True), int(self.np_random.integers(2**63)))
        return OPENING, {}

    def shown(self, utterance: str) -> tuple[Turn, ...]:
        """Return the brief and the dialogue; nothing for a proposed city and for a text that is not a question."""
        return () if guessed(utterance) is not None or not is_question(utterance) else super().shown(utterance)

    def respond(self, utterance: str, reply: str) -> tuple[str, float, bool, dict[str, Any]]:
        """Judge a proposed city, or return the citizen's answer; the last info contains the city."""
        is_invalid = not is_question(utterance)
        named = None if is_invalid else guessed(utterance)
        success = named is self._city
        if named is not None:
            answer = (CONFIRMED if success else DENIED).format(name=named.name)
        else:
            answer = UNSURE if is_invalid else self._permitted(utterance, tidy(reply))
        if self.yes_no_only:
            answer = yes_or_no(answer)
        is_over = success or self.utterances == QUESTIONS
        info: dict[str, Any] = {"success": success, "is_invalid": is_invalid} | ({"city": self.city} if is_over else {})
        return f"{answer}\n", 0.0 if success else -1.0, is_over, info

    def _permitted(self, question: str, answer: str) -> str:
        """Return the citizen's answer, or the replacement of one that it must not give."""
        return SECRET_CITY if gives_away(answer, question, self._city) else answer or UNSURE

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return every city as the hidden one, so that a mean over the starts is exact in this."""
        return tuple({"city": city.name} for city in cities())

    def legal_actions(self) -> Sequence[str]:
        """Return the questions of the scripted players, guesses included: one wording of each; others are legal too."""
        return (*(wordings[0] for wordings in SENTENCES), *(wordings[0] for wordings in GUESSES))


def is_question(utterance: str) -> bool:
    """Tell whether an utterance has words, and not too many."""
    words = utterance.split()
    return 0 < len(words) <= WORDS and any(letter.isalnum() for letter in utterance)


def tidy(reply: str) -> str:
    """Return a reply as one line of printable letters, cut at a word if it is too long."""
    letters = unicodedata.normalize("NFKD", reply.replace("\u2019", "'")).encode("ascii", "ignore").decode()
    line = " ".join("".join(c if c.isprintable() else " " for c in letters).split())
    return line if len(line) <= ANSWER_CHARACTERS else line[:ANSWER_CHARACTERS].rsplit(" ", 1)[0]
