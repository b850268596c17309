"""Re-evaluate a finished run, or replay it and compare all numbers."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from lmrl.config.checks import ConfigError
from lmrl.experiment.hardware import quiet_libraries, set_threads
from lmrl.experiment.record import Results, record, reported_evaluation
from lmrl.experiment.reload import trained_policy
from lmrl.experiment.run import run_as
from lmrl.experiment.task import build_policy, evaluation_env, is_trained
from lmrl.runs.folders import config_hash, read_summary
from lmrl.runs.provenance import PROVENANCE, describe, differences, provenance
from lmrl.runs.recorded import CHANGES, changed_config, changes_of
from lmrl.runs.summary import print_summary
from lmrl.scores import Anchors
from lmrl.system.files import write_json, write_text
from lmrl.tracking.core import RunIdentity, Tracker
from lmrl.tracking.store import below

TIMINGS = ("second", "episodes_per", "memory")
"""Parts of the names of metrics that measure speed or memory, which no two runs share."""


def evaluate_again(folder: Path, changes: Sequence[str] = ()) -> float:
    """Play a run's reported evaluation again, with changes of its configuration or exactly, and return its mean return.

    Results go to `evaluations/<digest of the changed configuration>` in the run's folder. Without changes it
    is compared with the reported evaluation, episode by episode.

    Raises:
        ConfigError: the run has no policy, or the changes are impossible or without effect.
    """
    cfg, recorded = changed_config(folder, changes), provenance(folder)
    _refuse_overruled(cfg.evaluation.decoding or {}, changes)
    quiet_libraries()
    set_threads(cfg.hardware.threads, 1)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    env = evaluation_env(cfg.task, cfg.evaluation.env)
    env_version = env().version
    _print_differences(recorded, env_version)
    try:
        policy = trained_policy(folder, cfg) if is_trained(cfg.algo) else build_policy(cfg.algo, cfg.task.get("prompt"))
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    begun = _beginning(folder, changes, config, env_version)
    with torch.no_grad():
        evaluation = reported_evaluation(cfg.evaluation, env, policy, seed=cfg.seed, memory=cfg.task.memory)
    place = folder / "evaluations" / config_hash(config)[:12]
    write_json({"run": str(folder), "changes": list(changes)}, place / CHANGES)
    write_json(begun, place / PROVENANCE)
    write_text(OmegaConf.to_yaml(cfg, resolve=True), place / "config.yaml")
    known, choices = read_summary(folder), recorded["choices"]
    model = known.get("model", choices["model"])
    identity = RunIdentity(choices["task"], choices["algo"], model, cfg.seed, config_hash(config))
    with tracked(folder, cfg.tracking, identity, config=config, place=place) as log:
        results = Results(cfg.task, identity, env, Anchors.of_task(cfg.task), known.get("dataset"), place, log)
        summary = record(results, evaluation, usage=getattr(policy, "usage", None), files=[place / CHANGES])
        shown = dict(log.location)
    print_summary(summary, {"folder": place, "run": folder} | shown)
    _compare_evaluations(folder, place, changes)
    return float(summary["evaluation"]["return_mean"])


def _beginning(folder: Path, changes: Sequence[str], config: Mapping[str, Any], env_version: str) -> dict[str, Any]:
    """Return the provenance of a re-evaluation of the run in a folder."""
    recorded = provenance(folder)
    begun = describe(
        overrides=["mode=eval", f"run={folder}", *changes], choices=recorded["choices"], env_version=env_version,
        dataset=recorded.get("dataset") or "", changed=changes_of(config, recorded["choices"]), kind="evaluation",
    )  # fmt: skip
    # The configuration is made from the overrides of both times.
    return begun | {"overrides": [*recorded["overrides"], *changes]}


@contextmanager
def tracked(
    folder: Path, tracking: DictConfig, identity: RunIdentity, *, config: Mapping[str, Any], place: Path
) -> Iterator[Tracker]:
    """Track a re-evaluation of the run in a folder; in MLflow it is a run below that one.

    Args:
        folder: the folder of the run that is evaluated.
        tracking: the configuration's group of that name.
        identity: the re-evaluation.
        config: its resolved configuration, in plain containers.
        place: its folder.
    """
    note = folder / "mlflow.json"
    run_id = json.loads(note.read_text(encoding="utf-8"))["run_id"] if note.exists() else None
    with below(run_id), instantiate(tracking).run(identity, config=config, folder=place) as log:
        yield log


def _refuse_overruled(reported: Mapping[str, Any], changes: Sequence[str]) -> None:
    """Refuse a change of the training's decoding that the decoding of the evaluation (`reported`) overrules."""
    for key in (change.lstrip("+").split("=")[0] for change in changes):
        name = key.removeprefix("algo.decoding.")
        if name != key and name in reported:
            raise ConfigError(f"{key} has no effect here: change evaluation.decoding.{name} ({reported[name]}) instead")


def replay(folder: Path, changes: Sequence[str] = ()) -> float:
    """Run the whole experiment again as it was recorded, and print whether its numbers are the same.

    The replay is a run of its own, in a folder of its own.

    Returns:
        The mean return of the replay.

    Raises:
        ConfigError: the changes are impossible.
    """
    cfg, recorded = changed_config(folder, changes), provenance(folder)
    if read_summary(folder).get("status") != "finished":
        raise ConfigError(f"{folder} is not a finished run: resume=true continues it")
    _print_differences(recorded, instantiate(cfg.task.env)().version)
    mean, other = run_as(cfg, recorded["choices"], [*recorded["overrides"], *changes])
    if other is not None:
        _compare_metrics(folder, other)
        _compare_evaluations(folder, other, changes)
    return mean


def first_difference(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> str | None:
    """Describe the first difference of two series of metrics; `None` if they are the same, timings aside."""
    for row, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        for name in sorted({*one, *other}):
            is_timing = any(part in name for part in TIMINGS)
            # Written and read as JSON both times: equal texts are equal numbers, NaN included.
            before, after = (json.dumps(found[name]) if name in found else "absent" for found in (one, other))
            if not is_timing and before != after:
                return f"row {row + 1} (step {one.get('step')}): {name} was {before}, is {after}"
    return None if len(ours) == len(theirs) else f"there were {len(ours)} rows, there are {len(theirs)}"


def _print_differences(recorded: dict[str, Any], env_version: str) -> None:
    """Print the versions, code, environment and machine that are not those of the recorded run."""
    now = describe(overrides=[], choices={}, env_version=env_version, dataset="")
    for difference in differences(recorded, now):
        print(f"differs from the recorded run: {difference}", file=sys.stderr)


def _compare_evaluations(folder: Path, place: Path, changes: Sequence[str]) -> None:
    """Print the number of episodes that are identical to the recorded ones."""
    console, recorded = Console(), folder / "transcripts.jsonl"
    if changes or not recorded.exists():
        return
    ours, theirs = (path.read_text(encoding="utf-8").splitlines() for path in (recorded, place / "transcripts.jsonl"))
    same = sum(one == other for one, other in zip(ours, theirs, strict=False))
    whole = len(ours) == len(theirs) == same
    verdict = "the reported evaluation, exactly" if whole else "NOT the reported evaluation"
    console.print(f"{verdict}: {same} of {max(len(ours), len(theirs))} episodes are identical")


def _compare_metrics(folder: Path, other: Path) -> None:
    """Print whether two runs logged the same numbers."""
    ours, theirs = (
        [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for path in (folder, other)
    )
    found = first_difference(ours, theirs)
    verdict = f"all {len(ours)} metric rows are identical" if found is None else f"NOT the same metrics: {found}"
    Console().print(verdict)
