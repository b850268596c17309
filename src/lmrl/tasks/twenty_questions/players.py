"""Players of Twenty Questions without a model: the questions, the best question, and two players."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from lmrl.envs.sets import member
from lmrl.envs.tables import rows
from lmrl.policies.core import Action, Request
from lmrl.policies.scripted import RandomPolicy
from lmrl.tasks.twenty_questions.facts import facts
from lmrl.tasks.twenty_questions.parser import meaning
from lmrl.tasks.twenty_questions.rules import says_yes
from lmrl.text.trajectory import History

ASKED = "asked.csv"
"""The table beside this file: the players' questions and their wordings."""
FEW = 3
"""So many objects are guessed one by one: no question would save a guess."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, in all its wordings."""

    texts: tuple[str, ...]
    objects: int
    """The set of objects for which the answer is yes."""


class Book:
    """The questions of the scripted players, and the most informative one in every situation.

    Sets of objects are integers with the bits of their objects.
    """

    def __init__(self) -> None:
        known = facts()
        self.everything = known.everything
        self.questions = tuple(
            Question(tuple(f"{text}\n" for text in row["wordings"].split("|")), known.describe(row["meaning"]))
            for row in rows(__file__, ASKED)
        )
        self.guesses = tuple(f"Is it {thing.said}?\n" for thing in known.things)
        """The text that guesses each object."""
        self.digest = hashlib.sha256(repr([self.questions, self.guesses]).encode()).hexdigest()[:16]
        """Sixteen hexadecimal digits that stand for all questions and their meanings."""
        self._best: dict[int, int | None] = {}

    def best(self, candidates: int) -> int | None:
        """Return the number of the question that divides a set of objects most evenly; `None`: guess one of them.

        Every object of the set is taken to be equally likely, so this is the question with the most information. Of
        equal ones it is the first.
        """
        if candidates not in self._best:
            count = candidates.bit_count()
            spread = [abs(2 * (question.objects & candidates).bit_count() - count) for question in self.questions]
            first = min(range(len(spread)), key=spread.__getitem__)
            self._best[candidates] = None if count <= FEW or spread[first] == count else first
        return self._best[candidates]


@cache
def book() -> Book:
    """Return the packaged questions, the same ones for all who ask."""
    return Book()


@cache
def question_texts() -> tuple[str, ...]:
    """Return the first wording of each question, and a guess of each object."""
    return (*(question.texts[0] for question in book().questions), *book().guesses)


class ExpertQuestioner:
    """The expert: asks the question that divides the possible objects most evenly, and guesses when few are left.

    It reads nothing but the texts that it is shown, and understands a question as the embedded oracle does. If the
    answers contradict the table of facts, as another oracle's may, it goes on with the objects that they contradict
    least often.
    """

    def __init__(self) -> None:
        self._book = book()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return a question for each request."""
        return [Action(self._question(request.history)) for request in requests]

    def _question(self, history: History) -> str:
        """Return the best question after a dialogue."""
        candidates = possible(history)
        number = self._book.best(candidates)
        return self._book.guesses[member(candidates, 0)] if number is None else self._book.questions[number].texts[0]


def expert_return(questions: int) -> float:
    """Return the exact mean return of the expert over all objects, in games of so many questions."""
    asked, total = book(), 0
    waiting = [(asked.everything, 0)]
    while waiting:
        candidates, earlier = waiting.pop()
        if earlier == questions:
            total += questions * candidates.bit_count()
            continue
        number = asked.best(candidates)
        guess = 1 << member(candidates, 0)
        yes = guess if number is None else candidates & asked.questions[number].objects
        if number is None:
            total += earlier
        else:
            waiting.append((yes, earlier + 1))
        if candidates != yes:
            waiting.append((candidates ^ yes, earlier + 1))
    return -total / asked.everything.bit_count()


def possible(history: History) -> int:
    """Return the set of objects that may still be hidden after a dialogue."""
    candidates = everything = facts().everything
    for objects in _told(history):
        candidates &= objects
    if candidates:
        return candidates
    told = list(_told(history))
    agreeing = [sum(objects >> index & 1 for objects in told) for index in range(everything.bit_length())]
    guessed = {index for index, text in enumerate(book().guesses) if any(turn.text == text for turn in history)}
    left = {index: count for index, count in enumerate(agreeing) if index not in guessed} or dict(enumerate(agreeing))
    return sum(1 << index for index, count in left.items() if count == max(left.values()))


def _told(history: History) -> Iterator[int]:
    """Yield, for each answered question that can be understood, the set of objects that agree with the answer."""
    for said, reply in pairwise(history):
        asked = meaning(said.text) if said.is_action and not reply.is_action else None
        if asked is not None and asked.understood:
            yield asked.objects if says_yes(reply.text) else facts().everything ^ asked.objects


class RandomQuestioner(RandomPolicy):
    """Asks each text that the players know equally often, whatever it was told."""

    def __init__(self) -> None:
        texts = (text for question in book().questions for text in question.texts)
        super().__init__(actions=(*texts, *book().guesses))
