"""Reads the Twenty Questions conversations that LMRL-Gym published."""

from collections.abc import Iterator
from typing import Any

from lmrl.data.published import FormatError, Place, PublishedArray, flag, listed, short, text
from lmrl.tasks.twenty_questions.env import OPENING, QUESTION_REWARD, WIN_REWARD
from lmrl.text.trajectory import Trajectory, Turn

QUESTIONS = 20
"""Questions of a whole game."""


class PublishedTwentyQuestions(PublishedArray):
    """A published file of conversations (arXiv 2311.18232, C.6): a JSON array, or one conversation per line.

    A conversation is an object with `lines`, a list of texts of a question and its answer (`Is it alive? No.`);
    `correct`, whether the last question won; and `word`, the list of the object's names. One that is shorter than 20
    questions and did not win was cut off.

    Args:
        path: the file.
        like: see `PublishedFile`.
    """

    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Read a conversation from each value."""
        return (_conversation(value, place) for place, value in values)


def _conversation(value: Any, place: Place) -> Trajectory:
    """Read one conversation; `place` says where in the file it stands."""
    if not isinstance(value, dict):
        raise FormatError(f"the whole value: expected an object, got {short(value)}")
    lines = [_exchange(line, f"field 'lines', entry {index}") for index, line in enumerate(listed(value, "lines"))]
    if not 1 <= len(lines) <= QUESTIONS:
        raise FormatError(f"field 'lines': expected 1 to {QUESTIONS} entries, got {len(lines)}")
    success = flag(value.get("correct"), "field 'correct'")
    names = [text(name, f"field 'word', entry {index}") for index, name in enumerate(listed(value, "word"))]
    if not names:
        raise FormatError("field 'word': expected at least one name")
    turns = [Turn(OPENING, is_action=False)]
    for index, (question, answer) in enumerate(lines, start=1):
        has_won = success and index == len(lines)
        turns.append(Turn(question, is_action=True, reward=WIN_REWARD if has_won else QUESTION_REWARD))
        turns.append(Turn(answer, is_action=False))
    over = success or len(lines) == QUESTIONS
    info = {**place, "success": success, "object": names[0]}
    return Trajectory(tuple(turns), terminated=over, truncated=not over, info=info)


def _exchange(line: Any, place: str) -> tuple[str, str]:
    """Return a question and its answer, each with its line break; they are divided at the last question mark."""
    question, mark, answer = text(line, place).rpartition("? ")
    if not mark or not question.strip() or not answer.strip():
        raise FormatError(f"{place}: expected a question, '? ' and an answer, got {short(line)}")
    return f"{question.strip()}?\n", f"{answer.strip()}\n"
