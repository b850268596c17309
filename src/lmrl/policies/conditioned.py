"""A policy that sees more than the environment said: text put among the turns before they are read."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lmrl.policies.core import Action, Policy, Request
from lmrl.text.trajectory import History


class Conditioned:
    """Lets another policy act on histories to which text was added; whatever else that policy can do stays in reach.

    What it says belongs to the history with the text in it: to compute an action's log-probability again, the same
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
        """Return what the acting policy has under this name."""
        if name == "policy":  # not set yet, as in a copy under construction
            raise AttributeError(name)
        return getattr(self.policy, name)
