"""Where MLflow keeps runs: an SQLite file, made by one process at a time, or a server. Does not depend on training."""

import base64
import json
import logging
import os
import re
import shlex
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock

from lmrl.tracking.moved import HOME_TAG, follow

SQLITE = "sqlite:///"
COMMAND = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1"
"""Starts MLflow's interface, without the processes that it starts for language models as judges."""
VIEW = "methods"
"""The name of a ready view of each experiment: `&viewStateShareKey=methods` after the experiment's address."""
_KIND = "?workflowType=machine_learning"  # else the interface shows the view for chat applications
_PASSWORD = re.compile(r":[^:@/]+@")
PARENT = "LMRL_PARENT_RUN"
"""The environment variable in which the job of a sweep finds the sweep's own run."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own tag, by which it shows runs under another one."""
NOTE_TAG = "mlflow.note.content"
"""MLflow's own tag, which it shows as the description of a run or an experiment."""
ENVIRONMENT = {
    # Nothing about a run may leave the machine unasked.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Writing an episode's spans in few transactions halves the time that traces cost.
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "512",
    # With more, one thread that writes spans and one that writes a trace both create the trace, and after ten such
    # conflicts MLflow drops the spans, with a warning (3.17.2, `SqlAlchemyStore.log_spans`).
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS": "1",
    # A server that is away is asked again by the run's outbox, which prints it; MLflow's own repetitions are silent.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Environment variables that MLflow reads when it is imported, unless the user has set them."""
_ALWAYS = {
    # Else traces get their ids from the generator that a run seeds: runs of one seed would take each other's episodes,
    # and MLflow's draws, in a thread of its own, would change the numbers that others draw.
    "MLFLOW_TRACE_USE_ISOLATED_RANDOM_ID_GENERATOR": "true",
}
"""Further variables, which replace those of the user."""


# Here and not in a function: MLflow reads them when it is imported, which every module that uses it does on its own.
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
os.environ.update(_ALWAYS)


def reader(tracking_uri: str) -> Any:
    """Return MLflow's client for a store that is only read; files of one that was moved are found where they are now.

    Raises:
        FileNotFoundError: there is no such SQLite file; MLflow would make one.
    """
    if (file := sqlite_file(tracking_uri)) is not None:
        if not file.exists():
            raise FileNotFoundError(f"there is no file {file}")
        follow(file.resolve())
        tracking_uri = sqlite_uri(
            file.resolve()
        )  # MLflow keeps connections by address, independent of the working folder
    return connect(tracking_uri)


@dataclass(frozen=True)
class Store:
    """A place of runs, as the configuration names it.

    Args:
        tracking_uri: an SQLite file with its whole path, or a server.
        artifacts: the folder of artifacts, for databases; a server has its own.
    """

    tracking_uri: str
    artifacts: Path | None

    @classmethod
    def named(cls, tracking_uri: str, artifacts: str) -> "Store":
        """Return the store of a configuration; its paths are relative to the working folder.

        Raises:
            ValueError: runs cannot be kept there.
        """
        if tracking_uri.startswith("file:") or "://" not in tracking_uri:
            raise ValueError(f"MLflow no longer keeps runs in plain folders; use sqlite:///FILE, not {tracking_uri!r}")
        if tracking_uri.startswith(("http://", "https://")):
            return cls(tracking_uri, None)
        file = sqlite_file(tracking_uri)
        return cls(tracking_uri if file is None else sqlite_uri(file.resolve()), Path(artifacts).resolve())

    def open(self, experiment: str, note: Callable[[str], str] | None = None) -> tuple[Any, str]:
        """Connect, and find or create an experiment.

        Args:
            experiment: its name.
            note: makes the experiment's description from its ID, if it has none yet.

        Returns:
            MLflow's client, and the experiment's id.
        """
        with ExitStack() as stack:
            stack.enter_context(_quiet())
            if self.artifacts is not None:
                # The first process creates the database; others that start at the same time would break it.
                self.artifacts.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(self.artifacts / ".database.lock"))
            if self._database is not None:
                follow(self._database)
            return self._open(experiment, note)

    def pages(self, experiment_id: str, run_id: str) -> dict[str, str]:
        """Return the command and the addresses that show a run and compare it with others of the task."""
        runs, kind = f"/#/experiments/{experiment_id}/runs", _KIND
        home, command = self.tracking_uri.rstrip("/"), {}
        if self.artifacts is not None:
            shown = _PASSWORD.sub(":...@", self.tracking_uri)
            if self._database is not None:
                here = self._database.is_relative_to(Path.cwd())
                shown = sqlite_uri(self._database.relative_to(Path.cwd()) if here else self._database)
            home = "http://localhost:5000"
            command = {"MLflow": f"{COMMAND} --backend-store-uri {shlex.quote(shown)}"}
        return command | {
            "this run": f"{home}{runs}/{run_id}{kind}",
            "all methods": f"{home}/{view_link(experiment_id)}",
        }

    @property
    def _database(self) -> Path | None:
        """The SQLite file. `None`: another kind of store."""
        file = sqlite_file(self.tracking_uri)
        return None if file is None else Path(unquote(str(file)))

    def _open(self, experiment: str, note: Callable[[str], str] | None) -> tuple[Any, str]:
        """Connect while no other process creates the database."""
        # It would announce a flush of its empty queue at the end of the program.
        logging.getLogger("mlflow.tracing.export.async_export_queue").setLevel(logging.WARNING)
        client = connect(self.tracking_uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            found = client.get_experiment(self._create(client, experiment))
        elif found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        # A sweep may have made the experiment, whose own run has no description of the task.
        if note is not None and NOTE_TAG not in found.tags:
            client.set_experiment_tag(found.experiment_id, NOTE_TAG, note(found.experiment_id))
        return client, found.experiment_id

    def _create(self, client: Any, experiment: str) -> str:
        """Create an experiment with its ready view, and return its id."""
        place = None if self.artifacts is None else (self.artifacts / experiment).as_uri()
        created = client.create_experiment(experiment, artifact_location=place)
        # Sorts the experiment under the interface's "Model training" and not under its tools for chat applications.
        client.set_experiment_tag(created, "mlflow.experimentKind", "custom_model_development")
        client.set_experiment_tag(created, f"mlflow.sharedViewState.{VIEW}", _methods())
        if self._database is not None:
            client.set_experiment_tag(created, HOME_TAG, str(self._database))
        return created


def view_link(experiment_id: str) -> str:
    """Return the address of an experiment's ready view, within MLflow's interface."""
    return f"#/experiments/{experiment_id}/runs{_KIND}&viewStateShareKey={VIEW}"


def sqlite_file(tracking_uri: str) -> Path | None:
    """Return the SQLite file of an address, as the address writes it. `None`: another kind of store."""
    return Path(tracking_uri.removeprefix(SQLITE)) if tracking_uri.startswith(SQLITE) else None


def sqlite_uri(database: Path) -> str:
    """Return the address of an SQLite file; SQLAlchemy takes `%` and `?` in it for something else."""
    return SQLITE + str(database).replace("%", "%25").replace("?", "%3F")


def connect(tracking_uri: str) -> Any:
    """Return MLflow's client of a store.

    Args:
        tracking_uri: as from `Store.named`.
    """
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri)
    named = sqlite_file(tracking_uri)
    if named is not None and named != Path(unquote(str(named))):
        client.search_experiments(max_results=1)
        # MLflow 3.17.2 also makes a folder of the name that only SQLAlchemy understands.
        with suppress(OSError):
            os.removedirs(named.parent)
    return client


def _methods() -> str:
    """Return a saved view of an experiment, as MLflow's interface keeps it: methods by score, means over their seeds.

    Only finished runs of the task as it is can be compared; smoke runs, changed tasks and re-evaluations are left out.
    Runs of one method with different settings are different rows.
    """
    columns = ["score", "return", "success", "score_paper"]
    keys = ("algo", "configuration")
    view = {
        "searchFilter": "tags.comparable = 'true' and attributes.status = 'FINISHED'",
        **{"startTime": "ALL", "lifecycleFilter": "Active", "modelVersionFilter": "All Runs", "datasetsFilter": []},
        **{"orderByKey": "metrics.`score`", "orderByAsc": False},
        "selectedColumns": [*(f"metrics.`{name}`" for name in columns), "tags.`changed`", "tags.`seed`"],
        "groupBy": {
            "aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": key} for key in keys]
        },
        **{"runsExpanded": {}, "runsPinned": [], "runsHidden": [], "viewMaximized": False, "runListHidden": False},
    }  # fmt: skip
    state = "deflate;" + base64.b64encode(zlib.compress(json.dumps(view).encode())).decode()
    now = int(time.time() * 1000)
    return json.dumps({"name": "Methods, best first", "createdAt": now, "updatedAt": now, "state": state})


@contextmanager
def below(run_id: str | None) -> Iterator[None]:
    """Record the runs that begin meanwhile below another one; `None`: where they would be recorded anyway."""
    before = os.environ.get(PARENT)
    if run_id is not None:
        os.environ[PARENT] = run_id
    try:
        yield
    finally:
        os.environ.pop(PARENT, None)
        if before is not None:
            os.environ[PARENT] = before


def adopt(client: Any, run_id: str, parent: str | None) -> None:
    """Sort a run under the sweep's run, unless it has its place under another sweep already."""
    if parent is not None and PARENT_TAG not in client.get_run(run_id).data.tags:
        client.set_tag(run_id, PARENT_TAG, parent)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the creation of a database from printing each of its hundred migrations."""
    loggers = [logging.getLogger(name) for name in ("alembic", "alembic.runtime.migration", "mlflow.store.db.utils")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
