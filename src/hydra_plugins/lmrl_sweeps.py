"""Hydra's side of sweeps: Hydra finds launchers and sweepers in this package only; `lmrl.sweeps` does their work."""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class Result(JobReturn):
    """The return of a job; for a failed job, reading it raises the reason, and nothing is printed."""

    @property
    def return_value(self) -> Any:
        """The mean return."""
        if self.status is JobStatus.FAILED:
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


class JobLauncher(Launcher):
    """Runs each job as a process of its own, in the place that the group `launcher` names."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        """Open the sweep: its folder, its place, its record."""
        from lmrl.config.checks import ConfigError
        from lmrl.sweeps.launch import Sweep

        def compose(overrides: list[str]) -> DictConfig:
            return hydra_context.config_loader.load_sweep_config(config, overrides)

        try:
            self.sweep = Sweep(config, compose)
        except (ConfigError, ValueError) as error:
            sys.exit(f"error: {error}")
        with open_dict(config):
            config.hydra.sweep.dir = str(self.sweep.folder.path)  # a sweeper's files belong to the sweep

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        """Run jobs, and return their returns; a sweeper that asks for the result of a failed job gets an error."""
        from lmrl.config.checks import ConfigError
        from lmrl.sweeps.launch import SweepFailed

        try:
            jobs = self.sweep.launch(job_overrides)
        except ConfigError as error:
            sys.exit(f"error: {error}")
        returns = []
        for job, overrides in zip(jobs, job_overrides, strict=True):
            result = Result(overrides=list(overrides), cfg=job.config, status=JobStatus.COMPLETED)
            result.return_value = job.return_mean
            if job.status != "finished":
                result.status, result.return_value = JobStatus.FAILED, SweepFailed(job.reason)
            returns.append(result)
        return returns


class GridSweeper(Sweeper):
    """All combinations of comma-separated values, also if some of them are impossible: those are jobs that fail.

    Args:
        params: values by key, as `hydra.sweeper.params` of a file has them; the command line goes before them.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self._params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Build the launcher."""
        from hydra.core.plugins import Plugins

        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run all combinations."""
        assert self.launcher is not None
        assert self.config is not None
        OmegaConf.save(self.config, Path(self.config.hydra.sweep.dir) / "multirun.yaml")
        return self.launcher.launch(self._combinations(arguments), initial_job_idx=0)

    def _combinations(self, arguments: Sequence[str]) -> list[list[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        choices: dict[str, list[str]] = {}
        for override in parser.parse_overrides(
            [*(f"{key}={value}" for key, value in self._params.items()), *arguments]
        ):
            key = override.get_key_element()
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise CompactHydraException(
                    f"{key}: a grid cannot contain an interval: list values, or use sweeps=search"
                )
            values = override.sweep_string_iterator() if override.is_sweep_override() else None
            choices[key] = [override.input_line or key] if values is None else [f"{key}={value}" for value in values]
        return [list(combination) for combination in itertools.product(*choices.values())]
