"""End a program on a signal: one exception wherever it is, and an exit status that names the signal."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; the signal of `kill`, schedulers and containers; the usual signal of SLURM before the time limit."""
_REPEATED = 2.0
"""Seconds within which a second signal is the same request: a terminal and a parent process may both send one."""

_first: tuple["Interrupted", float] | None = None
_held = False
_led: list[Callable[[], list["subprocess.Popen[bytes]"]]] = []


class Interrupted(KeyboardInterrupt):
    """A signal that ends the program.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(f"interrupted by {self.number.name}")

    @property
    def status(self) -> int:
        """The exit status by which shells and schedulers know the signal: 130, 143 or 138."""
        return 128 + int(self.number)


def install() -> None:
    """Let each signal of `ENDING` raise `Interrupted` in the main thread; a second one ends the process at once."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            signal.signal(number, _interrupt)


def lead(processes: Callable[[], list["subprocess.Popen[bytes]"]]) -> None:
    """Let the processes of a training end with this one, the first of them.

    They may wait for this one where no signal reaches them, and would take its end for an error.

    Args:
        processes: returns those that this one has started. The list is emptied when they are ended: Lightning's thread
            that watches over it would end this process as well, before it has printed which files are kept.
    """
    _led.append(processes)


def hold(held: bool) -> None:
    """Let a signal wait until somebody asks whether one was `received`, instead of raising `Interrupted` at once.

    Args:
        held: whether it waits.
    """
    global _held
    _held = held


@contextmanager
def held() -> Iterator[None]:
    """Delay signals until the end of a block that must not be left half-done."""
    hold(True)
    try:
        yield
    finally:
        hold(False)
    if (asked := received()) is not None:
        raise asked


def received() -> Interrupted | None:
    """Return the interruption that is under way; `None`: no signal has come."""
    return None if _first is None else _first[0]


def ended(work: Callable[[], Any]) -> Any:
    """Return the result of the work; if interrupted, print one line and return 128 + the number of the signal.

    Args:
        work: the whole program.
    """
    install()
    try:
        return work()
    except KeyboardInterrupt as error:
        interruption = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(interruption, file=sys.stderr)
        sys.exit(interruption.status)


def _interrupt(number: int, frame: Any) -> None:  # noqa: ARG001
    """Raise `Interrupted`, unless it has to wait; end the process if it was interrupted before and is still there."""
    global _first
    if _first is None:
        _first = Interrupted(number), time.monotonic()
        for processes in (found() for found in _led):
            for process in processes:
                process.kill()
            processes.clear()
        if _held:
            return
        raise _first[0]
    if time.monotonic() - _first[1] > _REPEATED:
        os._exit(_first[0].status)
