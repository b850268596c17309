"""What this machine has: threads, number formats, accelerators, processes."""

import logging
import os
import warnings
from typing import Any

import torch
from torch import distributed


def set_threads(threads: int | None, processes: int = 1) -> int:
    """Give each of `processes` its share of the cores; oversubscribed threads cost up to ten times the time.

    Args:
        threads: threads for this process; `None` for the cores divided by the processes.
        processes: training processes on this machine.

    Returns:
        The number of threads set.
    """
    count = threads or max(1, len(os.sched_getaffinity(0)) // max(1, processes))
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)  # for processes that Lightning starts
    return count


def cpu_has_fast_bf16() -> bool:
    """Tell whether this CPU multiplies bfloat16 matrices faster than float32 ones (AVX512_BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def resolve_precision(precision: str) -> str:
    """Turn `auto` into the fastest training precision of this machine; pass anything else through.

    Accelerators with bfloat16 and CPUs that multiply it fast get mixed precision, all others full float32.
    """
    if precision != "auto":
        return precision
    has_gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if has_gpu or cpu_has_fast_bf16() else "32-true"


def gathered(value: Any) -> list[Any]:
    """Return the value that each training process has, in order of rank."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def quiet_libraries() -> None:
    """Silence what libraries say at every start, so that our own few lines can be seen; their errors stay."""
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
