"""Scripted players of Guess My City: their beliefs after every answer, and their next questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int

from lmrl.policies.core import Action, Request
from lmrl.policies.randomness import Uniforms
from lmrl.policies.scripted import RandomPolicy
from lmrl.tasks.guess_my_city.cities import cities
from lmrl.tasks.guess_my_city.location import yes_or_no
from lmrl.tasks.guess_my_city.partner import replies
from lmrl.tasks.guess_my_city.repertoire import GUESSES, SENTENCES
from lmrl.text.trajectory import History

SURE = 0.5
"""How likely a city must be before the expert proposes it."""
_DOUBT = 1e-6
"""How likely an answer is that the embedded citizen would not give, as another partner may."""

Beliefs = Float64[np.ndarray, " cities"]


@lru_cache(maxsize=2**17)
def likelihood(question: str, reply: str) -> Beliefs:
    """Return how likely each city's citizen is to give a reply.

    A reply that no embedded citizen would give is compared by its first word, if that is yes or no; otherwise it tells
    nothing.
    """
    said = [replies(city.name, question) for city in cities()]
    exact = np.array([answers.count(reply) / len(answers) for answers in said])
    if exact.any():
        return np.maximum(exact, _DOUBT)
    word = reply.strip().lower()[:3].rstrip(",. ")
    if word not in ("yes", "no"):
        return np.ones(len(said))
    is_bare = reply.strip().lower() in ("yes.", "no.")
    agree = [[_word(text, is_bare) == word for text in answers] for answers in said]
    return np.maximum([float(np.mean(same)) for same in agree], _DOUBT)


def _word(answer: str, is_bare: bool) -> str:
    """Return whether an answer says yes or no; where only these are shown, whatever is not yes is shown as no."""
    word = answer[:3].lower().rstrip(",. ")
    return word if word in ("yes", "no") else "no" if is_bare else ""


def beliefs(history: History) -> Beliefs:
    """Return how likely each city is after a dialogue, if all were equally likely before."""
    told = [(said.text, reply.text) for said, reply in pairwise(history) if said.is_action]
    weights = np.sum([np.log(likelihood(*pair)) for pair in told] or [np.zeros(len(cities()))], axis=0)
    weights = np.exp(weights - weights.max())
    return weights / weights.sum()


@dataclass(frozen=True)
class _Table:
    """How likely every reply to every question is."""

    chances: Float64[np.ndarray, "cities replies"]
    """The replies to each question beside each other."""
    starts: Int[np.ndarray, " questions"]
    """Where the replies to each question begin."""
    noise: Float64[np.ndarray, "cities questions"]
    """Entropy of each city's reply, in nats."""


@cache
def _table(yes_no_only: bool) -> _Table:
    """Return the table of all questions, made at first use."""
    blocks: list[np.ndarray] = []
    for wordings in SENTENCES:
        said = [replies(city.name, wordings[0]) for city in cities()]
        if yes_no_only:
            said = [tuple(map(yes_or_no, answers)) for answers in said]
        known = sorted({text for answers in said for text in answers})
        blocks.append(np.array([[answers.count(text) / len(answers) for text in known] for answers in said]))
    starts = np.cumsum([0, *(block.shape[1] for block in blocks[:-1])])
    noise = np.stack([_entropy_terms(block).sum(axis=1) for block in blocks], axis=1)
    return _Table(np.concatenate(blocks, axis=1), starts, noise)


def _entropy_terms(chances: np.ndarray) -> np.ndarray:
    return -chances * np.log(np.where(chances > 0, chances, 1.0))


def gains(weights: Beliefs, yes_no_only: bool = False) -> Float64[np.ndarray, " questions"]:
    """Return how much each question of `SENTENCES` tells about the city on average, in nats.

    Args:
        weights: how likely each city is.
        yes_no_only: whether of every answer only yes or no is shown.
    """
    table = _table(yes_no_only)
    spread = np.add.reduceat(_entropy_terms(weights @ table.chances), table.starts)
    return spread - weights @ table.noise


class ExpertPlayer:
    """Asks the most informative question, and proposes a city as soon as it is as likely as not.

    It knows the possible answers of the embedded citizen, and reads nothing but the dialogue. It looks one question
    ahead, so it is not an upper bound.

    Args:
        yes_no_only: as for the environment.
    """

    def __init__(self, *, yes_no_only: bool = False) -> None:
        self._yes_no_only = yes_no_only
        self._uniforms = Uniforms()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return a question for each request; which wording is drawn depends only on the request's seed and turn."""
        return [Action(self._say(request)) for request in requests]

    def _say(self, request: Request) -> str:
        index, is_guess = choose(request.history, self._yes_no_only)
        wordings = GUESSES[index] if is_guess else SENTENCES[index]
        draw = self._uniforms.draw(request.seed, request.turn, 1)[0]
        return wordings[int(draw * len(wordings))]


def choose(history: History, yes_no_only: bool) -> tuple[int, bool]:
    """Return the expert's choice: the index of a city and true, or of a question and false."""
    weights = beliefs(history)
    best = int(np.argmax(np.round(weights, 9)))
    if weights[best] >= SURE or sum(turn.is_action for turn in history) >= _LAST:
        return best, True
    informative = gains(weights, yes_no_only)
    question = int(np.argmax(np.round(informative, 9)))
    return (question, False) if informative[question] > _LITTLE else (best, True)


_LAST = 19
"""Questions asked before the last one."""
_LITTLE = 1e-4
"""Nats below which a question tells nothing."""


class RandomPlayer(RandomPolicy):
    """Says each of the players' questions and guesses equally often, whatever it was told."""

    def __init__(self) -> None:
        super().__init__(actions=[text for wordings in (*SENTENCES, *GUESSES) for text in wordings])
