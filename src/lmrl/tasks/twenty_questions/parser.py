"""The meaning of a question of Twenty Questions: the set of objects for which its answer is yes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

from lmrl.envs.tables import rows
from lmrl.tasks.twenty_questions.comparisons import COMPARED, quantity, reference_meaning, rewritten
from lmrl.tasks.twenty_questions.facts import FACTS, NUMBERS, OBJECTS, WORDS, Facts, facts
from lmrl.tasks.twenty_questions.stems import DROPPED, NEGATIONS, SOFT, key, stem, words

PHRASES, SIZES = "phrases.csv", "sizes.csv"
"""The tables beside this file: the meaning of phrases, and things for comparisons."""
LONGEST = 124
"""Words of a question that are read, as the benchmark's oracle reads 124 tokens."""
_FRAME = DROPPED | {"thinking", "guess", "think", "say", "or", ",", "and", "not", "to", "refer", "mean", "by", "chance"}
"""Words that may stand before a guessed name."""
_COPULAS = {"is", "are", "be", "was", "it"}
_PEOPLE = frozenset({"human", "person", "peopl"})
_POSSESSIVE = frozenset(map(stem, ("have", "with", "from", "make")))
_LONGEST_NAME = 6
"""Words of the longest name."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a question, as far as it was understood."""

    objects: int
    """The set of objects for which the answer is yes."""
    understood: bool
    """Whether anything of it was understood. If not, no object is in the set."""
    unknown: tuple[str, ...] = ()
    """Words that were passed over although they may matter."""


_Index = dict[str, dict[tuple[str, ...], int]]
"""By the first stem of phrases: the phrases, and the set of objects that each is true of."""


@dataclass(slots=True)
class _Part:
    """One thing that a question asks, and where in the question."""

    first: int
    after: int
    objects: int
    is_guess: bool = False


class Parser:
    """Reads questions by the phrases that are in them.

    A question is taken apart into phrases, of all ways in that with the longest ones; small words may stand between the
    words of a phrase. All that is asked must be true (`a metal tool`), except of things joined by `or`; `not` turns the
    part after it around. A comparison (`smaller than a shoebox`) is a part of its own. The name of an object is a guess
    only where nothing but `is it a` and adjectives stand before it.

    Args:
        known: the facts.
        phrases: pairs of a phrase and its meaning; a phrase with several meanings means any of them.
        sizes: things to compare with, by name: the measures of each.
    """

    def __init__(
        self, known: Facts, phrases: Sequence[tuple[str, str]], sizes: Mapping[str, Mapping[str, float]]
    ) -> None:
        self._known = known
        self._phrases, self._weak = _Index(), _Index()
        self._names: dict[tuple[str, ...], int] = {}
        for phrase, meaning in phrases:
            if stems := key(phrase):
                index = self._weak if _is_weak(stems) else self._phrases
                found = index.setdefault(stems[0], {})
                found[stems] = found.get(stems, 0) | known.describe(meaning)
        self._sizes = {key(name): measures for name, measures in sizes.items()}
        for index, thing in enumerate(known.things):
            measures: Mapping[str, float] = dict(zip(NUMBERS, thing.numbers, strict=True))
            for name in thing.variants:
                self._names[key(name)] = self._names.get(key(name), 0) | 1 << index
                self._sizes.setdefault(key(name), measures)

    def read(self, question: str) -> Meaning:
        """Return the meaning of a question."""
        said = words(rewritten(question))
        if said[1:2] == ["not"]:
            del said[1]  # isn't it: asks the same as is it
        places = [place for place, word in enumerate(said) if word not in DROPPED]
        stems = [stem(said[place]) for place in places]
        parts, unknown = self._parts(said, places, stems, self._phrases)
        if not parts:
            parts, unknown = self._parts(said, places, stems, self._weak)
        for part in parts:  # a pencil sharpener is no pencil
            if part.is_guess and part.after in unknown:
                part.objects = 0
        parts = _heads(stems, parts)
        return Meaning(self._joined(stems, parts), bool(parts), tuple(said[places[at]] for at in unknown))

    def _parts(
        self, said: list[str], places: list[int], stems: list[str], phrases: _Index
    ) -> tuple[list[_Part], list[int]]:
        """Take a question apart by these phrases; also return the places of words that are in none."""
        best: list[tuple[float, list[_Part]]] = [(0.0, [])] + [(-1.0, [])] * len(stems)
        for at in range(len(stems)):  # best[at] is the best way to read the words before it
            worth, before = best[at]
            if worth > best[at + 1][0]:
                best[at + 1] = best[at]
            for part, more in self._beginning(said, places, stems, at, phrases):
                if worth + more > best[part.after][0]:
                    best[part.after] = (worth + more, [*before, part])
        parts = best[len(stems)][1]
        read = {at for part in parts for at in range(part.first, part.after)}
        unknown = [at for at in range(len(stems)) if at not in read and self._matters(said[places[at]])]
        return parts, unknown

    def _matters(self, word: str) -> bool:
        """Return whether a word that was passed over may change the answer."""
        return stem(word) not in SOFT and word not in COMPARED

    def _beginning(
        self, said: list[str], places: list[int], stems: list[str], at: int, phrases: _Index
    ) -> Iterator[tuple[_Part, float]]:
        """Yield the phrases that can begin here, with weights: long phrases mean more than the short ones in them."""
        compared = self._compared(said, places, at)
        if compared is not None:
            yield compared, float((compared.after - at + 1) ** 2)
        named = self._name(said, places, stems, at)
        if named is not None:
            yield named[1], named[0] ** 2 + 0.5
        for phrase, objects in phrases.get(stems[at], {}).items():
            after = _match(phrase, stems, at)
            if after is not None:
                content = sum(word not in SOFT or word in _PEOPLE for word in phrase)
                yield _Part(at, after, objects), content**2 + 0.1 * len(phrase) - 0.01 * (after - at)

    def _name(self, said: list[str], places: list[int], stems: list[str], at: int) -> tuple[int, _Part] | None:
        """Return the longest name of an object that is guessed here, with the number of its words."""
        before = said[: places[at]]
        described = all(word in _FRAME or stem(word) in self._phrases for word in before)
        if before and not _COPULAS & set(before):
            return None
        if not described or any(stem(word) in SOFT and word not in _FRAME for word in before):
            return None
        if said[places[at]] == "orange" and before[-1:] not in (["an"], ["the"]):
            return None  # the colour
        for length in range(min(_LONGEST_NAME, len(stems) - at), 0, -1):
            objects = self._names.get(tuple(stems[at : at + length]))
            if objects is not None:
                return length, _Part(at, at + length, objects, is_guess=True)
        return None

    def _compared(self, said: list[str], places: list[int], at: int) -> _Part | None:
        """Return the comparison that begins here."""
        counted = quantity(said)
        if counted is not None and counted[0] <= places[at] < counted[1]:
            after = next((index for index in range(at, len(places)) if places[index] >= counted[1]), len(places))
            return _Part(at, after, self._known.describe(counted[2]))
        column, sign = COMPARED.get(said[places[at]], (None, ""))
        if column is None or "than" not in said[places[at] :]:
            return None
        begin = said.index("than", places[at]) + 1
        rest = [index for index in range(at + 1, len(places)) if places[index] >= begin]
        for length in range(min(_LONGEST_NAME, len(rest)), 0, -1):
            measures = self._sizes.get(tuple(stem(said[places[index]]) for index in rest[:length]))
            if measures is not None:
                objects = self._known.describe(reference_meaning(column, sign, measures[column]))
                return _Part(at, rest[length - 1] + 1, objects)
        return None

    def _joined(self, stems: list[str], parts: list[_Part]) -> int:
        """Return the objects of which everything is true, or one of the things that are joined by `or`."""
        if not parts:
            return 0
        everything = self._known.everything
        for part in parts:
            before = [other.after for other in parts if other.after <= part.first]
            if NEGATIONS & set(stems[max(before, default=0) : part.first]):
                part.objects ^= everything
        links = [set(stems[left.after : right.first]) & {"or", ","} for left, right in pairwise(parts)]
        for place in reversed(range(len(links) - 1)):  # in `red, green or blue` the comma is an or, too
            if links[place] == {","} and "or" in links[place + 1]:
                links[place] = {"or"}
        result, current = everything, parts[0].objects
        for link, part in zip(links, parts[1:], strict=True):
            if "or" in link:
                current |= part.objects
            else:
                result, current = result & current, part.objects
        return result & current


def _heads(stems: list[str], parts: list[_Part]) -> list[_Part]:
    """Leave out words that describe a part of the object, as `long` in `have a long handle`."""
    kept, is_owned = list[_Part](), False
    for index, part in enumerate(parts):
        begins = index == 0 or parts[index - 1].after != part.first
        owner = {stems[part.first], stems[part.first - 1]} if part.first else {stems[0]}
        is_owned = bool(owner & _POSSESSIVE) or (is_owned and not begins)
        is_last = index == len(parts) - 1 or parts[index + 1].first != part.after
        if is_last or not is_owned:
            kept.append(part)
    return kept


def _is_weak(phrase: tuple[str, ...]) -> bool:
    """Return whether a phrase has only small words, and so counts only where nothing else was understood."""
    return SOFT.issuperset(phrase) and (len(phrase) == 1 or not _PEOPLE & set(phrase))


def _match(phrase: tuple[str, ...], stems: list[str], at: int) -> int | None:
    """Return the place after a phrase that begins here; words that say nothing may stand between its words."""
    for wanted in phrase:
        while at < len(stems) and stems[at] != wanted and stems[at] in SOFT and wanted is not phrase[0]:
            at += 1
        if at >= len(stems) or stems[at] != wanted:
            return None
        at += 1
    return at


@cache
def parser() -> Parser:
    """Return the packaged parser, the same one for all who ask.

    Raises:
        ValueError: a meaning in the tables cannot be read.
    """
    phrases = [(phrase, row["meaning"]) for row in rows(__file__, PHRASES) for phrase in row["phrases"].split("|")]
    sizes = {
        row["thing"]: {name: float(value) for name, value in row.items() if name != "thing"}
        for row in rows(__file__, SIZES)
    }
    return Parser(facts(), phrases, sizes)


@cache
def digest() -> str:
    """Return sixteen hexadecimal digits that stand for all tables that answers depend on."""
    content = [rows(__file__, name) for name in (OBJECTS, FACTS, WORDS, PHRASES, SIZES)]
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


@lru_cache(maxsize=65_536)
def meaning(question: str) -> Meaning:
    """Return the packaged parser's meaning of a question; each text is read once."""
    return parser().read(" ".join(question.split()[:LONGEST]))
