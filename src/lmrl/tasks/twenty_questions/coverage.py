"""Coverage of the embedded oracle, for `python -m lmrl.coverage --task twenty_questions`."""

from collections.abc import Iterator
from pathlib import Path

from lmrl.coverage.questions import questions
from lmrl.coverage.trial import Trial, says
from lmrl.tasks.twenty_questions.partner import answer, understood


def trials(path: Path) -> Iterator[Trial]:
    """Ask the questions of a file; without an object in the file, only understanding is tested."""
    for asked in questions(path):
        is_understood = understood(asked.question)
        reply = answer(asked.brief, asked.question) if asked.brief else ""
        is_right = is_understood and (not asked.expected or says(reply, asked.expected))
        about, is_judged = ", ".join(asked.brief.values()), bool(asked.expected)
        yield Trial(asked.question, about, is_understood, reply, asked.expected, is_right, is_judged)
