"""Find mistakes of a run before torch is imported: in values, machine, folders and resuming."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lmrl.config.checks import ConfigError, check_config, check_environments, config_errors
from lmrl.runs.folders import RunFolders, config_hash, run_name, why_not_resumable
from lmrl.scores import Anchors
from lmrl.system.equipment import (
    cores,
    has_other_gpus,
    is_started_by_launcher,
    visible_devices,
    why_too_coarse,
    why_unwritable,
)


def preflight(cfg: DictConfig, choices: Mapping[str, str]) -> None:
    """Check the run that this process is about to start.

    Args:
        cfg: its configuration; `~` at the beginning of files and folders is replaced.
        choices: the choice of each group, such as `task: maze`.

    Raises:
        ConfigError: there is a mistake; the message names the key.
    """
    check_config(cfg)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    for fault in mismatches(config):
        raise ConfigError(fault)
    with config_errors("task.score"):
        Anchors.of_task(config["task"])
    for fault in machine_faults(config["hardware"]):
        raise ConfigError(fault)
    _check_folders(config)
    check_environments(cfg)
    if not config["task"]["dataset"].get("folder"):  # existing data need no recipe
        with config_errors("task.dataset.recipe"):
            instantiate(cfg.task.dataset.recipe)
    if cfg.resume and not is_started_by_launcher():
        _check_resumable(config, choices)


def mismatches(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for values that do not fit together."""
    lm = config["model"]["lm"]
    if lm.get("_target_") == "lmrl.models.backbone.from_scratch":
        width, heads = lm.get("width", 128), lm.get("heads", 4)
        if width % heads:
            yield f"model.lm.width={width} must be a multiple of model.lm.heads={heads}"
        elif lm.get("positions") == "relative" and width // heads % 2:
            yield f"model.lm.positions=relative needs an even model.lm.width / model.lm.heads, got {width} / {heads}"


def machine_faults(hardware: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for hardware that this machine lacks; a process of a launcher sees only its own part.

    Args:
        hardware: the configuration's group of that name.
    """
    if (reason := why_too_coarse(hardware["precision"])) is not None:
        yield reason
    if is_started_by_launcher():
        return
    accelerator, devices = hardware["accelerator"], hardware["devices"]
    wants_gpu = accelerator in ("gpu", "cuda") or hardware["strategy"] == "fsdp"
    if accelerator != "cpu" and not wants_gpu and devices in ("auto", 1):
        return
    gpus = [] if accelerator == "cpu" else visible_devices()
    if has_other_gpus() and accelerator != "cpu":
        return  # only torch knows their number
    if wants_gpu and not gpus:
        key = "hardware.strategy=fsdp" if hardware["strategy"] == "fsdp" else f"hardware.accelerator={accelerator}"
        yield (
            f"{key} needs a GPU, and there is none here"
            + (": hardware=fsdp2 shards on CPUs as well" if hardware["strategy"] == "fsdp" else ": hardware=cpu")
        )
    elif reason := _too_many(devices, len(gpus)):
        yield reason


def _too_many(devices: Any, gpus: int) -> str | None:
    """Return why this machine lacks these devices, or this many; `None` if it has them."""
    if isinstance(devices, str) and devices != "auto":
        devices = [int(number) for number in devices.split(",")]
    have = f"this machine has {cores()} cores and {f'{gpus} GPUs' if gpus else 'no GPU'}"
    if isinstance(devices, list):
        wrong = not gpus or max(devices, default=0) >= gpus or len(set(devices)) < len(devices) or not devices
        return f"hardware.devices={devices} must be different numbers of GPUs from 0, but {have}" if wrong else None
    if devices == -1 and not gpus:
        return f"hardware.devices=-1 stands for all GPUs, but {have}"
    if devices not in ("auto", -1) and devices > (gpus or cores()):
        return f"hardware.devices={devices}, but {have}"
    return None


def _check_folders(config: Mapping[str, Any]) -> None:
    """Check that output folders can be written and that input folders exist."""
    for key in ("data_dir", "runs_dir"):
        if (reason := why_unwritable(Path(config[key]))) is not None:
            raise ConfigError(f"{key}={config[key]} cannot be written to: {reason}")
    if folder := config["task"]["dataset"].get("folder"):
        _check_dataset(Path(folder), config["task"]["name"])
    if path := config["model"].get("path"):
        _check_model(path)


def _check_dataset(folder: Path, task: str) -> None:
    """Check that a folder holds data of the task."""
    description = folder / "dataset.json"
    if not description.is_file():
        reason = "is not a dataset of lmrl: it has no dataset.json" if folder.is_dir() else "there is no such folder"
        raise ConfigError(f"task.dataset.folder={folder}: {reason}")
    try:
        found = json.loads(description.read_text(encoding="utf-8")).get("task")
    except (ValueError, AttributeError, OSError) as error:
        raise ConfigError(f"task.dataset.folder={folder}: dataset.json cannot be read: {error}") from error
    if found != task:
        raise ConfigError(f"task.dataset.folder={folder} holds data of the task {found!r}, not of {task!r}")


def _check_model(path: str) -> None:
    """Check that a model's folder exists, or that the Hub or its cache has it."""
    from lmrl.config.hub import check_path, why_absent

    with config_errors("model.path"):
        check_path(path)
    if not Path(path).is_dir() and (reason := why_absent(path)) is not None:
        raise ConfigError(f"model.path={path}: {reason}")


def _check_resumable(config: dict[str, Any], choices: Mapping[str, str]) -> None:
    """Check that there is a run to continue."""
    task, algo = choices["task"], choices["algo"]
    name = run_name(task, algo, config["seed"], config_hash(config))
    reason = why_not_resumable(RunFolders(Path(config["runs_dir"]), task, algo, name), config)
    if reason is not None:
        raise ConfigError(reason)
