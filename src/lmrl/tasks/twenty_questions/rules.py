"""The referee's rules of Twenty Questions: questions, replies, and wins."""

import re
from functools import cache

from lmrl.tasks.twenty_questions.facts import Thing, word_list

YES, NO = "Yes.\n", "No.\n"
"""The two answers."""
LONGEST = 40
"""Words of the longest question that is asked as it is."""
_OPENERS = word_list("opener")
_WORD = re.compile(r"[a-z']+")
_TRAILING = re.compile(r"[^a-z]+$")
_NEUTRAL = word_list("neutral")
"""The frames of a name in a guess, hedges, and adjectives."""


def is_question(text: str) -> bool:
    """Return whether a text is a question as the benchmark's data have them.

    It begins with a word such as `is`, `does` or `can`, has more than one word and at most 40, and ends with a letter
    before its question mark, which may be missing.
    """
    said = text.strip().lower().split()
    if not 1 < len(said) <= LONGEST or said[0] not in _OPENERS:
        return False
    return not text.strip().endswith(".?") or said[-1] == "etc.?"


def says_yes(reply: str) -> bool:
    """Return whether an oracle's reply begins with yes; whatever else it says means no."""
    return re.match(r"\W*yes\b", reply.lower()) is not None


def is_guess_of(question: str, thing: Thing) -> bool:
    """Return whether a question names the object, and nothing else.

    It must end with one of the object's names, and every word before must be one that names nothing by itself, a word
    of the object's names, or be followed directly by `of` (`a pair of shoes`).
    """
    said = _WORD.findall(_TRAILING.sub("", question.lower()))
    names = _names(thing)
    if not any(said[-len(name) :] == name for name in names):
        return False
    own = {word for name in names for word in name}
    following = [*said[1:], ""]
    return all(word in _NEUTRAL or word in own or after == "of" for word, after in zip(said, following, strict=True))


@cache
def _names(thing: Thing) -> list[list[str]]:
    """Return the words of each of the object's names."""
    return [_WORD.findall(name.lower()) for name in thing.variants]
