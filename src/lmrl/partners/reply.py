"""A partner's utterance from its model's text: one line of printable ASCII."""

import re
import unicodedata

from lmrl.partners.prompt import one_line

_LABEL = re.compile(r"^partner\s*:\s*", re.IGNORECASE)
_TYPOGRAPHY = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014", "''\"\"--")


def counted(text: str, *, first_line: bool) -> str:
    """Return the part of a model's text that counts: all, or its first line."""
    said = text.strip()
    return said.partition("\n")[0] if first_line else said


def unspeakable(reply: str) -> str | None:
    """Tell why a reply cannot be spoken; `None` if it can."""
    if spoken_line(reply).strip():
        return None
    return f"a reply without any letter of plain text: {reply!r}" if reply else "an empty reply"


def spoken_line(reply: str) -> str:
    """Return a reply as the partner says it: on one line of printable ASCII, without the label of its turn."""
    letters = unicodedata.normalize("NFKD", reply.translate(_TYPOGRAPHY)).encode("ascii", "ignore").decode()
    printable = "".join(letter for letter in one_line(letters) if letter.isprintable())
    return _LABEL.sub("", printable) + "\n"
