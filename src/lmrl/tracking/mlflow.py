"""Record runs in MLflow: metrics, configuration, data, files, and episodes as conversations."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.loggers import Logger, MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from lmrl.config.types import Count, PathText, Text
from lmrl.evaluation import Evaluation
from lmrl.runs.summary import Status
from lmrl.system.files import write_json
from lmrl.tracking.core import EVALUATION, RunIdentity, Tracker
from lmrl.tracking.episodes import TraceOwner, end_tracing, log_episode
from lmrl.tracking.facts import LONGEST_VALUE, flatten, rounded, run_tags, task_note
from lmrl.tracking.outbox import Outbox
from lmrl.tracking.store import PARENT, PARENT_TAG, Store, adopt

STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
PATIENCE = 300.0
"""Seconds that the end of a run waits for an MLflow that does not answer."""
BRIEF = 5.0
"""The same for an interrupted run, which a scheduler may kill soon."""


class RunLogger(MLFlowLogger):
    """Lightning's MLflow logger for a run whose beginning and end, parameters and status belong to the tracker.

    Args:
        send: sends something in the background, so that training never waits for MLflow.
        client: MLflow's client.
        common: as for Lightning's logger, with `run_id`.
    """

    def __init__(self, send: Callable[[Callable[[], object]], None], client: Any, **common: Any) -> None:
        super().__init__(**common)
        self._send, self._sender = send, client

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send metrics with the time at which they were logged."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, rounded(value), now, step or 0) for name, value in metrics.items()]
        self._send(lambda: self._sender.log_batch(self.run_id, metrics=points))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignore modules' hyper-parameters: the tracker has logged the configuration."""

    def finalize(self, status: str = "success") -> None:
        """Leave the run open at the end of training: the reported evaluation still follows."""


class MLflowTracker(Tracker):
    """Record runs in MLflow, by default in a file that `mlflow ui` reads.

    Only the beginning of a run waits for MLflow. Everything else is sent in the background and in order, and later if a
    server is away; the end of the run waits for the rest.

    Args:
        tracking_uri: where MLflow keeps runs: an SQLite file (relative to the working directory), or a server.
        artifacts: the folder of artifacts, for SQLite; a server has its own.
        max_traces: record at most this many episodes of each evaluation as traces, spread evenly over the starts.
        tags: further tags, such as `mlflow.parentRunId` to sort the run under a sweep's.
    """

    def __init__(
        self,
        *,
        tracking_uri: Text = "sqlite:///mlflow.db",
        artifacts: PathText = "mlartifacts",
        max_traces: Count = 50,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if max_traces < 0:
            raise ValueError(f"max_traces must not be negative, got {max_traces}")
        self._store = Store.named(tracking_uri, artifacts)
        self.max_traces = max_traces
        self.run_id: str | None = None
        """MLflow's name of the run. `None`: no run has begun."""
        self._tags = dict(tags or {})
        self._client: Any = None
        self._logger: RunLogger | None = None
        self._experiment_id = ""
        self._identity: RunIdentity | None = None
        self._outbox, self._is_away = Outbox("MLflow", is_final=_is_final), False

    @property
    def loggers(self) -> list[Logger]:
        """The loggers that Lightning's trainer writes training metrics to."""
        return [*super().loggers, *([] if self._logger is None else [self._logger])]

    @property
    def location(self) -> Mapping[str, str]:
        """The command and the addresses that show the run."""
        return {} if self.run_id is None else self._store.pages(self._experiment_id, self.run_id)

    def start(self, identity: RunIdentity, config: Mapping[str, Any], folder: Path, resume: bool) -> None:
        """Create the run, or open again the one whose id the folder keeps in `mlflow.json`."""
        self._client, self._experiment_id = self._store.open(
            f"lmrl/{identity.task}", lambda created: task_note(config, created)
        )
        self._identity = identity
        note = folder / "mlflow.json"
        self.run_id = self._previous(note) if resume else None
        if self.run_id is None:
            parent = {PARENT_TAG: os.environ[PARENT]} if PARENT in os.environ else {}
            tags = {**run_tags(identity, config, folder), **parent, **self._tags}
            self.run_id = self._client.create_run(self._experiment_id, tags=tags, run_name=identity.name).info.run_id
        else:
            self._client.update_run(self.run_id, status="RUNNING")
            adopt(self._client, self.run_id, os.environ.get(PARENT))
        where = {"tracking_uri": self._store.tracking_uri, "experiment": f"lmrl/{identity.task}", "run_id": self.run_id}
        write_json(where, note)
        self._logger = RunLogger(
            self._outbox.put, self._client, tracking_uri=self._store.tracking_uri, run_id=self.run_id
        )
        self._log_config(config)

    def log_dataset(self, rows: Any, *, name: str, fingerprint: str, source: str | Path | None = None) -> None:
        """Record the Hugging Face dataset that is learned from as an input of the run."""
        from mlflow import entities
        from mlflow.data.huggingface_dataset import from_huggingface

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow warns about columns that it cannot describe
            # A few rows show the columns; of all rows MLflow would read each number, which takes seconds.
            few, place = rows.select(range(min(len(rows), 20))), None if source is None else str(source)
            described = from_huggingface(few, name=name, digest=fingerprint[:12], source=place).to_dict()
        described["profile"] = json.dumps(json.loads(described["profile"]) | {"num_rows": len(rows)})
        context = entities.InputTag("mlflow.data.context", "training")
        dataset = entities.DatasetInput(entities.Dataset(**described), [context])
        self._outbox.put(lambda: self._client.log_inputs(self.run_id, [dataset]))

    def log_results(self, summary: Mapping[str, Any]) -> None:
        """Record the numbers of summary.json, and once more under short names those that people sort by."""
        found, paper = summary["evaluation"], summary.get("paper") or {}
        short = {"return": found["return_mean"], "score": found["score"], "success": found["success_rate"]}
        short["score_paper"] = paper.get("score")
        if self._logger is not None:  # and not into the run's own file, which is the same for all trackers
            self._logger.log_metrics({name: value for name, value in short.items() if value is not None}, 0)
        super().log_results(summary)

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file with the run, in a folder of its artifacts."""
        self._outbox.put(lambda: self._client.log_artifact(self.run_id, str(path), folder or None))

    def log_evaluation(self, evaluation: Evaluation, *, memory: int | None, name: str = EVALUATION) -> None:
        """Record episodes as traces: one conversation each, one span per action with the messages that the policy saw.

        Args:
            evaluation: the episodes; at most `max_traces` of them are recorded.
            memory: the number of last turns that the policy was shown; `None` for all.
            name: the purpose of the episodes; the name of their session of traces ends with it.
        """
        import mlflow

        episodes = list(zip(evaluation.starts, evaluation.trajectories, strict=True))
        count = min(self.max_traces, len(episodes))
        session = f"{self._identity.name} {name}" if self._identity else name
        where = TraceOwner(self._experiment_id, str(self.run_id))

        def send() -> None:
            self._client.get_run(self.run_id)  # traces that do not arrive raise nothing
            mlflow.set_tracking_uri(self._store.tracking_uri)
            for index in (i * len(episodes) // count for i in range(count)):
                log_episode(where, index, *episodes[index], memory, session)
            mlflow.flush_trace_async_logging()
            end_tracing()

        self._outbox.put(send)

    def log_note(self, markdown: str) -> None:
        """Describe the run for people; MLflow shows it above the numbers."""
        self._outbox.put(lambda: self._client.set_tag(self.run_id, "mlflow.note.content", markdown))

    def flush(self) -> None:
        """Wait until MLflow has everything, unless it stays away."""
        self._is_away = not self._outbox.flush(PATIENCE)

    def finish(self, status: Status) -> None:
        """End the run in MLflow with its status."""
        ended = self.status is not None
        super().finish(status)
        if ended or self.status is None:
            return
        ending = self.status
        if ending == "interrupted":  # which MLflow shows as "Killed"
            self.log_note("Interrupted. The same command with `resume=true` continues it.")
        self._outbox.put(lambda: self._client.set_tag(self.run_id, "status", ending))
        self._outbox.put(lambda: self._client.set_terminated(self.run_id, STATUS[ending]))
        patience = BRIEF if ending == "interrupted" else PATIENCE
        if self._is_away or not self._outbox.flush(patience):
            print(
                f"MLflow did not answer for {patience:.0f} s, so run {self.run_id} is incomplete there. All of it is "
                "in the run's folder, from which `python -m lmrl.report` reads",
                file=sys.stderr,
            )

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


def _is_final(error: Exception) -> bool:
    """Return whether an error would come again: a mistake, as opposed to an MLflow that is away or busy."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
    return not isinstance(error, ConnectionError | TimeoutError)
