"""Make, look at, export and import offline data: `python -m lmrl.data inspect task=maze`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lmrl.config.compose import compose_task, guarded
from lmrl.system.signals import ended

_USAGE = """
  python -m lmrl.data generate task=maze                       make the data of a task
  python -m lmrl.data inspect  task=maze --episodes 3          statistics and a few episodes
  python -m lmrl.data export   task=maze --to maze.jsonl       one chat per line (.jsonl), or a dataset folder
  python -m lmrl.data import   task=maze --file dialogues.jsonl   store a file as a dataset: a published one, an
                                                                  exported one, or your own dialogues
Anything like key=value changes the configuration, as for run.py: task.env.layout=umaze, data_dir=/elsewhere.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; errors of the user's making end in one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m lmrl.data", usage=_USAGE, description=__doc__)
    parser.add_argument("command", choices=sorted(_COMMANDS))
    parser.add_argument("overrides", nargs="*", help="task=NAME and other configuration overrides")
    parser.add_argument("--episodes", type=int, default=3, help="how many episodes to show (inspect)")
    parser.add_argument("--to", type=Path, help="a .jsonl file or a new folder (export); a new folder (import)")
    parser.add_argument(
        "--file", type=Path, help="the file (import): published, exported, or dialogues of your own (docs/data.md)"
    )
    parser.add_argument("--config", type=Path, help="the configuration folder; default: conf")
    options = parser.parse_intermixed_args(arguments)
    return guarded(lambda: _COMMANDS[options.command](compose_task(options.overrides, options.config), options))


def _recipe(task: Any) -> Any:
    """Build the task's recipe."""
    from hydra.utils import instantiate

    return instantiate(task.dataset.recipe, _convert_="all")


def _published(task: Any) -> dict[str, int | float]:
    """Return the paper's statistics as plain numbers."""
    return {str(name): value for name, value in (task.dataset.get("published") or {}).items() if value is not None}


def _folder(task: Any) -> Path:
    """Return the folder with the task's data, which are made first if there are none."""
    from lmrl.data.generate import folder_of, generate

    if task.dataset.get("folder"):
        return Path(task.dataset.folder)
    recipe = _recipe(task)
    place = folder_of(recipe, task.dataset.root)
    return (
        place
        if place.exists()
        else generate(recipe, task.dataset.root, published=_published(task), workers=task.dataset.get("workers"))
    )


def _generate(task: Any, options: argparse.Namespace) -> None:  # noqa: ARG001 - all commands share one signature
    """Make the data and say where they are."""
    print(_folder(task))


def _inspect(task: Any, options: argparse.Namespace) -> None:
    """Print the statistics and a few episodes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lmrl.data.card import statistics_table
    from lmrl.data.store import describe, read

    folder = _folder(task)
    description = describe(folder)
    console = Console()
    names = ("task", "policy", "env_version", "fingerprint")
    console.print(Text(f"{folder}  ({', '.join(f'{name} {description[name]}' for name in names)})", style="bold"))
    table = Table("", "here", "paper")
    for cells in statistics_table(description["statistics"], description["published"]):
        table.add_row(*cells)
    console.print(table)
    for index, trajectory in enumerate(islice(read(folder), options.episodes)):
        end = "terminated" if trajectory.terminated else "cut off"
        title = f"\nepisode {index}: {trajectory.length} actions, return {trajectory.total_reward:g}, {end}"
        console.print(Text(title, style="bold"))
        for turn in trajectory.turns:
            reward = f"   [{turn.reward:g}]" if turn.is_action else ""
            style = "green" if turn.is_action else ""
            console.print(Text(f"{'> ' if turn.is_action else '  '}{turn.text.rstrip()}{reward}", style=style))


def _export(task: Any, options: argparse.Namespace) -> None:
    """Write the data as JSON lines or as a copy of the dataset folder."""
    import shutil

    from lmrl.data.store import rows

    target = options.to
    if target is None:
        raise ValueError("export needs --to: a file that ends in .jsonl, or a new folder")
    if target.exists():
        raise FileExistsError(f"{target} exists already: delete it first, or choose another place")
    folder = _folder(task)
    if target.suffix != ".jsonl":
        shutil.copytree(folder, target)
        print(target)
        return
    unfinished = target.with_name(f".{target.name}.unfinished")
    target.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.open("w", encoding="utf-8") as file:
        for row in rows(folder):
            file.write(json.dumps({**row, "meta": json.loads(row["meta"])}, ensure_ascii=False) + "\n")
    unfinished.replace(target)
    print(target)


def _import(task: Any, options: argparse.Namespace) -> None:
    """Store a file as a dataset folder."""
    from lmrl.data.generate import folder_of, save_recipe

    if options.file is None:
        raise ValueError("import needs --file: the file to import")
    recipe = _importer(task, options.file)(path=options.file, like=_recipe(task))
    place = save_recipe(recipe, options.to or folder_of(recipe, task.dataset.root), published=_published(task))
    print(f"{place}\nto train on it: task.dataset.folder={place}")


def _importer(task: Any, file: Path) -> Callable[..., Any]:
    """Return the reader of a file: lmrl's own reader of dialogues, or else the task's importer.

    Raises:
        ValueError: it is not a file of dialogues, and the task has no importer.
    """
    from hydra.utils import instantiate

    from lmrl.data.dialogues import Dialogues, holds_dialogues

    if holds_dialogues(file):
        return Dialogues
    if not task.get("importer"):
        raise ValueError(
            f"{file}: the lines have no field 'messages', and the task {task.name} has no importer for other layouts: "
            "write one JSON object with messages and rewards per line (docs/data.md)"
        )
    return instantiate(task.importer)


_COMMANDS = {"generate": _generate, "inspect": _inspect, "export": _export, "import": _import}

if __name__ == "__main__":
    sys.exit(ended(main))
