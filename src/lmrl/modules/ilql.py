"""ILQL: implicit Q-learning over tokens, guiding a frozen prior.

With states s_i, agent tokens a_i, the next agent token's state s'_i (after the environment's reply), two critics Q_k,
their slowly following targets Qbar_k, and V:

    y_i  = r_i + gamma V(s'_i)                               V(s') = 0 where the episode has ended
    L_Q  = sum_k mean_i 1/2 (Q_k(s_i, a_i) - y_i)^2
    u_i  = min_k Qbar_k(s_i, a_i) - V(s_i)
    L_V  = mean_i |tau - 1[u_i < 0]| 1/2 u_i^2               V is the tau-expectile of Q over the data's actions
    L    = L_Q + L_V + alpha sum_k mean_i CE(Q_k(s_i, .), a_i)

Acts by log pi_beta(. | s) + beta min_k Q_k(s, .); subtracting V would change nothing under the softmax. The heads start
at a constant, so the policy starts as its prior.

Sources: Snell et al. 2022 (arXiv 2206.11871), sections 4.2-4.4; Abdulhai et al. 2023 (arXiv 2311.18232), section 4.
As in LMRL-Gym, errors carry 1/2, the behaviour prior is a separate frozen model, and there is no AWAC term.
Differences from its code: a terminal action's successor is worth 0 (there its own value is bootstrapped for ever, and a
maze's or chess game's last step counts twice); successors are read from the rows of the batch where these contain them,
instead of a second forward pass; and the critics begin by regressing on returns, from where targets move over to
bootstrapping:

    y_i <- lambda R_i + (1 - lambda) y_i                     lambda = 1 at first, then falls linearly

Without that a model from random weights fails: V starts flat, bootstrapping keeps it flat while it drifts, and nothing
makes the model read the state. In the end lambda is 0, or stays above it where the agent cannot tell states apart and
bootstrapping would take the value of one for another's. `monte_carlo_steps=0 monte_carlo_decay=0` is the paper's way.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmrl.config.types import Count, NonNegative, Number, OpenShare, PositiveShare, Share, checked
from lmrl.functional import (
    discount_factors,
    expectile_weight,
    log_prob,
    pick,
    polyak_,
    return_share,
    weighted_mean,
)
from lmrl.models.backbone import lm_logits
from lmrl.models.critic import export_guided, new_critic
from lmrl.modules.base import Algorithm, Logs, frozen
from lmrl.policies.decoding import GuidedLogits
from lmrl.text.returns import average_returns, with_returns
from lmrl.text.tokens import TokenBatch, TokenTrajectory


def ilql_loss(
    qs: Sequence[Float[Tensor, "N V"]],
    target_q: Float[Tensor, " N"],
    v: Float[Tensor, " N"],
    bellman_target: Float[Tensor, " N"],
    actions: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    expectile: float,
    cql_weight: float,
) -> tuple[Float[Tensor, ""], Logs]:
    """Temporal-difference, expectile and conservative terms of one batch.

    Args:
        qs: each critic's action values where agent tokens are chosen.
        target_q: the smaller target critic's value of the token that was taken.
        v: state values where agent tokens are chosen.
        bellman_target: y, reward plus discounted value of the successor.
        actions: the agent tokens.
        weight: how much each counts.
        expectile: tau.
        cql_weight: alpha.
    """
    advantage = target_q.detach() - v
    q_loss = torch.stack(
        [weighted_mean(0.5 * (pick(q, actions) - bellman_target.detach()) ** 2, weight) for q in qs]
    ).sum()
    v_loss = weighted_mean(expectile_weight(advantage, expectile) * 0.5 * advantage**2, weight)
    cql = torch.stack([weighted_mean(-log_prob(q, actions), weight) for q in qs]).sum()
    return q_loss + v_loss + cql_weight * cql, {"q": q_loss, "v": v_loss, "cql": cql}


class ILQL(Algorithm):
    """Implicit language Q-learning.

    Args:
        gamma: discount, in (0, 1].
        discount_per: "token" (the paper) or "turn".
        expectile: tau, in (0, 1); near 1 it approaches the maximum over the data's actions.
        cql_weight: alpha, at least 0.
        polyak: fraction by which the target critics follow in each optimizer step, in (0, 1].
        beta: strength of guidance while acting, at least 0.
        monte_carlo_steps: for how many first steps the critics regress on returns instead of bootstrapping.
        monte_carlo_decay: over how many further steps their targets move from returns to bootstrapped values.
        monte_carlo_share: lambda in the end: which share of the targets stays the return, in [0, 1].
        head_hidden: whether the heads have a hidden layer.
        head_bias: initial value of Q and V.
        common: see `Algorithm`.
    """

    target: Any

    @checked
    def __init__(
        self,
        *,
        gamma: PositiveShare,
        discount_per: Literal["token", "turn"] = "token",
        expectile: OpenShare,
        cql_weight: NonNegative,
        polyak: PositiveShare,
        beta: NonNegative,
        monte_carlo_steps: Count = 0,
        monte_carlo_decay: Count = 0,
        monte_carlo_share: Share = 0.0,
        head_hidden: bool = True,
        head_bias: Number = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.gamma, self.discount_per = gamma, discount_per
        self.expectile, self.cql_weight, self.polyak, self.beta = expectile, cql_weight, polyak, beta
        self.monte_carlo_steps, self.monte_carlo_decay = monte_carlo_steps, monte_carlo_decay
        self.monte_carlo_share = monte_carlo_share
        self.prior = frozen(copy.deepcopy(self.lm))
        self.critic = new_critic(self.lm, state_values=True, hidden=head_hidden, bias=head_bias)
        self.target = frozen(copy.deepcopy(self.critic))

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Attach returns if training starts with them."""
        if self.monte_carlo_steps + self.monte_carlo_decay + self.monte_carlo_share == 0:
            return super().prepare(episodes)
        return average_returns([row for e in episodes for row in with_returns(e, self.gamma, self.discount_per)])

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Compute states once, then the three terms where actions are."""
        hidden = self.hidden(self.lm, batch)
        states = hidden[batch.row, batch.position]
        v = self.critic.v(states)
        with torch.no_grad():
            bellman_target = self.bellman_target(hidden, batch)
            slow = self.hidden(self.target.lm, batch)[batch.row, batch.position]
            target_q = pick(self.target.smallest(slow), batch.action)
        loss, logs = ilql_loss(
            self.critic.qs(states),
            target_q,
            v,
            bellman_target,
            batch.action,
            batch.weight * batch.is_known,
            expectile=self.expectile,
            cql_weight=self.cql_weight,
        )
        return loss, logs | {"v_mean": weighted_mean(v, batch.weight).detach()}

    def bellman_target(self, hidden: Float[Tensor, "B T D"], batch: TokenBatch) -> Float[Tensor, " N"]:
        """Return y: what each decision earns at once, and the discounted value of the state that follows."""
        share = self.return_share()
        if share == 1:
            return batch.extras["returns"]
        next_v = self.critic.v(self.successor_states(self.lm, hidden, batch)) * batch.bootstraps
        target = batch.reward + discount_factors(self.gamma, batch.ends_turn, self.discount_per) * next_v
        return target if share == 0 else torch.lerp(target, batch.extras["returns"], share)

    def return_share(self) -> float:
        """Return lambda: how much of a target is the return now."""
        return return_share(self.global_step, self.monte_carlo_steps, self.monte_carlo_decay, self.monte_carlo_share)

    def after_step(self) -> None:
        """Let the target critics follow."""
        polyak_(self.target, self.critic, self.polyak)

    def export(self, folder: Path) -> None:
        """Write the prior as a plain language model, and the critic with its heads beside it."""
        heads = self.critic.heads()
        export_guided(folder, prior=self.prior, critic=self.lm, heads=heads, codec=self.codec, beta=self.beta)

    def acting_lms(self) -> tuple[nn.Module, ...]:
        """Return the prior and the critics' language model."""
        return self.prior, self.lm

    def next_logits(self, hidden: tuple[Tensor, ...]) -> GuidedLogits:
        """Guide the frozen prior with the smaller critic."""
        return GuidedLogits.by_values(lm_logits(self.prior, hidden[0]), self.critic.smallest(hidden[1]), self.beta)

    def token_scores(self, hidden: tuple[Tensor, ...], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Score proposals by their advantage Q - V."""
        return pick(self.critic.smallest(hidden[1]), tokens) - self.critic.v(hidden[1])

    def values(self) -> Callable[[tuple[Tensor, ...]], Float[Tensor, " b"]]:
        """Read V from the critics' trunk."""
        return lambda hidden: self.critic.v(hidden[1])
