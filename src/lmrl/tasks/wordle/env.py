"""Wordle as in LMRL-Gym: guess a word of five letters in six guesses, told of each letter whether it is right."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from lmrl.config.types import Number, PathText
from lmrl.envs.core import StepResult, TextEnv
from lmrl.envs.sets import members
from lmrl.policies.core import Action, Request
from lmrl.policies.scripted import RandomPolicy
from lmrl.tasks.wordle.vocabulary import REPLIES, SOLVED, Vocabulary, load
from lmrl.text.trajectory import History

GUESSES = 6
"""Guesses in a game."""
OPENING = "Wordle:\n"
"""The text that every game begins with."""
WRONG_REWARD, RIGHT_REWARD = -1.0, 0.0
"""The rewards of a wrong word and of the hidden one."""
UNKNOWN_WORD = "\n"
"""The observation after a guess that is not in the list."""
_CODES = {text: code for code, text in enumerate(REPLIES)}


class Wordle(TextEnv):
    """One game; `reset` takes the option `word`, the hidden word. Without it, every word is equally likely.

    A guess is the letters of a word of the list; spaces and capitals do not matter. A guess that is no word of the list
    is told nothing, and counts. The game ends with the hidden word or the sixth guess; both are ends of the game itself
    (terminated), so a win with guess k returns -(k - 1), and a loss -6.

    Args:
        words: a file of words, one per line, or the words themselves; `None` for the packaged list.
        feedback: `set` as LMRL-Gym, or `official`; see `Vocabulary`.
        bad_word_reward: the reward of a guess that is not in the list.

    Raises:
        ValueError: an argument is out of its range, or the word list is damaged; the message says where.
    """

    version: ClassVar[str] = "1"

    def __init__(
        self,
        *,
        words: PathText | Path | Sequence[Any] | None = None,
        feedback: Literal["set", "official"] = "set",
        bad_word_reward: Number = -1.0,
    ) -> None:
        super().__init__()
        if not math.isfinite(bad_word_reward):
            raise ValueError(f"wordle: bad_word_reward must be a finite number, got {bad_word_reward}")
        self.vocabulary = load(words, feedback)
        self.bad_word_reward = float(bad_word_reward)
        self.settings = {
            "words": len(self.vocabulary.words),
            "words_digest": self.vocabulary.digest,
            "feedback": feedback,
            "bad_word_reward": self.bad_word_reward,
        }
        """Identifies this game; stored with data."""
        self._hidden = self._left = 0
        self._told: list[tuple[int, int]] = []

    @property
    def word(self) -> str:
        """The hidden word."""
        return self.vocabulary.words[self._hidden]

    @property
    def remaining(self) -> tuple[str, ...]:
        """The words that agree with everything told in this game."""
        words = self.vocabulary.everything
        for guess, code in self._told:
            words &= self.vocabulary.sets(guess)[code]
        return tuple(self.vocabulary.words[index] for index in members(words))

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Hide a word and begin.

        Raises:
            ValueError: an unknown option, or a word that is not in the list.
        """
        super().reset(seed=seed)
        options = options or {}
        unknown = set(options) - {"word"}
        if unknown:
            raise ValueError(f"wordle: unknown reset options {sorted(unknown)}, the only one is word")
        drawn = int(self.np_random.integers(len(self.vocabulary.words)))
        word = options.get("word", self.vocabulary.words[drawn])
        if word not in self.vocabulary.index:
            raise ValueError(f"wordle: the option word must be one of the {self.settings['words']} words, got {word!r}")
        self._hidden, self._left, self._told = self.vocabulary.index[word], GUESSES, []
        return OPENING, {}

    def step(self, action: str) -> StepResult:
        """Compare a guess with the hidden word; the last step's info also tells the word.

        Raises:
            RuntimeError: no game is running.
        """
        if not self._left:
            raise RuntimeError("wordle: the game has ended, call reset() before step()")
        guess = self.vocabulary.find(action)
        self._left -= 1
        code = None
        if guess is not None:
            code = self.vocabulary.codes(guess)[self._hidden]
            self._told.append((guess, code))
        info: dict[str, Any] = {"success": code == SOLVED, "is_invalid": code is None}
        if code == SOLVED:
            self._left = 0
        if not self._left:
            info["word"] = self.word
        if code is None:
            return UNKNOWN_WORD, self.bad_word_reward, not self._left, False, info
        return REPLIES[code], RIGHT_REWARD if code == SOLVED else WRONG_REWARD, not self._left, False, info

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        """Return every word as the hidden one, so that a mean over the starts is exact in this."""
        return tuple({"word": word} for word in self.vocabulary.words)

    def legal_actions(self) -> Sequence[str]:
        """Return every word of the list; those that cannot be right are legal too."""
        return self.vocabulary.actions


class GreedyTree:
    """The greedy player's guess in every situation: of the words that may be right, the most informative.

    Of the words that agree with all that was told, it guesses the one whose feedback has the highest entropy if each of
    them is equally likely to be hidden; of equal ones the first. LMRL-Gym calls this player optimal, but it is not:
    words that cannot be right may tell more, and the next guesses are not looked at.

    Args:
        vocabulary: the words and the rule of feedback.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._guesses: dict[int, int] = {}

    def guess(self, words: int) -> int:
        """Return the guess for a set of possible words; each set is computed once."""
        if words not in self._guesses:
            candidates = members(words)
            self._guesses[words] = candidates[int(np.argmax(np.round(self._entropies(candidates), 9)))]
        return self._guesses[words]

    def _entropies(self, candidates: list[int]) -> list[float]:
        """Return the entropy of each candidate's feedback, in nats."""
        entropies = []
        for guess in candidates:
            codes = np.frombuffer(self.vocabulary.codes(guess), dtype=np.uint8)[candidates]
            shares = np.bincount(codes)[np.unique(codes)] / len(candidates)
            entropies.append(float(-(shares * np.log(shares)).sum()))
        return entropies

    def counts(self) -> dict[int, int]:
        """Return how many hidden words are found with guess 1, 2, ..., however many guesses it takes."""
        found: dict[int, int] = {}
        waiting = [(self.vocabulary.everything, 1)]
        while waiting:
            words, turn = waiting.pop()
            guess = self.guess(words)
            for code, told in self.vocabulary.sets(guess).items():
                if code == SOLVED:
                    found[turn] = found.get(turn, 0) + 1
                elif told & words:
                    waiting.append((told & words, turn + 1))
        return dict(sorted(found.items()))


@lru_cache(maxsize=4)
def greedy_tree(vocabulary: Vocabulary) -> GreedyTree:
    """Return the tree of a vocabulary, the same one for all who ask."""
    return GreedyTree(vocabulary)


def greedy_return(vocabulary: Vocabulary) -> float:
    """Return the exact mean return of the greedy player over all hidden words."""
    counts = greedy_tree(vocabulary).counts()
    total = sum(count * (turn - 1 if turn <= GUESSES else GUESSES) for turn, count in counts.items())
    return -total / len(vocabulary.words)


def random_return(vocabulary: Vocabulary) -> float:
    """Return the exact mean return of guesses that are drawn evenly from all words, again and again."""
    miss = 1 - 1 / len(vocabulary.words)
    return WRONG_REWARD * sum(miss**turn for turn in range(1, GUESSES + 1))


class GreedyPlayer:
    """The expert: guesses as `GreedyTree` says, from nothing but the texts that it is shown.

    Args:
        words: as for `Wordle`.
        feedback: as for `Wordle`.
    """

    def __init__(
        self,
        *,
        words: PathText | Path | Sequence[Any] | None = None,
        feedback: Literal["set", "official"] = "set",
    ) -> None:
        self._tree = greedy_tree(load(words, feedback))

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return a guess for each request.

        Raises:
            ValueError: a history contradicts the word list or the rule of feedback.
        """
        actions = self._tree.vocabulary.actions
        return [Action(actions[self._tree.guess(self._possible(request.history))]) for request in requests]

    def _possible(self, history: History) -> int:
        """Return the set of words that agree with the history; guesses that were told nothing are passed over."""
        vocabulary = self._tree.vocabulary
        words = vocabulary.everything
        for said, reply in pairwise(history):
            if not said.is_action or reply.text == UNKNOWN_WORD:
                continue
            guess, code = vocabulary.find(said.text), _CODES.get(reply.text)
            if guess is None or code is None:
                raise ValueError(f"the greedy player cannot read the guess {said.text!r} with the reply {reply.text!r}")
            words &= vocabulary.sets(guess).get(code, 0)
        if not words:
            told = "".join(turn.text for turn in history)
            raise ValueError(
                f"no word of the greedy player's list agrees with {told!r} (feedback: {vocabulary.feedback})"
            )
        return words


class RandomPlayer(RandomPolicy):
    """Guesses each word of the list equally often, whatever it was told.

    Args:
        words: as for `Wordle`.
    """

    def __init__(self, *, words: PathText | Path | Sequence[Any] | None = None) -> None:
        super().__init__(actions=load(words).actions)
