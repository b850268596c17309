"""The wording of the buyer and the scripted sellers, and the sellers' reading of the buyer's sentences."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from lmrl.envs.tables import rows
from lmrl.tasks.car_dealer.lexicon import FEATURES, mentioned

BUYER, SELLER = "buyer.csv", "seller.csv"
_DOLLARS = r"\$[\d,]*\d"
_SLOTS = {name: _DOLLARS for name in ("list", "price", "offer", "budget", "said")} | {"car": ".+?", "features": ".+?"}


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing that the buyer was heard to say."""

    act: str
    personality: str
    """Whose words these are; `any` if they tell nothing about that."""
    amounts: Mapping[str, int]
    """Dollars by their role: `list`, `price`, `offer`, `budget`."""
    features: tuple[str, ...] = ()


@cache
def _wordings(file: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Return the sentences of a table by act, and by the personality (or style) of who says them."""
    table: dict[str, dict[str, list[str]]] = {}
    column = "personality" if file == BUYER else "style"
    for row in rows(__file__, file):
        table.setdefault(row["act"], {}).setdefault(row[column], []).append(row["text"])
    return {act: {who: tuple(texts) for who, texts in kinds.items()} for act, kinds in table.items()}


def wordings(file: str, act: str, who: str) -> tuple[str, ...]:
    """Return the sentences for an act: those of anybody, and those of this personality or style."""
    kinds = _wordings(file)[act]
    return kinds.get("any", ()) + (kinds.get(who, ()) if who != "any" else ())


def pick(choices: tuple[str, ...], draw: float, slots: Mapping[str, str]) -> str:
    """Choose a sentence by a number in [0, 1), fill in its slots, and begin it with a capital."""
    text = choices[int(draw * len(choices))].format_map(slots)
    return text[0].upper() + text[1:]


def dollars(amount: int) -> str:
    """Write an amount: `$32,500`."""
    return f"${amount:,}"


@cache
def _readers() -> tuple[tuple[str, str, str, re.Pattern[str]], ...]:
    """Return the patterns of the buyer's sentences at the beginning of a text, longest sentences first.

    With each pattern stands the text before its first slot in small letters, which is quickly compared.
    """
    texts = [
        (act, who, text) for act, kinds in _wordings(BUYER).items() for who, some in kinds.items() for text in some
    ]
    texts.sort(key=lambda row: -len(row[2]))
    return tuple((act, who, text.split("{")[0].lower(), _reader(text)) for act, who, text in texts)


def _reader(text: str) -> re.Pattern[str]:
    """Return a pattern for a sentence with slots."""
    pieces = re.split(r"\{(\w+)\}", text)
    pattern = "".join(
        f"(?P<{piece}>{_SLOTS[piece]})" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces)
    )
    return re.compile(f"{pattern}(?= |$)", re.IGNORECASE)


@lru_cache(maxsize=65_536)
def hear(text: str, is_first: bool = False) -> tuple[Heard, ...]:
    """Return the acts of a text of the buyer.

    The sentences of the embedded buyer are known. Of others, amounts and questions about features are heard.

    Args:
        text: his text.
        is_first: it is the first that he said, where an amount without a known sentence is the list price.
    """
    heard, rest = [], " ".join(text.split())
    while rest:
        known = _recognised(rest)
        if known is None:
            sentence = re.match(r".*?[.!?]+(?= |$)|.*", rest)
            end = sentence.end() if sentence else len(rest)
            heard.append(_guess(rest[:end], is_first))
        else:
            act, who, found = known
            end = found.end()
            heard.append(
                Heard(act, who, _amounts(found), _features(found[0]) if "features" in found.groupdict() else ())
            )
        rest = rest[end:].strip()
    return tuple(heard)


def _recognised(text: str) -> tuple[str, str, re.Match[str]] | None:
    """Return the sentence of the embedded buyer that a text begins with, as act, personality and match."""
    small = text.lower()
    for act, who, beginning, reader in _readers():
        found = reader.match(text) if small.startswith(beginning) else None
        if found:
            return act, who, found
    return None


def _amounts(found: re.Match[str]) -> dict[str, int]:
    return {
        name: int(text.strip("$").replace(",", ""))
        for name, text in found.groupdict().items()
        if name not in ("car", "features")
    }


def _features(text: str) -> tuple[str, ...]:
    """Return the features that a sentence names, in the order of the lexicon."""
    named = mentioned(text.lower(), FEATURES)
    return tuple(feature for feature in FEATURES if feature in named)


def _guess(sentence: str, is_first: bool) -> Heard:
    """Return the acts of a sentence that is not one of the embedded buyer's."""
    amounts = [int(match.strip("$").replace(",", "")) for match in re.findall(_DOLLARS, sentence)]
    features = _features(sentence)
    if features:
        return Heard("ask_features", "any", {}, features)
    if not amounts:
        return Heard("chat", "any", {})
    if re.search(r"\bbudget\b|\bspend\b", sentence.lower()):
        return Heard("tell_budget", "any", {"budget": amounts[-1]})
    return Heard("open", "any", {"list": amounts[-1]}) if is_first else Heard("counter", "any", {"offer": amounts[-1]})
