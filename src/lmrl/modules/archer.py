"""ArCHer: a critic over whole utterances, trained off-policy, and an actor over the tokens of each utterance.

In state s (the dialogue so far) the agent says u, earns r and comes to s', where d tells whether the episode is over.
With two critics k of utterances Q_k and of states V_k, their slowly following targets Qbar_k and Vbar_k, and u_pi
sampled anew from the actor pi in each replayed state s:

    y_k = r + gamma (1 - d) Vbar_k(s')
    L_c = sum_k mean (Q_k(s, u) - y_k)^2 + sum_k mean (V_k(s) - Qbar_k(s, u_pi))^2
    A   = min_k Q_k(s, u_pi) - min_k V_k(s)
    L_a = -mean A sum_t log pi(u_pi,t | s, u_pi,<t)          REINFORCE: no ratio, no clip, no KL

So the critic evaluates the actor as it is now, on states that older ones came to, and bootstraps over turns instead of
tokens. The first `critic_share` of a round's steps are on L_c, the others on L_a; the first `warmup_rounds` are on L_c
alone. From fixed data, nothing is sampled: the critic is IQL's and the actor's loss is AWR's, both on the data's u:

    critic: expectile    V_k is the tau-expectile of min_j Qbar_j(s, u)
    actor: awr           L_a = -mean min(exp(A eta), w_max) sum_t log pi(u_t | s, u_<t),    A with the data's u

Acts by sampling from the actor.

Sources: Zhou et al. 2024 (arXiv 2402.19446); the offline form's critic: Kostrikov et al. 2021 (arXiv 2110.06169), eq.
5-7. Differences from the reference's code: the critic reads with a causal language model (V_k where the state ends, Q_k
where the utterance ends) instead of encoding state and utterance apart; one optimizer has a group for each network, and
a step trains one network and clips its gradient alone (the reference clips both together, with the other's stale
gradient in the norm); gradients are means, not sums over micro-batches; `samples` utterances are drawn in each state,
and equal states of a batch share them; no value head of the actor refines A from utterances to tokens.
"""

import copy
import hashlib
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lmrl.config.types import Count, Number, OpenShare, Positive, PositiveCount, PositiveShare, checked
from lmrl.functional import expectile_weight, mean_over_processes, polyak_, weighted_mean
from lmrl.models.backbone import width
from lmrl.models.heads import ValueHead
from lmrl.models.sharding import whole
from lmrl.modules.base import Algorithm, Logs, frozen
from lmrl.policies.core import Request
from lmrl.policies.decoding import check_on_policy_decoding
from lmrl.text.tokens import TokenBatch, TokenTrajectory, collate
from lmrl.text.trajectory import Turn


def archer_critic_loss(
    qs: Float[Tensor, "2 N"],
    vs: Float[Tensor, "2 N"],
    bellman_targets: Float[Tensor, "2 N"],
    utterance_values: Float[Tensor, "2 N"],
    weight: Float[Tensor, " N"],
    *,
    expectile: float | None,
) -> tuple[Float[Tensor, ""], Logs]:
    """Squared errors of both critics' values of utterances and of states.

    Args:
        qs: Q_k of each utterance that was said.
        vs: V_k of the state that it was said in.
        bellman_targets: y_k.
        utterance_values: the targets of V_k, Qbar of an utterance in that state.
        weight: how much each counts.
        expectile: tau, with which V_k follows; `None`: to the mean.
    """
    losses = {"q": torch.zeros_like(weight[0]), "v": torch.zeros_like(weight[0])}
    for q, v, y, value in zip(qs, vs, bellman_targets.detach(), utterance_values.detach(), strict=True):
        slope = torch.ones_like(v) if expectile is None else expectile_weight(value - v, expectile)
        losses["q"] = losses["q"] + weighted_mean((q - y) ** 2, weight)
        losses["v"] = losses["v"] + weighted_mean(slope * (v - value) ** 2, weight)
    return losses["q"] + losses["v"], {name: loss.detach() for name, loss in losses.items()}


def archer_actor_loss(
    log_probs: Float[Tensor, " N"],
    advantages: Float[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    inverse_temperature: float | None,
    max_weight: float,
) -> tuple[Float[Tensor, ""], Logs]:
    """REINFORCE, or advantage-weighted regression, over whole utterances.

    Args:
        log_probs: log pi of each utterance, summed over its tokens.
        advantages: A.
        weight: how much each counts.
        inverse_temperature: eta; `None`: REINFORCE.
        max_weight: w_max.
    """
    factor = advantages.detach()
    if inverse_temperature is not None:  # clipped before exp: an infinite weight would be clipped only on its way back
        limit = torch.tensor(max_weight, device=factor.device).log()
        factor = (factor * inverse_temperature).clamp_max(limit).exp()
    logs = {
        "log_prob": weighted_mean(log_probs, weight).detach(),
        "advantage": weighted_mean(advantages.detach(), weight),
        "advantage_size": weighted_mean(advantages.detach().abs(), weight),
    }
    return -weighted_mean(factor * log_probs, weight), logs


class UtteranceCritic(nn.Module):
    """A language model's trunk with two heads for the values of states and two for those of utterances in them.

    Args:
        lm: the language model; its own head stays unused.
        bias: initial value of everything.
    """

    def __init__(self, lm: nn.Module, bias: float) -> None:
        super().__init__()
        self.lm = lm
        self.v_heads = nn.ModuleList(ValueHead(width=width(lm), outputs=1, bias=bias) for _ in range(2))
        self.q_heads = nn.ModuleList(ValueHead(width=width(lm), outputs=1, bias=bias) for _ in range(2))

    def vs(self, states: Float[Tensor, "N D"]) -> Float[Tensor, "2 N"]:
        """Return both values of states, from hidden states that have seen them."""
        return torch.stack([head(states).squeeze(-1).float() for head in self.v_heads])

    def qs(self, ends: Float[Tensor, "N D"]) -> Float[Tensor, "2 N"]:
        """Return both values of utterances, from hidden states that have seen them."""
        return torch.stack([head(ends).squeeze(-1).float() for head in self.q_heads])


def begins(batch: TokenBatch) -> Bool[Tensor, " N"]:
    """Tell which decisions begin an utterance: those that follow the end of another, as rows end with one."""
    return torch.cat([batch.ends_turn.new_ones(1), batch.ends_turn[:-1]])


def state_ends(hidden: Float[Tensor, "R T D"], batch: TokenBatch) -> Float[Tensor, "U D"]:
    """Select the hidden state that has seen the state of each utterance, and no more."""
    first = begins(batch)
    return hidden[batch.row[first], batch.position[first]]


def utterance_ends(hidden: Float[Tensor, "R T D"], batch: TokenBatch) -> Float[Tensor, "U D"]:
    """Select the hidden state that has seen the whole of each utterance."""
    return hidden[batch.row[batch.ends_turn], batch.position[batch.ends_turn] + 1]


class ArCHer(Algorithm):
    """Actor-critic with a hierarchy: utterances for the critic, tokens for the actor.

    Args:
        gamma: discount from one turn to the next, in (0, 1].
        critic: the targets of V: "sampled" (utterances of the actor) or "expectile" (those of the data).
        actor: "reinforce" (on its own utterances) or "awr" (on those of the data).
        round_steps: steps of a round: `algo.steps_per_epoch`.
        critic_share: which part of a round's steps, its first ones, trains the critic, in (0, 1]; the others train the
            actor. At least one step is the critic's.
        warmup_rounds: for how many first rounds all steps train the critic.
        samples: utterances that are sampled at each state of a batch, at least 1.
        polyak: fraction by which the targets follow in each step of the critic, in (0, 1].
        expectile: tau, in (0, 1), for the critic "expectile".
        inverse_temperature: eta, above 0, in units of 1 / (scaled) return, for the actor "awr".
        max_weight: w_max, above 0, for the actor "awr".
        normalise_advantage: whether A is brought to mean 0 and deviation 1 in each batch.
        reward_scale: factor on rewards, above 0.
        head_bias: initial value of Q and V, in scaled units.
        common: see `Algorithm`.

    Raises:
        ValueError: `decoding` is none that can be learned from, see `check_on_policy_decoding`.
    """

    @checked
    def __init__(
        self,
        *,
        gamma: PositiveShare,
        critic: Literal["sampled", "expectile"] = "sampled",
        actor: Literal["reinforce", "awr"] = "reinforce",
        round_steps: PositiveCount,
        critic_share: PositiveShare,
        warmup_rounds: Count = 0,
        samples: PositiveCount = 1,
        polyak: PositiveShare = 0.1,
        expectile: OpenShare = 0.9,
        inverse_temperature: Positive = 1.0,
        max_weight: Positive = 20.0,
        normalise_advantage: bool = False,
        reward_scale: Positive = 1.0,
        head_bias: Number = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if actor == "reinforce":
            check_on_policy_decoding(self.decoding, from_play=False)
        self.gamma, self.polyak, self.samples, self.reward_scale = gamma, polyak, samples, reward_scale
        self.round_steps, self.warmup_rounds = round_steps, warmup_rounds
        self.critic_steps = max(1, round(critic_share * round_steps))
        self.normalise_advantage, self.max_weight = normalise_advantage, max_weight
        self.expectile = expectile if critic == "expectile" else None
        self.inverse_temperature = inverse_temperature if actor == "awr" else None
        self.critic = UtteranceCritic(copy.deepcopy(self.lm), head_bias)
        self.target = frozen(copy.deepcopy(self.critic))
        self._newest: Logs = {}
        self._trains_critic = True

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Return the loss of the network whose turn it is, and the newest numbers of both."""
        number, step = divmod(self.global_step, self.round_steps)
        self._trains_critic = number < self.warmup_rounds or step < self.critic_steps
        loss, logs = self.critic_loss(batch) if self._trains_critic else self.actor_loss(batch)
        self._newest = self._newest | logs
        return loss, self._newest

    def critic_loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Compute values where utterances begin and end, and their targets."""
        hidden = self.hidden(self.critic.lm, batch)
        last = batch.ends_turn
        vs = self.critic.vs(state_ends(hidden, batch))
        with torch.no_grad():
            target: Any = self.target
            slow = self.hidden(target.lm, batch)
            following = target.vs(self.successor_states(target.lm, slow, batch)[last]) * batch.bootstraps[last]
            if self.expectile is None:
                said, places = self.speak(batch)
                values = target.qs(utterance_ends(self.hidden(target.lm, said), said))[:, places].mean(-1)
            else:
                values = target.qs(utterance_ends(slow, batch)).amin(0).expand(2, -1)
        loss, logs = archer_critic_loss(
            self.critic.qs(utterance_ends(hidden, batch)),
            vs,
            self.reward_scale * batch.reward[last] + self.gamma * following,
            values,
            batch.weight[last] * batch.is_known[last],
            expectile=self.expectile,
        )
        return loss, logs | {"v_mean": weighted_mean(vs.detach().mean(0), batch.weight[last])}

    def actor_loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Judge utterances, and make the better ones likelier."""
        said = batch if self.inverse_temperature is not None else self.speak(batch)[0]
        with torch.no_grad():
            hidden = self.hidden(self.critic.lm, said)
            advantages = self.critic.qs(utterance_ends(hidden, said)).amin(0)
            advantages -= self.critic.vs(state_ends(hidden, said)).amin(0)
        weight = said.weight[said.ends_turn]
        if self.normalise_advantage:
            advantages = advantages - mean_over_processes(weighted_mean(advantages, weight))
            advantages = advantages / mean_over_processes(weighted_mean(advantages**2, weight)).sqrt().clamp_min(1e-6)
        utterance = begins(said).cumsum(0) - 1
        log_probs = torch.zeros_like(advantages).index_add(0, utterance, self.action_log_probs(self.lm, said))
        return archer_actor_loss(
            log_probs, advantages, weight, inverse_temperature=self.inverse_temperature, max_weight=self.max_weight
        )

    def speak(self, batch: TokenBatch) -> tuple[TokenBatch, Int[Tensor, "U S"]]:
        """Let the actor speak in each state of a batch.

        The samples follow from the epoch's seed, the step and the state: a resumed run draws them again.

        Returns:
            The distinct utterances as rows, and which of them were said in the state of each utterance of the batch.
        """
        tokens, first = batch.tokens.cpu().numpy(), begins(batch)
        ends = zip(batch.row[first].tolist(), (batch.position[first] + 1).tolist(), strict=True)
        states = [tuple(tokens[row, :end].tolist()) for row, end in ends]
        asked = [(state, turn) for state in dict.fromkeys(states) for turn in range(self.samples)]
        # At the beginning of an epoch torch is seeded anew, with the rank added; but equal states share their samples.
        base = f"{torch.initial_seed() - self.global_rank} {self.global_step}"
        seeds = {s: int.from_bytes(hashlib.blake2b(f"{base} {s}".encode(), digest_size=8).digest()) for s in states}
        history = {state: (Turn("", is_action=False, tokens=state),) for state in states}
        with whole(self.lm):
            actions = self.sampler().act([Request(history[s], i, seeds[s], turn) for i, (s, turn) in enumerate(asked)])
        rows = {key: _row(key[0], action.tokens or ()) for key, action in zip(asked, actions, strict=True)}
        spoken = [rows[state, turn] for state in states for turn in range(self.samples)]
        counts = (batch.weight[batch.ends_turn] / self.samples).repeat_interleave(self.samples).tolist()
        order: dict[bytes, int] = {}
        places = torch.tensor([order.setdefault(row.key, len(order)) for row in spoken])
        said = collate(spoken, counts, pad_id=self.codec.pad_id).to(batch.tokens.device)
        return said, places.reshape(len(states), self.samples).to(batch.tokens.device)

    def after_step(self) -> None:
        """Let the targets follow the critic, after a step that has trained it."""
        if self._trains_critic:
            polyak_(self.target, self.critic, self.polyak)


def _row(state: tuple[int, ...], said: tuple[int, ...]) -> TokenTrajectory:
    """Return an utterance in its state as a row, of which nothing is known but its tokens."""
    length = len(state) + len(said)
    return TokenTrajectory(
        tokens=np.asarray(state + said, np.int32),
        is_decision=np.arange(length) >= len(state),
        rewards=np.zeros(length, np.float32),
        turn=(np.arange(length) >= len(state)).astype(np.int32),
        successor=None,
        terminated=True,
        is_known=True,
    )
