"""Monte-Carlo returns: regress Q on the returns of the data, and guide a frozen prior with it.

    R_i = sum_{k >= i} gamma^(k-i) r_k                       over the agent tokens k of the episode
    L   = mean_i 1/2 (Q(s_i, a_i) - R_i)^2 + alpha mean_i CE(Q(s_i, .), a_i)
    CE(q, a) = logsumexp(q) - q_a

Acts by log pi_beta(. | s) + beta Q(s, .): one step of policy improvement over the data's policy, no bootstrapping. Of
proposed actions it takes the one whose last token has the highest Q: the expected return after the whole action.
Q's head starts at a constant, so the policy starts as its prior.

Sources: Abdulhai et al. 2023 (arXiv 2311.18232), section 4, appendix F. The 1/2 and the CQL term are in LMRL-Gym's
code but not in the paper. Differences from the code: the last reward of a maze or chess episode is counted once, not
twice; proposals are scored by the Q of their last token, not by a sum, which prefers short ones where Q is negative.
"""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from lmrl.config.types import checked
from lmrl.functional import log_prob, pick, weighted_mean
from lmrl.models.backbone import vocabulary, width
from lmrl.models.heads import ValueHead
from lmrl.modules.base import Logs
from lmrl.modules.guided import Guided
from lmrl.text.tokens import TokenBatch


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


class MCReturns(Guided):
    """Monte-Carlo returns.

    Args:
        common: see `Guided`.
    """

    scores_last_token = True

    @checked
    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.q = ValueHead(width=width(self.lm), outputs=vocabulary(self.lm), **self.head)

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Regress Q on the returns."""
        q = self.q(self.hidden(self.lm, batch)[batch.row, batch.position])
        returns = batch.extras["returns"]
        loss, logs = mc_loss(q, returns, batch.action, batch.weight, cql_weight=self.cql_weight)
        return loss, logs | {"q_mean": weighted_mean(pick(q, batch.action), batch.weight).detach()}

    def action_values(self, states: Float[Tensor, "b D"]) -> Float[Tensor, "b V"]:
        """Return Q."""
        return self.q(states)

    def heads(self) -> dict[str, nn.Module]:
        """Return the Q head."""
        return {"q": self.q}

    def token_scores(self, hidden: tuple[Tensor, ...], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Score proposals by Q; see `scores_last_token`."""
        return pick(self.q(hidden[1]), tokens)
