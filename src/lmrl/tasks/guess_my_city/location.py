"""True answers about a city of Guess My City: which it is, where it lies, and how large and old it is.

Every function takes a city and the meaning of a question, and returns the sentences that are equally good answers.
"""

import math
import re
from dataclasses import replace

from lmrl.tasks.guess_my_city.cities import City, cities, listed
from lmrl.tasks.guess_my_city.guesses import guessed, guessed_text
from lmrl.tasks.guess_my_city.parser import Meaning
from lmrl.tasks.guess_my_city.places import belongs, is_adjective, normalised, places, without_places

UNSURE = "I am not sure about that."
SECRET_CITY = "I cannot reveal the name of my city."
SECRET_COUNTRY = "I cannot reveal the name of my country."
CONFIRMED = "Yes, the city I am from is {name}."
DENIED = "No, the city I am from is not {name}."

Answers = list[str]


def either(holds: bool, yes: str, no: str) -> Answers:
    """Return the answer to a closed question."""
    return [f"Yes, {yes}."] if holds else [f"No, {no}."]


def sentence(said: str) -> str:
    """Return words as a sentence; names in them keep their capitals."""
    return f"{said[0].upper()}{said[1:]}."


def yes_or_no(answer: str) -> str:
    """Return `Yes.` if an answer begins with yes, otherwise `No.`, as the published environment reads answers."""
    return "Yes." if re.match(r"yes\b", answer.strip().lower()) else "No."


def guess(city: City, meaning: Meaning) -> Answers:
    """Confirm or deny a city."""
    named = guessed(meaning.text)
    if named is city:
        return [CONFIRMED.format(name=city.name)]
    shown = named.name if named is not None else (guessed_text(meaning.text) or "that one").title()
    return [DENIED.format(name=shown)]


def name(_city: City, _meaning: Meaning) -> Answers:
    """Refuse the name of the city."""
    return [SECRET_CITY]


def country(_city: City, _meaning: Meaning) -> Answers:
    """Refuse the name of the country."""
    return [SECRET_COUNTRY]


def nickname(_city: City, _meaning: Meaning) -> Answers:
    """Refuse the nickname, which would give the city away."""
    return ["I cannot tell its nickname, which would give my city away."]


def continent(city: City, meaning: Meaning) -> Answers:
    """Name the continent, or confirm it."""
    if meaning.is_closed and (named := places(meaning.text)):
        return located(any(belongs(city, kind, name) for kind, name in named))
    where = city.regions[0]
    return [f"My city is located in {where}.", f"It is located in {where}."]


def hemisphere(city: City, meaning: Meaning) -> Answers:
    """Answer about hemispheres, equator, tropics and meridian."""
    text, north, east = meaning.text, city.latitude > 0, city.longitude > 0
    if "equator" in text and not re.search(r"\b(?:north|south|above|below)", text):
        return either(abs(city.latitude) < 15, "it is close to the equator", "it is far from the equator")
    if "tropic" in text:
        return either(abs(city.latitude) < 23.4, "it lies in the tropics", "it lies outside the tropics")
    sides = {"north": north, "above": north, "south": not north, "below": not north, "east": east, "west": not east}
    asked = [holds for word, holds in sides.items() if re.search(rf"\b{word}", text)]
    if meaning.is_closed and asked:
        return either(all(asked), "it is", "it is not")
    return [f"It is in the {'northern' if north else 'southern'} hemisphere."]


def founded(city: City, meaning: Meaning) -> Answers:
    """Tell how old the city is, or compare."""
    year = city.founded
    if year < 100:
        age = "is more than 2000 years old" if year < 20 else "is almost 2000 years old"
    else:
        century = (year + 99) // 100
        ending = {1: "st", 2: "nd", 3: "rd"}.get(century % 10 if century // 10 != 1 else 0, "th")
        age = f"has been a city since the {century}{ending} century"
    if not meaning.is_closed:
        return [f"My city {age}.", f"It {age}."]
    years = re.search(r"(\d{3,4}) years", meaning.text)
    if years:
        return [f"{'Yes' if 2024 - year > int(years[1]) else 'No'}, it {age}."]
    in_century = re.search(r"(\d{1,2})(?:st|nd|rd|th) century", meaning.text)
    if in_century:
        return [f"{'Yes' if (year + 99) // 100 == int(in_century[1]) else 'No'}, it {age}."]
    return [f"{'Yes' if year < 1200 else 'No'}, it {age}."]


def history(city: City, meaning: Meaning) -> Answers:
    """Tell how old the city is, as the first thing about its history."""
    said = founded(city, replace(meaning, is_closed=False))
    return [f"Yes, {text[0].lower()}{text[1:]}" for text in said] if meaning.is_closed else said


def former(city: City, meaning: Meaning) -> Answers:
    """Tell whether the city had another name, but not which."""
    had = bool(listed(city.own["former"]))
    yes, no = "it had another name in the past", "it had no other name in the past"
    return either(had, yes, no) if meaning.is_closed else [sentence(yes if had else no)]


def rank(city: City, meaning: Meaning) -> Answers:
    """Tell the city's place among the cities of its country, or of the world."""
    number = int(city.own["rank"] or 9)
    words = {"second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4, "fifth": 5, "5th": 5}
    asked = next((place for word, place in words.items() if word in meaning.text), 1)
    if re.search(r"\b(?:world|one of the|asia|europe|africa|among the)\b", meaning.text):
        return either(
            number <= 3 or city.population > 5_000_000, "it is one of the largest cities", "others are larger"
        )
    is_regional = any(kind == "province" and belongs(city, kind, name) for kind, name in places(meaning.text))
    if is_regional or re.search(r"\b(?:province|state|region)\b", meaning.text):
        largest = city.own["regional_capital"] == "yes" or city.population > 3_000_000
        return either(largest, "it is the largest city of its region", "it is not the largest city of its region")
    names = {1: "the largest city", 2: "the second largest city", 3: "the third largest city"}
    said = (
        f"it is {names[number]} of my country" if number in names else "there are several larger cities in my country"
    )
    if meaning.is_closed:
        return [f"{'Yes' if number == asked else 'No'}, {said}."]
    return [f"{said[0].upper()}{said[1:]}."]


def population(city: City, meaning: Meaning) -> Answers:
    """Compare the number of inhabitants, or tell it roughly."""
    text, people = meaning.text, city.population
    limit = re.search(r"\b(\d+(?:\.\d+)?|half a|one|two|three|four|five|ten|twenty|a) ?(million|billion|\d{3,})?", text)
    said = f"it has {roughly(people)} inhabitants"
    if meaning.is_closed and limit and (limit[2] or (limit[1].isdigit() and int(limit[1]) > 999)):
        below = re.search(r"\b(?:below|less|fewer|under|smaller|not more)\b", text) is not None
        return [f"{'Yes' if (people < amount(limit[1], limit[2])) == below else 'No'}, {said}."]
    if meaning.is_closed:
        is_small = re.search(r"\bsmall\b|\btiny\b|\blow\b", text) is not None
        return [f"{'Yes' if (people < 1_000_000) == is_small else 'No'}, {said}."]
    return [f"My city has {roughly(people)} inhabitants.", f"It has {roughly(people)} people."]


def roughly(people: int) -> str:
    """Say roughly how many people live in a city."""
    least = next((millions for millions in (10, 5, 3, 1) if people >= millions * 1e6), None)
    return "less than a million" if least is None else f"more than {least} million"


def amount(number: str, unit: str | None) -> float:
    """Return the number that a question names."""
    words = {"half a": 0.5, "a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "ten": 10, "twenty": 20}
    value = words[number] if number in words else float(number)
    return value * (1e9 if unit == "billion" else 1e6 if unit == "million" else 1)


def capital(city: City, meaning: Meaning) -> Answers:
    """Tell whether the city is the capital, of a country that is named if that is the right one."""
    wrong = [n for kind, n in places(meaning.text) if kind != "city" and not belongs(city, kind, n)]
    own = [(k, n) for k, n in places(meaning.text) if k == "province" and belongs(city, k, n)]
    if own and not any(kind == "country" for kind, _ in places(meaning.text)):
        return regional(city, meaning)
    return either(city.is_capital and not wrong, "it is the capital of its country", "it is not the capital")


def regional(city: City, meaning: Meaning) -> Answers:
    """Tell whether the city is the capital of its province or state."""
    wrong = [n for kind, n in places(meaning.text) if not belongs(city, kind, n)]
    is_regional = city.own["regional_capital"] == "yes" and not wrong
    return either(is_regional, "it is the capital of its region", "it is not the capital of a region")


def located(holds: bool) -> Answers:
    """Say whether the city lies in a place that was named."""
    return (
        ["Yes, my city is located there.", "Yes, it is located there."]
        if holds
        else ["No, my city is not located there.", "No, it is not located there."]
    )


def place(city: City, meaning: Meaning) -> Answers:
    """Confirm a place or a part of the country, or tell the region."""
    text = meaning.text
    if not meaning.is_closed:
        part = city.part
        if part and re.search(r"\bpart\b|\bside\b|\bwhere\b", text):
            return [f"My city is in the {part} of the country.", f"It lies in the {part} of my country."]
        return [f"My city is located in {region}." for region in city.regions[1:2] or city.regions]
    text = normalised(text)
    if re.search(r"\b(?:near|close|nearby|proximity|distance|outskirts|suburbs?)\b", text):
        return near(city, text)
    if any(kind == "city" and not belongs(city, kind, name) for kind, name in places(text)) or strange(city, text):
        return located(False)
    named = places(text)
    there = [belongs(city, kind, name) for kind, name in named if not (len(places(text)) > 1 and is_adjective(name))]
    if there and not (any(there) if re.search(r"\b(?:or|either)\b", text) else all(there)):
        return located(False)
    asked = directions(without_places(text))
    if asked and city.part:
        if any(belongs(city, kind, name) and kind == "province" for kind, name in named) and not re.search(
            "countr", text
        ):
            return ["It is in that region, but I cannot tell in which part."]
        said = f"it is in the {city.part} of the country"
        return [f"{'Yes' if all(way in city.part for way in asked) else 'No'}, {said}."]
    return located(bool(there))


def near(city: City, text: str) -> Answers:
    """Tell whether the city is near a place: it lies in it, or is another city less than 120 kilometres away."""
    named = [(kind, name) for kind, name in places(text)]
    others = [other for other in cities() for kind, name in named if kind == "city" and belongs(other, kind, name)]
    if any(kind == "city" for kind, _ in named) and not others:
        return [UNSURE]
    holds = all(kilometres(city, other) < 120 for other in others)
    return located(holds and all(belongs(city, kind, name) for kind, name in named if kind != "city"))


def kilometres(one: City, other: City) -> float:
    """Return the distance of two cities, along the sphere."""
    (north, east), (up, right) = ((math.radians(c.latitude), math.radians(c.longitude)) for c in (one, other))
    cosine = math.sin(north) * math.sin(up) + math.cos(north) * math.cos(up) * math.cos(east - right)
    return 6371 * math.acos(min(1.0, cosine))


_UNITS = (
    r"(?:states?|provinces?|regions?|departments?|districts?|governorates?|prefectures?|county|peninsula|oblast|island)"
)


def strange(city: City, text: str) -> bool:
    """Tell whether a text names a province or the like that is not the city's: `the state of X`, `the X region`."""
    words = re.findall(rf"\b{_UNITS} of ((?!its|your|the|a|an|this)[a-z'-]+)|\bthe ([a-z'-]+) {_UNITS}\b", text)
    known = " ".join(name for kind, name in places(text) if belongs(city, kind, name))
    names = [name for pair in words for name in pair if name]
    return any(name not in known and not re.search(_PLAIN_WORDS, name) for name in names)


_PLAIN_WORDS = (
    r"^(?:north|south|east|west|centr|capital|same|main|coastal|interior|middle|whole|highland|mountain|tropic|"
    r"administrative|autonomous|metropolitan|own|largest|province|region|country|greater|desert|following|arid)"
)


def directions(text: str) -> list[str]:
    """Return the directions that a question names, without those of names such as South America."""
    words = re.findall(
        r"\b(north|south|east|west|centr|middle|interior)(?:ern|al|e|er|re)?(north|south|east|west)?(?:ern)?\b"
        r"(?! (?:korea|america|africa|asia|china sea))",
        text,
    )
    parts = [part for pair in words for part in pair if part]
    return ["centre" if part in ("centr", "middle", "interior") else part for part in parts]
