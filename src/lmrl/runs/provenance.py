"""The provenance of a run: everything besides its configuration that determines its numbers, such as versions."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import lmrl
from lmrl.config.types import ConfigError

PROVENANCE = "provenance.json"
FORMAT = 2
"""The format of a run folder, in its provenance.json and summary.json; folders of lmrl 0.1 have none."""
Kind = Literal["run", "evaluation"]
"""A run, or a re-evaluation of one."""

PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "lightning": "pytorch-lightning",
    "datasets": "datasets",
    "mlflow": "mlflow",
}
"""The packages whose versions determine results, by their names in summary.json."""


def versions() -> dict[str, str | None]:
    """Return the versions that a reader needs to repeat a run; `None` where a package is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {**found, "lmrl": lmrl.__version__}


def git_commit() -> str | None:
    """Return the commit of this code, with `-dirty` if files differ from it; `None` outside of a repository.

    Only a repository that tracks this file counts, not one that merely contains the installed package, such as a
    project with a virtual environment inside.
    """
    here = Path(__file__).resolve()
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        commit = _git(here.parent, "rev-parse", "HEAD")
        changed = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of a git command.

    Raises:
        OSError: git is not installed.
        subprocess.SubprocessError: the command failed or hung.
    """
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def timestamp() -> str:
    """Return the time as summary.json and provenance.json write it: ISO 8601, UTC, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe(
    *,
    overrides: Sequence[str],
    choices: Mapping[str, str],
    env_version: str,
    dataset: str,
    changed: Mapping[str, Any] | None = None,
    kind: Kind = "run",
) -> dict[str, Any]:
    """Return everything that determined a run's numbers, as plain values for `provenance.json`.

    Args:
        overrides: the arguments of `run.py`, as they were typed.
        choices: the chosen configuration of each group, such as `task: maze`.
        env_version: version of the environment.
        dataset: fingerprint of the data.
        changed: as from `lmrl.runs.recorded.changes_of`.
        kind: a run, or a re-evaluation of one.
    """
    return {
        "format": FORMAT,
        "kind": kind,
        "started": timestamp(),
        "command": shlex.join(["python", "run.py", *overrides]),
        "overrides": list(overrides),
        "changed": None if changed is None else dict(changed),
        "choices": {name: choice for name, choice in choices.items() if not name.startswith("hydra")},
        "versions": versions(),
        "git_commit": git_commit(),
        "env_version": env_version,
        "dataset": dataset,
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
    }


def provenance(folder: Path) -> dict[str, Any]:
    """Return the content of a run's provenance.json, as `describe` made it.

    Raises:
        ConfigError: the run was made by a version of lmrl with another format of run folders.
    """
    file = folder / PROVENANCE
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if record.get("format") != FORMAT:
        raise ConfigError(
            f"{folder} was written by another version of lmrl, such as 0.1, and cannot be read by this one: "
            "run the experiment again"
        )
    return record


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe the differences between two descriptions that may change numbers; unknown values are left out."""
    found = [
        f"{name} {recorded['versions'].get(name)}, now {version}"
        for name, version in now["versions"].items()
        if recorded["versions"].get(name, version) != version
    ]
    names = {"git_commit": "code", "env_version": "environment", "dataset": "data", "machine": "machine"}
    for key, name in names.items():
        if recorded.get(key) and now.get(key) and recorded[key] != now[key]:
            found.append(f"{name} {_short(recorded[key])}, now {_short(now[key])}")
    return found


def _short(value: Any) -> str:
    """Shorten a value to fit into a line: digests to their first letters."""
    if isinstance(value, Mapping):
        return " ".join(str(part) for part in value.values())
    text = str(value)
    digest, _, rest = text.partition("-")
    return f"{digest[:12]}-{rest}" if rest else text[:12]
