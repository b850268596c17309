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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from lmrl import __version__
from lmrl.callbacks.resume import has_checkpoint
from lmrl.experiment.materials import Materials
from lmrl.experiment.stage import build_stage, fit
from lmrl.system.files import open_to_readers, write_json
from lmrl.tracking.core import MetricsFile


@dataclass(frozen=True)
class StageStore:
    """The folder of the earlier stages of a task, and everything that determines them besides their configuration."""

    data_dir: Path
    task: str
    inputs: Mapping[str, Any]
    """Model, memory, seed, data and version, as plain values."""

    @classmethod
    def of(cls, cfg: DictConfig, task: str, fingerprint: str) -> "StageStore":
        """Return the store for the stages of a configuration.

        Args:
            cfg: the whole configuration.
            task: name of the task.
            fingerprint: digest of the dataset.
        """
        inputs = {
            "model": OmegaConf.to_container(cfg.model, resolve=True),
            "memory": cfg.task.memory,
            "seed": cfg.seed,
            "dataset": fingerprint,
            "trajectories": cfg.training.limits.trajectories,
            "version": __version__,
        }
        return cls(Path(cfg.data_dir), task, inputs)

    def key(self, stage: DictConfig) -> str:
        """Return a digest of everything that determines a stage; equal stages have the same key wherever they stand."""
        inputs = {"stage": OmegaConf.to_container(stage, resolve=True), **self.inputs}
        return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()

    def folder(self, stage: DictConfig, kind: str) -> Path:
        """Return the folder of a trained stage."""
        return self.data_dir / f"{kind}s" / f"{self.task}-{self.key(stage)[:16]}"


def stages_to_train(stage: DictConfig, store: StageStore) -> Iterator[DictConfig]:
    """Yield the stages still to be trained, prerequisites first and the stage itself last."""
    for kind in ("prior", "critic"):
        if stage.get(kind) and not (store.folder(stage[kind], kind) / f"{kind}.json").exists():
            yield from stages_to_train(stage[kind], store)
    yield stage


def with_earlier_stages(stage: DictConfig, store: StageStore, materials: Materials) -> Materials:
    """Find or train the stages that a stage begins with, and return the materials that it is then made of.

    Args:
        stage: the stage's configuration.
        store: the folder of earlier stages.
        materials: the materials of stages without earlier ones.
    """
    ready = materials
    if stage.get("prior"):
        ready = ready.with_weights(find_or_train(stage.prior, "prior", store, materials))
    if stage.get("critic"):
        folder = find_or_train(stage.critic, "critic", store, materials)
        ready = replace(ready, folders={**ready.folders, "critic": folder})
    return ready


def find_or_train(stage: DictConfig, kind: str, store: StageStore, materials: Materials) -> Path:
    """Return the folder of an earlier stage, in Hugging Face's format; train it first if there is none.

    A folder appears whole or not at all, and of several processes that need the same stage one trains it.

    Args:
        stage: the earlier stage's configuration.
        kind: `prior` or `critic`.
        store: the folder of earlier stages.
        materials: the materials of stages without earlier ones.
    """
    folder = store.folder(stage, kind)
    finished = folder / f"{kind}.json"
    if finished.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Of the processes of one training, the first holds the lock while all of them train.
    lock = FileLock(f"{folder}.lock") if getattr(rank_zero_only, "rank", 0) == 0 else contextlib.nullcontext()
    with lock:
        if not finished.exists():
            # A stage that contains another one has another key: locks are taken from the outside to the inside.
            _train(stage, kind, with_earlier_stages(stage, store, materials), folder)
    while not finished.exists():  # the first process is still writing
        time.sleep(0.1)
    return folder


def _train(stage: DictConfig, kind: str, materials: Materials, folder: Path) -> None:
    """Train a stage in a folder of its own; an interrupted training continues from its checkpoint next time."""
    work = folder.with_name(folder.name + ".partial")
    work.mkdir(parents=True, exist_ok=True)
    module, datamodule = build_stage(stage, materials)
    metrics = MetricsFile(work / "metrics.jsonl")
    try:
        trained = fit(stage, materials, module, datamodule, name=kind, folder=work, loggers=[metrics])
    except BaseException:
        if has_checkpoint(work):
            print(f"{kind}: its checkpoints are kept in {work}, and its training continues there", file=sys.stderr)
        raise
    if not trained.trainer.is_global_zero:
        return
    trained.module.export(work)
    open_to_readers(work)
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    write_json({"train": trained.report, "stage": OmegaConf.to_container(stage, resolve=True)}, work / f"{kind}.json")
    os.replace(work, folder)
