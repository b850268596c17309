"""Names in Guess My City: guesses, and answers that give the secret away."""

import re
import unicodedata
from functools import cache, lru_cache

from lmrl.tasks.guess_my_city.cities import City, cities, listed, plain

_OPENER = (
    r"(?:(?:so|well|ok|okay|then|hmm|and|but|now|maybe|perhaps|question|final|finally) )*"
    r"(?:(?:i think|i guess|i would guess|i'd guess|i believe|i bet|let me guess|tell me|my(?: final)? guess is)"
    r"(?: that)? )?"
)
_YOU = r"(?:(?:that |where |which )?(?:you are|you're|you)(?: come| came| live| grew up)?(?: from| in)? ?)"
_PLACE = (
    r"(?:it|this|that|the answer|(?:your|the|this)(?: home| own| secret| mystery)?(?: ?city| ?town|town| place| home))"
)
_FILLER = r"(?:be |called |named |known as |the city of |actually |really |perhaps |maybe |indeed |possibly )*"
_GUESS = re.compile(
    rf"^{_OPENER}(?:"
    rf"(?:is|was|could|can|would|might|may|does) {_PLACE} {_YOU}*{_FILLER}"
    r"|(?:are|do|did|would|could|might|were) you (?:be |come |live |reside |hail |born )*(?:from |in )"
    r"(?:the city of )?"
    rf"|(?:it is|it's|that is|that's|it must be|it has to be|you are from|you're from|you live in|you come from) "
    r"(?:the city of )?"
    rf"|{_PLACE} {_YOU}*(?:is|must be) |my (?:final )?guess is "
    r")(?P<rest>[a-z].*)$"
)
_TAIL = re.compile(
    r"(?: (?:the )?capital(?: city)?(?: of .*)?|"
    r"(?: (?:then|right|correct|perhaps|maybe|by any chance|am i right|am i correct|is that right|is that correct|"
    r"isn't it|is it|yes or no|aren't you))+)$"
)


@cache
def _calls() -> dict[str, City]:
    """Return the forms of a city at the end of a guess: a name, alone or with its country or province."""
    calls: dict[str, City] = {}
    for city in cities():
        for name in map(plain, city.names):
            calls |= dict.fromkeys((name, f"{name} city"), city)
            behind = {plain(other) for other in (*city.country_names, city.own["province"]) if other}
            for other in behind:
                calls |= dict.fromkeys((f"{name} {other}", f"{name} in {other}", f"{name} city {other}"), city)
    return calls


def guessed_text(question: str) -> str | None:
    """Return the city that a question proposes, in `plain` letters, or `None` if it is not a guess."""
    match = _GUESS.match(plain(question))
    return _TAIL.sub("", match["rest"]).removeprefix("the city of ") if match else None


@lru_cache(maxsize=2**16)
def guessed(question: str) -> City | None:
    """Return the city that a question proposes, or `None` if it proposes none of the hundred.

    A guess asks whether the city is one city and nothing else: `Is it X?`, `Is the city you are from X, Country?`, `Are
    you from X?`. Naming a city in another question (`Is it in the state of Rio de Janeiro?`) is no guess.
    """
    text = guessed_text(question)
    return None if text is None else _calls().get(text)


@cache
def _secrets(city: City) -> tuple[re.Pattern[str], ...]:
    """Return patterns of the names of the city and of its country; names in capitals are words only in capitals."""
    names = dict.fromkeys((*city.names, *listed(city.own["former"]), *city.country_names))
    groups = (([name for name in names if name.isupper()], 0), ([n for n in names if not n.isupper()], re.IGNORECASE))
    return tuple(
        re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(some, key=len, reverse=True)))})(?![\w-])", flags)
        for some, flags in groups
        if some
    )


def _ascii(text: str) -> str:
    """Return a text without accents."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def mentions(text: str, city: City) -> set[str]:
    """Return the names of the city and of its country that a text contains as whole words."""
    shown = re.sub(r"\b(north|south|latin|central) america", "", _ascii(text), flags=re.IGNORECASE)
    return {plain(name) for pattern in _secrets(city) for name in pattern.findall(shown)}


def cities_in(text: str) -> set[str]:
    """Return the canonical names of the cities of the game that a text names in any spelling."""
    words = f" {plain(text)} "
    return {city.name for city in cities() if any(f" {plain(name)} " in words for name in city.names)}


@lru_cache(maxsize=2**16)
def gives_away(reply: str, question: str, city: City) -> bool:
    """Tell whether a reply names the city or its country although the question does not.

    A name in the question may be confirmed, unless the question is a list: whoever names several cities would
    otherwise have the right one picked out.
    """
    told = mentions(reply, city)
    if not told:
        return False
    asked = mentions(question, city) if len(cities_in(question)) <= 1 else set()
    return not told <= asked
