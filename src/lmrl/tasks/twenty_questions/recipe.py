"""Offline data of Twenty Questions: questioners of two levels of skill, who ask the best question or any."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from lmrl.config.types import Count, Share, checked
from lmrl.data.recipe import GameRecipe
from lmrl.envs.sets import member
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.twenty_questions.env import OPENING, TwentyQuestions
from lmrl.tasks.twenty_questions.partner import EmbeddedOracle
from lmrl.tasks.twenty_questions.players import Book, book, expert_return
from lmrl.tasks.twenty_questions.rules import YES
from lmrl.text.trajectory import Trajectory, Turn

_DRAWS = 4
"""Random numbers for each question: whether it is the expert's, whether it is a guess, which one, in which words."""


class MixedQuestioners(GameRecipe):
    """Plays games of skilled and of unskilled questioners against the embedded oracle.

    A skilled questioner knows which objects agree with all answers so far. With probability `prob_best` it asks the
    question that divides them most evenly (the expert's), or guesses one once at most three are left; else it plays
    like an unskilled one: it asks anything that it has not asked in this game, or, with probability `prob_guess`,
    guesses an object that it holds possible. An unskilled questioner remembers the last `memory` answers only. The last
    question is always a guess. Each wording is equally likely. Every object is hidden equally often.

    The embedded oracle answers, with the noise of the oracle of `env` if that is an embedded one. Of the other settings
    of `env` only the number of questions counts.

    The published data (arXiv 2311.18232, C.6) are conversations of language models, of which only length, success and
    mean return are known; the defaults meet the last two.

    Args:
        share_skilled: probability that a game is a skilled questioner's.
        prob_best: probability of the expert's question in those games.
        prob_guess: probability of a guess where not the expert's question is asked.
        memory: answers that an unskilled questioner remembers.
        common: see `GameRecipe`.
    """

    game_class, policy = TwentyQuestions, "mixed questioners"

    @checked
    def __init__(
        self,
        *,
        share_skilled: Share = 0.26,
        prob_best: Share = 0.55,
        prob_guess: Share = 0.1,
        memory: Count = 3,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._chances = {"share_skilled": share_skilled, "prob_best": prob_best, "prob_guess": prob_guess}
        self._noise = self.game.partner.noise if isinstance(self.game.partner, EmbeddedOracle) else 0.0
        self._questions, self._memory = self.game.settings["questions"], memory

    def rules(self) -> Mapping[str, Any]:
        """Return the settings of the game with the embedded oracle."""
        return dict(self._oracle_game.settings)

    def options(self) -> Mapping[str, Any]:
        """Return the recipe's own arguments, and a digest of the questions that are asked."""
        return {"asked_digest": book().digest, **self._chances, "memory": self._memory}

    def play(self, index: int) -> Trajectory:
        """Play one game; it depends on the seed and its index only."""
        env = self._oracle_game
        # One number for the questioner's skill, then some for each question.
        draws = self._uniforms.draw(self.seed, index, 1 + _DRAWS * self._questions).tolist()
        skilled = draws[0] < self._chances["share_skilled"]
        env.reset(seed=index, options={"object": env.things[index % len(env.things)].name})
        turns, told, asked = [Turn(OPENING, is_action=False)], list[int](), set[int]()
        info: dict[str, Any] = {}
        for turn in range(self._questions):
            drawn = draws[1 + _DRAWS * turn : 1 + _DRAWS * (turn + 1)]
            candidates = self._agreeing(told if skilled else told[len(told) - min(self._memory, len(told)) :])
            number = None
            if turn < self._questions - 1:
                number = self._choose(candidates, asked, skilled, drawn)
            said, objects = self._say(candidates, number, drawn)
            asked |= {number} if number is not None else set()
            answer, reward, over, _, info = env.step(said)
            turns += (Turn(said, is_action=True, reward=reward), Turn(answer, is_action=False))
            told.append(objects if answer == YES else self._book.everything ^ objects)
            if over:
                break
        success = bool(info["success"])
        return Trajectory(tuple(turns), terminated=True, seed=index, info={"success": success, "object": env.object})

    def _agreeing(self, told: list[int]) -> int:
        """Return the objects that agree with answers; those of an oracle with noise may contradict each other."""
        candidates = self._book.everything
        for objects in told:
            candidates = candidates & objects or candidates
        return candidates

    def _choose(self, candidates: int, asked: set[int], skilled: bool, drawn: list[float]) -> int | None:
        """Return the number of the question to ask, or `None` to guess."""
        if skilled and drawn[0] < self._chances["prob_best"]:
            return self._book.best(candidates)
        unasked = [number for number in range(len(self._book.questions)) if number not in asked]
        if drawn[1] < self._chances["prob_guess"] or not unasked:
            return None
        return unasked[int(drawn[2] * len(unasked))]

    def _say(self, candidates: int, number: int | None, drawn: list[float]) -> tuple[str, int]:
        """Return a text, and the objects for which its answer is yes."""
        if number is None:
            guess = member(candidates, int(drawn[2] * candidates.bit_count()))
            return self._book.guesses[guess], 1 << guess
        question = self._book.questions[number]
        return question.texts[int(drawn[3] * len(question.texts))], question.objects

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:
        """Return the expert's mean return, exact over all objects, and how many objects were found in the data."""
        found = {trajectory.info.get("object") for trajectory in trajectories if trajectory.info.get("success")}
        return {
            "expert_return": expert_return(self._questions),
            "objects_found": len(found),
        }

    @cached_property
    def _oracle_game(self) -> TwentyQuestions:
        """The game in which the data are played: its oracle is the embedded one, whoever answers in `env`."""
        oracle = EmbeddedOracle(noise=self._noise) if self._noise else None
        return TwentyQuestions(partner=oracle, questions=self._questions)

    @cached_property
    def _book(self) -> Book:
        return book()

    @cached_property
    def _uniforms(self) -> Uniforms:
        return Uniforms()
