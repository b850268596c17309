"""Runs in MLflow: metrics, configuration, data, files, and every episode as a conversation to read."""

import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from pytorch_lightning.loggers import Logger, MLFlowLogger

from lmrl.evaluation import Evaluation
from lmrl.rollout import Start
from lmrl.summary import Status, git_commit, messages, write_json
from lmrl.text.trajectory import Trajectory, view
from lmrl.tracking.core import RunIdentity, Tracker

SQLITE = "sqlite:///"
LONGEST_VALUE = 250
"""Lightning and older servers cut parameters here; what is longer is only in the configuration file."""
ENVIRONMENT = {
    # Nothing about a run may leave the machine unasked.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Writing an episode's spans in few transactions halves the time that traces cost.
    "MLFLOW_ASYNC_TRACE_LOGGING_MAX_SPAN_BATCH_SIZE": "512",
}
"""What MLflow reads when it is imported, unless the user has set it."""
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class RunLogger(MLFlowLogger):
    """Lightning's MLflow logger for a run whose beginning and end, parameters and status belong to the tracker."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignore modules' hyper-parameters: the tracker has logged the configuration."""

    def finalize(self, status: str = "success") -> None:
        """Leave the run open at the end of training: the final evaluation still follows."""


class MLflowTracker(Tracker):
    """Record runs in MLflow, by default in a file beside the run folders that `mlflow ui` reads.

    Args:
        tracking_uri: where MLflow keeps runs: an SQLite file (relative to the working directory), or a server.
        artifacts: the folder of artifacts, for SQLite; a server has its own.
        max_traces: record at most so many episodes of each evaluation as traces, spread evenly over the starts.
        tags: further tags, such as `mlflow.parentRunId` to sort the run under a sweep's.
    """

    def __init__(
        self,
        *,
        tracking_uri: str = "sqlite:///mlflow.db",
        artifacts: str = "mlartifacts",
        max_traces: int = 50,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if max_traces < 0:
            raise ValueError(f"max_traces must not be negative, got {max_traces}")
        if tracking_uri.startswith("file:") or "://" not in tracking_uri:
            raise ValueError(f"MLflow no longer keeps runs in plain folders; use sqlite:///FILE, not {tracking_uri!r}")
        is_sqlite = tracking_uri.startswith(SQLITE)
        database = Path(tracking_uri.removeprefix(SQLITE)).resolve()
        self.tracking_uri = f"{SQLITE}{database}" if is_sqlite else tracking_uri
        self.max_traces = max_traces
        self.run_id: str | None = None
        """MLflow's name of the run. `None`: no run has begun."""
        self._artifacts = Path(artifacts).resolve() if is_sqlite else None
        self._tags = dict(tags or {})
        self._client: Any = None
        self._source: Any = None
        self._logger: RunLogger | None = None
        self._experiment_id = ""
        self._identity: RunIdentity | None = None

    @property
    def loggers(self) -> list[Logger]:
        """The loggers that Lightning's trainer writes training metrics to."""
        return [*super().loggers, *([] if self._logger is None else [self._logger])]

    @property
    def place(self) -> str | None:
        """What to type, and what to open then, to see the run."""
        if self.run_id is None:
            return None
        page = f"/#/experiments/{self._experiment_id}/runs/{self.run_id}?workflowType=machine_learning"
        if self._artifacts is None:
            return self.tracking_uri.rstrip("/") + page
        database = Path(self.tracking_uri.removeprefix(SQLITE))
        shown = database.relative_to(Path.cwd()) if database.is_relative_to(Path.cwd()) else database
        return f"mlflow ui --workers 1 --backend-store-uri {SQLITE}{shown} and open http://localhost:5000{page}"

    def start(self, identity: RunIdentity, config: Mapping[str, Any], folder: Path, resume: bool) -> None:
        """Create the run, or open again the one whose id the folder keeps in `mlflow.json`."""
        with _quiet():
            # The first process creates the database; others that start at the same time would break it.
            if self._artifacts is not None:
                self._artifacts.mkdir(parents=True, exist_ok=True)
                with FileLock(self._artifacts / ".database.lock"):
                    self._open(f"lmrl/{identity.task}")
            else:
                self._open(f"lmrl/{identity.task}")
        self._identity = identity
        note = folder / "mlflow.json"
        self.run_id = self._previous(note) if resume else None
        if self.run_id is None:
            tags = {**_tags(identity, folder), **self._tags}
            self.run_id = self._client.create_run(self._experiment_id, tags=tags, run_name=identity.name).info.run_id
        else:
            self._client.update_run(self.run_id, status="RUNNING")
        where = {"tracking_uri": self.tracking_uri, "experiment": f"lmrl/{identity.task}", "run_id": self.run_id}
        write_json(where, note)
        self._logger = RunLogger(tracking_uri=self.tracking_uri, run_id=self.run_id)
        self._log_config(config)

    def log_dataset(self, rows: Any, *, name: str, fingerprint: str, source: str | Path | None = None) -> None:
        """Record the Hugging Face dataset that is learned from as an input of the run."""
        from mlflow import entities
        from mlflow.data.huggingface_dataset import from_huggingface

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow guesses at columns that it cannot describe, aloud
            described = from_huggingface(
                rows, name=name, digest=fingerprint[:12], source=None if source is None else str(source)
            ).to_dict()
        context = entities.InputTag("mlflow.data.context", "training")
        self._client.log_inputs(self.run_id, [entities.DatasetInput(entities.Dataset(**described), [context])])

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file with the run, in a folder of its artifacts."""
        self._client.log_artifact(self.run_id, str(path), folder or None)

    def log_evaluation(self, evaluation: Evaluation, *, memory: int | None, name: str = "final") -> None:
        """Record episodes as traces: one conversation each, one span per action with what the policy saw.

        Args:
            evaluation: the episodes; at most `max_traces` of them are recorded.
            memory: how many of the last turns the policy was shown; `None` for all.
            name: what the episodes are for; a session of traces has this name after the run's.
        """
        import mlflow

        episodes = list(zip(evaluation.starts, evaluation.trajectories, strict=True))
        count = min(self.max_traces, len(episodes))
        session = f"{self._identity.name} {name}" if self._identity else name
        mlflow.set_tracking_uri(self.tracking_uri)
        for index in (i * len(episodes) // count for i in range(count)):
            self._log_trace(index, *episodes[index], memory, session)
        mlflow.flush_trace_async_logging()

    def log_note(self, markdown: str) -> None:
        """Describe the run for people; MLflow shows it above the numbers."""
        self._client.set_tag(self.run_id, "mlflow.note.content", markdown)

    def finish(self, status: Status) -> None:
        """End the run in MLflow with the status that it deserves."""
        ended = self.status is not None
        super().finish(status)
        if not ended and self.status is not None:
            self._client.set_tag(self.run_id, "status", self.status)
            self._client.set_terminated(self.run_id, STATUS[self.status])

    def _open(self, experiment: str) -> None:
        """Connect, and find or create the experiment."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import AssessmentSource
        from mlflow.tracking import MlflowClient

        # It would announce at the end of the program that it flushes what has been flushed.
        logging.getLogger("mlflow.tracing.export.async_export_queue").setLevel(logging.WARNING)
        self._source = AssessmentSource("CODE", "lmrl")

        self._client = MlflowClient(self.tracking_uri)
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            place = None if self._artifacts is None else (self._artifacts / experiment).as_uri()
            self._experiment_id = self._client.create_experiment(experiment, artifact_location=place)
            # Sorts the experiment under the interface's "Model training" and not under its tools for chat applications.
            self._client.set_experiment_tag(self._experiment_id, "mlflow.experimentKind", "custom_model_development")
            return
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        self._experiment_id = found.experiment_id

    def _previous(self, note: Path) -> str | None:
        """Return the id of the run that the folder began, if MLflow still has it."""
        from mlflow.exceptions import MlflowException

        if not note.exists():
            return None
        run_id = str(json.loads(note.read_text(encoding="utf-8"))["run_id"])
        try:
            known = self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException:
            known = False
        return run_id if known else None

    def _log_config(self, config: Mapping[str, Any]) -> None:
        """Log the configuration: whole as a file, its scalars as parameters (which never change once logged)."""
        from mlflow.entities import Param

        self._client.log_text(self.run_id, yaml.safe_dump(dict(config), sort_keys=False), "config.yaml")
        parameters = dict(flatten(config))
        known = self._client.get_run(self.run_id).data.params
        drift = {name: value for name, value in parameters.items() if known.get(name, value) != value}
        if drift:
            self._client.set_tag(self.run_id, "changed_at_resume", json.dumps(drift)[:LONGEST_VALUE])
        new = [Param(name, value) for name, value in parameters.items() if name not in known]
        for first in range(0, len(new), 100):  # the most that one call takes
            self._client.log_batch(self.run_id, params=new[first : first + 100])

    def _log_trace(self, index: int, start: Start, trajectory: Trajectory, memory: int | None, session: str) -> None:
        """Record one episode as a trace; its times are those of recording, for episodes are played side by side."""
        import mlflow
        from mlflow.entities.trace_location import MlflowExperimentLocation

        chat = messages(trajectory)
        success, total, turns = bool(trajectory.info.get("success", False)), trajectory.total_reward, trajectory.length
        outcome = f"return {total:g}, {'success' if success else 'no success'}, {turns} turns"
        where = ", ".join(f"{key} {value}" for key, value in start.options.items()) or f"seed {start.seed}"
        with mlflow.start_span(
            f"episode {index}: {outcome}",
            span_type="AGENT",
            attributes={"seed": start.seed, "start": str(dict(start.options)), "return": total},
            trace_destination=MlflowExperimentLocation(self._experiment_id),
            run_id=self.run_id,
        ) as root:
            mlflow.update_current_trace(
                tags={"return": f"{total:g}", "success": str(success).lower(), "turns": str(turns)},
                session_id=session,
                request_preview=where,
                response_preview=f"{outcome} … {chat[-1]['content'].strip()}",
            )
            root.set_inputs({"messages": chat[:1]})
            for position, turn in enumerate(trajectory.turns):
                if turn.is_action:
                    shown = view(trajectory.turns[:position], memory)
                    said = {"reward": turn.reward, "tokens": turn.tokens, "log_probs": turn.log_probs}
                    with mlflow.start_span(turn.text.strip() or "(nothing)", "CHAT_MODEL", said) as span:
                        span.set_inputs({"messages": chat[position - len(shown) : position]})
                        span.set_outputs({"messages": chat[position : position + 1]})
            root.set_outputs({"messages": chat[1:], "return": total})
            for name, value in (("return", total), ("success", success)):
                mlflow.log_feedback(trace_id=root.trace_id, name=name, value=value, source=self._source)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the scalars of a nested configuration with dotted names, without Hydra's own keys and long values."""
    for key, value in config.items():
        name = re.sub(r"[^\w.\-/ ]", "_", f"{prefix}{key}")
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            if len(text) < LONGEST_VALUE:
                yield name, text


def _tags(identity: RunIdentity, folder: Path) -> dict[str, str]:
    """Return what a run can be searched by."""
    commit = git_commit()
    return {
        "task": identity.task,
        "algo": identity.algo,
        "model": identity.model,
        "seed": str(identity.seed),
        "config_hash": identity.config_hash[:12],
        "env_version": identity.env_version,
        "dataset": identity.dataset_fingerprint[:12],
        "output_folder": str(folder.resolve()),
        "mlflow.user": os.environ.get("USER", ""),
        "mlflow.source.name": "run.py",
        "mlflow.source.type": "LOCAL",
        **({} if commit is None else {"mlflow.source.git.commit": commit.removesuffix("-dirty")}),
        **({} if commit is None else {"mlflow.source.git.dirty": str(commit.endswith("-dirty")).lower()}),
    }


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
