"""End a program on a signal: one exception at any place, and an exit status with the number of the signal."""

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
"""Ctrl-C; the signal of `kill`, schedulers and containers; the usual choice for SLURM's warning before a time limit."""
_REPEATED = 2.0
"""Seconds within which a second signal counts as the first: a terminal and a parent process may both send one."""

_first: tuple["Interrupted", float] | None = None
_held = False
_led: list[Callable[[], list["subprocess.Popen[bytes]"]]] = []


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(f"interrupted by {self.number.name}")

    @property
    def status(self) -> int:
        """The exit status for shells and schedulers, 128 + the signal: 130, 143 or 138."""
        return 128 + int(self.number)


def install() -> None:
    """Let each signal of `ENDING` raise `Interrupted` in the main thread; a second one ends the process at once."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            signal.signal(number, _interrupt)


def lead(processes: Callable[[], list["subprocess.Popen[bytes]"]]) -> None:
    """Let the processes of a training end with this one, the first of them.

    They may wait for this one in a call that no signal interrupts, and would report its end as an error.

    Args:
        processes: returns the processes that this one has started. The list is emptied when they are ended: otherwise
            Lightning's watching thread would end this process as well, before its last message.
    """
    _led.append(processes)


def hold(held: bool) -> None:
    """Delay signals: `received` returns one that came, instead of raising `Interrupted` at once.

    Args:
        held: whether signals are delayed.
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
    """Return the interruption in progress; `None`: no signal has come."""
    return None if _first is None else _first[0]


def ended(work: Callable[[], Any]) -> Any:
    """Return the result of the program; on a signal, end with one line and the status 128 + its number.

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
    """Raise `Interrupted`, unless signals are delayed; end the process at once if it was interrupted before."""
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
