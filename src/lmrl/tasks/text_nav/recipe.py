"""The behaviour data of Text-Nav: players who know the way in one half of the house, and wander in the other."""

import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lmrl.config.types import PositiveCount, Share, checked
from lmrl.data.recipe import GameRecipe
from lmrl.rollout import Start, rollout
from lmrl.tasks.text_nav.env import ExpertPlayer, RandomPlayer, TextNav
from lmrl.tasks.text_nav.house import CARGO, HOLDERS, TARGET
from lmrl.text.trajectory import Trajectory, Turn

HALVES: Mapping[str, frozenset[str]] = {
    "far": frozenset({"office", "bathroom", "garden", "backyard"}),
    "near": frozenset({"kitchen", "dining room", "living room", "bedroom"}),
}
"""Which rooms each player knows the way in."""

_TAKE = f"take {CARGO} from {HOLDERS['living room']}"
WALKTHROUGH: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bedroom": (("go west",), ("go west",)),
    "living room": ((_TAKE, "go west"), (_TAKE, "go west")),
    "dining room": (("go east",), ("go west",)),
    "kitchen": (("go east",), (f"open {TARGET}", f"insert {CARGO} into {TARGET}", f"close {TARGET}")),
    "office": (("go north",), ("go north",)),
    "bathroom": (("go north",), ("go north",)),
    "garden": (("go south",), ("go south",)),
    "backyard": (("go east",), ("go east",)),
}
"""A player's commands in a room that it knows, before and after the command to take the stale food."""


class HalfwayRecipe(GameRecipe):
    """Plays the behaviour policy of LMRL-Gym's Text-Nav data (arXiv 2311.18232, C.2) in the real environment.

    Each episode draws a player. In a room of its own half it follows the walkthrough with probability `greedy`, and
    completes it there; otherwise it plays a uniformly random admissible command. The paper calls the players
    greedily optimal in their halves, which is `greedy` of 1; the published script has 0.1 by mistake.

    Args:
        greedy: probability of beginning the walkthrough in a room of the player's own half.
        far: probability of the player who knows the half far from the fridge, and hardly ever wins.
        episodes_per_start: how many episodes in a row begin alike, for methods that compare such episodes.
        common: see `GameRecipe`.
    """

    game_class, policy = TextNav, "half-house walkthroughs"

    @checked
    def __init__(
        self, *, greedy: Share = 1.0, far: Share = 0.75, episodes_per_start: PositiveCount = 1, **common: Any
    ) -> None:
        super().__init__(**common)
        self._greedy, self._far, self._episodes_per_start = greedy, far, episodes_per_start

    def options(self) -> Mapping[str, Any]:
        """Return the recipe's own arguments."""
        return {"greedy": self._greedy, "far": self._far, "episodes_per_start": self._episodes_per_start}

    def play(self, index: int) -> Trajectory:
        """Play one episode; it depends on the seed and its index only."""
        seed, chance_seed = (
            int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
            for number in (index // self._episodes_per_start, index)
        )
        chance = random.Random(chance_seed)
        player = "far" if chance.random() < self._far else "near"
        observation, start = self.game.reset(seed=seed)
        turns = [Turn(observation, is_action=False)]
        plan: list[str] = []
        has_taken = terminated = truncated = False
        info: Mapping[str, Any] = {}
        while not (terminated or truncated):
            if not plan:
                plan = self._plan(chance, player, has_taken)
            command = plan.pop(0)
            has_taken = has_taken or command == _TAKE
            observation, reward, terminated, truncated, info = self.game.step(f"{command}\n")
            turns += [Turn(f"{command}\n", is_action=True, reward=reward), Turn(observation, is_action=False)]
        facts = {"success": info["success"], "lost": info["lost"], "start": start["room"], "player": player}
        return Trajectory(tuple(turns), terminated, truncated, seed, facts)

    def _plan(self, chance: random.Random, player: str, has_taken: bool) -> list[str]:
        """Return the next commands: those of the walkthrough for this room, or a random one."""
        room = self.game.house.room
        if room in HALVES[player] and chance.random() < self._greedy:
            return list(WALKTHROUGH[room][has_taken])
        return [chance.choice(self.game.house.admissible())]

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:
        """Return the mean returns of the expert and of the random player, played from every room, always the same."""
        del trajectories
        starts = [dict(options) for options in self.game.evaluation_starts()]
        return {
            f"{name}_policy_return": _mean_return(self.game.settings, player, starts * repeats)
            for name, player, repeats in (("random", RandomPlayer(), 10), ("expert", ExpertPlayer(), 1))
        }


def _mean_return(
    settings: Mapping[str, Any], player: RandomPlayer | ExpertPlayer, starts: list[dict[str, Any]]
) -> float:
    """Return a player's mean return over episodes from the given starts, with seeds that count from 0."""
    numbered = [Start(seed, options) for seed, options in enumerate(starts)]
    played = rollout(lambda: TextNav(**settings), player, numbered, memory=None)
    return sum(trajectory.total_reward for trajectory in played) / len(played)
