"""Mutation testing: change the source in one place, and check that a test fails; repeat for each entry of a table.

    python scripts/mutants.py                               all mutants, two at a time
    python scripts/mutants.py --list                        names and topics
    python scripts/mutants.py --only ppo-value-clip envs    some mutants or topics
    python scripts/mutants.py --whole                       all fast tests for a mutant that survives its own

The table is `scripts/mutants.toml`, sorted by topic. An entry has a snippet of code that occurs once in `src/`, in
whatever file, its replacement, and the tests that must notice: names of test functions, or `test_name[part]` for the
parameters whose id contains `part`. Everything happens in copies of the checkout. The tests of an entry first have to
pass on the unchanged copy. A mutant is killed if one of them then fails, or if they do not end in time. The exit status
is 1 if a mutant survived or could not be tried.
"""

import argparse
import ast
import functools
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from forked_tests import prepare, run_tests, selects

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_suffix(".toml")

Kind = Literal["killed", "survived", "stale", "unfit"]
"""`stale`: the snippet or the tests do not exist. `unfit`: the tests do not pass without the change."""


@dataclass(frozen=True)
class Mutant:
    """A small change of the source, and the tests that must notice it."""

    name: str
    topic: str
    code: str
    """The snippet; it occurs once in `src/`."""
    change: str
    """Its replacement."""
    tests: tuple[str, ...]
    """Names of test functions, `test_name[part]` for some of their parameters."""


@dataclass(frozen=True)
class Outcome:
    """The result of one mutant."""

    mutant: Mutant
    kind: Kind
    note: str
    seconds: float


class StaleError(Exception):
    """An entry of the table does not fit the source or the tests."""


def read_table(path: Path = TABLE) -> list[Mutant]:
    """Return the mutants of a table, in its order.

    Raises:
        TypeError: an entry has a missing or an unknown key.
    """
    topics = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Mutant(name=name, topic=topic, **{**entry, "tests": tuple(entry["tests"])})
        for topic, entries in topics.items()
        for name, entry in entries.items()
    ]


def place(code: str, root: Path) -> Path:
    """Return the one source file that contains a snippet.

    Raises:
        StaleError: the snippet occurs nowhere, or more than once.
    """
    counts = {path: path.read_text(encoding="utf-8").count(code) for path in sorted((root / "src").rglob("*.py"))}
    if sum(counts.values()) != 1:
        raise StaleError(f"its code occurs {sum(counts.values())} times in src/, and must occur once")
    return next(path for path, count in counts.items() if count)


@functools.cache
def defined_tests(root: Path) -> Mapping[str, Sequence[str]]:
    """Return the files that define each test function of a checkout, by its name."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append(path.relative_to(root).as_posix())
    return found


def files_of(tests: Sequence[str], root: Path) -> list[str]:
    """Return the files in which tests are, relative to the checkout.

    Raises:
        StaleError: there is no test of that name.
    """
    names = [test.partition("[")[0] for test in tests]
    if missing := [name for name in names if name not in defined_tests(root)]:
        raise StaleError(f"there is no test {missing[0]}")
    return sorted({file for name in names for file in defined_tests(root)[name]})


def copy_checkout(folder: Path) -> None:
    """Copy the files of the checkout that git tracks or would track, as they are now."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@contextmanager
def mutated(mutant: Mutant, root: Path) -> Iterator[None]:
    """Change a copy of the checkout while the block runs."""
    path = place(mutant.code, root)
    text = path.read_text(encoding="utf-8")
    try:
        _write(path, text.replace(mutant.code, mutant.change))
        yield
    finally:
        _write(path, text)


def _write(path: Path, text: str) -> None:
    """Write a source file, and delete its bytecode: Python does not notice a change of equal size within a second."""
    path.write_text(text, encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


class Trial:
    """Tries mutants, each in a copy of the checkout that is unchanged before and after.

    Args:
        limit: seconds that the tests of a mutant may take.
        whole: whether to run all fast tests if its own let it survive.
    """

    def __init__(self, *, limit: float, whole: bool) -> None:
        self.limit, self.whole = limit, whole
        self._misfits: dict[tuple[str, ...], str] = {}

    def __call__(self, mutant: Mutant, root: Path) -> Outcome:
        """Try one mutant in the copy of the checkout at `root`."""
        began = time.monotonic()
        kind, note = self._judge(mutant, root)
        return Outcome(mutant, kind, note, time.monotonic() - began)

    def _judge(self, mutant: Mutant, root: Path) -> tuple[Kind, str]:
        try:
            place(mutant.code, root)
            arguments = ["-n", "0", *files_of(mutant.tests, root)]
        except StaleError as error:
            return "stale", str(error)
        if mutant.tests not in self._misfits:
            self._misfits[mutant.tests] = misfit(mutant.tests, run_tests(root, arguments, mutant.tests, self.limit))
        if self._misfits[mutant.tests]:
            return "unfit", self._misfits[mutant.tests]
        with mutated(mutant, root):
            failed = run_tests(root, arguments, mutant.tests, self.limit)["failed"]
            if not failed and self.whole:
                failed = run_tests(root, [], (), 10 * self.limit)["failed"]
        return ("killed", failed[0]) if failed else ("survived", f"{', '.join(mutant.tests)} passed")


def misfit(tests: Sequence[str], results: Mapping[str, Sequence[str]]) -> str:
    """Return why tests that ran on unchanged source cannot judge a change of it; "" if they can."""
    if results["failed"]:
        return f"fails without the change: {results['failed'][0]}"
    cases = [nodeid.partition("::")[2] for nodeid in results["passed"]]
    idle = [test for test in tests if not any(selects(test, case) for case in cases)]
    return f"no case of {idle[0]} was run" if idle else ""


def try_all(mutants: Sequence[Mutant], jobs: int, trial: Trial) -> Iterator[Outcome]:
    """Try mutants, several at a time, each job in its own copy of the checkout; yield the outcomes in order."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        idle: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            root = Path(folder).resolve() / f"checkout{number}"
            copy_checkout(root)
            idle.put(root)

        def one(mutant: Mutant) -> Outcome:
            root = idle.get()
            try:
                return trial(mutant, root)
            finally:
                idle.put(root)

        yield from pool.map(one, mutants)


def main() -> int:
    """Try the mutants that the command line names, and print one line for each."""
    parser = argparse.ArgumentParser(description="Mutation testing; see the top of scripts/mutants.py.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="mutants or topics; default: all")
    parser.add_argument("--list", action="store_true", help="print the mutants and end")
    parser.add_argument("--whole", action="store_true", help="run all fast tests for mutants that survive their own")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutants at a time (default: 2)")
    parser.add_argument("--limit", type=float, default=300, metavar="SECONDS", help="time of a mutant's tests")
    options = parser.parse_args()
    mutants = read_table()
    if options.only:
        if unknown := set(options.only) - {name for mutant in mutants for name in (mutant.name, mutant.topic)}:
            parser.error(f"no mutant or topic is named {', '.join(sorted(unknown))}; --list prints the names")
        mutants = [mutant for mutant in mutants if {mutant.name, mutant.topic} & set(options.only)]
    if options.list:
        print("\n".join(f"{mutant.topic:<11} {mutant.name}" for mutant in mutants))
        return 0
    prepare()
    began, outcomes = time.monotonic(), []
    for outcome in try_all(mutants, options.jobs, Trial(limit=options.limit, whole=options.whole)):
        outcomes.append(outcome)
        name = f"{outcome.kind:<8} {outcome.mutant.topic:<11} {outcome.mutant.name:<33}"
        print(f"{name} {outcome.note} ({outcome.seconds:.0f} s)", flush=True)
    killed = Counter(outcome.mutant.topic for outcome in outcomes if outcome.kind == "killed")
    print("\nkilled: " + ", ".join(f"{topic} {count}" for topic, count in killed.items()))
    kinds = Counter(outcome.kind for outcome in outcomes)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    print(f"{len(outcomes)} mutants: {counts} ({(time.monotonic() - began) / 60:.1f} minutes)")
    return int(kinds["killed"] < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
