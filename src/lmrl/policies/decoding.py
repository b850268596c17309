"""How a token is drawn: from logits to the one distribution that is sampled and reported."""

import json
import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from lmrl.config.types import NonNegative, PositiveCount, PositiveShare, Share, check_fields
from lmrl.text.codec import Codec


@dataclass(frozen=True, slots=True, eq=False)
class GuidedLogits:
    """Logits that differ from those of the prior that they guide."""

    logits: Float[Tensor, "b V"]
    """The logits to sample from."""
    prior: Float[Tensor, "b V"]
    """The prior's logits or log-probabilities, by which `Decoding.support` is judged."""

    @classmethod
    def by_values(cls, prior: Float[Tensor, "b V"], values: Float[Tensor, "b V"], beta: float | int) -> "GuidedLogits":
        """Lean a prior, given by its logits, towards tokens of high value: log pi(a | s) + beta Q(s, a)."""
        log_probs = prior.log_softmax(-1)
        return cls(log_probs + beta * values, log_probs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """The filters between a model's logits and the distribution that actions are drawn from.

    They apply in the order retry, support, temperature, top-k, top-p, each to the tokens that the former ones left.
    Methods that learn from the probabilities that they act with allow a temperature only (`check_on_policy_decoding`).
    """

    temperature: NonNegative = 1.0
    """Divides the logits; 0 always takes the likeliest token (the first of equals)."""
    top_k: PositiveCount | None = None
    """Keep this many of the likeliest tokens. `None`: all."""
    top_p: PositiveShare = 1.0
    """Keep the fewest likeliest tokens that together have at least this probability."""
    support: Share = 0.0
    """Drop tokens whose probability under the untempered prior is below this fraction of the prior's likeliest token.

    Values of tokens that the data never showed are extrapolated, and guidance would pick the most overrated of them.
    A fraction of the maximum, unlike a probability, means the same for 4 plausible tokens as for 400, and always keeps
    one. Without guidance the model is its own prior (elsewhere called min-p). 0: keep all.
    """
    retry: bool = True
    """Whether an action may be repeated after it has left the observation unchanged. `False` is an agent
    that remembers useless actions: one that sees only the present state repeats the same illegal move for ever.
    """

    def __post_init__(self) -> None:
        check_fields(self)

    def log_probs(
        self, output: Float[Tensor, "b V"] | GuidedLogits, allowed: Bool[Tensor, " V"] | Bool[Tensor, "b V"]
    ) -> Float64[Tensor, "b V"]:
        """Return the log-probabilities for sampling, normalised over the remaining tokens; -inf for the others.

        Args:
            output: the result of a model's `next_logits`.
            allowed: false for ids that cannot be said, ever or in a row.
        """
        guided = output if isinstance(output, GuidedLogits) else GuidedLogits(output, output)
        scores = _exact(guided.logits)
        forbidden = ~allowed.to(scores.device)
        scores = scores.masked_fill(forbidden, -torch.inf)
        if self.support > 0:
            prior = _exact(guided.prior).masked_fill(forbidden, -torch.inf)
            scores = scores.masked_fill(prior < prior.amax(-1, keepdim=True) + math.log(self.support), -torch.inf)
        if self.temperature == 0:
            best = scores.argmax(-1, keepdim=True)
            return torch.full_like(scores, -torch.inf).scatter_(-1, best, scores.gather(-1, best) * 0)
        scores = scores / self.temperature
        if self.top_k is not None or self.top_p < 1:
            scores = self._keep_likeliest(scores)
        return scores.log_softmax(-1)

    def _keep_likeliest(self, scores: Float64[Tensor, "b V"]) -> Float64[Tensor, "b V"]:
        """Apply top-k and top-p; a stable sort, so that equals are kept in order of their ids."""
        ordered, ids = scores.sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            ordered[:, self.top_k :] = -torch.inf
        if self.top_p < 1:
            probabilities = ordered.softmax(-1)
            before = probabilities.cumsum(-1) - probabilities
            ordered = ordered.masked_fill(before >= self.top_p, -torch.inf)
        return torch.full_like(scores, -torch.inf).scatter_(-1, ids, ordered)


def check_on_policy_decoding(decoding: Decoding, *, reranks: bool = False, from_play: bool = True) -> None:
    """Refuse to act with other probabilities than those that training computes: logits over a temperature above 0.

    For methods whose loss depends on the probabilities of sampled actions: importance ratios, policy gradients.

    Args:
        decoding: how tokens are drawn while training.
        reranks: whether a reranker chooses the actions instead.
        from_play: whether the actions were taken in episodes. `False`: in states in which nothing was tried
            before, so that `retry` changes nothing.

    Raises:
        ValueError: a filter applies, the temperature is 0, or a reranker acts; the message names the fields.
    """
    if reranks:
        raise ValueError(
            "algo.module.rerank: this method learns from the probabilities that it acts with, but a reranker chooses "
            "among proposals with others; leave it out, or name a method that learns from data, as algo=ilql"
        )
    plain = asdict(Decoding(temperature=decoding.temperature or 1.0, retry=from_play or decoding.retry))
    changed = {name: json.dumps(value) for name, value in asdict(decoding).items() if value != plain[name]}
    if changed:
        said = ", ".join(f"algo.decoding.{name}={value}" for name, value in changed.items())
        instead = ", ".join(f"{name}: {value}" for name, value in changed.items())
        raise ValueError(
            f"{said}: this method learns from the probabilities that it acts with, but training computes them without "
            f"filters, at a temperature above 0; instead, evaluation.decoding={{{instead}}} changes only how the "
            "trained policy plays"
        )


def _exact(logits: Float[Tensor, "b V"]) -> Float64[Tensor, "b V"]:
    """Go on in float64, which a cumulative sum over a large vocabulary needs; Apple's GPUs do not have it."""
    logits = logits.detach().float()
    return (logits.cpu() if logits.is_mps else logits).double()


def sample(log_probs: Float64[Tensor, "b V"], uniforms: Float64[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Invert each row's cumulative distribution at its uniform number; an id of probability 0 is never returned.

    Raises:
        ValueError: a row is not a distribution.
    """
    cumulative = log_probs.exp().cumsum(-1)
    total = cumulative[:, -1:]
    if not bool((total > 0).all()):  # also false for NaN
        raise ValueError("the model's logits are not numbers: its training has diverged, or its weights are damaged")
    # Rounding must not carry the point to the very end, where only ids of probability 0 are left.
    point = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, point, right=True).squeeze(-1)


def sampleable(codec: Codec, vocabulary: int) -> Bool[Tensor, " V"]:
    """Return which of a model's ids may be sampled: not the pad id, nor rows that only round a matrix up."""
    allowed = torch.arange(vocabulary) < codec.size
    if codec.pad_id < vocabulary:
        allowed[codec.pad_id] = False
    return allowed
