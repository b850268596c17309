"""Sellers without a model: an expert, one who knows the buyer, a random one, and the three styles of the data."""

from collections.abc import Callable, Mapping, Sequence

from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.car_dealer.bargaining import ANCHOR
from lmrl.tasks.car_dealer.lexicon import FEATURES, enumerate_features
from lmrl.tasks.car_dealer.profile import BUDGETS, LIST_SHARES, Profile
from lmrl.tasks.car_dealer.seller_view import OVER, PERCENTS, Choice, View, choices, sensible_sentences, view
from lmrl.tasks.car_dealer.wording import SELLER, dollars, pick, wordings

__all__ = ["STYLES", "ExpertSeller", "InformedSeller", "RandomSeller", "StyledSeller", "sensible_sentences"]

_DRAWS = 6
"""Random numbers of one utterance: whether it is random, three of the style, one of the wording, one to spare."""


class _Seller:
    """Chooses an act and words it; all randomness comes from the request's seed and turn."""

    style = "any"

    def __init__(self) -> None:
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one utterance per request; it depends only on the request's history, seed and turn."""
        return [self._say(request) for request in requests]

    def choose(self, seen: View, draws: Sequence[float]) -> Choice:
        """Return the next utterance, as an act and its slots, from numbers in [0, 1)."""
        raise NotImplementedError

    def _say(self, request: Request) -> Action:
        draws = self._uniforms.draw(request.seed, request.turn, _DRAWS).tolist()
        act, slots = self.choose(view(request.history), draws[:-1])
        return Action(pick(wordings(SELLER, act, self.style), draws[-1], slots) + "\n")


class RandomSeller(_Seller):
    """Says each kind of thing that can be said equally often, whatever it heard."""

    def choose(self, seen: View, draws: Sequence[float]) -> Choice:
        """Draw an act, then how its slots are filled."""
        return _random_choice(seen, draws)


class ExpertSeller(_Seller):
    """Finds out who the buyer is, and sells to him for the most that he would pay.

    He asks for the budget at once, and for the wishes if the buyer's first words do not show his personality. A feature
    buyer hears that the car has all that he wants, then the price; an impatient one the price only; a discount buyer,
    who keeps his budget to himself, a price above the list price, then one after the other the most that he would pay
    with each budget that this car could be for.
    """

    def choose(self, seen: View, draws: Sequence[float]) -> Choice:  # noqa: ARG002 - of any seller
        """Return the best known thing to say."""
        if not seen.turn:
            return "greet_budget", {}
        if seen.personality == "discount":
            return _haggle(seen)
        if seen.personality == "":
            return "ask_needs", {}
        if seen.personality == "feature" and seen.asked:
            return "features", {"features": enumerate_features(seen.asked)}
        if seen.personality == "feature" and seen.turn == 1:
            return "ask_needs", {}
        return _sell(seen)


class InformedSeller(_Seller):
    """The best response to a known buyer: the anchor of the score.

    Args:
        profile: who the buyer is.
    """

    def __init__(self, *, profile: Profile) -> None:
        super().__init__()
        self.profile = profile

    def choose(self, seen: View, draws: Sequence[float]) -> Choice:  # noqa: ARG002 - of any seller
        """Return the utterance that leads to a sale at this buyer's highest price, in at most three turns."""
        who = self.profile.personality
        if not seen.turn:
            return "greet", {}
        if seen.turn == 1 and who == "feature":
            return "features", {"features": enumerate_features(self.profile.features)}
        if seen.turn == 1 and who == "discount":
            return "over", {"percent": str(ANCHOR - 100)}
        return "name", {"price": dollars(self.profile.limit)}


class StyledSeller(_Seller):
    """One of the three sellers of the data.

    `giver` loves discounts and never talks about features; `talker` talks a lot about features and never gives
    discounts; `concise` does neither, and says little.

    Args:
        style: which one.
        random_share: probability that he says any other sensible thing instead.

    Raises:
        ValueError: there is no such style, or `random_share` is no probability.
    """

    def __init__(self, *, style: str, random_share: float = 0.15) -> None:
        super().__init__()
        if style not in STYLES:
            raise ValueError(f"car_dealer: style must be one of {', '.join(STYLES)}, got {style!r}")
        if not 0 <= random_share <= 1:
            raise ValueError(f"car_dealer: random_share must be a probability, got {random_share}")
        self.style, self.random_share = style, random_share

    def choose(self, seen: View, draws: Sequence[float]) -> Choice:
        """Follow the style, or say something random."""
        if draws[0] < self.random_share:
            return _random_choice(seen, draws[1:])
        return STYLES[self.style](seen, draws[1:]) if seen.turn else ("greet", {})


def _random_choice(seen: View, draws: Sequence[float]) -> Choice:
    options = list(choices(seen).values())
    some = options[int(draws[0] * len(options))]
    return some[int(draws[1] * len(some))]


def _sell(seen: View) -> Choice:
    """Name the highest price of a buyer of this personality, or accept his offer."""
    if seen.list_price is not None and seen.budget is not None:
        price = _most(seen.personality, seen.budget, seen.list_price)
        if price not in seen.named:
            return "name", {"price": dollars(price)}
    if seen.offer is not None:
        return "take_offer", {"offer": dollars(seen.offer)}
    return "ask_budget", {}


def _haggle(seen: View) -> Choice:
    """Begin above the list price, and come down."""
    if not seen.has_priced or seen.list_price is None:
        return "over", {"percent": str(ANCHOR - 100)}
    low, high = LIST_SHARES
    possible = [budget for budget in BUDGETS if low * budget - 250 <= seen.list_price <= high * budget + 250]
    prices = sorted({_most("discount", budget, seen.list_price) for budget in possible} - seen.named, reverse=True)
    lower = [price for price in prices if all(price < named for named in seen.named)]
    if lower:
        return "drop", {"price": dollars(lower[0])}
    if seen.offer is not None:
        return "take_offer", {"offer": dollars(seen.offer)}
    return "off", {"percent": str(PERCENTS[-1])}


def _most(personality: str, budget: int, list_price: int) -> int:
    return Profile(personality, "", "", (), budget, list_price).limit


def _giver(seen: View, draws: Sequence[float]) -> Choice:
    """Promise discounts, name a price, then give one discount after the other; sometimes take the buyer's offer."""
    if not seen.has_priced and draws[1] < 0.5:
        return "deals", {}
    if not seen.has_priced and seen.list_price is not None:
        return ("over", {"percent": str(OVER[0])}) if draws[0] < 0.4 else ("list", {"list": dollars(seen.list_price)})
    if seen.offer is not None and (draws[0] < 0.4 or seen.discount == PERCENTS[-1]):
        return "take_offer", {"offer": dollars(seen.offer)}
    following = [percent for percent in PERCENTS if percent > seen.discount]
    return ("off", {"percent": str(following[0])}) if following else ("close", {})


def _talker(seen: View, draws: Sequence[float]) -> Choice:
    """Answer with features, tell the list price when asked for it, and hardly ever take the buyer's offer."""
    if seen.asked:
        return ("speech" if draws[0] < 0.2 else "features"), {"features": enumerate_features(seen.asked)}
    if seen.has_priced and seen.acts & {"too_high", "ask_discount", "counter", "how_much"}:
        if seen.offer is not None and draws[0] < 0.4:
            return "take_offer", {"offer": dollars(seen.offer)}
        return ("refuse", {}) if draws[0] < 0.7 else _praise(draws)
    if seen.list_price is not None and not seen.has_priced and ("ask_price" in seen.acts or seen.turn > 2):
        return ("over", {"percent": str(OVER[0])}) if draws[0] < 0.4 else ("list", {"list": dollars(seen.list_price)})
    return _praise(draws)


def _praise(draws: Sequence[float]) -> Choice:
    """Talk about two features of the car."""
    first = int(draws[1] * len(FEATURES))
    other = (first + 1 + int(draws[2] * (len(FEATURES) - 1))) % len(FEATURES)
    act = "speech" if draws[0] < 0.3 else "features"
    return act, {"features": enumerate_features((FEATURES[first], FEATURES[other]))}


def _concise(seen: View, draws: Sequence[float]) -> Choice:
    """Name the list price, answer with a word, and take an offer now and then."""
    if seen.asked and draws[0] < 0.6:
        return "yes", {}
    if seen.list_price is not None and not seen.has_priced:
        return "list", {"list": dollars(seen.list_price)}
    if seen.offer is not None and draws[1] < 0.45:
        return "take_offer", {"offer": dollars(seen.offer)}
    return ("refuse", {}) if draws[1] < 0.75 else ("close", {})


STYLES: Mapping[str, Callable[[View, Sequence[float]], Choice]] = {
    "giver": _giver,
    "talker": _talker,
    "concise": _concise,
}
"""The three sellers of the data."""
