"""Reads files that LMRL-Gym published: one JSON value per line, checked field by field; each task knows its layouts."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lmrl.data.generate import Recipe
from lmrl.text.trajectory import Trajectory


class DamagedError(Exception):
    """A value that is not what its layout says; the message names the field."""


class PublishedFile(ABC):
    """A published file as a recipe, so that it is stored and described like data made here.

    A subclass says in `read` how JSON values become trajectories, and in `options` what it was told about that.

    Args:
        path: the file.
        like: the task's own recipe, which names the task and the environment version and knows the statistics.

    Raises:
        FileNotFoundError: there is no such file.
    """

    policy = "lmrl-gym"

    def __init__(self, *, path: str | Path, like: Recipe) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: there is no such file to import")
        self.task, self.env_version = like.task, like.env_version
        self._like = like

    @abstractmethod
    def read(self, values: Iterator[tuple[int, Any]]) -> Iterator[Trajectory]:
        """Turn the file's values, each with the number of its line, into trajectories.

        Raises:
            DamagedError: a value is not what its layout says.
        """

    def options(self) -> Mapping[str, Any]:
        """Return what else decides how the file is read, as JSON values."""
        return {}

    def settings(self) -> Mapping[str, Any]:
        """Return what decides the imported data: the file's content and how it is read."""
        with self.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        importer = f"{type(self).__module__}.{type(self).__qualname__}"
        return {"importer": importer, "file": self.path.name, "sha256": content, **self.options()}

    def __len__(self) -> int:
        with self.path.open("rb") as file:
            return sum(1 for line in file if line.strip())

    def __iter__(self) -> Iterator[Trajectory]:
        """Read the file.

        Raises:
            ValueError: a line is damaged; the message names file, line and field.
        """
        line = 0

        def values() -> Iterator[tuple[int, Any]]:
            nonlocal line
            with self.path.open("rb") as file:
                for line, text in enumerate(file, start=1):
                    if text.strip():
                        yield line, _parsed(text)

        try:
            yield from self.read(values())
        except DamagedError as error:
            raise ValueError(f"{self.path}, line {line}, {error}") from error

    def statistics(self, trajectories: Iterable[Trajectory]) -> Mapping[str, int | float]:
        """Return the statistics that the task's own recipe computes."""
        return self._like.statistics(trajectories)


def _parsed(line: bytes) -> Any:
    """Return the JSON value of a line."""
    try:
        return json.loads(line)
    except ValueError as error:
        raise DamagedError(f"the whole line: not JSON ({error})") from error


def listed(value: Mapping[str, Any], name: str) -> list[Any]:
    """Return a field that must be a list."""
    if not isinstance(value.get(name), list):
        raise DamagedError(f"field {name!r}: expected a list, got {short(value.get(name))}")
    return value[name]


def text(value: Any, place: str) -> str:
    """Return a value that must be text."""
    if not isinstance(value, str):
        raise DamagedError(f"{place}: expected text, got {short(value)}")
    return value


def number(value: Any, place: str) -> float:
    """Return a value that must be a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DamagedError(f"{place}: expected a finite number, got {short(value)}")
    return float(value)


def flag(value: Any, place: str) -> bool:
    """Return a value that must be true or false."""
    if not isinstance(value, bool):
        raise DamagedError(f"{place}: expected true or false, got {short(value)}")
    return value


def step(item: Any, index: int) -> tuple[str, str, float]:
    """Return an object with `state`, `action`, `reward` and `done`, a layout of several tasks, without the last."""
    if not isinstance(item, dict):
        raise DamagedError(f"step {index}: expected an object, got {short(item)}")
    for name in ("state", "action", "reward", "done"):
        if name not in item:
            raise DamagedError(f"step {index}, field {name!r}: missing")
    place = f"step {index}, field"
    flag(item["done"], f"{place} 'done'")
    return (
        text(item["state"], f"{place} 'state'"),
        text(item["action"], f"{place} 'action'"),
        number(item["reward"], f"{place} 'reward'"),
    )


def short(value: Any) -> str:
    """Show a value in an error, however long it is."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
