"""The equipment of this machine, read without torch: cores, GPUs, folders that can be written to."""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

_HALVES = ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")
"""Lightning's precisions whose weights have at most 16 bits.

In bfloat16 .9 + .005 * (1 - .9) is .9: a target that follows at the paper's rate never moves; and Adam at a learning
rate of 1e-4 moves no weight above .05.
"""


def why_too_coarse(precision: str) -> str | None:
    """Return why nothing can be trained in a precision; `None` if it can."""
    if precision not in _HALVES:
        return None
    return (
        f"hardware.precision={precision} keeps the weights themselves in 16 bits, which round small steps of the "
        "optimizer and of target networks away: use bf16-mixed, which computes as fast with weights of 32 bits"
    )


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def visible_devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs that jobs may use, as names for CUDA_VISIBLE_DEVICES."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() and name.strip() != "-1"]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return read_listing(listing)


def read_listing(listing: str) -> list[str]:
    """Return the devices in the output of `nvidia-smi -L`: GPUs by number, or their MIG slices by name."""
    slices = re.findall(r"\(UUID: (MIG-[^)]+)\)", listing)
    return slices or re.findall(r"^GPU (\d+):", listing, flags=re.MULTILINE)


def has_other_gpus() -> bool:
    """Return whether there are accelerators that NVIDIA's tools do not list (AMD's)."""
    return Path("/dev/kfd").exists()


def is_started_by_launcher(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether torchrun, srun or Lightning started this process as one of several on this machine."""
    return "LOCAL_RANK" in environment or int(environment.get("SLURM_NTASKS") or 1) > 1


def own_threads(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the number of threads that the user set in OMP_NUM_THREADS; `None`: it is not set.

    lmrl sets this variable for the processes that it starts, with a mark in LMRL_THREADS.
    """
    asked = environment.get("OMP_NUM_THREADS", "")
    if not asked.isdigit() or int(asked) < 1 or asked == environment.get("LMRL_THREADS"):
        return None
    return int(asked)


def why_unwritable(folder: Path) -> str | None:
    """Make a folder, and return why nothing can be written to it; `None` if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".lmrl-"):
            return None
    except OSError as error:
        return error.strerror or str(error)
