"""Run folders: name them, lock them, and find the one to resume."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from lmrl.config.types import ConfigError
from lmrl.runs.provenance import provenance

UNREAD = (
    *("task.importer", "task.players", "task.figures", "task.records", "task.paper", "task.dataset.published"),
    "task.partner_rules",
)
"""Parts of a configuration that only other commands, pictures and tables read."""
WITHOUT_EFFECT = (
    *UNREAD,
    # the place and the machine
    *("resume", "data_dir", "runs_dir", "tracking", "hardware", "launcher"),
    *("task.dataset.root", "task.dataset.workers", "*.cache"),
    # the number of simultaneous episodes or requests
    *("evaluation.slots", "*.datamodule.slots", "*.endpoint.concurrency"),
    # access to an endpoint and its price
    *("*.endpoint.api_key_env", "*.endpoint.timeout", "*.endpoint.retries", "*.endpoint.price"),
)
"""Parts of a configuration that do not change a run's results; `*` stands for any beginning of a dotted name.

Runs that differ in nothing else are one experiment: `resume=true` finds them, and a report counts them together.
"""
SEEDS = ("seed", "model.lm.seed", "*.endpoint.seed")
"""The keys of a configuration that hold the run's seed."""
_LOCK = ".lock"
_HELD: dict[Path, FileLock] = {}
"""The folders that this process writes to. The system frees a lock when its process ends, however it ends."""


def config_hash(config: Mapping[str, Any]) -> str:
    """Return a digest of the values that determine a run's results; it does not depend on the hardware."""
    return hashlib.sha256(json.dumps(decisive(config), sort_keys=True, default=str).encode()).hexdigest()


def experiment_hash(config: Mapping[str, Any]) -> str:
    """Return a digest that runs share if they differ only in their seeds."""
    values = {key: value for key, value in decisive(config).items() if not lies_in(key, SEEDS)}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def lies_in(key: str, parts: Iterable[str]) -> bool:
    """Return whether a dotted name is one of the parts, or lies in one; `*` stands for any beginning."""
    names = key.split(".")
    heads = [f".{'.'.join(names[:end])}" for end in range(1, len(names) + 1)]
    return any(fnmatchcase(head, f".{part}") for head in heads for part in parts)


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that determine a run's results, by dotted name.

    Values that are null are left out: a key that a later version adds, and that is not used, makes no difference. Files
    in the data folder are named relative to it.
    """
    trained = (config.get("algo") or {}).get("module") is not None
    values = {
        key: value
        for key, value in flat(config)
        # Only a model that is prompted reads the prompt.
        if value is not None and not lies_in(key, WITHOUT_EFFECT) and not (trained and key.startswith("task.prompt."))
    }
    folder = f"{config.get('data_dir')}/"
    for key, value in values.items():
        if isinstance(value, str) and value.startswith(folder):
            values[key] = "${data_dir}/" + value.removeprefix(folder)
    return values


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a nested configuration with dotted names; an empty mapping is a leaf."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def run_name(task: str, algo: str, seed: int, digest: str) -> str:
    """Return a run's name, such as `maze-ilql-s0-3fa9c1`: equal names are equal configurations.

    Args:
        task: name of the task.
        algo: name of the algorithm.
        seed: the seed.
        digest: as from `config_hash`.
    """
    return f"{task}-{algo}-s{seed}-{digest[:6]}"


@dataclass(frozen=True)
class RunFolders:
    """The folders of all attempts at one configuration."""

    runs_dir: Path
    task: str
    algo: str
    name: str
    """As from `run_name`."""

    @property
    def parent(self) -> Path:
        """The folder that holds them."""
        return self.runs_dir / self.task / self.algo

    def all(self) -> list[Path]:
        """Return the folders, the newest first."""
        pattern = re.compile(rf"\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d_{re.escape(self.name)}(_\d+)?$")
        return sorted((path for path in self.parent.glob(f"*_{self.name}*") if pattern.match(path.name)), reverse=True)

    def finished(self) -> Path | None:
        """Return the newest folder whose run is finished."""
        return next((folder for folder in self.all() if read_summary(folder).get("status") == "finished"), None)

    def unfinished(self) -> Path | None:
        """Return the newest folder whose run is not finished and is not running in another process."""
        left = (folder for folder in self.all() if read_summary(folder).get("status") != "finished")
        return next((folder for folder in left if not is_busy(folder)), None)

    def busy(self) -> Path | None:
        """Return a folder that another process is writing to."""
        return next((folder for folder in self.all() if is_busy(folder)), None)


def read_summary(folder: Path) -> dict[str, Any]:
    """Return a run's summary.json; an empty mapping if the run has not ended, or was killed."""
    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def is_busy(folder: Path) -> bool:
    """Return whether another process on this file system is running the run of a folder."""
    if folder in _HELD or not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


def open_run(
    runs_dir: Path, task: str, algo: str, name: str, *, resume: bool, config: Mapping[str, Any] | None = None
) -> Path:
    """Return the folder for a run: a new one, or the newest unfinished one of the same name.

    The folder is this process's until it ends. Processes that Lightning starts for further devices find the folder of
    the first one in the environment.

    Args:
        runs_dir: the folder of all runs.
        task: name of the task.
        algo: name of the algorithm.
        name: as from `run_name`.
        resume: whether to continue an unfinished run.
        config: the resolved configuration, to list its differences from the newest run if there is none to continue.

    Raises:
        ConfigError: there is no run to resume.
    """
    inherited = os.environ.get("LMRL_RUN_DIR")
    if inherited and os.environ.get("LOCAL_RANK") is not None:
        return Path(inherited)
    folders = RunFolders(runs_dir, task, algo, name)
    if not resume and (left := folders.unfinished()) is not None:
        print(f"note: {left} is an unfinished run of this configuration; resume=true continues it", file=sys.stderr)
    folder = _unfinished(folders, config or {}) if resume else _new(folders)
    os.environ["LMRL_RUN_DIR"] = str(folder)
    return folder


def _new(folders: RunFolders) -> Path:
    """Make a folder named after the time and the run; two runs never share one."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in range(1000):
        folder = folders.parent / (f"{stamp}_{folders.name}" + (f"_{attempt}" if attempt else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        _hold(folder)
        return folder
    raise ConfigError(f"{folders.parent}: cannot find a free folder name")


def _unfinished(folders: RunFolders, config: Mapping[str, Any]) -> Path:
    """Take the newest folder of this run that has no finished summary."""
    folder = folders.unfinished()
    if folder is not None and _hold(folder):
        return folder
    raise ConfigError(why_not_resumable(folders, config) or f"resume=true: {folder} was taken by another process")


def why_not_resumable(folders: RunFolders, config: Mapping[str, Any]) -> str | None:
    """Return why there is no run to resume; `None` if there is one.

    Args:
        folders: those of the run.
        config: its resolved configuration, to list its differences from the newest run.
    """
    if folders.unfinished() is not None:
        return None
    if (busy := folders.busy()) is not None:
        return f"resume=true: the run in {busy} is still running in another process"
    if folders.all():
        return (
            f"resume=true: every run of this configuration is finished (the newest is {folders.all()[0]}); without "
            "resume=true a new run starts"
        )
    return (
        f"resume=true: no run of this configuration was started in {folders.parent} (looked for *_{folders.name})"
        f"{_nearest(folders.parent, config)}"
    )


def _nearest(parent: Path, config: Mapping[str, Any]) -> str:
    """Return how the configuration of the newest run of the same task and method differs, as part of a message."""
    files = sorted(parent.glob("*/config.yaml"), key=lambda file: file.parent.name)
    if not files or not config:
        return ""
    try:
        provenance(files[-1].parent)
    except ConfigError as error:
        return f"; {error}"
    theirs: Any = OmegaConf.to_container(OmegaConf.load(files[-1]))
    before, now = decisive(theirs), decisive(config)
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    differences = ", ".join(f"{key} (there {before.get(key)}, here {now.get(key)})" for key in keys[:4])
    return f"; the newest run, {files[-1].parent.name}, differs in {differences}{', ...' if len(keys) > 4 else ''}"


def _hold(folder: Path) -> bool:
    """Lock a folder for this process, and return whether it succeeded; another process may hold it."""
    if folder in _HELD:
        return True
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=2)  # a process that only looks holds it for an instant
    except Timeout:
        return False
    _HELD[folder] = lock
    return True
