"""RLOO: REINFORCE over whole episodes, each compared with the others of its start.

A group is G episodes i from one start. The round's policy pi_old played them, and the divergence from the initial
policy is part of the return:

    R_i = sum_t r_t - kappa sum_t [log pi_old(a_t) - log pi_ref(a_t)]
    A_i = R_i - 1/(G - 1) sum_{j != i} R_j                   the others' mean: a baseline without bias
    w_t = min(pi(a_t) / pi_old(a_t), c)                      without gradient
    L   = -1/E sum_i A_i sum_t w_t log pi(a_t)               over E episodes and their agent tokens t

Where pi is pi_old this is the policy gradient; w, the ratio capped at c, corrects for the steps that a round has had
already. It is a weight: above the cap a token still has a gradient, as one of a bad episode that has become likelier
must be pushed down. `importance_cap: null` leaves it out: w = 1.

`average: token` is the sum above. Where bad episodes are the long ones, their many tokens outweigh the good episodes'
few, and the policy is pushed away from whatever it says, into nonsense; with `episode` A_i is divided by the episode's
length relative to the mean one, so that each episode counts the same.

Acts by sampling from the language model.

Sources: Ahmadian et al. 2024 (arXiv 2402.14740), eq. 6-8; the truncated importance weight: Espeholt et al. 2018 (arXiv
1802.01561), section 4. Difference: a batch holds rows of many episodes, so the sum
over an episode's tokens is a sum over the batch, divided by how many episodes it amounts to.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from lmrl.config.types import NonNegative, Positive, checked
from lmrl.functional import mean_over_processes
from lmrl.modules.base import Logs
from lmrl.modules.grouped import Grouped
from lmrl.text.returns import with_extras
from lmrl.text.tokens import TokenBatch, TokenTrajectory


def rloo_loss(
    log_probs: Float[Tensor, " N"],
    old_log_probs: Float[Tensor, " N"],
    advantages: Float[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    tokens_per_episode: float,
    importance_cap: float | None,
) -> Float[Tensor, ""]:
    """REINFORCE, in units of one episode.

    Args:
        log_probs: log pi of each agent token.
        old_log_probs: log pi_old.
        advantages: A of its episode.
        weight: how much each counts.
        tokens_per_episode: agent tokens of an episode, on average over the round.
        importance_cap: c; `None`: no correction.
    """
    gain = log_probs
    if importance_cap is not None:
        gain = gain * (log_probs - old_log_probs).detach().exp().clamp_max(importance_cap)
    episodes = mean_over_processes(weight.sum()).clamp_min(1e-8) / tokens_per_episode
    return -(weight * advantages * gain).sum() / episodes


def leave_one_out(returns: Float[np.ndarray, " E"], group: int) -> Float[np.ndarray, " E"]:
    """Return each episode's return minus the mean of the others of its group.

    Args:
        returns: of E episodes, group after group.
        group: G.
    """
    table = returns.reshape(-1, group)
    others = (table.sum(1, keepdims=True) - table) / (group - 1)
    return (table - others).reshape(-1)


class RLOO(Grouped):
    """REINFORCE with a leave-one-out baseline.

    Args:
        kl_weight: kappa, at least 0.
        average: "token" (the paper) or "episode": the unit with equal weight.
        importance_cap: c, at least 1; `None`: no correction for steps within a round.
        reward_scale: factor on rewards, above 0.
        common: see `Grouped`.
    """

    tokens_per_episode: Tensor

    @checked
    def __init__(
        self,
        *,
        kl_weight: NonNegative = 0.01,
        average: Literal["episode", "token"] = "token",
        importance_cap: Annotated[float | int, Field(ge=1, le=10**12)] | None = 2.0,
        reward_scale: Positive = 1.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.kl_weight, self.reward_scale = kl_weight, reward_scale
        self.average, self.importance_cap = average, importance_cap
        self.register_buffer("tokens_per_episode", torch.tensor(1.0))

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Freeze pi_old, and give each episode its advantage; an incomplete last group is left out.

        Raises:
            ValueError: there are fewer episodes than a group has.
        """
        episodes = self.complete_groups(episodes)
        found = self.log_probs_of(episodes)
        old = [one["old_log_probs"] for one in found]
        drift = [float((one["old_log_probs"] - one["reference"]).sum()) for one in found]
        earned = [self.reward_scale * sum(float(row.rewards.sum()) for row in episode) for episode in episodes]
        advantages = leave_one_out(np.asarray(earned) - self.kl_weight * np.asarray(drift), self.group)
        tokens = sum(map(len, old)) / len(old)
        if self.average == "episode":
            advantages = advantages * tokens / np.asarray([len(one) for one in old])
        self.tokens_per_episode.fill_(tokens)
        self.round_logs = {"kl": torch.tensor(float(np.mean(drift) / tokens))}
        rows: list[TokenTrajectory] = []
        for episode, before, advantage in zip(episodes, old, advantages, strict=True):
            rows += with_extras(episode, old_log_probs=before, advantages=np.full_like(before, advantage))
        return rows

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Evaluate the policy, weight its tokens, and reinforce."""
        loss = rloo_loss(
            self.action_log_probs(self.lm, batch),
            batch.extras["old_log_probs"],
            batch.extras["advantages"],
            batch.weight,
            tokens_per_episode=float(self.tokens_per_episode),
            importance_cap=self.importance_cap,
        )
        return loss, self.logs_of_round(loss.device)
