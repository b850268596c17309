"""How the house of Text-Nav is put into words: sentences of several families, of which each episode draws its own."""

from collections.abc import Sequence

import numpy as np

from lmrl.tasks.text_nav.house import CONTAINERS, EXITS, HOLDERS, ROOMS, THINGS, House, Outcome, Reply

OBJECTIVE = (
    "Your objective is to put the stale food on the table in the living room into the fridge in the kitchen.\n\n"
)
"""The beginning of an episode."""

ROOM_FAMILIES = {
    "name": (
        "You are in the {room}.",
        "This is the {room}.",
        "You stand in {a_room}.",
        "Here is {a_room}.",
        "You have come to the {room}.",
        "A look around tells you that this is {a_room}.",
        "So this is what the {room} looks like.",
        "Before you lies the {room}.",
    ),
    "mood": ("", "", "", "", " It is quiet.", " Somebody has tidied up.", " It smells of fresh paint.", " How nice."),
    "holder": (
        "You see {a_holder}.",
        "There is {a_holder} here.",
        "You notice {a_holder}.",
        "You can see {a_state_holder}.",
        "{A_state_holder} stands by the wall.",
        "Your eye falls on {a_holder}.",
        "The only piece of furniture is {a_holder}.",
        "What you find here is {a_state_holder}.",
    ),
    "remark": ("", "", "", " It looks heavy.", " It has seen better days.", " Nothing special."),
    "full supporter": (
        " On the {holder} you see {things}.",
        " The {holder} has {things} on it.",
        " You find {things} on the {holder}.",
    ),
    "empty supporter": (
        " The {holder} is bare.",
        " There is nothing on the {holder}.",
        " Nobody has left anything on it.",
    ),
    "full container": (
        " The {holder} contains {things}.",
        " In the {holder} you see {things}.",
        " You look inside and find {things}.",
    ),
    "empty container": (" The {holder} is empty.", " There is nothing in the {holder}."),
    "one exit": (
        "There is an {kind}exit to the {ways}.",
        "You can only go {any_way} from here.",
        "The one way out leads {ways}.",
        "If you want to leave, go {any_way}.",
    ),
    "exits": (
        "There are {kind}exits to the {ways}.",
        "You can go {any_way} from here.",
        "Ways out lead {ways}.",
        "If you want to leave, go {any_way}.",
    ),
    "kind of exit": ("", "unblocked ", "unguarded ", "open "),
}
"""Drawn for each room; a family may hold the same text several times to make it more likely."""
THING_FAMILY = ("Just {a_thing}.", "The {thing} looks as one expects.", "There is nothing odd about the {thing}.")
"""Drawn for each thing that can be examined."""

_EXAMINABLE = (*THINGS, *sorted(set(HOLDERS.values())))
_SIZES = [len(family) for family in ROOM_FAMILIES.values()] * len(ROOMS) + [len(THING_FAMILY)] * len(_EXAMINABLE)
_BOUNDS = np.array(_SIZES)
_PLACES = {key: place for place, key in enumerate((room, family) for room in ROOMS for family in ROOM_FAMILIES)}
_THING_PLACES = {thing: len(_PLACES) + place for place, thing in enumerate(_EXAMINABLE)}

_REPLIES = {
    Reply.CLOSED: "You close the {thing}.",
    Reply.TOOK: "You take the {thing} from the {holder}.",
    Reply.PICKED_UP: "You pick up the {thing} from the ground.",
    Reply.DROPPED: "You drop the {thing} on the ground.",
    Reply.PUT_ON: "You put the {thing} on the {holder}.",
    Reply.PUT_INTO: "You put the {thing} into the {holder}.",
    Reply.ATE: "You eat the {thing}. Not bad.",
    Reply.NO_VERB: "That's not a verb I recognise.",
    Reply.NOT_SEEN: "You can't see any such thing.",
    Reply.NO_EXIT: "You can't go that way.",
    Reply.NOT_OPENABLE: "That cannot be opened.",
    Reply.NOT_CLOSABLE: "That cannot be closed.",
    Reply.OPEN_ALREADY: "That's already open.",
    Reply.CLOSED_ALREADY: "That's already closed.",
    Reply.FIXED: "The {thing} does not move.",
    Reply.HELD_ALREADY: "You have that already.",
    Reply.HERE_ALREADY: "The {thing} is here already.",
    Reply.NOT_HELD: "You do not have that.",
    Reply.TAKE_FIRST: "You need to take the {thing} first.",
    Reply.INEDIBLE: "Nobody can eat that.",
    Reply.ITSELF: "Nothing goes into or onto itself.",
    Reply.NO_CONTAINER: "Nothing goes into the {holder}.",
    Reply.NO_SUPPORTER: "Nothing stays on the {holder}.",
    Reply.SHUT: "The {holder} is closed.",
}


def listing(names: Sequence[str], word: str = "and") -> str:
    """Join names as `a, b and c`; without names there is no text."""
    return f" {word} ".join([part for part in (", ".join(names[:-1]), *names[-1:]) if part])


def with_article(name: str) -> str:
    """Put the indefinite article before a name."""
    return f"some {name}" if name == "utensils" else f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _some(things: Sequence[str]) -> str:
    """List things, each with its article; without things there is no text."""
    return listing([with_article(thing) for thing in things])


def carried(house: House) -> str:
    """Return the text of the inventory."""
    things = _some(house.held)
    return f"You are carrying: {things}." if things else "You are carrying nothing."


class Wording:
    """The sentences of one episode, the same for as long as it lasts.

    Args:
        generator: draws which ones.
        name_room: whether descriptions begin with a sentence that names the room.
    """

    def __init__(self, generator: np.random.Generator, *, name_room: bool) -> None:
        self._drawn: list[int] = generator.integers(_BOUNDS).tolist()
        self._name_room = name_room

    def describe(self, house: House) -> str:
        """Describe the room: its name, the furniture with its contents, the exits, and the things on the floor."""
        room, paragraphs = house.room, []
        if self._name_room:
            name = self._sentence(room, "name").format(room=room, a_room=with_article(room))
            paragraphs.append(name + self._sentence(room, "mood"))
        if house.holder is not None:
            paragraphs.append(self._furniture(house, house.holder))
        ways = list(EXITS[room])
        exits = self._sentence(room, "exits" if len(ways) > 1 else "one exit")
        kind = self._sentence(room, "kind of exit")
        paragraphs.append(exits.format(kind=kind, ways=listing(ways), any_way=listing(ways, "or")))
        if house.on_floor:
            paragraphs.append(f"There is {_some(house.on_floor)} on the floor.")
        return "\n\n".join(paragraphs)

    def reply(self, house: House, outcome: Outcome) -> str:
        """Return the text of a command's result, as the house is after it."""
        if outcome.reply in (Reply.ARRIVED, Reply.LOOKED):
            return self.describe(house)
        if outcome.reply is Reply.LISTED:
            return carried(house)
        if outcome.reply is Reply.EXAMINED:
            return self._examined(house, outcome.thing)
        if outcome.reply is Reply.OPENED:
            inside = _some(house.in_reach)
            return f"You open the {outcome.thing}, revealing {inside}." if inside else f"You open the {outcome.thing}."
        return _REPLIES[outcome.reply].format(thing=outcome.thing, holder=outcome.holder)

    def _sentence(self, room: str, family: str) -> str:
        """Return the sentence that was drawn for a room."""
        return ROOM_FAMILIES[family][self._drawn[_PLACES[room, family]]]

    def _furniture(self, house: House, holder: str) -> str:
        """Describe the room's furniture; the contents of a closed container are not mentioned."""
        a_holder = a_state_holder = with_article(holder)
        if holder in CONTAINERS:
            a_state_holder = f"a closed {holder}" if house.is_shut else f"an open {holder}"
        text = self._sentence(house.room, "holder").format(
            a_holder=a_holder,
            a_state_holder=a_state_holder,
            A_state_holder=a_state_holder[0].upper() + a_state_holder[1:],
        )
        text += self._sentence(house.room, "remark")
        if house.is_shut:
            return text
        things = _some(house.in_reach)
        family = f"{'full' if things else 'empty'} {'container' if holder in CONTAINERS else 'supporter'}"
        inside = self._sentence(house.room, family)
        return text + inside.format(holder=holder, things=things)

    def _examined(self, house: House, thing: str) -> str:
        """Describe a thing, and of a container whether it is open."""
        text = THING_FAMILY[self._drawn[_THING_PLACES[thing]]].format(thing=thing, a_thing=with_article(thing))
        if thing in CONTAINERS:
            text += f" It is {'open' if thing in house.open else 'closed'}."
        return text
