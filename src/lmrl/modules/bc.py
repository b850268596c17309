"""Behaviour cloning: imitate the actions of the data.

    L = -(1/n) sum_i log pi(a_i | s_i)                       over the n agent tokens of a batch

With `non_action_weight` w > 0 the observations are predicted too, each of their tokens with weight w:

    L = -(sum_i log pi(a_i | s_i) + w sum_j log pi(o_j | ...)) / (n + w m)

A pretrained model needs no such help. One that starts from random weights does: from near-random actions alone it
learns nothing about the state that it acts in, whereas predicting the next observation makes it read the state.

Acts by sampling from the language model. Filtered BC is this loss on the best episodes (a filter in the YAML). With
`least_return` c it is filtered by action as well: only those count after which the episode earned at least c. In a game
that is won by its last action and costs until then, c = 0 leaves the winning actions, which follow
from the history, whereas most others were made at random.

Sources: Abdulhai et al. 2023 (arXiv 2311.18232), section 4 and appendix F. Differences from LMRL-Gym's code: none in
the loss; its maze scripts train on the 10 % of the data meant for evaluation, which is not copied.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmrl.config.types import NonNegative, Number, checked
from lmrl.functional import log_prob, mean_over_processes, weighted_mean
from lmrl.modules.base import Algorithm, Logs
from lmrl.text.returns import with_returns
from lmrl.text.tokens import TokenBatch, TokenTrajectory


def bc_loss(
    logits: Float[Tensor, "N V"],
    tokens: Int[Tensor, " N"],
    weight: Float[Tensor, " N"],
) -> Float[Tensor, ""]:
    """Weighted mean of the negative log-likelihood of `tokens`.

    Args:
        logits: the model's logits where each token is predicted.
        tokens: the tokens that the data has there.
        weight: 1 for agent tokens, `non_action_weight` for others, times how often the row occurs.
    """
    return -weighted_mean(log_prob(logits, tokens), weight)


class BC(Algorithm):
    """Behaviour cloning.

    Args:
        non_action_weight: weight w of the tokens that are not actions, at least 0.
        least_return: undiscounted return-to-go from which on an action is imitated. `None`:
            all are.
        common: see `Algorithm`.
    """

    needs_episodes = False

    @checked
    def __init__(
        self, *, non_action_weight: NonNegative = 0.0, least_return: Number | None = None, **common: Any
    ) -> None:
        super().__init__(**common)
        self.non_action_weight, self.least_return = non_action_weight, least_return

    def check_episodes(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> None:
        """Look for an action that is imitated.

        Raises:
            ValueError: no action earned enough.
        """
        self.prepare(episodes)

    def prepare(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[TokenTrajectory]:
        """Mark the actions that are imitated, and leave out rows without any.

        Raises:
            ValueError: no action earned enough.
        """
        if self.least_return is None:
            return super().prepare(episodes)
        rows = []
        for episode in episodes:
            for row in with_returns(episode, 1.0, "turn"):
                enough = row.extras["returns"] >= self.least_return
                if enough.any():
                    rows.append(replace(row, extras={"imitated": enough.astype(np.float32)}))
        if not rows:
            raise ValueError(
                f"algo.module.least_return={self.least_return}: no action in the data was followed by a return that "
                "high"
            )
        return rows

    def loss(self, batch: TokenBatch) -> tuple[Float[Tensor, ""], Logs]:
        """Imitate actions, and observations as far as their weight says."""
        hidden = self.hidden(self.lm, batch)
        logits = self.logits(self.lm, hidden[batch.row, batch.position])
        action_weight = batch.weight * batch.extras.get("imitated", 1.0)
        imitation = bc_loss(logits, batch.action, action_weight)
        logs = {"bc": imitation, "perplexity": mean_over_processes(imitation.detach()).exp()}
        if self.non_action_weight == 0:
            return imitation, logs
        row, position, token, weight = batch.predicted()
        predicted = self.logits(self.lm, hidden[row, position])
        weights = torch.cat([action_weight, self.non_action_weight * weight])
        loss = bc_loss(torch.cat([logits, predicted]), torch.cat([batch.action, token]), weights)
        return loss, logs | {"language_model": bc_loss(predicted, token, weight)}
