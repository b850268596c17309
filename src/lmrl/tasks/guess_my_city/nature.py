"""True answers about a city of Guess My City: its climate, its waters, mountains and dangers.

Every function takes a city and the meaning of a question, and returns the sentences that are equally good answers. A
name of only one city is confirmed or denied, but never named in answer to an open question.
"""

import re
from collections.abc import Callable

from lmrl.tasks.guess_my_city.cities import City, listed, plain, shared
from lmrl.tasks.guess_my_city.location import Answers, directions, either, located, sentence
from lmrl.tasks.guess_my_city.parser import Meaning
from lmrl.tasks.guess_my_city.places import belongs, places

_CLIMATES = {
    "tropical": "hot and humid all year",
    "monsoon": "hot, with a rainy season",
    "desert": "hot and very dry",
    "semiarid": "dry, with hot summers",
    "mediterranean": "sunny, with dry summers",
    "oceanic": "mild and often rainy",
    "humid": "humid, with hot summers",
    "continental": "hot in summer and cold in winter",
    "highland": "mild all year, because of the height",
}
_WEATHER: tuple[tuple[str, str, str], ...] = (
    (r"\bsnow|\bfreez|\bski", "", "cold"),
    (r"\bmediterranean", "mediterranean", ""),
    (r"\bsubtropical", "humid monsoon", ""),
    (r"\btropical", "tropical monsoon", ""),
    (r"\bmonsoon|\b(?:rainy|wet) (?:and|season)", "monsoon tropical", ""),
    (r"\bcontinental", "continental semiarid", ""),
    (r"\bdesert|\barid|\bdry\b", "desert semiarid", ""),
    (r"\bhumid", "tropical monsoon humid", ""),
    (r"\b(?:four|distinct|different) .*seasons", "continental oceanic humid mediterranean semiarid", ""),
    (r"\brain", "tropical monsoon oceanic humid", ""),
    (r"\bwarm all|\bhot all|\byear-round|\byear round|\ball year", "tropical monsoon", ""),
    (r"\btemperate|\bmild|\bmoderate", "oceanic mediterranean highland", ""),
    (r"\bcold|\bcool|\bcoat|\bchilly", "", "cold cool"),
    (r"\bsunny|\bsunshine", "mediterranean desert semiarid monsoon tropical", ""),
    (r"\bhot\b|\bwarm|\bheat", "tropical monsoon desert semiarid", "warm"),
)
_OCEANS = {
    "pacific": {"Yellow Sea", "East China Sea", "South China Sea", "Sea of Japan", "Java Sea", "Tasman Sea"},
    "indian": {"Arabian Sea", "Bay of Bengal"},
    "atlantic": {"Gulf of Mexico", "Gulf of Guinea", "Mediterranean Sea"},
}
_QUAKES = {"JP", "TW", "ID", "PH", "IR", "TR", "CL", "PE", "MX", "EC", "CO", "IT"}
_STORMS = {"PH", "TW", "JP", "HK", "VN"}


def climate(city: City, meaning: Meaning) -> Answers:
    """Confirm a kind of weather, or describe the climate."""
    kind, winter, text = city.own["climate"], city.own["winter"], meaning.text
    season = re.search(r"\b(winter|summer)\b.*\b(january|february|december|june|july|august)\b", text)
    if meaning.is_closed and season:
        is_northern_winter = season[2] in ("january", "february", "december")
        holds = (is_northern_winter == (season[1] == "winter")) == (city.latitude > 0)
        return either(holds, f"it is {season[1]} then", f"it is not {season[1]} then")
    said = f"the climate is {_CLIMATES[kind]}"
    if "winter" in text and not meaning.is_closed:
        return [f"The winters in my city are {winter}."]
    for pattern, kinds, winters in _WEATHER if meaning.is_closed else ():
        if re.search(pattern, text):
            fits = kind in kinds.split() or winter in winters.split()
            return either(fits, said, f"the winters are {winter}" if winters and not kinds else said)
    return [f"Yes, {said}."] if meaning.is_closed else [sentence(said), f"My city is {_CLIMATES[kind]}."]


def shown(values: tuple[str, ...], column: str) -> str | None:
    """Return the first of the values that does not single out a city."""
    return next((value for value in values if value in shared(column)), None)


def water(city: City, meaning: Meaning) -> Answers:
    """Answer about the sea and other water."""
    text, sea = meaning.text, shown(city.seas, "seas")
    on = f"it is on the coast of the {sea}" if sea else "it is on the coast"
    named = [(kind, name) for kind, name in places(text) if kind != "city"]
    if "country" in text and not re.search(r"\b(?:of|in) (?:the|your|its) country", text):
        return _country_coast(city, named)
    if meaning.is_closed and named and not all(_waters(city, kind, name) for kind, name in named):
        is_choice = re.search(r"\bor\b", text) and any(_waters(city, kind, name) for kind, name in named)
        return either(True, "it is located there", "") if is_choice else located(False)
    ways = [way for way in directions(text) if way != "centre"]
    if meaning.is_closed and ways and re.search(r"\bcoast|\bshore", text) and city.seas:
        american = {"Pacific Ocean": "west", "Atlantic Ocean": "east"}
        if not re.search(r"\bsea\b|\bocean\b", text) and any(kind not in ("country", "region") for kind, _ in named):
            return ["It is on the coast, but I cannot tell on which side."]
        holds = all(way in city.part or way in map(american.get, city.seas) for way in ways)
        return either(holds, on, "it is on another coast")
    if re.search(r"\bbod(?:y|ies) of water|\bwaterways?|\bwater\b|\briver|\blake", text):
        return _any_water(city, meaning.is_closed, on)
    if meaning.is_closed and "inland" in text and not re.search(r"\bcoast|\bor\b", text):
        return either(not city.seas, "it is located inland", on)
    if meaning.is_closed:
        return either(bool(city.seas), on, "it is not on the coast")
    return [f"My city{on[2:]}."] if city.seas else ["My city is not on the coast."]


def _waters(city: City, kind: str, name: str) -> bool:
    """Tell whether the city lies at a named sea or in a named place."""
    seas = next((seas for ocean, seas in _OCEANS.items() if name in (ocean, f"{ocean} ocean")), set())
    return belongs(city, kind, name) or bool(seas & set(city.seas))


def _country_coast(city: City, named: list[tuple[str, str]]) -> Answers:
    """Tell whether the country has a coast, on the named seas."""
    coasts = {plain(sea) for sea in listed(city.land["coasts"])}
    coasts |= {sea.removesuffix(" ocean").removesuffix(" sea") for sea in coasts}
    holds = all(name in coasts or belongs(city, kind, name) for kind, name in named) if named else bool(coasts)
    return either(holds, "my country has such a coast", "my country has no such coast")


def _any_water(city: City, is_closed: bool, on: str) -> Answers:
    """Name whatever water there is."""
    found = [on] if city.seas else []
    found += ["it is on a river"] if city.rivers else []
    found += ["it is near a lake"] if city.lakes else []
    if is_closed:
        return [f"Yes, {said}." for said in found] or ["No, it is not near any large body of water."]
    return [f"My city{said[2:]}." for said in found] or ["My city is not near any large body of water."]


_NO_DETAIL = "I cannot tell it that exactly."
_PLAIN = "a|the|any|major|large|big|main|famous|great|high|same|this|well-known|or|and|of|near"
"""Words before the name of a kind of thing that are no names."""


def _feature(column: str, noun: str, has: str, lacks: str) -> Callable[[City, Meaning], Answers]:
    """Return the function that answers about rivers, lakes, mountains or islands, a column of the table."""

    def answer(city: City, meaning: Meaning) -> Answers:
        values = listed(city.own[column])
        named = [(kind, name) for kind, name in places(meaning.text) if kind != "city"]
        generic = rf"\b(?!(?:{_PLAIN})\b)[a-z'-]+(?: [a-z'-]+)? {noun}\b"
        if column == "island" and "coast" in meaning.text:
            return water(city, meaning)
        if meaning.is_closed and named and re.search(r"\b(?:side|bank|upper|lower)\b", meaning.text):
            return [_NO_DETAIL]
        if meaning.is_closed and named:
            fits = [belongs(city, kind, name) for kind, name in named]
            holds = any(fits) if re.search(r"\bor\b", meaning.text) else all(fits)
            is_own = any(kind == noun for kind, _ in named) or bool(values)
            return either(holds and is_own, "that is right", "that is not right")
        if meaning.is_closed and re.search(rf"(?:of|the) {generic}|\bmount [a-z]+", meaning.text):
            return ["No, that is not right."]
        if meaning.is_closed:
            return either(bool(values), has, lacks)
        name = shown(values, column)
        own = sentence(has) if name is None else f"The name is {name}."
        return [own] if values else [sentence(lacks)]

    return answer


river = _feature("rivers", "river", "a river runs through my city", "there is no large river in my city")
lake = _feature("lakes", "lake", "there is a lake in or near my city", "there is no large lake near my city")
island = _feature("island", "island", "my city is on an island", "my city is not on an island")
_mountains = _feature(
    "mountains", "mountain", "there are mountains near my city", "there are no mountains near my city"
)


def mountains(city: City, meaning: Meaning) -> Answers:
    """Answer about mountains, hills and valleys."""
    if meaning.is_closed and "valley" in meaning.text:
        return either(
            bool(city.mountains) and city.elevation > 400, "it lies in a valley", "it does not lie in a valley"
        )
    return _mountains(city, meaning)


def elevation(city: City, meaning: Meaning) -> Answers:
    """Tell roughly the height above the sea."""
    bands = {
        2000: "more than 2000",
        1000: "more than 1000",
        500: "more than 500",
        100: "some hundred",
        -100: "only a few",
    }
    height = next(words for least, words in bands.items() if city.elevation >= least)
    low = re.search(r"\blow\b|\bbelow\b|\bat sea level", meaning.text)
    if meaning.is_closed:
        is_so = city.elevation < 100 if low else city.elevation >= 700
        return [f"{'Yes' if is_so else 'No'}, it lies {height} metres above the sea."]
    return [f"It lies {height} metres above the sea.", f"My city lies {height} metres above the sea."]


def disaster(city: City, meaning: Meaning) -> Answers:
    """Tell whether earthquakes or storms are common."""
    code, text = "HK" if city.name == "Hong Kong" else city.land["code"], meaning.text
    quakes = code in _QUAKES or "earthquakes" in city.themes
    storms = code in _STORMS or bool({"typhoons", "hurricanes"} & city.themes)
    if "typhoon" in text or "hurricane" in text:
        return either(storms, "there are such storms", "such storms are not common")
    holds = quakes if "earthquake" in text else quakes or storms or "floods" in city.themes
    return either(holds, "there is such a danger", "that is not common")
