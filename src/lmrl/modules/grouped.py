"""Group-relative methods: the base of GRPO and RLOO, which compare the G episodes of one start with each other."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lmrl.config.types import GroupSize, checked
from lmrl.modules.base import Algorithm, Logs, frozen
from lmrl.policies.decoding import check_on_policy_decoding
from lmrl.text.tokens import TokenBatch, TokenTrajectory


class Grouped(Algorithm):
    """A policy that learns from the episodes that it has just played, in groups with a common start.

    Args:
        group: G, the episodes of a start; at least 2, and equal to `algo.datamodule.group`.
        common: see `Algorithm`.

    Raises:
        ValueError: `decoding` or `rerank` cannot be learned from, see `check_on_policy_decoding`.
    """

    is_on_policy = True
    needs_groups = True

    @checked
    def __init__(self, *, group: GroupSize, **common: Any) -> None:
        super().__init__(**common)
        check_on_policy_decoding(self.decoding, reranks=self.rerank is not None)
        self.group = group
        self.reference = frozen(copy.deepcopy(self.lm))
        self.round_logs: Logs = {}

    def complete_groups(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> Sequence[Sequence[TokenTrajectory]]:
        """Return the episodes without an incomplete last group.

        Raises:
            ValueError: there are fewer episodes than a group has.
        """
        complete = episodes[: len(episodes) - len(episodes) % self.group]
        if not complete:
            raise ValueError(f"algo.module.group={self.group} is more than there are episodes")
        return complete

    def log_probs_of(self, episodes: Sequence[Sequence[TokenTrajectory]]) -> list[dict[str, Float[np.ndarray, " A"]]]:
        """Return `old_log_probs` (log pi_old) and `reference` (log pi_ref) of the decisions of each episode."""
        rows = iter(self.evaluate_decisions([row for episode in episodes for row in episode], self._read))
        parts = [[next(rows) for _ in episode] for episode in episodes]
        return [{name: np.concatenate([part[name] for part in episode]) for name in episode[0]} for episode in parts]

    def logs_of_round(self, device: Any) -> Logs:
        """Return the logs of `prepare` about the round, on the device of the loss."""
        return {name: value.to(device) for name, value in self.round_logs.items()}

    def _read(self, batch: TokenBatch) -> dict[str, Tensor]:
        """Evaluate policy and reference of a batch."""
        models = {"old_log_probs": self.lm, "reference": self.reference}
        return {name: self.action_log_probs(lm, batch) for name, lm in models.items()}
