"""Fit training to this machine: threads, number formats, accelerators and processes."""

import logging
import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from omegaconf import DictConfig
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[reportPrivateImportUsage]

from lmrl.config.checks import ConfigError
from lmrl.experiment.sharded import Sharded
from lmrl.system.equipment import cores, own_threads, why_too_coarse


def set_threads(threads: int | None, processes: int = 1) -> int:
    """Give each of `processes` its share of the cores; oversubscribed threads cost up to ten times the time.

    Args:
        threads: threads for this process; `None`: OMP_NUM_THREADS, or else the cores divided by the processes.
        processes: training processes on this machine.

    Returns:
        The number of threads set.
    """
    count = threads or own_threads() or max(1, cores() // max(1, processes))
    torch.set_num_threads(count)
    if count != own_threads():  # Lightning's processes must not mistake it for the user's choice
        os.environ["OMP_NUM_THREADS"] = os.environ["LMRL_THREADS"] = str(count)
    return count


def local_processes(hardware: DictConfig) -> int:
    """Return how many training processes share this machine.

    Args:
        hardware: the configuration's group of that name.
    """
    devices: Any = hardware.devices
    if devices in ("auto", -1, "-1"):
        return max(1, torch.cuda.device_count() if hardware.accelerator != "cpu" else 1)
    return devices if isinstance(devices, int) else str(devices).count(",") + 1  # a list of device numbers


def cpu_has_fast_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices faster than float32 ones (AVX512_BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def resolve_precision(precision: str) -> str:
    """Turn `auto` into the fastest training precision of this machine; pass anything else through.

    Accelerators with bfloat16 and CPUs that multiply it fast get mixed precision, all others full float32.

    Raises:
        ConfigError: the weights themselves would have 16 bits or fewer.
    """
    if (reason := why_too_coarse(str(precision))) is not None:
        raise ConfigError(reason)
    if precision != "auto":
        return precision
    has_gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if has_gpu or cpu_has_fast_bf16() else "32-true"


def machine(hardware: DictConfig) -> dict[str, Any]:
    """Return the trainer's arguments that depend on the machine.

    Args:
        hardware: the configuration's group of that name.

    Raises:
        ConfigError: this machine cannot run it.
    """
    strategy: Any = hardware.strategy
    if strategy == "fsdp" and not torch.cuda.is_available():
        raise ConfigError(
            "hardware=fsdp needs an NVIDIA GPU (CUDA), and there is none here: hardware=fsdp2 shards on CPUs as well"
        )
    if hardware.get("compile"):
        _check_compiler()
    names = ("accelerator", "devices", "num_nodes")
    arguments = {name: hardware[name] for name in names} | {"precision": resolve_precision(hardware.precision)}
    return arguments | {"strategy": Sharded() if strategy in ("fsdp", "fsdp2") else strategy}


def _check_compiler() -> None:
    """Compile one addition on the training device, to see whether the compiler works.

    Raises:
        ConfigError: it cannot.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.compile(_plus_one)(torch.zeros(2, device=device))
    except Exception as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ConfigError(
            f"hardware.compile=true: torch.compile does not work here ({reason}); it needs a C++ compiler, and Triton "
            "on a GPU; or leave it at false"
        ) from error


def _plus_one(values: Tensor) -> Tensor:
    return values + 1


def path_from_rank_zero(make: Callable[[], Path]) -> Path:
    """Call `make` on rank 0 and return its path on every rank (torchrun or srun).

    Lightning need not have joined them yet: they meet at the port after the one that it will use. Processes
    that Lightning starts itself inherit the environment of the first one.

    Args:
        make: called in the first process, or in the only one.
    """
    launcher = next((kind() for kind in (SLURMEnvironment, TorchElasticEnvironment) if kind.detect()), None)
    if launcher is None or launcher.world_size() == 1:
        return make()
    rank, world = launcher.global_rank(), launcher.world_size()
    meeting = (launcher.main_address, launcher.main_port + 1)
    store = TCPStore(*meeting, world, is_master=rank == 0, timeout=timedelta(minutes=10))
    if rank == 0:
        store.set("path", str(make()))
    path = Path(store.get("path").decode())
    store.set(f"read {rank}", "")
    if rank == 0:  # the others read from its store
        store.wait([f"read {other}" for other in range(world)])
    return path


def quiet_libraries() -> None:
    """Silence the messages of libraries at every start; their errors stay."""
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging as transformers_logging

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run must not need, or use, the network
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bar()
    for name in ("pytorch_lightning", "lightning.pytorch", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Frozen networks stay in evaluation mode on purpose, and data are in memory, so loading needs no workers.
    for pattern in (r"Found \d+ module\(s\) in eval mode", r".*does not have many workers", r".*LeafSpec.*",
                    r"Checkpoint directory .* exists and is not empty",
                    r".*could not find the monitored key"):  # fmt: skip
        warnings.filterwarnings("ignore", message=pattern)
