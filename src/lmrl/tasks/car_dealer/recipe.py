"""Offline data of Car Dealer: three scripted sellers, each with three kinds of buyers (arXiv 2311.18232, C.8)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from lmrl.config.types import PositiveCount, Share, checked
from lmrl.data.recipe import GameRecipe
from lmrl.policies.core import Policy, Request
from lmrl.tasks.car_dealer.env import CarDealer
from lmrl.tasks.car_dealer.profile import PERSONALITIES, best_return, lost_return
from lmrl.tasks.car_dealer.sellers import STYLES, StyledSeller
from lmrl.text.trajectory import Trajectory, Turn


class ScriptedSellers(GameRecipe):
    """Plays each scripted seller with each kind of buyer equally often.

    A seller who gives discounts suits the buyer who wants one, a seller who talks about features the buyer who wants
    features, and a concise seller the impatient buyer; other pairs often fail.

    Args:
        random_share: probability that a seller says something that is not his style.
        episodes_per_start: how many conversations in a row are with the same buyer, for methods that compare such ones.
        common: see `GameRecipe`.
    """

    game_class, policy = CarDealer, "scripted sellers"

    @checked
    def __init__(self, *, random_share: Share = 0.15, episodes_per_start: PositiveCount = 1, **common: Any) -> None:
        super().__init__(**common)
        self._random_share, self._episodes_per_start = random_share, episodes_per_start

    def options(self) -> Mapping[str, Any]:
        """Return the recipe's own arguments."""
        return {"random_share": self._random_share, "episodes_per_start": self._episodes_per_start}

    def play(self, index: int) -> Trajectory:
        """Play one conversation; it depends on the seed and its index only."""
        start, repeat = divmod(index, self._episodes_per_start)
        buyer = PERSONALITIES[start % len(PERSONALITIES)]
        style = list(STYLES)[(start // len(PERSONALITIES) + repeat) % len(STYLES)]
        seed, chance = _seed(self.seed, 0, start), _seed(self.seed, 1, index)
        env, seller = self.game, self._sellers[style]
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
        mode, reject = self.game.settings["reward"], self.game.settings["reject_reward"]
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
    def _sellers(self) -> Mapping[str, Policy]:
        return {style: StyledSeller(style=style, random_share=self._random_share) for style in STYLES}


def _seed(*parts: int) -> int:
    """Return a seed of 48 bits that other parts do not share."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(16))
