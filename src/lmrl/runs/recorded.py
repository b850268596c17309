"""The recorded configuration of a run, written and read back, and with changes. Needs no torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmrl.config.checks import check_config
from lmrl.config.compose import compose_run, compose_unchecked
from lmrl.runs.folders import decisive, lies_in
from lmrl.runs.provenance import PROVENANCE, describe, provenance
from lmrl.system.files import write_json, write_text

CHANGES = "changes.json"
"""The file that makes a folder a re-evaluation of a run, and lists its changes."""
ENVIRONMENT = ("task.env", "task.evaluation.env", "evaluation.env", "task.score", "task.own_score")
"""Parts of a configuration whose changes make the reported number incomparable with others of the task."""
_ABSENT = object()


def run_config(folder: Path) -> DictConfig:
    """Return the configuration that a run was started with.

    Raises:
        FileNotFoundError: the folder is not a run folder.
        ConfigError: it was written by another version of lmrl.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no config.yaml")
    provenance(folder)
    cfg: Any = OmegaConf.load(file)
    return cfg


def record_beginning(
    folder: Path,
    cfg: DictConfig,
    choices: Mapping[str, str],
    overrides: Sequence[str],
    *,
    env_version: str,
    dataset: str,
) -> None:
    """Write the provenance.json and the config.yaml of a run; a resumed run keeps the time of its first start.

    Args:
        folder: the run's folder.
        cfg: its configuration.
        choices: the choice of each group, such as `task: maze`.
        overrides: the arguments of `run.py`, as they were typed.
        env_version: version of the environment.
        dataset: fingerprint of the data.
    """
    changed, file = changes_of(_plain(cfg), choices), folder / PROVENANCE
    begun = describe(overrides=overrides, choices=choices, env_version=env_version, dataset=dataset, changed=changed)
    before = provenance(folder) if file.is_file() else begun
    write_json(begun | {"started": before["started"]}, file)
    # Last, because config.yaml makes the folder one of a run.
    write_text(OmegaConf.to_yaml(cfg, resolve=True), folder / "config.yaml")


def changed_config(folder: Path, changes: Sequence[str]) -> DictConfig:
    """Return a run's recorded configuration with changes, which are written as for `run.py`.

    Files in `conf/` may have changed since: recorded values count, except those that the changes replace.

    Raises:
        ConfigError: the changes are impossible.
        FileNotFoundError: the folder is not a run folder, or there is no configuration folder.
    """
    recorded = run_config(folder)
    if changes:
        overrides = [text for text in provenance(folder)["overrides"] if not text.lstrip("+").startswith("resume=")]
        # Values of a group's old choice do not apply to the new one.
        groups = tuple(f"{text.split('=')[0].lstrip('+')}." for text in changes)
        kept = [text for text in overrides if not text.lstrip("+~").startswith(groups)]
        before, after = compose_run(overrides), compose_run([*kept, *changes])
        changed = changed_values(_plain(before), _plain(after)) | _named_values(changes, after)
        for key, value in changed.items():
            _put(recorded, key.split("."), value)
    check_config(recorded)
    return recorded


def changed_values(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the differences between two nested mappings by dotted name; the value of a missing key is `None`.

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


def changes_of(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the values that determine a run's results and differ from its defaults, by dotted name.

    Defaults are those of its task, method and model. The seed is left out, and so are keys without a default. A value
    that the run does not have is `None`.

    Args:
        config: the run's resolved configuration, in plain containers.
        choices: its choices of `task`, `algo` and `model`.

    Returns:
        `None`: the defaults cannot be composed here, for example those of a task in another folder.
    """
    try:
        chosen = [f"{group}={choices[group]}" for group in ("task", "algo", "model")]
        defaults = _plain(compose_unchecked([*chosen, f"seed={config['seed']}"]))
    except (KeyError, OSError, HydraException, OmegaConfBaseException):
        return None
    ours, theirs = decisive(config), decisive(defaults)
    keys = sorted({*ours, *theirs} - {"seed"})
    return {key: ours.get(key) for key in keys if theirs.get(key) not in (ours.get(key), "???")}


def environment_changes(changed: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return those of a run's changes that change the task itself, so that its number is not comparable."""
    return {key: value for key, value in (changed or {}).items() if lies_in(key, ENVIRONMENT)}


def format_changes(changes: Mapping[str, Any], most: int = 4) -> str:
    """Format changes of an environment as one short line; another class (`_target_`) by its name and model."""
    classes = [key.removesuffix("._target_") for key in changes if key.endswith("._target_")]
    shown = [
        f"{key.removeprefix('task.env.').removesuffix('._target_')}={_short(key, value)}"
        for key, value in changes.items()
        if key.endswith(("._target_", ".model")) or not lies_in(key, classes)
    ]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _short(key: str, value: Any, longest: int = 32) -> str:
    """Format a value as YAML would write it, a class by its name alone, cut at `longest` characters."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text.rsplit(".", 1)[-1] if key.endswith("_target_") else text
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def is_comparable(record: Mapping[str, Any]) -> bool:
    """Return whether a run's number may be ranked among those of its task, by its provenance.

    Trial runs, re-evaluations and runs of a changed environment may not.
    """
    changes = environment_changes(record.get("changed"))
    return record.get("kind", "run") == "run" and not trial_of(record) and not changes


def trial_of(record: Mapping[str, Any]) -> str:
    """Return the preset that makes a run too short to learn, `smoke` or `debug=...`; nothing if there is none."""
    choices = record.get("choices") or {}
    if choices.get("debug"):
        return f"debug={choices['debug']}"
    return "smoke" if choices.get("experiment") == "smoke" else ""


def _named_values(changes: Sequence[str], after: DictConfig) -> dict[str, Any]:
    """Return the values that the changes name, by dotted name, also where `conf/` has the same value today.

    A choice of a group's file (`partner=endpoint`) names no value.
    """
    found: dict[str, Any] = {}
    for text in changes:
        name, _, typed = text.lstrip("+").partition("=")
        value = OmegaConf.select(after, name) if not text.startswith("~") else None
        if OmegaConf.is_config(value) and typed.startswith(("{", "[")):
            found[name] = OmegaConf.to_container(value, resolve=True)
        elif not OmegaConf.is_config(value) and (value is not None or typed == "null"):
            found[name] = value
    return found


def _plain(cfg: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def _put(cfg: DictConfig, path: list[str], value: Any) -> None:
    """Set a value deep in a configuration, whose keys may contain dots."""
    for key in path[:-1]:
        if cfg.get(key) is None:
            cfg[key] = {}
        cfg = cfg[key]
    cfg[path[-1]] = value
