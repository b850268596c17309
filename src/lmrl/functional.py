"""The mathematics that several algorithms share, over flat vectors of decisions.

Notation: N decisions of a batch, A decisions of an episode, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from lmrl.config.types import Decay

_SHARED = ContextVar("whether the processes' rows make up one batch", default=False)


@contextmanager
def global_batch() -> Iterator[None]:
    """Treat the rows of all processes as one global batch while each computes its share of the loss."""
    token = _SHARED.set(True)
    try:
        yield
    finally:
        _SHARED.reset(token)


def mean_over_processes(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Average values over the processes that share a batch (see `global_batch`), without gradients.

    A single process returns its own values. All processes must call this equally often and in the same order.
    """
    if not (_SHARED.get() and distributed.is_available() and distributed.is_initialized()):
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def weighted_mean(values: Float[Tensor, " N"], weight: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Average `values` with non-negative weights; 0 where all weights are 0.

    Where processes share a batch, the mean of the processes' results is the mean over the whole batch: each
    divides by their average weight, not by its own. A mean of means would count the rows of a short share for more.
    """
    return (values * weight).sum() / mean_over_processes(weight.sum()).clamp_min(1e-8)


def pick(values: Float[Tensor, "N V"], actions: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Select each row's entry for the action that was taken."""
    return values.gather(-1, actions[:, None]).squeeze(-1)


def log_prob(logits: Float[Tensor, "N V"], actions: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Log-probability of each action under the softmax of its logits."""
    return -F.cross_entropy(logits.float(), actions, reduction="none")


def entropy(logits: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """Entropy of the softmax of each row of logits, in nats."""
    log_probs = logits.float().log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def expectile_weight(advantage: Float[Tensor, " N"], expectile: float) -> Float[Tensor, " N"]:
    """Weight of a squared error in expectile regression: tau where the target is not below the value, else 1 - tau.

    See "Offline Reinforcement Learning with Implicit Q-Learning" by Kostrikov et al. (arXiv 2110.06169), eq. 5.
    """
    return torch.where(advantage >= 0, expectile, 1 - expectile)


def discount_factors(gamma: float, ends_turn: Bool[Tensor, " N"], per: str) -> Float[Tensor, " N"]:
    """Return the discount between each decision and the next one, per "token" or per "turn" (see `text.returns`)."""
    every = torch.full(ends_turn.shape, gamma, device=ends_turn.device)
    return every if per == "token" else torch.where(ends_turn, every, torch.ones_like(every))


@torch.no_grad()
def polyak_(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Move the target's parameters the fraction `rate` of the way to the online ones, in place, shard by shard."""
    for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
        _own(slow).lerp_(_own(fast), rate)


def _own(parameter: Tensor) -> Tensor:
    """Return the part of a parameter that this process holds."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def like(value: Any, pattern: Any) -> Any:
    """Return this process's part of a tensor, where another of the same shape is sharded; else the value itself."""
    if isinstance(pattern, DTensor) and isinstance(value, Tensor) and value.shape == pattern.shape:
        value = value.to(pattern.device)
        return distribute_tensor(value, pattern.device_mesh, pattern.placements, src_data_rank=None)
    return value


def return_share(step: int, steps: int, decay: int, share: float) -> float:
    """Return lambda, how much of a value's target is the return: 1 for `steps` steps, then falling to `share`.

    Args:
        step: optimizer steps so far.
        steps: how long targets are returns alone.
        decay: steps over which lambda falls linearly; 0: at once.
        share: lambda in the end.
    """
    late = step - steps
    if late < 0:
        return 1.0
    return share + (1 - share) * (max(0.0, 1 - late / decay) if decay else 0.0)


def warmup_then(decay: Decay, warmup_steps: int, total_steps: int, floor: float) -> Callable[[int], float]:
    """Return the learning rate's factor as a function of the step: linear warm-up, then the decay.

    Args:
        decay: "constant", "cosine", or "exponential" (by the same ratio in each step).
        warmup_steps: steps until the full rate is reached.
        total_steps: steps at which the factor has come down to `floor`.
        floor: the smallest factor, above 0.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if decay == "constant":
            return 1.0
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        if decay == "exponential":
            return floor**progress
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
