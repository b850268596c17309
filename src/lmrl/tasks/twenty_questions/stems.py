"""The words of a question of Twenty Questions: their stems, and which of them say nothing by themselves."""

import re

from lmrl.tasks.twenty_questions.facts import word_list

_WORD = re.compile(r"[a-z0-9]+|,")
_VOWEL = re.compile("[aeiouy]")
_DOUBLED = re.compile(r"([bdgmnprt])\1$")
_PLURAL_ES = ("ch", "sh", "ss", "x", "o", "z")
_SILENT = re.compile(r"\b(?:kind|type|sort)s? of\b|'s\b")
DROPPED = word_list("dropped")
"""Words that are passed over, as if nobody had said them."""
_IRREGULAR = dict(pair.split("=") for pair in word_list("irregular"))
_WHOLE = word_list("whole")
"""Words that only look like another word with an ending."""


def stem(word: str) -> str:
    """Return a form that `cook`, `cooks`, `cooked` and `cooking` have in common."""
    word = _IRREGULAR.get(word, word)
    if word in _WHOLE:
        return word
    if len(word) > 4 and word.endswith(("ie", "ies")):
        return f"{word.removesuffix('s')[:-2]}y"
    for ending in ("ing", "ed", "es", "s"):
        rest = word.removesuffix(ending)
        if rest == word or len(rest) < 3 or not _VOWEL.search(rest):
            continue
        if ending == "s" and rest.endswith(("s", "u", "i")):
            continue
        if ending != "es" or rest.endswith(_PLURAL_ES):
            return _bare(_DOUBLED.sub(r"\1", rest))
    return _bare(word)


def _bare(word: str) -> str:
    """Return a word without the silent e at its end that `making` does not have either."""
    return word[:-1] if word.endswith("e") and len(word) > 3 and not word.endswith("ee") else word


SOFT = frozenset(map(stem, word_list("soft"))) | {","}
"""Stems that may stand between the words of a phrase, and that alone need no answer."""
NEGATIONS = frozenset({"not", "non", "never", "without"})
"""Words that negate the following ones."""


def words(text: str) -> list[str]:
    """Return the lower-case words and commas of a text; `isn't` becomes `is not`, and hyphens are spaces."""
    plain = text.lower().replace("\u2019", "'").replace("can't", "can not").replace("n't", " not")
    return _WORD.findall(_SILENT.sub(" ", plain))


def key(text: str) -> tuple[str, ...]:
    """Return the key of a phrase: the stems of its meaningful words."""
    return tuple(stem(word) for word in words(text) if word not in DROPPED and word != ",")
