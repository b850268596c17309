"""The objects of Twenty Questions: a table of facts, and the sets of objects that they describe."""

import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from lmrl.envs.tables import rows

OBJECTS, FACTS, WORDS = "objects.csv", "facts.csv", "words.csv"
"""The tables beside this file."""
VALUES = {"yes": True, "mostly": True, "rarely": False, "no": False}
"""The values of a fact, and their answers. `mostly` and `rarely`: either is possible, this is the usual case."""
NUMBERS = ("bulk_cm", "length_cm", "weight_kg")
"""The measured columns: the edge of a cube that looks as big, the longest side, the weight of a usual one."""
_TOKEN = re.compile(r"\s*([a-z_0-9]+(?:[<>=][a-z0-9.]+)?|\[[^\]]+\]|[&|!()])")
_COMPARE = {"<": operator.lt, ">": operator.gt}


@dataclass(frozen=True, slots=True)
class Thing:
    """An object that can be hidden."""

    name: str
    """The benchmark's name, the first of its variants."""
    variants: tuple[str, ...]
    """All names that win."""
    said: str
    """The name in a sentence, with its article: `an apple`."""
    category: str
    numbers: tuple[float, float, float]
    """The columns `NUMBERS`."""
    colours: frozenset[str]
    """The usual colours; none where it can have any."""


class Facts:
    """The objects, and for each attribute the set of those of which it is true.

    Objects are known by their index. A set of objects is a Python integer with the bits of its objects.

    Args:
        things: the objects.
        values: for each attribute, the value of each object, one of `VALUES`.

    Raises:
        ValueError: a value is unknown, or an attribute has not one value for each object; the message says where.
    """

    def __init__(self, things: Sequence[Thing], values: dict[str, Sequence[str]]) -> None:
        self.things, self.values = tuple(things), values
        self.index = {thing.name: index for index, thing in enumerate(self.things)}
        self.everything = (1 << len(self.things)) - 1
        """The set of all objects."""
        for attribute, column in values.items():
            wrong = next((value for value in column if value not in VALUES), None)
            if wrong is not None or len(column) != len(self.things):
                raise ValueError(f"{FACTS}: attribute {attribute}: expected one of {', '.join(VALUES)}, got {wrong!r}")
        self.sets = {name: _bits(VALUES[value] for value in column) for name, column in values.items()}
        """By attribute, the objects of which it is answered with yes."""

    def describe(self, meaning: str) -> int:
        """Return the set of objects that a meaning is true of.

        A meaning joins attributes, sizes (`bulk_cm<10`), colours (`colour=red`), lists of objects (`[Apple;Peach]`),
        `everything` and `nothing` with `&`, `|`, `!` and parentheses; `&` binds more tightly than `|`.

        Raises:
            ValueError: the meaning cannot be read; the message names the place.
        """
        tokens, end = [], 0
        text = meaning.strip()
        while end < len(text):
            found = _TOKEN.match(text, end)
            if found is None:
                raise ValueError(f"twenty_questions: the meaning {meaning!r} cannot be parsed at {text[end:]!r}")
            tokens.append(found[1])
            end = found.end()
        reader = iter([*tokens, ""])
        result, last = self._any(reader)
        if last:
            raise ValueError(f"twenty_questions: the meaning {meaning!r} continues with {last!r} after its end")
        return result

    def _any(self, tokens: Iterator[str]) -> tuple[int, str]:
        """Read terms joined by `|`; return their set and the token after them."""
        result, token = self._all(tokens)
        while token == "|":
            more, token = self._all(tokens)
            result |= more
        return result, token

    def _all(self, tokens: Iterator[str]) -> tuple[int, str]:
        """Read terms joined by `&`; return their set and the token after them."""
        result, token = self._term(tokens), next(tokens)
        while token == "&":
            result &= self._term(tokens)
            token = next(tokens)
        return result, token

    def _term(self, tokens: Iterator[str]) -> int:
        """Read one term."""
        token = next(tokens)
        if token == "!":
            return self.everything ^ self._term(tokens)
        if token == "(":
            result, last = self._any(tokens)
            if last != ")":
                raise ValueError("twenty_questions: a meaning has an open parenthesis")
            return result
        return self._named(token)

    def _named(self, token: str) -> int:
        """Return the set that a name, a list or a comparison stands for."""
        if token.startswith("["):
            return sum({1 << self._place(name.strip()) for name in token[1:-1].split(";")})
        if token in self.sets:
            return self.sets[token]
        if token in ("everything", "nothing"):
            return self.everything if token == "everything" else 0
        column, sign, value = (*re.split("([<>=])", token, maxsplit=1), "", "")[:3]
        if column == "colour" and sign == "=":
            return _bits(value in thing.colours for thing in self.things)
        if column in NUMBERS and sign in _COMPARE:
            number, place = float(value), NUMBERS.index(column)
            return _bits(_COMPARE[sign](thing.numbers[place], number) for thing in self.things)
        raise ValueError(f"twenty_questions: the meaning {token!r} is not an attribute, a measure or a list of objects")

    def _place(self, name: str) -> int:
        """Return the index of an object by its name."""
        if name not in self.index:
            raise ValueError(f"twenty_questions: {name!r} is not one of the {len(self.things)} objects")
        return self.index[name]


def _bits(flags: Iterator[bool] | Sequence[bool]) -> int:
    """Return the set of the places where a flag is set."""
    return sum(1 << index for index, flag in enumerate(flags) if flag)


@cache
def word_list(kind: str) -> frozenset[str]:
    """Return the words of one kind, one of those in `WORDS`.

    Raises:
        KeyError: there is no such kind.
    """
    return frozenset({row["kind"]: row["words"] for row in rows(__file__, WORDS)}[kind].split())


@cache
def facts() -> Facts:
    """Return the packaged facts, the same object for all who ask.

    Raises:
        ValueError: the tables are damaged, or do not fit each other.
    """
    things = [_thing(row) for row in rows(__file__, OBJECTS)]
    attributes = rows(__file__, FACTS)
    if [row["object"] for row in attributes] != [thing.name for thing in things]:
        raise ValueError(f"{FACTS}: its objects must be those of {OBJECTS}, in the same order")
    return Facts(things, {name: [row[name] for row in attributes] for name in attributes[0] if name != "object"})


def _thing(row: dict[str, str]) -> Thing:
    """Read an object from its row."""
    bulk, length, weight = (float(row[name]) for name in NUMBERS)
    variants = (row["object"], *filter(None, row["variants"].split(";")))
    colours = frozenset(filter(None, row["colours"].split(";")))
    return Thing(row["object"], variants, row["said"], row["category"], (bulk, length, weight), colours)
