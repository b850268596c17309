"""The buyer of a car: his wishes, his highest price, and the reward of a sale to him."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lmrl.tasks.car_dealer.lexicon import BRANDS, FEATURES, SAID, TYPES

PERSONALITIES = ("discount", "feature", "impatient")
"""Wants the price to come down; wants a car with everything on his list; wants to be done."""
BUDGETS = (10_000, 30_000, 50_000, 70_000, 90_000)
"""Dollars."""
LIST_SHARES = (0.85, 1.35)
"""The list price is drawn evenly from this range, in budgets, and rounded to `STEP`."""
STEP = 500
"""Dollars."""
MOST = {"discount": (105, 100), "feature": (110, 105), "impatient": (115, 110)}
"""The most that each pays: so many percent of the budget, and no more than so many percent of the list price."""
REWARDS = ("fancy", "revenue")
REJECTS = ("fair", "reference")
_USED_BELOW = 15_000
"""Dollars; a car with a lower list price is called a used one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The buyer's secrets. All amounts are whole dollars."""

    personality: str
    brand: str
    type: str
    features: tuple[str, ...]
    budget: int
    list_price: int
    """The manufacturer's suggested retail price (MSRP): it belongs to the car, whatever the seller says."""

    @property
    def limit(self) -> int:
        """The most that this buyer pays, under the conditions of his personality."""
        of_budget, of_list = MOST[self.personality]
        return min(of_budget * self.budget, of_list * self.list_price) // 100

    @property
    def car(self) -> str:
        """The car in words: `a used Lexus SUV`."""
        name = f"{self.brand} {SAID[self.type]}"
        if self.list_price < _USED_BELOW:
            return f"a used {name}"
        return f"{SAID[self.brand].split()[0]} {name}"

    def brief(self) -> str:
        """Return the profile as the text that the buyer is told: JSON with sorted keys."""
        return json.dumps(asdict(self) | {"features": ", ".join(self.features)}, sort_keys=True)


@lru_cache(maxsize=4096)
def read_brief(text: str) -> Profile:
    """Return the profile that a brief tells.

    Raises:
        ValueError: it is no brief; the message says why.
    """
    try:
        values = json.loads(text)
        return checked(values | {"features": [part.strip() for part in values["features"].split(",") if part.strip()]})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"car_dealer: this is not a buyer's brief: {text!r} ({error})") from error


def checked(values: Mapping[str, Any]) -> Profile:
    """Return the profile of these values.

    Raises:
        ValueError: a field is missing or unknown, or has a value that it cannot have; the message names it.
    """
    fields = ("personality", "brand", "type", "features", "budget", "list_price")
    if set(values) != set(fields):
        raise ValueError(f"car_dealer: a profile has the fields {', '.join(fields)}, got {', '.join(sorted(values))}")
    for name, known in (("personality", PERSONALITIES), ("brand", BRANDS), ("type", TYPES)):
        if values[name] not in known:
            raise ValueError(f"car_dealer: {name} must be one of {', '.join(known)}, got {values[name]!r}")
    features = values["features"]
    if isinstance(features, str) or not isinstance(features, Sequence) or not set(features) <= set(FEATURES):
        raise ValueError(f"car_dealer: features must be a list from {', '.join(FEATURES)}, got {features!r}")
    if not features or len(set(features)) < len(features):
        raise ValueError(f"car_dealer: features must be one or more, and all different, got {list(features)}")
    for name in ("budget", "list_price"):
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int) or not 1_000 <= value <= 1_000_000:
            raise ValueError(
                f"car_dealer: {name} must be a whole number of dollars from 1000 to 1000000, got {value!r}"
            )
    return Profile(**{**values, "features": tuple(features)})


def draw_profile(random: np.random.Generator, options: Mapping[str, Any]) -> Profile:
    """Draw every field evenly and independently; those in `options` are then taken from there.

    Raises:
        ValueError: an option is not known, or has a value that it cannot have.
    """
    values: dict[str, Any] = {
        name: known[int(random.integers(len(known)))]
        for name, known in (("personality", PERSONALITIES), ("brand", BRANDS), ("type", TYPES), ("budget", BUDGETS))
    }
    wanted = random.permutation(len(FEATURES))[: int(random.integers(1, 5))]
    values["features"] = [FEATURES[index] for index in wanted]
    share = float(random.uniform(*LIST_SHARES))
    unknown = set(options) - {*values, "list_price"}
    if unknown:
        raise ValueError(
            f"car_dealer: unknown reset options {sorted(unknown)}, known are {', '.join([*values, 'list_price'])}"
        )
    budget = options.get("budget", values["budget"])
    is_amount = isinstance(budget, int)  # other values are rejected below
    values["list_price"] = STEP * round(share * (budget if is_amount else values["budget"]) / STEP)
    return checked({**values, **options})


def sale_reward(price: int, *, budget: int, list_price: int, mode: str) -> float:
    """Return a sale's reward: the price by the mean of budget and list price (`fancy`), or in $1000 (`revenue`)."""
    if mode == "revenue":
        return price / 1000
    return price / ((budget + list_price) / 2)


def loss_reward(*, budget: int, list_price: int, mode: str, reject: str) -> float:
    """Return the reward of losing the buyer.

    Nothing in `revenue`. In `fancy`, for a list price m and a budget b, `reference` pays `(m - b) / m` as LMRL-Gym,
    so it rewards losing a buyer whose budget is below the list price; `fair` pays the same, but never more than 0.
    Without a list price (m = 0) it is 0.
    """
    if mode == "revenue" or list_price <= 0:
        return 0.0
    earned = (list_price - budget) / list_price
    return earned if reject == "reference" else min(earned, 0.0)


def _chances() -> Iterator[tuple[float, int, int]]:
    """Return the probability of each budget with each list price."""
    low, high = LIST_SHARES
    for budget in BUDGETS:
        lowest, highest = low * budget / STEP, high * budget / STEP
        for steps in range(math.floor(lowest), math.ceil(highest) + 1):
            width = min(steps + 0.5, highest) - max(steps - 0.5, lowest)
            if width > 0:
                yield width / (highest - lowest) / len(BUDGETS), budget, STEP * steps


def best_return(mode: str) -> float:
    """Return the exact mean return of a seller who sells to each buyer for the most that he would pay."""
    total = 0.0
    for chance, budget, price in _chances():
        for personality in PERSONALITIES:
            limit = Profile(personality, BRANDS[0], TYPES[0], FEATURES[:1], budget, price).limit
            total += chance / len(PERSONALITIES) * sale_reward(limit, budget=budget, list_price=price, mode=mode)
    return total


def lost_return(mode: str, reject: str) -> float:
    """Return the exact mean return of a seller who sells to nobody."""
    return sum(p * loss_reward(budget=b, list_price=m, mode=mode, reject=reject) for p, b, m in _chances())
