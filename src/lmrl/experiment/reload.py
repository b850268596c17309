"""Load the policy of a run from its folder, as it was evaluated; needs neither data nor training."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lmrl.callbacks.resume import BEST, newest_checkpoint
from lmrl.experiment.materials import Materials, initial_model
from lmrl.experiment.stage import TOKENIZER, build_module, load_weights
from lmrl.experiment.task import evaluation_decoding, is_trained
from lmrl.exported import PLAYER
from lmrl.models import tokenizer
from lmrl.policies.core import Policy
from lmrl.runs.recorded import run_config


def trained_policy(folder: Path, cfg: DictConfig | None = None) -> Policy:
    """Return the policy of a run, with the weights that its evaluation reported, or would report if it ended now.

    Args:
        folder: the run's folder.
        cfg: a configuration of the same networks, for example with another decoding. `None`: the run's own.

    Raises:
        FileNotFoundError: the folder is not a run folder, or the run has not trained for an epoch yet.
        ConfigError: the configuration does not fit this version of the code, or all checkpoints are damaged.
    """
    cfg = run_config(folder) if cfg is None else cfg
    if not is_trained(cfg.algo):
        raise FileNotFoundError(
            f"{folder} was played by {cfg.algo.policy._target_}, which is not trained, so there are no weights to load"
        )
    saved, checkpoints = folder / "policy", folder / "checkpoints"
    chosen = checkpoints / BEST
    if cfg.evaluation.checkpoint != "best" or not chosen.exists():
        newest = newest_checkpoint(checkpoints)
        if newest is None:
            raise FileNotFoundError(f"{folder} has no checkpoint yet: continue the run first, with resume=true")
        chosen = newest[0]
    if not (saved / PLAYER).is_file():  # the last of its files: a run may end while it exports
        step = torch.load(chosen, map_location="cpu", weights_only=True, mmap=True)["global_step"]
        print(
            f"{folder} has not finished its training: its policy is that of step {step} ({chosen.name})",
            file=sys.stderr,
        )
        saved = checkpoints / TOKENIZER
        if not saved.is_dir():
            raise FileNotFoundError(f"{saved} is missing: start the run again")
    codec = tokenizer.load(path=str(saved.resolve()))
    lm = partial(initial_model, _own_model(cfg.model.lm, saved), codec)
    # Methods refuse to learn from some decodings; here nothing is learned, so any decoding is allowed.
    stage: Any = OmegaConf.create(OmegaConf.to_container(cfg.algo, resolve=True))
    stage.decoding, rerank = None, stage.module.pop("rerank", None)
    module = build_module(stage, Materials.of(cfg, codec, lm))
    load_weights(module, chosen)
    module.decoding = evaluation_decoding(cfg.algo.decoding, cfg.evaluation.decoding)
    module.rerank = instantiate(rerank, _convert_="all") if rerank else None
    return module.eval().policy()


def _own_model(settings: DictConfig, saved: Path) -> DictConfig:
    """Return the settings of a pretrained model with the exported one in its place, which has the same architecture.

    All weights come from the run's checkpoint; the model that training began with is no longer needed.
    """
    has_weights = any(saved.glob("*.safetensors"))
    return OmegaConf.merge(settings, {"path": str(saved.resolve())}) if "path" in settings and has_weights else settings  # type: ignore[return-value]
