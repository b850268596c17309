"""Trajectory DPO: make the better of two episodes from the same start likelier than the worse one.

For a pair of episodes w (of the higher return) and l that begin with the same observation, and pi_ref, the initial
policy:

    d_i = log pi(a_i | s_i) - log pi_ref(a_i | s_i)          over agent tokens
    M   = beta (sum_{i in w} c_w d_i - sum_{i in l} c_l d_i) c = 1, or 1 / (number of agent tokens) with `per_token`
    L   = mean over pairs of -log sigmoid(M) - alpha sum_{i in w} log pi(a_i | s_i) / |w|

beta is the strength of the penalty for leaving pi_ref, not of guidance. The term with alpha is behaviour cloning of the
better episodes: without it, both can become unlikely as long as the worse one does so faster.

Pairs: of each start's n episodes the best is compared with the worst, the second best with the second worst, and so on,
as long as their returns differ by more than `min_gap`. A batch holds whole pairs, whatever the memory: rows of a pair
share the extra `pair`, by which the data module draws them.

Acts by sampling from the language model. It starts from the behaviour prior, which is also pi_ref; log pi_ref is
computed once, before training starts.

Sources: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7 (DPO); Song et al. 2024 (arXiv 2403.02502), section 3 (ETO:
pairs of trajectories, sums over the agent's tokens only). `per_token` and alpha are ours, near to SimPO (arXiv
2405.14734) and to iterative RPO (arXiv 2404.19733). Differences from ETO: offline only, worse episodes come from the
data and are not collected; a difference in return of any size makes a pair.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lmrl.config.types import NonNegative, Positive, checked
from lmrl.functional import log_prob, mean_over_processes
from lmrl.modules.base import Algorithm, Logs
from lmrl.text.tokens import TokenBatch, TokenTrajectory

Episode = Sequence[TokenTrajectory]


def dpo_loss(
    log_probs: Float[Tensor, " N"],
    reference: Float[Tensor, " N"],
    share: Float[Tensor, " N"],
    pair: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
    *,
    beta: float,
    bc_weight: float,
) -> tuple[Float[Tensor, ""], Logs]:
    """Preference loss over whole pairs of episodes.

    Args:
        log_probs: log pi of each agent token.
        reference: log pi_ref of each agent token.
        share: c of the token's episode, negative in the worse one.
        pair: which pair the token belongs to.
        weight: how often the token's row occurs, which is how often its pair does.
        beta: strength of the penalty for leaving pi_ref.
        bc_weight: alpha.
    """
    _, index = pair.unique(return_inverse=True)
    zeros = log_probs.new_zeros(int(index.max()) + 1)
    is_better = (share > 0).float()
    margin = beta * zeros.index_add(0, index, share * (log_probs - reference))
    count = zeros.index_add(0, index, torch.ones_like(weight))
    pairs = zeros.index_add(0, index, weight) / count
    imitation = zeros.index_add(0, index, -is_better * log_probs)
    imitation = imitation / zeros.index_add(0, index, is_better).clamp_min(1.0)
    total = mean_over_processes(pairs.sum())
    preference = (pairs * -F.logsigmoid(margin)).sum() / total
    bc = (pairs * imitation).sum() / total
    logs = {"preference": preference, "bc": bc, "margin": (pairs * margin).detach().sum() / total}
    return preference + bc_weight * bc, logs | {"accuracy": (pairs * (margin > 0)).sum() / total}


class DPO(Algorithm):
    """Trajectory DPO.

    Args:
        beta: strength of the penalty for leaving the reference policy, above 0.
        bc_weight: alpha, weight of behaviour cloning of the better episodes, at least 0.
        per_token: whether log-ratios are averaged over an episode's tokens instead of summed.
        min_gap: pairs differ in return by more than this, at least 0.
        common: see `Algorithm`.
    """

    batches_by = "pair"

    @checked
    def __init__(
        self,
        *,
        beta: Positive,
        bc_weight: NonNegative = 0.0,
        per_token: bool = False,
        min_gap: NonNegative = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.beta, self.bc_weight, self.per_token, self.min_gap = beta, bc_weight, per_token, min_gap

    def check_episodes(self, episodes: Sequence[Episode]) -> None:
        """Look for a pair.

        Raises:
            ValueError: no two episodes begin alike and differ in return.
        """
        if next(paired(episodes, self.min_gap), None) is None:
            raise ValueError(
                "no two episodes of the data begin with the same observation and differ in return by more than "
                f"algo.module.min_gap={self.min_gap:g}, so there is nothing to prefer: lower it, or make data with "
                "several episodes from each start (task.dataset.recipe.episodes_per_start=4, where the recipe has it)"
            )

    def prepare(self, episodes: Sequence[Episode]) -> list[TokenTrajectory]:
        """Form pairs, and compute the reference's log-probabilities while the weights are still its own.

        Raises:
            ValueError: no two episodes begin alike and differ in return.
        """
        self.check_episodes(episodes)
        rows = [
            row
            for number, pair in enumerate(paired(episodes, self.min_gap))
            for episode, sign in zip(pair, (1.0, -1.0), strict=True)
            for row in self._marked(episode, number, sign)
        ]
        measured = self.evaluate_decisions(rows, self._reference)
        return [replace(row, extras={**row.extras, **values}) for row, values in zip(rows, measured, strict=True)]

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Compare the episodes of each pair."""
        return dpo_loss(
            self._log_probs(batch),
            batch.extras["reference"],
            batch.extras["share"],
            batch.extras["pair"].long(),
            batch.weight,
            beta=self.beta,
            bc_weight=self.bc_weight,
        )

    def _reference(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"reference": self._log_probs(batch)}

    def _log_probs(self, batch: TokenBatch) -> Float[Tensor, " N"]:
        """Return log pi of each agent token."""
        states = self.hidden(self.lm, batch)[batch.row, batch.position]
        return log_prob(self.logits(self.lm, states), batch.action)

    def _marked(self, episode: Episode, pair: int, sign: float) -> Iterator[TokenTrajectory]:
        """Attach the inputs of the loss to an episode's rows."""
        length = sum(int(row.is_decision.sum()) for row in episode)
        share = sign / length if self.per_token else sign
        for step, row in enumerate(episode):
            # `step` keeps rows that repeat within an episode apart: a row's weight says how often its pair occurs.
            marks = {"pair": pair, "share": share, "step": step}
            count = int(row.is_decision.sum())
            yield replace(row, extras={name: np.full(count, mark, dtype=np.float32) for name, mark in marks.items()})


def paired(episodes: Sequence[Episode], min_gap: float | int) -> Iterator[tuple[Episode, Episode]]:
    """Yield (better, worse) episodes of the same start: best with worst, second best with second worst, and so on."""
    starts: dict[bytes, list[Episode]] = {}
    for episode in episodes:
        state = episode[0].tokens[: int(episode[0].is_decision.argmax())]
        starts.setdefault(state.tobytes(), []).append(episode)
    for group in starts.values():
        ranked = sorted(group, key=_earned, reverse=True)
        for better, worse in zip(ranked[: len(ranked) // 2], reversed(ranked), strict=False):
            if _earned(better) - _earned(worse) > min_gap:
                yield better, worse


def _earned(episode: Episode) -> float:
    """Return an episode's undiscounted return."""
    return float(sum(row.rewards.sum(dtype=np.float64) for row in episode))
