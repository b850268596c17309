"""Resume an interrupted training so that it ends with the numbers of an uninterrupted one."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from lmrl.config.checks import ConfigError
from lmrl.system import signals
from lmrl.system.files import replacing

BEST, LATEST, PREVIOUS = "best.ckpt", "latest.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint under another name and rename it, so that a crash or a full disk keeps the one before.

    The one before stays as `previous.ckpt`, in case the disk has damaged the newest. Lightning's own writer goes
    through the system's temporary folder, which may be another, smaller disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        """Write `checkpoint` to `path`.

        Raises:
            OSError: the disk is full or cannot be written; the old file at `path` is still there.
        """
        path = Path(path)
        try:
            with replacing(path, is_shared=False) as file:
                torch.save(checkpoint, file)
                if path.name == LATEST and path.exists():
                    _keep(path, path.with_name(PREVIOUS))
        except RuntimeError as error:  # torch's error for a full disk
            raise OSError(f"{path}: cannot write the checkpoint ({error})") from error


def has_checkpoint(folder: Path) -> bool:
    """Return whether a training in a folder has written a checkpoint."""
    return any(folder.glob("checkpoints/*.ckpt"))


def _keep(path: Path, other: Path) -> None:
    """Give a file a second name, without an instant at which it has none; without links, rename it."""
    other.unlink(missing_ok=True)
    try:
        other.hardlink_to(path)
    except OSError:
        path.replace(other)


def newest_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """Return the newest whole checkpoint and its number of optimizer steps; `None` if there is none.

    A damaged one is skipped, with a message.

    Args:
        folder: the folder of checkpoints.

    Raises:
        ConfigError: there are checkpoints, and all of them are damaged.
    """
    there = [folder / name for name in (LATEST, PREVIOUS) if (folder / name).exists()]
    for path in there:
        damage = _damage(path)
        if damage is None:
            return path, int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])
        print(f"{path} is damaged ({damage}); skipping it", file=sys.stderr)
    if there:
        raise ConfigError(f"every checkpoint in {folder} is damaged: delete that folder to begin the training anew")
    return None


def _damage(path: Path) -> str | None:
    """Return the damage of a checkpoint; `None` if every part of it has the checksum that it was written with."""
    try:
        with zipfile.ZipFile(path) as parts:
            broken = parts.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        return str(error)
    return None if broken is None else f"its part {broken} was changed"


def resumable(seed: int, steps: int, folder: Path, monitor: str | None) -> list[pl.Callback]:
    """Return the callbacks that a resumable training needs.

    Args:
        seed: the run's seed.
        steps: optimizer steps of the whole training.
        folder: the folder of checkpoints: `latest.ckpt`, and `best.ckpt` if there is a metric to monitor.
        monitor: the metric whose largest value marks the best. `None`: keep only the latest.
    """
    common: dict[str, Any] = {"dirpath": folder, "save_on_train_epoch_end": True, "enable_version_counter": False}
    keepers = [MovableCheckpoint(filename="latest", **common)]
    if monitor is not None:
        # A second one: with one, a metric that does not improve would leave nothing recent to resume from. It comes
        # first, because a resumed run reads the best score so far from the latest.
        keepers.insert(
            0, MovableCheckpoint(filename="best", monitor=monitor, mode="max", save_weights_only=True, **common)
        )
    return [Reseed(seed=seed), EndAtStep(steps=steps), LeaveMidway(folder=folder), *keepers]


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, which still knows the best checkpoint after its folder was moved or copied.

    Lightning stores absolute paths. In another folder it forgets the best score so far, so that the first validation
    after a resumption would replace `best.ckpt`, even with a worse result.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, with the paths of this folder."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = {key: here(value) for key, value in state_dict.items() if key.endswith("_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})


class Reseed(pl.Callback):
    """Seed torch anew at each epoch, so that a resumed epoch draws the same numbers as an uninterrupted one.

    Args:
        seed: the run's seed.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._random: torch.Tensor | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Continue the random numbers of an interrupted epoch; an epoch that begins is seeded anew."""
        if self._random is not None:
            torch.set_rng_state(self._random)

    def state_dict(self) -> dict[str, Any]:
        """Keep the state of torch's generator."""
        return {"random": torch.get_rng_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of torch's generator."""
        self._random = state_dict["random"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Derive the epoch's seed from the run's, the epoch and the rank."""
        torch.manual_seed(self._seed * 1_000_003 + trainer.current_epoch * 1_009 + trainer.global_rank)


class LeaveMidway(pl.Callback):
    """End a training that received a signal at its next optimizer step, with a checkpoint.

    A single process with fixed data can continue from the middle of an epoch. Others continue from the end of the
    epoch before: a round of episodes cannot be played again with the policy of its beginning, and the processes of
    a training do not learn of the signal at the same step.

    Args:
        folder: the folder of checkpoints.
    """

    def __init__(self, *, folder: Path) -> None:
        self._latest = folder / LATEST

    def on_train_batch_start(self, trainer: pl.Trainer, *unused: Any, **unused_too: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        """Let a signal wait until the step is done."""
        rounds: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        signals.hold(trainer.world_size == 1 and rounds == 0)

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any, **unused_too: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        """Write a checkpoint and leave, unless the epoch ends here, or numbers of this step have yet to be logged."""
        is_step = (trainer.fit_loop.epoch_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_last = trainer.should_stop or trainer.is_last_batch
        is_logged = trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if is_step and not is_last and not is_logged and (asked := signals.received()) is not None:
            trainer.save_checkpoint(self._latest)
            raise asked

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Leave before anything else is done: validation may take long."""
        signals.hold(False)
        if (asked := signals.received()) is not None:
            raise asked

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Let signals end the rest of the program at once."""
        signals.hold(False)


class EndAtStep(pl.Callback):
    """End training after a number of optimizer steps, also within an epoch.

    Lightning's own `max_steps` would make it take every resumed checkpoint for one from the middle of an epoch, and
    repeat that epoch's end.

    Args:
        steps: optimizer steps of the whole training.
    """

    def __init__(self, *, steps: int) -> None:
        self._steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any, **unused_too: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        """Ask for the end when the steps are done."""
        if trainer.global_step >= self._steps:
            trainer.should_stop = True
