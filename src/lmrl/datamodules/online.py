"""Online data: every epoch is a round of episodes that the current policy plays, and the batches made of them."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from lmrl.config.types import Count, Positive, PositiveCount, checked
from lmrl.datamodules.replay import Replay
from lmrl.datamodules.rows import Episodes, ResumableLoader, loader, tokenize_episodes
from lmrl.datamodules.sampling import EpochSampler, Mixed, Rows
from lmrl.envs.core import TextEnv
from lmrl.models.sharding import gathered, whole
from lmrl.rollout import Start, episode_seed, rollout
from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenTrajectory
from lmrl.text.trajectory import Trajectory

ATTEMPTS = 10
"""How many times a round is played at most, where a filter keeps nothing of it."""

_PATIENCE = 10.0  # seconds of collecting before anything is said about it
_SHOWN_LONGEST = 200  # longest episodes that are tokenized, to check the length of rows

Filter = Callable[[Sequence[Trajectory]], Sequence[Trajectory]]


class OnlineDataModule(pl.LightningDataModule):
    """Plays `rollouts` episodes with the current policy at the start of each epoch, and serves them as rows.

    An epoch is a round of `steps_per_epoch` batches. The episodes of a round are a pure function of the seed, the
    round and the weights: processes play different ones and then share them, and a resumed run plays what the
    uninterrupted one would have played. Checkpoints hold the replayed episodes and the count of interactions.

    Args:
        env: makes an environment.
        trajectories: offline episodes, for `demonstrations`, and to check before training that rows fit the model.
        codec: the tokenizer.
        memory: how many last turns form a state; `None` for the whole episode.
        rollouts: episodes per round, over all processes.
        group: how many episodes of a round share a start (the environment's seed); must divide `rollouts`.
        passes: how often a round's batches go through its rows; the size of batches follows from it.
        batch_size: rows per step on each process instead. `None`: as `passes` says.
        capacity: newest episodes that rows are drawn from, older rounds' included. `None`: this round's only.
        demonstrations: offline rows added to each batch, for a loss that imitates them; their
            `extras["demonstration"]` is 1.
        steps_per_epoch: batches per round (micro-batches, where gradients are accumulated).
        seed: the run's seed.
        slots: environments played at once by each process.
        replies: whether rows end with the environment's reply.
        first_env: makes the environment of the first `first_rounds` rounds instead: a curriculum.
        first_rounds: how many rounds these are.
        filter: picks the episodes of a round to train on; `None` for all.
        window: the longest sequence that the model can read; `None` if it has no limit.
        max_new_tokens: the longest action while acting.
    """

    epochs_per_loader = 1
    """For how many epochs a round serves: Lightning asks for the next loader after one."""

    @checked
    def __init__(
        self,
        *,
        env: Callable[[], TextEnv],
        trajectories: Sequence[Trajectory],
        codec: Codec,
        memory: int | None,
        rollouts: PositiveCount,
        group: PositiveCount = 1,
        passes: Positive = 1,
        batch_size: PositiveCount | None = None,
        capacity: PositiveCount | None = None,
        demonstrations: Count = 0,
        steps_per_epoch: PositiveCount,
        seed: int,
        slots: PositiveCount = 64,
        replies: bool = False,
        first_env: Callable[[], TextEnv] | None = None,
        first_rounds: Count = 0,
        filter: Filter | None = None,
        window: int | None = None,
        max_new_tokens: int = 0,
    ) -> None:
        super().__init__()
        if rollouts % group:
            raise ValueError(f"algo.datamodule.group={group} must divide algo.datamodule.rollouts={rollouts}")
        self._env, self._codec, self._memory, self._filter = env, codec, memory, filter
        self._first_env, self._first_rounds = first_env or env, first_rounds
        self._rollouts, self._group, self._passes, self._batch_size = rollouts, group, passes, batch_size
        self._demonstrations, self._steps, self._seed, self._slots = demonstrations, steps_per_epoch, seed, slots
        self._replies, self._limits = replies, (window, max_new_tokens)
        self._offline, self._imitated = list(trajectories), None
        self._replay = Replay(capacity)
        self._round: int | None = None
        self._rows: Rows | None = None
        self._played = {"episodes": 0, "environment_steps": 0}

    @property
    def interactions(self) -> Mapping[str, int]:
        """The experience so far: `episodes` and `environment_steps`."""
        return self._played

    def episodes(self) -> Episodes:
        """Return the rows of the offline episodes, which the model must be able to read.

        Without demonstrations, only those of the longest episodes, which show whether the state fits the model.

        Raises:
            ValueError: a row is longer than the model can read.
        """
        shown = self._offline if self._demonstrations else sorted(self._offline, key=_text_length)[-_SHOWN_LONGEST:]
        return tokenize_episodes(shown, self._codec, self._memory, self._replies, *self._limits)

    def train_dataloader(self) -> DataLoader[Any]:
        """Play the round that is due, unless it has been played, and return its batches."""
        if self.trainer is None:
            raise RuntimeError("the trainer has to be attached")
        # Not `current_epoch`, which lags behind while Lightning restores a checkpoint.
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        number = progress.processed
        if number >= (self.trainer.max_epochs or math.inf):  # a resumed training that was at its end plays no more
            return ResumableLoader(Rows([]), batch_sampler=[])
        if self._round != number or self._rows is None:
            self._rows, self._round = self._collect(number), number
        return loader(self._rows, self._batches(self._rows), self._codec)

    def _collect(self, number: int) -> Rows:
        """Play a round and turn it into rows."""
        algorithm: Any = self.trainer.lightning_module if self.trainer else None
        kept: Sequence[Trajectory] = ()
        env = self.env_of_round(number)
        for attempt in range(ATTEMPTS):
            with whole(algorithm):
                played = self._play(env, algorithm.policy(), self.starts(number * ATTEMPTS + attempt))
            kept = self._filter(played) if self._filter else played
            if kept:
                break
        else:
            raise ValueError(
                f"algo.datamodule.filter keeps none of {ATTEMPTS * self._rollouts} episodes: the policy is not good "
                "enough yet; start from a better one, play more rollouts, or use a filter by rank"
            )
        episodes = tokenize_episodes(self._replay.add(kept), self._codec, self._memory, self._replies, *self._limits)
        rows = algorithm.prepare(episodes)
        self._fresh = len(rows)
        return Rows([*_marked(rows, 0.0), *self._imitation(rows)] if self._demonstrations else rows)

    def env_of_round(self, number: int) -> Callable[[], TextEnv]:
        """Return the factory of a round's environment; rounds count from 0."""
        return self._first_env if number < self._first_rounds else self._env

    def starts(self, play: int) -> list[Start]:
        """Return the starts of a play's episodes: no two plays of a run share a seed."""
        seeds = [episode_seed(self._seed, "rollout", play * self._rollouts + i) for i in range(self._rollouts)]
        return [Start(seeds[i - i % self._group], policy_seed=seeds[i]) for i in range(self._rollouts)]

    def _play(self, env: Callable[[], TextEnv], policy: Any, starts: list[Start]) -> list[Trajectory]:
        """Play this process's share, collect all shares, and count them."""
        trainer: Any = self.trainer
        rank, world = trainer.global_rank, trainer.world_size
        began = time.perf_counter()
        mine = starts[rank::world]
        progress = _Progress(len(mine)) if rank == 0 else None
        share = rollout(env, policy, mine, memory=self._memory, slots=self._slots, on_episode=progress)
        played: list[Any] = [None] * len(starts)
        for other, trajectories in enumerate(gathered(share)):
            played[other::world] = trajectories
        steps = sum(trajectory.length for trajectory in played)
        self._played["episodes"] += len(played)
        self._played["environment_steps"] += steps
        numbers = {
            "return_mean": float(np.mean([trajectory.total_reward for trajectory in played])),
            "success_rate": float(np.mean([bool(t.info.get("success", False)) for t in played])),
            "turns_per_second": steps / (time.perf_counter() - began),
            **self._played,
        }
        for logger in trainer.loggers:
            logger.log_metrics({f"collect/{name}": value for name, value in numbers.items()}, trainer.global_step)
        return played

    def _imitation(self, rows: list[TokenTrajectory]) -> list[TokenTrajectory]:
        """Return the offline rows with the same extras as the round's rows, all 0."""
        if self._imitated is None:
            self._imitated = [row for episode in self.episodes() for row in episode]
        sizes = [int(row.is_decision.sum()) for row in self._imitated]
        empty = [{name: np.zeros(n, np.float32) for name in rows[0].extras} for n in sizes]
        return _marked([replace(row, extras=e) for row, e in zip(self._imitated, empty, strict=True)], 1.0)

    def _batches(self, rows: Rows) -> Any:
        """Return the sampler of a round's batches."""
        trainer: Any = self.trainer
        common: dict[str, Any] = {
            "batches": self._steps, "seed": self._seed, "rank": trainer.global_rank, "world_size": trainer.world_size,
        }  # fmt: skip
        size = self._batch_size or max(1, round(self._fresh * self._passes / (self._steps * trainer.world_size)))
        lengths = rows.token_lengths
        drawn = EpochSampler(lengths[: self._fresh], batch_size=size, **common)
        if not self._demonstrations:
            return drawn
        return Mixed([drawn, EpochSampler(lengths[self._fresh :], batch_size=self._demonstrations, **common)])

    def state_dict(self) -> dict[str, Any]:
        """Keep the counts, and the episodes for replay, in checkpoints."""
        return {"played": dict(self._played), "replay": self._replay.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._played = dict(state_dict["played"])
        self._replay.load_state_dict(state_dict["replay"])


class _Progress:
    """Prints the progress of a slow round from time to time.

    Args:
        episodes: the number of episodes to play.
    """

    def __init__(self, episodes: int) -> None:
        self._episodes, self._played, self._began = episodes, 0, time.perf_counter()
        self._next = _PATIENCE

    def __call__(self, index: int, trajectory: Trajectory) -> None:  # noqa: ARG002 - the signature of `rollout`
        """Count a finished episode."""
        self._played += 1
        seconds = time.perf_counter() - self._began
        if seconds >= self._next:
            self._next = seconds + _PATIENCE
            print(f"collected {self._played}/{self._episodes} episodes ({seconds:.0f} s)", file=sys.stderr)


def _marked(rows: Sequence[TokenTrajectory], value: float) -> list[TokenTrajectory]:
    """Mark each decision as a demonstration (1) or not (0)."""
    return [
        replace(row, extras={**row.extras, "demonstration": np.full(int(row.is_decision.sum()), value, np.float32)})
        for row in rows
    ]


def _text_length(trajectory: Trajectory) -> int:
    return sum(len(turn.text) for turn in trajectory.turns)
