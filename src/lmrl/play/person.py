"""A person at the terminal: prompts, and actions from typed lines."""

import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmrl.envs.core import Dialogue, TextEnv
from lmrl.policies.core import Action, Request

LISTED = 60
"""Actions that are listed at once, at most."""
HINT = "Type ? for a list of actions, or ? and a text for those that contain it. Ctrl-D ends the game."


class Person:
    """Asks a person, who is shown the newest observation and the last reward.

    Nothing is sent to the environment that was only a slip of the keyboard: after an empty line, after keys that are
    not text (arrow keys) and after `?`, which lists actions, the person is asked again.

    Args:
        is_partner: whether the person is the other side of a dialogue, who earns nothing.
        ending: the delimiter of the task's actions, appended to each typed line.
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
        self._env: TextEnv | None = None
        self._info: Mapping[str, Any] = {}

    def watch(self, env: TextEnv) -> TextEnv:
        """Look at an environment that this person plays in, for its list of actions and its understanding of them."""
        name = "judge" if isinstance(env, Dialogue) else "step"
        original = getattr(env, name)

        def noted(said: Any) -> Any:
            result = original(said)
            self._info = result[4]
            return result

        setattr(env, name, noted)
        self._env = env
        return env

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Show each request's latest observation and return the typed action."""
        return [self._ask(request) for request in requests]

    def _ask(self, request: Request) -> Action:
        news = len(request.history)
        while news and not request.history[news - 1].is_action:
            news -= 1
        self._write("".join(turn.text for turn in request.history[news:]).rstrip("\n"))
        if not self.is_partner:
            if news:
                self._write(earned(request.history[news - 1].reward, request.earned, self._info))
            picture = self._env.picture() if self._env else None
            if picture:
                self._write(picture)
        return Action(self._as_listed(self._typed()))

    def _typed(self) -> str:
        """Return the first line that is typed and meant to be said."""
        while True:
            line = self._read("> ")
            if not all(map(str.isprintable, line.replace("\t", " "))) or not _is_text(line):
                self._write("That was a key without a character, such as an arrow key. Nothing was sent: type again.")
            elif not line.strip():
                self._write("Nothing was typed, and nothing was sent.")
            elif line.lstrip().startswith("?") and not self.is_partner:
                self._write(listing(self._actions(), line.strip()[1:].strip()))
            else:
                return line

    def _actions(self) -> Sequence[str] | None:
        return self._env.legal_actions() if self._env else None

    def _as_listed(self, line: str) -> str:
        """Return the listed action that differs from a line only in spaces, or else the line itself.

        Capitals differ only where the action has none: in chess, `bxc3` is not `Bxc3`.
        """
        typed = "".join(line.split())
        actions = () if self.is_partner else self._actions() or ()
        listed = (a for a in actions if "".join(a.split()) == (typed.lower() if a.islower() else typed))
        return next(listed, line + self.ending)


def earned(reward: float, total: float, info: Mapping[str, Any]) -> str:
    """Return the reward of an action as text."""
    label = "not understood:" if info.get("is_invalid") else "reward"
    return f"[{label} {reward:g}, total {total:g}]"


def listing(actions: Sequence[str] | None, part: str) -> str:
    """List the actions that contain a text, whatever its spaces and capitals, as many as fit on a screen."""
    if actions is None:
        return "This task has no list of actions: anything that the rules allow can be typed."
    found = [action.rstrip("\n") for action in actions if _letters(part) in _letters(action)]
    if not found:
        return f"No listed action contains {part!r}."
    shown = found[:LISTED]
    width = max(map(len, shown)) + 2
    columns = max(1, shutil.get_terminal_size().columns // width)
    lines = [
        "".join(cell.ljust(width) for cell in shown[i : i + columns]).rstrip() for i in range(0, len(shown), columns)
    ]
    if len(found) > LISTED:
        lines.append(f"... and {len(found) - LISTED} more: ? TEXT lists those that contain TEXT")
    return "\n".join(lines)


def secrets(info: Mapping[str, Any]) -> str:
    """Return the facts that the end of an episode reveals, such as the hidden word, one line each."""
    told = {name: value for name, value in info.items() if name not in ("success", "is_invalid", "invalid_actions")}
    return "".join(textwrap.shorten(f"{name.replace('_', ' ')}: {value}", 200) + "\n" for name, value in told.items())


def _letters(text: str) -> str:
    return "".join(text.split()).lower()


def _is_text(line: str) -> bool:
    """Whether a line can be written as UTF-8: terminals of another encoding send halves of characters."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
