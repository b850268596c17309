"""The end of a sweep: one table, and an exit status that says whether every job is finished."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Ending(Callback):
    """Prints the tables when a sweep of whatever sweeper is over."""

    def on_multirun_end(self, config: DictConfig, **unused: Any) -> None:  # noqa: ARG002
        """Print, and end the program with status 1 if a job is not finished."""
        from lmrl.sweeps.launch import Sweep

        if (sweep := Sweep.current) is not None:
            sweep.show()
            if not sweep.is_finished:
                raise SystemExit(1)
