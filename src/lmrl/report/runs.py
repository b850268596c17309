"""One run in a report, read from a folder or from MLflow."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmrl.runs.folders import WITHOUT_EFFECT, lies_in
from lmrl.runs.provenance import FORMAT
from lmrl.runs.recorded import environment_changes

Status = Literal["finished", "interrupted", "failed", "unfinished"]
"""How a run ended; `unfinished`: it left no word about its end, because it still runs or was killed."""

_TIME = re.compile(r"^\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_")
_NAME = re.compile(r"(?P<task>\w+)-(?P<algo>\w+)-s(?P<seed>\d+)-[0-9a-f]{6}")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run, or another evaluation of one."""

    name: str
    """The name of its folder, or its name in MLflow."""
    place: str
    """Where it is kept."""
    task: str
    algo: str
    model: str
    seed: int
    status: Status
    reason: str
    """Why it has no results. Empty: it has."""
    summary: Mapping[str, Any]
    """The content of summary.json; empty if there is none."""
    config: Mapping[str, Any]
    """The resolved configuration, in plain containers."""
    rows: Sequence[Mapping[str, float]]
    """Its logged metrics, each row with its `step`."""
    provenance: Mapping[str, Any]
    """The content of provenance.json: command and machine; empty if there is none."""
    transcripts: Path | None = None
    run_id: str | None = None
    """Its id in MLflow. `None`: it is not recorded there, or the folder does not say so."""
    evaluates: str | None = None
    """The folder or the id in MLflow of the run that it evaluates again. `None`: it is a run of its own."""
    changes: tuple[str, ...] = ()
    """The overrides of another evaluation that can change results."""

    @property
    def results(self) -> Mapping[str, Any]:
        """The `evaluation` block of the summary."""
        return self.summary.get("evaluation") or {}

    @property
    def command(self) -> str:
        """The command that was typed, without passwords. Empty: the run has no provenance.json."""
        return without_password(str(self.provenance.get("command", "")))

    @property
    def is_of_another_version(self) -> bool:
        """Whether a version of lmrl with another format of run folders made it, such as 0.1."""
        record = self.summary or self.provenance
        return bool(record) and record.get("format") != FORMAT

    @property
    def is_changed(self) -> bool:
        """Whether it was played in another environment than its task's own, as far as it says."""
        return bool(environment_changes(self.provenance.get("changed")))

    @property
    def is_finished(self) -> bool:
        """Whether the run has results that can be compared."""
        return self.status == "finished" and not self.reason


def identity(name: str, summary: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return task, method, model and seed of a run, from its summary or else from its name and configuration.

    Raises:
        ValueError: neither names the run's task and method.
    """
    keys = ("task", "algo", "model", "seed")
    if all(summary.get(key) is not None for key in keys):
        return {key: summary[key] for key in keys}
    found = _NAME.match(_TIME.sub("", name))
    if found is None:
        raise ValueError(f"{name}: neither a summary nor the name says which task and method this run is of")
    return {"task": found["task"], "algo": found["algo"], "model": "", "seed": config.get("seed", int(found["seed"]))}


def changes_in(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the overrides of changes.json that can change results."""
    typed = [str(text) for text in record.get("changes", ())]
    return tuple(text for text in typed if not lies_in(text.lstrip("+~").split("=")[0], WITHOUT_EFFECT))


def progress(rows: Sequence[Mapping[str, float]], config: Mapping[str, Any]) -> str:
    """Say how far training came."""
    steps = (config.get("algo") or {}).get("steps")
    if not rows:
        return "before its first logged step"
    done = int(max(row["step"] for row in rows)) + 1
    return f"at step {done:,}" + (f" of {steps:,}" if isinstance(steps, int) else "")


def without_password(text: str) -> str:
    """Return a text without the passwords of addresses in it: reports are shown around."""
    return re.sub(r"(://[^\s:/@]+):[^\s/@]+@", r"\1:***@", text)


def json_lines(text: str) -> list[dict[str, Any]]:
    """Return one object per line; a line that a dying process left half-written is skipped."""
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def metric_rows(text: str) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl that have a step, without values that are not finite."""
    rows = [{key: value for key, value in row.items() if is_number(value)} for row in json_lines(text)]
    return [row for row in rows if "step" in row]


def is_number(value: object) -> bool:
    """Tell whether a logged value is a finite number: a loss may have become NaN, and Python's JSON can say so."""
    return isinstance(value, int | float) and math.isfinite(value)
