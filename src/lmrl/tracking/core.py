"""The interface of trackers, and the two that need no server: the run's own folder alone, or CSV."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from lmrl.evaluation import Evaluation
from lmrl.runs.folders import run_name
from lmrl.runs.summary import Status, markdown
from lmrl.system.files import write_text

EVALUATION = "evaluation"
"""The first part of the names of the reported evaluation's numbers."""


def evaluation_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of summary.json under the names that trackers give them.

    The block `evaluation` becomes `evaluation/<key>`, another block `evaluation/<block>/<key>`, and an interval two
    numbers, `..._low` and `..._high`. Unknown numbers (null) are left out. `validation/<key>` are others: the curves of
    the episodes between training epochs.
    """
    numbers: dict[str, float] = {}
    for block in (EVALUATION, "train", "rollout", "dataset", "paper", "usage", "partner"):
        prefix = EVALUATION if block == EVALUATION else f"{EVALUATION}/{block}"
        for key, value in summary.get(block, {}).items():
            ends = {f"{key}_low": value[0], f"{key}_high": value[1]} if isinstance(value, list) else {key: value}
            numbers |= {f"{prefix}/{name}": float(end) for name, end in ends.items() if isinstance(end, int | float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The properties by which trackers name and sort a run."""

    task: str
    algo: str
    model: str
    seed: int
    config_hash: str
    """As from `lmrl.runs.folders.config_hash`."""
    env_version: str = ""
    dataset_fingerprint: str = ""

    @property
    def name(self) -> str:
        """The run's name, such as `maze-ilql-s0-3fa9c1`: equal names are equal configurations."""
        return run_name(self.task, self.algo, self.seed, self.config_hash)


class MetricsFile(Logger):
    """A Lightning logger that appends one JSON object per logged step to a file, also when a run resumes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """The logger's name."""
        return "metrics"

    @property
    def version(self) -> str:
        """Lightning asks for a version; there is only one file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignore hyper-parameters: the run's folder holds the whole configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | int], step: int | None = None) -> None:
        """Append the metrics of one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # JSON has neither NaN nor infinity: such a number becomes null.
        known = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step or 0, **known}, allow_nan=False) + "\n")

    def forget_from(self, step: int) -> None:
        """Drop the metrics of this step and later ones, when training continues from a checkpoint of this step.

        Otherwise metrics that a dying process logged after its last checkpoint would be there twice. The numbers of
        the reported evaluation are dropped as well: they have step 0 but were logged last, and will be logged again.
        """

        def is_evaluation(row: Mapping[str, float]) -> bool:
            return any(key.startswith(f"{EVALUATION}/") for key in row)

        if self.path.exists():
            kept = [row for row in self.rows() if row["step"] < step and not is_evaluation(row)]
            write_text("".join(json.dumps(row) + "\n" for row in kept), self.path)

    def rows(self) -> list[dict[str, float | int]]:
        """Return all rows so far, as `lmrl.figures.curves.learning_curves` takes them.

        A line that a dying process left half-written is skipped.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


class Tracker:
    """Base of all trackers: keeps everything in the run's folder and sends it nowhere.

    Only the process of rank 0 tracks; in the others `run` yields a tracker that takes the same calls and ignores them.

        with tracker.run(identity, config=config, folder=folder, resume=resume) as log:
            trainer = pl.Trainer(logger=log.loggers)
            log.log_dataset(rows, name="maze", fingerprint=fingerprint)
            trainer.fit(...)
            log.log_results(summary)
            log.log_evaluation(evaluation, memory=1)
            log.log_file(folder / "summary.json")
    """

    def __init__(self) -> None:
        self.metrics: MetricsFile | None = None
        """The run's `metrics.jsonl`. `None`: there is no run now, or this process does not track."""
        self.status: Status | None = None
        """How the run ended. `None`: it has not."""

    @contextmanager
    def run(
        self, identity: RunIdentity, *, config: Mapping[str, Any], folder: Path, resume: bool = False
    ) -> Iterator["Tracker"]:
        """Track one run: begin it, and mark it as failed, interrupted or finished by how the block is left.

        Args:
            identity: the run.
            config: the resolved configuration, in plain containers.
            folder: the run's output folder; it gets `metrics.jsonl`.
            resume: continue the run that this folder began before, if there is one.
        """
        if getattr(rank_zero_only, "rank", 0) not in (None, 0):
            yield Tracker()
            return
        self.status = None
        self.metrics = MetricsFile(folder / "metrics.jsonl")
        if not resume:
            self.metrics.path.unlink(missing_ok=True)
        self.start(identity, config, folder, resume)
        left: Status = "failed"
        try:
            yield self
            left = "finished"
        except (KeyboardInterrupt, SystemExit):  # Lightning turns an interrupt into an exit
            left = "interrupted"
            raise
        finally:
            self.finish(left)

    @property
    def loggers(self) -> list[Logger]:
        """The loggers that Lightning's trainer writes training metrics to."""
        return [] if self.metrics is None else [self.metrics]

    @property
    def location(self) -> Mapping[str, str]:
        """Commands and addresses that show the run, by name, for the table at its end. Empty: only its folder does."""
        return {}

    def start(self, identity: RunIdentity, config: Mapping[str, Any], folder: Path, resume: bool) -> None:
        """Begin a run, or continue one; `run` calls this."""

    def log_dataset(self, rows: Any, *, name: str, fingerprint: str, source: str | Path | None = None) -> None:
        """Record the Hugging Face dataset that is learned from as an input of the run."""

    def log_metrics(self, metrics: Mapping[str, float | int], step: int) -> None:
        """Record numbers that no Lightning hook logs."""
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step)

    def log_results(self, summary: Mapping[str, Any]) -> None:
        """Record the numbers of summary.json, and the table that describes the run to people."""
        # Single numbers at step 0, not points at the end of curves: MLflow then draws them as bars, one for each run.
        self.log_metrics(evaluation_metrics(summary), step=0)
        self.log_note(markdown(summary))

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep a copy of a file with the run, in a folder of its artifacts."""

    def log_evaluation(self, evaluation: Evaluation, *, memory: int | None, name: str = EVALUATION) -> None:
        """Record played episodes, to be read turn by turn."""

    def log_note(self, markdown: str) -> None:
        """Describe the run for people."""

    def flush(self) -> None:
        """Wait until everything recorded so far has been received."""

    def finish(self, status: Status) -> None:
        """End the run; only the first status counts, so that a run may mark itself as interrupted and then end."""
        self.status = self.status or status


class NoTracker(Tracker):
    """Track nothing: the run's folder has its metrics.jsonl, summary, transcripts and pictures all the same."""


class CsvTracker(Tracker):
    """Leave a `metrics.csv` in the run's folder when it ends: one line per step, one column per metric."""

    def finish(self, status: Status) -> None:
        """Write the table, also of a run that failed."""
        super().finish(status)
        if self.metrics is None:
            return
        steps: dict[float | int, dict[str, float | int]] = {}
        for row in self.metrics.rows():
            steps.setdefault(row["step"], {}).update(row)
        columns = sorted({name for row in steps.values() for name in row} - {"step"})
        with self.metrics.path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", *columns])
            writer.writeheader()
            writer.writerows(steps[step] for step in sorted(steps))
