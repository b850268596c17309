"""A task's offline data: read if they are on disk, otherwise made by the task's recipe, once."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lmrl.config.checks import ConfigError
from lmrl.config.types import Number, PathText, Processes
from lmrl.data import store
from lmrl.data.parallel import processes_for, save_shards
from lmrl.data.recipe import Recipe
from lmrl.data.store import Dataset


def loader_of(task: Any) -> Callable[[], Dataset]:
    """Return the function that loads the data of a task's configuration, or makes them first.

    If `dataset.folder` names the data, the recipe is neither built nor checked: nothing is made with it.
    """
    from hydra.utils import instantiate

    if not task.dataset.get("folder"):
        return instantiate(task.dataset)
    settings = copy.deepcopy(task.dataset)
    settings.recipe = None
    load = instantiate(settings)

    def loaded() -> Dataset:
        return of_task(load(), task.name)

    return loaded


def of_task(data: Dataset, task: str) -> Dataset:
    """Return data that are of this task.

    Raises:
        ValueError: they are of another one.
    """
    if data.task != task:
        raise ValueError(f"{data.folder} holds data of the task {data.task!r}, not of {task!r}")
    return data


def load_or_generate(
    *,
    recipe: Recipe | None,
    root: PathText | Path,
    folder: PathText | Path | None = None,
    published: Mapping[str, Number | None] | None = None,
    workers: Processes | None = None,
    progress: bool = True,
) -> Dataset:
    """Return a task's offline data, making and storing them first if nobody has yet.

    Args:
        recipe: makes the data; `None` only if there is a `folder`.
        root: where datasets are kept. Each has a folder of its own, named after the task and the data's fingerprint, so
            changed settings never meet old data.
        folder: read this dataset instead, whoever made it (imported data).
        published: the paper's statistics, for the card; `None` for one that it does not have.
        workers: how many processes make the data; `None`: all cores where it takes long, otherwise one. The rows do not
            depend on it.
        progress: whether to show progress on standard error.

    Raises:
        FileNotFoundError: `folder` is no dataset.
        ValueError: the stored data are damaged, or not of this task; the message says where.
    """
    if folder is not None:
        data = store.load(folder)
        return data if recipe is None else of_task(data, recipe.task)
    if recipe is None:
        raise ValueError("either a folder of data is needed, or a recipe to make them")
    expected = store.fingerprint(task=recipe.task, env_version=recipe.env_version, recipe=recipe.settings())
    place = folder_of(recipe, root)
    if not place.exists():
        known = {name: value for name, value in (published or {}).items() if value is not None}
        generate(recipe, root, published=known, workers=workers, progress=progress)
    data = store.load(place)
    if data.fingerprint != expected:
        raise ValueError(
            f"{place}: fingerprint {data.fingerprint} is not {expected}: delete the folder, and the data are made again"
        )
    return data


def folder_of(recipe: Recipe, root: str | Path) -> Path:
    """Return where the recipe's data are kept."""
    content = store.fingerprint(task=recipe.task, env_version=recipe.env_version, recipe=recipe.settings())
    return Path(root) / f"{recipe.task}-{content}"


def generate(
    recipe: Recipe,
    root: str | Path,
    *,
    published: Mapping[str, int | float] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make and store the recipe's data, and return their folder; while another process makes them, wait for it."""
    place = folder_of(recipe, root)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_name(f".{place.name}.lock").touch()
    except OSError as error:
        raise ConfigError(f"data_dir={root}: cannot write into this folder ({error.strerror})") from error
    with FileLock(place.with_name(f".{place.name}.lock")):  # runs of a sweep begin at the same time
        if not place.exists():
            save_recipe(recipe, place, published=published, workers=workers, progress=progress)
    return place


def save_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    published: Mapping[str, int | float] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Store the recipe's episodes in the folder, which must not exist, and return it.

    Raises:
        FileExistsError: the folder exists.
        ValueError: an episode cannot be stored.
    """
    place = Path(folder)
    if place.exists():
        raise FileExistsError(f"{place} exists already: delete it first, or choose another folder")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    processes = processes_for(recipe, workers)
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True, quiet=not progress)) as bar:
        task = bar.add_task(f"making data of {recipe.task}", total=len(recipe))
        if processes > 1:
            return save_shards(
                recipe, place, processes=processes, published=published, on_episodes=lambda n: bar.advance(task, n)
            )
        episodes = (bar.advance(task) or episode for episode in recipe)
        return store.save(
            episodes,
            place,
            task=recipe.task,
            policy=recipe.policy,
            env_version=recipe.env_version,
            recipe=recipe.settings(),
            published=published,
            statistics=recipe.statistics,
        )
