"""A whole sweep: the jobs of a command, their runs, and one table of results."""

import atexit
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from lmrl.config.checks import ConfigError, check_config, explain_failure
from lmrl.runs.folders import RunFolders, config_hash, run_name
from lmrl.sweeps.jobs import Command, Job, group_of
from lmrl.sweeps.parent import Parent, parent_of
from lmrl.sweeps.places import Place, Schedule
from lmrl.sweeps.screen import SweepScreen
from lmrl.sweeps.state import SweepFolder, sweep_digest
from lmrl.sweeps.tables import markdown, print_tables, short, state_counts
from lmrl.system.files import write_text

PASSED = ("hydra.searchpath",)
"""Overrides of Hydra's own that a job gets too; the others are about the sweep."""
WIDTH = 140
"""Columns of tables that go to a file."""


class SweepFailed(Exception):
    """A job has no result, for sweepers that ask for one."""


class Sweep:
    """The jobs of one command; sweepers may hand them over in several batches.

    Args:
        cfg: the configuration of the command, with Hydra's own part.
        compose: returns the configuration of a job from its overrides.
    """

    current: ClassVar["Sweep | None"] = None
    """The sweep of this program."""

    def __init__(self, cfg: DictConfig, compose: Callable[[list[str]], DictConfig]) -> None:
        self._cfg, self._compose = cfg, compose
        overrides = list(cfg.hydra.overrides.task)
        self._digest = sweep_digest(overrides, _plain(cfg.hydra.sweeper))
        chosen = cfg.hydra.runtime.choices.get("sweeps") or "grid"
        name = f"{chosen}-{self._digest[:6]}"
        self.folder = SweepFolder(Path(str(cfg.hydra.sweep.dir)).expanduser(), name)
        self.jobs: list[Job] = []
        self._console = Console()
        if not self._console.is_terminal:
            self._console.width = WIDTH
        self._place: Place = _place(cfg, self.folder.path)
        Sweep.current = self
        self._shown = False
        atexit.register(self.show)  # also if the sweeper itself fails
        command = shlex.join(["python", *sys.argv])
        self._parent: Parent = parent_of(
            _plain(cfg.tracking), name=name, digest=self._digest, command=command, folder=self.folder.path
        )

    def launch(self, batch: Sequence[Sequence[str]]) -> list[Job]:
        """Run the unfinished jobs of a batch, and return all its jobs in order; equal configurations are one job.

        Raises:
            SystemExit: somebody stopped the sweep.
        """
        known = {job.key: job for job in self.jobs}
        wanted, new = [], []
        for overrides in batch:
            job = self._job(len(known), overrides)
            if job.key not in known:
                known[job.key] = job
                new.append(job)
            wanted.append(known[job.key])
        self.jobs += new
        self._announce(new)
        self._parent.begin(self.jobs)
        for job in new:
            if job.command is not None:
                job.command = _with_environment(job.command, self._parent)
        with SweepScreen(self.jobs, self._console) as screen:
            stopped_by = Schedule(self._place, screen, self._record).run(new)
        self._record()
        self._parent.end(self.jobs)
        if stopped_by:
            self.show()
            raise SystemExit(128 + stopped_by)
        return wanted

    def show(self) -> None:
        """Print the tables that end a sweep, and where everything is; once."""
        if self._shown or not self.jobs:
            return
        self._shown = True
        print_tables(self.folder.name, self.jobs, self._console)
        places = {"sweep": short(self.folder.path)} | dict(self._parent.places)
        width = max(map(len, places))
        for name, place in places.items():
            self._console.print(f"[dim]{name:<{width}}[/]  {place}", soft_wrap=True, highlight=False)
        if any(job.status != "finished" for job in self.jobs):
            self._console.print("run the same command again for the unfinished jobs", soft_wrap=True)

    @property
    def is_finished(self) -> bool:
        """Tell whether all jobs so far are finished."""
        return all(job.status == "finished" for job in self.jobs)

    def _job(self, number: int, overrides: Sequence[str]) -> Job:
        """Compose a job's configuration, and find its state from an earlier call."""
        given = tuple(override for override in overrides if group_of(override) not in ("resume", "hydra"))
        fixed = set(self._cfg.hydra.overrides.task)
        job = Job(number, given, tuple(override for override in given if override not in fixed))
        try:
            job.config, runs = _identify(self._compose(list(overrides)))
        except (ConfigError, HydraException, OmegaConfBaseException) as error:
            job.status, job.reason = "failed", " ".join(explain_failure(error).split())
            return job
        log = self.folder.logs / f"{runs.name}.log"
        job.command = Command(sys.argv[0], (*_options(self._cfg), *given, "hydra.mode=RUN"), runs, log, {})
        self.folder.recall(job)
        job.refresh()
        return job

    def _announce(self, new: Sequence[Job]) -> None:
        """Print the number of jobs, and those that are impossible."""
        if len(new) == len(self.jobs):  # no later batch of a search
            where = f"{self._place.describe(self._cfg.hardware.threads)}, in {short(self.folder.path)}"
            self._console.print(
                f"sweep {self.folder.name}: {state_counts(new)}; {where}", soft_wrap=True, highlight=False
            )
        screen = SweepScreen(self.jobs, self._console)
        for job in (job for job in new if job.is_finished_or_impossible):
            screen.finished(job)

    def _record(self) -> None:
        """Keep how the jobs stand, in the folder and in MLflow."""
        self.folder.write(self.jobs)
        write_text(markdown(self.jobs), self.folder.path / "jobs.md")
        self._parent.record(self.jobs)


def _identify(composed: DictConfig) -> tuple[DictConfig, RunFolders]:
    """Return a job's checked configuration as its process will see it, and the folders of its run."""
    hydra_config = HydraConfig.instance()
    before, hydra_config.cfg = hydra_config.cfg, None
    try:
        hydra_config.set_config(composed)  # the configuration may refer to Hydra's choices
        cfg = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        check_config(cfg)
        config: Any = OmegaConf.to_container(cfg, resolve=True)
    finally:
        hydra_config.cfg = before
    task, algo = (str(composed.hydra.runtime.choices[group]) for group in ("task", "algo"))
    name = run_name(task, algo, cfg.seed, config_hash(config))
    return cfg, RunFolders(Path(cfg.runs_dir), task, algo, name)


def _options(cfg: DictConfig) -> list[str]:
    """Return a job's options about the place of the configuration."""
    hydra = cfg.hydra
    given = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    folders = [part for path in given for part in ("--config-dir", path)]
    name = [] if hydra.job.config_name in (None, "config") else ["--config-name", hydra.job.config_name]
    return [*folders, *name, *(override for override in hydra.overrides.hydra if override.startswith(PASSED))]


def _place(cfg: DictConfig, folder: Path) -> Place:
    """Build the place that the configuration names."""
    try:
        place = instantiate(cfg.launcher)
    except Exception as error:
        raise ConfigError(f"launcher: {explain_failure(error)}") from error
    if not isinstance(place, Place):
        raise ConfigError(f"launcher: {type(place).__name__} is not a place for jobs (lmrl.sweeps.places.Place)")
    place.open(folder)
    return place


def _with_environment(command: Command, parent: Parent) -> Command:
    return Command(command.script, command.arguments, command.runs, command.log, parent.environment)


def _plain(node: Any) -> dict[str, Any]:
    """Return a part of the configuration in plain containers."""
    plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return dict(plain or {})
