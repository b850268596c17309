"""Records of a run and of its evaluation: transcripts.jsonl, summary.json, and copies of both in the tracker."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from lmrl.callbacks.resume import has_checkpoint
from lmrl.envs.core import TextEnv
from lmrl.evaluation import Evaluation, evaluate, evaluation_starts
from lmrl.policies.core import Policy
from lmrl.runs.provenance import PROVENANCE, provenance
from lmrl.runs.summary import Status, build_summary
from lmrl.scores import Anchors
from lmrl.system.files import json_text, write_json, write_text
from lmrl.text.trajectory import Trajectory, messages
from lmrl.tracking.core import RunIdentity, Tracker


@dataclass(frozen=True)
class Results:
    """The place of the results of a run, or of a re-evaluation of one: its folder and its tracker."""

    task: DictConfig
    """The configuration's group of that name."""
    identity: RunIdentity
    evaluation_env: Callable[[], TextEnv]
    """Builds the environment of the reported evaluation."""
    anchors: Anchors | None
    dataset: Mapping[str, Any] | None
    """The `dataset` block of summary.json."""
    folder: Path
    log: Tracker

    @property
    def head(self) -> dict[str, Any]:
        """The keys of summary.json that do not depend on how the run ends."""
        begun, identity = provenance(self.folder), self.identity
        return {
            "task": identity.task,
            "algo": identity.algo,
            "model": identity.model,
            "seed": identity.seed,
            "config_hash": identity.config_hash,
            "started": begun["started"],
            "changed": begun["changed"],
            "dataset": self.dataset,
        }


def reported_evaluation(
    evaluation: DictConfig, env: Callable[[], TextEnv], policy: Policy, *, seed: int, memory: int | None
) -> Evaluation:
    """Play the reported episodes, and print the progress.

    Args:
        evaluation: the configuration's group of that name.
        env: builds one environment.
        policy: the policy that plays.
        seed: the run's seed.
        memory: the number of last turns that the policy may see; `None` for all.
    """
    starts = evaluation_starts(env, evaluation.repeats, seed, stream="test", limit=evaluation.episodes)
    console, played, began = Console(stderr=True), 0, time.perf_counter()

    def progress(index: int, trajectory: Any) -> None:  # noqa: ARG001
        nonlocal played
        played += 1
        if played % 200 == 0 or played == len(starts):
            console.print(f"evaluation {played}/{len(starts)} episodes ({time.perf_counter() - began:.0f} s)")

    return evaluate(policy, env, starts, memory=memory, slots=evaluation.slots, on_episode=progress)


def record(
    results: Results,
    evaluation: Evaluation,
    *,
    train: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
    files: Sequence[Path] = (),
    pictures: Sequence[Path] = (),
) -> dict[str, Any]:
    """Write an evaluation for people and programs, send it to the tracker, and return its summary.

    Args:
        results: the place of the results.
        evaluation: the reported episodes.
        train: the `train` block of summary.json.
        usage: the `usage` block of summary.json.
        files: further files that the tracker keeps.
        pictures: further files that the tracker keeps, in the folder `figures`.
    """
    task, folder, log = results.task, results.folder, results.log
    write_transcripts(evaluation, folder / "transcripts.jsonl")
    summary = build_summary(
        **results.head,
        status="finished",
        train=train,
        rollout=evaluation.rollout,
        evaluation=evaluation.summary(results.anchors),
        paper=(OmegaConf.to_container(task.paper) or {}).get(results.identity.algo),  # type: ignore[union-attr]
        usage=usage,
        partner=_partner(results.evaluation_env()),
        anchors=results.anchors,
    )
    log.log_results(summary)
    for path in (folder / "transcripts.jsonl", folder / PROVENANCE, *files):
        log.log_file(path)
    for path in pictures:
        log.log_file(path, "figures")
    for name, recorder in (task.get("records") or {}).items():
        for path in instantiate(recorder)(trajectories=evaluation.trajectories, folder=folder / "records" / name):
            log.log_file(path, f"records/{name}")
    log.log_evaluation(evaluation, memory=task.memory)
    log.flush()
    # Last of all: a run that is killed before has not finished, and reports again when it is resumed.
    write_json(summary, folder / "summary.json")
    log.log_file(folder / "summary.json")
    return summary


def record_failure(results: Results, error: BaseException) -> None:
    """Write the summary.json of a run that failed or was interrupted, and print how to continue it.

    Args:
        results: the place of the run's results.
        error: the exception that ended it.
    """
    status: Status = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
    reason = f"{type(error).__name__}: {error}".splitlines()[0] if status == "failed" else None
    file = results.folder / "summary.json"
    try:
        write_json(build_summary(status=status, error=reason, **results.head), file)
    except OSError as problem:  # a full disk must not hide why the run ended
        print(f"{file} cannot be written: {problem}", file=sys.stderr)
    kept = "checkpoints are kept" if has_checkpoint(results.folder) else "no checkpoint was written yet"
    print(f"{status}: {kept} in {results.folder}; run the same command with resume=true to continue", file=sys.stderr)


def write_transcripts(evaluation: Evaluation, path: Path) -> None:
    """Write one episode per line: messages, rewards (one per message), return, seed, start and how it ended."""
    lines = [
        json_text(
            {"index": index, "seed": start.seed, "start": dict(start.options), **transcript(trajectory)},
            ensure_ascii=False,
        )
        for index, (start, trajectory) in enumerate(zip(evaluation.starts, evaluation.trajectories, strict=True))
    ]
    write_text("".join(line + "\n" for line in lines), path)


def transcript(trajectory: Trajectory) -> dict[str, Any]:
    """Return an episode as plain values, its turns as chat messages (the policy is the assistant)."""
    return {
        "messages": messages(trajectory),
        "rewards": [turn.reward for turn in trajectory.turns],
        "return": trajectory.total_reward,
        "success": bool(trajectory.info.get("success", False)),
        "invalid_actions": int(trajectory.info.get("invalid_actions", 0)),
        "turns": trajectory.length,
        "terminated": trajectory.terminated,
        "truncated": trajectory.truncated,
    }


def _partner(env: Any) -> dict[str, Any] | None:
    """Return the `partner` block of summary.json: the model that answers in an environment, if there is one."""
    return getattr(getattr(env, "partner", None), "summary", None)
