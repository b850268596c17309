"""True answers about a city of Guess My City: its life, sights, industries and fame.

Every function takes a city and the meaning of a question, and returns the sentences that are equally good answers. A
fact of only one city or country is confirmed or denied, but never named in answer to an open question.
"""

import re
from collections.abc import Callable

from lmrl.tasks.guess_my_city.cities import UNIVERSAL, City, cities, common, listed, plain, themes
from lmrl.tasks.guess_my_city.location import Answers, either, sentence
from lmrl.tasks.guess_my_city.parser import Meaning
from lmrl.tasks.guess_my_city.places import belongs, is_adjective, places


def olympics(city: City, meaning: Meaning) -> Answers:
    """Tell whether the city hosted the games."""
    holds = city.name == "Beijing" if "winter" in meaning.text else "olympics" in city.themes
    return either(holds, "my city has hosted the games", "my city has not hosted the games")


def _one_of(sentence: str, values: Callable[[City], tuple[str, ...]], none: str) -> Callable[[City, Meaning], Answers]:
    """Return the function that answers with one entry of a list."""

    def answer(city: City, meaning: Meaning) -> Answers:
        said = [sentence.format(value=value) for value in values(city)] or [none]
        return [f"Yes, {text[0].lower()}{text[1:]}" for text in said] if meaning.is_closed else said

    return answer


def _landmarks(city: City) -> tuple[str, ...]:
    """Return the kinds of the city's landmarks, if possible those that three cities have."""
    kinds = dict.fromkeys(kind for kind, _ in city.landmarks)
    often = [kind for kind in kinds if sum(kind in dict(other.landmarks) for other in cities()) >= 3]
    return tuple(f"an {kind}" if kind[0] in "aeio" else f"a {kind}" for kind in (often or kinds))


def _known(city: City) -> tuple[str, ...]:
    """Return the themes that this city shares with at least two others."""
    counts = {theme: sum(theme in other.known_for for other in cities()) for theme in city.known_for}
    return tuple(themes()[theme].phrase for theme, count in counts.items() if count >= 3)


def _national(column: str) -> Callable[[City], tuple[str, ...]]:
    """Return the reader of a column of the city's country, without values of only one country."""
    return lambda city: tuple(value for value in listed(city.land[column]) if value in common(column))


food = _one_of("People in my city eat a lot of {value}.", _national("staples"), "People eat many things.")
drinks = _one_of("A popular drink is {value}.", _national("drinks"), "There is a strong drink of its own.")
festival = _one_of(
    "An important festival is {value}.", _national("festivals"), "The important festivals are religious."
)
sport = _one_of("A popular sport is {value}.", _national("sports"), "People like many sports.")
clothing = _one_of("A traditional garment is the {value}.", _national("clothing"), "The old clothes are for feasts.")
landmark = _one_of("A famous landmark in my city is {value}.", _landmarks, "")
industry = _one_of(
    "An important industry is {value}.", lambda city: tuple(i.replace("_", " ") for i in city.industries), ""
)
about = _one_of("My city is known for {value}.", _known, "My city is a large, old city.")


def transport(city: City, meaning: Meaning) -> Answers:
    """Name a means of transport."""
    said = "there is a metro in my city" if "metro" in city.themes else "people go by bus, train and car"
    return [f"Yes, {said}."] if meaning.is_closed else [sentence(said)]


_GENERIC = frozenset({"lively", "traditions", "historic", "tourism", "architecture", "nature", "sports", "islands"})


def theme(city: City, meaning: Meaning) -> Answers:
    """Tell whether the city is known for something that is named, or has it."""
    asked = [name for name in meaning.items if name not in _GENERIC] or list(meaning.items)
    is_there = re.search(
        r"\b(?:have|has|are there|is there|find|offer|exist|do people|do you|can (?:i|you|one))\b", meaning.text
    )
    known = city.themes | (UNIVERSAL if is_there or set(asked) <= _GENERIC else frozenset())
    fitting = [name for name in asked if name in known]
    elsewhere = any(
        kind in ("country", "province") and not belongs(city, kind, name) for kind, name in _nouns(meaning.text)
    )
    if meaning.is_closed and (elsewhere or not fitting):
        return ["No, my city is not known for that.", "No, it is not known for that."]
    phrase = themes()[(fitting or asked)[0]].phrase
    if not fitting:
        return [f"My city is not known for {phrase}."]
    return [f"Yes, my city is known for {phrase}."] if meaning.is_closed else [f"My city is known for {phrase}."]


def _nouns(text: str) -> tuple[tuple[str, str], ...]:
    """Return the countries and provinces that a text names, without adjectives."""
    return tuple((kind, name) for kind, name in places(text) if not is_adjective(name))


def thing(city: City, meaning: Meaning) -> Answers:
    """Tell whether a landmark, dish or festival that is named belongs to the city."""
    own = {plain(name) for _, name in city.landmarks}
    own |= {plain(name) for name in (*city.dishes, *city.local_dishes, *city.festivals, *city.local_festivals)}
    own |= {plain(name) for name in (*listed(city.land["drinks"]), *listed(city.land["clothing"]))}
    return either(any(name in own for name in meaning.items), "my city has that", "my city does not have that")
