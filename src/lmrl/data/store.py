"""Offline data on disk: a folder that is a Hugging Face dataset (Parquet and a card), written whole or not at all."""

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmrl.data.card import card
from lmrl.data.rows import FEATURES, RowError, from_row, to_row
from lmrl.text.trajectory import Trajectory

FORMAT = 1
"""Changes whenever older folders can no longer be read."""
ROWS_PER_FILE, ROWS_PER_GROUP = 50_000, 1_000
DESCRIPTION = "dataset.json"
"""The file that says what the folder holds."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Episodes and where they come from."""

    trajectories: list[Trajectory]
    folder: Path
    task: str
    policy: str
    env_version: str
    fingerprint: str
    """Equal fingerprints mean equal data: it covers task, recipe with its seed, and environment version."""
    recipe: Mapping[str, Any]
    statistics: Mapping[str, int | float]
    published: Mapping[str, int | float] = field(default_factory=dict)
    """The same statistics as the paper reports them."""


def fingerprint(*, task: str, env_version: str, recipe: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that stand for everything that decides what the data are."""
    content = json.dumps([FORMAT, task, env_version, dict(recipe)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Summary:
    """Sums up episodes one by one, so that data larger than the memory can be described."""

    def __init__(self) -> None:
        self._count = self._successes = self._told = 0
        self._sums = {"length": [0.0, 0.0], "return": [0.0, 0.0]}

    def add(self, trajectory: Trajectory) -> Trajectory:
        """Count one more episode, and return it."""
        self._count += 1
        self._told += "success" in trajectory.info
        self._successes += bool(trajectory.info.get("success", False))
        for name, value in (("length", trajectory.length), ("return", trajectory.total_reward)):
            self._sums[name][0] += value
            self._sums[name][1] += value * value
        return trajectory

    def statistics(self) -> dict[str, int | float]:
        """Return number, length and return with standard deviations, and the success rate where it is known."""
        numbers: dict[str, int | float] = {"trajectories": self._count}
        for name, (total, squares) in self._sums.items():
            mean = total / max(self._count, 1)
            numbers[f"{name}_mean"] = mean
            numbers[f"{name}_std"] = math.sqrt(max(squares / max(self._count, 1) - mean * mean, 0.0))
        if self._told:
            numbers["success_rate"] = self._successes / self._told
        return numbers


def save(
    trajectories: Iterable[Trajectory],
    folder: str | Path,
    *,
    task: str,
    policy: str,
    env_version: str,
    recipe: Mapping[str, Any],
    published: Mapping[str, int | float] | None = None,
    statistics: Callable[[Iterable[Trajectory]], Mapping[str, int | float]] | None = None,
) -> Path:
    """Write episodes as a dataset folder and return it; until all is written, nothing is at that place.

    Args:
        trajectories: the episodes; read once, and never all in memory.
        folder: where to; must not exist.
        task: the task's name.
        policy: who played.
        env_version: version of the environment that they were played in.
        recipe: the settings that made the episodes, as JSON values.
        published: the paper's statistics, for the card.
        statistics: computes further statistics from the episodes.

    Raises:
        FileExistsError: the folder exists.
        ValueError: there are no episodes, or one cannot be stored.
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target} exists already: delete it first, or choose another folder")
    names = {"task": task, "policy": policy, "env_version": env_version}
    print_of = fingerprint(task=task, env_version=env_version, recipe=recipe)
    with _written_whole(target) as unfinished:
        summary = Summary()
        counted = map(summary.add, trajectories)
        numbered = ((f"{print_of[:8]}-{index:07d}", trajectory) for index, trajectory in enumerate(counted))
        files = _write_rows((to_row(trajectory, episode_id=name, **names) for name, trajectory in numbered), unfinished)
        if not files:
            raise ValueError(f"{target}: there are no episodes to store")
        numbers = summary.statistics()
        if statistics is not None:
            numbers |= statistics(trajectory for name in files for _, trajectory in _read_file(unfinished / name))
        contents = {"fingerprint": print_of, "recipe": dict(recipe), "statistics": numbers}
        description = {"format": FORMAT, **names, **contents, "published": dict(published or {}), "files": files}
        (unfinished / "README.md").write_text(card(description), encoding="utf-8")
        (unfinished / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return target


@contextmanager
def _written_whole(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside the target that is renamed to it at the end, or deleted after an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.unfinished"
    unfinished.mkdir()
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_rows(rows: Iterator[dict[str, Any]], folder: Path) -> dict[str, int]:
    """Write Parquet files and return how many rows each has."""
    files: dict[str, int] = {}
    writer: pq.ParquetWriter | None = None
    name = ""
    try:
        while group := list(islice(rows, ROWS_PER_GROUP)):
            if writer is None or files[name] >= ROWS_PER_FILE:
                if writer is not None:
                    writer.close()
                name = f"train-{len(files):05d}.parquet"
                files[name] = 0
                writer = pq.ParquetWriter(folder / name, FEATURES.arrow_schema, write_page_checksum=True)
            writer.write_table(pa.Table.from_pylist(group, schema=FEATURES.arrow_schema))
            files[name] += len(group)
    finally:
        if writer is not None:
            writer.close()
    return files


def _read_file(path: Path) -> Iterator[tuple[dict[str, Any], Trajectory]]:
    """Read the rows of one Parquet file and their episodes; errors name file, row and field."""
    file = _opened(path)
    row = 0
    try:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=FEATURES.arrow_schema.names):
            for values in batch.to_pylist():
                yield values, from_row(values)
                row += 1
    except RowError as error:
        raise ValueError(f"{path}, row {row}, {error}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}, after row {row}: damaged ({error})") from error


def describe(folder: str | Path) -> dict[str, Any]:
    """Return what a dataset folder says about itself.

    Raises:
        FileNotFoundError: the folder is no dataset.
        ValueError: its description is damaged or of another format.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a dataset of lmrl: it has no {DESCRIPTION}")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    texts = dict.fromkeys(("task", "policy", "env_version", "fingerprint"), str)
    tables = dict.fromkeys(("recipe", "statistics", "published", "files"), dict)
    for name, kind in {"format": int, **texts, **tables}.items():
        if not isinstance(description, dict) or not isinstance(description.get(name), kind):
            raise ValueError(f"{path}: field {name!r} is missing or damaged")
    if description["format"] != FORMAT:
        raise ValueError(f"{path}: format {description['format']} is not {FORMAT}, which this version of lmrl reads")
    return description


def _opened(path: Path) -> pq.ParquetFile:
    """Open a Parquet file and check that its fields are those of an episode."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({error})") from error
    found = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
    for expected in FEATURES.arrow_schema:
        if expected.name not in found:
            raise ValueError(f"{path}: field {expected.name!r} is missing")
        if not found[expected.name].equals(expected.type):
            raise ValueError(f"{path}: field {expected.name!r} has type {found[expected.name]}, not {expected.type}")
    return file


def _checked(folder: str | Path) -> Iterator[tuple[dict[str, Any], Trajectory]]:
    """Read all rows of a dataset folder and their episodes, checking everything."""
    for name, expected in describe(folder)["files"].items():
        count = 0
        for pair in _read_file(Path(folder) / name):
            count += 1
            yield pair
        if count != expected:
            raise ValueError(f"{Path(folder) / name}: has {count} rows, but {DESCRIPTION} promises {expected}")


def rows(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Read the rows of a dataset folder as they are stored; errors as for `read`."""
    return (row for row, _ in _checked(folder))


def read(folder: str | Path) -> Iterator[Trajectory]:
    """Read the episodes of a dataset folder one by one, checking every field of every row.

    Raises:
        FileNotFoundError: the folder is no dataset.
        ValueError: a file is damaged or foreign; the message names file, row and field.
    """
    return (trajectory for _, trajectory in _checked(folder))


def load(folder: str | Path) -> Dataset:
    """Read a dataset folder into memory.

    Raises:
        FileNotFoundError: the folder is no dataset.
        ValueError: a file is damaged or foreign; the message names file, row and field.
    """
    description = describe(folder)
    names = ("task", "policy", "env_version", "fingerprint", "recipe", "statistics", "published")
    return Dataset(list(read(folder)), Path(folder), **{name: description[name] for name in names})
