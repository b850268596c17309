"""Jobs on a SLURM cluster, through submitit: one array, whose jobs go back into the queue when their time is over."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from lmrl.config.checks import ConfigError
from lmrl.sweeps import jobs
from lmrl.sweeps.jobs import Command, Job
from lmrl.sweeps.places import Attempt, Place

LOOK = 5.0
"""Seconds between two questions to the cluster about a job."""


@dataclass
class Task:
    """The cluster's job, which runs ours. Submitit pickles it, and calls `checkpoint` when time runs out."""

    command: Command
    _process: int | None = field(default=None, init=False)

    def __call__(self) -> int:
        """Run the job to its end, and return its exit status."""
        process = self.command.start()
        self._process = process.pid
        try:
            while process.poll() is None:
                time.sleep(0.2)
        except BaseException:  # this process is asked to end: so is the job
            jobs.interrupt(process.pid)
            raise
        return process.returncode

    def checkpoint(self) -> Any:
        """Let the job write its checkpoint, and return the job that continues it after another wait in the queue."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            jobs.interrupt(self._process)
            # Not through `Popen`, which this call may have interrupted in the middle.
            with contextlib.suppress(psutil.Error):
                psutil.Process(self._process).wait(timeout=None)
        return DelayedSubmission(Task(self.command))


class Submission:
    """A job in the cluster's hands."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self.ticket = str(job.job_id)
        self._looked = 0.0
        self._reason = ""

    def poll(self) -> int | None:
        """Return the exit status; `None` while the job waits or runs."""
        if time.monotonic() - self._looked < LOOK and not self._job.paths.result_pickle.exists():
            return None
        self._looked = time.monotonic()
        if not self._job.done():
            return None
        try:
            return int(self._job.result())
        except Exception as error:  # whatever ended the job's wrapper: its node, its time, the operator
            self._reason = f"{self._job.state.lower()} (see {self._job.paths.stderr}): {_last_line(str(error))}"
            return 1

    def reason(self) -> str:
        """Return how the cluster ended the job, if it did."""
        return self._reason

    def interrupt(self) -> None:
        """Ask it to end."""
        self._job.cancel()

    def kill(self) -> None:
        """Ask it to end."""
        self._job.cancel()


class Slurm(Place):
    """Run jobs on a cluster; they go on when the sweep's own program is ended, and are found again.

    Args:
        cluster: `slurm`, or `local` to try it without a cluster: processes of this machine, all at once.
        parameters: of submitit's `AutoExecutor.update_parameters`: `timeout_min`, `slurm_partition`, ...; null
            is left out.

    Raises:
        ConfigError: submitit is not installed.
    """

    def __init__(
        self, cluster: Literal["slurm", "local"] = "slurm", parameters: Mapping[str, Any] | None = None
    ) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "launcher=slurm needs submitit: uv sync --extra slurm, or pip install -e '.[slurm]'"
            ) from error
        if cluster not in ("slurm", "local"):
            raise ConfigError(f"launcher.cluster must be slurm or local, got {cluster!r}")
        self.detaches = cluster == "slurm"
        self._cluster = cluster
        self._parameters = {name: value for name, value in dict(parameters or {}).items() if value is not None}
        self._folder = Path()
        self._executor: Any = None

    def open(self, folder: Path) -> None:
        """Find the cluster, and check the parameters.

        Raises:
            ConfigError: there is no SLURM here, or a parameter is unknown.
        """
        import submitit

        self._folder = folder.resolve() / "submitit" / "%j"  # seen by all nodes, as everything that the runs write
        try:
            self._executor = submitit.AutoExecutor(folder=self._folder, cluster=self._cluster)
            self._executor.update_parameters(**self._parameters)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise ConfigError(f"launcher: {' '.join(str(error).split())}") from error

    def free(self) -> int:
        """Return how many further jobs it takes: the queue is the cluster's business."""
        return 1_000_000

    def start(self, jobs: Sequence[Job]) -> Sequence[Attempt]:
        """Submit jobs together, as one array."""
        with self._executor.batch():
            submitted = [self._executor.submit(Task(job.command)) for job in jobs if job.command is not None]
        return [Submission(job) for job in submitted]

    def attach(self, job: Job) -> Attempt | None:
        """Return a submitted job that waits or runs."""
        import submitit

        if not self.detaches:
            return None
        known = submitit.SlurmJob(folder=self._folder, job_id=job.ticket)
        return None if known.done(force_check=True) else Submission(known)

    def describe(self, threads: int | None = None) -> str:  # noqa: ARG002 - the cluster shares out its machines
        """Say who runs the jobs."""
        return "in SLURM's queue" if self.detaches else "through submitit on this machine"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
