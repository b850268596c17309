"""Jobs as processes on this machine, which share its cores and GPUs without getting in each other's way."""

import subprocess
from collections.abc import Sequence

from lmrl.config.types import PositiveCount
from lmrl.sweeps import jobs
from lmrl.sweeps.jobs import Job
from lmrl.sweeps.places import Attempt, Place
from lmrl.sweeps.tables import plural
from lmrl.system.equipment import cores, own_threads, visible_devices

CORES_PER_WORKER = 4
"""How many cores a job gets where nobody says how many jobs run at once, and there is no GPU."""


def share_cores(cores: int, workers: int, processes: int = 1) -> int:
    """Return the threads of each process so that all of them together do not want more than the cores.

    Args:
        cores: cores of this machine.
        workers: jobs at once.
        processes: training processes of each job.
    """
    return max(1, cores // max(1, workers) // max(1, processes))


def share_devices(devices: Sequence[str], workers: int) -> list[tuple[str, ...]]:
    """Return the GPUs of each worker: equally many for all, so that jobs can be compared; some may be left over.

    With more workers than GPUs, several use the same one.
    """
    if not devices:
        return [()] * workers
    each = len(devices) // workers
    if each == 0:
        return [(devices[worker % len(devices)],) for worker in range(workers)]
    return [tuple(devices[worker * each : (worker + 1) * each]) for worker in range(workers)]


def choose_workers(cores: int, devices: Sequence[str]) -> int:
    """Return how many jobs to run at once: one for each GPU, or for every four cores."""
    return len(devices) or max(1, cores // CORES_PER_WORKER)


class Process:
    """A job that runs as a process here."""

    def __init__(self, process: "subprocess.Popen[bytes]", worker: int) -> None:
        self._process = process
        self.worker = worker
        """The share of the machine that it has."""
        self.ticket = f"process {process.pid}"

    def poll(self) -> int | None:
        """Return the exit status; `None` while it runs."""
        return self._process.poll()

    def reason(self) -> str:
        """Return nothing: the job's output says it all."""
        return ""

    def interrupt(self) -> None:
        """Ask it to write its checkpoint and end."""
        jobs.interrupt(self._process.pid)

    def kill(self) -> None:
        """End it at once."""
        jobs.kill(self._process.pid)


class Processes(Place):
    """Run jobs as processes on this machine.

    Args:
        workers: jobs at once. `None`: one for each GPU, or for every four cores without GPUs.
        threads: threads of each training process. `None`: the worker's share of the cores, unless the job's own
            `hardware.threads` says otherwise.
        share_gpus: give each worker GPUs of its own. False: all see all.

    Raises:
        ValueError: a number is not above 0.
    """

    def __init__(
        self, workers: PositiveCount | None = 1, threads: PositiveCount | None = None, share_gpus: bool = True
    ) -> None:
        for name, value in {"workers": workers, "threads": threads}.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"launcher.{name} must be a whole number above 0, or null, got {value!r}")
        self._cores = cores()
        self._devices = visible_devices() if share_gpus else []
        self.workers = workers or choose_workers(self._cores, self._devices)
        self._threads = threads
        self._shares = share_devices(self._devices, self.workers)
        self._running: list[Process] = []

    def free(self) -> int:
        """Return how many workers have nothing to do."""
        self._running = [process for process in self._running if process.poll() is None]
        return self.workers - len(self._running)

    def start(self, jobs: Sequence[Job]) -> Sequence[Attempt]:
        """Start jobs, each with a free worker's share of the machine."""
        return [self._start(job) for job in jobs]

    def describe(self, threads: int | None = None) -> str:
        """Say how the machine is shared; `threads` are those that the configuration names."""
        gpus = {len(share) for share in self._shares}.pop() if self._devices else 0
        threads = self._threads or threads or own_threads() or share_cores(self._cores, self.workers)
        shares = plural(threads, "thread") + (f" and {plural(gpus, 'GPU')}" if gpus else "")
        return f"{self.workers} at a time on this machine, {shares} each"

    def _start(self, job: Job) -> Process:
        assert job.command is not None
        worker = min(set(range(self.workers)) - {process.worker for process in self._running})
        hardware = job.config.hardware
        threads = self._threads or hardware.threads or own_threads()
        if threads is None:
            devices = hardware.devices
            processes = devices if isinstance(devices, int) and devices > 0 else max(1, len(self._shares[worker]))
            threads = share_cores(self._cores, self.workers, processes)
        environment = {"OMP_NUM_THREADS": str(threads)}
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._shares[worker])
        process = Process(job.command.start([f"hardware.threads={threads}"], environment), worker)
        self._running.append(process)
        return process
