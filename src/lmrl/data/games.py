"""The game that a recipe makes data of."""

from collections.abc import Callable
from typing import TypeVar

from lmrl.envs.core import TextEnv

_Game = TypeVar("_Game", bound=TextEnv)


def game_of(env: Callable[[], TextEnv], kind: type[_Game]) -> _Game:
    """Build a recipe's game, whose rules and tables the recipe knows.

    Raises:
        ValueError: `env` builds another game.
    """
    game = env()
    if not isinstance(game, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        built = type(game).__name__
        raise ValueError(f"task.dataset.recipe.env must build {article} {kind.__name__}, but it builds a {built}")
    return game
