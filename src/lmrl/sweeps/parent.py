"""The run of the sweep itself in MLflow: its jobs' runs are sorted under it, and it holds their table."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmrl.config.checks import ConfigError
from lmrl.runs.provenance import git_commit
from lmrl.sweeps.jobs import Job
from lmrl.sweeps.tables import best, counts, labels_of, markdown
from lmrl.tracking.store import PARENT, Store, adopt

MIXED = "lmrl/sweeps"
"""The experiment of sweeps over several tasks."""


class Parent:
    """A sweep that is recorded in its own folder only."""

    environment: Mapping[str, str] = {}
    """Variables for the jobs' processes."""
    places: Mapping[str, str] = {}
    """Where the sweep is recorded, by kind of record."""

    def begin(self, jobs: Sequence[Job]) -> None:
        """Begin, or continue."""

    def record(self, jobs: Sequence[Job]) -> None:
        """Record the state of the jobs."""

    def end(self, jobs: Sequence[Job]) -> None:
        """End for now, with the status that the jobs deserve."""


class MLflowParent(Parent):
    """A sweep that is a run in MLflow, the same one for the same sweep.

    Args:
        store: where runs are kept.
        name: the sweep's name.
        digest: identifies the sweep.
        command: the command as typed.
        folder: the sweep's folder.
    """

    def __init__(self, store: Store, name: str, digest: str, command: str, folder: Path) -> None:
        self._store, self._name, self._digest = store, name, digest
        self._command, self._folder = command, folder
        self._client: Any = None
        self._run_id = ""
        self._adopted: set[Path] = set()

    def begin(self, jobs: Sequence[Job]) -> None:
        """Create the run, and with it the database before any job needs it; or open the one of an earlier call."""
        from mlflow.exceptions import MlflowException

        try:
            self._begin(jobs)
        except MlflowException as error:
            raise ConfigError(f"tracking: {str(error).splitlines()[0]}") from error
        self.record(jobs)

    def _begin(self, jobs: Sequence[Job]) -> None:
        if not self._run_id:
            tasks = {job.runs.task for job in jobs if job.runs is not None}
            self._client, experiment = self._store.open(f"lmrl/{tasks.pop()}" if len(tasks) == 1 else MIXED)
            query = f"tags.sweep_id = '{self._digest[:12]}'"
            found = self._client.search_runs([experiment], query, max_results=1)
            self._run_id = found[0].info.run_id if found else self._create(experiment)
            self.environment = {PARENT: self._run_id}
            self.places = self._store.pages(experiment, self._run_id)
        self._client.update_run(self._run_id, status="RUNNING")

    def record(self, jobs: Sequence[Job]) -> None:
        """Log the table, the counts and the best job of each task; a server that is away must not stop the jobs."""
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):
            self._record(jobs)

    def _record(self, jobs: Sequence[Job]) -> None:
        client, run_id = self._client, self._run_id
        for job in jobs:
            self._adopt(job)
        text = markdown(jobs)
        client.set_tag(run_id, "mlflow.note.content", text)
        client.log_text(run_id, text, "jobs.md")
        found = counts(jobs)
        for status in ("finished", "failed", "interrupted", "waiting"):
            client.log_metric(run_id, f"jobs/{status}", found.get(status, 0))
        client.log_metric(run_id, "jobs/all", len(jobs))
        for task, job in best(jobs).items():
            client.log_metric(run_id, f"best/{task}/return_mean", job.return_mean)
            client.set_tag(run_id, f"best.{task}", f"{labels_of(job, jobs)} ({job.key})")

    def end(self, jobs: Sequence[Job]) -> None:
        """Mark the run as finished, failed, or stopped."""
        self._record(jobs)
        found = counts(jobs)
        left = "KILLED" if found.keys() & {"interrupted", "waiting", "running"} else "FINISHED"
        self._client.set_terminated(self._run_id, "FAILED" if "failed" in found else left)

    def _create(self, experiment: str) -> str:
        commit = git_commit()
        tags = {
            "kind": "sweep",
            "sweep_id": self._digest[:12],
            "command": self._command,
            "output_folder": str(self._folder.resolve()),
            "mlflow.source.name": "run.py",
            "mlflow.source.type": "LOCAL",
            **({} if commit is None else {"mlflow.source.git.commit": commit.removesuffix("-dirty")}),
        }
        return self._client.create_run(experiment, tags=tags, run_name=f"sweep {self._name}").info.run_id

    def _adopt(self, job: Job) -> None:
        """Sort a run under this one that was made before the sweep."""
        note = None if job.folder is None else job.folder / "mlflow.json"
        if note is None or note in self._adopted or not note.exists():
            return
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["tracking_uri"] == self._store.tracking_uri:
            from mlflow.exceptions import MlflowException

            with contextlib.suppress(MlflowException):  # somebody may have deleted it
                adopt(self._client, known["run_id"], self._run_id)
        self._adopted.add(note)


def parent_of(tracking: Mapping[str, Any], *, name: str, digest: str, command: str, folder: Path) -> Parent:
    """Return where a sweep is recorded: a run in MLflow if its jobs are recorded there, else its folder alone.

    Args:
        tracking: the configuration of tracking.
        name: the sweep's name.
        digest: identifies the sweep.
        command: the command as typed.
        folder: the sweep's folder.
    """
    if not tracking.get("tracking_uri"):
        return Parent()
    store = Store.named(str(tracking["tracking_uri"]), str(tracking.get("artifacts", "mlartifacts")))
    return MLflowParent(store, name, digest, command, folder)
