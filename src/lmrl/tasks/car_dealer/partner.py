"""The embedded buyer: an automaton with three personalities, as a policy that answers the car dealer."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.car_dealer.bargaining import Talk, replay
from lmrl.tasks.car_dealer.lexicon import enumerate_features
from lmrl.tasks.car_dealer.parser import parse
from lmrl.tasks.car_dealer.profile import Profile, checked, read_brief
from lmrl.tasks.car_dealer.wording import BUYER, dollars, pick, wordings

DECISION = re.compile(
    r"\s*Output:\s*Decision=(?P<decision>Accept|Reject)\b"
    r"(?:\s*MSRP=\$(?P<msrp>[1-9][\d,]*))?(?:\s*Buy Price=\$(?P<price>[1-9][\d,]*))?",
    re.IGNORECASE,
)
"""The end of a buyer's last words; the seller does not see it."""
_QUOTES = (("\u2018", "'"), ("\u2019", "'"), ("\u201c", '"'), ("\u201d", '"'), ("\u2013", "-"), ("\u2014", "-"))
_MOST_SAID = 4
"""Acts of one reply, at most."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision that a buyer wrote, and his words without it."""

    kind: str
    """`accept`, `reject`, or empty: none yet."""
    price: int | None
    """Dollars that he pays, if he says so."""
    msrp: int | None
    """Dollars that he calls the list price."""
    words: str
    """The words that the seller sees, in one line without its line break."""


def read_decision(text: str) -> Decision:
    """Return a buyer's decision, wherever in his text it stands; his words are reduced to plain characters."""
    text = text.strip()
    if not (text.isascii() and text.isprintable()):
        text = _plain(text)
    found = DECISION.search(text)
    words = " ".join(DECISION.sub(" ", text).split())
    if found is None:
        return Decision("", None, None, words)
    return Decision(found["decision"].lower(), _amount(found["price"]), _amount(found["msrp"]), words)


def _plain(text: str) -> str:
    """Return a text in ASCII, with spaces for characters that cannot be printed."""
    for fancy, plain in _QUOTES:
        text = text.replace(fancy, plain)
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "".join(character if character.isprintable() else " " for character in ascii_text)


def decision_line(kind: str, list_price: int, price: int | None = None) -> str:
    """Write a decision as `read_decision` reads it."""
    paid = f" Buy Price={dollars(price)}" if price is not None else ""
    return f"Output: Decision={kind.capitalize()} MSRP={dollars(list_price)}{paid}"


def _amount(text: str | None) -> int | None:
    return None if text is None else int(text.replace(",", ""))


class EmbeddedBuyer:
    """Answers a seller without any model; needs nothing but the brief and the dialogue, and keeps nothing.

    `lmrl.tasks.car_dealer.bargaining` decides his acts, from the seller's utterances alone; the wording of these
    is drawn from the request's seed and turn.
    """

    settings: Mapping[str, Any] = {"buyer": "embedded", "version": 2}
    """Identifies this buyer; stored with data."""

    def __init__(self) -> None:
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one reply per request.

        Raises:
            ValueError: a history does not begin with a buyer's brief.
        """
        return [Action(self._reply(request)) for request in requests]

    def _reply(self, request: Request) -> str:
        """Word the automaton's acts after the seller's utterances."""
        brief = request.history[0].text if request.history else ""
        profile = read_brief(brief)
        said = tuple(turn.text for turn in request.history[1:] if not turn.is_action)
        if not said:
            raise ValueError("car_dealer: the seller speaks first, but there is nothing for the buyer to answer yet")
        talk = replay(brief, said)
        draws = self._uniforms.draw(request.seed, request.turn, _MOST_SAID)
        return _worded(profile, talk, draws.tolist())


def _worded(profile: Profile, talk: Talk, draws: Sequence[float]) -> str:
    """Return the automaton's acts in words; a decision stands at the end."""
    slots = {"car": profile.car, "list": dollars(profile.list_price), "budget": dollars(profile.budget)}
    slots |= {name: dollars(getattr(talk, name) or 0) for name in ("price", "offer", "said")}
    slots["features"] = enumerate_features(talk.asked) if talk.asked else ""
    sentences = [
        pick(wordings(BUYER, act, profile.personality), draw, slots)
        for act, draw in zip(talk.says, draws, strict=False)
    ]
    if talk.decision:
        price = talk.price if talk.decision == "accept" else None
        sentences.append(decision_line(talk.decision, profile.list_price, price))
    return " ".join(sentences) + "\n"


@cache
def shared_buyer() -> EmbeddedBuyer:
    """Return one buyer for all environments of a process, so that a rollout asks once per turn for all of them."""
    return EmbeddedBuyer()


def understood(utterance: str) -> bool:
    """Return whether the buyer understands anything of an utterance."""
    return bool(parse(utterance).acts)


def answer(brief: Mapping[str, Any], utterance: str) -> str:
    """Return a buyer's reply to one utterance after a greeting, with the fields of `Profile` as his brief.

    Raises:
        ValueError: the brief is not complete.
    """
    features = brief.get("features", "")
    listed = features.split(", ") if isinstance(features, str) else list(features)
    profile = checked({**brief, "features": listed})
    talk = replay(profile.brief(), ("Hello!\n", utterance))
    return _worded(profile, talk, [0.0] * _MOST_SAID)


def standing_price(brief: str, said: Sequence[str]) -> int | None:
    """Return the price that a seller's utterances came to, in dollars; `None` if he named none."""
    return replay(brief, tuple(said)).price
