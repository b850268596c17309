"""How many questions of people the embedded partner of a dialogue task understands, and how many it answers rightly."""

import csv
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrl.coverage.trial import Heard, says
from lmrl.data.outside import DamagedError, parsed


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a file."""

    question: str
    brief: Mapping[str, str]
    """What the partner knows, such as the hidden object. Empty: the file does not say."""
    expected: str
    """What the answer must be, or contain as whole words. Empty: the file does not say."""


@dataclass(frozen=True, slots=True)
class Partner:
    """What the embedded partner of a task offers: whether it understands a question, and what it answers."""

    understood: Callable[[str], bool]
    answer: Callable[[dict[str, Any], str], str]

    def hear(self, asked: Asked) -> Heard:
        """Ask one question."""
        is_understood = self.understood(asked.question)
        reply = self.answer(dict(asked.brief), asked.question) if asked.brief else ""
        is_expected = not asked.expected or says(reply, asked.expected)
        about, is_right = ", ".join(asked.brief.values()), is_understood and is_expected
        return Heard(
            asked.question, about, is_understood, reply, asked.expected, is_right, is_judged=bool(asked.expected)
        )


def partner_of(task: str) -> Partner:
    """Return the embedded partner of a task.

    Raises:
        ValueError: the task has none that can be asked.
    """
    try:
        module = importlib.import_module(f"lmrl.tasks.{task}.partner")
        return Partner(module.understood, module.answer)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--task {task}: this task has no embedded partner that can be asked questions") from error


def heard(task: str, path: str | Path) -> list[Heard]:
    """Try what a file says on the embedded partner of a task.

    A task whose partner hears more than questions, or whose files are of another kind, has a module
    `lmrl.tasks.<task>.coverage` with a function `heard` for it; `questions` reads the files of the others.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the task has no such partner, or the file cannot be read or is empty.
    """
    name = f"lmrl.tasks.{task}.coverage"
    if task.isidentifier() and importlib.util.find_spec(name):  # a dot would look for a package
        found = list(importlib.import_module(name).heard(Path(path)))
    else:
        partner = partner_of(task)
        found = [partner.hear(asked) for asked in questions(path)]
    if not found:
        raise ValueError(f"{path}: there are no questions in it")
    return found


def questions(path: str | Path) -> Iterator[Asked]:
    """Read the questions of a file.

    A file that ends in `.csv` has a column `question`; `answer`, if there is one, is what is expected, and all other
    columns are the brief. Any other is JSON, a list of conversations whose `lines` (or `conversation`) are texts of a
    question and its answer; neither the brief nor what is expected is known of these.

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
        said = [line for item in conversations for line in item.get("lines") or item["conversation"]]
        yield from (Asked(f"{line.rpartition('? ')[0].strip()}?", {}, "") for line in said if "? " in line)
    except DamagedError as error:
        raise ValueError(f"{file}, {error}") from error
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file}: expected a list of conversations with lines, or a file .csv ({error!r})") from error
