"""The embedded oracle of Twenty Questions, which answers every question from the table of facts."""

import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from lmrl.config.types import Share
from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.twenty_questions.facts import facts
from lmrl.tasks.twenty_questions.parser import digest, meaning, parser
from lmrl.tasks.twenty_questions.rules import NO, YES


class EmbeddedOracle:
    """Answers yes or no about the object of a request's first text, `{"object": "Apple"}`.

    A question that it does not understand is answered with no, as by the benchmark's oracle.

    Args:
        noise: probability of the contrary answer, as a learned oracle errs; drawn from the request's seed and turn. An
            answer to a question that cannot be understood is not turned around.

    Raises:
        ValueError: `noise` is no probability.
    """

    def __init__(self, *, noise: Share = 0.0) -> None:
        if not 0 <= noise <= 1:
            raise ValueError(f"twenty_questions: the oracle's noise must be a probability, got {noise}")
        self.noise = float(noise)
        self._uniforms = Uniforms()

    @property
    def settings(self) -> Mapping[str, Any]:
        """Identifies this oracle."""
        return {"kind": "embedded", "tables_digest": digest(), "noise": self.noise}

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return an answer for each request.

        Raises:
            ValueError: a request's first text names no object.
        """
        return [Action(self._answer(request)) for request in requests]

    def _answer(self, request: Request) -> str:
        """Return the answer to the newest question."""
        asked = meaning(request.history[-1].text)
        is_true = bool(asked.objects >> _hidden(request.history[0].text) & 1)
        if self.noise and asked.understood:
            is_true ^= bool(self._uniforms.draw(request.seed, request.turn, 1)[0] < self.noise)
        return YES if is_true else NO


@lru_cache(maxsize=1024)
def _hidden(brief: str) -> int:
    """Return the index of the object that a brief names."""
    known, value = facts(), json.loads(brief)
    if not isinstance(value, dict) or value.get("object") not in known.index:
        raise ValueError(f"twenty_questions: the oracle's brief must name one of its objects, got {brief}")
    return known.index[value["object"]]


@cache
def default_oracle() -> EmbeddedOracle:
    """Return the oracle without noise, the same one for all environments, so that they ask it together."""
    parser()  # reads the tables now, not in the middle of an episode
    return EmbeddedOracle()


def understood(question: str) -> bool:
    """Return whether the oracle understands anything of a question."""
    return meaning(question).understood


def answer(brief: Mapping[str, Any], question: str) -> str:
    """Return the answer, `Yes` or `No`, about the object of a brief such as `{"object": "Apple"}`.

    Raises:
        ValueError: there is no such object.
    """
    hidden = _hidden(json.dumps({"object": brief.get("object")}))
    return "Yes" if meaning(question).objects >> hidden & 1 else "No"
