"""Offline data whose rows belong together: a batch holds whole groups, such as the rows of two episodes to compare."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from lmrl.config.types import Text
from lmrl.datamodules.offline import OfflineDataModule
from lmrl.datamodules.sampling import Rows
from lmrl.text.tokens import TokenTrajectory


class Groups(Rows):
    """Training rows that are drawn group by group; equal rows share one object.

    Args:
        rows: the rows.
        by: name of the extra that tells a row's group; all decisions of a row have the same value.
    """

    def __init__(self, rows: Sequence[TokenTrajectory], by: str) -> None:
        super().__init__(rows)
        groups: dict[float, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(float(row.extras[by][0]), []).append(index)
        self._groups = list(groups.values())

    def __len__(self) -> int:
        """Return how many groups there are."""
        return len(self._groups)

    def __getitem__(self, indices: Sequence[int]) -> list[TokenTrajectory]:
        """Return the rows of all groups of a batch."""
        return super().__getitem__([index for group in indices for index in self._groups[group]])

    @property
    def token_lengths(self) -> Int[np.ndarray, " G"]:
        """Tokens of each group's longest row, to which a batch is padded."""
        lengths = super().token_lengths
        return np.asarray([lengths[group].max() for group in self._groups])


class GroupedDataModule(OfflineDataModule):
    """Serves a fixed set of trajectories in groups of rows that the algorithm's `prepare` has formed.

    Args:
        group_by: name of the extra that tells a row's group.
        common: see `OfflineDataModule`; `batch_size` counts groups.
    """

    def __init__(self, *, group_by: Text, **common: Any) -> None:
        super().__init__(**common)
        self._group_by = group_by

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Tokenize, let the algorithm prepare its rows, and find which belong together."""
        if self._rows is None:
            algorithm: Any = self.trainer.lightning_module if self.trainer else None
            self._rows = Groups(algorithm.prepare(self.episodes()), self._group_by)
