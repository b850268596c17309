"""A scripted seller's view: both sides' utterances so far, and his possible utterances now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmrl.tasks.car_dealer.lexicon import FEATURES, enumerate_features
from lmrl.tasks.car_dealer.parser import parse
from lmrl.tasks.car_dealer.wording import SELLER, Heard, dollars, hear, pick, wordings
from lmrl.text.trajectory import History

PERCENTS = (5, 10, 15, 20, 25)
"""The discounts that scripted sellers give, off the list price."""
OVER = (5, 10)
"""The percentages above the list price that they ask for."""
Choice = tuple[str, Mapping[str, str]]
"""An act of the seller's wording table, and the values of its slots."""


@dataclass(frozen=True, slots=True)
class View:
    """A conversation as the seller sees it; `None` and empty: not mentioned. Amounts are dollars."""

    turn: int
    """How often he has spoken."""
    personality: str
    """Whose words the buyer uses, if they are of one personality only."""
    list_price: int | None
    budget: int | None
    offer: int | None
    """The buyer's last offer."""
    acts: frozenset[str]
    """The buyer's last utterance, as acts of his wording table."""
    asked: tuple[str, ...]
    """Features that he has just asked for."""
    has_priced: bool
    """The seller has named a price since the buyer came up with a car."""
    discount: int
    """Percent off the list price that the seller has offered so far."""
    named: frozenset[int]
    """All dollars that he has named as a price."""


def view(history: History) -> View:
    """Read a conversation as it is shown to the seller: the opening text, then utterances in turn."""
    mine = [turn.text for turn in history if turn.is_action]
    theirs = [turn.text for turn in history[1:] if not turn.is_action]
    heard = [hear(text, is_first=index == 0) for index, text in enumerate(theirs)]
    everything = [part for parts in heard for part in parts]
    last: Sequence[Heard] = heard[-1] if heard else ()
    amounts = {name: value for part in everything for name, value in part.amounts.items()}
    said = [parse(text).amounts for text in mine[1:]]
    return View(
        turn=len(mine),
        personality=next((part.personality for part in everything if part.personality != "any"), ""),
        list_price=amounts.get("list"),
        budget=amounts.get("budget"),
        offer=amounts.get("offer"),
        acts=frozenset(part.act for part in last),
        asked=tuple(feature for part in last for feature in part.features),
        has_priced=any(a.price or a.over_percent is not None or a.off_percent for a in said),
        discount=max((int(a.off_percent or 0) for a in said), default=0),
        named=frozenset(a.price for a in said if a.price),
    )


def choices(seen: View) -> dict[str, list[Choice]]:
    """Return a seller's sensible utterances by act: all ways to fill the slots of each."""
    if not seen.turn:
        return {act: [(act, {})] for act in ("greet", "greet_budget", "ask_needs", "ask_budget", "talk")}
    features = [seen.asked] if seen.asked else [(feature,) for feature in FEATURES]
    options: dict[str, list[Choice]] = {
        act: [(act, {})] for act in ("ask_needs", "ask_budget", "refuse", "deals", "yes", "close", "talk")
    }
    options["off"] = [("off", {"percent": str(percent)}) for percent in PERCENTS]
    options["over"] = [("over", {"percent": str(percent)}) for percent in OVER]
    options["features"] = [("features", {"features": enumerate_features(some)}) for some in features]
    if seen.list_price is not None:
        options["list"] = [("list", {"list": dollars(seen.list_price)})]
    if seen.budget is not None:
        options["meet_budget"] = [("meet_budget", {})]
    if seen.offer is not None:
        options["take_offer"] = [("take_offer", {"offer": dollars(seen.offer)})]
    return options


def sensible_sentences(history: History) -> tuple[str, ...]:
    """Return every sentence that a seller can sensibly say now, each once."""
    sentences = [
        sentence
        for some in choices(view(history)).values()
        for act, slots in some
        for sentence in _all_wordings(act, slots)
    ]
    return tuple(dict.fromkeys(sentences))


def _all_wordings(act: str, slots: Mapping[str, str]) -> list[str]:
    texts = wordings(SELLER, act, "any")
    return [pick((text,), 0.0, slots) + "\n" for text in texts]
