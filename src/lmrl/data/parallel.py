"""Make a recipe's data in several processes; the next attempt uses the files that an interruption leaves."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing
from itertools import islice
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, runtime_checkable

from lmrl.data import store
from lmrl.data.statistics import Summary
from lmrl.system.signals import ENDING, held
from lmrl.text.trajectory import Trajectory

PATIENCE = 10.0
"""Seconds of work in one process from which on starting others pays."""
_SAMPLE = 50
_SHARDS_PER_PROCESS = 8


@runtime_checkable
class Playable(Protocol):
    """A recipe that can make any of its episodes alone, from its index, and that can be pickled."""

    def __len__(self) -> int: ...

    def play(self, index: int) -> Trajectory:
        """Make one episode; it depends on nothing but the recipe's settings and the index."""
        ...


def processes_for(recipe: Any, workers: int | None) -> int:
    """Return how many processes make a recipe's data: the cores if the work is long, otherwise one.

    Args:
        recipe: the recipe; without `play` it is made in one process. A few of its episodes are made to see how long
            they take.
        workers: the number, if it is given.
    """
    if not isinstance(recipe, Playable):
        return 1
    if workers is not None:
        return max(1, min(workers, len(recipe)))
    count = min(_SAMPLE, len(recipe))
    began, played = time.perf_counter(), 0
    while played < count and time.perf_counter() - began < 2:
        recipe.play(played)
        played += 1
    seconds = (time.perf_counter() - began) / max(played, 1) * len(recipe)
    return len(os.sched_getaffinity(0)) if seconds > PATIENCE else 1


def save_shards(
    recipe: Any,
    folder: Path,
    *,
    processes: int,
    published: Mapping[str, int | float] | None,
    on_episodes: Callable[[int], None],
) -> Path:
    """Store a `Playable` recipe's data, making the files in several processes; the rows are the same as with one.

    Until all is written, files are in a hidden folder beside the target. Whole files that an earlier attempt has left
    there are kept.

    Args:
        recipe: makes the episodes.
        folder: where to; must not exist.
        processes: how many play at once.
        published: the paper's statistics, for the card.
        on_episodes: told how many more episodes have been stored.

    Raises:
        ValueError: an episode cannot be stored.
        concurrent.futures.process.BrokenProcessPool: a process was killed. The same call goes on from there.
    """
    names = {"task": recipe.task, "policy": recipe.policy, "env_version": recipe.env_version}
    settings = recipe.settings()
    fingerprint = store.fingerprint(task=recipe.task, env_version=recipe.env_version, recipe=settings)
    unfinished = folder.parent / f".{folder.name}.parts"
    bounds = _plan(unfinished, fingerprint, len(recipe), processes)
    summary, files = Summary(), {}
    write = _Shard(recipe, unfinished, {**names, "fingerprint": fingerprint})
    done: dict[int, Mapping[str, float]] = {}
    with closing(_shards(write, bounds, processes)) as shards:
        for number, sums in shards:
            done[number] = sums
            on_episodes(int(sums["episodes"]))
    for number in range(len(bounds)):
        summary.merge(done[number])
        files[_name(number)] = bounds[number][1] - bounds[number][0]
    store.finish(unfinished, names, settings, files, summary, published=published, statistics=recipe.statistics)
    for left in (*unfinished.glob("*.sums.json"), unfinished / _PLAN):
        left.unlink()
    os.replace(unfinished, folder)
    return folder


_PLAN = "plan.json"


def _name(number: int) -> str:
    return f"train-{number:05d}.parquet"


def _plan(folder: Path, fingerprint: str, episodes: int, processes: int) -> Sequence[tuple[int, int]]:
    """Return the first and the last index (exclusive) of each file: those of an earlier attempt, if there was one."""
    size = -(-episodes // (processes * _SHARDS_PER_PROCESS))
    size = min(max(size, 1), store.ROWS_PER_FILE)
    plan = folder / _PLAN
    try:
        found = json.loads(plan.read_text(encoding="utf-8"))
        if found["fingerprint"] == fingerprint and found["episodes"] == episodes:
            size = found["size"]
        else:
            shutil.rmtree(folder)
    except (OSError, ValueError, KeyError):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    plan.write_text(json.dumps({"fingerprint": fingerprint, "episodes": episodes, "size": size}), encoding="utf-8")
    return [(first, min(first + size, episodes)) for first in range(0, episodes, size)]


class _Shard:
    """Writes one file of the data, in whatever process it is called.

    Args:
        recipe: makes the episodes.
        folder: where the files are written.
        names: the arguments of `store.RowWriter`.
    """

    def __init__(self, recipe: Playable, folder: Path, names: Mapping[str, str]) -> None:
        self.recipe, self.folder, self.names = recipe, folder, names

    def __call__(self, number: int, first: int, last: int) -> Mapping[str, float]:
        """Write the file, and then its sums beside it, which say that it is whole; return the sums."""
        sums = self.folder / f"{number:05d}.sums.json"
        if not sums.exists():
            summary = Summary()
            episodes = (summary.add(self.recipe.play(index)) for index in range(first, last))
            writer = store.RowWriter(self.folder, **self.names)
            writer.write(episodes, first=first, number=number)
            partial = sums.with_suffix(".partial")
            partial.write_text(json.dumps(summary.sums), encoding="utf-8")
            os.replace(partial, sums)
        return json.loads(sums.read_text(encoding="utf-8"))


def _shards(
    write: _Shard, bounds: Sequence[tuple[int, int]], processes: int
) -> Generator[tuple[int, Mapping[str, float]], None, None]:
    """Write all files; yield the number and the sums of each when it is finished."""
    waiting = iter(enumerate(bounds))
    # Spawned, not forked: this process may hold threads and engines, which do not survive a fork.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin)
    running: dict[Future[Mapping[str, float]], int] = {}
    try:
        while True:
            with held():  # a process that is only half started would complain
                for number, (first, last) in islice(waiting, processes + 1 - len(running)):
                    running[pool.submit(write, number, first, last)] = number
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BaseException:  # half-made files are made again: waiting for them could take hours
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Let each process use one core, and none continue without the one that started it, however that ended."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for number in {*ENDING} - {signal.SIGTERM}:  # Ctrl-C reaches all processes; the first one ends the others
        signal.signal(number, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
