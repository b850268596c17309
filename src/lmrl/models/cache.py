"""Incremental reading: each conversation keeps the keys and values of the tokens that its transformers have read."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache, CacheLayerMixin

from lmrl.models.window import readable_by_all, text_part

_GRAIN = 64  # caches grow by whole multiples of this many tokens
_FORWARD_COST = 256  # tokens that could be computed in the time that one more forward pass costs
_FORWARD_LIMIT = 16384  # tokens of one forward pass, padding included: bounds the memory of attention scores


@contextmanager
def evaluation(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Switch dropout and gradients off for a while; each part of the modules is then in the mode that it was in."""
    training = [part for module in modules for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:  # not `train()`: frozen parts of a module in training stay in evaluation mode
            part.training = True


class PrefixReader:
    """Reads token sequences with one or several transformers, computing new tokens only.

    A sequence comes with the key of its conversation. The tokens that it shares with the conversation's last
    sequence, from the beginning on, are taken from the cache, which stays valid only as long as the weights do.

    Args:
        trunks: transformers without a head, called as Hugging Face's are.

    Raises:
        ValueError: a transformer has layers other than attention, or attention that takes no explicit mask.
    """

    def __init__(self, trunks: Sequence[nn.Module]) -> None:
        self.trunks = tuple(trunks)
        for trunk in self.trunks:
            _check(trunk)
        self.limit = readable_by_all(self.trunks)
        self.reset()

    def reset(self) -> None:
        """Forget everything that was read; call it when weights have changed."""
        self._caches = [_SlotCache() for _ in self.trunks]
        self._rows: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []
        self._held: list[list[int]] = []  # row -> the ids whose keys and values are stored there
        self.tokens_computed = 0

    def read(self, sequences: Sequence[tuple[Hashable, list[int]]]) -> tuple[Float[Tensor, "b _"], ...]:
        """Return each transformer's hidden state of the last token of each sequence.

        Args:
            sequences: pairs of a conversation's key, all different, and its ids, at least one.
        """
        jobs = sorted((self._plan(key, ids, i) for i, (key, ids) in enumerate(sequences)), key=lambda job: job.count)
        order: list[int] = []
        parts: list[list[Tensor]] = []
        cuts = _split([job.count for job in jobs], 0, len(jobs))
        for batch in (part for low, high in cuts for part in _fitting(jobs[low:high], self.limit)):
            parts.append(self._forward(batch))  # puts the jobs into the order of their rows
            order += [job.index for job in batch]
        back = torch.tensor(order).argsort()
        return tuple(torch.cat(states)[back.to(states[0].device)] for states in zip(*parts, strict=True))

    def _plan(self, key: Hashable, ids: list[int], index: int) -> "_Job":
        """Find a conversation's row, and how much of the sequence it holds already."""
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._keys)
            self._keys.append(key)
            self._held.append([])
        held = self._held[row]
        known = len(held) if held == ids[: len(held)] else _common_prefix(held, ids)
        start = min(known, len(ids) - 1)  # the last token is always computed: its hidden state is not kept
        return _Job(index, key, ids, start, len(ids) - start)

    def _forward(self, batch: list["_Job"]) -> list[Tensor]:
        """Run the new tokens of some conversations in one forward pass per transformer."""
        for cache in self._caches:
            cache.row_count = len(self._keys)
        self._bring_forward(batch)
        width = max(job.count for job in batch)
        tokens = torch.tensor([job.ids[job.start :] + job.ids[-1:] * (width - job.count) for job in batch])
        starts = torch.tensor([job.start for job in batch])
        last = torch.tensor([job.count - 1 for job in batch])
        positions = starts[:, None] + torch.arange(width)
        span = max(job.start for job in batch) + width
        for row, job in enumerate(batch):
            del self._held[row][job.start :]  # also right if this pass fails halfway
        states = []
        for trunk, cache in zip(self.trunks, self._caches, strict=True):
            weight = next(trunk.parameters())
            device = weight.device
            at = positions.to(device)
            cache.aim(at, span)
            # A key stands at its position, so a token sees exactly the keys up to its own: later ones are padding
            # or left over from an earlier sequence. Only the 4D float mask means the same in all attention kernels.
            hides = torch.arange(span, device=device) > at[:, :, None]
            mask = torch.zeros(hides.shape, dtype=weight.dtype, device=device)
            mask.masked_fill_(hides, torch.finfo(weight.dtype).min)
            hidden = trunk(
                input_ids=tokens.to(device),
                attention_mask=mask[:, None],
                position_ids=at,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            states.append(hidden[torch.arange(len(batch), device=device), last.to(device)])
        for row, job in enumerate(batch):
            self._held[row] += job.ids[job.start :]
        self.tokens_computed += len(batch) * width
        return states

    def _bring_forward(self, batch: list["_Job"]) -> None:
        """Move the conversations of a batch to the first rows, and sort the batch by row.

        Then keys and values of the batch are a view. Gathering them would copy them all for every single token.
        """
        rows = [self._rows[job.key] for job in batch]
        behind = [row for row in rows if row >= len(batch)]
        if behind:
            taken = set(rows)
            before = [row for row in range(len(batch)) if row not in taken]
            span = max(len(self._held[row]) for row in behind + before)
            for cache in self._caches:
                cache.swap(before, behind, span)
            for a, b in zip(before, behind, strict=True):
                self._keys[a], self._keys[b] = self._keys[b], self._keys[a]
                self._held[a], self._held[b] = self._held[b], self._held[a]
                self._rows[self._keys[a]], self._rows[self._keys[b]] = a, b
        batch.sort(key=lambda job: self._rows[job.key])


@dataclass(frozen=True, slots=True)
class _Job:
    """The part of one sequence to compute: its ids from `start` on, `count` of them."""

    index: int
    key: Hashable
    ids: list[int]
    start: int
    count: int


class _SlotCache(Cache):
    """A Hugging Face cache whose rows are of different lengths and are written where the caller aims."""

    def __init__(self) -> None:
        self.written: list[_SlotLayer] = []
        super().__init__(layers=cast(Any, self.written))
        self.positions = self.rows = torch.empty(0)
        self.span = self.row_count = 0

    def aim(self, positions: Int[Tensor, "b q"], span: int) -> None:
        """Say where the next forward pass writes its keys, and how far it reads."""
        self.positions, self.span = positions, span
        self.rows = torch.arange(len(positions), device=positions.device)[:, None]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Store new keys and values [b, heads, q, dim] of a layer; return all that its first b rows hold."""
        while len(self.written) <= layer_idx:
            self.written.append(_SlotLayer(self))
        return self.written[layer_idx].update(key_states, value_states, *args, **kwargs)

    def swap(self, first: list[int], second: list[int], span: int) -> None:
        """Exchange rows; only their first `span` tokens are worth copying."""
        for layer in self.written:
            layer.reserve(layer.keys, layer.values)
            for tensor in (layer.keys, layer.values):
                here, there = torch.tensor([first + second, second + first], device=tensor.device)
                used = tensor[:, :, :span]
                used[here] = used[there]


class _SlotLayer(CacheLayerMixin):
    """One layer's keys and values [rows, heads, tokens, dim], in memory that is reused and grows rarely."""

    def __init__(self, cache: _SlotCache) -> None:
        super().__init__()
        self.cache = cache
        self.keys: Any = None
        self.values: Any = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Grow to the size that the cache aims at."""
        self.keys, self.values = self._grown(self.keys, key_states), self._grown(self.values, value_states)
        self.is_initialized = True

    def reserve(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room if there is too little, shaped like the given keys and values."""
        if self.keys is None or self.keys.shape[0] < self.cache.row_count or self.keys.shape[2] < self.cache.span:
            self.lazy_initialization(key_states, value_states)

    def _grown(self, old: Tensor | None, like: Tensor) -> Tensor:
        rows, tokens = (0, 0) if old is None else (old.shape[0], old.shape[2])
        rows = max(rows, self.cache.row_count)
        if self.cache.span > tokens:
            tokens = -(-max(self.cache.span, tokens * 3 // 2) // _GRAIN) * _GRAIN
        # Zeros, because masked rubbish must still be finite: 0 * NaN is NaN.
        new = like.new_zeros(rows, like.shape[1], tokens, like.shape[3])
        if old is not None:
            new[: old.shape[0], :, : old.shape[2]] = old
        return new

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - Hugging Face's signature
        """Write new keys and values at each row's own positions; return views of all that the batch may read."""
        cache = self.cache
        self.reserve(key_states, value_states)
        self.keys[cache.rows, :, cache.positions] = key_states.transpose(1, 2).to(self.keys.dtype)
        self.values[cache.rows, :, cache.positions] = value_states.transpose(1, 2).to(self.values.dtype)
        count = len(cache.rows)
        return self.keys[:count, :, : cache.span], self.values[:count, :, : cache.span]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - Hugging Face's signature
        """Return how many keys the next forward pass reads, and from where."""
        return self.cache.span, 0

    def get_seq_length(self) -> int:
        """Return 0: rows differ in length, and callers give explicit positions."""
        return 0

    def get_max_length(self) -> int:
        """Return -1: there is no maximum."""
        return -1


def _common_prefix(a: list[int], b: list[int]) -> int:
    """Return how many first ids are equal."""
    for n, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return n
    return min(len(a), len(b))


def _split(counts: list[int], low: int, high: int) -> list[tuple[int, int]]:
    """Cut jobs, sorted by their number of tokens, into forward passes where padding would cost more than a pass."""
    size, longest = high - low, counts[high - 1]
    if size == 1:
        return [(low, high)]
    whole = size * longest
    cost, cut = min(((i - low) * counts[i - 1] + (high - i) * longest, i) for i in range(low + 1, high))
    if whole > _FORWARD_LIMIT and cost + _FORWARD_COST >= whole:
        cut = low + size // 2
    elif cost + _FORWARD_COST >= whole:
        return [(low, high)]
    return _split(counts, low, cut) + _split(counts, cut, high)


def _fitting(batch: list[_Job], limit: int | None) -> Iterator[list[_Job]]:
    """Cut a batch where its padding would stand beyond the window, in which some architectures compute otherwise."""
    span = max(job.start for job in batch) + max(job.count for job in batch)
    if len(batch) == 1 or limit is None or span <= limit:
        yield batch
    else:
        half = len(batch) // 2
        yield from (*_fitting(batch[:half], limit), *_fitting(batch[half:], limit))


def _check(trunk: nn.Module) -> None:
    """Refuse transformers whose state is more than keys and values, or whose attention would ignore the mask."""
    config: Any = text_part(trunk.config)
    attention = getattr(config, "_attn_implementation", None) or "eager"
    if attention not in ("eager", "sdpa"):
        raise ValueError(f"acting needs a model with eager or sdpa attention, got {attention!r}")
    unknown = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if unknown:
        raise ValueError(f"acting keeps a key-value cache, which does not hold layers of type {sorted(unknown)}")
