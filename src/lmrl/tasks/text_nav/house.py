"""The house of Text-Nav: rooms, things, and the effects of commands, without their wording."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache

EXITS: Mapping[str, Mapping[str, str]] = {
    "bedroom": {"south": "bathroom", "west": "living room"},
    "living room": {"east": "bedroom", "south": "office", "west": "dining room"},
    "dining room": {"east": "living room", "west": "kitchen"},
    "kitchen": {"east": "dining room", "north": "garden", "west": "backyard"},
    "office": {"east": "bathroom", "north": "living room"},
    "bathroom": {"north": "bedroom", "west": "office"},
    "garden": {"south": "kitchen"},
    "backyard": {"east": "kitchen"},
}
"""Where each direction leads, by room; directions are in alphabetical order. No two rooms have the same ones."""
ROOMS = tuple(EXITS)
_GO = {room: [f"go {direction}" for direction in exits] for room, exits in EXITS.items()}
DIRECTIONS = frozenset({"north", "south", "east", "west"})
HOLDERS: Mapping[str, str] = {
    "bedroom": "table",
    "living room": "table",
    "dining room": "table",
    "kitchen": "fridge",
    "office": "chest",
}
"""The piece of furniture of each room that has one."""
CONTAINERS = frozenset({"fridge", "chest"})
"""Holders with a lid or door, closed at first; the others are supporters."""
FOOD = frozenset({"stale food", "fresh food", "fruit"})
CARGO, TARGET = "stale food", "fridge"
"""The cargo and its target."""

Place = tuple[str, str]
"""How something is there (`on` the floor, `in` or on the holder) and the room."""
HELD: Place = ("held", "")
EATEN: Place = ("eaten", "")
_AT_FIRST: Mapping[Place, tuple[str, ...]] = {
    ("in", "bedroom"): ("bowl",),
    ("in", "living room"): ("stale food", "fresh food"),
    ("in", "dining room"): ("coffee cup", "plate"),
    ("in", "kitchen"): ("fruit",),
    ("in", "office"): ("utensils",),
}
THINGS = tuple(thing for things in _AT_FIRST.values() for thing in things)
"""Everything that can be carried."""
_ARTICLES = frozenset({"a", "an", "the", "some"})


class Reply(Enum):
    """The result of a command; those from `NO_VERB` on are refusals, which change nothing."""

    ARRIVED = auto()
    LOOKED = auto()
    LISTED = auto()
    EXAMINED = auto()
    OPENED = auto()
    CLOSED = auto()
    TOOK = auto()
    PICKED_UP = auto()
    DROPPED = auto()
    PUT_ON = auto()
    PUT_INTO = auto()
    ATE = auto()
    NO_VERB = auto()
    NOT_SEEN = auto()
    NO_EXIT = auto()
    NOT_OPENABLE = auto()
    NOT_CLOSABLE = auto()
    OPEN_ALREADY = auto()
    CLOSED_ALREADY = auto()
    FIXED = auto()
    HELD_ALREADY = auto()
    HERE_ALREADY = auto()
    NOT_HELD = auto()
    TAKE_FIRST = auto()
    INEDIBLE = auto()
    ITSELF = auto()
    NO_CONTAINER = auto()
    NO_SUPPORTER = auto()
    SHUT = auto()


_REFUSALS = frozenset(reply for reply in Reply if reply.value >= Reply.NO_VERB.value)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A reply and its subject."""

    reply: Reply
    thing: str = ""
    holder: str = ""
    """The other thing of the command."""

    @property
    def is_refusal(self) -> bool:
        """Whether nothing was done."""
        return self.reply in _REFUSALS


class House:
    """One state of the world, changed by `obey`.

    Args:
        room: where the player stands, one of `ROOMS`.
    """

    def __init__(self, room: str) -> None:
        self.room = room
        self.contents: dict[Place, list[str]] = {place: list(things) for place, things in _AT_FIRST.items()}
        """The things of each place, newest first."""
        self._place: dict[str, Place] = {thing: place for place, things in _AT_FIRST.items() for thing in things}
        self.open: set[str] = set()
        """The containers that are open."""

    @property
    def holder(self) -> str | None:
        """The furniture of this room."""
        return HOLDERS.get(self.room)

    @property
    def is_won(self) -> bool:
        """Whether the stale food is in the fridge, behind a closed door."""
        return self._place[CARGO] == ("in", "kitchen") and TARGET not in self.open

    @property
    def is_lost(self) -> bool:
        """Whether the stale food has been eaten."""
        return self._place[CARGO] == EATEN

    @property
    def held(self) -> list[str]:
        """The inventory, newest first."""
        return self.contents.get(HELD, [])

    @property
    def on_floor(self) -> list[str]:
        """The things on the floor of this room, newest first."""
        return self.contents.get(("on", self.room), [])

    @property
    def in_reach(self) -> list[str]:
        """The things on this room's supporter or in its open container, newest first."""
        return [] if self.is_shut else self.contents.get(("in", self.room), [])

    @property
    def is_shut(self) -> bool:
        """Whether this room has a container, and it is closed."""
        return self.holder in CONTAINERS and self.holder not in self.open

    def admissible(self) -> list[str]:
        """Return all commands that do something now, except looks at things, in alphabetical order."""
        holder, is_shut = self.holder, self.is_shut
        is_container = holder in CONTAINERS
        commands = [f"take {thing}" for thing in self.on_floor]
        commands += _GO[self.room]
        if is_container:
            commands.append(f"open {holder}" if is_shut else f"close {holder}")
        if not is_shut:
            commands += [f"take {thing} from {holder}" for thing in self.in_reach]
        for thing in self.held:
            commands.append(f"drop {thing}")
            if thing in FOOD:
                commands.append(f"eat {thing}")
            if holder is not None and not is_shut:
                commands.append(f"insert {thing} into {holder}" if is_container else f"put {thing} on {holder}")
        commands.sort()
        return commands

    def obey(self, command: str) -> Outcome:
        """Execute a command, if that is possible; case, articles and spare blanks do not matter."""
        verb, *rest = [word for word in command.lower().split() if word not in _ARTICLES] or [""]
        words = " ".join(rest)
        if rest and verb in _ON_ONE_THING:
            return _ON_ONE_THING[verb](self, words) if self._sees(words) else Outcome(Reply.NOT_SEEN)
        if rest and verb in _OTHERS:
            return _OTHERS[verb](self, words)
        bare = {"look": Reply.LOOKED, "inventory": Reply.LISTED}.get(verb, Reply.NO_VERB)
        return Outcome(Reply.NO_VERB if rest else bare)

    def _sees(self, thing: str) -> bool:
        """Return whether a thing or the furniture is here and not hidden."""
        return thing == self.holder or thing in self.held or thing in self.on_floor or thing in self.in_reach

    def _move(self, thing: str, place: Place) -> None:
        """Put a thing somewhere else, before the things there."""
        self.contents[self._place[thing]].remove(thing)
        self.contents.setdefault(place, []).insert(0, thing)
        self._place[thing] = place

    def _go(self, direction: str) -> Outcome:
        if direction not in DIRECTIONS:
            return Outcome(Reply.NOT_SEEN)
        if direction not in EXITS[self.room]:
            return Outcome(Reply.NO_EXIT)
        self.room = EXITS[self.room][direction]
        return Outcome(Reply.ARRIVED)

    def _examine(self, thing: str) -> Outcome:
        return Outcome(Reply.EXAMINED, thing)

    def _open(self, thing: str) -> Outcome:
        if thing not in CONTAINERS:
            return Outcome(Reply.NOT_OPENABLE)
        if thing in self.open:
            return Outcome(Reply.OPEN_ALREADY)
        self.open.add(thing)
        return Outcome(Reply.OPENED, thing)

    def _close(self, thing: str) -> Outcome:
        if thing not in CONTAINERS:
            return Outcome(Reply.NOT_CLOSABLE)
        if thing not in self.open:
            return Outcome(Reply.CLOSED_ALREADY)
        self.open.remove(thing)
        return Outcome(Reply.CLOSED, thing)

    def _take(self, rest: str) -> Outcome:
        thing, _, source = rest.partition(" from ")
        if not self._sees(thing) or (source and (source != self.holder or thing not in self.in_reach)):
            return Outcome(Reply.NOT_SEEN)
        if thing == self.holder:
            return Outcome(Reply.FIXED, thing)
        if thing in self.held:
            return Outcome(Reply.HELD_ALREADY)
        reply = Reply.PICKED_UP if thing in self.on_floor else Reply.TOOK
        self._move(thing, HELD)
        return Outcome(reply, thing, self.holder or "")

    def _put(self, rest: str) -> Outcome:
        thing, _, target = rest.partition(" on ")
        return self._lay(thing, target, Reply.PUT_ON)

    def _insert(self, rest: str) -> Outcome:
        thing, _, target = rest.partition(" into ")
        return self._lay(thing, target, Reply.PUT_INTO)

    def _lay(self, thing: str, target: str, reply: Reply) -> Outcome:
        """Put something that is held onto a supporter or into a container."""
        if not (self._sees(thing) and self._sees(target)):
            return Outcome(Reply.NOT_SEEN)
        if thing not in self.held:
            return Outcome(Reply.FIXED if thing == self.holder else Reply.TAKE_FIRST, thing)
        if thing == target:
            return Outcome(Reply.ITSELF)
        if reply is Reply.PUT_ON and (target != self.holder or target in CONTAINERS):
            return Outcome(Reply.NO_SUPPORTER, thing, target)
        if reply is Reply.PUT_INTO and target not in CONTAINERS:
            return Outcome(Reply.NO_CONTAINER, thing, target)
        if self.is_shut:
            return Outcome(Reply.SHUT, thing, target)
        self._move(thing, ("in", self.room))
        return Outcome(reply, thing, target)

    def _drop(self, thing: str) -> Outcome:
        if thing not in self.held:
            return Outcome(Reply.HERE_ALREADY if thing == self.holder else Reply.NOT_HELD, thing)
        self._move(thing, ("on", self.room))
        return Outcome(Reply.DROPPED, thing)

    def _eat(self, thing: str) -> Outcome:
        if thing not in FOOD:
            return Outcome(Reply.INEDIBLE)
        if thing not in self.held:
            return Outcome(Reply.TAKE_FIRST, thing)
        self._move(thing, EATEN)
        return Outcome(Reply.ATE, thing)


_ON_ONE_THING = {
    "open": House._open,
    "close": House._close,
    "drop": House._drop,
    "eat": House._eat,
    "examine": House._examine,
}
_OTHERS = {"go": House._go, "take": House._take, "put": House._put, "insert": House._insert}


@cache
def directions_to(goal: str) -> Mapping[str, str]:
    """Return the first direction of a shortest way to the room `goal`, for every other room."""
    found: dict[str, str] = {}
    waiting = deque([goal])
    while waiting:
        there = waiting.popleft()
        for room, exits in EXITS.items():
            for direction, target in exits.items():
                if target == there and room != goal and room not in found:
                    found[room] = direction
                    waiting.append(room)
    return found
