"""Tokenizers: one built from the task's own text, or the one that belongs to a pretrained model."""

import json
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from lmrl.config.hub import check_path
from lmrl.config.types import PathText, Text
from lmrl.text.codec import Codec

PAD = "<|pad|>"
END = "<|endoftext|>"
_SPACE = "add_prefix_space"
_NO_SPACE = {_SPACE: False}
_ENOUGH = 20_000
"""From so many texts, spread evenly, merges are learned: two hundred thousand take minutes and give much the same."""


def build(
    texts: Iterable[str],
    *,
    vocab_size: Annotated[int, Field(ge=300, le=10**7)] = 512,
    token_ends: Text | None = None,
    runs_before: Text | None = None,
    whole: bool = False,
) -> Codec:
    """Build a byte-level tokenizer from the texts of a task.

    Its merges are trained (BPE) and may cross words, because the texts of a game are made of a few fixed phrases, and
    an observation of 8 tokens trains several times faster than one of 33. Any text can be encoded. The result depends
    on nothing but the set of texts, or, if parts are `whole`, on the texts.

    Args:
        texts: the texts.
        vocab_size: most tokens there may be.
        token_ends: a regular expression; every token ends at its matches, so that each part of a text with a
            fixed layout has its place. `None`: digits stay apart, so that numbers are read, not memorised.
        runs_before: a regular expression; digits from 1 to 8 before its matches are lengths of runs (of empty
            squares), and the tokenizer reads that many dots, separated by spaces, in their place: `3` as `. . .`, so
            that each square has its place. Two runs side by side would come back as one; boards have none.
            `token_ends` is about the text with dots. `None`: digits are digits.
        whole: whether the parts between `token_ends` are tokens as they are, the most frequent as far as `vocab_size`
            allows, instead of merged tokens: a guessed word is one decision. Others are written in bytes.

    Raises:
        ValueError: the vocabulary is too small for the 256 bytes and the special tokens, or `token_ends` or
            `runs_before` is no regular expression.
    """
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    if vocab_size < 300:
        raise ValueError(f"model.tokenizer.vocab_size must be at least 300 (256 bytes and merges), got {vocab_size}")
    raw: Any = Tokenizer(models.BPE())
    raw.pre_tokenizer = _cuts(token_ends)
    raw.decoder = decoders.ByteLevel()
    if runs_before is not None:
        raw.normalizer, unpacked = _runs(runs_before)
        raw.decoder = decoders.Sequence([raw.decoder, *unpacked])
    (_keep_parts if whole else _merge)(raw, texts, vocab_size)
    return Codec(PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=PAD, eos_token=END))


def _cuts(token_ends: str | None) -> Any:
    """Return the pre-tokenizer: it cuts texts into parts and writes them as bytes."""
    from tokenizers import pre_tokenizers

    cut: Any = pre_tokenizers.Digits(individual_digits=True)
    if token_ends is not None:
        cut = pre_tokenizers.Split(_regex("token_ends", token_ends), behavior="merged_with_previous")
    by_byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([cut, by_byte])


def _regex(name: str, pattern: str) -> Any:
    """Return a regular expression as tokenizers take it, or say which setting is none."""
    from tokenizers import Regex

    try:
        return Regex(pattern)
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(f"model.tokenizer.{name}={pattern!r} is no regular expression: {error}") from error


def _merge(raw: Any, texts: Iterable[str], vocab_size: int) -> None:
    """Train a tokenizer's merges."""
    from tokenizers import pre_tokenizers, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Each distinct text counts once: merges then do not depend on how often the data repeats a state.
    distinct = sorted(set(texts))
    raw.train_from_iterator(distinct[:: max(-(-len(distinct) // _ENOUGH), 1)], trainer)


def _keep_parts(raw: Any, texts: Iterable[str], vocab_size: int) -> None:
    """Give a tokenizer no merges, but the bytes and the parts that are most frequent in all texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    counted: Any = Tokenizer(models.WordLevel())
    counted.pre_tokenizer = raw.pre_tokenizer
    if raw.normalizer is not None:
        counted.normalizer = raw.normalizer
    first = [PAD, END, *alphabet]
    trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    counted.train_from_iterator(texts, trainer)
    raw.model = models.BPE(vocab=counted.get_vocab(), merges=[], ignore_merges=True)
    raw.add_special_tokens([PAD, END])


def _runs(before: str) -> tuple[Any, list[Any]]:
    """Return the normalizer that writes lengths of runs as dots, and the decoder that writes dots as lengths again."""
    from tokenizers import decoders, normalizers

    _regex("runs_before", before)
    runs = {str(n): " ".join("." * n) for n in range(8, 0, -1)}  # the longest first: it contains the others
    spread = [normalizers.Replace(_regex("runs_before", f"{n}(?={before})"), dots) for n, dots in runs.items()]
    return normalizers.Sequence(spread), [decoders.Replace(dots, n) for n, dots in runs.items()]


def load(texts: Iterable[str] = (), *, path: PathText) -> Codec:
    """Load the tokenizer of a pretrained model from the Hub or a folder, and give it a pad token if it has none.

    One that puts a space before every text no longer does: each turn is a text of its own here, and the space would
    become a part of every observation and action. `texts` are ignored: a pretrained tokenizer does not depend on the
    task.

    Raises:
        ValueError: there is no such folder or model (the message says where it was looked for), or its tokenizer puts
            a space before every text and cannot do without.
    """
    from transformers import AutoTokenizer

    del texts
    check_path(path)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"model.path={path!r} has no tokenizer that transformers can load: {error}") from error
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id):
        tokenizer.add_special_tokens({"pad_token": PAD})
    codec = Codec(tokenizer)
    if _adds_space(codec):
        _without_prefix_space(tokenizer)
        codec = Codec(tokenizer)
        if _adds_space(codec):
            raise ValueError(
                f"model.path={path!r}: its tokenizer puts a space before every text, which would become a part of "
                "every observation and action, and it cannot be switched off; choose another model"
            )
    return codec


def _adds_space(codec: Codec) -> bool:
    """Tell whether a text comes back from a tokenizer with a space before it."""
    return codec.decode(codec.encode("a")) == " a"


def _without_prefix_space(tokenizer: Any) -> None:
    """Let a byte-level tokenizer put no space before texts, wherever its preparation of texts does so."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        says = json.loads(backend.to_str(), object_hook=lambda part: part | _NO_SPACE if _SPACE in part else part)
        backend.pre_tokenizer = Tokenizer.from_str(json.dumps(says)).pre_tokenizer
