"""Offline data of Twenty Questions: questioners of two levels of skill, who ask the best question or any."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from lmrl.config.types import Count, PositiveCount, Share, checked
from lmrl.data.games import game_of
from lmrl.envs.core import TextEnv
from lmrl.envs.sets import member
from lmrl.policies.randomness import Uniforms
from lmrl.tasks.twenty_questions.env import OPENING, TwentyQuestions
from lmrl.tasks.twenty_questions.partner import EmbeddedOracle
from lmrl.tasks.twenty_questions.players import Book, book, expert_return
from lmrl.tasks.twenty_questions.rules import YES
from lmrl.text.trajectory import Trajectory, Turn

_DRAWS = 4
"""Random numbers for each question: whether it is the expert's, whether it is a guess, which one, in which words."""


class MixedQuestioners:
    """Plays games of skilled and of unskilled questioners against the embedded oracle.

    A skilled questioner knows which objects agree with all answers so far. With probability `prob_best` it asks what
    divides them most evenly (the expert's question), or guesses one once at most three are left; else it does what an
    unskilled one always does: it asks anything that it has not asked in this game, or, with probability `prob_guess`,
    guesses an object that it holds possible. An unskilled questioner remembers the last `memory` answers only. The last
    question is always a guess. Each wording is equally likely. Every object is hidden equally often.

    The published data (arXiv 2311.18232, C.6) are conversations of language models, of which only length, success and
    mean return are known; the defaults meet the last two.

    Args:
        env: builds the game. Only its number of questions counts, and its oracle where that is the embedded one:
            otherwise the embedded one without noise answers.
        task: the name that is stored with the data.
        trajectories: how many games there are.
        seed: seed of everything.
        share_skilled: probability that a game is a skilled questioner's.
        prob_best: probability of the expert's question in those games.
        prob_guess: probability of a guess where not the expert's question is asked.
        memory: answers that an unskilled questioner remembers.

    Raises:
        ValueError: an argument is out of its range, or `env` builds another game.
    """

    policy = "mixed questioners"
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
        share_skilled: Share = 0.26,
        prob_best: Share = 0.55,
        prob_guess: Share = 0.1,
        memory: Count = 3,
    ) -> None:
        self._chances = {"share_skilled": share_skilled, "prob_best": prob_best, "prob_guess": prob_guess}
        game = game_of(env, TwentyQuestions)
        self.task, self.env_version = task, game.version
        self._noise = game.partner.noise if isinstance(game.partner, EmbeddedOracle) else 0.0
        self._questions = game.settings["questions"]
        self._trajectories, self._seed, self._memory = trajectories, seed, memory

    def settings(self) -> Mapping[str, Any]:
        """Return everything that decides what the data are."""
        return {
            "recipe": "lmrl.tasks.twenty_questions.recipe.MixedQuestioners",
            "version": self.version,
            "game": dict(self._make_env().settings),
            "asked_digest": book().digest,
            "trajectories": self._trajectories,
            "seed": self._seed,
            **self._chances,
            "memory": self._memory,
        }

    def __len__(self) -> int:
        return self._trajectories

    def __iter__(self) -> Iterator[Trajectory]:
        return (self.play(index) for index in range(self._trajectories))

    def play(self, index: int) -> Trajectory:
        """Play one game; it depends on the seed and its index only."""
        env = self._env
        # One number for the questioner's skill, then some for each question.
        draws = self._uniforms.draw(self._seed, index, 1 + _DRAWS * self._questions).tolist()
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

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what each process makes for itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_env", "_book", "_uniforms")}

    def statistics(self, trajectories: Iterable[Trajectory]) -> dict[str, int | float]:
        """Return the expert's mean return, exact over all objects, and how many objects were found in the data."""
        found = {trajectory.info.get("object") for trajectory in trajectories if trajectory.info.get("success")}
        return {
            "expert_return": expert_return(self._questions),
            "objects_found": len(found),
        }

    def _make_env(self) -> TwentyQuestions:
        """Build the game in which the data are played."""
        oracle = EmbeddedOracle(noise=self._noise) if self._noise else None
        return TwentyQuestions(partner=oracle, questions=self._questions)

    @cached_property
    def _env(self) -> TwentyQuestions:
        return self._make_env()

    @cached_property
    def _book(self) -> Book:
        return book()

    @cached_property
    def _uniforms(self) -> Uniforms:
        return Uniforms()
