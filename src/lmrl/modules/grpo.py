"""GRPO over whole episodes: compare episodes that share a start, instead of learning values.

A group is G episodes i from one start, with returns R_i. Every agent token of an episode gets the same advantage,

    A_i = (R_i - mean_j R_j) / (std_j R_j + e)

and with rho_t = pi(a_t) / pi_old(a_t) the loss over the N agent tokens of a batch is

    L = -1/N sum_t c_t [min(rho_t A, clip(rho_t, 1 - eps_low, 1 + eps_high) A) - beta k3_t]
    k3_t = pi_ref / pi - 1 - log(pi_ref / pi)                an estimate of KL(pi || pi_ref), never negative

With `average: episode` (the paper) c is the mean length of the round's episodes over the episode's own, so that each
episode counts the same. With `token` c is 1, each token counts the same, and long episodes, which in a task of
penalties are the bad ones, push the policy away from whatever it says.

Groups whose episodes all earn the same say nothing. `keep_groups` below 1 trains only on the fraction of groups whose
returns differ most (StarPO-S); the others are no part of the round's batches. This, together with eps_high > eps_low,
keeps the policy from repeating itself.

Acts by sampling from the language model.

Sources: Shao et al. 2024 (arXiv 2402.03300), eq. 3-4; over whole multi-turn episodes: RAGEN's StarPO
(arXiv 2504.20073), sections 2-3; the mean over tokens: DAPO (arXiv 2503.14476), section 3.3.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmrl.config.types import NonNegative, OpenShare, Positive, PositiveShare, checked
from lmrl.functional import weighted_mean
from lmrl.modules.base import Logs
from lmrl.modules.grouped import Grouped
from lmrl.text.returns import with_extras
from lmrl.text.tokens import TokenBatch, TokenTrajectory


def grpo_loss(
    log_probs: Float[Tensor, " N"],
    old_log_probs: Float[Tensor, " N"],
    reference: Float[Tensor, " N"],
    advantages: Float[Tensor, " N"],
    share: Float[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    clip_low: float,
    clip_high: float,
    kl_weight: float,
) -> tuple[Float[Tensor, ""], Logs]:
    """Clipped surrogate and the divergence from the reference, averaged over agent tokens.

    Args:
        log_probs: log pi of each agent token.
        old_log_probs: log pi_old.
        reference: log pi_ref.
        advantages: A of its episode.
        share: c, the weight of the token by the length of its episode.
        weight: how often each occurs.
        clip_low: eps_low.
        clip_high: eps_high.
        kl_weight: beta.
    """
    ratio = (log_probs - old_log_probs).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)
    behind = reference - log_probs
    divergence = weighted_mean(share * (behind.exp() - 1 - behind), weight)
    policy_loss = -weighted_mean(share * surrogate, weight)
    clipped = ((ratio < 1 - clip_low) | (ratio > 1 + clip_high)).float()
    logs = {"policy": policy_loss.detach(), "kl": divergence.detach(), "clip_fraction": weighted_mean(clipped, weight)}
    return policy_loss + kl_weight * divergence, logs


def group_advantages(
    returns: Float[np.ndarray, " E"], group: int
) -> tuple[Float[np.ndarray, " E"], Float[np.ndarray, " groups"]]:
    """Return each episode's advantage within its group, and how far the returns of each group spread.

    Args:
        returns: of E episodes, group after group.
        group: G.
    """
    table = returns.reshape(-1, group)
    spread = table.std(1)
    advantages = (table - table.mean(1, keepdims=True)) / (spread[:, None] + 1e-6)
    return advantages.reshape(-1), spread


def widest_groups(spread: Float[np.ndarray, " groups"], keep: float) -> Int[np.ndarray, " kept"]:
    """Return which groups spread most, at least one of them, in their original order.

    Args:
        spread: of the returns of each group.
        keep: fraction of the groups; of equal ones the earlier are kept.
    """
    count = max(1, round(keep * len(spread)))
    return np.sort(np.argsort(-spread, kind="stable")[:count])


class GRPO(Grouped):
    """Group-relative policy optimization.

    Args:
        keep_groups: fraction of the groups that are learned from, in (0, 1].
        average: "episode" or "token": the unit with equal weight.
        clip_low: eps_low, in (0, 1).
        clip_high: eps_high, above 0.
        kl_weight: beta, at least 0.
        common: see `Grouped`.
    """

    @checked
    def __init__(
        self,
        *,
        keep_groups: PositiveShare = 1.0,
        average: Literal["episode", "token"] = "episode",
        clip_low: OpenShare = 0.2,
        clip_high: Positive = 0.28,
        kl_weight: NonNegative = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.keep_groups, self.average = keep_groups, average
        self.clip_low, self.clip_high, self.kl_weight = clip_low, clip_high, kl_weight

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Freeze pi_old, and give each episode its advantage; an incomplete last group is left out.

        Raises:
            ValueError: there are fewer episodes than a group has.
        """
        episodes = self.complete_groups(episodes)
        returns = np.asarray([sum(float(row.rewards.sum()) for row in episode) for episode in episodes])
        advantages, spread = group_advantages(returns, self.group)
        kept = np.arange(len(episodes)).reshape(-1, self.group)[widest_groups(spread, self.keep_groups)].reshape(-1)
        episodes, advantages = [episodes[index] for index in kept.tolist()], advantages[kept]
        lengths = np.asarray([sum(int(row.is_decision.sum()) for row in episode) for episode in episodes])
        shares = lengths.mean() / lengths if self.average == "episode" else np.ones(len(episodes))
        self.round_logs = {"group_std": torch.tensor(float(spread.mean()))}
        rows: list[TokenTrajectory] = []
        for episode, found, advantage, share in zip(
            episodes, self.log_probs_of(episodes), advantages, shares, strict=True
        ):
            found |= {"advantages": np.full_like(found["reference"], advantage)}
            found |= {"share": np.full_like(found["reference"], share)}
            rows += with_extras(episode, **found)
        return rows

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Evaluate the policy, then compare."""
        loss, logs = grpo_loss(
            self.action_log_probs(self.lm, batch),
            batch.extras["old_log_probs"],
            batch.extras["reference"],
            batch.extras["advantages"],
            batch.extras["share"],
            batch.weight,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            kl_weight=self.kl_weight,
        )
        return loss, logs | self.logs_of_round(loss.device)
