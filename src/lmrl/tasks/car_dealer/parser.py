"""A car dealer's utterances as dialogue acts: prices, discounts and refusals, features, questions, agreement."""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from lmrl.envs.tables import rows
from lmrl.tasks.car_dealer.amounts import Amounts, normalised, read_amounts
from lmrl.tasks.car_dealer.lexicon import BRANDS, FEATURES, PATTERNS, TYPES, mentioned

ACTS = (
    "greet", "ask_needs", "ask_budget", "quote", "discount", "refuse", "feature", "deny", "affirm", "accept", "close",
    "talk",
)  # fmt: skip
"""Greets; asks for the buyer's wishes; asks for his budget; names a price; offers a lower one; refuses to; names
features of the car; names features that it lacks; says yes; agrees to the buyer's price; asks for the decision;
anything else."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """The meaning of one utterance of the seller; one without acts could not be understood."""

    acts: frozenset[str]
    amounts: Amounts
    features: frozenset[str]
    """Features that the car is said to have."""
    denied: frozenset[str]
    """Features that the car is said not to have."""
    words: int
    """How long it is."""
    cars: frozenset[str] = frozenset()
    """Brands and types of cars that it names."""


_NOT = r"\b(?:not|no|non|nope|never|nothing|none|without|unable|lacks?|hardly|neither|nor)\b"


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return the joined pattern of the rows of this name in the table of patterns."""
    return re.compile("|".join(row["pattern"] for row in rows(__file__, "patterns.csv") if row["what"] == name))


_NEGATION = re.compile(_NOT)
_BUDGET_MET = re.compile(r"\b(?:match|meet|fits?|within|suits?|inside|under|down to|hit)\b.*\bbudget\b|\bbudget of\b")
_ABSENT = re.compile(r"\bnot (?:\w+ )?(?:available|included|offered|possible|installed|standard|an option|part of)\b")
_STATED = re.compile(r"\b(?:has|have|having|comes?|with|is|are|gets?|includes?|features|plus)\b")
_ASKING = re.compile(
    r"^(?:and |so |but |ok |okay |well |then |also )*(?:do|does|did|would|are|is|should|could|can|will|may|shall|have"
    r"|has|ready|what|which|how|who|any|anything|tell me|let me know|where|why)\b"
)
_TELL = re.compile(r"\b(?:tell me|let me know|describe)\b")
_PLAIN = re.compile(
    r"\b(?:is|are|it|you|your|we|i|my|our|me|this|the|an?|have|has|will|to|of|for|with|very|that|be|on|in|at|about|would"
    r"|can|or|so)\b"
)
_OFFERING = re.compile(r"^(?:how about|what about|what if|how does)\b")


@lru_cache(maxsize=65_536)
def parse(text: str) -> Utterance:
    """Return the meaning of an utterance of the seller; capitals and line breaks do not matter."""
    clean = normalised(text)
    amounts, marked = read_amounts(clean)
    acts: set[str] = set()
    features: set[str] = set()
    denied: set[str] = set()
    for clause, is_question in _clauses(marked):
        _read_clause(clause, is_question, amounts, acts)
        if is_question and not _OFFERING.match(clause):
            acts |= {"ask_needs"} if mentioned(clause, FEATURES) else set()
        else:
            _read_features(clause, features, denied)
    _read_amounts(amounts, acts)
    acts |= {"feature"} if features else set()
    acts |= {"deny"} if denied else set()
    cars = mentioned(clean, BRANDS) | mentioned(clean, TYPES)
    if not acts and (_pattern("talk").search(clean) or cars or len(set(_PLAIN.findall(clean))) >= 2):
        acts.add("talk")
    confirmed = frozenset(features - denied)
    return Utterance(frozenset(acts), amounts, confirmed, frozenset(denied), len(text.split()), cars)


def _clauses(marked: str) -> list[tuple[str, bool]]:
    """Return the sentences, cut at `but` too, each without its punctuation and whether it asks."""
    found = re.findall(r"[^.!?;]+[.!?;]*", marked)
    parts: list[tuple[str, bool]] = []
    for sentence in found:
        pieces = re.split(r"\bbut\b|\balthough\b|\bthough\b|,? and (?=(?:how|what|which|do|is|are)\b)", sentence)
        parts += [(piece.strip(" .!?;,\"'"), "?" in sentence) for piece in pieces]
    return [(clause, is_question or bool(_ASKING.match(clause))) for clause, is_question in parts if clause]


def _read_clause(clause: str, is_question: bool, amounts: Amounts, acts: set[str]) -> None:
    """Add the acts of one clause."""
    opening = _pattern("greet").search(clause)
    if opening:
        acts.add("greet")
        clause = clause[opening.end() :].strip(" ,") if opening.start() == 0 else clause
        is_question = is_question or bool(_ASKING.match(clause))
    if is_question or _TELL.search(clause):
        _read_question(clause, acts)
    else:
        _read_statement(clause, amounts, acts)
    if _pattern("close").search(clause) and (is_question or not {"accept", "refuse"} & acts):
        acts.add("close")


def _read_question(clause: str, acts: set[str]) -> None:
    """Add the acts of a question; one about a discount offers it."""
    if _pattern("ask_budget").search(clause) and "xmoney" not in clause and not _BUDGET_MET.search(clause):
        acts.add("ask_budget")
    elif _pattern("ask_needs").search(clause) and not _pattern("reduction").search(clause):
        acts.add("ask_needs")
    if _pattern("reduction").search(clause) and not _NEGATION.search(clause):
        acts.add("discount")


def _read_statement(clause: str, amounts: Amounts, acts: set[str]) -> None:
    """Add a statement's acts about the price, and its yes or no."""
    is_negative = bool(_NEGATION.search(clause))
    if _pattern("reduction").search(clause):
        acts.add("refuse" if is_negative else "discount")
    elif _pattern("refuse").search(clause) and "xmoney" not in clause:
        acts.add("refuse")
    elif _pattern("accept").search(clause) and not is_negative:
        acts.add("accept")
    if _pattern("affirm").search(clause) and not is_negative:
        acts.add("affirm")
    if _pattern("denial").search(clause):
        acts.add("deny")
    if amounts.meets_budget and not is_negative and "budget" in clause:
        acts.add("discount")


def _read_features(clause: str, features: set[str], denied: set[str]) -> None:
    """Add the features that a statement says the car has, and those that it has not.

    A negation covers the words up to the next comma, and the rest of a list (`no GPS, no sunroof`).
    """
    is_negative = False
    for part in clause.split(","):
        places = [(found.start(), name) for name in FEATURES if (found := PATTERNS[name].search(part))]
        negation = _NEGATION.search(part)
        if negation and places and (negation.start() < min(places)[0] or _ABSENT.search(part)):
            is_negative = True
        elif _STATED.search(part):
            is_negative = False
        (denied if is_negative else features).update(name for _, name in places)


def _read_amounts(amounts: Amounts, acts: set[str]) -> None:
    """Add the acts of the amounts."""
    if amounts.off_dollars or amounts.off_percent:
        acts -= {"refuse"}
        acts.add("discount")
    if amounts.price is not None or amounts.over_percent is not None:
        acts |= {"quote"} if not {"discount", "accept"} & acts else set()
