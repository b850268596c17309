"""Car Dealer, after LMRL-Gym: sell a car to a buyer whose personality, wishes and budget are hidden."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lmrl.envs.core import StepResult, TextEnv
from lmrl.policies.core import Action, Policy, Request
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


class CarDealer(TextEnv):
    """One conversation with one buyer; the agent sells.

    `reset` takes as options any fields of the buyer's `Profile`; the others are drawn evenly and independently. Each
    utterance of the agent is answered by the partner. The conversation ends (terminated) when the buyer writes his
    decision, or without one after `max_turns` utterances: then he leaves, and is a lost buyer.

    The list price belongs to the car, and is part of the profile: what anybody says that it is changes nothing. A buyer
    who accepts pays the price that he names, but no more than the seller asked for; if he names none, what the seller
    asked for.

    Args:
        reward: `fancy`, the price by the mean of budget and list price, or `revenue`, thousands of dollars.
        reject_reward: what a lost buyer earns in `fancy`: `fair` or `reference`, see `loss_reward`.
        max_turns: utterances of the agent after which the buyer leaves.
        partner: the buyer. `None`: the embedded one.

    Raises:
        ValueError: an argument is out of its range.
    """

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
        """What tells this game from others; stored with data."""
        self.profile: Profile | None = None
        """The buyer of this conversation; hidden from the agent."""
        self._brief, self._seed = "", 0
        self._turns: list[Turn] = []
        self._waiting = self._running = False

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Let a buyer come in.

        Raises:
            ValueError: an unknown option, or a value that it cannot have.
        """
        super().reset(seed=seed)
        self.profile = draw_profile(self.np_random, dict(options or {}))
        self._seed = int(self.np_random.integers(2**63))
        self._brief, self._turns = self.profile.brief(), []
        self._waiting, self._running = False, True
        return OPENING, {}

    def step(self, action: str) -> StepResult:
        """Say something to the buyer and hear his answer.

        Raises:
            RuntimeError: no conversation is running.
        """
        return self.judge(self.partner.act([self.address(action)])[0])

    def address(self, action: str) -> Request:
        """Return what the buyer is shown: his brief, and the dialogue with this utterance at its end.

        Raises:
            RuntimeError: no conversation is running, or the last utterance was not answered yet.
        """
        if not self._running or self._waiting:
            raise RuntimeError("car_dealer: call reset() before step(), and judge() after each address()")
        # A seller who writes a decision must not put it into the mouth of a buyer who reads on.
        said = " ".join(DECISION.sub(" ", action).split()) + "\n"
        self._turns.append(Turn(said, is_action=False))
        self._waiting = True
        brief = Turn(self._brief, is_action=False)
        return Request((brief, *self._turns), seed=self._seed, turn=self._length)

    def judge(self, reply: Action) -> StepResult:
        """Read the buyer's answer and price his decision; the last step's info tells the profile.

        Raises:
            RuntimeError: no utterance waits for an answer.
        """
        if not self._waiting or self.profile is None:
            raise RuntimeError("car_dealer: call address() before judge()")
        self._waiting = False
        decision = read_decision(reply.text)
        self._turns.append(Turn(decision.words + "\n", is_action=True))
        is_over = bool(decision.kind) or self._length >= self.max_turns  # by the rules: nothing can be earned any more
        said = parse(self._turns[-2].text)
        info: dict[str, Any] = {"success": decision.kind == "accept", "is_invalid": not said.acts}
        earned = 0.0
        if is_over:
            self._running = False
            price = self._paid(decision)
            earned = self._earned(price)
            info |= {"decision": decision.kind or "none", "price": price or 0, "personality": self.profile.personality}
            info |= {"budget": self.profile.budget, "list_price": self.profile.list_price}
        return decision.words + "\n", earned, is_over, False, info

    @property
    def _length(self) -> int:
        """How many utterances of the agent there were."""
        return sum(not turn.is_action for turn in self._turns)

    def _paid(self, decision: Decision) -> int | None:
        """Return the price of a sale in dollars; `None` if there is none."""
        if decision.kind != "accept" or self.profile is None:
            return None
        asked = standing_price(self._brief, [turn.text for turn in self._turns if not turn.is_action])
        most = _MOST_PAID * self.profile.list_price
        named = [price for price in (decision.price, asked) if price is not None]
        return min([*named, most]) if named else 0

    def _earned(self, price: int | None) -> float:
        """Return what the end of the conversation earns."""
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
        """Return what a seller can sensibly say now, in the words of the scripted sellers."""
        seen = (Turn(OPENING, is_action=False), *(Turn(turn.text, not turn.is_action) for turn in self._turns))
        return sensible_sentences(seen)
