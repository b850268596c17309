"""The brands, types and features of cars that the dealer and the buyer talk about, and how people call them."""

import re
from collections.abc import Iterable

from lmrl.envs.tables import rows


def _names(kind: str) -> tuple[str, ...]:
    return tuple(row["name"] for row in rows(__file__, "lexicon.csv") if row["kind"] == kind)


BRANDS = _names("brand")
TYPES = _names("type")
FEATURES = _names("feature")
SAID = {row["name"]: row["said"] for row in rows(__file__, "lexicon.csv")}
"""How each name stands in a sentence: brands and features with their article, types with their noun."""
PATTERNS = {row["name"]: re.compile(rf"\b(?:{row['pattern']})\b") for row in rows(__file__, "lexicon.csv")}
"""The patterns of their names in a text of small letters."""


def mentioned(text: str, names: Iterable[str]) -> frozenset[str]:
    """Return which of these brands, types or features a text of small letters names."""
    return frozenset(name for name in names if PATTERNS[name].search(text))


def enumerate_features(features: Iterable[str]) -> str:
    """Say a list of features: `heated seats, a sunroof and Apple CarPlay`."""
    said = [SAID[feature] for feature in features]
    return " and ".join(part for part in (", ".join(said[:-1]), said[-1]) if part)
