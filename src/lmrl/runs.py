"""The folder of a run: where it is, what configuration it belongs to, whose it is now, and which one to go on with."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lmrl.checks import ConfigError

_NOT_IDENTITY = ("resume", "data_dir", "runs_dir", "tracking", "hardware", "launcher")
"""Parts of a configuration that say where and how a run happens, not what it computes."""
_LOCK = ".lock"
_HELD: dict[Path, FileLock] = {}
"""The folders that this process writes to. The system frees a lock when its process ends, however it ends."""


def config_hash(config: dict[str, Any]) -> str:
    """Return a digest of what a run computes; equal configurations on other hardware have equal digests."""
    what = {key: value for key, value in config.items() if key not in _NOT_IDENTITY}
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


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
        """Return the newest folder whose run is not finished, nor still going on in another process."""
        left = (folder for folder in self.all() if read_summary(folder).get("status") != "finished")
        return next((folder for folder in left if not is_busy(folder)), None)

    def busy(self) -> Path | None:
        """Return a folder that another process is writing to."""
        return next((folder for folder in self.all() if is_busy(folder)), None)


def read_summary(folder: Path) -> dict[str, Any]:
    """Return a run's summary.json; nothing if the run has not ended, or was killed."""
    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def is_busy(folder: Path) -> bool:
    """Tell whether another process on this file system is running the run of a folder."""
    if folder in _HELD or not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


def open_run(runs_dir: Path, task: str, algo: str, name: str, *, resume: bool) -> Path:
    """Return the folder for a run: a new one, or the newest unfinished one of the same name.

    The folder is this process's until it ends. Processes that Lightning starts for further devices find the folder of
    the first one in the environment.

    Raises:
        ConfigError: there is no run to resume.
    """
    inherited = os.environ.get("LMRL_RUN_DIR")
    if inherited and os.environ.get("LOCAL_RANK") is not None:
        return Path(inherited)
    folders = RunFolders(runs_dir, task, algo, name)
    folder = _unfinished(folders) if resume else _new(folders)
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


def _unfinished(folders: RunFolders) -> Path:
    """Take the newest folder of this run that has no finished summary."""
    folder = folders.unfinished()
    if folder is not None and _hold(folder):
        return folder
    if (busy := folders.busy()) is not None:
        raise ConfigError(f"resume=true: the run in {busy} is still going on in another process")
    state = (
        "every run of this configuration is finished" if folders.all() else "no run of this configuration was started"
    )
    raise ConfigError(f"resume=true: {state} in {folders.parent} (looked for *_{folders.name})")


def _hold(folder: Path) -> bool:
    """Make a folder this process's own; false if another process has it."""
    if folder in _HELD:
        return True
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=2)  # somebody who only looks holds it for an instant
    except Timeout:
        return False
    _HELD[folder] = lock
    return True
