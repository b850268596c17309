"""CQL: conservative Q-learning over tokens, guiding a frozen prior.

With states s_i, agent tokens a_i, the next agent token's state s'_i (after the environment's reply), two critics Q_k,
and their slowly following targets Qbar_k:

    y_i  = r_i + gamma B(s'_i)                               B(s') = 0 where the episode has terminated
    B(s) = max_{a in A(s)} min_k Qbar_k(s, a)                backup "max": Q-learning
           min_k Qbar_k(s, a')                               backup "sarsa": a' is the data's next action
           V(s), the tau-expectile of min_k Qbar_k(s, a)     backup "expectile": as ILQL
    L    = sum_k mean_i 1/2 (Q_k(s_i, a_i) - y_i)^2 + alpha sum_k mean_i CE(Q_k(s_i, .), a_i)
    CE(q, a) = logsumexp(q) - q_a

CE is the conservative term: it pushes down the values of tokens that the data lack. A(s) are the tokens that can be
sampled while acting: never padding, and with `decoding.support` only those that are likely enough under the prior. A
maximum over a whole vocabulary would pick, at every step, the most overrated of many tokens that no data ever
corrected; the conservative term alone suppresses them only where it is strong enough to bias the values that matter.

Acts by log pi_beta(. | s) + beta min_k Q_k(s, .). The heads start at a constant, so the policy starts as its prior.

Sources: Kumar et al. 2020 (arXiv 2006.04779), eq. 4 (its maximum over mu is the logsumexp). LMRL-Gym's code
(arXiv 2311.18232) has only an unfinished CQL, whose loss is the sarsa form and equals ours; Snell et al. 2022 (arXiv
2206.11871) compare with the max form. Differences: A(s) as above, and critics that begin by regressing on returns R_i,
from where targets move over to bootstrapping:

    y_i <- lambda R_i + (1 - lambda) y_i                     lambda = 1 at first, then falls linearly

Without that a model from random weights learns nothing: its flat values give flat targets.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lmrl.config.types import OpenShare, checked
from lmrl.functional import (
    expectile_weight,
    log_prob,
    pick,
    weighted_mean,
)
from lmrl.models.backbone import lm_logits
from lmrl.modules.base import Logs
from lmrl.modules.guided import Bootstrapped
from lmrl.policies.decoding import sampleable
from lmrl.text.returns import with_extras
from lmrl.text.tokens import TokenBatch, TokenTrajectory


def cql_loss(
    qs: Sequence[Float[Tensor, "N V"]],
    bellman_target: Float[Tensor, " N"],
    actions: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    cql_weight: float,
) -> tuple[Float[Tensor, ""], Logs]:
    """Temporal-difference and conservative terms of one batch.

    Args:
        qs: each critic's action values where agent tokens are chosen.
        bellman_target: y, reward plus discounted value of the successor.
        actions: the agent tokens.
        weight: how much each counts.
        cql_weight: alpha.
    """
    errors = [weighted_mean(0.5 * (pick(q, actions) - bellman_target.detach()) ** 2, weight) for q in qs]
    conservative = [weighted_mean(-log_prob(q, actions), weight) for q in qs]
    q_loss, cql = torch.stack(errors).sum(), torch.stack(conservative).sum()
    return q_loss + cql_weight * cql, {"q": q_loss, "cql": cql}


def expectile_loss(
    v: Float[Tensor, " N"], target_q: Float[Tensor, " N"], weight: Float[Tensor, " N"], *, expectile: float
) -> Float[Tensor, ""]:
    """Make V the expectile of Q over the data's actions.

    Args:
        v: state values where agent tokens are chosen.
        target_q: the smaller target critic's value of the token that was taken.
        weight: how much each counts.
        expectile: tau.
    """
    advantage = target_q.detach() - v
    return weighted_mean(expectile_weight(advantage, expectile) * 0.5 * advantage**2, weight)


def best_value(
    q: Float[Tensor, "N V"], prior: Float[Tensor, "N V"], sampleable: Bool[Tensor, " V"], *, support: float
) -> Float[Tensor, " N"]:
    """Return the largest value among the tokens that acting could choose.

    Args:
        q: the values of all tokens.
        prior: the prior's logits.
        sampleable: false for ids that are never sampled.
        support: tokens whose probability is below this fraction of the likeliest one's are left out (see `Decoding`).
    """
    prior = prior.masked_fill(~sampleable, -torch.inf)
    floor = math.log(support) if support > 0 else -torch.inf
    allowed = sampleable & (prior >= prior.amax(-1, keepdim=True) + floor)
    return q.masked_fill(~allowed, -torch.inf).amax(-1)


class CQL(Bootstrapped):
    """Conservative Q-learning.

    Args:
        backup: "max", "sarsa" or "expectile".
        expectile: tau of the backup "expectile", in (0, 1).
        common: see `Bootstrapped`.
    """

    sampleable: Tensor

    @checked
    def __init__(
        self,
        *,
        backup: Literal["max", "sarsa", "expectile"] = "max",
        expectile: OpenShare = 0.9,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.backup, self.expectile = backup, expectile
        self.add_critics(state_values=backup == "expectile")
        size = self.critic.q_heads[0].output.out_features
        self.register_buffer("sampleable", sampleable(self.codec, size), persistent=False)

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Attach the data's next actions where they are backed up, and returns where training starts with them."""
        if self.backup == "sarsa":
            episodes = [with_extras(episode, next_action=_next_actions(episode)) for episode in episodes]
        return super().prepare(episodes)

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Compute states once, then the terms where actions are."""
        states = (hidden := self.hidden(self.lm, batch))[batch.row, batch.position]
        qs, share = self.critic.qs(states), self.return_share()
        # Of an action whose successor was not recorded, or sarsa's next action, only the return is known.
        weight = batch.weight * (self._is_known(batch) if share < 1 else 1.0)
        with torch.no_grad():
            slow = self.hidden(self.target.lm, batch)
            target = self._bellman_target(hidden, slow, batch, share)
        loss, logs = cql_loss(qs, target, batch.action, weight, cql_weight=self.cql_weight)
        if self.backup == "expectile":
            target_q = pick(self.target.smallest(slow[batch.row, batch.position]), batch.action)
            v_loss = expectile_loss(self.critic.v(states), target_q, weight, expectile=self.expectile)
            loss, logs = loss + v_loss, logs | {"v": v_loss}
        taken = pick(torch.stack(qs).amin(0), batch.action).detach()
        return loss, logs | {"q_mean": weighted_mean(taken, weight), "target_mean": weighted_mean(target, weight)}

    def _bellman_target(
        self, hidden: Float[Tensor, "R T D"], slow: Float[Tensor, "R T D"], batch: TokenBatch, share: float
    ) -> Float[Tensor, " N"]:
        """Return y_i of each decision."""
        if share == 1:
            return batch.extras["returns"]
        following = torch.where(batch.bootstraps, self._backed_up(hidden, slow, batch), 0.0)
        return self.mixed_target(batch, following, share)

    def _backed_up(
        self, hidden: Float[Tensor, "R T D"], slow: Float[Tensor, "R T D"], batch: TokenBatch
    ) -> Float[Tensor, " N"]:
        """Return B of each decision's successor; anything where there is none."""
        if self.backup == "expectile":
            return self.critic.v(self.successor_states(self.lm, hidden, batch))
        q = self.target.smallest(self.successor_states(self.target.lm, slow, batch))
        if self.backup == "sarsa":
            return pick(q, batch.extras["next_action"].long().clamp_min(0))
        prior = torch.zeros_like(q)
        if self.decoding.support > 0:
            prior_states = self.successor_states(self.prior, self.hidden(self.prior, batch), batch)
            prior = lm_logits(self.prior, prior_states)
        return best_value(q, prior, self.sampleable, support=self.decoding.support)

    def _is_known(self, batch: TokenBatch) -> Bool[Tensor, " N"]:
        """Return the decisions for which the data contain the inputs of B."""
        if self.backup != "sarsa":
            return batch.is_known
        return batch.is_known & (~batch.bootstraps | (batch.extras["next_action"] >= 0))

    def values(self) -> Callable[[tuple[Tensor, ...]], Float[Tensor, " b"]]:
        """Read the value of the best token that could be said, or V where it is learned."""
        if self.backup == "expectile":
            return lambda hidden: self.critic.v(hidden[1])
        return lambda hidden: best_value(
            self.critic.smallest(hidden[1]),
            lm_logits(self.prior, hidden[0]),
            self.sampleable,
            support=self.decoding.support,
        )


def _next_actions(episode: Sequence[TokenTrajectory]) -> Float[np.ndarray, " A"]:
    """Return the agent token that follows each decision of an episode, in order of time; -1 where none was recorded."""
    actions = np.concatenate([row.tokens[row.is_decision] for row in episode])
    return np.append(actions[1:], -1).astype(np.float32)
