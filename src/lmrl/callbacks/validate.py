"""Play episodes with the current policy between training epochs, and log its return and scores."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from lmrl.envs.core import TextEnv
from lmrl.evaluation import Evaluation, evaluate, evaluation_starts
from lmrl.models.sharding import gathered, whole
from lmrl.policies.core import Policy
from lmrl.policies.decoding import Decoding
from lmrl.rollout import Start
from lmrl.scores import Anchors


class Validate(pl.Callback):
    """Log `validation/...` of the policy every few training epochs, and after the last one.

    Each process plays its share of the validation starts. The episodes are gathered, so all processes log the same
    numbers and a `ModelCheckpoint` may monitor `validation/return_mean`. The starts are always the same. Their seeds
    differ from those of the reported evaluation; so do the starts where the environment has `validation_starts`.

    Args:
        make_env: builds one environment.
        memory: the number of last turns that the policy may see; `None` for all.
        anchors: the task's score anchors; without them no `validation/score` is logged.
        every_n_epochs: evaluate every this many epochs.
        repeats: the number of episodes from each start.
        episodes: at most this many of these are played, the same every time; `None`: all.
        slots: the number of environments that a process plays at once.
        seed: the run's seed.
        decoding: the decoding of the policy. `None`: as in training.
    """

    def __init__(
        self,
        *,
        make_env: Callable[[], TextEnv],
        memory: int | None,
        anchors: Anchors | None,
        every_n_epochs: int = 1,
        repeats: int = 4,
        episodes: int | None = None,
        slots: int = 64,
        seed: int = 0,
        decoding: Decoding | None = None,
    ) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("repeats", repeats), ("slots", slots)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.make_env = make_env
        self.memory = memory
        self.anchors = anchors
        self.every_n_epochs = every_n_epochs
        self.repeats = repeats
        self.episodes = episodes
        self.slots = slots
        self.seed = seed
        self.decoding = decoding
        self.latest: Evaluation | None = None
        """The newest evaluation of all processes together. `None`: there was none yet."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate if it is time, and log the results."""
        if (trainer.current_epoch + 1) % self.every_n_epochs and not _is_last_epoch(trainer):
            return
        starts = evaluation_starts(self.make_env, self.repeats, self.seed, stream="validation", limit=self.episodes)
        self.latest = self._play(pl_module, starts, trainer.global_rank, trainer.world_size)
        numbers = self.latest.summary(self.anchors)
        logged = {
            f"validation/{name}": numbers[name]
            for name in ("return_mean", "score", "own_score", "success_rate", "invalid_action_rate", "turns_mean")
            if numbers[name] is not None
        }
        logged["rollout/turns_per_second"] = self.latest.rollout["turns_per_second"]
        # The values are equal on all processes; `sync_dist` only keeps Lightning from warning.
        pl_module.log_dict(logged, on_step=False, on_epoch=True, batch_size=1, sync_dist=trainer.world_size > 1)

    def _play(self, pl_module: pl.LightningModule, starts: Sequence[Start], rank: int, world: int) -> Evaluation:
        """Play this process's share of the starts and put all shares together, in the order of the starts."""
        began = time.perf_counter()
        modes = [(module, module.training) for module in pl_module.modules()]
        pl_module.eval()
        acting: Any = pl_module
        training_decoding = getattr(acting, "decoding", None)
        acting.decoding = self.decoding or training_decoding
        try:
            with torch.no_grad(), whole(pl_module):
                share = evaluate(
                    _policy(pl_module), self.make_env, starts[rank::world], memory=self.memory, slots=self.slots
                )
        finally:
            # One by one: frozen parts stay in evaluation mode when the whole goes back to training.
            for module, was_training in modes:
                module.training = was_training
            acting.decoding = training_decoding
        played: list[Any] = [None] * len(starts)
        for other, trajectories in enumerate(gathered(share.trajectories)):
            played[other::world] = trajectories
        seconds = max(gathered(time.perf_counter() - began))
        return Evaluation(tuple(starts), tuple(played), seconds)


def _policy(pl_module: pl.LightningModule) -> Policy:
    """Return the module's policy.

    Raises:
        TypeError: the module has none.
    """
    make_policy = getattr(pl_module, "policy", None)
    if not callable(make_policy):
        raise TypeError(f"{type(pl_module).__name__} has no policy() to evaluate")
    policy = make_policy()
    if not isinstance(policy, Policy):
        raise TypeError(f"{type(pl_module).__name__}.policy() returned a {type(policy).__name__}, which cannot act")
    return policy


def _is_last_epoch(trainer: pl.Trainer) -> bool:
    """Return whether training ends with this epoch, by its number of epochs or of steps."""
    by_epochs = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
    by_steps = trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps
    return by_epochs or by_steps or trainer.should_stop
