"""One result of a coverage test: an utterance, and how the embedded partner understood it."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trial:
    """One utterance that was tried, as `python -m lmrl.coverage` counts and prints it."""

    utterance: str
    about: str
    """The partner's secret, such as the hidden object. Empty: it does not matter."""
    is_understood: bool
    reply: str
    """The partner's answer, or its reading of the utterance; empty if no answer was wanted."""
    expected: str
    """Words that the answer must contain, or the reading that is wanted. Empty: unknown."""
    is_right: bool
    """Whether it was understood, and answered as expected as far as that is known."""
    is_judged: bool = True
    """Whether more than understanding was tested."""


def says(text: str, expected: str) -> bool:
    """Return whether a text contains the expected words as whole words, ignoring case."""
    return re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", text, re.IGNORECASE) is not None
