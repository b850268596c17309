"""Runs in MLflow: metrics, configuration, data, files, and every episode as a conversation to read."""

import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.loggers import Logger, MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from lmrl.evaluation import Evaluation
from lmrl.hyperparameters import Count, PathText, Text
from lmrl.mlflow_store import PARENT, PARENT_TAG, Store, adopt
from lmrl.provenance import git_commit
from lmrl.rollout import Start
from lmrl.summary import Status, messages, write_json
from lmrl.text.trajectory import Trajectory, view
from lmrl.tracking.core import RunIdentity, Tracker
from lmrl.tracking.outbox import Outbox

LONGEST_VALUE = 250
"""Lightning and older servers cut parameters here; what is longer is only in the configuration file."""
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
PATIENCE = 300.0
"""Seconds that the end of a run waits for an MLflow that does not answer."""


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
        points = [Metric(name, float(value), now, step or 0) for name, value in metrics.items()]
        self._send(lambda: self._sender.log_batch(self.run_id, metrics=points))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignore modules' hyper-parameters: the tracker has logged the configuration."""

    def finalize(self, status: str = "success") -> None:
        """Leave the run open at the end of training: the final evaluation still follows."""


class MLflowTracker(Tracker):
    """Record runs in MLflow, by default in a file beside the run folders that `mlflow ui` reads.

    Only the beginning of a run waits for MLflow. What follows is sent in the background and in order, and later if a
    server is away; the end of the run waits for what is left.

    Args:
        tracking_uri: where MLflow keeps runs: an SQLite file (relative to the working directory), or a server.
        artifacts: the folder of artifacts, for SQLite; a server has its own.
        max_traces: record at most so many episodes of each evaluation as traces, spread evenly over the starts.
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
        self._source: Any = None
        self._logger: RunLogger | None = None
        self._experiment_id = ""
        self._identity: RunIdentity | None = None
        self._outbox, self._is_away = Outbox("MLflow", is_final=_is_final), False

    @property
    def loggers(self) -> list[Logger]:
        """The loggers that Lightning's trainer writes training metrics to."""
        return [*super().loggers, *([] if self._logger is None else [self._logger])]

    @property
    def place(self) -> str | None:
        """What to type, and what to open then, to see the run."""
        if self.run_id is None:
            return None
        return self._store.page(self._experiment_id, self.run_id)

    def start(self, identity: RunIdentity, config: Mapping[str, Any], folder: Path, resume: bool) -> None:
        """Create the run, or open again the one whose id the folder keeps in `mlflow.json`."""
        self._client, self._experiment_id = self._store.open(f"lmrl/{identity.task}")
        from mlflow.entities import AssessmentSource

        self._source = AssessmentSource("CODE", "lmrl")
        self._identity = identity
        note = folder / "mlflow.json"
        self.run_id = self._previous(note) if resume else None
        if self.run_id is None:
            parent = {PARENT_TAG: os.environ[PARENT]} if PARENT in os.environ else {}
            tags = {**_tags(identity, folder), **parent, **self._tags}
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
            warnings.simplefilter("ignore")  # MLflow guesses at columns that it cannot describe, aloud
            # A few rows tell the columns; of all of them MLflow would read each number, which takes seconds.
            few, place = rows.select(range(min(len(rows), 20))), None if source is None else str(source)
            described = from_huggingface(few, name=name, digest=fingerprint[:12], source=place).to_dict()
        described["profile"] = json.dumps(json.loads(described["profile"]) | {"num_rows": len(rows)})
        context = entities.InputTag("mlflow.data.context", "training")
        dataset = entities.DatasetInput(entities.Dataset(**described), [context])
        self._outbox.put(lambda: self._client.log_inputs(self.run_id, [dataset]))

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file with the run, in a folder of its artifacts."""
        self._outbox.put(lambda: self._client.log_artifact(self.run_id, str(path), folder or None))

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

        def send() -> None:
            self._client.get_run(self.run_id)  # traces that do not arrive raise nothing
            mlflow.set_tracking_uri(self._store.tracking_uri)
            for index in (i * len(episodes) // count for i in range(count)):
                self._log_trace(index, *episodes[index], memory, session)
            mlflow.flush_trace_async_logging()

        self._outbox.put(send)

    def log_note(self, markdown: str) -> None:
        """Describe the run for people; MLflow shows it above the numbers."""
        self._outbox.put(lambda: self._client.set_tag(self.run_id, "mlflow.note.content", markdown))

    def settle(self) -> None:
        """Wait until MLflow has everything, unless it stays away."""
        self._is_away = not self._outbox.flush(PATIENCE)

    def finish(self, status: Status) -> None:
        """End the run in MLflow with the status that it deserves."""
        ended = self.status is not None
        super().finish(status)
        if ended or self.status is None:
            return
        said = self.status
        self._outbox.put(lambda: self._client.set_tag(self.run_id, "status", said))
        self._outbox.put(lambda: self._client.set_terminated(self.run_id, STATUS[said]))
        if self._is_away or not self._outbox.flush(PATIENCE):
            print(
                f"MLflow did not answer for {PATIENCE:.0f} s, so run {self.run_id} is incomplete there. All of it is "
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


def _is_final(error: Exception) -> bool:
    """Tell whether an error would come again: a mistake, and not an MLflow that is away or busy."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
    return not isinstance(error, ConnectionError | TimeoutError)


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
