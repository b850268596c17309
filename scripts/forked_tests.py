"""Run tests of a copy of the checkout in a forked process: heavy libraries are imported once, lmrl in each fork."""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PRELOADED = ["pytest", "torch", "pytorch_lightning", "transformers", "datasets", "hydra", "beartype", "hypothesis"]
"""Third-party modules that each run of tests would import again."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

FORKS = multiprocessing.get_context("forkserver")


def prepare() -> None:
    """Set the environment of all tests, before any are run."""
    os.environ |= ENVIRONMENT
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with bytecode in the copies, tests start sooner
    FORKS.set_forkserver_preload(PRELOADED)


def selects(test: str, case: str) -> bool:
    """Return whether a test has a case, which is a function's name and perhaps an id in brackets.

    Args:
        test: `test_name` for all cases of a function, `test_name[part]` for those whose id contains the part.
        case: as pytest names it.
    """
    name, _, part = test.removesuffix("]").partition("[")
    own, _, identity = case.partition("[")
    return name == own and part in identity


class Watch:
    """A pytest plugin that selects tests, and notes which of them pass and fail.

    Args:
        tests: as `selects` takes them. Empty: all.
    """

    def __init__(self, tests: Sequence[str]) -> None:
        self.tests = tests
        self.passed: list[str] = []
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Select the tests."""
        if self.tests:
            items[:] = [item for item in items if any(selects(test, item.name) for test in self.tests)]

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported."""
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note how a test ended."""
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.passed and report.when == "call":
            self.passed.append(report.nodeid)


def run_here(root: str, arguments: Sequence[str], tests: Sequence[str]) -> None:
    """Run tests in a copy of the checkout, in a forked process, and write their results to a file beside the copy."""
    os.setsid()
    os.chdir(root)
    with open(f"{root}.log", "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ["PYTHONPATH"] = f"{root}/src"
    sys.path[:0] = [f"{root}/src", root]

    import pytest

    watch = Watch(tests)
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={root}.tmp"]
    status = pytest.main([*options, *arguments], plugins=[watch])
    if not watch.failed and status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        watch.failed.append(f"pytest, with exit status {int(status)}")
    Path(f"{root}.json").write_text(json.dumps({"passed": watch.passed, "failed": watch.failed}), encoding="utf-8")
    os._exit(0)  # threads that tests left must not delay the end


def run_tests(root: Path, arguments: Sequence[str], tests: Sequence[str], limit: float) -> dict[str, list[str]]:
    """Run tests in a process of their own, and return the `passed` and `failed` ones.

    Args:
        root: the copy of the checkout.
        arguments: further ones of pytest, with the files.
        tests: as `selects` takes them; empty: all.
        limit: seconds after which the process is killed.

    Raises:
        RuntimeError: the process failed outside of the tests.
    """
    results = Path(f"{root}.json")
    results.unlink(missing_ok=True)
    process = FORKS.Process(target=run_here, args=(str(root), list(arguments), list(tests)))
    process.start()
    process.join(limit)
    is_late = process.is_alive()
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # processes that the tests started, too
    process.join()
    if is_late:
        return {"passed": [], "failed": [f"the time limit of {limit:g} s"]}
    if not results.exists() and process.exitcode == 1:  # an exception outside of the tests
        raise RuntimeError(f"{root}: the tests could not be run:\n{Path(f'{root}.log').read_text(errors='replace')}")
    if not results.exists():
        return {"passed": [], "failed": [f"the end of the process (exit code {process.exitcode})"]}
    return json.loads(results.read_text(encoding="utf-8"))
