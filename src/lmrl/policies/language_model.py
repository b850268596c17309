"""A language model as a policy: reads new turns, samples an action token by token, and keeps its cache."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from lmrl.models.cache import PrefixReader, evaluation
from lmrl.policies.core import Action, Request
from lmrl.policies.decoding import Decoding, GuidedLogits, sample, sampleable
from lmrl.policies.randomness import Uniforms
from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenBatch
from lmrl.text.trajectory import History

NextLogits = Callable[[tuple[Tensor, ...]], Tensor | GuidedLogits]
"""From one hidden state [b, D] per trunk to the logits [b, V] of the next token."""

_RECALL_LENGTH = 64  # only short histories come up again and again
_RECALL_BYTES = 64 * 2**20


class LanguageModelPolicy:
    """Samples utterances from one or several transformers.

    Keys and values stay cached per slot from turn to turn, so that each turn computes only its new tokens; and the
    distributions after short histories are remembered, so that a task with few states is not computed again and
    again. Both assume fixed weights: make a new policy, or call `reset`, after training steps.

    `Action.text` is the codec's decoding of the sampled ids, in which the end-of-text token is a line break.
    `Action.log_probs` belong to the distribution that was really sampled, after all of `Decoding` and over the ids that
    can be said (all but padding): with temperature 1 and no filters that is the model's own; with filters it is
    renormalised over the remaining tokens; greedily it is always 0.

    Args:
        trunks: transformers without a head; all read the same ids.
        next_logits: from one hidden state [b, D] per trunk to logits [b, V], or to `GuidedLogits`, which also tell
            the prior for `Decoding.support`. Value guidance needs no other policy.
        codec: the tokenizer.
        decoding: how tokens are drawn.
        max_new_tokens: longest utterance; shorter ones end in one of the codec's stop ids.

    Raises:
        ValueError: there is no trunk, one that cannot be cached, or `max_new_tokens` is not positive.
    """

    def __init__(
        self,
        *,
        trunks: Sequence[nn.Module],
        next_logits: NextLogits,
        codec: Codec,
        decoding: Decoding,
        max_new_tokens: int,
    ) -> None:
        if not trunks:
            raise ValueError("a language-model policy needs at least one trunk")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        self.trunks = tuple(trunks)
        self.next_logits = next_logits
        self.codec = codec
        self.decoding = decoding
        self.max_new_tokens = max_new_tokens
        self._reader = PrefixReader(self.trunks)
        self._uniforms = Uniforms()
        self._recall = _Recall()
        self._sampleable: Tensor | None = None

    def reset(self) -> None:
        """Forget all that was computed; needed whenever weights have changed."""
        self._reader.reset()
        self._recall = _Recall()

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one utterance per request, in order.

        Raises:
            ValueError: a history has no tokens, or leaves no room for an utterance in a model's window.
        """
        utterances = self._open(requests)
        waiting = utterances
        with evaluation(self.trunks):
            while waiting:
                self._extend(waiting)
                waiting = [u for u in waiting if not u.is_finished]
        return [Action(self.codec.utterance(u.said), u.said, tuple(u.log_probs)) for u in utterances]

    def states(self, histories: Sequence[History]) -> tuple[Float[Tensor, "b _"], ...]:
        """Return each trunk's hidden state [b, D] after each history, to read values or logits from.

        Raises:
            ValueError: as `act`.
        """
        opened = self._open([Request(history, slot) for slot, history in enumerate(histories)])
        with evaluation(self.trunks):
            return self._reader.read([(u.key, u.ids) for u in opened])

    def log_probs(self, batch: TokenBatch) -> Float64[Tensor, " N"]:
        """Compute the log-probability of each decision as training does: whole rows at once, without any cache."""
        batch = batch.to(next(self.trunks[0].parameters()).device)
        with evaluation(self.trunks):
            hidden = [trunk(input_ids=batch.tokens, use_cache=False).last_hidden_state for trunk in self.trunks]
            distributions = self._distributions(tuple(h[batch.row, batch.position] for h in hidden))
            return distributions.gather(-1, batch.action[:, None].to(distributions.device)).squeeze(-1)

    def _open(self, requests: Sequence[Request]) -> list["_Utterance"]:
        """Start an utterance for each request, under a cache key of its own even where slots repeat."""
        taken: set[Hashable] = set()
        utterances = []
        for index, request in enumerate(requests):
            key: Hashable = request.slot if request.slot not in taken else f"repeated-{index}"
            taken.add(key)
            ids = self.codec.history(request.history)
            if not ids:
                raise ValueError("a language model cannot act on a history without any tokens")
            limit = self._reader.limit
            if limit is not None and len(ids) + self.max_new_tokens > limit:
                raise ValueError(
                    f"a history of {len(ids)} tokens and max_new_tokens={self.max_new_tokens} do not fit into the "
                    f"model's window of {limit} tokens; use a smaller memory, shorter episodes or a larger model"
                )
            uniforms = self._uniforms.draw(request.seed, request.turn, self.max_new_tokens)
            tried = () if self.decoding.retry else tuple(tuple(self.codec.turn(turn)) for turn in request.tried)
            utterances.append(_Utterance(key, ids, len(ids), uniforms.tolist(), self.codec.stop_ids, tried))
        return utterances

    def _extend(self, utterances: list["_Utterance"]) -> None:
        """Draw one token for each utterance."""
        distributions = self._lookup(utterances)
        draws = torch.tensor([u.uniforms[len(u.ids) - u.begin] for u in utterances], dtype=torch.float64)
        tokens = sample(distributions, draws.to(distributions.device))
        log_probs = distributions.gather(-1, tokens[:, None]).squeeze(-1)
        for utterance, token, log_prob in zip(utterances, tokens.tolist(), log_probs.tolist(), strict=True):
            utterance.ids.append(token)
            utterance.log_probs.append(log_prob)

    def _lookup(self, utterances: list["_Utterance"]) -> Float64[Tensor, "b V"]:
        """Return the logits of each next token; equal short histories are computed once."""
        keys = [(tuple(u.ids) if len(u.ids) <= _RECALL_LENGTH else u.key, u.refused) for u in utterances]
        unknown = {key: u for key, u in zip(keys, utterances, strict=True) if key not in self._recall.rows}
        if not unknown:
            return torch.stack([self._recall.rows[key] for key in keys])
        hidden = self._reader.read([(u.key, u.ids) for u in unknown.values()])
        computed = self._distributions(hidden, [refused for _, refused in unknown])
        if len(unknown) == len(utterances):
            self._recall.add({k: v for k, v in zip(keys, computed, strict=True) if isinstance(k[0], tuple)})
            return computed
        new = dict(zip(unknown, computed, strict=True))
        self._recall.add({k: v for k, v in new.items() if isinstance(k[0], tuple)})
        return torch.stack([new[key] if key in new else self._recall.rows[key] for key in keys])

    def _distributions(
        self, hidden: tuple[Tensor, ...], refused: Sequence[frozenset[int]] = ()
    ) -> Float64[Tensor, "b V"]:
        output = self.next_logits(hidden)
        logits = output.logits if isinstance(output, GuidedLogits) else output
        if self._sampleable is None:
            self._sampleable = sampleable(self.codec, logits.shape[-1]).to(logits.device)
        allowed = self._sampleable
        if any(refused):
            allowed = allowed.repeat(len(refused), 1)
            for row, ids in zip(allowed, refused, strict=True):
                row[list(ids)] = bool(len(ids) >= row.sum())  # who has tried everything may begin anew
        return self.decoding.log_probs(output, allowed)


@dataclass(slots=True)
class _Utterance:
    """One action in progress: the ids of the history, followed by those sampled so far."""

    key: Hashable
    ids: list[int]
    begin: int
    uniforms: list[float]
    stop_ids: frozenset[int]
    tried: tuple[tuple[int, ...], ...] = ()
    log_probs: list[float] = field(default_factory=list)

    @property
    def said(self) -> tuple[int, ...]:
        return tuple(self.ids[self.begin :])

    @property
    def refused(self) -> frozenset[int]:
        """The ids that would make it one of those that were tried."""
        said = self.said if self.tried else ()
        return frozenset(ids[-1] for ids in self.tried if ids and ids[:-1] == said)

    @property
    def is_finished(self) -> bool:
        said = len(self.ids) - self.begin
        return said == len(self.uniforms) or (said > 0 and self.ids[-1] in self.stop_ids)


class _Recall:
    """Distributions after short histories, as many as fit into a fixed amount of memory; the first ones stay."""

    def __init__(self) -> None:
        self.rows: dict[Hashable, Tensor] = {}
        self._room = _RECALL_BYTES

    def add(self, rows: dict[Hashable, Tensor]) -> None:
        """Remember rows if there is room."""
        size = sum(row.nbytes for row in rows.values())
        if size <= self._room:
            self._room -= size
            self.rows |= rows
