"""A policy that reads extra text, such as the return-to-go, between the turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmrl.policies.core import Action, Policy, Request
from lmrl.text.trajectory import History, Turn


class Conditioned:
    """Lets another policy act on histories to which text was added; whatever else that policy can do stays in reach.

    Its actions belong to the history with the extra text: to compute an action's log-probability again, the same
    text has to stand there.

    Args:
        policy: who acts.
        condition: from a request to the history that the policy is shown instead.
    """

    def __init__(self, policy: Policy, condition: Callable[[Request], History]) -> None:
        self.policy = policy
        self._condition = condition

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one action per request, in order."""
        return self.policy.act([replace(request, history=self._condition(request)) for request in requests])

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the acting policy."""
        if name == "policy":  # not set yet, as in a copy under construction
            raise AttributeError(name)
        return getattr(self.policy, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnToGo:
    """Writes the rest of a target return before a history."""

    template: str
    """The text, with `{}` where the return stands."""
    digits: int
    """Decimal places of returns in the text."""
    target: float
    """The return that the episode shall have."""
    lowest: float
    """The smallest return-to-go of the data: a number that was never seen means nothing."""
    highest: float
    """The largest one."""
    reads_episodes: bool = False
    """Whether histories are whole episodes, with a text before the observations of every action."""

    def text(self, value: float) -> str:
        """Return the text that says a return."""
        return self.template.format(f"{round(value, self.digits) + 0.0:.{self.digits}f}")  # + 0.0: never "-0"

    def left(self, earned: float) -> Turn:
        """Return the rest of the target return."""
        return Turn(self.text(min(max(self.target - earned, self.lowest), self.highest)), is_action=False)

    def condition(self, request: Request) -> History:
        """Insert the rest of the target return into a history, at its places in training."""
        if not self.reads_episodes:
            return (self.left(request.earned), *request.history)
        turns, earned = [self.left(0.0)], 0.0
        for turn in request.history:
            turns.append(turn)
            earned += turn.reward
            if turn.is_action:
                turns.append(self.left(earned))
        return tuple(turns)
