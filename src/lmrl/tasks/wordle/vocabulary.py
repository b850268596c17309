"""Words of five letters: lists, the feedback of guesses, and sets of words as bits."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

LENGTH = 5
"""Letters of a word."""
PACKAGED = "scowl.txt"
"""The list beside this file; its header says where it comes from."""
FEEDBACKS = ("set", "official")
"""The rules of feedback, see `Vocabulary`."""
REPLIES = tuple(
    " ".join("byg"[code // 3**place % 3] for place in reversed(range(LENGTH))) + "\n" for code in range(243)
)
"""The text of each feedback: its code, written with three digits, from the first letter to the last."""
SOLVED = len(REPLIES) - 1
"""The code of the feedback that every letter is right."""

Source = str | Path | Sequence[Any] | None
"""A word list: a file, the words themselves, or `None` for the packaged list. YAML reads `false` as no word: any."""


class Vocabulary:
    """The words that can be hidden and guessed, and the feedback of every guess on every hidden word.

    Words are known by their index. A set of words is a Python integer with the bits of its words. A feedback is a code
    from 0 to 242: five digits of base three, 0 (`b`) for a letter that is absent, 1 (`y`) for one that is elsewhere in
    the hidden word, 2 (`g`) for one in its place.

    The rule `set` calls a letter that is not in its place `y` wherever else the hidden word has it, as LMRL-Gym does.
    The rule `official` is the newspaper's: letters in place come first, and then, from left to right, a letter is `y`
    only as often as the hidden word still has it.

    The feedback of a guess is computed when it is first guessed, and kept: lists of thousands of words begin at once.

    Args:
        words: the words.
        feedback: one of `FEEDBACKS`.
    """

    def __init__(self, words: tuple[str, ...], feedback: str) -> None:
        self.words, self.feedback = words, feedback
        self.index = {word: index for index, word in enumerate(words)}
        self.actions = tuple(map(spell, words))
        """The text that guesses each word."""
        self.everything = (1 << len(words)) - 1
        """The set of all words."""
        self.digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
        """Sixteen hexadecimal digits that stand for the words and their order."""
        self._found = {action: index for index, action in enumerate(self.actions)}
        self._letters = np.array([list(word.encode()) for word in words], dtype=np.uint8)
        self._codes: dict[int, bytes] = {}
        self._sets: dict[int, dict[int, int]] = {}

    def __reduce__(self) -> tuple:
        return _shared, (self.words, self.feedback)

    def find(self, text: str) -> int | None:
        """Return the word that a guess names, whatever its spaces and capitals; `None` if it is not in the list."""
        index = self._found.get(text)
        return self.index.get("".join(text.split()).lower()) if index is None else index

    def codes(self, guess: int) -> bytes:
        """Return the feedback code of a guess for every hidden word."""
        if guess not in self._codes:
            self._codes[guess] = feedback_codes(self._letters, self._letters[guess], self.feedback).tobytes()
        return self._codes[guess]

    def sets(self, guess: int) -> dict[int, int]:
        """Return, by feedback code, the set of words that the guess may be told this about."""
        if guess not in self._sets:
            row = np.frombuffer(self.codes(guess), dtype=np.uint8)
            sets = {int(code): np.packbits(row == code, bitorder="little").tobytes() for code in np.unique(row)}
            self._sets[guess] = {code: int.from_bytes(bits, "little") for code, bits in sets.items()}
        return self._sets[guess]


def feedback_codes(
    letters: UInt8[np.ndarray, "words 5"], guess: UInt8[np.ndarray, " 5"], feedback: str
) -> UInt8[np.ndarray, " words"]:
    """Return the feedback code of one guess for every hidden word.

    Args:
        letters: the letters of the hidden words, as bytes.
        guess: the letters of the guess.
        feedback: one of `FEEDBACKS`.
    """
    in_place = letters == guess
    codes = np.zeros(len(letters), dtype=np.uint8)
    for place, letter in enumerate(guess):
        found = letters == letter
        if feedback == "set":
            elsewhere = found.any(axis=1)
        else:
            taken = (~in_place[:, :place] & (guess[:place] == letter)).sum(axis=1)
            elsewhere = taken < (found & ~in_place).sum(axis=1)
        codes = codes * np.uint8(3) + np.where(in_place[:, place], np.uint8(2), elsewhere.astype(np.uint8))
    return codes


def spell(word: str) -> str:
    """Write a word letter by letter, as the game does, so that tokenizers see letters."""
    return " ".join(word) + "\n"


def load(words: Source = None, feedback: str = "set") -> Vocabulary:
    """Return a vocabulary; the same words and rule give the same object, so that all who use it share its tables.

    A file has one word in each line; blank lines and lines that begin with `#` are left out.

    Raises:
        ValueError: there is no such rule or file, or something in the list is no word; the message says where.
    """
    if feedback not in FEEDBACKS:
        raise ValueError(f"wordle: feedback must be one of {', '.join(FEEDBACKS)}, got {feedback!r}")
    if words is None:
        text = Path(__file__).with_name(PACKAGED).read_text(encoding="utf-8")
        return _shared(_checked(_lines(text), PACKAGED), feedback)
    if isinstance(words, str | Path):
        return _shared(_checked(_lines(_file_text(Path(words))), f"words: {words}"), feedback)
    named = [(f"entry {index}", word) for index, word in enumerate(words)]
    return _shared(_checked(named, "words"), feedback)


@lru_cache(maxsize=16)
def _shared(words: tuple[str, ...], feedback: str) -> Vocabulary:
    """Return the one vocabulary of these words in this process."""
    return Vocabulary(words, feedback)


def _file_text(path: Path) -> str:
    """Return the text of a word-list file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"wordle: words: {path}: there is no such file (null is the packaged list)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"wordle: words: {path}: cannot be read as text ({error})") from error


def _lines(text: str) -> list[tuple[str, str]]:
    """Return the words of a file, each with the name of its line."""
    lines = enumerate((line.strip() for line in text.splitlines()), start=1)
    return [(f"line {number}", line) for number, line in lines if line and not line.startswith("#")]


def _checked(named: Sequence[tuple[str, Any]], source: str) -> tuple[str, ...]:
    """Return the words, all of five letters and different, or raise `ValueError` naming source, place and word."""
    for place, word in named:
        if not isinstance(word, str) or not re.fullmatch(f"[a-z]{{{LENGTH}}}", word):
            raise ValueError(f"wordle: {source}, {place}: {word!r} is not {LENGTH} lower-case letters a-z")
    words = tuple(word for _, word in named)
    doubled = [word for word, count in Counter(words).items() if count > 1]
    if doubled:
        places = " and ".join(place for place, word in named if word == doubled[0])
        raise ValueError(f"wordle: {source}, {places}: {doubled[0]!r} occurs more than once")
    if len(words) < 2:
        raise ValueError(f"wordle: {source}: a game needs at least 2 words, found {len(words)}")
    return words
