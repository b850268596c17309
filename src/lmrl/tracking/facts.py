"""The description of a run for MLflow besides its numbers: tags, parameters, and a note about the task."""

import getpass
import hashlib
import importlib
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmrl.runs.folders import UNREAD, experiment_hash, lies_in
from lmrl.runs.provenance import PROVENANCE, git_commit
from lmrl.runs.recorded import is_comparable
from lmrl.tracking.core import RunIdentity
from lmrl.tracking.store import view_link

LONGEST_VALUE = 250
"""Lightning and older servers cut parameters here; longer values are only in the configuration file."""
_NO_PARAMETERS = (
    *UNREAD,
    *("resume", "data_dir", "runs_dir", "tracking", "launcher", "task.dataset.root", "*.cache"),
    *("task.prompt", "task.partner_prompt", "*.prompt", "*.examples"),
)
"""Parts of the configuration that are not parameters to compare runs by: places, texts, and unread values."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the scalars of a nested configuration with dotted names, except long ones and `_NO_PARAMETERS`."""
    for key, value in config.items():
        if lies_in(f"{prefix}{key}", _NO_PARAMETERS):
            continue
        name = re.sub(r"[^\w.\-/ ]", "_", f"{prefix}{key}")
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            if len(text) < LONGEST_VALUE:
                yield name, text


def run_tags(identity: RunIdentity, config: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the tags by which a run can be searched."""
    commit, record = git_commit(), _record(folder)
    changed = "unknown" if record.get("changed") is None else ", ".join(record["changed"]) or "nothing"
    return {
        "task": identity.task,
        "algo": identity.algo,
        "model": identity.model,
        "seed": str(identity.seed),
        "kind": str(record.get("kind", "run")),
        "experiment": str((record.get("choices") or {}).get("experiment") or "none"),
        "changed": changed if len(changed) < LONGEST_VALUE else f"{changed[: LONGEST_VALUE - 4]} ...",
        "comparable": str(is_comparable(record)).lower(),
        "configuration": _digest(identity, config),
        "config_hash": identity.config_hash[:12],
        "env_version": identity.env_version,
        "dataset": identity.dataset_fingerprint[:12],
        "output_folder": str(folder.resolve()),
        "mlflow.user": _user(),
        "mlflow.source.name": "run.py",
        "mlflow.source.type": "LOCAL",
        **({} if commit is None else {"mlflow.source.git.commit": commit.removesuffix("-dirty")}),
        **({} if commit is None else {"mlflow.source.git.dirty": str(commit.endswith("-dirty")).lower()}),
    }


def _digest(identity: RunIdentity, config: Mapping[str, Any]) -> str:
    """Return a digest that runs share if they differ only in the seed: of settings, model, data and environment."""
    parts = (experiment_hash(config), identity.model, identity.dataset_fingerprint, identity.env_version)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]


def _user() -> str:
    """Return the user for MLflow; an empty text if the system has no name for them, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _record(folder: Path) -> dict[str, Any]:
    """Return the run's provenance.json; an empty mapping if there is none."""
    file = folder / PROVENANCE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def task_note(config: Mapping[str, Any], experiment_id: str) -> str:
    """Return the description above a task's runs: the task, the published numbers, and a link to the ranking.

    Args:
        config: of one of its runs.
        experiment_id: the task's experiment in MLflow.
    """
    task = config.get("task") or {}
    known = task.get("paper") or {}
    paper = [f"| {algo} | {row.get('return')} | {row.get('score')} |" for algo, row in known.items()]
    table = ["Published (arXiv 2311.18232, GPT-2):", "", "| method | return | score |", "|---|---:|---:|", *paper, ""]
    view = f"Which method is best: [Methods, best first]({view_link(experiment_id)}), also below *Views*."
    described = _docstring(str((task.get("env") or {}).get("_target_", "")))
    return "\n".join([described, "", *(table if paper else []), view])


def _docstring(target: str) -> str:
    """Return the docstring of an environment's module; an empty text if it cannot be imported."""
    try:
        return (inspect.getdoc(importlib.import_module(target.rpartition(".")[0])) or "").split("\n\n")[0]
    except (ImportError, ValueError):
        return ""


def rounded(value: float) -> float:
    """Return a number with six significant digits, as many as people compare; whole numbers stay as they are."""
    number = float(value)
    return number if not math.isfinite(number) or number.is_integer() else float(f"{number:.6g}")
