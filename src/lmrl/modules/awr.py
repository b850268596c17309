"""AWR: an explicit policy by regression on actions, weighted by the exponential of their advantage.

    L = -mean_i w_i log pi(a_i | s_i)                        w_i = min(exp(A_i / lambda), w_max)

    A_i = min_k Q_k(s_i, a_i) - V(s_i)                       advantage "critic": of a critic trained before (AWAC, IQL)
    A_i = R_i - V(s_i)                                       advantage "returns": V is fitted here (AWR)
    L_V = mean_i 1/2 (V(s_i) - R_i)^2                        added to L with "returns"

It maximises E[A] under a penalty lambda KL(pi || data's policy): pi ~ pi_data exp(A / lambda). So lambda is in
units of return: an action that is worth lambda less than another loses a factor of e in its odds. With a critic, whose
advantages do not move, they are computed once, before training starts.

Acts by sampling from the language model alone: one model instead of a prior and a critic, and no beta. It starts from
the behaviour prior.

Sources: Peng et al. 2019 (arXiv 1910.00177), algorithm 1 (AWR, with clipped weights); Nair et al. 2020 (arXiv
2006.09359), algorithm 1 (AWAC); Kostrikov et al. 2021 (arXiv 2110.06169), eq. 7 (IQL's extraction). Differences: as in
all of lmrl, the steps are tokens; V's head reads the policy's hidden states without changing them; returns are
Monte-Carlo returns instead of TD(lambda) ones; nothing is collected.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lmrl.config.types import Number, Positive, PositiveShare, checked
from lmrl.functional import log_prob, pick, weighted_mean
from lmrl.models.backbone import hidden_states, width
from lmrl.models.critic import load_critic
from lmrl.models.heads import ValueHead
from lmrl.modules.base import Algorithm, Logs, frozen
from lmrl.text.returns import with_returns
from lmrl.text.tokens import TokenBatch, TokenTrajectory


def awr_loss(
    log_probs: Float[Tensor, " N"],
    advantages: Float[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    advantage_temperature: float,
    max_weight: float,
) -> tuple[Float[Tensor, ""], Logs]:
    """Exponentially weighted negative log-likelihood.

    Args:
        log_probs: log pi of each agent token.
        advantages: A.
        weight: how much each counts.
        advantage_temperature: lambda.
        max_weight: w_max.
    """
    # Clipped before exp: an infinite weight would be clipped as well, but not its way there.
    limit = torch.tensor(max_weight, device=advantages.device).log()
    w = (advantages.detach() / advantage_temperature).clamp_max(limit).exp()
    logs = {
        "bc": weighted_mean(-log_probs, weight).detach(),
        "advantage_weight": weighted_mean(w, weight),
        "clipped": weighted_mean((w >= max_weight).float(), weight),
    }
    return weighted_mean(-w * log_probs, weight), logs


class AWR(Algorithm):
    """Advantage-weighted regression.

    Args:
        advantage: "critic" (of a trained critic) or "returns" (over a state value that is fitted here).
        advantage_temperature: lambda, above 0, in units of return.
        max_weight: w_max, above 0.
        gamma: discount of returns, in (0, 1]; a critic brings its own.
        discount_per: "token" or "turn".
        critic: folder that a value method exported its critic to. `None`: none is trained yet.
        head_hidden: whether V's head has a hidden layer.
        head_bias: initial value of V.
        common: see `Algorithm`.
    """

    @checked
    def __init__(
        self,
        *,
        advantage: Literal["critic", "returns"] = "critic",
        advantage_temperature: Positive,
        max_weight: Positive,
        gamma: PositiveShare,
        discount_per: Literal["token", "turn"] = "token",
        critic: Path | None = None,
        head_hidden: bool = True,
        head_bias: Number = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.advantage, self.advantage_temperature, self.max_weight = advantage, advantage_temperature, max_weight
        self.gamma, self.discount_per = gamma, discount_per
        self.critic_folder = critic
        self.v = None
        if advantage == "returns":
            self.v = ValueHead(width=width(self.lm), outputs=1, hidden=head_hidden, bias=head_bias)

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Attach to each decision its advantage or, where V is still to be fitted, its return.

        Raises:
            ValueError: there is no critic to compute advantages with.
        """
        if self.advantage == "returns":
            return [row for e in episodes for row in with_returns(e, self.gamma, self.discount_per)]
        if self.critic_folder is None:
            raise ValueError(
                "algo.module.advantage=critic needs a trained critic: give the configuration a stage algo.critic"
            )
        critic: Any = frozen(load_critic(self.critic_folder, self.codec)).to(next(self.parameters()).device)

        def advantages(batch: TokenBatch) -> dict[str, Tensor]:
            states = hidden_states(critic.lm, batch.tokens)[batch.row, batch.position]
            return {"advantage": pick(critic.smallest(states), batch.action) - critic.v(states)}

        rows = super().prepare(episodes)
        measured = self.evaluate_decisions(rows, advantages)
        return [replace(row, extras={**row.extras, **values}) for row, values in zip(rows, measured, strict=True)]

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Imitate actions by how good they were."""
        states = self.hidden(self.lm, batch)[batch.row, batch.position]
        log_probs = log_prob(self.logits(self.lm, states), batch.action)
        options = {"advantage_temperature": self.advantage_temperature, "max_weight": self.max_weight}
        if self.v is None:
            return awr_loss(log_probs, batch.extras["advantage"], batch.weight, **options)
        v, returns = self.v(states.detach()).squeeze(-1), batch.extras["returns"]
        loss, logs = awr_loss(log_probs, returns - v, batch.weight, **options)
        v_loss = weighted_mean(0.5 * (v - returns) ** 2, batch.weight)
        return loss + v_loss, logs | {"v": v_loss, "v_mean": weighted_mean(v, batch.weight).detach()}

    def values(self) -> Callable[[tuple[Tensor, ...]], Float[Tensor, " b"]] | None:
        """Read V from the policy's trunk, where it is fitted here."""
        head = self.v
        return None if head is None else lambda hidden: head(hidden[0]).squeeze(-1)
