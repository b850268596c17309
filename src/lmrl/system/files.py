"""Files that are written whole or not at all, and that colleagues can read."""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def replacing(path: Path, *, is_shared: bool = True) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` at the end of the block, or vanishes if the block fails.

    Args:
        path: the file; at any time it has either its old content or the whole new one.
        is_shared: whether other processes may write the same file at the same time. If not, the unfinished file has a
            fixed name, so that a killed process leaves at most one behind.

    Raises:
        OSError: the disk is full or cannot be written; the old file is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    if is_shared:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        unfinished = Path(name)
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(_mode())  # mkstemp makes files that only their owner can read
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(text: str, path: Path) -> None:
    """Write a text file, whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written; the old file is kept.
    """
    with replacing(path) as file:
        file.write(text.encode())


def write_json(value: Any, path: Path) -> None:
    """Write a value as JSON, whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written; the old file is kept.
    """
    write_text(json_text(value, indent=2) + "\n", path)


def json_text(value: Any, **options: Any) -> str:
    """Return a value as JSON that any reader accepts: NaN and infinity become null, arrays lists.

    Args:
        value: mappings, sequences, arrays and scalars; anything else becomes its text.
        options: as `json.dumps` takes them.
    """
    return json.dumps(_plain(value), allow_nan=False, **options)


def _plain(value: Any) -> Any:
    """Return a value in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


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
