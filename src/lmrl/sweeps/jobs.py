"""One job of a sweep: its run, its command, and its state as its folder shows it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmrl.runs.folders import WITHOUT_EFFECT, RunFolders, lies_in, read_summary
from lmrl.system.signals import ENDING

Status = Literal["waiting", "running", "finished", "interrupted", "failed"]
"""The state of a job."""

HIDDEN = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LMRL_RUN_DIR")
"""Variables that a job must not inherit: the folder of another run, or the rank of another process."""
HIDDEN_PREFIX = "SLURM_NTASKS"
"""With these, Lightning expects SLURM to start its processes, instead of starting them itself."""
_INTERRUPTED = frozenset(128 + number for number in ENDING)
"""The exit statuses of a job that a signal ended, perhaps before it had a folder."""
_COMMAND = "$ "
_PROBLEM = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Killed)\b.*")


def has_effect(override: str) -> bool:
    """Return whether an override can change results; the same sweep may be repeated with other ones that cannot."""
    name = override.lstrip("+~").split("=")[0].split("@")[0].replace("/", ".")
    return not lies_in(name, WITHOUT_EFFECT)


def group_of(override: str) -> str:
    """Return the first part of an override's key: `hardware` for `+hardware.threads=2`, as for `hardware=cpu`."""
    return override.lstrip("+~").split("=")[0].split("@")[0].split("/")[0].split(".")[0]


@dataclass(frozen=True)
class Command:
    """How a job is started; it can be pickled, and started on another machine with the same files."""

    script: str
    arguments: tuple[str, ...]
    """The script's arguments, without `resume`."""
    runs: RunFolders
    log: Path
    """Where the output of all attempts goes."""
    environment: Mapping[str, str]
    """Further variables of the job's environment."""

    def start(self, extra: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the job in a session of its own, going on with the unfinished run if there is one.

        Args:
            extra: further overrides, about the machine.
            environment: further variables, about the machine.
        """
        resume = ["resume=true"] if self.runs.unfinished() is not None else []
        line = [sys.executable, self.script, *self.arguments, *extra, *resume]
        inherited = {k: v for k, v in os.environ.items() if k not in HIDDEN and not k.startswith(HIDDEN_PREFIX)}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"{_COMMAND}{' '.join(line)}\n".encode())
            log.flush()
            # A session of its own: Ctrl-C in the terminal reaches the sweep alone, which then tells its jobs, once.
            return subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**inherited, "PYTHONUNBUFFERED": "1", **self.environment, **(environment or {})},
            )  # fmt: skip


def interrupt(process: int) -> None:
    """Interrupt a job and the processes that it started, which write their checkpoint and end, as on Ctrl-C."""
    _signal(process, signal.SIGINT)


def kill(process: int) -> None:
    """End a job and the processes that it started at once."""
    _signal(process, signal.SIGKILL)


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process, number)


@dataclass
class Job:
    """A job and its state."""

    number: int
    overrides: tuple[str, ...]
    varied: tuple[str, ...] = ()
    """Those that the sweep varies, instead of the command fixing them."""
    command: Command | None = None
    """`None`: the job is impossible."""
    config: Any = None
    """The job's whole configuration. `None`: it cannot be composed."""
    status: Status = "waiting"
    reason: str = ""
    """Why it failed or waits."""
    seconds: float | None = None
    """Time of the job's process, over all attempts of this sweep. `None`: the sweep did not run it."""
    folder: Path | None = None
    return_mean: float | None = None
    score: float | None = None
    ticket: str = ""
    """Where it runs, as the place of running calls it: a process, a cluster's job."""
    _written: float | None = None
    """When the summary was written that is older than the attempt."""

    @property
    def runs(self) -> RunFolders | None:
        """The folders of the run that the job is."""
        return None if self.command is None else self.command.runs

    @property
    def key(self) -> str:
        """Identifies the job: equal configurations are one job."""
        if self.runs is not None:
            return self.runs.name
        return " ".join(override for override in self.overrides if has_effect(override))

    @property
    def is_finished_or_impossible(self) -> bool:
        """Tell whether nothing is left to do, or can be done."""
        return self.status == "finished" or self.command is None

    def refresh(self) -> None:
        """Read the job's state from its folders; a run that was killed counts as interrupted."""
        if self.runs is None:
            return
        finished = self.runs.finished()
        newest = self.runs.all()[:1]
        self.folder = finished or (newest[0] if newest else None)
        summary = {} if self.folder is None else read_summary(self.folder)
        if self.folder is None:
            self.status = "waiting"
        elif finished is None:
            self.status = "failed" if summary.get("status") == "failed" else "interrupted"
        else:
            self.status, self.reason = "finished", ""
            played = summary["evaluation"]
            self.return_mean = played["return_mean"]
            self.score = played["score"] if played["score"] is not None else played.get("own_score")

    def begun(self, ticket: str) -> None:
        """Take note that the job was started.

        Args:
            ticket: where it runs.
        """
        self.status, self.reason, self.ticket = "running", "", ticket
        self._written = self._last_written()

    def ended(self, code: int, seconds: float | None, *, stopped: bool, reason: str = "") -> None:
        """Take note that the job's process has ended.

        Args:
            code: its exit status; below 0: the signal that ended it.
            seconds: how long it ran.
            stopped: whether the sweep ended it.
            reason: the place's own explanation, if it has one.
        """
        self.seconds = None if seconds is None else (self.seconds or 0.0) + seconds
        self.ticket = ""
        self.refresh()
        if self.status == "finished":
            return
        if stopped or code in _INTERRUPTED or self._was_interrupted():
            self.status, self.reason = "interrupted", "stopped; the same command continues it"
            return
        self.status = "failed"
        self.reason = reason or (_ended_by(-code) if code < 0 else "") or self._complaint() or f"exit status {code}"

    def _was_interrupted(self) -> bool:
        """Return whether this attempt recorded an interruption."""
        if self.folder is None or self._last_written() == self._written:
            return False
        return read_summary(self.folder).get("status") == "interrupted"

    def _last_written(self) -> float | None:
        path = None if self.folder is None else self.folder / "summary.json"
        return path.stat().st_mtime if path is not None and path.exists() else None

    def _complaint(self) -> str:
        return "" if self.command is None else complaint(self.command.log)


def complaint(log: Path) -> str:
    """Return the error of the last attempt in a log, in one line."""
    if not log.exists():
        return ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    begins = max((index for index, line in enumerate(lines) if line.startswith(_COMMAND)), default=-1)
    last = lines[begins + 1 :]
    reported = [line.removeprefix("error: ") for line in last if line.startswith("error: ")]
    raised = [line for line in last if _PROBLEM.match(line)]
    return next((found[-1] for found in (reported, raised, last) if found), "")


def last_words(log: Path, most: int = 4096) -> str:
    """Return the last line of a log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - most))
        lines = re.split(r"[\r\n]+", file.read().decode("utf-8", errors="replace").strip())
    return lines[-1].strip()


def _ended_by(number: int) -> str:
    """Describe the end by a signal."""
    name = signal.Signals(number).name if number in signal.valid_signals() else str(number)
    return f"ended by {name}" + (" (perhaps out of memory)" if name == "SIGKILL" else "")
