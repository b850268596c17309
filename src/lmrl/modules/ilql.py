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

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmrl.config.types import OpenShare, checked
from lmrl.functional import expectile_weight, log_prob, pick, weighted_mean
from lmrl.modules.base import Logs
from lmrl.modules.guided import Bootstrapped
from lmrl.text.tokens import TokenBatch


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


class ILQL(Bootstrapped):
    """Implicit language Q-learning.

    Args:
        expectile: tau, in (0, 1); near 1 it approaches the maximum over the data's actions.
        common: see `Bootstrapped`.
    """

    @checked
    def __init__(self, *, expectile: OpenShare, **common: Any) -> None:
        super().__init__(**common)
        self.expectile = expectile
        self.add_critics(state_values=True)

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
        """Return y_i of each decision."""
        share = self.return_share()
        if share == 1:
            return batch.extras["returns"]
        next_v = self.critic.v(self.successor_states(self.lm, hidden, batch)) * batch.bootstraps
        return self.mixed_target(batch, next_v, share)

    def values(self) -> Callable[[tuple[Tensor, ...]], Float[Tensor, " b"]]:
        """Read V from the critics' trunk."""
        return lambda hidden: self.critic.v(hidden[1])
