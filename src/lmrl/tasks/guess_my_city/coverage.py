"""Coverage of the embedded citizen, for `python -m lmrl.coverage --task guess_my_city`."""

from collections.abc import Iterator
from pathlib import Path

from lmrl.coverage.trial import Trial, says
from lmrl.tasks.guess_my_city.partner import is_informative, questions, replies, understood


def trials(path: Path) -> Iterator[Trial]:
    """Ask the questions of a file, in the format of `partner.questions`.

    An answer is right if it is as the file expects. Without an expected answer, as in published conversations, it must
    be neither a refusal nor "I am not sure".

    Raises:
        ValueError: the file names a city that is not in the game.
    """
    for brief, question, expected in questions(path):
        answers, name = replies(brief["name"], question), brief["name"]
        is_right = is_expected(name, question, expected)
        yield Trial(question, name, understood(question), answers[0].strip(), expected, is_right)


def is_expected(name: str, question: str, expected: str) -> bool:
    """Return whether an answer contains the expected words (yes and no: all do), or without these if all inform."""
    answers = replies(name, question)
    if not expected:
        return all(map(is_informative, answers))
    holds = all if expected in ("Yes", "No") else any
    return holds(says(text, expected) for text in answers)
