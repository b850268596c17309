"""Comparisons in a question of Twenty Questions: with other things, and with numbers of pounds, feet and the like."""

import re
from collections.abc import Sequence

from lmrl.tasks.twenty_questions.stems import stem

COMPARED = {
    "bigger": ("bulk_cm", ">"), "larger": ("bulk_cm", ">"), "wider": ("bulk_cm", ">"), "smaller": ("bulk_cm", "<"),
    "tinier": ("bulk_cm", "<"), "taller": ("length_cm", ">"), "longer": ("length_cm", ">"),
    "higher": ("length_cm", ">"), "shorter": ("length_cm", "<"), "heavier": ("weight_kg", ">"),
    "lighter": ("weight_kg", "<"), "sizedlike": ("bulk_cm", "~"),
}  # fmt: skip
"""Comparatives, and which measure they compare: more, less, or about as much."""
ALIKE = 1.6
"""The factor within which sizes are about the same."""
_REWRITTEN = (
    (re.compile(r"\bweighs? more than\b"), "heavier than"),
    (re.compile(r"\bweighs? less than\b"), "lighter than"),
    (re.compile(r"\b(?:about |roughly )?(?:the |same )?size (?:of|as)\b"), "sizedlike than"),
    (re.compile(r"\bas (?:big|large|small) as\b"), "sizedlike than"),
    (re.compile(r"\bthan (?:me|i|you|us|myself|yourself|we)\b"), "than a person"),
    (re.compile(r"\b(?:a |an |one )?thousand\b"), "1000"),
    (re.compile(r"\b(?:a |an |one )?hundred\b"), "100"),
)  # fmt: skip
_UNITS = {
    "gram": ("weight_kg", 0.001), "kilogram": ("weight_kg", 1), "kilo": ("weight_kg", 1), "kg": ("weight_kg", 1),
    "pound": ("weight_kg", 0.454), "lb": ("weight_kg", 0.454), "ounce": ("weight_kg", 0.0283),
    "ton": ("weight_kg", 900), "inch": ("length_cm", 2.54), "foot": ("length_cm", 30.5), "yard": ("length_cm", 91),
    "mile": ("length_cm", 160_934), "meter": ("length_cm", 100), "centimeter": ("length_cm", 1),
    "cm": ("length_cm", 1), "kilometer": ("length_cm", 100_000), "km": ("length_cm", 100_000),
}  # fmt: skip
_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50,
}  # fmt: skip
_STEMMED = {stem(unit): measure for unit, measure in _UNITS.items()}
_LESS = frozenset({"less", "under", "below", "shorter", "lighter", "smaller", "fewer"})
_MORE = frozenset(
    {"more", "over", "above", "longer", "taller", "heavier", "bigger", "larger", "higher", "than", "least"}
)


def rewritten(question: str) -> str:
    """Return a question with comparisons in the words that `COMPARED` has."""
    text = question.lower()
    for pattern, words in _REWRITTEN:
        text = pattern.sub(words, text)
    return text


def reference_meaning(column: str, sign: str, value: float) -> str:
    """Return the meaning of a comparison with a thing."""
    if sign == "~":
        return f"{column}>{value / ALIKE} & {column}<{value * ALIKE}"
    return f"{column}{sign}{value}"


def quantity(said: Sequence[str]) -> tuple[int, int, str] | None:
    """Find a comparison with a number of units, such as `more than 10 pounds`.

    Returns:
        The places of its first word and after its last one, and its meaning; `None` if there is none.
    """
    for place in range(1, len(said)):
        measure, number = _STEMMED.get(stem(said[place])), _number(said[place - 1])
        begin = next((at for at, word in enumerate(said[:place]) if word in _LESS | _MORE), None)
        if measure is not None and number is not None and begin is not None:
            sign = "<" if _LESS & set(said[:place]) else ">"
            return begin, place + 1, f"{measure[0]}{sign}{number * measure[1]}"
    return None


def _number(word: str) -> float | None:
    """Return the number that a word says; `a` is one."""
    if word.isdigit():
        return float(word)
    return _NUMBERS.get(word)
