"""Recipes of offline data: the protocol of all, and the base of those that play a task's own game."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from lmrl.config.types import Count, PositiveCount, checked
from lmrl.envs.core import TextEnv
from lmrl.text.trajectory import Trajectory

_Game = TypeVar("_Game", bound=TextEnv)


@runtime_checkable
class Recipe(Protocol):
    """Makes the offline data of a task; `dataset.recipe` in the task's YAML file names one."""

    task: str
    """The task's name, stored with the data."""
    policy: str
    """A name of the behaviour policy."""
    env_version: str

    def settings(self) -> Mapping[str, Any]:
        """Return everything that determines the data, the seed included, as JSON values."""
        ...

    def __len__(self) -> int:
        """Return the number of episodes."""
        ...

    def __iter__(self) -> Iterator[Trajectory]:
        """Make the episodes, the same ones each time."""
        ...

    def statistics(self, trajectories: Iterable[Trajectory]) -> Mapping[str, int | float]:
        """Return further numbers about the data besides lengths, returns and successes; may be empty."""
        ...


class GameRecipe(ABC):
    """Plays the episodes of a game one by one, each from the seed and its index alone.

    A subclass names the game and its behaviour policy, plays one episode, and returns its own arguments as `options`.
    Values in a `cached_property` are not sent to other processes, which compute their own.

    Args:
        env: builds the game.
        task: the name that is stored with the data.
        trajectories: the number of episodes.
        seed: seed of everything.

    Raises:
        ValueError: an argument is out of its range, or `env` builds another game.
    """

    game_class: ClassVar[type[TextEnv]]
    policy: ClassVar[str]
    version: ClassVar[int] = 1
    """Changes whenever the same arguments give other data."""

    @checked
    def __init__(
        self, *, env: Callable[[], TextEnv], task: str, trajectories: PositiveCount = 1000, seed: Count = 0
    ) -> None:
        self._env = env
        self.task, self.env_version = task, self.game.version
        self.trajectories, self.seed = trajectories, seed

    @cached_property
    def game(self) -> Any:
        """The game in which episodes are played, an instance of `game_class`."""
        return build_game(self._env, self.game_class)

    @abstractmethod
    def play(self, index: int) -> Trajectory:
        """Play one episode, from 0 on; it depends on settings and index only."""

    def options(self) -> Mapping[str, Any]:
        """Return the subclass's own arguments, as JSON values."""
        return {}

    def rules(self) -> Mapping[str, Any]:
        """Return the settings of the game that determine the data."""
        return dict(self.game.settings)

    def settings(self) -> Mapping[str, Any]:
        """Return everything that determines the data, as JSON values."""
        cls = type(self)
        return {
            "recipe": f"{cls.__module__}.{cls.__qualname__}",
            "version": self.version,
            "game": self.rules(),
            "trajectories": self.trajectories,
            "seed": self.seed,
            **self.options(),
        }

    def __len__(self) -> int:
        return self.trajectories

    def __iter__(self) -> Iterator[Trajectory]:
        return (self.play(index) for index in range(self.trajectories))

    def statistics(self, trajectories: Iterable[Trajectory]) -> Mapping[str, int | float]:  # noqa: ARG002
        """Return further numbers about the data; none by default."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out cached properties."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if not isinstance(getattr(type(self), name, None), cached_property)
        }


def build_game(env: Callable[[], TextEnv], kind: type[_Game]) -> _Game:
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
