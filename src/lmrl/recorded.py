"""A run as it was recorded: its folder, its configuration, and that configuration with changes. Needs no torch."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lmrl.checks import ConfigError, check_config
from lmrl.commands import compose_run

PROVENANCE = "provenance.json"
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_ABSENT = object()


def find_run(reference: str, tracking_uri: str = "sqlite:///mlflow.db") -> Path:
    """Return the folder of a run.

    Args:
        reference: the folder, or the run's id in MLflow.
        tracking_uri: where MLflow keeps its runs.

    Raises:
        ConfigError: there is no such run, or its folder is not on this machine.
    """
    folder = Path(reference).expanduser()
    if (folder / "config.yaml").is_file():
        return folder
    if folder.exists() or not _RUN_ID.fullmatch(reference):
        raise ConfigError(f"run={reference} is neither a run folder (no config.yaml in it) nor an MLflow run ID")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        tags = MlflowClient(tracking_uri).get_run(reference).data.tags
    except MlflowException as error:
        cause = str(error).splitlines()[0]
        raise ConfigError(f"run={reference} is not in {tracking_uri} ({cause}); tracking.tracking_uri=...") from error
    folder = Path(tags.get("output_folder", ""))
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"run={reference} was written to {folder}, which is not on this machine: copy the folder here"
        )
    return folder


def run_config(folder: Path) -> DictConfig:
    """Return the configuration that a run was started with.

    Raises:
        FileNotFoundError: the folder is no run.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no config.yaml")
    cfg: Any = OmegaConf.load(file)
    return cfg


def provenance(folder: Path) -> dict[str, Any]:
    """Return what was recorded of a run's beginning; of older runs what their other files tell."""
    file = folder / PROVENANCE
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    path = folder / "summary.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    task, algo = known.get("task", folder.parts[-3]), known.get("algo", folder.parts[-2])
    choices = {"task": task, "algo": algo, "model": known.get("model", "tiny")}
    return {
        "overrides": [f"{group}={choice}" for group, choice in choices.items()],
        "choices": choices,
        "versions": known.get("versions", {}),
        "git_commit": known.get("git_commit"),
        "dataset": known.get("dataset", {}).get("fingerprint"),
    }


def changed_config(folder: Path, changes: Sequence[str]) -> DictConfig:
    """Return a run's recorded configuration with changes, which are written as for `run.py`.

    Files in `conf/` may have changed since: what was recorded counts, except for what the changes change.

    Raises:
        ConfigError: the changes are impossible.
        FileNotFoundError: the folder is no run, or there is no configuration folder.
    """
    recorded = run_config(folder)
    if changes:
        overrides = [text for text in provenance(folder)["overrides"] if not text.lstrip("+").startswith("resume=")]
        # Values of a group's old choice mean nothing to the new one.
        groups = tuple(f"{text.split('=')[0].lstrip('+')}." for text in changes)
        kept = [text for text in overrides if not text.lstrip("+~").startswith(groups)]
        before, after = compose_run(overrides), compose_run([*kept, *changes])
        changed = changed_values(_plain(before), _plain(after)) | _named_values(changes, after)
        for key, value in changed.items():
            _put(recorded, key.split("."), value)
    check_config(recorded)
    return recorded


def changed_values(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return by dotted name what differs between two nested mappings; the value of what is gone is `None`.

    A mapping that names another class (`_target_`) is a change as a whole.
    """
    found: dict[str, Any] = {}
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key, _ABSENT), after.get(key)
        nested = isinstance(old, dict) and isinstance(new, dict) and old.get("_target_") == new.get("_target_")
        if nested:
            found |= changed_values(old, new, f"{prefix}{key}.")  # type: ignore[arg-type]
        elif old is _ABSENT or old != new:
            found[f"{prefix}{key}"] = new
    return found


def _named_values(changes: Sequence[str], after: DictConfig) -> dict[str, Any]:
    """Return the values that changes name themselves, by dotted name: what `conf/` says today may be the same.

    A choice of a group's file (`partner=endpoint`) names no value.
    """
    found: dict[str, Any] = {}
    for text in changes:
        name, _, said = text.lstrip("+").partition("=")
        value = OmegaConf.select(after, name) if not text.startswith("~") else None
        if OmegaConf.is_config(value) and said.startswith(("{", "[")):
            found[name] = OmegaConf.to_container(value, resolve=True)
        elif not OmegaConf.is_config(value) and (value is not None or said == "null"):
            found[name] = value
    return found


def _plain(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def _put(cfg: DictConfig, path: list[str], value: Any) -> None:
    """Set a value deep in a configuration, whose keys may contain dots of no meaning."""
    for key in path[:-1]:
        if cfg.get(key) is None:
            cfg[key] = {}
        cfg = cfg[key]
    cfg[path[-1]] = value
