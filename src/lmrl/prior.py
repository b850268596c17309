"""The behaviour prior of a value method: trained once, kept on disk, and used again while its inputs are the same."""

import hashlib
import json
import os
import shutil
from functools import partial
from pathlib import Path

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from lmrl import __version__
from lmrl.models import backbone
from lmrl.summary import write_json
from lmrl.tracking.core import MetricsFile
from lmrl.training import Materials, build_stage, fit


def prior_key(cfg: DictConfig, fingerprint: str) -> str:
    """Return a digest of everything that determines the prior: its stage, model, data, state and seed."""
    what = {
        "stage": OmegaConf.to_container(cfg.algo.prior, resolve=True),
        "model": OmegaConf.to_container(cfg.model, resolve=True),
        "memory": cfg.task.memory,
        "seed": cfg.seed,
        "dataset": fingerprint,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def find_or_train(cfg: DictConfig, task: str, materials: Materials, fingerprint: str) -> Path:
    """Return the folder of the prior, in Hugging Face's format; train it first if there is none.

    A folder appears whole or not at all, and of several processes that need the same prior one trains it.
    """
    folder = Path(cfg.data_dir) / "priors" / f"{task}-{prior_key(cfg, fingerprint)[:16]}"
    if (folder / "prior.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "prior.json").exists():
            _train(cfg, materials, folder)
    return folder


def _train(cfg: DictConfig, materials: Materials, folder: Path) -> None:
    """Train the prior in a folder of its own; an interrupted training goes on from its checkpoint next time."""
    stage = cfg.algo.prior
    work = folder.with_name(folder.name + ".partial")
    work.mkdir(exist_ok=True)
    module, datamodule = build_stage(cfg, stage, materials)
    metrics = MetricsFile(work / "metrics.jsonl")
    trained = fit(cfg, stage, module, datamodule, name="prior", folder=work, loggers=[metrics])
    backbone.save(trained.module.lm, materials.codec, work)
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    write_json({"train": trained.report, "stage": OmegaConf.to_container(stage, resolve=True)}, work / "prior.json")
    os.replace(work, folder)


def from_folder(materials: Materials, folder: Path, cfg: DictConfig) -> Materials:
    """Return the materials of a stage that begins with the prior's weights."""
    lora = cfg.model.get("lora")
    lm = partial(backbone.pretrained, materials.codec, path=str(folder.resolve()), lora=lora)
    return Materials(materials.codec, lm, materials.trajectories)
