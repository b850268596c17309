"""Offline data: fixed trajectories, cut into rows once, sampled anew in every epoch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from lmrl.config.types import PositiveCount, checked
from lmrl.datamodules.rows import Episodes, loader, tokenize_episodes
from lmrl.datamodules.sampling import EpochSampler, Rows
from lmrl.text.codec import Codec
from lmrl.text.trajectory import Trajectory


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
        pool: how many batches are sorted by length together, so that little is padded; 1: none. Where long episodes
            earn less, a sorted batch says one return of whatever was done, and values follow it up and down.
        filter: picks the episodes to train on; `None` for all.
        window: the longest sequence that the model can read; `None` if it has no limit.
        max_new_tokens: the longest action while acting, which has to fit behind the longest state.
    """

    epochs_per_loader = 0
    """For how many epochs a loader serves before Lightning asks for the next: 0, the data stay as they are."""

    @checked
    def __init__(
        self,
        *,
        trajectories: Sequence[Trajectory],
        codec: Codec,
        memory: int | None,
        batch_size: PositiveCount,
        steps_per_epoch: PositiveCount,
        seed: int,
        replies: bool = False,
        pool: PositiveCount = 16,
        filter: Callable[[Sequence[Trajectory]], Sequence[Trajectory]] | None = None,
        window: int | None = None,
        max_new_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.trajectories = list(filter(trajectories) if filter else trajectories)
        if not self.trajectories:
            raise ValueError(
                "no trajectory is left to train on: the data are empty, or algo.datamodule.filter keeps none"
            )
        self._codec, self._memory, self._batch_size = codec, memory, batch_size
        self._steps_per_epoch, self._seed, self._replies, self._pool = steps_per_epoch, seed, replies, pool
        self._window, self._max_new_tokens = window, max_new_tokens
        self._episodes: Episodes | None = None
        self._rows: Rows | None = None

    @property
    def interactions(self) -> Mapping[str, int]:
        """The experience of training: none."""
        return {}

    def episodes(self) -> Episodes:
        """Return the rows of each trajectory.

        Raises:
            ValueError: a row is longer than the model can read.
        """
        if self._episodes is None:
            limits = self._window, self._max_new_tokens
            self._episodes = tokenize_episodes(self.trajectories, self._codec, self._memory, self._replies, *limits)
        return self._episodes

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
            pool=self._pool,
        )
        return loader(self._rows, sampler, self._codec)
