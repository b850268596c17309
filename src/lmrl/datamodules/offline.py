"""Offline data: fixed trajectories, cut into rows once, sampled anew in every epoch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lmrl.datamodules.sampling import EpochSampler, Rows
from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenTrajectory, collate, tokenize
from lmrl.text.trajectory import Trajectory, windows


class OfflineDataModule(pl.LightningDataModule):
    """Serves a fixed set of trajectories.

    An epoch is `steps_per_epoch` batches, not a pass over the data: checkpoints and evaluations happen at its end.

    Args:
        trajectories: the episodes.
        codec: the tokenizer.
        memory: how many last turns form a state; `None` for the whole episode.
        batch_size: rows per step on each process, repetitions included.
        steps_per_epoch: batches per epoch (micro-batches, where gradients are accumulated).
        seed: seed of the order.
        replies: whether rows end with the environment's reply, for losses that also predict observations.
        filter: picks the episodes to train on; `None` for all.
        window: the longest sequence that the model can read; `None` if it has no limit.
        max_new_tokens: the longest action while acting, which has to fit behind the longest state.
    """

    def __init__(
        self,
        *,
        trajectories: Sequence[Trajectory],
        codec: Codec,
        memory: int | None,
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
        replies: bool = False,
        filter: Callable[[Sequence[Trajectory]], Sequence[Trajectory]] | None = None,
        window: int | None = None,
        max_new_tokens: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or steps_per_epoch < 1:
            raise ValueError(f"batch_size and steps_per_epoch must be positive, got {batch_size} and {steps_per_epoch}")
        self.trajectories = list(filter(trajectories) if filter else trajectories)
        if not self.trajectories:
            raise ValueError(
                "no trajectory is left to train on: the data are empty, or algo.datamodule.filter keeps none"
            )
        self._codec, self._memory, self._batch_size = codec, memory, batch_size
        self._steps_per_epoch, self._seed, self._replies = steps_per_epoch, seed, replies
        self._window, self._max_new_tokens = window, max_new_tokens
        self._episodes: list[list[TokenTrajectory]] | None = None
        self._rows: Rows | None = None

    def episodes(self) -> list[list[TokenTrajectory]]:
        """Return the rows of each trajectory.

        Raises:
            ValueError: a row is longer than the model can read.
        """
        if self._episodes is not None:
            return self._episodes
        cut = [
            [tokenize(window, self._codec) for window in windows(trajectory, self._memory, self._replies)]
            for trajectory in self.trajectories
        ]
        self._check_lengths([row for rows in cut for row in rows])
        self._episodes = [rows for rows in cut if rows]
        return self._episodes

    def _check_lengths(self, rows: Sequence[TokenTrajectory]) -> None:
        """Make sure that the model can read each row, and each state with an action behind it."""
        if not rows:
            raise ValueError("no trajectory of the data has an action to train on")
        states = max(int(row.is_decision.nonzero()[0][-1]) for row in rows)
        longest = max(max(len(row.tokens) for row in rows), states + self._max_new_tokens)
        if self._window is not None and longest > self._window:
            raise ValueError(
                f"rows of the data take up to {longest} tokens, but the model reads at most {self._window}: choose a "
                "smaller task.memory, or a model with a larger window (model.lm.window for model=tiny)"
            )

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Tokenize, let the algorithm prepare its rows, and keep each distinct one once."""
        if self._rows is None:
            algorithm: Any = self.trainer.lightning_module if self.trainer else None
            self._rows = Rows(algorithm.prepare(self.episodes()))

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of training batches."""
        if self._rows is None or self.trainer is None:
            raise RuntimeError("the trainer calls setup() first, and has to be attached")
        sampler = EpochSampler(
            self._rows.token_lengths,
            batch_size=self._batch_size,
            batches=self._steps_per_epoch,
            seed=self._seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        # As `sampler`, where Lightning tells it the epoch; each of its items is a whole batch.
        return DataLoader(
            self._rows,
            sampler=sampler,
            batch_size=None,
            collate_fn=partial(collate, pad_id=self._codec.pad_id),
            generator=torch.Generator(),  # else each epoch's loader would draw from the generator that dropout uses
        )
