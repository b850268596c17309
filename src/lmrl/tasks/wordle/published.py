"""Reads the Wordle data that LMRL-Gym published."""

from collections.abc import Iterator
from typing import Any

from lmrl.data.published import FormatError, Place, PublishedFile, flag, listed, number, short, text
from lmrl.tasks.wordle.vocabulary import REPLIES, SOLVED
from lmrl.text.trajectory import Trajectory, Turn


class PublishedWordle(PublishedFile):
    """A published Wordle file, one game per line (arXiv 2311.18232, C.3).

    An object with `sequence`, a list of pairs of a text and 1.0 for an action or 0.0 for an observation; `reward`, one
    number for each text after the first (an observation's is 0); and `done`, whether the game came to its end.

    Args:
        path: the file.
        like: see `PublishedFile`.
    """

    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Read a game from each line."""
        for place, value in values:
            if not isinstance(value, dict):
                raise FormatError(f"the whole line: expected an object, got {short(value)}")
            said = [_said(pair, f"field 'sequence', entry {i}") for i, pair in enumerate(listed(value, "sequence"))]
            if not any(is_action for _, is_action in said):
                raise FormatError("field 'sequence': a game without any action")
            if said[0][1]:
                raise FormatError("field 'sequence', entry 0: a game begins with an observation, not with an action")
            turns = tuple(_turns(said, listed(value, "reward")))
            over = flag(value.get("done"), "field 'done'")
            success = turns[-1].text == REPLIES[SOLVED]
            yield Trajectory(turns, terminated=over, truncated=not over, info={**place, "success": success})


def _said(pair: Any, place: str) -> tuple[str, bool]:
    """Return a text, and whether it is an action."""
    if not isinstance(pair, list) or len(pair) != 2:
        raise FormatError(f"{place}: expected a pair of text and 0.0 or 1.0, got {short(pair)}")
    is_action = number(pair[1], f"{place}, is_action")
    if is_action not in (0.0, 1.0):
        raise FormatError(f"{place}, is_action: expected 0.0 or 1.0, got {short(pair[1])}")
    return text(pair[0], f"{place}, text"), is_action == 1.0


def _turns(said: list[tuple[str, bool]], rewards: list[Any]) -> Iterator[Turn]:
    """Join the texts with their rewards; the first text has none."""
    if len(rewards) != len(said) - 1:
        raise FormatError(
            f"field 'reward': {len(rewards)} entries for {len(said)} texts, expected one fewer than texts"
        )
    for index, ((words, is_action), reward) in enumerate(zip(said, [0.0, *rewards], strict=True)):
        earned = number(reward, f"field 'reward', entry {index - 1}")
        if earned and not is_action:
            raise FormatError(f"field 'reward', entry {index - 1}: {earned} for an observation, which earns nothing")
        yield Turn(words, is_action, earned)
