"""The topic of a question of Guess My City."""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from lmrl.envs.tables import rows
from lmrl.tasks.guess_my_city.cities import cities, listed, plain, themes
from lmrl.tasks.guess_my_city.guesses import guessed, guessed_text
from lmrl.tasks.guess_my_city.places import places

_POLAR = re.compile(
    r"^(?:is|are|am|was|were|do|does|did|has|have|had|can|could|would|will|should|might|may|isn't|doesn't|i think|"
    r"it is|your city is|you are|so|there is)\b"
)
_POLITE = re.compile(
    r"^(?:(?:and|so|also|okay|ok|please|question \d+|question|next question|\d+|hmm|well) )*"
    r"(?:(?:can|could|would|will) you (?:please |kindly |also )?)"
    r"(?:tell me|tell us|share|describe|name|provide|give me|mention|say|elaborate on|explain)\b"
    r"(?: me| with me)?(?: more)?(?: (?P<whether>if|whether))?"
)
_LEAD = re.compile(r"^(?:(?:and|also|okay|ok|please|question \d+|question|next question|\d+|hmm|well|then) )+")


@cache
def _patterns(step: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Return the topics of a step of `topics.csv`, each with its pattern, in the order of the table."""
    return tuple(
        (row["topic"], re.compile(row["pattern"])) for row in rows(__file__, "topics.csv") if row["step"] == step
    )


def _topic(step: str, text: str) -> str | None:
    """Return the first topic of a step that a plain text belongs to."""
    return next((topic for topic, pattern in _patterns(step) if pattern.search(text)), None)


@dataclass(frozen=True)
class Meaning:
    """The topic of a question, with its details."""

    topic: str
    text: str
    """The question, cleaned, in plain letters."""
    is_closed: bool
    """Whether it expects yes or no."""
    items: tuple[str, ...] = ()
    """The themes, places or things that it names."""


def cleaned(question: str) -> tuple[str, bool]:
    """Return the question in plain letters, without prefaces, and whether it expects yes or no."""
    part = re.split(r"\n|: +(?=[\"']?[A-Za-z])", question.strip())[-1]
    text = _LEAD.sub("", plain(part if len(part.split()) > 2 else question))
    polite = _POLITE.match(text)
    if polite:
        rest = text[polite.end() :].strip()
        return rest, bool(polite["whether"])
    return text, bool(_POLAR.match(text))


@lru_cache(maxsize=4096)
def parse(question: str) -> Meaning | None:
    """Return the topic of a question, or `None` if it is not understood."""
    text, is_closed = cleaned(question)
    if not text:
        return None
    if guessed(question) is not None or _proposes_elsewhere(question):
        return Meaning("guess", text, True)
    first = _topic("first", text)
    return Meaning(first, text, is_closed) if first else _by_words(question, text, is_closed)


def _proposes_elsewhere(question: str) -> bool:
    """Tell whether a question proposes a city that is not in the game."""
    text = guessed_text(question)
    return text is not None and bool(places(text)) and places(text)[0] == ("city", text)


def _by_words(question: str, text: str, is_closed: bool) -> Meaning | None:
    """Decide by the words of the tables: named things, climate, geography, themes, lists, and places."""
    if is_closed and (named := things_in(text)):
        return Meaning("thing", text, True, named)
    found = themes_in(text)
    fame = set(found) if _FAME.search(text) else set()
    if topic := (None if fame else _topic("climate", text)):
        return Meaning(topic, text, is_closed)
    if topic := (None if fame - _NATURAL else _topic("geography", text)):
        return Meaning(topic, text, is_closed, tuple(name for _, name in places(text)))
    if is_closed and not found and _DIRECTION.search(text):
        return Meaning("place", text, True)
    topic = _topic("list", text)
    if topic and not set(found) - VAGUE.get(topic, frozenset()):
        return Meaning(topic, text, is_closed, found)
    return Meaning("theme", text, is_closed, found) if found else _by_places(question, text, is_closed)


def _by_places(question: str, text: str, is_closed: bool) -> Meaning | None:
    """Classify a question without a theme: a place, the city in general, or a name that nobody knows."""
    if _WHERE.search(text) or (is_closed and places(text)):
        return Meaning("place", text, is_closed)
    if about := _topic("about", text):
        return Meaning(about, text, is_closed)
    proposed = guessed_text(question) if len(text.split()) < 12 else None
    is_name = proposed is not None and question.rstrip("?\"' \n").split()[-1][:1].isupper()
    return Meaning("guess", text, True) if is_name else None


_FAME = re.compile(r"\b(?:known|famous|renowned|noted|popular|home to|celebrated) (?:for|as)?")
_DIRECTION = re.compile(r"\b(?:north|south|east|west|central|cent(?:er|re)|middle|interior)")
_WHERE = re.compile(
    r"\b(?:where|location|located|situated|province|state|region|part of (?:the|your) country)\b|"
    r"\b(?:department|district|area|part) of\b"
)
_NATURAL = frozenset({"lakes", "mountains", "islands", "volcano", "deserts", "nature", "running"})
"""Themes that are geography as well."""
VAGUE = {
    "food": frozenset({"cuisine", "traditions", "lively"}),
    "drinks": frozenset({"traditions"}),
    "festival": frozenset({"traditions", "lively", "music", "art", "pilgrimage"}),
    "clothing": frozenset({"fashion", "textiles", "traditions", "lively"}),
    "landmark": frozenset(
        {"tourism", "historic", "monuments", "lively", "architecture", "pilgrimage", "nature", "traditions"}
    ),
    "sport": frozenset({"sports", "lively"}),
    "transport": frozenset({"transit"}),
    "industry": frozenset({"manufacturing", "business", "finance"}),
    "history": frozenset({"historic"}),
}
"""Themes that say no more than the topic of a list itself."""


@cache
def _theme_pattern() -> tuple[dict[str, tuple[str, ...]], re.Pattern[str], tuple[tuple[re.Pattern[str], str], ...]]:
    """Return the themes of each exact word, a pattern of those words, and patterns of words with any ending."""
    exact: dict[str, tuple[str, ...]] = {}
    open_ended: list[tuple[re.Pattern[str], str]] = []
    for theme in themes().values():
        for word in theme.words:
            if word.endswith("*"):
                open_ended.append((re.compile(rf"(?<![\w-]){re.escape(word[:-1])}\w*"), theme.name))
            else:
                exact[word] = (*exact.get(word, ()), theme.name)
    ordered = sorted(exact, key=len, reverse=True)
    return exact, re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, ordered))})(?![\w-])"), tuple(open_ended)


def themes_in(text: str) -> tuple[str, ...]:
    """Return the themes that a plain text names, the first mentioned first."""
    exact, pattern, open_ended = _theme_pattern()
    found = [(match.start(), theme) for match in pattern.finditer(text) for theme in exact[match[0]]]
    found += [(match.start(), theme) for words, theme in open_ended for match in words.finditer(text)]
    return tuple(dict.fromkeys(theme for _, theme in sorted(found)))


@cache
def _things() -> tuple[dict[str, tuple[str, ...]], re.Pattern[str]]:
    """Return names of landmarks, dishes and the like, each with all that it may stand for, and their pattern."""
    stands: dict[str, tuple[str, ...]] = {}
    for city in cities():
        values = [*(name for _, name in city.landmarks), *city.dishes, *city.local_dishes]
        values += [*city.festivals, *city.local_festivals, *listed(city.land["drinks"]), *listed(city.land["clothing"])]
        for name in map(plain, values):
            for short in {name, _GENERIC.sub("", name).strip()}:
                if len(short) > 4 or short == name:
                    stands[short] = tuple(dict.fromkeys((*stands.get(short, ()), name)))
    stands = {short: names for short, names in stands.items() if not _is_common(short)}
    ordered = sorted(stands, key=len, reverse=True)
    return stands, re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, ordered))})(?![\w-])")


def _is_common(short: str) -> bool:
    """Tell whether the name of a thing is a word that means other things as well."""
    exact, _, open_ended = _theme_pattern()
    is_theme = short in exact or any(pattern.fullmatch(short) for pattern, _ in open_ended)
    return is_theme or short in _common_words() or places(short)[:1] in {((kind, short),) for kind, _ in places(short)}


_GENERIC = re.compile(
    r"^(?:the|mount|grand|great|national|old|royal) |"
    r" (?:tower|temple|museum|palace|mosque|square|park|bridge|market|beach|street|church|cathedral|fort|fortress|"
    r"castle|garden|gardens|hill|lake|river|festival|theatre|theater|gate|gates|avenue|mausoleum|complex)$"
)


@cache
def _common_words() -> frozenset[str]:
    """Return words that are left of names of things, but mean no thing alone."""
    return frozenset(row["word"] for row in rows(__file__, "common.csv") if row["of"] == "things")


def things_in(text: str) -> tuple[str, ...]:
    """Return the full names of the landmarks, dishes and festivals that a plain text names."""
    stands, pattern = _things()
    return tuple(dict.fromkeys(name for found in pattern.findall(text) for name in stands[found]))
