"""A player without a model: uniformly random actions."""

from collections.abc import Sequence

from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms


class RandomPolicy:
    """Plays each of a list of actions equally often.

    Args:
        actions: the choices, each with the delimiter that the task's actions end in.

    Raises:
        ValueError: there are no actions.
    """

    def __init__(self, *, actions: Sequence[str]) -> None:
        if isinstance(actions, str) or len(actions) == 0:
            raise ValueError(f"actions must be a list of at least one text, got {actions!r}")
        self.actions = tuple(actions)
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Draw one action per request; the draw depends only on the request's seed and turn."""
        draws = (self._uniforms.draw(request.seed, request.turn, 1)[0] for request in requests)
        return [Action(self.actions[int(draw * len(self.actions))]) for draw in draws]
