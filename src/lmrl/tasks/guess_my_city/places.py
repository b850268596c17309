"""Places that questions of Guess My City name, and which of them a city belongs to."""

import re
from collections.abc import Callable
from functools import cache

from lmrl.envs.tables import rows
from lmrl.tasks.guess_my_city.cities import City, cities, listed, plain

_DIRECTIONS = {"northern": "north", "southern": "south", "eastern": "east", "western": "west"}
_ALIASES = {
    "south-east asia": "southeast asia",
    "southeastern asia": "southeast asia",
    "far east": "east asia",
    "near east": "middle east",
    "american continent": "americas",
    "maghreb": "north africa",
    "sub saharan africa": "sub-saharan africa",
    "indian sub-continent": "indian subcontinent",
    "south-eastern europe": "southeastern europe",
    "northeastern asia": "northeast asia",
    "balkan": "balkans",
    "australian continent": "australia",
}
_ELSEWHERE = (
    *("antarctica", "scandinavia", "nordic countries", "arabian peninsula", "the gulf states", "baltic states"),
    *("benelux", "micronesia", "polynesia", "southern africa", "middle africa", "northwest africa", "caucasus"),
    *("northern america", "central africa"),
)
_CONTINENTS = ("north america", "south america", "central america", "europe", "africa", "asia", "america")


@cache
def _common_words() -> frozenset[str]:
    """Return words that are names of places too, or left of them, but hardly ever meant so."""
    return frozenset(row["word"] for row in rows(__file__, "common.csv") if row["of"] == "places")


def _regions(city: City) -> set[str]:
    """Return all regions of the world that a city belongs to, in plain letters."""
    names = {plain(region) for region in city.regions}
    if any("america" in name for name in names) or "caribbean" in names:
        names |= {"americas", "america"}
    if names & {"europe", "asia"}:
        names.add("eurasia")
    if city.name == "Istanbul":
        names |= {"europe", "southeastern europe", "eastern europe"}
    if set(city.seas) & {"Mediterranean Sea", "Aegean Sea"} or city.country in {"Italy", "Spain", "Turkey", "Egypt"}:
        names |= {"mediterranean", "mediterranean region", "mediterranean country"}
    for direction, short in _DIRECTIONS.items():
        names |= {name.replace(short, direction) for name in names if name.startswith(f"{short} ")}
        names |= {name.replace(direction, short) for name in names if name.startswith(f"{direction} ")}
    return names


def _countries(city: City) -> set[str]:
    """Return all names of a city's country, its adjectives too."""
    return {plain(name) for name in (*city.country_names, *listed(city.land["adjectives"]))}


def _provinces(city: City) -> set[str]:
    """Return the names of a city's province, with and without the word for its kind."""
    name = plain(city.own["province"])
    short = re.sub(r" (province|state|district|governorate|metropolis|municipality|region|federal district)$", "", name)
    return {word for word in (name, short) if word and word not in _common_words()}


def _named(column: str, ending: str) -> Callable[[City], set[str]]:
    """Return the reader of the names in a column of the table, with and without the word for their kind."""

    def names(city: City) -> set[str]:
        full = {plain(name) for name in listed(city.own[column])}
        return full | {re.sub(ending, "", name) for name in full}

    return names


_OF: dict[str, Callable[[City], set[str]]] = {
    "sea": _named("seas", r" (sea|ocean)$"),
    "river": _named("rivers", r" (river|delta)$"),
    "lake": _named("lakes", r"^lake | lake$"),
    "mountain": _named("mountains", r"^(mount|sierra) | (mountains?|highlands)$"),
    "island": _named("island", r" island$"),
    "region": _regions,
    "province": _provinces,
    "country": _countries,
    "city": lambda city: {plain(name) for name in city.names},
}
"""For each kind of place the names of those that a city belongs to; of equal names the first kind counts."""
_COUNTRYWIDE = {"Andes": {"Colombia", "Peru", "Chile", "Ecuador", "Venezuela", "Argentina"}}


@cache
def _of(city: City, kind: str) -> frozenset[str]:
    return frozenset(_OF[kind](city))


@cache
def _gazetteer() -> tuple[dict[str, str], re.Pattern[str]]:
    """Return the kind of each known name, and a pattern that finds them, the longest first."""
    kinds: dict[str, str] = {}
    for row in rows(__file__, "world.csv"):
        kinds[plain(row["name"])] = row["kind"]
    kinds |= dict.fromkeys(("england", "scotland", "uae", "holland", "korea"), "country")
    for kind in reversed(_OF):
        kinds |= dict.fromkeys((name for city in cities() for name in _of(city, kind)), kind)
    kinds |= dict.fromkeys((*_ELSEWHERE, *_ALIASES, *_CONTINENTS), "region")
    for word in _common_words():
        kinds.pop(word, None)
    ordered = sorted(filter(None, kinds), key=len, reverse=True)
    return kinds, re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, ordered))})(?![\w-])")


def normalised(text: str) -> str:
    """Return plain text in which `the southern part of Asia` reads `southern asia`."""
    continents = "|".join(_CONTINENTS)
    text = re.sub(r"\b(europe|asia|africa)a?n\b", r"\1", text)
    text = re.sub(r"\b(north|south|latin|central) americans?\b", r"\1 america", text)
    text = re.sub(rf"\b(central|\w+ern) (or|and) (\w+ern|central) ({continents})\b", r"\1 \4 \2 \3 \4", text)
    text = re.sub(rf"\b(\w+ern) (?:part|region|half|area) of (?:the continent of )?({continents})\b", r"\1 \2", text)
    text = re.sub(r"\b(central) (?:part|region) of (europe|asia|africa)\b", r"\1 \2", text)
    return re.sub(r"\bthe united states(?: of america)?\b|\bthe (?:us|usa)\b|\bin us\b", "in usa", text)


@cache
def places(text: str) -> tuple[tuple[str, str], ...]:
    """Return kind and name of each place in a plain text, in the order of their mention."""
    kinds, pattern = _gazetteer()
    return tuple((kinds[found], str(_ALIASES.get(found, found))) for found in pattern.findall(normalised(text)))


def without_places(text: str) -> str:
    """Return a plain text without the names of places."""
    return _gazetteer()[1].sub("", normalised(text))


def belongs(city: City, kind: str, name: str) -> bool:
    """Tell whether a city belongs to a place, which may be of another kind than it was taken for."""
    if any(name in _of(city, other) for other in _OF):
        return True
    return kind == "mountain" and city.country in _COUNTRYWIDE.get(name.title(), ()) and bool(city.mountains)


def is_adjective(name: str) -> bool:
    """Tell whether a name is only an adjective (`chinese`), which says little about where a city lies."""
    nouns = {plain(name) for city in cities() for name in city.country_names}
    return name not in nouns and any(name in map(plain, listed(city.land["adjectives"])) for city in cities())
