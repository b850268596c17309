"""A sweep's folder: the state of its jobs between two calls of the same command."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lmrl.config.checks import ConfigError
from lmrl.sweeps.jobs import Job, has_effect
from lmrl.system.files import write_text

EXTENT = ("n_trials", "n_jobs", "max_batch_size", "max_failure_rate")
"""How far a sweeper goes: a longer search goes on with the shorter one."""


def sweep_digest(overrides: Sequence[str], sweeper: Mapping[str, Any]) -> str:
    """Return a digest of the values that a command varies and fixes, in any order.

    Args:
        overrides: the command's overrides.
        sweeper: the sweeper's configuration.
    """
    values = sorted(override for override in overrides if has_effect(override))
    how = {key: value for key, value in sweeper.items() if key not in EXTENT}
    return hashlib.sha256(json.dumps([values, how], sort_keys=True, default=str).encode()).hexdigest()


class SweepFolder:
    """A sweep's folder, which belongs to one program at a time.

    Args:
        place: the folder of all sweeps.
        name: the sweep's name; the same command has the same.

    Raises:
        ConfigError: the same sweep is running.
    """

    def __init__(self, place: Path, name: str) -> None:
        found = sorted(place.glob(f"????-??-??_??-??-??_{name}")) if place.is_dir() else []
        self.path = found[-1] if found else place / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}"
        self.path.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._lock = FileLock(self.path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(f"this sweep is running already, in another program: {self.path}") from error

    @property
    def logs(self) -> Path:
        """Where the output of jobs goes."""
        return self.path / "logs"

    def recall(self, job: Job) -> None:
        """Restore a job's time and ticket from the last call, which its run folder does not contain."""
        known = self._read().get(job.key)
        if known is not None:
            job.seconds, job.ticket = known["seconds"], known["ticket"]

    def write(self, jobs: Sequence[Job]) -> None:
        """Record the state of the jobs, together with other jobs of earlier calls."""
        kept = self._read() | {job.key: record(job) for job in jobs}
        write_text(json.dumps({"name": self.name, "jobs": kept}, indent=2) + "\n", self.path / "sweep.json")

    def _read(self) -> dict[str, Any]:
        path = self.path / "sweep.json"
        return json.loads(path.read_text(encoding="utf-8"))["jobs"] if path.exists() else {}


def record(job: Job) -> dict[str, Any]:
    """Return how a job stands, in JSON's types."""
    return {
        "number": job.number,
        "overrides": list(job.overrides),
        "status": job.status,
        "reason": job.reason,
        "return": job.return_mean,
        "score": job.score,
        "seconds": job.seconds,
        "folder": None if job.folder is None else str(job.folder),
        "ticket": job.ticket,
    }
