"""Offline data of Wordle: guesses that agree with all feedback, mixed with guesses at random."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmrl.config.types import Share, checked
from lmrl.data.recipe import GameRecipe
from lmrl.envs.sets import member
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.wordle.env import GUESSES, OPENING, RIGHT_REWARD, WRONG_REWARD, Wordle, greedy_return, random_return
from lmrl.tasks.wordle.vocabulary import REPLIES, SOLVED, Vocabulary
from lmrl.text.trajectory import Trajectory, Turn


@dataclass(frozen=True)
class _Tables:
    """The parts of games; made at first use, so that a pickled recipe is small."""

    vocabulary: Vocabulary
    opening: Turn
    wrong: list[Turn]
    """The action that guesses each word, where it is not the hidden one."""
    right: list[Turn]
    replies: list[Turn]
    """The observation of each feedback code."""
    uniforms: Uniforms


class MixedGuesses(GameRecipe):
    """Plays the behaviour policy of LMRL-Gym's Wordle data (arXiv 2311.18232, C.3).

    A guess is, with probability `prob_smart`, drawn evenly from the words that agree with everything told so far, else
    from all words of the list, those guessed already too. The hidden word is drawn evenly.

    Games follow the tables and rewards of the environment instead of its `step`, which is many times faster;
    `tests/tasks/wordle/test_wordle.py` plays them again in the environment and gets the same texts.

    Args:
        prob_smart: probability of a guess that agrees with all feedback.
        common: see `GameRecipe`.
    """

    game_class, policy = Wordle, "mixed guesses"

    @checked
    def __init__(self, *, prob_smart: Share = 1 / 3, **common: Any) -> None:
        super().__init__(**common)
        self._prob_smart = prob_smart

    def rules(self) -> Mapping[str, Any]:
        """Return the game's settings but the price of other words: these players guess words of the list only."""
        return {name: value for name, value in self.game.settings.items() if name != "bad_word_reward"}

    def options(self) -> Mapping[str, Any]:
        """Return the recipe's own arguments."""
        return {"prob_smart": self._prob_smart}

    def play(self, index: int) -> Trajectory:
        """Play one game; it depends on the seed and its index only."""
        tables = self._tables
        vocabulary, count = tables.vocabulary, len(tables.wrong)
        # For the hidden word one number; for each guess one that decides how it is drawn, and one that draws it.
        chances = iter(tables.uniforms.draw(self.seed, index, 1 + 2 * GUESSES).tolist())
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
            "random_policy_return": random_return(self.game.vocabulary),
            "greedy_policy_return": greedy_return(self.game.vocabulary),
        }

    @cached_property
    def _tables(self) -> _Tables:
        """Make every turn that can occur once: games then share them."""
        actions = self.game.vocabulary.actions
        return _Tables(
            vocabulary=self.game.vocabulary,
            opening=Turn(OPENING, is_action=False),
            wrong=[Turn(action, is_action=True, reward=WRONG_REWARD) for action in actions],
            right=[Turn(action, is_action=True, reward=RIGHT_REWARD) for action in actions],
            replies=[Turn(reply, is_action=False) for reply in REPLIES],
            uniforms=Uniforms(),
        )
