"""Offline data of Wordle: guesses that agree with what was told, mixed with guesses at random."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmrl.config.types import Count, PositiveCount, Share, checked
from lmrl.data.games import game_of
from lmrl.envs.core import TextEnv
from lmrl.envs.sets import member
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.wordle.env import GUESSES, OPENING, RIGHT_REWARD, WRONG_REWARD, Wordle, greedy_return, random_return
from lmrl.tasks.wordle.vocabulary import REPLIES, SOLVED, Vocabulary
from lmrl.text.trajectory import Trajectory, Turn


@dataclass(frozen=True)
class _Tables:
    """What games are put together from; made at first use, so that the recipe travels to other processes small."""

    vocabulary: Vocabulary
    opening: Turn
    wrong: list[Turn]
    """The action that guesses each word, where it is not the hidden one."""
    right: list[Turn]
    replies: list[Turn]
    """The observation of each feedback code."""
    uniforms: Uniforms


class MixedGuesses:
    """Plays the behaviour policy of LMRL-Gym's Wordle data (arXiv 2311.18232, C.3).

    A guess is, with probability `prob_smart`, drawn evenly from the words that agree with everything told so far, else
    from all words of the list, those guessed already too. The hidden word is drawn evenly.

    Games follow the tables and rewards of the environment instead of its `step`, which is many times faster;
    `tests/test_wordle.py` plays them again in the environment and gets the same texts.

    Args:
        env: builds the game.
        task: the name that is stored with the data.
        trajectories: how many games there are.
        seed: seed of everything.
        prob_smart: probability of a guess that agrees with what was told.

    Raises:
        ValueError: an argument is out of its range, or `env` builds another game.
    """

    policy = "mixed guesses"
    version = 1
    """Changes whenever the same arguments give other data."""

    @checked
    def __init__(
        self,
        *,
        env: Callable[[], TextEnv],
        task: str,
        trajectories: PositiveCount = 100_000,
        seed: Count = 0,
        prob_smart: Share = 1 / 3,
    ) -> None:
        game = game_of(env, Wordle)
        self.task, self.env_version = task, game.version
        self._vocabulary = game.vocabulary
        # These players guess words of the list only, so what others would pay does not make other data.
        self._rules = {name: value for name, value in game.settings.items() if name != "bad_word_reward"}
        self._trajectories, self._seed, self._prob_smart = trajectories, seed, prob_smart

    def settings(self) -> Mapping[str, Any]:
        """Return everything that decides what the data are."""
        return {
            "recipe": "lmrl.tasks.wordle.recipe.MixedGuesses",
            "version": self.version,
            "wordle": dict(self._rules),
            "trajectories": self._trajectories,
            "seed": self._seed,
            "prob_smart": self._prob_smart,
        }

    def __len__(self) -> int:
        return self._trajectories

    def __iter__(self) -> Iterator[Trajectory]:
        return (self.play(index) for index in range(self._trajectories))

    def play(self, index: int) -> Trajectory:
        """Play one game; it depends on the seed and its index only."""
        tables = self._tables
        vocabulary, count = tables.vocabulary, len(tables.wrong)
        # For the hidden word one number; for each guess one that decides how it is drawn, and one that draws it.
        chances = iter(tables.uniforms.draw(self._seed, index, 1 + 2 * GUESSES).tolist())
        hidden = int(next(chances) * count)
        turns, words, code = [tables.opening], vocabulary.everything, -1
        for smart, drawn in zip(chances, chances, strict=True):
            if smart < self._prob_smart and words != vocabulary.everything:
                guess = member(words, int(drawn * words.bit_count()))
            else:
                guess = int(drawn * count)
            code = vocabulary.codes(guess)[hidden]
            turns += ((tables.right if code == SOLVED else tables.wrong)[guess], tables.replies[code])
            if code == SOLVED:
                break
            words &= vocabulary.sets(guess)[code]
        info = {"success": code == SOLVED, "word": vocabulary.words[hidden]}
        return Trajectory(tuple(turns), terminated=True, seed=index, info=info)

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:  # noqa: ARG002 - of any recipe
        """Return the exact returns, over all hidden words, of the random and the greedy player."""
        return {
            "random_policy_return": random_return(self._vocabulary),
            "greedy_policy_return": greedy_return(self._vocabulary),
        }

    @cached_property
    def _tables(self) -> _Tables:
        """Make every turn that can occur once: games then share them."""
        actions = self._vocabulary.actions
        return _Tables(
            vocabulary=self._vocabulary,
            opening=Turn(OPENING, is_action=False),
            wrong=[Turn(action, is_action=True, reward=WRONG_REWARD) for action in actions],
            right=[Turn(action, is_action=True, reward=RIGHT_REWARD) for action in actions],
            replies=[Turn(reply, is_action=False) for reply in REPLIES],
            uniforms=Uniforms(),
        )
