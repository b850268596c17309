"""Stages before the main one: trained once, kept on disk, and used again while their inputs are the same.

A stage's configuration may contain two others, each of which may contain further ones in turn:

    prior    the language model that the stage begins with
    critic   a trained critic; its folder goes to the argument `critic` of the stage's module
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from lmrl import __version__
from lmrl.experiment.stage import Materials, build_stage, fit
from lmrl.models import loading
from lmrl.runs.summary import write_json
from lmrl.system.files import open_to_readers
from lmrl.tracking.core import MetricsFile


def untrained(cfg: DictConfig, stage: DictConfig, task: str, fingerprint: str) -> Iterator[DictConfig]:
    """Yield what is still to be trained: stages that a stage begins with, at any depth, and then the stage itself.

    Args:
        cfg: the whole configuration.
        stage: the stage's part of it.
        task: name of the task.
        fingerprint: digest of the dataset.
    """
    for kind in ("prior", "critic"):
        if stage.get(kind) and not (_place(cfg, stage[kind], kind, task, fingerprint) / f"{kind}.json").exists():
            yield from untrained(cfg, stage[kind], task, fingerprint)
    yield stage


def after_earlier_stages(
    cfg: DictConfig, stage: DictConfig, task: str, materials: Materials, fingerprint: str
) -> Materials:
    """Find or train what a stage begins with, and return the materials that it is then made of.

    Args:
        cfg: the whole configuration.
        stage: the stage's part of it.
        task: name of the task.
        materials: what stages without earlier ones are made of.
        fingerprint: digest of the dataset.
    """
    ready = materials
    if stage.get("prior"):
        folder = find_or_train(cfg, task, materials, fingerprint, stage=stage)
        ready = from_folder(ready, folder, cfg)
    if stage.get("critic"):
        folder = find_or_train(cfg, task, materials, fingerprint, stage=stage, kind="critic")
        ready = replace(ready, folders={**ready.folders, "critic": folder})
    return ready


def stage_key(cfg: DictConfig, stage: DictConfig, fingerprint: str) -> str:
    """Return a digest of everything that determines an earlier stage: its configuration, model, data, state and seed.

    Stages of the same configuration have the same key wherever they stand.
    """
    what = {
        "stage": OmegaConf.to_container(stage, resolve=True),
        "model": OmegaConf.to_container(cfg.model, resolve=True),
        "memory": cfg.task.memory,
        "seed": cfg.seed,
        "dataset": fingerprint,
        "trajectories": OmegaConf.select(cfg, "training.limits.trajectories"),
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def find_or_train(
    cfg: DictConfig,
    task: str,
    materials: Materials,
    fingerprint: str,
    *,
    stage: DictConfig | None = None,
    kind: str = "prior",
) -> Path:
    """Return the folder of an earlier stage, in Hugging Face's format; train it first if there is none.

    A folder appears whole or not at all, and of several processes that need the same stage one trains it.

    Args:
        cfg: the whole configuration.
        task: name of the task.
        materials: what stages without earlier ones are made of.
        fingerprint: digest of the dataset.
        stage: the stage that contains the earlier one. `None`: the main stage.
        kind: which of its earlier stages.
    """
    earlier = (cfg.algo if stage is None else stage)[kind]
    folder = _place(cfg, earlier, kind, task, fingerprint)
    finished = folder / f"{kind}.json"
    if finished.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Of the processes of one training, the first holds the lock while all of them train.
    lock = FileLock(f"{folder}.lock") if getattr(rank_zero_only, "rank", 0) == 0 else contextlib.nullcontext()
    with lock:
        if not finished.exists():
            # What contains another stage has another key: locks are taken from the outside to the inside.
            before = after_earlier_stages(cfg, earlier, task, materials, fingerprint)
            _train(cfg, earlier, kind, before, folder)
    while not finished.exists():  # the first process is still writing
        time.sleep(0.1)
    return folder


def _place(cfg: DictConfig, stage: DictConfig, kind: str, task: str, fingerprint: str) -> Path:
    """Return the folder in which a trained stage is kept."""
    return Path(cfg.data_dir) / f"{kind}s" / f"{task}-{stage_key(cfg, stage, fingerprint)[:16]}"


def _train(cfg: DictConfig, stage: DictConfig, kind: str, materials: Materials, folder: Path) -> None:
    """Train a stage in a folder of its own; an interrupted training goes on from its checkpoint next time."""
    work = folder.with_name(folder.name + ".partial")
    work.mkdir(parents=True, exist_ok=True)
    module, datamodule = build_stage(cfg, stage, materials)
    metrics = MetricsFile(work / "metrics.jsonl")
    try:
        trained = fit(cfg, stage, module, datamodule, name=kind, folder=work, loggers=[metrics])
    except BaseException:
        if any(work.glob("checkpoints/*.ckpt")):
            print(f"{kind}: its checkpoints are kept in {work}, and its training continues there", file=sys.stderr)
        raise
    if not trained.trainer.is_global_zero:
        return
    trained.module.export(work)
    open_to_readers(work)
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    write_json({"train": trained.report, "stage": OmegaConf.to_container(stage, resolve=True)}, work / f"{kind}.json")
    os.replace(work, folder)


def from_folder(materials: Materials, folder: Path, cfg: DictConfig) -> Materials:
    """Return the materials of a stage that begins with the weights in a folder."""
    lora = cfg.model.get("lora")
    return replace(materials, lm=partial(loading.pretrained, materials.codec, path=str(folder.resolve()), lora=lora))
