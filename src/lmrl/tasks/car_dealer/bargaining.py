"""The buyer's automaton: how each thing that the seller says changes his mood, and when he buys or leaves."""

from dataclasses import dataclass, replace
from functools import lru_cache

from lmrl.tasks.car_dealer.amounts import Amounts
from lmrl.tasks.car_dealer.lexicon import BRANDS
from lmrl.tasks.car_dealer.parser import Utterance, parse
from lmrl.tasks.car_dealer.profile import STEP, Profile, read_brief

PATIENCE = {"discount": 4, "feature": 4, "impatient": 3}
"""Each buyer leaves when he has none left."""
LONG = 25
"""Words; an impatient buyer does not listen to more."""
CONCESSION = 98
"""Percent of the first price, at most, that a discount buyer pays."""
ABSURD = 130
"""Percent of the list price; a higher price is not taken seriously."""
ANCHOR = 110
"""Percent of the list price; coming down from a higher price is no concession."""
TIRED_AFTER = 10
"""Turns of the seller; each later one costs patience."""
PRICE_BY = {"discount": 4, "feature": 6, "impatient": 3}
"""The turn from which on a talk without any price costs patience."""
QUICK = 3
"""The turn by which an impatient buyer must hear a price, to pay more than budget and list price."""
OFFER = 95
"""Percent of the price that a discount buyer offers at most."""
BODIES = frozenset({"sedan", "convertible", "truck", "SUV"})
"""Types of cars that exclude each other; a luxury or electric car may be any of these."""
_OFFERS = frozenset({"quote", "discount", "feature", "deny", "affirm", "accept", "close"})
"""Acts that say something of a car, its price or its sale."""


@dataclass(frozen=True, slots=True)
class Talk:
    """Where the conversation stands after some turns of the seller."""

    patience: int
    turn: int = 0
    first: int | None = None
    """The first price, in dollars, and the turn that named it."""
    first_turn: int = 0
    price: int | None = None
    """The price on the table."""
    offer: int | None = None
    """The buyer's last offer."""
    knows_budget: bool = False
    """The seller was told the budget."""
    confirmed: frozenset[str] = frozenset()
    asked: tuple[str, ...] = ()
    """Features that the buyer just asked about."""
    decision: str = ""
    """`accept`, `reject`, or nothing yet."""
    says: tuple[str, ...] = ()
    """The buyer's next utterance, as acts of his wording table."""
    said: int | None = None
    """A price that he did not take seriously."""


@lru_cache(maxsize=32_768)
def replay(brief: str, utterances: tuple[str, ...]) -> Talk:
    """Return where a conversation stands, from the buyer's brief and all that the seller said.

    Raises:
        ValueError: it is no brief.
    """
    profile = read_brief(brief)
    if not utterances:
        return Talk(PATIENCE[profile.personality])
    return advance(profile, replay(brief, utterances[:-1]), parse(utterances[-1]))


def advance(profile: Profile, talk: Talk, said: Utterance) -> Talk:
    """Return where the conversation stands after one more utterance of the seller; a decision is final."""
    if talk.decision:
        return talk
    if not talk.turn:
        return _open(profile, talk, said)
    is_other = _offers_another_car(profile, said)
    if is_other:  # it says nothing of the car that he came for
        said = replace(said, acts=frozenset({"talk"}), amounts=Amounts(), features=frozenset(), denied=frozenset())
    price = named_price(profile, talk, said)
    absurd = price if price is not None and price * 100 > ABSURD * profile.list_price else None
    price = None if absurd is not None else price
    losses = [("other_car", 1)] if is_other else _losses(profile, talk, said, price)
    losses += [("absurd", 1)] if absurd is not None else []
    after = replace(
        talk,
        patience=talk.patience - sum(loss for _, loss in losses),
        turn=talk.turn + 1,
        first=price if talk.first is None else talk.first,
        first_turn=talk.turn + 1 if talk.first is None and price is not None else talk.first_turn,
        price=talk.price if price is None else price,
        confirmed=(talk.confirmed | _confirmed(talk, said)) - said.denied,
        said=absurd,
    )
    if after.patience <= 0:
        return replace(after, decision="reject", says=("reject",), asked=())
    if accepts(profile, after):
        return replace(after, decision="accept", says=("accept",), asked=())
    complaint = max(losses, key=lambda entry: entry[1])[0] if losses else ""
    return _reply(profile, talk, after, said, complaint)


def _offers_another_car(profile: Profile, said: Utterance) -> bool:
    """Whether an utterance that offers something names another car than the buyer came for, alone or beside it."""
    if not (said.acts & _OFFERS or said.amounts != Amounts()):
        return False
    bodies = said.cars & BODIES
    is_other_body = profile.type in BODIES and bool(bodies) and profile.type not in bodies
    return bool((said.cars & set(BRANDS)) - {profile.brand}) or is_other_body


def _open(profile: Profile, talk: Talk, said: Utterance) -> Talk:
    """Say which car it is about; prices and features that were named before mean nothing."""
    is_bad = not said.acts or (profile.personality == "impatient" and said.words > LONG)
    answers = _answers(profile, frozenset(said.acts & {"ask_budget"}))
    says = ("open", *answers)
    return replace(talk, turn=1, patience=talk.patience - is_bad, says=says, knows_budget="tell_budget" in answers)


def named_price(profile: Profile, talk: Talk, said: Utterance) -> int | None:
    """Return the price in dollars that an utterance comes to after the earlier ones; `None` if to none."""
    amounts, base = said.amounts, talk.first or profile.list_price
    if amounts.is_off_list or talk.first is None:
        base = profile.list_price
    elif amounts.is_further and talk.price is not None:
        base = talk.price
    if amounts.price is not None:
        return amounts.price
    if amounts.over_percent is not None:
        return round(profile.list_price * (100 + amounts.over_percent) / 100)
    if amounts.off_dollars is not None or amounts.off_percent is not None:
        return max(round(base * (100 - (amounts.off_percent or 0)) / 100) - (amounts.off_dollars or 0), 0)
    agrees = "accept" in said.acts or ("affirm" in said.acts and not talk.asked)
    if agrees and talk.offer is not None:
        return talk.offer
    if amounts.meets_budget:
        return profile.budget if talk.knows_budget else talk.offer
    return None


def _confirmed(talk: Talk, said: Utterance) -> frozenset[str]:
    """Return the features that the car is now said to have; a plain yes is about those that were asked for."""
    return said.features | (frozenset(talk.asked) if "affirm" in said.acts else frozenset())


def accepts(profile: Profile, talk: Talk) -> bool:
    """Whether the buyer buys at the price on the table."""
    price, personality = talk.price, profile.personality
    if price is None or price > profile.limit:
        return False
    if personality == "discount":
        first = min((talk.first or price) * 100, ANCHOR * profile.list_price)
        return price * 10_000 <= CONCESSION * first
    if personality == "feature":
        return set(profile.features) <= talk.confirmed
    return talk.first_turn <= QUICK or price <= min(profile.budget, profile.list_price)


def _losses(profile: Profile, talk: Talk, said: Utterance, price: int | None) -> list[tuple[str, int]]:
    """Return the buyer's complaints, each with its cost in patience."""
    turn, is_priced = talk.turn + 1, price is not None or talk.price is not None
    losses = [("confused", 1)] if not said.acts else []
    if turn > TIRED_AFTER:
        losses.append(("tired", 1))
    if not is_priced and turn >= PRICE_BY[profile.personality]:
        losses.append(("no_price", 1))
    if price is not None and talk.price is not None and price > talk.price:
        losses.append(("raised", 1))
    if profile.personality == "discount":
        return losses + _discount_losses(talk, said, price)
    if profile.personality == "feature":
        return losses + _feature_losses(profile, talk, said, price)
    return losses + _impatient_losses(profile, talk, said, price)


def _discount_losses(talk: Talk, said: Utterance, price: int | None) -> list[tuple[str, int]]:
    """A discount buyer minds refusals, and turns after the first price that do not lower it or promise to."""
    if "refuse" in said.acts:
        return [("refused", 2)]
    stands = talk.price is not None and (price is None or price == talk.price)
    return [("no_move", 1)] if stands and said.acts and not ("discount" in said.acts and price is None) else []


def _feature_losses(profile: Profile, talk: Talk, said: Utterance, price: int | None) -> list[tuple[str, int]]:
    """A feature buyer minds talk of prices and silence before all features are settled; then, prices that stand."""
    wanted = frozenset(profile.features)
    if said.denied & wanted or ("deny" in said.acts and talk.asked):
        return [("denied", 2)]
    if wanted - talk.confirmed:
        if _confirmed(talk, said) & (wanted - talk.confirmed) or not said.acts:
            return []
        if said.acts & {"quote", "discount", "refuse", "accept"}:
            return [("price_talk", 1)]
        return [("no_answer", 1)] if talk.asked and not said.acts & {"ask_needs", "ask_budget"} else []
    stands = talk.price is not None and (price is None or price >= talk.price)
    return [("no_move", 1)] if stands and said.acts else []


def _impatient_losses(profile: Profile, talk: Talk, said: Utterance, price: int | None) -> list[tuple[str, int]]:
    """An impatient buyer minds long speeches, features, unasked discounts, and prices above his limit."""
    losses = [("too_long", 1)] if said.words > LONG else []
    if said.acts & {"feature", "deny"}:
        losses.append(("feature_talk", 1))
    if said.acts & {"discount", "refuse"} and talk.offer is None:
        losses.append(("discount_talk", 1))
    now = talk.price if price is None else price
    if now is not None and now > profile.limit:
        losses.append(("", 1))
    return losses


def _answers(profile: Profile, acts: frozenset[str]) -> tuple[str, ...]:
    """Return the buyer's answers to questions about his budget and his wishes."""
    says = ()
    if "ask_budget" in acts:
        says += ("decline_budget" if profile.personality == "discount" else "tell_budget",)
    return says + (("tell_priority",) if "ask_needs" in acts else ())


def _reply(profile: Profile, before: Talk, after: Talk, said: Utterance, complaint: str) -> Talk:
    """Return the utterance of a buyer who continues: a complaint or a remark, answers, and his next wish."""
    answers = _answers(profile, said.acts)
    is_pleased = after.confirmed - before.confirmed if profile.personality == "feature" else _came_down(before, after)
    lead: tuple[str, ...] = (complaint,) if complaint else ()
    if not lead and not answers:
        lead = _remark(profile, bool(is_pleased), said)
    missing = tuple(feature for feature in profile.features if feature not in after.confirmed)
    if profile.personality == "feature" and missing:
        if "tell_priority" in answers:
            return replace(after, says=lead + answers, asked=missing, **_told(after, answers))
        return replace(after, says=(*lead, *answers, "ask_features"), asked=missing[:2], **_told(after, answers))
    request, offer = _request(profile, before, after, said)
    return replace(after, says=(*lead, *answers, request), asked=(), **_told(after, answers, offer))


def _remark(profile: Profile, is_pleased: bool, said: Utterance) -> tuple[str, ...]:
    """Return the buyer's reply to an utterance that is neither a question nor a nuisance."""
    if is_pleased and profile.personality != "impatient":
        return ("pleased",)
    if "close" in said.acts:
        return ("not_yet",)
    return ("chat",) if said.acts <= {"talk", "greet"} else ()


def _told(after: Talk, answers: tuple[str, ...], offer: int | None = None) -> dict:
    """Return the seller's knowledge of the buyer's money."""
    return {"knows_budget": after.knows_budget or "tell_budget" in answers, "offer": offer or after.offer}


def _came_down(before: Talk, after: Talk) -> bool:
    return before.price is not None and after.price is not None and after.price < before.price


def _request(profile: Profile, before: Talk, after: Talk, said: Utterance) -> tuple[str, int | None]:
    """Return the buyer's next wish, and the price that he offers with it."""
    if after.price is None:
        return "ask_price", None
    if profile.personality != "discount":
        return "too_high", _rounded(min(profile.budget, profile.list_price))
    if "discount" in said.acts and after.price == before.price:
        return "how_much", None
    is_conceded = after.first is not None and after.price * 100 <= CONCESSION * after.first
    if not is_conceded:
        return "ask_discount", None
    return "counter", after.offer or _rounded(min(profile.limit, after.price * OFFER // 100))


def _rounded(amount: int) -> int:
    """Round an offer down to a usual amount."""
    return amount // STEP * STEP
