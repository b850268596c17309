"""Offline data of Car Dealer: three scripted sellers, each with three kinds of buyers (arXiv 2311.18232, C.8)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from lmrl.config.types import Count, PositiveCount, Share, checked
from lmrl.data.games import game_of
from lmrl.envs.core import TextEnv
from lmrl.policies.core import Policy, Request
from lmrl.tasks.car_dealer.env import CarDealer
from lmrl.tasks.car_dealer.profile import PERSONALITIES, best_return, lost_return
from lmrl.tasks.car_dealer.sellers import STYLES, StyledSeller
from lmrl.text.trajectory import Trajectory, Turn


class ScriptedSellers:
    """Plays each scripted seller with each kind of buyer equally often.

    A seller who gives discounts suits the buyer who wants one, a seller who talks about features the buyer who wants
    features, and a concise seller the impatient buyer; other pairs often fail.

    Args:
        env: builds the conversation.
        task: the name that is stored with the data.
        trajectories: how many conversations there are; of all nine pairs equally many if it is a multiple of nine.
        seed: seed of everything.
        random_share: probability that a seller says something that is not his style.
        episodes_per_start: how many conversations in a row are with the same buyer, for methods that compare such ones.

    Raises:
        ValueError: an argument is out of its range, or `env` builds another game.
    """

    policy = "scripted sellers"
    version = 1
    """Changes whenever the same arguments give other data."""

    @checked
    def __init__(
        self,
        *,
        env: Callable[[], TextEnv],
        task: str,
        trajectories: PositiveCount = 19_000,
        seed: Count = 0,
        random_share: Share = 0.15,
        episodes_per_start: PositiveCount = 1,
    ) -> None:
        game = game_of(env, CarDealer)
        self.task, self.env_version = task, game.version
        self._env, self._game_settings = env, game.settings
        self._trajectories, self._seed, self._random_share = trajectories, seed, random_share
        self._episodes_per_start = episodes_per_start

    def settings(self) -> Mapping[str, Any]:
        """Return everything that decides what the data are."""
        return {
            "recipe": "lmrl.tasks.car_dealer.recipe.ScriptedSellers",
            "version": self.version,
            "car_dealer": dict(self._game_settings),
            "trajectories": self._trajectories,
            "seed": self._seed,
            "random_share": self._random_share,
            "episodes_per_start": self._episodes_per_start,
        }

    def __len__(self) -> int:
        return self._trajectories

    def __iter__(self) -> Iterator[Trajectory]:
        return (self.play(index) for index in range(self._trajectories))

    def play(self, index: int) -> Trajectory:
        """Play one conversation; it depends on the seed and its index only."""
        start, repeat = divmod(index, self._episodes_per_start)
        buyer = PERSONALITIES[start % len(PERSONALITIES)]
        style = list(STYLES)[(start // len(PERSONALITIES) + repeat) % len(STYLES)]
        seed, chance = _seed(self._seed, 0, start), _seed(self._seed, 1, index)
        env, seller = self._game, self._sellers[style]
        observation, _ = env.reset(seed=seed, options={"personality": buyer})
        turns, actions = [Turn(observation, is_action=False)], 0
        while True:
            text = seller.act([Request(tuple(turns), seed=chance, turn=actions)])[0].text
            observation, reward, terminated, truncated, info = env.step(text)
            turns += [Turn(text, is_action=True, reward=float(reward)), Turn(observation, is_action=False)]
            actions += 1
            if terminated or truncated:
                return Trajectory(tuple(turns), terminated, truncated, seed, {**info, "seller": style})

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:
        """Return the exact best and worst mean returns, and the success rate of each pair that is known."""
        mode, reject = self._game_settings["reward"], self._game_settings["reject_reward"]
        numbers: dict[str, int | float] = {
            "best_response_return": best_return(mode),
            "no_sale_return": lost_return(mode, reject),
        }
        played, sold = Counter(), Counter()
        for trajectory in trajectories:
            info = trajectory.info
            if "seller" in info and "personality" in info:
                pair = f"{info['seller']}_{info['personality']}"
                played[pair] += 1
                sold[pair] += bool(info["success"])
        return numbers | {f"success_{pair}": sold[pair] / played[pair] for pair in sorted(played)}

    @cached_property
    def _game(self) -> TextEnv:
        return self._env()

    @cached_property
    def _sellers(self) -> Mapping[str, Policy]:
        return {style: StyledSeller(style=style, random_share=self._random_share) for style in STYLES}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what each process makes for itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_game", "_sellers")}


def _seed(*parts: int) -> int:
    """Return a seed of 48 bits that other parts do not share."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(16))
