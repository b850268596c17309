"""Try a file of utterances on the embedded partner of a task, and read the usual files of questions."""

import csv
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lmrl.coverage.trial import Trial
from lmrl.data.outside import FormatError, parsed


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a file."""

    question: str
    brief: Mapping[str, str]
    """The partner's secret, such as the hidden object. Empty: the file has none."""
    expected: str
    """The answer, or whole words that it must contain. Empty: the file has none."""


def trials(task: str, path: str | Path) -> list[Trial]:
    """Try the utterances of a file on the embedded partner of a task.

    The module `lmrl.tasks.<task>.coverage` reads the file and judges, with a function `trials(path)`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the task has no such partner, or the file cannot be read or is empty.
    """
    name = f"lmrl.tasks.{task}.coverage"
    if not task.isidentifier() or not _exists(name):  # a dot would look for a package
        raise ValueError(f"--task {task}: this task has no embedded partner that can be asked questions")
    found = list(importlib.import_module(name).trials(Path(path)))
    if not found:
        raise ValueError(f"{path}: there are no questions in it")
    return found


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is there a package of the task
        return False


def questions(path: str | Path) -> Iterator[Asked]:
    """Read the questions of a file.

    A file that ends in `.csv` has a column `question`, perhaps one `answer` with the expected words, and all other
    columns are the brief. Any other file is JSON, a list of conversations whose `lines` (or `conversation`) are texts
    of a question and its answer, without brief and expected answer.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read as that.
    """
    file = Path(path)
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                if not row.get("question"):
                    raise ValueError(f"{file}: a row has no question: {row}")
                brief = {name: value for name, value in row.items() if name not in ("question", "answer")}
                yield Asked(row["question"], brief, row.get("answer") or "")
        return
    try:
        conversations = parsed(file.read_bytes())
        texts = [line for item in conversations for line in item.get("lines") or item["conversation"]]
        yield from (Asked(f"{line.rpartition('? ')[0].strip()}?", {}, "") for line in texts if "? " in line)
    except FormatError as error:
        raise ValueError(f"{file}, {error}") from error
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file}: expected a list of conversations with lines, or a file .csv ({error!r})") from error
