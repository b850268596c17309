"""What decides a run's numbers beside its configuration: the versions of packages and of this code."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import lmrl

PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "lightning": "pytorch-lightning",
    "datasets": "datasets",
    "mlflow": "mlflow",
}
"""The packages whose versions decide results, by the name they have in summary.json."""


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

    A repository that merely contains the installed package (a virtual environment inside somebody's project) is not
    this code's: only one that tracks this file counts.
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
    """Return what a git command prints.

    Raises:
        OSError: git is not installed.
        subprocess.SubprocessError: the command failed or hung.
    """
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
