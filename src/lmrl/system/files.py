"""Files that are written whole or not at all, and that colleagues can read."""

import os
import tempfile
from pathlib import Path


def write_text(text: str, path: Path) -> None:
    """Write a file that is either the old one or the whole new one, whenever the process dies.

    Raises:
        OSError: the disk is full or cannot be written; the old file is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def open_to_readers(folder: Path) -> None:
    """Give the files of a folder the permissions of new files; some libraries write files only for their owner."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(_mode())


def _mode() -> int:
    """Return the permissions that this process gives to new files."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
