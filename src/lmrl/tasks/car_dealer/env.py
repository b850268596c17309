"""Car Dealer, after LMRL-Gym: sell a car to a buyer whose personality, wishes and budget are hidden."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lmrl.envs.core import DialogueEnv
from lmrl.policies.core import Policy
from lmrl.tasks.car_dealer.parser import parse
from lmrl.tasks.car_dealer.partner import DECISION, Decision, read_decision, shared_buyer, standing_price
from lmrl.tasks.car_dealer.profile import (
    BUDGETS,
    PERSONALITIES,
    REJECTS,
    REWARDS,
    Profile,
    draw_profile,
    loss_reward,
    sale_reward,
)
from lmrl.tasks.car_dealer.sellers import sensible_sentences
from lmrl.text.trajectory import Turn

OPENING = "Start\n"
"""The text that every conversation begins with; then the seller speaks."""
_MOST_PAID = 2
"""A price counts at most so many list prices."""


class CarDealer(DialogueEnv):
    """One conversation with one buyer; the agent sells.

    `reset` takes as options any fields of the buyer's `Profile`; the others are drawn evenly and independently. Each
    utterance of the agent is answered by the partner. The conversation ends (terminated) when the buyer writes his
    decision, or without one after `max_turns` utterances: then he leaves, and is a lost buyer.

    The list price belongs to the car, and is part of the profile: no utterance changes it. A buyer
    who accepts pays the price that he names, but no more than the seller asked for; if he names none, the seller's
    last price.

    Args:
        reward: `fancy`, the price by the mean of budget and list price, or `revenue`, thousands of dollars.
        reject_reward: the reward of a lost buyer in `fancy`: `fair` or `reference`, see `loss_reward`.
        max_turns: utterances of the agent after which the buyer leaves.
        partner: the buyer. `None`: the embedded one.

    Raises:
        ValueError: an argument is out of its range.
    """

    name = "car_dealer"
    version: ClassVar[str] = "2"

    def __init__(
        self,
        *,
        reward: Literal["fancy", "revenue"] = "fancy",
        reject_reward: Literal["fair", "reference"] = "fair",
        max_turns: Annotated[int, Field(ge=2, le=10_000)] = 25,
        partner: Policy | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (("reward", reward, REWARDS), ("reject_reward", reject_reward, REJECTS)):
            if value not in known:
                raise ValueError(f"car_dealer: {name} must be one of {', '.join(known)}, got {value!r}")
        if isinstance(max_turns, bool) or not isinstance(max_turns, int) or max_turns < 2:
            raise ValueError(f"car_dealer: max_turns must be at least 2, got {max_turns!r}")
        self.partner: Policy = shared_buyer() if partner is None else partner
        """The buyer, shared by all environments that were given the same."""
        self.reward, self.reject_reward, self.max_turns = reward, reject_reward, max_turns
        told = getattr(self.partner, "settings", {"buyer": type(self.partner).__qualname__})
        self.settings = {
            "reward": reward,
            "reject_reward": reject_reward,
            "max_turns": max_turns,
            "partner": dict(told),
        }
        """Identifies this game; stored with data."""
        self.profile: Profile | None = None
        """The buyer of this conversation; hidden from the agent."""
        self._turns: list[Turn] = []

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Let a buyer come in.

        Raises:
            ValueError: an unknown option, or a value that it cannot have.
        """
        super().reset(seed=seed)
        self.profile = draw_profile(self.np_random, dict(options or {}))
        self.begin(self.profile.brief(), int(self.np_random.integers(2**63)))
        return OPENING, {}

    def transcribed(self, action: str) -> str:
        """Return the utterance without a decision, which a seller must not put into the mouth of a buyer."""
        return " ".join(DECISION.sub(" ", action).split()) + "\n"

    def respond(self, utterance: str, reply: str) -> tuple[str, float, bool, dict[str, Any]]:
        """Read the buyer's answer and price his decision; the last info contains the profile."""
        decision = read_decision(reply)
        is_over = bool(decision.kind) or self.utterances >= self.max_turns  # by the rules: nothing more can be earned
        info: dict[str, Any] = {"success": decision.kind == "accept", "is_invalid": not parse(utterance).acts}
        earned = 0.0
        if is_over and self.profile is not None:
            price = self._paid(decision)
            earned = self._earned(price)
            info |= {"decision": decision.kind or "none", "price": price or 0, "personality": self.profile.personality}
            info |= {"budget": self.profile.budget, "list_price": self.profile.list_price}
        return decision.words + "\n", earned, is_over, info

    def _paid(self, decision: Decision) -> int | None:
        """Return the price of a sale in dollars; `None` if there is none."""
        if decision.kind != "accept" or self.profile is None:
            return None
        asked = standing_price(self._brief.text, [turn.text for turn in self._turns if not turn.is_action])
        most = _MOST_PAID * self.profile.list_price
        named = [price for price in (decision.price, asked) if price is not None]
        return min([*named, most]) if named else 0

    def _earned(self, price: int | None) -> float:
        """Return the reward of the end of the conversation."""
        if self.profile is None:
            return 0.0
        case = {"budget": self.profile.budget, "list_price": self.profile.list_price, "mode": self.reward}
        if price is None:
            return loss_reward(**case, reject=self.reject_reward)
        return sale_reward(price, **case)

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return every personality with every budget; brand, type, features and list price are drawn."""
        return tuple({"personality": who, "budget": budget} for who in PERSONALITIES for budget in BUDGETS)

    def legal_actions(self) -> Sequence[str]:
        """Return sensible utterances of a seller now, in the words of the scripted sellers."""
        seen = (Turn(OPENING, is_action=False), *(Turn(turn.text, not turn.is_action) for turn in self._turns))
        return sensible_sentences(seen)
