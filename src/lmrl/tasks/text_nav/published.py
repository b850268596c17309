"""Reads the Text-Nav data of LMRL-Gym's layout: one object per line, or all objects in one array."""

from collections.abc import Iterator, Sequence
from typing import Any

from lmrl.data.published import FormatError, Place, PublishedArray, flag, listed, number, short, text
from lmrl.text.trajectory import Trajectory, Turn

_LOST = "You lost!"


class PublishedTextNav(PublishedArray):
    """A published Text-Nav file (arXiv 2311.18232, C.2).

    A trajectory is an object with `text_history`, 2n + 1 texts that begin and end with an observation, and for each of
    the n actions an entry in `rewards` and in `dones`. The collecting script writes one JSON array in one line, the
    loading scripts expect one object per line: both are read.

    The recorded texts are stripped; each gets back the line break that it ends in. As the script calls every last
    action done, texts and rewards tell how an episode ended: won if the last action earned something, lost if the last
    text says so, otherwise cut off.

    Args:
        path: the file.
        like: see `PublishedFile`.
    """

    noun = "trajectory"

    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Read a trajectory from each value."""
        return (_trajectory(value, place) for place, value in values)


def _trajectory(value: Any, place: Place) -> Trajectory:
    """Return the trajectory of one object; `place` says where in the file it stands."""
    if not isinstance(value, dict):
        raise FormatError(f"the whole value: expected an object, got {short(value)}")
    said = [text(item, f"field 'text_history', entry {i}") for i, item in enumerate(listed(value, "text_history"))]
    if len(said) < 3 or len(said) % 2 == 0:
        raise FormatError(
            f"field 'text_history': {len(said)} texts, expected an odd number from 3 on (observation, action, ...)"
        )
    rewards = [number(item, f"field 'rewards', entry {i}") for i, item in enumerate(listed(value, "rewards"))]
    dones = [flag(item, f"field 'dones', entry {i}") for i, item in enumerate(listed(value, "dones"))]
    actions = len(said) // 2
    for name, entries in (("rewards", rewards), ("dones", dones)):
        if len(entries) != actions:
            raise FormatError(f"field {name!r}: {len(entries)} entries for {actions} actions")
    if True in dones[:-1]:
        raise FormatError(f"field 'dones', entry {dones.index(True)}: true, but the trajectory goes on")
    success, lost = rewards[-1] > 0, _LOST in said[-1]
    over = success or lost
    return Trajectory(tuple(_turns(said, rewards)), over, not over, info={**place, "success": success, "lost": lost})


def _turns(said: Sequence[str], rewards: Sequence[float]) -> Iterator[Turn]:
    """Join the texts, each with its line break, with their rewards."""
    for index, words in enumerate(said):
        is_action = index % 2 == 1
        yield Turn(f"{words.strip()}\n", is_action, rewards[index // 2] if is_action else 0.0)
