"""Offline data of Guess My City: casual players who guess at the end, and some skilled ones."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lmrl.config.types import Share, checked
from lmrl.data.recipe import GameRecipe
from lmrl.policies.core import Policy
from lmrl.rollout import Start, rollout
from lmrl.tasks.guess_my_city.cities import cities
from lmrl.tasks.guess_my_city.env import QUESTIONS, GuessMyCity
from lmrl.tasks.guess_my_city.partner import EmbeddedCitizen
from lmrl.tasks.guess_my_city.players import SURE, ExpertPlayer, RandomPlayer, gains, likelihood
from lmrl.tasks.guess_my_city.repertoire import GUESSES, SENTENCES, SHARES
from lmrl.text.trajectory import Trajectory, Turn

ANCHOR_GAMES = 2
"""Games with each city, from which the mean returns of expert and random player are computed."""


class MixedQuestioners(GameRecipe):
    """Plays the behaviour policy of the data: two kinds of questioners, in the real environment.

    A casual player asks random questions, none of them twice, takes an answer into account with probability
    `attention`, and proposes a city with the last question only, drawn from its beliefs. A skilled player
    takes everything into account, asks the most informative question with probability `prob_smart`, and proposes the
    likeliest city as soon as it is as likely as not, or with the last question.

    Args:
        skilled: probability that a game's player is skilled.
        attention: probability that a casual player takes an answer into account.
        prob_smart: probability that a skilled player asks the most informative question.
        common: see `GameRecipe`.
    """

    game_class, policy = GuessMyCity, "mixed questioners"

    @checked
    def __init__(
        self, *, skilled: Share = 0.042, attention: Share = 0.27, prob_smart: Share = 0.5, **common: Any
    ) -> None:
        super().__init__(**common)
        if not isinstance(self.game.partner, EmbeddedCitizen):
            raise ValueError(
                "guess_my_city data: data are made with the embedded citizen, not with a "
                f"{type(self.game.partner).__name__}: set task.dataset.recipe.env.partner to null"
            )
        self._skilled, self._attention, self._prob_smart = skilled, attention, prob_smart

    def options(self) -> Mapping[str, Any]:
        """Return the recipe's own arguments."""
        return {"skilled": self._skilled, "attention": self._attention, "prob_smart": self._prob_smart}

    def play(self, index: int) -> Trajectory:
        """Play one game; it depends on the seed and its index only. Cities take turns, so all are equally often."""
        chance = np.random.default_rng([self.seed, index])
        is_skilled = chance.random() < self._skilled
        player = _Player(chance, is_skilled, self._attention, self._prob_smart, self.game.yes_no_only)
        city = cities()[index % len(cities())].name
        seed = int(np.random.SeedSequence([self.seed, 0, index]).generate_state(1)[0])
        observation, _ = self.game.reset(seed=seed, options={"city": city})
        turns, is_over, info = [Turn(observation, is_action=False)], False, {}
        while not is_over:
            question = player.say(len(turns) // 2)
            observation, reward, is_over, _, info = self.game.step(question)
            player.hear(question, observation)
            turns += [Turn(question, is_action=True, reward=reward), Turn(observation, is_action=False)]
        facts = {"success": info["success"], "city": city, "player": "skilled" if player.is_skilled else "casual"}
        return Trajectory(tuple(turns), terminated=True, seed=seed, info=facts)

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:  # noqa: ARG002 - of any recipe
        """Return the mean returns of the random and the expert player, over all cities, always the same."""
        yes_no_only = self.game.yes_no_only
        players: dict[str, Policy] = {"random": RandomPlayer(), "expert": ExpertPlayer(yes_no_only=yes_no_only)}
        starts = [Start(seed, options) for seed, options in enumerate([*self.game.evaluation_starts()] * ANCHOR_GAMES)]

        def mean(player: Policy) -> float:
            played = rollout(lambda: GuessMyCity(yes_no_only=yes_no_only), player, starts, memory=None)
            return sum(trajectory.total_reward for trajectory in played) / len(played)

        return {f"{name}_policy_return": mean(player) for name, player in players.items()}


class _Player:
    """One questioner in one game."""

    def __init__(
        self, chance: np.random.Generator, is_skilled: bool, attention: float, prob_smart: float, yes_no_only: bool
    ) -> None:
        self.is_skilled, self._yes_no_only = is_skilled, yes_no_only
        self._chance, self._prob_smart = chance, prob_smart
        self._attention = 1.0 if is_skilled else attention
        self._beliefs = np.ones(len(cities()))
        self._shares = np.array(SHARES)

    def say(self, asked: int) -> str:
        """Return the next question.

        Args:
            asked: how many questions were asked before.
        """
        weights = self._beliefs / self._beliefs.sum()
        is_last = asked == QUESTIONS - 1
        if self.is_skilled and (is_last or weights.max() >= SURE):
            return self._worded(GUESSES[int(np.argmax(weights))])
        if is_last:
            return self._worded(GUESSES[self._chance.choice(len(weights), p=weights)])
        if self.is_skilled and self._chance.random() < self._prob_smart:
            question = int(np.argmax(np.round(gains(weights, self._yes_no_only), 9)))
        else:
            question = int(self._chance.choice(len(self._shares), p=self._shares / self._shares.sum()))
        self._shares[question] = 0.0
        return self._worded(SENTENCES[question])

    def hear(self, question: str, reply: str) -> None:
        """Draw conclusions from an answer, or let it pass."""
        if self._chance.random() < self._attention:
            self._beliefs *= likelihood(question, reply)
            self._beliefs /= self._beliefs.max()

    def _worded(self, wordings: tuple[str, ...]) -> str:
        return wordings[int(self._chance.integers(len(wordings)))]
