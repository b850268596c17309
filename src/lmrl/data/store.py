"""Offline data on disk: a folder that is a Hugging Face dataset (Parquet and a card), written whole or not at all."""

import hashlib
import json
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
from lmrl.data.outside import FormatError, parsed
from lmrl.data.rows import FEATURES, RowError, from_row, to_row
from lmrl.data.statistics import Summary
from lmrl.text.trajectory import Trajectory

FORMAT = 2
"""Changes whenever older folders can no longer be read."""
ROWS_PER_FILE, ROWS_PER_GROUP = 50_000, 1_000
DESCRIPTION = "dataset.json"
"""The file that describes the folder."""


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
    """Return 16 hexadecimal digits of a digest of everything that determines the data."""
    content = json.dumps([FORMAT, task, env_version, dict(recipe)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


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
    with _written_whole(target) as unfinished:
        summary = Summary()
        writer = RowWriter(
            unfinished, **names, fingerprint=fingerprint(task=task, env_version=env_version, recipe=recipe)
        )
        files = writer.write(map(summary.add, trajectories))
        if not files:
            raise ValueError(f"{target}: there are no episodes to store")
        finish(unfinished, names, recipe, files, summary, published=published, statistics=statistics)
    return target


def finish(
    folder: Path,
    names: Mapping[str, str],
    recipe: Mapping[str, Any],
    files: Mapping[str, int],
    summary: Summary,
    *,
    published: Mapping[str, int | float] | None = None,
    statistics: Callable[[Iterable[Trajectory]], Mapping[str, int | float]] | None = None,
) -> None:
    """Describe written files, which makes their folder a dataset.

    Args:
        folder: where the files are.
        names: `task`, `policy` and `env_version`.
        recipe: the settings that made the episodes.
        files: the files in order, and how many rows each has.
        summary: has counted all episodes.
        published: as for `save`.
        statistics: as for `save`.
    """
    numbers = summary.statistics()
    if statistics is not None:
        numbers |= statistics(trajectory for name in files for _, trajectory in _read_file(folder / name))
    print_of = fingerprint(task=names["task"], env_version=names["env_version"], recipe=recipe)
    contents = {"fingerprint": print_of, "recipe": dict(recipe), "statistics": numbers}
    description = {"format": FORMAT, **names, **contents, "published": dict(published or {}), "files": dict(files)}
    (folder / "README.md").write_text(card(description), encoding="utf-8")
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


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


class RowWriter:
    """Writes episodes as Parquet files.

    Args:
        folder: where to.
        task: the task's name.
        policy: who played.
        env_version: version of the environment that they were played in.
        fingerprint: of the data; its beginning names the episodes.
    """

    def __init__(self, folder: Path, *, task: str, policy: str, env_version: str, fingerprint: str) -> None:
        self._folder, self._prefix = folder, fingerprint[:8]
        self._names = {"task": task, "policy": policy, "env_version": env_version}

    def write(self, trajectories: Iterable[Trajectory], *, first: int = 0, number: int = 0) -> dict[str, int]:
        """Write files and return how many rows each has.

        Args:
            trajectories: the episodes.
            first: index of the first one in the whole data.
            number: of the first file.
        """
        rows = (self._row(trajectory, index) for index, trajectory in enumerate(trajectories, start=first))
        files: dict[str, int] = {}
        writer: pq.ParquetWriter | None = None
        name = ""
        try:
            while group := list(islice(rows, ROWS_PER_GROUP)):
                if writer is None or files[name] >= ROWS_PER_FILE:
                    if writer is not None:
                        writer.close()
                    name = f"train-{number + len(files):05d}.parquet"
                    files[name] = 0
                    writer = pq.ParquetWriter(self._folder / name, FEATURES.arrow_schema, write_page_checksum=True)
                writer.write_table(pa.Table.from_pylist(group, schema=FEATURES.arrow_schema))
                files[name] += len(group)
        finally:
            if writer is not None:
                writer.close()
        return files

    def _row(self, trajectory: Trajectory, index: int) -> dict[str, Any]:
        """Return the row of an episode; errors name the episode and the field."""
        try:
            return to_row(trajectory, episode_id=f"{self._prefix}-{index:07d}", **self._names)
        except (RowError, TypeError) as error:
            raise ValueError(f"episode {index} cannot be stored: {error}") from error


def _read_file(path: Path) -> Iterator[tuple[dict[str, Any], Trajectory]]:
    """Read the rows of one Parquet file and their episodes; errors name file, row and field."""
    file = _opened(path)
    row = 0
    try:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=FEATURES.arrow_schema.names):
            for values in _values(batch):
                yield values, from_row(values)
                row += 1
    except RowError as error:
        raise ValueError(f"{path}, row {row}, {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}, after row {row}: damaged ({error})") from error


def _values(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Return the rows of a batch; where bytes are not text, those up to there, and then the error."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for row in range(batch.num_rows):
            yield {name: _cell(batch, row, name) for name in batch.schema.names}


def _cell(batch: pa.RecordBatch, row: int, name: str) -> Any:
    try:
        return batch.column(name)[row].as_py()
    except UnicodeDecodeError as error:
        raise RowError(f"field {name!r}: bytes that are not text in UTF-8 ({error})") from error


def describe(folder: str | Path) -> dict[str, Any]:
    """Return the description of a dataset folder.

    Raises:
        FileNotFoundError: the folder is no dataset.
        ValueError: its description is damaged or of another format.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a dataset of lmrl: it has no {DESCRIPTION}")
    try:
        description = parsed(path.read_bytes())
    except FormatError as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    texts = dict.fromkeys(("task", "policy", "env_version", "fingerprint"), str)
    tables = dict.fromkeys(("recipe", "statistics", "published", "files"), dict)
    for name, kind in {"format": int, **texts, **tables}.items():
        if not isinstance(description, dict) or not isinstance(description.get(name), kind):
            raise ValueError(f"{path}: field {name!r} is missing or damaged")
    if description["format"] != FORMAT:
        advice = f"make the data again (python -m lmrl.data generate task={description['task']}) or import them again"
        raise ValueError(f"{path}: format {description['format']}, but this version of lmrl reads {FORMAT}: {advice}")
    if not description["files"] or not all(type(count) is int and count > 0 for count in description["files"].values()):
        raise ValueError(f"{path}: field 'files' must name at least one file, each with its number of rows")
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
            raise ValueError(f"{Path(folder) / name}: has {count} rows, but {DESCRIPTION} says {expected}")


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
