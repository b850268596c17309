"""Reads files from outside as recipes: one JSON value per line, or one array of them, checked field by field."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from lmrl.data.outside import FormatError, refuse, short, syntax_only
from lmrl.data.recipe import Recipe
from lmrl.data.rows import flaw
from lmrl.text.trajectory import Trajectory

__all__ = ["FormatError", "PublishedArray", "PublishedFile", "flag", "listed", "number", "short", "step", "text"]

Place = dict[str, int]
"""Where a value stands in its file: `line`, from 1, or `index` in an array, from 0, or both."""
Entry = tuple[str, Place, Callable[[], Any]]
"""A value's place in words, for errors; the same as numbers; and how to get the value, checked."""


class PublishedFile(ABC):
    """A published file as a recipe, so that it is stored and described like data made here.

    A subclass says in `read` how JSON values become trajectories, and in `options` which settings decide that.

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
    def read(self, values: Iterator[tuple[Place, Any]]) -> Iterator[Trajectory]:
        """Turn the file's values, each with its place, into trajectories.

        Raises:
            FormatError: a value is not as its layout says.
        """

    def options(self) -> Mapping[str, Any]:
        """Return further settings of the reader, as JSON values."""
        return {}

    def settings(self) -> Mapping[str, Any]:
        """Return everything that determines the imported data: the file's content and the reader's settings."""
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
            ValueError: something is damaged; the message names file, place and field.
        """
        where = ""

        def values() -> Iterator[tuple[Place, Any]]:
            nonlocal where
            for where, place, value in self.entries():
                yield place, value()
                where = ""  # errors of finding the next entry name its place themselves

        try:
            for episode in self.read(values()):
                if problem := flaw(episode):
                    raise FormatError(problem)
                yield episode
        except FormatError as error:
            raise ValueError(f"{self.path}, {where}{error}") from error

    def entries(self) -> Iterator[Entry]:
        """Find the file's values: each line that is not blank is one.

        Raises:
            FormatError: the file cannot be divided into values; the message names the place.
        """
        for line, content in self._lines():
            yield f"line {line}, ", {"line": line}, partial(_whole, "line", content)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Read the lines that are not blank, each with its number."""
        with self.path.open("rb") as file:
            for line, content in enumerate(file, start=1):
                if content.strip():
                    yield line, content

    def statistics(self, trajectories: Iterable[Trajectory]) -> Mapping[str, int | float]:
        """Return the statistics that the task's own recipe computes."""
        return self._like.statistics(trajectories)


class PublishedArray(PublishedFile):
    """A published file whose values are lines, or entries of arrays: one array in each line, or one in all lines."""

    noun: ClassVar[str] = "conversation"
    """The name of an array's entry in errors."""

    def __len__(self) -> int:
        try:
            return sum(1 for _ in self.entries())
        except FormatError:
            return 0  # reading reports the fault and its place

    def entries(self) -> Iterator[Entry]:
        """Find the file's values: the results of `split` for the whole file, or for each of its lines.

        Raises:
            FormatError: the file is not JSON; the message names the place.
        """
        if self._is_one_value():
            yield from self.split(_whole("file", self.path.read_bytes(), check=False), "", {})
            return
        for line, content in self._lines():
            where = f"line {line}, "
            try:
                value = _whole("line", content, check=False)
            except FormatError as error:
                raise FormatError(f"{where}{error}") from error
            yield from self.split(value, where, {"line": line})

    def _is_one_value(self) -> bool:
        """Whether the file is one value: it has a single line, or its first line is not a value of its own."""
        first = list(islice(self._lines(), 2))
        if len(first) < 2:
            return True
        try:
            json.loads(first[0][1])
        except RecursionError:
            return False
        except ValueError:
            return True
        return False

    def split(self, value: Any, where: str, place: Place) -> Iterator[Entry]:
        """Divide a value into episodes: the entries of an array, or the value itself."""
        if not isinstance(value, list):
            yield where, place, partial(_checked, value)
            return
        for index, item in enumerate(value):
            yield f"{where}{self.noun} {index}, ", place | {"index": index}, partial(_checked, item)


def _whole(unit: str, content: bytes, *, check: bool = True) -> Any:
    """Return the JSON value of a whole file or line."""
    try:
        value = syntax_only(content)
    except FormatError as error:
        raise FormatError(f"the whole {unit}: {error}") from error
    return _checked(value) if check else value


def _checked(value: Any) -> Any:
    """Return a value that has nothing in it which cannot be stored."""
    refuse(value)
    return value


def listed(value: Mapping[str, Any], name: str) -> list[Any]:
    """Return a field that must be a list."""
    if not isinstance(value.get(name), list):
        raise FormatError(f"field {name!r}: expected a list, got {short(value.get(name))}")
    return value[name]


def text(value: Any, place: str) -> str:
    """Return a value that must be text."""
    if not isinstance(value, str):
        raise FormatError(f"{place}: expected text, got {short(value)}")
    return value


def number(value: Any, place: str) -> float:
    """Return a value that must be a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{place}: expected a finite number, got {short(value)}")
    return float(value)


def flag(value: Any, place: str) -> bool:
    """Return a value that must be true or false."""
    if not isinstance(value, bool):
        raise FormatError(f"{place}: expected true or false, got {short(value)}")
    return value


def step(item: Any, index: int) -> tuple[str, str, float]:
    """Return an object with `state`, `action`, `reward` and `done`, a layout of several tasks, without the last."""
    if not isinstance(item, dict):
        raise FormatError(f"step {index}: expected an object, got {short(item)}")
    for name in ("state", "action", "reward", "done"):
        if name not in item:
            raise FormatError(f"step {index}, field {name!r}: missing")
    place = f"step {index}, field"
    flag(item["done"], f"{place} 'done'")
    return (
        text(item["state"], f"{place} 'state'"),
        text(item["action"], f"{place} 'action'"),
        number(item["reward"], f"{place} 'reward'"),
    )
