"""What an embedded partner made of something that a person said to it."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heard:
    """One try, as `python -m lmrl.coverage` counts and prints it."""

    said: str
    about: str
    """Who or what the partner was, such as the hidden object. Empty: it does not matter."""
    is_understood: bool
    reply: str
    """The partner's answer, or what it heard; empty if nobody was to answer."""
    expected: str
    """What the answer must be or contain, or what was to be heard. Empty: it is not known."""
    is_right: bool
    """Whether it was understood, and answered as expected as far as that is known."""
    is_judged: bool = True
    """Whether more than understanding was asked for."""


def says(text: str, expected: str) -> bool:
    """Tell whether a text contains the expected words as whole words, in capitals or not."""
    return re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", text, re.IGNORECASE) is not None
