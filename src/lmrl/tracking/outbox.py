"""Send the records of a run in the background and in order; training continues while the receiver is away."""

import queue
import sys
import threading
import time
from collections.abc import Callable

_FIRST, _LONGEST = 0.5, 15.0  # seconds between attempts: doubled from the first to the longest


class Outbox:
    """A queue of things to send, and the thread that sends them.

    An error that repetition cannot fix (`is_final`) is reported, and its cause is dropped. After any other error the
    same thing is sent again until it is received. The thread ends with the process: `flush` waits for it.

    Args:
        receiver: who receives, for people.
        is_final: returns whether an error will come again however often one tries.
    """

    def __init__(self, receiver: str, *, is_final: Callable[[Exception], bool]) -> None:
        self.receiver, self._is_final = receiver, is_final
        self._waiting: queue.Queue[Callable[[], object]] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._give_up = threading.Event()
        self._began = 0.0
        self.refused: list[str] = []
        """The reasons for which things were refused for good."""

    def put(self, work: Callable[[], object]) -> None:
        """Send something, after all that was put before."""
        self._waiting.put(work)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._send_all, name="outbox", daemon=True)
            self._thread.start()

    def flush(self, patience: float) -> bool:
        """Wait until everything is sent, and return whether it is.

        Args:
            patience: seconds without any success after which waiting ends; the rest is dropped.
        """
        left, latest = self._waiting.unfinished_tasks, time.monotonic()
        while left:
            time.sleep(0.02)
            if self._waiting.unfinished_tasks != left:
                left, latest = self._waiting.unfinished_tasks, time.monotonic()
            elif time.monotonic() - latest > patience:
                self._give_up.set()
                return False
        return True

    def _send_all(self) -> None:
        """Send one thing after another."""
        while not self._give_up.is_set():
            work = self._waiting.get()
            try:
                self._send(work)
            finally:
                self._waiting.task_done()

    def _send(self, work: Callable[[], object]) -> None:
        """Send one thing, however long it takes."""
        pause, is_away = _FIRST, False
        while not self._give_up.is_set():
            try:
                work()
            except Exception as error:  # the libraries behind raise errors of any class
                cause = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                if self._is_final(error):
                    self.refused.append(cause)
                    print(f"{self.receiver} refused something: {cause}", file=sys.stderr)
                    return
                if not is_away:
                    is_away, self._began = True, time.monotonic()
                    print(
                        f"{self.receiver} does not answer; the run continues and sends later ({cause})", file=sys.stderr
                    )
                self._give_up.wait(pause)
                pause = min(2 * pause, _LONGEST)
            else:
                if is_away:
                    print(
                        f"{self.receiver} answers again after {time.monotonic() - self._began:.0f} s", file=sys.stderr
                    )
                return
