"""Reads the Guess My City data of LMRL-Gym's layouts."""

from collections.abc import Iterator
from typing import Any

from lmrl.data.published import FormatError, Place, PublishedArray, flag, listed, short, text
from lmrl.tasks.guess_my_city.env import OPENING, QUESTIONS
from lmrl.tasks.guess_my_city.partner import split
from lmrl.text.trajectory import Trajectory, Turn


class PublishedGuessMyCity(PublishedArray):
    """A published Guess My City file: one JSON array of conversations, or one conversation per line.

    Two layouts are read. In both a line is a question and its answer, with a space between them.

    - Of the training files: `lines`, a list of such lines; `correct`, whether the city was found; `word`, the city as
      text, or as a list of its spellings.
    - Of the collecting script: `conversation`, `done` and `word` (`bogota,colombia`), with the same meanings. Its
      questions may have prefaces and line breaks inside, which become spaces.

    Every question costs 1, but the last of a game that was won nothing. A game is over if it was won or has all 20
    questions; otherwise its recording was cut off.

    Args:
        path: the file.
        like: see `PublishedFile`.
    """

    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Read a conversation from each value."""
        return (_trajectory(value, place) for place, value in values)


def _trajectory(value: Any, place: Place) -> Trajectory:
    """Return the game of one object; `place` says where in the file it stands."""
    if not isinstance(value, dict):
        raise FormatError(f"the whole value: expected an object, got {short(value)}")
    is_raw = "conversation" in value
    lines, won = ("conversation", "done") if is_raw else ("lines", "correct")
    said = [
        _pair(text(line, f"field {lines!r}, entry {i}"), f"field {lines!r}, entry {i}", is_raw)
        for i, line in enumerate(listed(value, lines))
    ]
    if not 0 < len(said) <= QUESTIONS:
        raise FormatError(f"field {lines!r}: {len(said)} lines, expected 1 to {QUESTIONS}")
    success = flag(value.get(won), f"field {won!r}")
    turns = [Turn(OPENING, is_action=False)]
    for index, (question, answer) in enumerate(said):
        is_found = success and index == len(said) - 1
        turns += [Turn(question, is_action=True, reward=0.0 if is_found else -1.0), Turn(answer, is_action=False)]
    is_over = success or len(said) == QUESTIONS
    info = {**place, "success": success, "city": _word(value.get("word"))}
    return Trajectory(tuple(turns), terminated=is_over, truncated=not is_over, info=info)


def _pair(line: str, place: str, is_raw: bool) -> tuple[str, str]:
    """Return question and answer of a line, each with its line break.

    The training files are split at the last question mark that a space follows, as LMRL-Gym splits them; the raw ones
    at the first, because their answers are free text.
    """
    if is_raw:
        question, answer = split(line)
    else:
        head, mark, answer = line.rpartition("? ")
        question = f"{head}?" if mark else line
    if not question.strip():
        raise FormatError(f"{place}: a line without any question, got {short(line)}")
    return f"{' '.join(question.split())}\n", f"{' '.join(answer.split())}\n"


def _word(value: Any) -> str:
    """Return the city as the file spells it."""
    if isinstance(value, list) and value:
        value = value[0]
    return text(value, "field 'word'")
