"""True answers about a city of Guess My City that are one row each: a fact, or a choice of one value.

A topic of `topics.csv` is answered by the object of its name, here or in `location`, `country`, `nature` or `culture`:
a function of a city and the meaning of a question that returns the sentences which are equally good answers.
"""

import re
from collections.abc import Callable

from lmrl.tasks.guess_my_city.cities import City, plain
from lmrl.tasks.guess_my_city.location import Answers, either, sentence
from lmrl.tasks.guess_my_city.parser import Meaning

Answer = Callable[[City, Meaning], Answers]


def fact(holds: Callable[[City], bool], yes: str, no: str) -> Answer:
    """Answer with yes or no, whatever the form of the question."""
    return lambda city, _: either(holds(city), yes, no)


def choice(pattern: str, value: Callable[[City], str], is_named: Callable[[str, str], bool], *texts: str) -> Answer:
    """Confirm or deny a value that a closed question names, else tell the city's own.

    Args:
        pattern: finds values in a question.
        value: the city's own.
        is_named: whether a found value is the city's own.
        texts: answers, with the own value in place of `{}`; the last one confirms or denies.
    """

    def answer(city: City, meaning: Meaning) -> Answers:
        own = value(city)
        asked = re.findall(pattern, meaning.text) if meaning.is_closed else []
        said = [text.format(own) for text in texts]
        if asked:
            return either(any(is_named(found, own) for found in asked), said[-1], said[-1])
        return [sentence(text) for text in said]

    return answer


union = fact(
    lambda city: city.land["in_eu"] == "yes",
    "my country is in the European Union",
    "my country is not in the European Union",
)
soviet = fact(
    lambda city: city.land["in_soviet_union"] == "yes",
    "my country was part of the Soviet Union",
    "my country was not part of the Soviet Union",
)
monarchy = fact(
    lambda city: city.land["government"] == "monarchy", "my country has a monarch", "my country has no monarch"
)
communism = fact(
    lambda city: city.land["government"] == "communist",
    "a communist party rules my country",
    "no communist party rules my country",
)
continents = fact(
    lambda city: "twocontinents" in city.themes, "it lies in two continents", "it lies in one continent only"
)
oldcapital = fact(
    lambda city: bool({"empire", "ancient"} & {*city.known_for}) or city.is_capital or "capital" in city.own["former"],
    "it was a capital in earlier times",
    "it was never the capital",
)
silkroad = fact(lambda city: "silkroad" in city.themes, "it was on the Silk Road", "it was not on the Silk Road")
volcano = fact(
    lambda city: "volcano" in city.themes, "there is a volcano near my city", "there is no volcano near my city"
)
desert = fact(
    lambda city: city.own["climate"] == "desert" or "deserts" in city.themes,
    "there is a desert near my city",
    "there is no desert near my city",
)
driving = choice(
    r"\b(left|right)\b(?! in)",
    lambda city: city.own["side"] or city.land["side"],
    lambda found, own: found == own,
    "people drive on the {}",
)
script = choice(
    "latin|roman|cyrillic|arabic|chinese|hangul|devanagari|japanese|thai",
    lambda city: city.land["script"],
    lambda found, own: {"roman": "latin"}.get(found, found) == plain(own),
    "people write in the {} script",
)
currency = choice(
    r"euro|dollar|peso|rupee|rupiah|yen|yuan|won\b|pound|real\b|reais|baht|ruble|lira|rial|dinar",
    lambda city: city.derived["currency"],
    lambda found, own: found in plain(own) or (found == "reais" and own == "Real"),
    "the currency is the {}",
    "people pay with the {}",
)
