"""PPO: proximal policy optimization over agent tokens, with the KL divergence from the initial policy in the reward.

Each round the policy pi_old plays episodes. Over the n agent tokens t of an episode, in order of time:

    r'_t = r_t - kappa (log pi_old(a_t) - log pi_ref(a_t))
    d_t  = r'_t + gamma V_{t+1} - V_t                        V_{t+1} = 0 where the episode has terminated
    A_t  = d_t + gamma lambda A_{t+1},     G_t = A_t + V_t

A is whitened over the round, G is not. Then, for some passes over the round, with rho_t = pi(a_t) / pi_old(a_t):

    L_pi = mean max(-A rho, -A clip(rho, 1 - eps, 1 + eps))
    L_V  = 1/2 mean max((V - G)^2, (clip(V, V_old - eps_v, V_old + eps_v) - G)^2)
    L    = L_pi + c_V L_V - c_H H + c_bc L_bc                H: mean entropy of pi; L_bc: cloning of demonstrations

kappa is fixed, or follows a target: kappa <- kappa (1 + clip(KL / target - 1, -.2, .2) n / horizon) after n episodes.
With `discount_per: turn` gamma and lambda apply between actions only; with `advantage_per: turn` an action is one step
whose tokens share its advantage, so V is needed only where an action begins.

Acts by sampling from the language model. V is a linear head on its last hidden state.

Sources: Schulman et al. 2017 (arXiv 1707.06347), eq. 7, 9; Ziegler et al. 2019 (arXiv 1909.08593), section 2 (KL in the
reward, adaptive kappa); Abdulhai et al. 2023 (arXiv 2311.18232), section 4, appendix F. Turn-level advantages: Turn-PPO
(arXiv 2512.17008). Differences from LMRL-Gym's code: a truncated episode bootstraps from the state it was cut off in;
`reward_scale` brings returns into the range in which one value clip and one learning rate fit every task.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lmrl.config.types import NonNegative, Number, Positive, PositiveShare, Share, checked
from lmrl.functional import entropy, log_prob, weighted_mean
from lmrl.models.backbone import width
from lmrl.models.heads import ValueHead
from lmrl.modules.base import Algorithm, Logs, frozen
from lmrl.policies.decoding import check_on_policy_decoding
from lmrl.text.returns import row_discounts, with_extras
from lmrl.text.tokens import TokenBatch, TokenTrajectory


def ppo_loss(
    log_probs: Float[Tensor, " N"],
    values: Float[Tensor, " N"],
    old_log_probs: Float[Tensor, " N"],
    old_values: Float[Tensor, " N"],
    advantages: Float[Tensor, " N"],
    returns: Float[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    clip: float,
    value_clip: float | None,
    value_weight: float,
) -> tuple[Float[Tensor, ""], Logs]:
    """Clipped surrogate and clipped value error, averaged over agent tokens.

    Args:
        log_probs: log pi of each agent token.
        values: V where it is chosen.
        old_log_probs: log pi_old.
        old_values: V of the round's beginning.
        advantages: A.
        returns: G.
        weight: how much each counts.
        clip: eps.
        value_clip: eps_v; `None`: no clipping.
        value_weight: c_V.
    """
    log_ratio = log_probs - old_log_probs
    ratio = log_ratio.exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    error = (values - returns) ** 2
    if value_clip is not None:
        near = old_values + (values - old_values).clamp(-value_clip, value_clip)
        error = torch.maximum(error, (near - returns) ** 2)
    policy_loss, value_loss = weighted_mean(torch.maximum(plain, clipped), weight), 0.5 * weighted_mean(error, weight)
    with torch.no_grad():
        logs = {
            "policy": policy_loss.detach(),
            "value": value_loss.detach(),
            "approx_kl": weighted_mean(ratio - 1 - log_ratio, weight),
            "clip_fraction": weighted_mean((clipped > plain).float(), weight),
        }
    return policy_loss + value_weight * value_loss, logs


def gae(
    values: Float[np.ndarray, " A"],
    next_values: Float[np.ndarray, " A"],
    rewards: Float[np.ndarray, " A"],
    gammas: Float[np.ndarray, " A"],
    lambdas: Float[np.ndarray, " A"],
) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"]]:
    """Return the advantages A_t and returns G_t of one episode's decisions (arXiv 1506.02438, eq. 16).

    Args:
        values: V where each decision is made.
        next_values: V after it; 0 where the episode has ended.
        rewards: its rewards.
        gammas: the discount between each decision and the next.
        lambdas: the decay of the trace between each decision and the next.
    """
    advantages = np.zeros(len(values), dtype=np.float64)
    running = 0.0
    for t in reversed(range(len(values))):
        error = rewards[t] + gammas[t] * next_values[t] - values[t]
        running = advantages[t] = error + gammas[t] * lambdas[t] * running
    return advantages.astype(np.float32), (advantages + values).astype(np.float32)


def turn_gae(
    values: Float[np.ndarray, " A"],
    next_values: Float[np.ndarray, " A"],
    rewards: Float[np.ndarray, " A"],
    ends_turn: Bool[np.ndarray, " A"],
    *,
    gamma: float,
    trace: float,
) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"]]:
    """Return advantages and returns where an action is one step: its tokens share the values of its beginning."""
    turn = np.cumsum(ends_turn) - ends_turn  # the index of each decision's action
    begins = np.append(0, np.flatnonzero(ends_turn)[:-1] + 1)
    earned = np.bincount(turn, weights=rewards).astype(np.float32)
    after = next_values[np.flatnonzero(ends_turn)]
    steps = np.full(len(begins), gamma, np.float32), np.full(len(begins), trace, np.float32)
    advantages, returns = gae(values[begins], after, earned, *steps)
    return advantages[turn], returns[turn]


def kl(log_ratio: Float[np.ndarray, " N"]) -> float:
    """Estimate KL(pi || pi_ref) from log pi - log pi_ref of sampled tokens; never negative (Schulman's k3)."""
    return float(np.mean(np.expm1(-log_ratio.astype(np.float64)) + log_ratio))


class PPO(Algorithm):
    """Proximal policy optimization.

    Args:
        gamma: discount, in (0, 1].
        discount_per: "token" (the paper) or "turn": where gamma and lambda apply.
        advantage_per: "token" (the paper) or "turn": one step of the estimate.
        trace: lambda, in [0, 1].
        clip: eps, above 0.
        value_clip: eps_v, above 0; `None`: no clipping.
        value_weight: c_V, at least 0.
        kl_weight: kappa in the beginning, at least 0.
        kl_target: the KL that kappa follows, in nats per token; `None`: kappa is fixed.
        kl_horizon: over how many episodes kappa may change by a fifth.
        entropy_weight: c_H, at least 0.
        imitation_weight: c_bc, at least 0; needs `algo.datamodule.demonstrations`.
        whiten: whether advantages are whitened over the round.
        reward_scale: factor on rewards, above 0.
        head_bias: initial value of V, in scaled units.
        common: see `Algorithm`.

    Raises:
        ValueError: `decoding` or `rerank` cannot be learned from, see `check_on_policy_decoding`.
    """

    is_on_policy = True
    kl_weight: Tensor

    @checked
    def __init__(
        self,
        *,
        gamma: PositiveShare,
        discount_per: Literal["token", "turn"] = "token",
        advantage_per: Literal["token", "turn"] = "token",
        trace: Share = 0.95,
        clip: Positive = 0.2,
        value_clip: Positive | None = 0.2,
        value_weight: NonNegative = 1.0,
        kl_weight: NonNegative = 0.01,
        kl_target: Positive | None = None,
        kl_horizon: Positive = 10000,
        entropy_weight: NonNegative = 0.0,
        imitation_weight: NonNegative = 0.0,
        whiten: bool = True,
        reward_scale: Positive = 1.0,
        head_bias: Number = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_on_policy_decoding(self.decoding, reranks=self.rerank is not None)
        self.gamma, self.discount_per, self.advantage_per, self.trace = gamma, discount_per, advantage_per, trace
        self.clip, self.value_clip, self.value_weight = clip, value_clip, value_weight
        self.kl_target, self.kl_horizon, self.reward_scale = kl_target, kl_horizon, reward_scale
        self.entropy_weight, self.imitation_weight, self.whiten = entropy_weight, imitation_weight, whiten
        self.register_buffer("kl_weight", torch.tensor(float(kl_weight)))
        self.reference = frozen(copy.deepcopy(self.lm))
        self.v = ValueHead(width=width(self.lm), outputs=1, hidden=False, bias=head_bias)
        self.round_logs: Logs = {}

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Freeze pi_old, V_old, advantages and returns of a round, and let kappa follow its target."""
        measured = iter(self.evaluate_decisions([row for episode in episodes for row in episode], self._read))
        found = [self._advantages(episode, [next(measured) for _ in episode]) for episode in episodes]
        self._follow(kl(np.concatenate([f.pop("log_ratio") for f in found])), len(episodes))
        if self.whiten:
            every = np.concatenate([f["advantages"] for f in found])
            for f in found:
                f["advantages"] = ((f["advantages"] - every.mean()) / np.sqrt(every.var() + 1e-8)).astype(np.float32)
        return [row for episode, f in zip(episodes, found, strict=True) for row in with_extras(episode, **f)]

    def _follow(self, divergence: float, episodes: int) -> None:
        """Report a round's KL from the reference, and let kappa follow its target."""
        self.round_logs = {"kl": torch.tensor(divergence), "kl_weight": self.kl_weight.detach().clone()}
        if self.kl_target is not None:
            error = min(max(divergence / self.kl_target - 1, -0.2), 0.2)
            self.kl_weight *= 1 + error * episodes / self.kl_horizon

    def _read(self, batch: TokenBatch) -> dict[str, Tensor]:
        """Evaluate policy, reference and values of a batch."""
        hidden = self.hidden(self.lm, batch)
        states = hidden[batch.row, batch.position]
        reference = self.hidden(self.reference, batch)[batch.row, batch.position]
        following = self.v(self.successor_states(self.lm, hidden, batch)).squeeze(-1) * batch.bootstraps
        return {
            "old_log_probs": log_prob(self.action_logits(self.lm, states), batch.action),
            "reference": log_prob(self.action_logits(self.reference, reference), batch.action),
            "old_values": self.v(states).squeeze(-1),
            "following": following,
        }

    def _advantages(
        self, episode: Sequence[TokenTrajectory], measured: Sequence[dict[str, np.ndarray]]
    ) -> dict[str, Float[np.ndarray, " A"]]:
        """Estimate the advantages of one episode, over all of its rows."""
        found = {name: np.concatenate([m[name] for m in measured]) for name in measured[0]}
        ends = np.concatenate([row.ends_turn for row in episode])
        log_ratio = found["old_log_probs"] - found["reference"]
        earned = np.concatenate([row.rewards[row.is_decision] for row in episode]) * self.reward_scale
        rewards = (earned - float(self.kl_weight) * log_ratio).astype(np.float32)
        # A row is followed by the beginning of the next one; only the last one's successor is computed separately.
        after = np.append(found["old_values"][1:], found["following"][-1:])
        if self.advantage_per == "turn":
            advantages, returns = turn_gae(
                found["old_values"], after, rewards, ends, gamma=self.gamma, trace=self.trace
            )
        else:
            factors = [row_discounts(x, ends, self.discount_per) for x in (self.gamma, self.trace)]
            advantages, returns = gae(found["old_values"], after, rewards, *factors)
        old = {name: found[name] for name in ("old_log_probs", "old_values")}
        return {**old, "log_ratio": log_ratio, "advantages": advantages, "returns": returns}

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Compute states once, then surrogate, values, entropy, and the imitation of demonstrations, if any."""
        states = self.hidden(self.lm, batch)[batch.row, batch.position]
        logits = self.action_logits(self.lm, states)
        log_probs = log_prob(logits, batch.action)
        imitated = batch.extras.get("demonstration", torch.zeros_like(batch.weight)) * batch.weight
        loss, logs = ppo_loss(
            log_probs,
            self.v(states).squeeze(-1),
            batch.extras["old_log_probs"],
            batch.extras["old_values"],
            batch.extras["advantages"],
            batch.extras["returns"],
            batch.weight - imitated,
            clip=self.clip,
            value_clip=self.value_clip,
            value_weight=self.value_weight,
        )
        if self.entropy_weight > 0:
            spread = weighted_mean(entropy(logits), batch.weight - imitated)
            loss, logs = loss - self.entropy_weight * spread, logs | {"entropy": spread.detach()}
        if self.imitation_weight > 0:
            imitation = weighted_mean(-log_probs, imitated)
            loss, logs = loss + self.imitation_weight * imitation, logs | {"imitation": imitation.detach()}
        return loss, logs | {name: value.to(loss.device) for name, value in self.round_logs.items()}

    def values(self) -> Callable[[tuple[Tensor, ...]], Float[Tensor, " b"]]:
        """Read V, in units of the task's rewards."""
        return lambda hidden: self.v(hidden[0]).squeeze(-1) / self.reward_scale
