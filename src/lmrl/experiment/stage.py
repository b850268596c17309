"""Train one stage: build its module and data from the configuration, and fit it with Lightning."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from lmrl.callbacks.progress import TrainingProgress
from lmrl.callbacks.resume import BEST, LATEST, AtomicCheckpointIO, newest_checkpoint, resumable
from lmrl.config.checks import ConfigError, changed_env, config_errors
from lmrl.config.data_needs import data_faults
from lmrl.experiment.hardware import machine, resolve_precision
from lmrl.experiment.materials import Materials
from lmrl.experiment.profiler import profiler
from lmrl.experiment.sharded import Sharded
from lmrl.models.backbone import window
from lmrl.models.sharding import compile_blocks, emptied, fill, recompute_activations
from lmrl.modules.base import Algorithm
from lmrl.system import signals
from lmrl.tracking.core import MetricsFile

_ALWAYS: dict[str, Any] = {
    "use_distributed_sampler": False,  # the sampler knows ranks itself
    "num_sanity_val_steps": 0,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""The trainer's arguments that no configuration changes."""
TOKENIZER = "tokenizer"
"""The folder among the checkpoints with the tokenizer, so that they can be played before the run has ended."""


@dataclass(frozen=True)
class Trained:
    """The result of training one stage."""

    module: Algorithm
    trainer: pl.Trainer
    seconds: float
    """Wall-clock time of the training loop, evaluations between epochs included."""
    best: Path | None
    """The checkpoint that was best on the validation episodes. `None`: nothing was evaluated."""
    latest: Path
    interactions: Mapping[str, int]
    """Counts of `episodes` and `environment_steps` in training; empty for offline methods."""

    @property
    def report(self) -> dict[str, Any]:
        """The `train` block of summary.json."""
        tokens = self.module.tokens_trained
        return {
            "steps": self.trainer.global_step,
            "tokens": tokens,
            "tokens_per_second": tokens / max(self.seconds, 1e-9),
            "seconds": self.seconds,
            "parameters": sum(weight.numel() for weight in self.module.parameters()),
            "trained_parameters": sum(w.numel() for w in self.module.parameters() if w.requires_grad),
            **self.interactions,
        }

    def load(self, which: str) -> int:
        """Put the weights of the `best` or the `latest` checkpoint into the module, and return their step.

        Without validation episodes there is no best one, and the latest is taken.
        """
        return load_weights(self.module, self.best if which == "best" and self.best is not None else self.latest)


def check_machine(hardware: DictConfig) -> None:
    """Build a trainer for a machine, to see that it can be built.

    Args:
        hardware: the configuration's group of that name.

    Raises:
        ConfigError: this machine or this version of Lightning cannot run it.
    """
    with config_errors("hardware"):
        pl.Trainer(**machine(hardware), logger=False, enable_checkpointing=False, **_ALWAYS)


def build_module(stage: DictConfig, materials: Materials) -> Algorithm:
    """Build the algorithm of a stage.

    Args:
        stage: the stage's configuration.
        materials: everything else that it is made of.

    Raises:
        ConfigError: a hyper-parameter is out of range, unknown, or does not fit the model.
    """
    # New weights must not depend on anything before, such as whether a prior was reused.
    torch.manual_seed(materials.seed)
    model = materials.model
    # A stage may have an optimizer of its own.
    optimizer = instantiate(stage.get("optimizer") or model.optimizer, lr=model.optimizer.lr * stage.lr_scale)
    with config_errors("algo.decoding"):
        decoding = instantiate(stage.decoding)
    # Hydra would copy live objects that are passed to `instantiate`; a partial is called with them as they are.
    factory = instantiate(stage.module, _partial_=True, _convert_="all")
    with config_errors("algo.module"):
        return factory(
            lm=materials.lm,
            codec=materials.codec,
            optimizer=optimizer,
            steps=stage.steps,
            max_new_tokens=materials.max_new_tokens,
            decoding=decoding,
            **materials.folders,
        )


def build_stage(stage: DictConfig, materials: Materials) -> tuple[Algorithm, Any]:
    """Build the algorithm of a stage and its data.

    Args:
        stage: the stage's configuration.
        materials: everything else that it is made of.

    Raises:
        ConfigError: a hyper-parameter is out of range, unknown, or does not fit the model, the data or the precision.
    """
    resolve_precision(materials.hardware.precision)
    module = build_module(stage, materials)
    for fault in data_faults(type(module), stage.module, stage.datamodule):  # of strangers' classes, too
        raise ConfigError(fault)
    factory = instantiate(_data_settings(stage.datamodule, materials.training), _partial_=True)
    keep = instantiate(stage.datamodule.filter) if stage.datamodule.get("filter") else None
    with config_errors("algo.datamodule"):
        datamodule = factory(
            filter=keep,
            trajectories=list(materials.trajectories),
            codec=materials.codec,
            memory=materials.memory,
            steps_per_epoch=stage.steps_per_epoch * stage.accumulate,
            seed=materials.seed,
            window=window(module.lm),
            max_new_tokens=materials.max_new_tokens,
        )
    with config_errors("task.memory"):
        episodes = datamodule.episodes()  # finds rows that are too long before anything is trained
    if datamodule.epochs_per_loader == 0:  # the data stay as they are
        with config_errors("algo.module"):
            module.check_episodes(episodes)
    return module, datamodule


def _data_settings(datamodule: DictConfig, training: DictConfig) -> Any:
    """Return the settings of a datamodule without its filter, and with the environments that training plays in."""
    settings: Any = OmegaConf.merge(datamodule, {"filter": None})
    if "env" not in settings:
        return settings
    if training.env:
        settings.env = changed_env("training.env", settings.env, training.env)
    if training.first and training.first.env:
        first = changed_env("training.first.env", settings.env, training.first.env)
        with open_dict(settings):
            settings.first_env, settings.first_rounds = first, training.first.rounds
    return settings


def fit(
    stage: DictConfig,
    materials: Materials,
    module: Algorithm,
    datamodule: Any,
    *,
    name: str,
    folder: Path,
    loggers: Sequence[Any] = (),
    callbacks: Sequence[pl.Callback] = (),
    monitor: str | None = None,
) -> Trained:
    """Train a stage, from its newest checkpoint in `folder` if there is one.

    Args:
        stage: the stage's configuration.
        materials: as for `build_stage`.
        module: the algorithm.
        datamodule: its data.
        name: the name of the stage on the progress bar.
        folder: the folder of checkpoints.
        loggers: Lightning's loggers of the metrics.
        callbacks: further callbacks of the trainer.
        monitor: the metric whose largest value marks the best checkpoint. `None`: keep only the latest.
    """
    checkpoints, hardware = folder / "checkpoints", materials.hardware
    arguments = machine(hardware) | {"profiler": profiler(materials.training.profiler, folder)}
    progress = TrainingProgress(name=name, steps=stage.steps)
    # A sharded module stays in shards: after training another one is needed, to be filled on one process.
    result = emptied(module) if isinstance(arguments["strategy"], Sharded) else module
    _prepare_blocks(module, hardware)
    trainer = pl.Trainer(
        **arguments,
        max_epochs=-(-stage.steps // stage.steps_per_epoch),
        plugins=[AtomicCheckpointIO()],
        gradient_clip_val=stage.gradient_clip,
        accumulate_grad_batches=stage.accumulate,
        reload_dataloaders_every_n_epochs=datamodule.epochs_per_loader,
        **_ALWAYS,
        log_every_n_steps=min(20, stage.steps_per_epoch),
        default_root_dir=folder,
        logger=list(loggers),
        callbacks=[*resumable(materials.seed, stage.steps, checkpoints, monitor), *callbacks, progress],
    )
    _run(trainer, module, datamodule, checkpoints)
    best, latest = checkpoints / BEST, checkpoints / LATEST
    chosen = best if monitor is not None and best.exists() else None
    if trainer.is_global_zero:
        _make_usable(result, latest, trainer.strategy.root_device)
    return Trained(result, trainer, progress.seconds, chosen, latest, datamodule.interactions)


def _make_usable(module: Algorithm, checkpoint: Path, device: torch.device) -> None:
    """Fill a module that was emptied, and move it to the accelerator, from which Lightning has taken it."""
    if any(parameter.numel() == 0 for parameter in module.parameters()):
        ending = torch.load(checkpoint, map_location="cpu", weights_only=True)
        fill(module, ending["state_dict"])
        module.on_load_checkpoint(ending)
    module.to(device)


def _run(trainer: pl.Trainer, module: Algorithm, datamodule: Any, checkpoints: Path) -> None:
    """Train from the newest checkpoint, and drop the metrics that were logged after it."""
    if trainer.is_global_zero:
        lm: Any = module.lm
        lm.config.save_pretrained(checkpoints / TOKENIZER)  # a folder with a tokenizer alone cannot be loaded
        module.codec.tokenizer.save_pretrained(checkpoints / TOKENIZER)
    newest, done = newest_checkpoint(checkpoints) or (None, 0)
    if newest is not None and trainer.is_global_zero:
        print(f"continuing {checkpoints.parent} from step {done}", file=sys.stderr)
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile):
            logger.forget_from(done)
    # Lightning's handlers only note SIGTERM until the batch is over, and then wait for the other processes. Requeueing
    # in SLURM is the launcher's task. Our handlers raise at once.
    connector: Any = trainer._signal_connector
    connector.register_signal_handlers = lambda: None
    signals.lead(lambda: getattr(trainer.strategy.launcher, "procs", []))
    try:
        trainer.fit(module, datamodule, ckpt_path=newest, weights_only=True)
    except SystemExit:  # Lightning turns an interruption into this, and ignores Ctrl-C afterwards
        signals.install()
        raise signals.received() or KeyboardInterrupt from None


def _prepare_blocks(module: Algorithm, hardware: DictConfig) -> None:
    """Apply the configuration's choices about memory and speed to the transformer blocks.

    Raises:
        ConfigError: the model's architecture does not allow it.
    """
    if hardware.get("activation_checkpointing"):
        with config_errors("hardware.activation_checkpointing"):
            recompute_activations(module)
    if hardware.get("compile"):
        compile_blocks(module)


def load_weights(module: Algorithm, checkpoint: Path) -> int:
    """Put the weights of a checkpoint into a module, and return its step; nothing in the file is executed."""
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    module.load_state_dict(kept["state_dict"])
    return int(kept["global_step"])
