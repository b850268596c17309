"""Progress over all jobs of a sweep: a live display in a terminal, a line for each event in a log file."""

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from lmrl.runs.formats import duration, number
from lmrl.sweeps.jobs import Job, last_words
from lmrl.sweeps.tables import STYLES, labels_of, state_counts


class SweepScreen:
    """Shows how far a sweep is.

    Args:
        jobs: all jobs; more may be added while it runs.
        console: where to print.
    """

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self._jobs, self._console = jobs, console
        self._began: dict[str, float] = {}
        self._took: list[float] = []
        self._live: Live | None = None
        self._shown = 0.0

    def __enter__(self) -> "SweepScreen":
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(self, job: Job, *, again: bool) -> None:
        """Say that a job began."""
        self._began[job.key] = time.monotonic()
        self._print(job, "resumed" if again else "started", f"{job.ticket}", "cyan")

    def finished(self, job: Job) -> None:
        """Say how a job ended."""
        if (began := self._began.pop(job.key, None)) is not None:
            self._took.append(time.monotonic() - began)
        result = f"return {number(job.return_mean)}, score {number(job.score, 1)}, {duration(job.seconds)}"
        self._print(job, job.status, result if job.status == "finished" else job.reason, STYLES[job.status])

    def tick(self, running: Sequence[Job]) -> None:
        """Show the last output of the running jobs, at most twice a second."""
        if self._live is None or time.monotonic() - self._shown < 0.5:
            return
        self._shown = time.monotonic()
        lines = [Text(f"{state_counts(self._jobs)}{self._remaining(len(running))}", style="bold")]
        for job in running:
            spent = duration(time.monotonic() - self._began[job.key])
            words = "" if job.command is None else last_words(job.command.log)
            lines.append(Text.assemble(f"  {labels_of(job, self._jobs)} ", (f"{spent} ", "dim"), words))
        for line in lines:
            line.truncate(self._console.width - 1, overflow="ellipsis")
        self._live.update(Group(*lines), refresh=True)

    def note(self, text: str) -> None:
        """Say something else."""
        self._console.print(Text(text, style="yellow"), soft_wrap=True)

    def _print(self, job: Job, event: str, more: str, style: str) -> None:
        place = f"[{job.number + 1}/{len(self._jobs)}] "
        line = Text.assemble((place, "dim"), (f"{event:<11} ", style), labels_of(job, self._jobs))
        self._console.print(line.append(f": {more}" if more else ""), soft_wrap=True, highlight=False)

    def _remaining(self, running: int) -> str:
        """Estimate the remaining time from that of finished jobs."""
        left = sum(job.status in ("waiting", "running") for job in self._jobs)
        if not self._took or not left:
            return ""
        return f", about {duration(sum(self._took) / len(self._took) * left / max(1, running))} left"
