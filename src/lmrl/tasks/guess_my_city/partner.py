"""The embedded citizen of Guess My City: answers open questions about its city, truly, without giving it away."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import ClassVar

from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.guess_my_city import country, culture, facts, location, nature
from lmrl.tasks.guess_my_city.cities import City, cities
from lmrl.tasks.guess_my_city.guesses import gives_away
from lmrl.tasks.guess_my_city.location import SECRET_CITY, UNSURE
from lmrl.tasks.guess_my_city.parser import parse

ANSWERS = (facts, location, country, nature, culture)
"""The modules that answer topics, each by an object of the topic's name."""


@cache
def _by_name() -> dict[str, City]:
    return {city.name: city for city in cities()}


def city_of(name: str) -> City:
    """Return a city by its canonical name.

    Raises:
        ValueError: there is no such city.
    """
    if name not in _by_name():
        raise ValueError(f"guess_my_city: there is no city {name!r}; the names are those of cities.csv")
    return _by_name()[name]


def understood(question: str) -> bool:
    """Return whether the citizen understands a question."""
    return parse(question) is not None


@cache
def _answer_of(topic: str) -> facts.Answer:
    return next(getattr(module, topic) for module in ANSWERS if hasattr(module, topic))


@lru_cache(maxsize=2**16)
def replies(name: str, question: str) -> tuple[str, ...]:
    """Return all answers of a city to a question, which are equally likely; each ends in a line break."""
    meaning, city = parse(question), city_of(name)
    if meaning is None:
        return (f"{UNSURE}\n",)
    said = _answer_of(meaning.topic)(city, meaning)
    kept = [text for text in said if not gives_away(text, question, city)]
    return tuple(f"{text}\n" for text in kept or [SECRET_CITY])


def answer(brief: Mapping[str, str], question: str) -> str:
    """Return the first of the citizen's answers, without its line break.

    Args:
        brief: the citizen's brief; `name` is the city's.
        question: the question.
    """
    return replies(brief["name"], question)[0].rstrip("\n")


class EmbeddedCitizen:
    """Answers from the tables beside this file; how it words an answer depends on the request's seed and turn only.

    The first turn of a history is the citizen's brief, a JSON object with `name`; the last is the question. A request
    without any history asks for nothing and gets an empty text.
    """

    settings: ClassVar[dict[str, str]] = {"kind": "embedded", "version": "2"}
    """Identifies it; the version changes whenever answers do."""

    def __init__(self) -> None:
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Answer the last utterance of each request.

        Raises:
            ValueError: a brief names no city of the game.
        """
        return [self._answer(request) if request.history else Action("") for request in requests]

    def _answer(self, request: Request) -> Action:
        name = json.loads(request.history[0].text)["name"]
        said = replies(name, request.history[-1].text)
        if len(said) == 1:
            return Action(said[0])
        return Action(said[int(self._uniforms.draw(request.seed, request.turn, 1)[0] * len(said))])


@cache
def embedded_citizen() -> EmbeddedCitizen:
    """Return the one citizen of this process, which all environments share."""
    return EmbeddedCitizen()


def questions(path: str | Path) -> Iterator[tuple[dict[str, str], str, str]]:
    """Read questions to try: for each the brief, the question, and the expected answer (may be empty).

    A CSV file has the columns `name` (of the city), `question` and `answer`. A JSON file has
    the raw layout of LMRL-Gym's data, from which the questions are taken.

    Raises:
        ValueError: the file names a city that is not in the game.
    """
    place = Path(path)
    if place.suffix == ".csv":
        with place.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield city_of(row["name"]).brief, row["question"], row["answer"]
        return
    spelled = {name.lower(): city for city in cities() for name in city.names}
    try:
        asked = [(item["word"].split(",")[0].strip(), item["conversation"]) for item in json.loads(place.read_bytes())]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{place}: expected a list of objects with word and conversation ({error!r})") from error
    for name, conversation in asked:
        if name not in spelled:
            raise ValueError(f"{place}: {name!r} is not a city of the game")
        for line in conversation:
            yield spelled[name].brief, split(line)[0], ""


def is_informative(reply: str) -> bool:
    """Tell whether an answer is one, and not a refusal or a confession of ignorance."""
    return bool(reply.strip()) and not any(phrase in reply for phrase in ("I am not sure", "I cannot"))


def split(line: str) -> tuple[str, str]:
    """Return question and answer of a line of the raw layout: the question ends with the first mark before a space."""
    question, mark, reply = line.partition("? ")
    return (f"{question}?", reply) if mark else (line, "")
