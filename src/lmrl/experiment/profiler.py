"""Lightning's profilers: where the time of a stage's training goes."""

from pathlib import Path

from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

KINDS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def profiler(name: str | None, folder: Path) -> Profiler | None:
    """Return the profiler of a stage, which writes `fit-profile.txt` into a folder; `None`: none is wanted."""
    return KINDS[name](dirpath=folder, filename="profile") if name else None
