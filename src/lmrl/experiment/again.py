"""Re-evaluate a finished run, or replay it and compare all numbers."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from lmrl.config.checks import ConfigError
from lmrl.evaluation import Evaluation
from lmrl.experiment.hardware import quiet_libraries, set_threads
from lmrl.experiment.reload import trained_policy
from lmrl.experiment.run import build_policy, evaluation_env, is_trained, reported_evaluation, run_as
from lmrl.runs.folders import config_hash, read_summary
from lmrl.runs.provenance import PROVENANCE, describe, differences, provenance
from lmrl.runs.recorded import changed_config, changes_of
from lmrl.runs.summary import build_summary, partner_of, print_summary, write_json, write_transcripts
from lmrl.scores import Anchors
from lmrl.system.files import write_text
from lmrl.tracking.core import RunIdentity
from lmrl.tracking.store import below

TIMINGS = ("second", "episodes_per", "memory")
"""Parts of the names of metrics that tell how fast a run was, which no two runs share."""


def evaluate_again(folder: Path, changes: Sequence[str] = ()) -> float:
    """Play a run's reported evaluation again, with changes of its configuration or exactly, and return its mean return.

    Results go to `evaluations/<digest of the changed configuration>` in the run's folder. What is unchanged is compared
    with what was reported, episode by episode.

    Raises:
        ConfigError: the run has no policy, or the changes are impossible or without effect.
    """
    cfg, recorded = changed_config(folder, changes), provenance(folder)
    _refuse_overruled(cfg, changes)
    quiet_libraries()
    set_threads(cfg.hardware.threads, 1)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    env = evaluation_env(cfg)
    _tell_differences(recorded, cfg, env_version=env().version)
    try:
        policy = trained_policy(folder, cfg) if is_trained(cfg) else build_policy(cfg)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    begun = _beginning(folder, changes, config, env().version)
    with torch.no_grad():
        evaluation = reported_evaluation(cfg, env, policy)
    place = folder / "evaluations" / config_hash(config)[:12]
    place.mkdir(parents=True, exist_ok=True)
    known, choices = read_summary(folder), recorded["choices"]
    anchors = Anchors.of_task(cfg.task)
    summary = build_summary(
        task=choices["task"], algo=choices["algo"], model=known.get("model", choices["model"]), seed=cfg.seed,
        status="finished", config_hash=config_hash(config), started=begun["started"], changed=begun["changed"],
        dataset=known.get("dataset"), rollout=evaluation.rollout, evaluation=evaluation.summary(anchors),
        paper=known.get("paper"), anchors=anchors, usage=getattr(policy, "usage", None), partner=partner_of(env()),
    )  # fmt: skip
    write_transcripts(evaluation, place / "transcripts.jsonl")
    write_json(summary, place / "summary.json")
    write_json({"run": str(folder), "changes": list(changes)}, place / "changes.json")
    write_json(begun, place / PROVENANCE)
    write_text(OmegaConf.to_yaml(cfg, resolve=True), place / "config.yaml")
    where = _track(folder, place, config, cfg, summary, evaluation)
    print_summary(summary, {"folder": place, "run": folder} | where)
    _compare_evaluations(folder, place, changes)
    return float(summary["evaluation"]["return_mean"])


def _beginning(folder: Path, changes: Sequence[str], config: Mapping[str, Any], env_version: str) -> dict[str, Any]:
    """Return the provenance of another evaluation of a run."""
    recorded = provenance(folder)
    typed = ["mode=eval", f"run={folder}", *changes]
    found = describe(
        overrides=typed, choices=recorded["choices"], env_version=env_version, dataset=recorded.get("dataset") or "",
        changed=changes_of(config, recorded["choices"]), kind="evaluation",
    )  # fmt: skip
    # The configuration is made of what was typed both times.
    return found | {"overrides": [*recorded["overrides"], *changes]}


def _refuse_overruled(cfg: DictConfig, changes: Sequence[str]) -> None:
    """Refuse to change how the policy drew its tokens while training, where it is evaluated with another value."""
    reported = cfg.evaluation.get("decoding") or {}
    for key in (change.lstrip("+").split("=")[0] for change in changes):
        name = key.removeprefix("algo.decoding.")
        if name != key and name in reported:
            raise ConfigError(f"{key} has no effect here: change evaluation.decoding.{name} ({reported[name]}) instead")


def replay(folder: Path, changes: Sequence[str] = ()) -> float:
    """Run the whole experiment again as it was recorded, and tell whether its numbers are the same.

    The replay is a run of its own, in a folder of its own.

    Returns:
        The mean return of the replay.

    Raises:
        ConfigError: the changes are impossible.
    """
    cfg, recorded = changed_config(folder, changes), provenance(folder)
    if read_summary(folder).get("status") != "finished":
        raise ConfigError(f"{folder} is not a finished run: resume=true continues it")
    _tell_differences(recorded, cfg)
    mean, other = run_as(cfg, recorded["choices"], [*recorded["overrides"], *changes])
    if other is not None:
        _compare_metrics(folder, other)
        _compare_evaluations(folder, other, changes)
    return mean


def first_difference(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> str | None:
    """Return in words where two series of metrics begin to differ; `None` if they are the same, timings aside."""
    for row, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        for name in sorted({*one, *other}):
            is_timing = any(part in name for part in TIMINGS)
            # Written and read as JSON both times: equal texts are equal numbers, NaN included.
            before, after = (json.dumps(found[name]) if name in found else "not there" for found in (one, other))
            if not is_timing and before != after:
                return f"row {row + 1} (step {one.get('step')}): {name} was {before}, is {after}"
    return None if len(ours) == len(theirs) else f"there were {len(ours)} rows, there are {len(theirs)}"


def _track(
    folder: Path,
    place: Path,
    config: Mapping[str, Any],
    cfg: DictConfig,
    summary: Mapping[str, Any],
    evaluation: Evaluation,
) -> dict[str, str]:
    """Record an evaluation in the tracker, in MLflow as a run below the one that it evaluates; return where it is."""
    note = folder / "mlflow.json"
    run_id = json.loads(note.read_text(encoding="utf-8"))["run_id"] if note.exists() else None
    identity = RunIdentity(summary["task"], summary["algo"], summary["model"], cfg.seed, config_hash(dict(config)))
    with below(run_id), instantiate(cfg.tracking).run(identity, config=config, folder=place, resume=False) as log:
        log.log_results(summary)
        for path in (place / "summary.json", place / "transcripts.jsonl", place / "changes.json", place / PROVENANCE):
            log.log_file(path)
        log.log_evaluation(evaluation, memory=cfg.task.memory)
        return dict(log.places)


def _tell_differences(recorded: dict[str, Any], cfg: DictConfig, **known: str) -> None:
    """Say which versions, code, data, environment or machine are not those of the recorded run."""
    env_version = known.get("env_version") or instantiate(cfg.task.env)().version
    now = describe(overrides=[], choices={}, env_version=env_version, dataset="")
    for said in differences(recorded, now):
        print(f"differs from the recorded run: {said}", file=sys.stderr)


def _compare_evaluations(folder: Path, place: Path, changes: Sequence[str]) -> None:
    """Say how many episodes are the recorded ones."""
    console, recorded = Console(), folder / "transcripts.jsonl"
    if changes or not recorded.exists():
        return
    ours, theirs = (path.read_text(encoding="utf-8").splitlines() for path in (recorded, place / "transcripts.jsonl"))
    same = sum(one == other for one, other in zip(ours, theirs, strict=False))
    whole = len(ours) == len(theirs) == same
    verdict = "the reported evaluation, exactly" if whole else "NOT the reported evaluation"
    console.print(f"{verdict}: {same} of {max(len(ours), len(theirs))} episodes are identical")


def _compare_metrics(folder: Path, other: Path) -> None:
    """Say whether two runs logged the same numbers."""
    ours, theirs = (
        [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for path in (folder, other)
    )
    found = first_difference(ours, theirs)
    said = f"all {len(ours)} metric rows are identical" if found is None else f"NOT the same metrics: {found}"
    Console().print(said)
