"""Places where jobs run, and the scheduler that keeps one busy until all jobs have ended."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from lmrl.sweeps.jobs import Job
from lmrl.sweeps.tables import plural
from lmrl.system.signals import ENDING

PAUSE = 0.3
"""Seconds between two looks at the running jobs."""


class Attempt(Protocol):
    """A job that was started."""

    ticket: str
    """The place's identifier of the job."""

    def poll(self) -> int | None:
        """Return the exit status; `None` while it runs."""
        ...

    def reason(self) -> str:
        """Return the place's explanation of the end, where the job itself may not know it."""
        ...

    def interrupt(self) -> None:
        """Ask it to write its checkpoint and end."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Place(ABC):
    """Where jobs run: this machine, a cluster."""

    detaches = False
    """Whether jobs continue without the sweep, so that Ctrl-C leaves them alone."""

    def open(self, folder: Path) -> None:  # noqa: B027
        """Get ready to start jobs.

        Args:
            folder: the sweep's folder.
        """

    @abstractmethod
    def free(self) -> int:
        """Return how many further jobs it takes now."""

    @abstractmethod
    def start(self, jobs: Sequence[Job]) -> Sequence[Attempt]:
        """Start jobs, at most as many as are free."""

    def attach(self, job: Job) -> Attempt | None:  # noqa: ARG002
        """Return the attempt that an earlier call of the same command left running, by the job's ticket."""
        return None

    @abstractmethod
    def describe(self, threads: int | None = None) -> str:
        """Say in a few words where and how many at once.

        Args:
            threads: `hardware.threads` of the sweep's command.
        """


class Screen(Protocol):
    """Who watches."""

    def started(self, job: Job, *, again: bool) -> None:
        """A job began."""
        ...

    def finished(self, job: Job) -> None:
        """A job ended."""
        ...

    def tick(self, running: Sequence[Job]) -> None:
        """Time passes."""
        ...

    def note(self, text: str) -> None:
        """Something else is worth saying."""
        ...


class Interrupts:
    """Counts the signals that would end the program instead."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0
        """The first signal's number; 0: there was none."""

    @contextmanager
    def counted(self) -> Iterator["Interrupts"]:
        """Count while the block runs."""

        def one_more(number: int, frame: Any) -> None:  # noqa: ARG001
            self.count, self.first = self.count + 1, self.first or number

        before = {number: signal.signal(number, one_more) for number in ENDING}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Schedule:
    """Runs jobs in a place until all have ended, or until it is interrupted.

    Args:
        place: where they run.
        screen: who watches.
        changed: called when a job has begun or ended.
    """

    def __init__(self, place: Place, screen: Screen, changed: Callable[[], None]) -> None:
        self._place, self._screen, self._changed = place, screen, changed
        self._waiting: list[Job] = []
        self._running: dict[str, tuple[Job, Attempt, float]] = {}
        self._seen = 0
        self._resumed: set[str] = set()

    def run(self, jobs: Sequence[Job]) -> int:
        """Run the jobs that are not over; return the number of the signal that stopped it before the end, or 0."""
        self._waiting = [job for job in jobs if not job.is_finished_or_impossible]
        with Interrupts().counted() as interrupts:
            self._attach()
            while self._waiting or self._running:
                if interrupts.count > self._seen:
                    self._stop(interrupts.count)
                self._collect(stopped=interrupts.count > 0)
                if not interrupts.count:
                    self._start()
                elif self._place.detaches:
                    break
                self._screen.tick([job for job, _, _ in self._running.values()])
                if self._waiting or self._running:
                    time.sleep(PAUSE)
            return interrupts.first

    def _attach(self) -> None:
        """Watch jobs that an earlier call left running."""
        for job in list(self._waiting):
            attempt = self._place.attach(job) if job.ticket else None
            if attempt is not None:
                self._waiting.remove(job)
                self._begun(job, attempt)

    def _start(self) -> None:
        """Start as many jobs as the place takes; a job that another program is running waits for its end."""
        if not (free := self._place.free()):
            return
        chosen = [job for job in self._waiting if not self._has_others(job)][:free]
        if not chosen:
            return
        for job in chosen:
            self._waiting.remove(job)
        # A job that another sweep finished meanwhile is not run again.
        for job in chosen:
            job.refresh()
        for job in (job for job in chosen if job.is_finished_or_impossible):
            self._screen.finished(job)
        chosen = [job for job in chosen if not job.is_finished_or_impossible]
        for job, attempt in zip(chosen, self._place.start(chosen), strict=True):
            self._begun(job, attempt)
        self._changed()

    def _has_others(self, job: Job) -> bool:
        """Tell whether another program is running a job."""
        busy = None if job.runs is None else job.runs.busy()
        if busy is not None and not job.reason.startswith("waits"):
            job.reason = f"waits for another program that is running it in {busy}"
            self._screen.note(f"{job.key} {job.reason}")
        return busy is not None

    def _begun(self, job: Job, attempt: Attempt) -> None:
        """Take note of a started job."""
        again = job.folder is not None
        job.begun(attempt.ticket)
        self._running[job.key] = (job, attempt, time.monotonic())
        self._screen.started(job, again=again)

    def _collect(self, *, stopped: bool) -> None:
        """Record the jobs that have ended."""
        for key, (job, attempt, began) in list(self._running.items()):
            code = attempt.poll()
            if code is None:
                continue
            del self._running[key]
            job.ended(code, time.monotonic() - began, stopped=stopped, reason=attempt.reason())
            self._screen.finished(job)
            self._changed()

    def _stop(self, count: int) -> None:
        """Let the jobs end as gently as is wanted."""
        self._seen = count
        self._waiting = []
        if self._place.detaches:
            self._screen.note("stopped watching; the jobs go on, and the same command watches them again")
            return
        gently = count == 1
        manner = "waiting for checkpoints; Ctrl-C again ends them at once" if gently else "ending the jobs at once"
        self._screen.note(f"stopping {plural(len(self._running), 'job')}: {manner}")
        for _, attempt, _ in self._running.values():
            (attempt.interrupt if gently else attempt.kill)()
