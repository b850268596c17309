"""Show the progress of training: one line per stage, with speed and the newest numbers."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress(pl.Callback):
    """A progress bar over all optimizer steps of a stage; in a log file, one line per epoch instead.

    Args:
        name: the name of the stage, for people.
        steps: optimizer steps of the whole stage.
    """

    def __init__(self, *, name: str, steps: int) -> None:
        self._name, self._steps = name, steps
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._began = 0.0
        self.seconds = 0.0
        """Wall-clock time of training so far; a resumed stage continues to count from its checkpoint."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Begin the line."""
        self._began = time.perf_counter() - self.seconds
        if not trainer.is_global_zero or not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"), console=self._console,
        )  # fmt: skip
        self._bar.add_task(self._name, total=self._steps, completed=trainer.global_step, numbers="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any, **unused_too: Any) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move the bar."""
        self.seconds = time.perf_counter() - self._began
        if self._bar is not None and trainer.global_step % 10 == 0:
            self._bar.update(self._bar.task_ids[0], completed=trainer.global_step, numbers=_numbers(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Write a line if there is no bar."""
        self.seconds = time.perf_counter() - self._began
        if trainer.is_global_zero and self._bar is None:
            step = f"{trainer.global_step}/{self._steps}"
            self._console.print(f"{self._name} {step} ({self.seconds:.0f} s) {_numbers(trainer)}", highlight=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """End the line."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Give the terminal back before an error is shown."""
        self._stop()

    def state_dict(self) -> dict[str, Any]:
        """Keep the time in checkpoints."""
        return {"seconds": time.perf_counter() - self._began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue to count from a checkpoint."""
        self.seconds = float(state_dict["seconds"])

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _numbers(trainer: pl.Trainer) -> str:
    """Return the newest loss and evaluation, briefly."""
    shown = {"train/loss": "loss", "validation/return_mean": "return", "validation/score": "score"}
    metrics = trainer.callback_metrics
    return "  ".join(f"{short} {float(metrics[key]):.3g}" for key, short in shown.items() if key in metrics)
