"""The brands, types and features of cars that the dealer and the buyer talk about, and how people call them."""

import csv
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources


@cache
def rows(file: str) -> tuple[dict[str, str], ...]:
    """Return the rows of a CSV file beside this one.

    Raises:
        ValueError: a row has other columns than the first line says.
    """
    text = resources.files("lmrl.envs.parts").joinpath(file).read_text(encoding="utf-8")
    read = tuple(csv.DictReader(text.splitlines()))
    for number, row in enumerate(read, start=2):
        if None in row or None in row.values():
            raise ValueError(f"{file}, line {number}: the number of columns differs from that of the first line")
    return read


def _names(kind: str) -> tuple[str, ...]:
    return tuple(row["name"] for row in rows("car_dealer_lexicon.csv") if row["kind"] == kind)


BRANDS = _names("brand")
TYPES = _names("type")
FEATURES = _names("feature")
SAID = {row["name"]: row["said"] for row in rows("car_dealer_lexicon.csv")}
"""How each name stands in a sentence: brands and features with their article, types with their noun."""
PATTERNS = {row["name"]: re.compile(rf"\b(?:{row['pattern']})\b") for row in rows("car_dealer_lexicon.csv")}
"""What in a text of small letters names each of them."""


def mentioned(text: str, names: Iterable[str]) -> frozenset[str]:
    """Return which of these brands, types or features a text of small letters names."""
    return frozenset(name for name in names if PATTERNS[name].search(text))


def enumerate_features(features: Iterable[str]) -> str:
    """Say a list of features: `heated seats, a sunroof and Apple CarPlay`."""
    said = [SAID[feature] for feature in features]
    return " and ".join(part for part in (", ".join(said[:-1]), said[-1]) if part)
