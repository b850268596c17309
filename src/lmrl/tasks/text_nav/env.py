"""Text-Nav of LMRL-Gym: carry the stale food from the living room into the fridge of a house that is told in text."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lmrl.config.types import PositiveCount
from lmrl.envs.core import StepResult, TextEnv
from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.text_nav.house import CARGO, EXITS, ROOMS, TARGET, House, directions_to
from lmrl.tasks.text_nav.texts import OBJECTIVE, Wording, carried
from lmrl.text.trajectory import History

COMMANDS = "Admissible commands: "
"""The beginning of the last line of every observation of a running episode."""


def read_commands(text: str) -> list[str]:
    """Return the admissible commands that an observation ends with; none if it tells none."""
    _, found, last = text.rpartition(COMMANDS)
    return last.rstrip("\n").split(", ") if found else []


class TextNav(TextEnv):
    """The house; `reset` takes the option `room`, where the player starts.

    Wording is drawn with every reset and stays until the next one. An episode ends with the stale food behind the
    closed door of the fridge (won), with the stale food eaten (lost), or is cut off after `max_steps` commands.

    Args:
        display_location: whether descriptions of rooms begin with the room's name.
        display_inventory: whether every observation lists the inventory.
        max_steps: how many commands there are.
    """

    version: ClassVar[str] = "1"

    def __init__(
        self, *, display_location: bool = True, display_inventory: bool = True, max_steps: PositiveCount = 15
    ) -> None:
        super().__init__()
        if max_steps < 1:
            raise ValueError(f"text_nav: max_steps must be at least 1, got {max_steps}")
        self.max_steps = max_steps
        self.settings = {
            "display_location": display_location,
            "display_inventory": display_inventory,
            "max_steps": max_steps,
        }
        """Identifies this environment; stored with data."""
        self._display_location, self._display_inventory = display_location, display_inventory
        self.house = House(ROOMS[0])
        self._wording: Wording | None = None
        self._steps: int | None = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode and return its first observation; without options the room is drawn evenly.

        Raises:
            ValueError: an unknown option or room.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        if unknown := set(options) - {"room"}:
            raise ValueError(f"text_nav: unknown reset options {sorted(unknown)}, the only one is room")
        drawn = ROOMS[int(self.np_random.integers(len(ROOMS)))]
        room = options.get("room", drawn)
        if room not in ROOMS:
            raise ValueError(f"text_nav: room must be one of {', '.join(ROOMS)}, got {room!r}")
        self._wording = Wording(self.np_random, name_room=self._display_location)
        self.house, self._steps = House(room), 0
        return self._observation(OBJECTIVE + self._wording.describe(self.house)), {"room": room}

    def step(self, action: str) -> StepResult:
        """Execute a command; an impossible one counts as a command and changes nothing.

        Raises:
            RuntimeError: no episode is running.
        """
        if self._steps is None or self._wording is None:
            raise RuntimeError("text_nav: no episode is running, call reset() before step()")
        self._steps += 1
        steps, outcome = self._steps, self.house.obey(action)
        feedback = self._wording.reply(self.house, outcome)
        won, lost = self.house.is_won, self.house.is_lost
        truncated = not (won or lost) and steps >= self.max_steps
        info = {"success": won, "is_invalid": outcome.is_refusal, "lost": lost, "room": self.house.room}
        if won or lost or truncated:
            self._steps = None
        text = f"{feedback}\n\n{_ending(won, steps)}" if won or lost else self._observation(feedback)
        return text, float(won), won or lost, truncated, info

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return every room as a start."""
        return tuple({"room": room} for room in ROOMS)

    def legal_actions(self) -> Sequence[str]:
        """Return the admissible commands, in alphabetical order."""
        return tuple(f"{command}\n" for command in self.house.admissible())

    def _observation(self, feedback: str) -> str:
        """Append the parts of every observation to the feedback."""
        inventory = f"\n\n{carried(self.house)}" if self._display_inventory else ""
        return f"{feedback}{inventory}\n\n{COMMANDS}{', '.join(self.house.admissible())}\n"


def _ending(won: bool, steps: int) -> str:
    """Say how the game ended; `steps` is the number of commands."""
    news = "Your score has just gone up by one point.\n\n*** The End ***" if won else "*** You lost! ***"
    return f"{news}\n\nYou scored {int(won)} out of a possible 1, in {steps} turns.\n"


class RandomPlayer:
    """Plays each command that the last observation calls admissible equally often."""

    def __init__(self) -> None:
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Draw a command for each request; the draw depends only on its seed, its turn and the text.

        Raises:
            ValueError: an observation tells no admissible commands.
        """
        return [Action(f"{self._draw(request, _told(request.history))}\n") for request in requests]

    def _draw(self, request: Request, commands: Sequence[str]) -> str:
        return commands[int(self._uniforms.draw(request.seed, request.turn, 1)[0] * len(commands))]


class ExpertPlayer:
    """Brings the stale food into the fridge on a shortest way, from the texts alone.

    It knows the house, and tells rooms by the directions among the admissible commands, which differ from room to
    room: so it needs neither names of rooms nor the inventory. Where the stale food is, it knows from the newest
    observation that offered it, else it looks in the living room. If the food is not there either (it was moved, and
    the memory is too short to tell where to), it tries the rooms next to there at random, and no others.
    """

    def __init__(self) -> None:
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return the best command for each request.

        Raises:
            ValueError: an observation tells no admissible commands, or those of no room of the house.
        """
        return [Action(f"{self._command(request)}\n") for request in requests]

    def _command(self, request: Request) -> str:
        """Return the next command."""
        commands = _told(request.history)
        room = _room(commands)
        if f"drop {CARGO}" in commands:
            return self._deliver(room, commands)
        here = next((command for command in commands if command.startswith(f"take {CARGO}")), None)
        if here == f"take {CARGO} from {TARGET}":
            return f"close {TARGET}"
        if here is not None:
            return here
        place = _last_seen(request.history)
        if room != place:
            return f"go {directions_to(place)[room]}"
        closed = [command for command in commands if command.startswith("open ")]
        if closed:
            return closed[0]
        ways = [command for command in commands if command.startswith("go ")]
        return ways[int(self._uniforms.draw(request.seed, request.turn, 1)[0] * len(ways))]

    @staticmethod
    def _deliver(room: str, commands: Sequence[str]) -> str:
        """Return the next command of somebody who holds the stale food."""
        if room != "kitchen":
            return f"go {directions_to('kitchen')[room]}"
        return f"open {TARGET}" if f"open {TARGET}" in commands else f"insert {CARGO} into {TARGET}"


_ROOM_OF = {frozenset(exits): room for room, exits in EXITS.items()}


def _room(commands: Sequence[str]) -> str:
    """Return the room that has the directions among the commands."""
    ways = frozenset(command.removeprefix("go ") for command in commands if command.startswith("go "))
    if ways not in _ROOM_OF:
        raise ValueError(f"text_nav: no room of the house has exactly the exits {', '.join(sorted(ways)) or 'none'}")
    return _ROOM_OF[ways]


def _told(history: History) -> list[str]:
    """Return the admissible commands of the last observation."""
    commands = read_commands(history[-1].text)
    if not commands:
        raise ValueError(f"text_nav: the last observation lists no admissible commands: {history[-1].text!r}")
    return commands


def _last_seen(history: History) -> str:
    """Return the room of the newest observation that offers a command with the stale food."""
    for turn in reversed(history):
        commands = [] if turn.is_action else read_commands(turn.text)
        if any(CARGO in command for command in commands):
            return _room(commands)
    return "living room"
