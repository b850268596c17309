"""Reads Car Dealer conversations in LMRL-Gym's layouts: those of its loaders, and the raw ones of its generator."""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from lmrl.data.published import Entry, FormatError, Place, PublishedArray, flag, listed, number, short, text
from lmrl.data.recipe import Recipe
from lmrl.tasks.car_dealer.env import OPENING
from lmrl.tasks.car_dealer.partner import read_decision
from lmrl.tasks.car_dealer.profile import REJECTS, REWARDS, loss_reward, sale_reward
from lmrl.text.trajectory import Trajectory, Turn

ROLES = {"Seller": True, "Dealer": True, "Buyer": False}
"""Who speaks; whether it is the agent."""


class PublishedCarDealer(PublishedArray):
    """A published file of conversations (arXiv 2311.18232, C.8): JSON, as one value or one value per line.

    A value is a conversation, a list of conversations, or an object of such lists by personality. A conversation has
    `buyer_info` with `budget` (dollars, or text as `30k`) and `personality` (`background_buyer` if raw), and `lines`, a
    list of objects with `role` (`Seller`, `Dealer` or `Buyer`) and `text`. With `output`, an object with `car_bought`,
    `msrp` and `buy_price`, it came to its end, and the last of the seller's texts earns the reward; without, it earns
    nothing and was cut off.

    Args:
        path: the file.
        like: see `PublishedFile`.
        reward: as for `CarDealer`.
        reject_reward: as for `CarDealer`; the published averages are of `reference`.

    Raises:
        ValueError: `reward` or `reject_reward` is not known.
    """

    def __init__(
        self,
        *,
        path: str | Path,
        like: Recipe,
        reward: Literal["fancy", "revenue"] = "fancy",
        reject_reward: Literal["fair", "reference"] = "reference",
    ) -> None:
        super().__init__(path=path, like=like)
        for name, value, known in (("reward", reward, REWARDS), ("reject_reward", reject_reward, REJECTS)):
            if value not in known:
                raise ValueError(f"car_dealer import: {name} must be one of {', '.join(known)}, got {value!r}")
        self.reward, self.reject_reward = reward, reject_reward

    def options(self) -> Mapping[str, Any]:
        """Return how conversations are priced."""
        return {"reward": self.reward, "reject_reward": self.reject_reward}

    def split(self, value: Any, where: str, place: Place) -> Iterator[Entry]:
        """Divide a value into conversations; an object that is none has a list of them for each personality."""
        if not isinstance(value, dict) or {"lines", "buyer_info"} & set(value):
            yield from super().split(value, where, place)
            return
        for personality, items in value.items():
            kind = f"{where}personality {personality!r}"
            if not isinstance(items, list):
                raise FormatError(f"{kind}: expected a list, got {short(items)}")
            yield from super().split(items, f"{kind}, ", place)

    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Read a conversation from each value."""
        return (self._trajectory(value, place) for place, value in values)

    def _trajectory(self, conversation: Any, place: Place) -> Trajectory:
        """Read one conversation."""
        if not isinstance(conversation, dict):
            raise FormatError(f"expected an object, got {short(conversation)}")
        buyer = conversation.get("buyer_info")
        if not isinstance(buyer, dict):
            raise FormatError(f"field 'buyer_info': expected an object, got {short(buyer)}")
        said = _merged([_line(item, index) for index, item in enumerate(listed(conversation, "lines"))])
        last = max((index for index, (is_action, _) in enumerate(said) if is_action), default=None)
        if last is None:
            raise FormatError("field 'lines': a conversation in which the seller says nothing")
        reward, facts = self._outcome(conversation, _budget(buyer.get("budget")))
        who = buyer.get("personality", buyer.get("background_buyer"))
        facts |= {**place, "personality": text(who, "field 'buyer_info', personality")}
        opening = OPENING if said[0][0] else OPENING + said[0][1]
        turns = [Turn(opening, is_action=False)]
        for index, (is_action, words) in enumerate(said):
            if index or is_action:
                turns.append(Turn(words, is_action, reward if index == last else 0.0))
        over = "decision" in facts
        return Trajectory(tuple(turns), terminated=over, truncated=not over, info=facts)

    def _outcome(self, conversation: Mapping[str, Any], budget: int) -> tuple[float, dict[str, Any]]:
        """Return the reward of a conversation, and the facts of its end."""
        facts: dict[str, Any] = {"success": False, "budget": budget}
        output = conversation.get("output")
        if output is None:
            return 0.0, facts
        if not isinstance(output, dict):
            raise FormatError(f"field 'output': expected an object, got {short(output)}")
        bought = flag(output.get("car_bought"), "field 'output', car_bought")
        list_price = _dollars(output.get("msrp"), "field 'output', msrp")
        paid = output.get("buy_price")
        price = 0 if paid is None else _dollars(paid, "field 'output', buy_price")
        facts |= {"success": bought, "decision": "accept" if bought else "reject"}
        facts |= {"price": price if bought else 0, "list_price": list_price}
        case = {"budget": budget, "list_price": list_price, "mode": self.reward}
        if bought and not budget + list_price:
            raise FormatError("field 'output', msrp: it and the budget are 0, so the sale has no value")
        if bought:
            return sale_reward(price, **case), facts
        return loss_reward(**case, reject=self.reject_reward), facts


def _line(item: Any, index: int) -> tuple[bool, str]:
    """Return whether the seller speaks, and the words in one line without the buyer's decision."""
    if not isinstance(item, dict):
        raise FormatError(f"field 'lines', entry {index}: expected an object, got {short(item)}")
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise FormatError(f"field 'lines', entry {index}, role: expected one of {', '.join(ROLES)}, got {short(role)}")
    words = text(item.get("text"), f"field 'lines', entry {index}, text")
    return ROLES[role], (" ".join(words.split()) if ROLES[role] else read_decision(words).words)


def _merged(lines: list[tuple[bool, str]]) -> list[tuple[bool, str]]:
    """Join consecutive utterances of one side, and end them in a line break."""
    groups = groupby(lines, key=lambda line: line[0])
    return [(is_action, " ".join(words for _, words in group) + "\n") for is_action, group in groups]


def _budget(value: Any) -> int:
    """Return a budget in dollars, from a number or from text as `30k`."""
    if isinstance(value, str):
        found = re.fullmatch(r"\$?([0-9]{1,9})(k?)", value.strip().replace(",", "").lower())
        if found is None:
            raise FormatError(f"field 'buyer_info', budget: expected dollars, got {short(value)}")
        return int(found[1]) * (1000 if found[2] else 1)
    return _dollars(value, "field 'buyer_info', budget")


def _dollars(value: Any, place: str) -> int:
    amount = number(value, place)
    if amount < 0:
        raise FormatError(f"{place}: expected dollars, got {short(value)}")
    return round(amount)
