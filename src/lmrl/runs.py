"""The folder of a run: where it is, what configuration it belongs to, and which one to go on with."""

import hashlib
import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from lmrl.checks import ConfigError

_NOT_IDENTITY = ("resume", "data_dir", "runs_dir", "tracking", "hardware")
"""Parts of a configuration that say where and how a run happens, not what it computes."""


def config_hash(config: dict[str, Any]) -> str:
    """Return a digest of what a run computes; equal configurations on other hardware have equal digests."""
    what = {key: value for key, value in config.items() if key not in _NOT_IDENTITY}
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def open_run(runs_dir: Path, task: str, algo: str, name: str, *, resume: bool) -> Path:
    """Return the folder for a run: a new one, or the newest unfinished one of the same name.

    Processes that Lightning starts for further devices find the folder of the first one in the environment.

    Raises:
        ConfigError: there is no run to resume.
    """
    inherited = os.environ.get("LMRL_RUN_DIR")
    if inherited and os.environ.get("LOCAL_RANK") is not None:
        return Path(inherited)
    parent = runs_dir / task / algo
    folder = _unfinished(parent, name) if resume else _new(parent, name)
    os.environ["LMRL_RUN_DIR"] = str(folder)
    return folder


def _new(parent: Path, name: str) -> Path:
    """Make a folder named after the time and the run; two runs never share one."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in range(1000):
        folder = parent / (f"{stamp}_{name}" + (f"_{attempt}" if attempt else ""))
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise ConfigError(f"{parent}: cannot find a free folder name")


def _unfinished(parent: Path, name: str) -> Path:
    """Find the newest folder of this run that has no finished summary."""
    pattern = re.compile(rf"\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d_{re.escape(name)}(_\d+)?$")
    folders = sorted((p for p in parent.glob("*") if pattern.match(p.name)), reverse=True) if parent.is_dir() else []
    for folder in folders:
        summary = folder / "summary.json"
        if not summary.exists() or json.loads(summary.read_text(encoding="utf-8")).get("status") != "finished":
            return folder
    state = "every run of this configuration is finished" if folders else "no run of this configuration was started"
    raise ConfigError(f"resume=true: {state} in {parent} (looked for *_{name})")
