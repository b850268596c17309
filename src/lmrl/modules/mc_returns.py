"""Monte-Carlo returns: regress Q on what the data earned, and guide a frozen prior with it.

    R_i = sum_{k >= i} gamma^(k-i) r_k                       over the agent tokens k of the episode
    L   = mean_i 1/2 (Q(s_i, a_i) - R_i)^2 + alpha mean_i CE(Q(s_i, .), a_i)
    CE(q, a) = logsumexp(q) - q_a

Acts by log pi_beta(. | s) + beta Q(s, .): one step of policy improvement over the data's policy, no bootstrapping. Of
proposed actions it takes the one whose last token has the highest Q: what is expected once the whole action is said.
Q's head starts at a constant, so the policy starts as its prior.

Sources: Abdulhai et al. 2023 (arXiv 2311.18232), section 4, appendix F. The 1/2 and the CQL term are in LMRL-Gym's
code but not in the paper. Differences from the code: the last reward of a maze or chess episode is counted once, not
twice; proposals are scored by the Q of their last token, not by a sum, which prefers short ones where Q is negative.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from lmrl.config.types import NonNegative, Number, PositiveShare, checked
from lmrl.functional import log_prob, pick, weighted_mean
from lmrl.models.backbone import lm_logits, vocabulary, width
from lmrl.models.critic import export_guided
from lmrl.models.heads import ValueHead
from lmrl.modules.base import Algorithm, Logs, frozen
from lmrl.policies.decoding import GuidedLogits
from lmrl.text.returns import average_returns, with_returns
from lmrl.text.tokens import TokenBatch, TokenTrajectory


def mc_loss(
    q: Float[Tensor, "N V"],
    returns: Float[Tensor, " N"],
    actions: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    cql_weight: float,
) -> tuple[Float[Tensor, ""], Logs]:
    """Squared error to the return, plus the conservative term.

    Args:
        q: action values where each agent token is chosen.
        returns: discounted return from each agent token on.
        actions: the agent tokens.
        weight: how much each counts.
        cql_weight: alpha.
    """
    q_loss = weighted_mean(0.5 * (pick(q, actions) - returns) ** 2, weight)
    cql = weighted_mean(-log_prob(q, actions), weight)
    return q_loss + cql_weight * cql, {"q": q_loss, "cql": cql}


class MCReturns(Algorithm):
    """Monte-Carlo returns.

    Args:
        gamma: discount, in (0, 1].
        discount_per: "token" (the paper) or "turn".
        cql_weight: alpha, at least 0.
        beta: strength of guidance while acting, at least 0.
        head_hidden: whether the Q head has a hidden layer.
        head_bias: initial value of Q.
        common: see `Algorithm`.
    """

    scores_last_token = True

    @checked
    def __init__(
        self,
        *,
        gamma: PositiveShare,
        discount_per: Literal["token", "turn"] = "token",
        cql_weight: NonNegative,
        beta: NonNegative,
        head_hidden: bool = True,
        head_bias: Number = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.gamma, self.discount_per, self.cql_weight, self.beta = gamma, discount_per, cql_weight, beta
        self.prior = frozen(copy.deepcopy(self.lm))
        self.q = ValueHead(width=width(self.lm), outputs=vocabulary(self.lm), hidden=head_hidden, bias=head_bias)

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Give each decision its return, which runs over the whole episode and not only over its row."""
        rows = [row for episode in episodes for row in with_returns(episode, self.gamma, self.discount_per)]
        return average_returns(rows)

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Regress Q on the returns."""
        q = self.q(self.hidden(self.lm, batch)[batch.row, batch.position])
        returns = batch.extras["returns"]
        loss, logs = mc_loss(q, returns, batch.action, batch.weight, cql_weight=self.cql_weight)
        return loss, logs | {"q_mean": weighted_mean(pick(q, batch.action), batch.weight).detach()}

    def export(self, folder: Path) -> None:
        """Write the prior as a plain language model, and the critic with its heads beside it."""
        export_guided(folder, prior=self.prior, critic=self.lm, heads={"q": self.q}, codec=self.codec, beta=self.beta)

    def acting_lms(self) -> tuple[nn.Module, ...]:
        """Return the prior and the critic."""
        return self.prior, self.lm

    def next_logits(self, hidden: tuple[Tensor, ...]) -> GuidedLogits:
        """Guide the frozen prior with Q."""
        return GuidedLogits.by_values(lm_logits(self.prior, hidden[0]), self.q(hidden[1]), self.beta)

    def token_scores(self, hidden: tuple[Tensor, ...], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Score proposals by Q; see `scores_last_token`."""
        return pick(self.q(hidden[1]), tokens)
