"""Probe a language model's behaviour on a few tokens before anything is trained: its name is not enough.

Training reads whole rows at once; acting reads step by step, with a cache. Both must give the same probabilities, or a
method learns about other actions than those that are taken.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmrl.models.backbone import hidden_states, lm_logits, trunk, width
from lmrl.models.cache import PrefixReader, evaluation
from lmrl.models.window import readable
from lmrl.text.codec import Codec

_TOLERANCE = 1e-3
"""Largest difference between two ways to compute the same; rounding alone makes less than 1e-4."""
_SHORTEST, _LONGEST = 16, 512
"""Tokens of a row that is read."""
_WORK = 2e9
"""Weights times tokens of a row: small models are read to the end of their window, large ones take a second or so."""
_FAR = 100_000
"""A position that a model which says nothing about its window must have."""
_SEEN: set[str] = set()
"""The models that have passed: each network of a run, and each stage, is a copy of the same one."""


def probe(lm: Any, codec: Codec, *, drops: bool = False) -> None:
    """Make sure that a language model can be trained and played, by using it as training and acting will.

    Args:
        lm: the whole model, without adapters.
        codec: the tokenizer that goes with it.
        drops: whether dropout is wanted in training.

    Raises:
        ValueError: it cannot; the message says why, in one sentence.
    """
    key = f"{type(lm).__name__} {drops} {lm.config.to_json_string()}"
    if key in _SEEN:
        return
    was_training = lm.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        said = _objection(lm, codec, drops)
    lm.train(was_training)
    if said is not None:
        raise ValueError(f"{type(lm).__name__} cannot be used: {said}")
    _SEEN.add(key)


def _objection(lm: Any, codec: Codec, drops: bool) -> str | None:
    """Return the first thing that is wrong with a model."""
    try:
        PrefixReader([trunk(lm)])
    except ValueError as error:
        return str(error)
    if trunk(lm) is lm:
        return "transformers does not tell its transformer from its language-model head, and lmrl needs both"
    tokens = _texts(lm, codec)
    found: list[Tensor] = []
    checks: dict[str, Callable[[], str | None]] = {
        f"reading {tokens.shape[1]} tokens": lambda: found.append(_read(lm, tokens)),
        "reading other tokens": lambda: _causality(lm, tokens, found[0], codec.pad_id),
        "computing logits": lambda: _head(lm, tokens, found[0]),
        "reading one token": lambda: _end(lm, tokens),
        "reading in training mode": lambda: None if drops else _training(lm, tokens, found[0]),
        "reading step by step with a cache": lambda: _steps(lm, tokens, found[0]),
    }
    for doing, check in checks.items():
        lm.eval()
        try:
            said = check()
        except Exception as error:  # whatever an unknown architecture raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            said = f"{doing} fails ({type(error).__name__}: {reason})"
        if said is not None:
            return said
    return None


def _texts(lm: Any, codec: Codec) -> Int[Tensor, "4 T"]:
    """Draw four rows of tokens that texts may have."""
    weights = sum(parameter.numel() for parameter in lm.parameters())
    length = min(max(_SHORTEST, int(_WORK / weights)), _LONGEST, readable(lm.config) or _LONGEST)
    special = {codec.pad_id, *codec.tokenizer.all_special_ids}
    ids = torch.tensor([i for i in range(codec.size) if i not in special])
    tokens = ids[torch.randint(len(ids), (4, length))]
    tokens[3] = tokens[1].roll(-3)  # the history of row 1 when its first tokens have been forgotten
    return tokens


def _read(lm: Any, tokens: Int[Tensor, "4 T"]) -> Float[Tensor, "4 T D"]:
    """Read rows at once, as training does."""
    return hidden_states(lm, tokens)


def _causality(lm: Any, tokens: Int[Tensor, "4 T"], hidden: Float[Tensor, "4 T D"], pad_id: int) -> str | None:
    """Let rows end in other tokens or in padding, and check whether that changes the states before."""
    half = tokens.shape[1] // 2
    other = tokens.roll(1, 0)
    other[:, :half] = tokens[:, :half]
    other[2:, half:] = pad_id
    if not _close(hidden_states(lm, other)[:, :half], hidden[:, :half]):
        return "its state at a token depends on later tokens, which are not known while acting"
    return None


def _head(lm: Any, tokens: Int[Tensor, "4 T"], hidden: Float[Tensor, "4 T D"]) -> str | None:
    """Compare logits with the head of the last hidden states."""
    if hidden.shape[-1] == width(lm) and _close(
        lm_logits(lm, hidden[:1]), lm(input_ids=tokens[:1], use_cache=False).logits
    ):
        return None
    return (
        "its logits are not its language-model head applied to its last hidden state (it scales, caps or transforms "
        "them), but lmrl reads policies and values from the same hidden states"
    )


def _end(lm: Any, tokens: Int[Tensor, "4 T"]) -> str | None:
    """Read one token at the last position that the configuration names."""
    limit = readable(lm.config)
    place = torch.tensor([[(limit or _FAR) - 1]])
    try:
        trunk(lm)(input_ids=tokens[:1, :1], position_ids=place, use_cache=False)
    except (IndexError, RuntimeError):
        told = "names no longest text" if limit is None else f"allows texts of {limit} tokens"
        return f"its configuration {told}, but the model has no position {int(place)}"
    return None


def _training(lm: Any, tokens: Int[Tensor, "4 T"], hidden: Float[Tensor, "4 T D"]) -> str | None:
    """Compare two passes in training mode with the one in evaluation."""
    lm.train()
    if all(_close(hidden_states(lm, tokens), hidden) for _ in range(2)):
        return None
    return (
        "in training mode it computes something else than while acting, although model.lm.dropout=0: some layers are "
        "random, or depend on the mode"
    )


def _steps(lm: Any, tokens: Int[Tensor, "4 T"], hidden: Float[Tensor, "4 T D"]) -> str | None:
    """Read growing, cut and replaced histories of different lengths as policies do, and compare with the whole rows."""
    reader, end = PrefixReader([trunk(lm)]), tokens.shape[1]
    # Of each slot: the row that it holds now, and how many tokens of it.
    script = (
        {0: (0, 5), 1: (1, 9), 2: (2, 3)},
        {0: (0, 6), 1: (1, 10), 2: (2, 4)},
        {2: (2, end), 0: (0, 9)},
        {0: (3, 6), 1: (0, 4), 2: (1, end - 1)},
        {0: (3, 8), 1: (0, end)},
    )
    worst, agrees = 0.0, True
    with evaluation((lm,)):
        for step in script:
            lengths = {slot: (row, min(n, end)) for slot, (row, n) in step.items()}
            (states,) = reader.read([(slot, tokens[row, :n].tolist()) for slot, (row, n) in lengths.items()])
            expected = torch.stack([hidden[row, n - 1] for row, n in lengths.values()])
            ours, theirs = (lm_logits(lm, some).log_softmax(-1) for some in (states, expected))
            worst = max(worst, float((ours - theirs).abs().nan_to_num(nan=torch.inf).max()))
            agrees &= _close(states, expected)
    if agrees and worst < _TOLERANCE:
        return None
    return (
        "reading step by step with a cache gives other probabilities than one pass over the text (a log-probability "
        f"differs by {worst:.2g}), so it would act otherwise than it trains"
    )


def _close(found: Tensor, expected: Tensor) -> bool:
    """Tell whether two results are equal up to rounding, which grows with the numbers."""
    return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max().clamp_min(1e-6))
