"""Players without a model: uniformly random actions, and a person at a terminal."""

from collections.abc import Callable, Sequence

from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms


class RandomPolicy:
    """Plays each of a list of actions equally often.

    Args:
        actions: what to choose from, each with the delimiter that the task's actions end in.

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


class HumanPolicy:
    """Asks a person, who is shown what is new and what the last action has earned.

    Args:
        is_partner: whether the person is the other side of a dialogue, who earns nothing.
        ending: what is put behind each typed line, as the task's actions end in it.
        write: shows a text (default: the terminal).
        read: returns a typed line without its line break (default: the terminal).
    """

    def __init__(
        self,
        *,
        is_partner: bool = False,
        ending: str = "\n",
        write: Callable[[str], object] = print,
        read: Callable[[str], str] = input,
    ) -> None:
        self.is_partner = is_partner
        self.ending = ending
        self._write = write
        self._read = read

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Show each request's latest observation and return what is typed."""
        return [self._ask(request) for request in requests]

    def _ask(self, request: Request) -> Action:
        news = len(request.history)
        while news and not request.history[news - 1].is_action:
            news -= 1
        self._write("".join(turn.text for turn in request.history[news:]).rstrip("\n"))
        if news and not self.is_partner:
            self._write(f"[{request.history[news - 1].reward:+g}, {request.earned:g} in all]")
        return Action(self._read("> ") + self.ending)
