"""Which rows make up which batch: a pure function of seed, epoch and rank, so that any epoch can be run again."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int
from torch.utils.data import Dataset, Sampler

from lmrl.text.tokens import TokenTrajectory


class Rows(Dataset[list[TokenTrajectory]]):
    """Training rows, each distinct one kept once.

    Row `i` is the one that occurs there in the data; equal rows share one object, which lets `collate` merge them.
    """

    def __init__(self, rows: Sequence[TokenTrajectory]) -> None:
        distinct: dict[bytes, TokenTrajectory] = {}
        self._rows = [distinct.setdefault(row.key, row) for row in rows]
        self.distinct = len(distinct)

    def __len__(self) -> int:
        """Return how many rows the data has, repetitions included."""
        return len(self._rows)

    def __getitem__(self, indices: Sequence[int]) -> list[TokenTrajectory]:
        """Return the rows of a batch."""
        return [self._rows[index] for index in indices]

    @property
    def token_lengths(self) -> Int[np.ndarray, " R"]:
        """Tokens of each row."""
        return np.asarray([len(row.tokens) for row in self._rows])


class EpochSampler(Sampler[list[int]]):
    """Yield the batches of one epoch: a fixed number of them, without replacement as long as the data lasts.

    Rows of similar length go into the same batch (within pools of several batches), so that little is padded.

    Args:
        lengths: tokens of each row.
        batch_size: rows per batch on each process.
        batches: batches per epoch.
        seed: seed of the run.
        rank: this process.
        world_size: number of processes; they get different rows.
        pool: how many batches are sorted by length together; 1 switches it off.
    """

    def __init__(
        self,
        lengths: Int[np.ndarray, " R"],
        *,
        batch_size: int,
        batches: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        pool: int = 16,
    ) -> None:
        self._lengths, self._batch_size, self._batches = lengths, batch_size, batches
        self._seed, self._rank, self._world_size, self._pool = seed, rank, world_size, max(1, pool)
        self.epoch = 0

    @property
    def rows(self) -> int:
        """How many rows it draws from."""
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (Lightning calls this when it starts or resumes one)."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        """Yield row indices, batch by batch."""
        generator = np.random.default_rng((self._seed, self.epoch))  # the same on all ranks: they share one order
        size = self._batch_size * self._world_size
        needed = size * self._batches
        order = np.concatenate(
            [generator.permutation(len(self._lengths)) for _ in range(-(-needed // len(self._lengths)))]
        )[:needed]
        if self._lengths.min() != self._lengths.max():
            order = self._bucketed(order, generator, size)
        for batch in order.reshape(self._batches, self._world_size, self._batch_size):
            yield batch[self._rank].tolist()

    def _bucketed(self, order: Int[np.ndarray, " R"], generator: np.random.Generator, size: int) -> np.ndarray:
        """Sort each pool of batches by length, then shuffle its batches."""
        pools = []
        for start in range(0, len(order), size * self._pool):
            part = order[start : start + size * self._pool]
            part = part[np.argsort(self._lengths[part], kind="stable")].reshape(-1, size)
            pools.append(generator.permutation(part).reshape(-1))
        return np.concatenate(pools)


class Mixed(Sampler[list[int]]):
    """Join the batches of several samplers, each of which draws from its own part of the rows.

    Args:
        parts: the samplers; their rows stand one part behind the other.
    """

    def __init__(self, parts: Sequence[EpochSampler]) -> None:
        self._parts = parts

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of all parts."""
        for part in self._parts:
            part.set_epoch(epoch)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return min(map(len, self._parts))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield row indices, batch by batch."""
        offsets = [sum(part.rows for part in self._parts[:index]) for index in range(len(self._parts))]
        for batches in zip(*self._parts, strict=True):
            yield [offset + index for offset, batch in zip(offsets, batches, strict=True) for index in batch]
