"""What the embedded citizen makes of a file of questions, for `python -m lmrl.coverage --task guess_my_city`."""

from collections.abc import Iterator
from pathlib import Path

from lmrl.coverage.trial import Heard, says
from lmrl.tasks.guess_my_city.partner import is_informative, questions, replies, understood


def heard(path: Path) -> Iterator[Heard]:
    """Ask the questions of a file, which is as `guess_my_city_partner.questions` reads it.

    An answer is right if it is as the file expects. Where the file says nothing, as published conversations do, it must
    be an answer: neither a refusal nor "I am not sure".

    Raises:
        ValueError: the file names a city that is not in the game.
    """
    for brief, question, expected in questions(path):
        said, name = replies(brief["name"], question), brief["name"]
        is_right = is_expected(name, question, expected)
        yield Heard(question, name, understood(question), said[0].strip(), expected, is_right)


def is_expected(name: str, question: str, expected: str) -> bool:
    """Tell whether a city's answers, if not all of them, contain the expected words, or if none are, are answers."""
    said = replies(name, question)
    if not expected:
        return all(map(is_informative, said))
    holds = all if expected in ("Yes", "No") else any
    return holds(says(text, expected) for text in said)
