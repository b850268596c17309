"""One experiment from its configuration to its summary: data, earlier stages, training, evaluation, records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from lmrl.callbacks.validate import Validate
from lmrl.evaluation import Evaluation
from lmrl.experiment.earlier import StageStore, stages_to_train, with_earlier_stages
from lmrl.experiment.hardware import local_processes, path_from_rank_zero, quiet_libraries, set_threads
from lmrl.experiment.materials import Materials, build_materials
from lmrl.experiment.record import Results, record, record_failure, reported_evaluation
from lmrl.experiment.stage import Trained, build_stage, check_machine, fit
from lmrl.experiment.task import Task, build_policy, evaluation_decoding, is_trained, load_task
from lmrl.exported import write_card, write_player
from lmrl.figures.draw import draw_figures
from lmrl.policies.core import Policy
from lmrl.runs.folders import config_hash, open_run
from lmrl.runs.recorded import record_beginning
from lmrl.runs.summary import print_summary
from lmrl.system.files import open_to_readers
from lmrl.tracking.core import RunIdentity, Tracker


@dataclass(frozen=True)
class Run:
    """One experiment, with everything that its parts share."""

    cfg: DictConfig
    task: Task
    materials: Materials
    results: Results


def run(cfg: DictConfig) -> float:
    """Run the experiment, and return its objective: the mean return of the reported evaluation.

    Raises:
        ConfigError: the configuration asks for something impossible; nothing was trained yet.
    """
    hydra = HydraConfig.get()
    return run_as(cfg, hydra.runtime.choices, hydra.overrides.task)[0]


def run_as(cfg: DictConfig, choices: Mapping[str, str], overrides: Sequence[str]) -> tuple[float, Path | None]:
    """Run the experiment of a configuration, however it was composed.

    Args:
        cfg: the configuration.
        choices: the choice of each group, such as `task: maze`.
        overrides: the arguments of `run.py`, as they were typed.

    Returns:
        The objective, and the run's folder; NaN and `None` in other processes than the first.

    Raises:
        ConfigError: the configuration asks for something impossible; nothing was trained yet.
    """
    quiet_libraries()
    set_threads(cfg.hardware.threads, local_processes(cfg.hardware))
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    task, materials = prepare(cfg)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    model = choices["model"] if is_trained(cfg.algo) else cfg.algo.policy.endpoint.model
    identity = RunIdentity(
        choices["task"], choices["algo"], model, cfg.seed, config_hash(config),
        env_version=task.dataset.env_version, dataset_fingerprint=task.dataset.fingerprint,
    )  # fmt: skip
    place = Path(cfg.runs_dir), identity.task, identity.algo, identity.name
    folder = path_from_rank_zero(partial(open_run, *place, resume=cfg.resume, config=config))
    versions = {"env_version": identity.env_version, "dataset": identity.dataset_fingerprint}
    record_beginning(folder, cfg, choices, overrides, **versions)
    tracker: Tracker = instantiate(cfg.tracking)
    with tracker.run(identity, config=config, folder=folder, resume=cfg.resume) as log:
        results = Results(cfg.task, identity, task.evaluation_env, task.anchors, task.summary, folder, log)
        experiment = Run(cfg, task, materials, results)
        try:
            summary = _train_and_evaluate(experiment)
        except BaseException as error:
            if getattr(rank_zero_only, "rank", 0) in (None, 0):  # others fail because the first one has ended
                record_failure(results, error)
            raise
    if summary is None:  # another process than the first
        return float("nan"), None
    parts = {"folder": folder} | {name: folder / name for name in ("figures", "records", "policy")}
    files = {name: place for name, place in parts.items() if place.exists()}
    print_summary(summary, files | dict(log.location))
    return float(summary["evaluation"]["return_mean"]), folder


def prepare(cfg: DictConfig) -> tuple[Task, Materials]:
    """Load or generate the data, and build everything once so that mistakes surface before training.

    Raises:
        ConfigError: the configuration asks for something impossible.
    """
    task = load_task(cfg.task, cfg.evaluation.env)
    materials = build_materials(cfg, task)
    if is_trained(cfg.algo):
        check_machine(cfg.hardware)
        evaluation_decoding(cfg.algo.decoding, cfg.evaluation.decoding)
        for stage in stages_to_train(cfg.algo, StageStore.of(cfg, cfg.task.name, task.dataset.fingerprint)):
            build_stage(stage, materials)
    else:
        build_policy(cfg.algo, cfg.task.get("prompt"))
    return task, materials


def _train_and_evaluate(run: Run) -> dict[str, Any] | None:
    """Train all stages, evaluate the result, and write all records; `None` in other processes than the first."""
    cfg, results, data = run.cfg, run.results, run.task.dataset
    rows = datasets.load_dataset(str(data.folder), split="train")
    results.log.log_dataset(rows, name=results.identity.task, fingerprint=data.fingerprint, source=data.folder)
    if not is_trained(cfg.algo):
        policy = build_policy(cfg.algo, cfg.task.get("prompt"))
        return record(results, _reported(run, policy), usage=policy.usage)
    trained = _train(run)
    return _evaluate(run, trained) if trained.trainer.is_global_zero else None


def _train(run: Run) -> Trained:
    """Train the stages that the algorithm begins with, and then the algorithm."""
    cfg, task, results = run.cfg, run.task, run.results
    store = StageStore.of(cfg, results.identity.task, task.dataset.fingerprint)
    materials = with_earlier_stages(cfg.algo, store, run.materials)
    module, datamodule = build_stage(cfg.algo, materials)
    validate = Validate(
        make_env=task.make_env,
        memory=task.memory,
        anchors=task.anchors,
        every_n_epochs=cfg.validation.every_n_epochs,
        repeats=cfg.validation.repeats,
        episodes=cfg.validation.episodes,
        slots=cfg.evaluation.slots,
        seed=cfg.seed,
        decoding=evaluation_decoding(cfg.algo.decoding, cfg.evaluation.decoding),
    )
    return fit(
        cfg.algo, materials, module, datamodule, name=results.identity.algo, folder=results.folder,
        loggers=results.log.loggers, callbacks=[validate], monitor="validation/return_mean",
    )  # fmt: skip


def _evaluate(run: Run, trained: Trained) -> dict[str, Any]:
    """Export the trained policy, evaluate it, draw the figures, and write all records."""
    cfg, task, results, module = run.cfg, run.task, run.results, trained.module
    identity, log, policy = results.identity, results.log, results.folder / "policy"
    train = trained.report | {"checkpoint_step": trained.load(cfg.evaluation.checkpoint)}
    module.decoding = evaluation_decoding(cfg.algo.decoding, cfg.evaluation.decoding)
    module.export(policy)
    write_player(policy, module, task=identity.task, memory=task.memory)
    module.eval()
    with torch.no_grad():
        evaluation = _reported(run, module.policy())
    metrics = log.metrics.rows() if log.metrics else []
    figures = results.folder / "figures"
    pictures = draw_figures(cfg.task, task.make_env(), module, metrics, figures, title=identity.name)
    named = {"task": identity.task, "algo": identity.algo, "model": identity.model}
    write_card(policy, **named, evaluation=evaluation, base_model=cfg.model.get("path"))
    open_to_readers(policy)
    return record(results, evaluation, train=train, pictures=pictures)


def _reported(run: Run, policy: Policy) -> Evaluation:
    """Play the reported evaluation of a run."""
    task, cfg = run.task, run.cfg
    return reported_evaluation(cfg.evaluation, task.evaluation_env, policy, seed=cfg.seed, memory=task.memory)
