"""One experiment from its configuration to its summary: data, prior, training, evaluation, records."""

import time
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
from rich.console import Console

from lmrl.callbacks.validate import Validate
from lmrl.config.checks import build, changed_env
from lmrl.data.generate import loader_of
from lmrl.data.store import Dataset
from lmrl.evaluation import Evaluation, evaluate, evaluation_starts
from lmrl.experiment import prior
from lmrl.experiment.hardware import first_decides, local_processes, quiet_libraries, set_threads
from lmrl.experiment.stage import Materials, Stage, build_stage, check_machine, evaluation_decoding, fit
from lmrl.exported import write_card, write_player
from lmrl.figures.draw import draw_figures
from lmrl.policies.core import Policy
from lmrl.runs.folders import config_hash, open_run
from lmrl.runs.provenance import PROVENANCE, describe, provenance, record_beginning
from lmrl.runs.recorded import changes_of
from lmrl.runs.summary import build_summary, partner_of, print_summary, write_json, write_transcripts, write_unfinished
from lmrl.scores import Anchors
from lmrl.system.files import open_to_readers, write_text
from lmrl.text.trajectory import Trajectory
from lmrl.tracking.core import RunIdentity, Tracker


@dataclass(frozen=True)
class Task:
    """What an experiment needs to know about its task."""

    make_env: Any
    """Builds the environment of training and validation."""
    evaluation_env: Any
    """Builds the environment of the reported evaluation."""
    memory: int | None
    anchors: Anchors | None
    dataset: Dataset

    @property
    def summary(self) -> dict[str, Any]:
        """The `dataset` block of summary.json."""
        numbers = self.dataset.statistics
        return {
            "fingerprint": self.dataset.fingerprint,
            "trajectories": len(self.dataset.trajectories),
            "return_mean": numbers["return_mean"],
        }


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
        choices: what it was composed of, by group, such as `task: maze`.
        overrides: what the user typed.

    Returns:
        The objective, and the run's folder; NaN and `None` in other processes than the first.

    Raises:
        ConfigError: the configuration asks for something impossible; nothing was trained yet.
    """
    quiet_libraries()
    set_threads(cfg.hardware.threads, local_processes(cfg.hardware))
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    task, materials = prepare(cfg)
    identity = RunIdentity(
        choices["task"],
        choices["algo"],
        choices["model"] if is_trained(cfg) else cfg.algo.policy.endpoint.model,
        cfg.seed,
        config_hash(config),
        env_version=task.dataset.env_version,
        dataset_fingerprint=task.dataset.fingerprint,
    )
    place = Path(cfg.runs_dir), identity.task, identity.algo, identity.name
    folder = first_decides(partial(open_run, *place, resume=cfg.resume, config=config))
    beginning = describe(
        overrides=overrides, choices=choices, env_version=identity.env_version, dataset=identity.dataset_fingerprint,
        changed=changes_of(config, choices),
    )  # fmt: skip
    record_beginning(folder, beginning)  # before config.yaml, which makes the folder one of a run
    write_text(OmegaConf.to_yaml(cfg, resolve=True), folder / "config.yaml")
    tracker: Tracker = instantiate(cfg.tracking)
    with tracker.run(identity, config=config, folder=folder, resume=cfg.resume) as log:
        try:
            summary = _train_and_report(cfg, identity, task, materials, folder, log)
        except BaseException as error:
            if getattr(rank_zero_only, "rank", 0) in (None, 0):  # others fail because the first one has ended
                write_unfinished(folder, error, dataset=task.summary, **_head(identity, folder))
            raise
    if summary is None:  # another process than the first
        return float("nan"), None
    parts = {"folder": folder} | {name: folder / name for name in ("figures", "records", "policy")}
    files = {name: place for name, place in parts.items() if place.exists()}
    print_summary(summary, files | dict(log.places))
    return float(summary["evaluation"]["return_mean"]), folder


def prepare(cfg: DictConfig) -> tuple[Task, Materials]:
    """Load or generate the data, and build everything once so that mistakes surface before training.

    Raises:
        ConfigError: the configuration asks for something impossible.
    """
    task = load_task(cfg)
    materials = build_materials(cfg, task)
    if is_trained(cfg):
        build("hardware", check_machine, cfg.hardware)
        evaluation_decoding(cfg)
        for stage in prior.untrained(cfg, cfg.algo, cfg.task.name, task.dataset.fingerprint):
            build_stage(cfg, stage, materials)
    else:
        build_policy(cfg)
    return task, materials


def is_trained(cfg: DictConfig) -> bool:
    """Tell whether the algorithm trains something, or names a policy that plays as it is."""
    return cfg.algo.get("module") is not None


def build_policy(cfg: DictConfig) -> Any:
    """Build the policy of an algorithm without training."""
    prompt: Any = OmegaConf.to_container(cfg.task.prompt, resolve=True) if cfg.task.get("prompt") else None
    return build("algo.policy", build("algo.policy", instantiate, cfg.algo.policy), prompt=prompt)


def load_task(cfg: DictConfig) -> Task:
    """Build the environment once, to see that it can be built, and load or make the task's data."""
    make_env = build("task.env", instantiate, cfg.task.env)
    build("task.env", make_env)
    reported = evaluation_env(cfg)
    anchors = Anchors.of_task(cfg.task)
    dataset = build("task.dataset", build("task.dataset", loader_of, cfg.task))
    return Task(make_env, reported, cfg.task.memory, anchors, dataset)


def evaluation_env(cfg: DictConfig) -> Any:
    """Return what builds the environment of the reported evaluation; it is built once, to see that it can be."""
    return instantiate(changed_env("evaluation.env", cfg.task.env, cfg.evaluation.env))


def build_materials(cfg: DictConfig, task: Task) -> Materials:
    """Build tokenizer and model factory, and make sure that the tokenizer can write the task."""
    trajectories = evenly(task.dataset.trajectories, OmegaConf.select(cfg, "training.limits.trajectories"))
    texts = [turn.text for trajectory in trajectories for turn in trajectory.turns]
    codec = build("model.tokenizer", instantiate(cfg.model.tokenizer), texts)
    build("model", codec.check, sorted(set(texts)))
    lm = partial(build, "model.lm", instantiate(cfg.model.lm), codec)
    return Materials(codec, lm, trajectories)


def evenly(trajectories: Sequence[Trajectory], limit: int | None) -> Sequence[Trajectory]:
    """Return at most `limit` trajectories, spread evenly over all of them; `None`: all."""
    if limit is None or limit >= len(trajectories):
        return trajectories
    return [trajectories[place * len(trajectories) // limit] for place in range(limit)]


def _train_and_report(
    cfg: DictConfig, identity: RunIdentity, task: Task, materials: Materials, folder: Path, log: Tracker
) -> dict[str, Any] | None:
    """Train all stages, evaluate the result, and write everything that a person or program may ask for."""
    rows = datasets.load_dataset(str(task.dataset.folder), split="train")
    log.log_dataset(rows, name=identity.task, fingerprint=task.dataset.fingerprint, source=task.dataset.folder)
    if not is_trained(cfg):
        policy = build_policy(cfg)
        evaluation = reported_evaluation(cfg, task.evaluation_env, policy)
        return _report(cfg, identity, task, evaluation, folder, log, usage=policy.usage)
    stage = _train(cfg, identity, task, materials, folder, log)
    if not stage.trainer.is_global_zero:
        return None
    module = stage.module
    train = stage.report | {"checkpoint_step": stage.load(cfg.evaluation.checkpoint)}
    module.decoding = evaluation_decoding(cfg)
    module.export(folder / "policy")
    write_player(folder / "policy", module, task=identity.task, memory=task.memory)
    module.eval()
    with torch.no_grad():
        evaluation = reported_evaluation(cfg, task.evaluation_env, module.policy())
    metrics = log.metrics.rows() if log.metrics else []
    pictures = draw_figures(cfg, task.make_env(), module, metrics, folder / "figures", title=identity.name)
    named = {"task": identity.task, "algo": identity.algo, "model": identity.model}
    write_card(folder / "policy", **named, evaluation=evaluation, base_model=cfg.model.get("path"))
    open_to_readers(folder / "policy")
    return _report(cfg, identity, task, evaluation, folder, log, train=train, pictures=pictures)


def _train(
    cfg: DictConfig, identity: RunIdentity, task: Task, materials: Materials, folder: Path, log: Tracker
) -> Stage:
    """Train what the algorithm begins with, and then the algorithm."""
    materials = prior.after_earlier_stages(cfg, cfg.algo, identity.task, materials, task.dataset.fingerprint)
    module, datamodule = build_stage(cfg, cfg.algo, materials)
    playing = Validate(
        make_env=task.make_env,
        memory=task.memory,
        anchors=task.anchors,
        every_n_epochs=cfg.validation.every_n_epochs,
        repeats=cfg.validation.repeats,
        episodes=cfg.validation.episodes,
        slots=cfg.evaluation.slots,
        seed=cfg.seed,
        decoding=evaluation_decoding(cfg),
    )
    return fit(
        cfg, cfg.algo, module, datamodule,
        name=identity.algo, folder=folder, loggers=log.loggers, callbacks=[playing], monitor="validation/return_mean",
    )  # fmt: skip


def _report(
    cfg: DictConfig,
    identity: RunIdentity,
    task: Task,
    evaluation: Evaluation,
    folder: Path,
    log: Tracker,
    *,
    train: dict[str, Any] | None = None,
    usage: dict[str, Any] | None = None,
    pictures: Sequence[Path] = (),
) -> dict[str, Any]:
    """Write the evaluation for people and programs, and send it to the tracker."""
    write_transcripts(evaluation, folder / "transcripts.jsonl")
    summary = build_summary(
        **_head(identity, folder),
        status="finished",
        dataset=task.summary,
        train=train,
        rollout=evaluation.rollout,
        evaluation=evaluation.summary(task.anchors),
        paper=OmegaConf.to_container(cfg.task.paper).get(identity.algo),  # type: ignore[union-attr]
        usage=usage,
        partner=partner_of(task.evaluation_env()),
        anchors=task.anchors,
    )
    log.log_results(summary)
    for path in (folder / "transcripts.jsonl", folder / PROVENANCE):
        log.log_file(path)
    for path in pictures:
        log.log_file(path, "figures")
    for name, record in (cfg.task.get("records") or {}).items():
        for path in instantiate(record)(trajectories=evaluation.trajectories, folder=folder / "records" / name):
            log.log_file(path, f"records/{name}")
    log.log_evaluation(evaluation, memory=task.memory)
    log.settle()
    # Last of all: whoever is killed before has not finished, and reports again when the run is resumed.
    write_json(summary, folder / "summary.json")
    log.log_file(folder / "summary.json")
    return summary


def reported_evaluation(cfg: DictConfig, env: Any, policy: Policy) -> Evaluation:
    """Play the reported episodes in environments that `env` builds, with progress."""
    cap = cfg.evaluation.episodes
    starts = evaluation_starts(env, cfg.evaluation.repeats, cfg.seed, stream="test", limit=cap)
    console, played, began = Console(stderr=True), 0, time.perf_counter()

    def progress(index: int, trajectory: Any) -> None:  # noqa: ARG001
        nonlocal played
        played += 1
        if played % 200 == 0 or played == len(starts):
            console.print(f"evaluation {played}/{len(starts)} episodes ({time.perf_counter() - began:.0f} s)")

    return evaluate(policy, env, starts, memory=cfg.task.memory, slots=cfg.evaluation.slots, on_episode=progress)


def _head(identity: RunIdentity, folder: Path) -> dict[str, Any]:
    """Return what summary.json says of a run whatever becomes of it."""
    begun = provenance(folder)
    known = {key: getattr(identity, key) for key in ("task", "algo", "model", "seed", "config_hash")}
    return known | {key: begun.get(key) for key in ("started", "changed")}
