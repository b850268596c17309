"""The command itself: whole runs as a user starts them, their folders, and mistakes answered before training."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hydra.utils import instantiate

from lmrl.config.checks import ConfigError, check_config
from lmrl.evaluation import evaluate, evaluation_starts
from lmrl.experiment.again import evaluate_again
from lmrl.experiment.reload import trained_policy
from lmrl.exported import load_exported
from lmrl.runs.folders import open_run
from lmrl.runs.recorded import run_config
from lmrl.tracking.find import find_run

SHORT = ("task.env.max_steps=20", "task.dataset.recipe.max_moves=20", "task.dataset.recipe.trajectories=60")
SMOKE = ("experiment=smoke", "hardware=cpu", "hardware.threads=1")


def command(folder: Path, *overrides: str, timeout: int = 300) -> subprocess.CompletedProcess:
    places = [f"data_dir={folder}/data", f"runs_dir={folder}/runs"]
    return subprocess.run(
        [sys.executable, "run.py", *places, *overrides],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_folder(folder: Path) -> Path:
    found = list((folder / "runs").glob("*/*/*"))
    assert len(found) == 1, found
    return found[0]


def test_the_whole_way_leaves_everything_in_one_folder(tmp_path: Path) -> None:
    tracking = [f"tracking.tracking_uri=sqlite:///{tmp_path}/mlflow.db", f"tracking.artifacts={tmp_path}/artifacts"]
    reported = "evaluation.decoding={temperature: 0.5}"
    done = command(
        tmp_path, "task=maze", "algo=ilql", *SMOKE, "algo.prior.steps=20", "seed=0", *SHORT, *tracking, reported
    )
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["seed"] == 0
    assert (summary["task"], summary["algo"], summary["model"]) == ("maze", "ilql", "tiny")
    assert summary["dataset"]["trajectories"] == 60
    assert summary["train"]["steps"] == 20
    assert summary["evaluation"]["episodes"] == 25
    assert summary["changed"]["task.env.max_steps"] == 20
    assert "paper" not in summary  # its numbers are of the unchanged task
    assert summary["train"]["checkpoint_step"] in (10, 20)
    assert summary["train"]["parameters"] > summary["train"]["trained_parameters"] > 0  # target copies stand still
    transcripts = [json.loads(line) for line in (folder / "transcripts.jsonl").read_text().splitlines()]
    assert len(transcripts) == 25
    mean = sum(t["return"] for t in transcripts) / 25
    assert mean == pytest.approx(summary["evaluation"]["return_mean"])
    files = "config.yaml metrics.jsonl checkpoints/latest.ckpt checkpoints/best.ckpt policy/model.safetensors"
    for name in f"{files} policy/guidance.json figures/learning_curves.png figures/policy_map.png".split():
        assert (folder / name).is_file(), name
    assert "this run" in done.stdout
    assert "score anchors belong to the unchanged task" in done.stdout

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "lmrl/maze"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["evaluation/return_mean"] == pytest.approx(summary["evaluation"]["return_mean"])
    assert run.inputs.dataset_inputs
    a_reloaded_policy_plays_as_it_was_evaluated(folder, summary["evaluation"]["return_mean"], client)


def a_reloaded_policy_plays_as_it_was_evaluated(folder: Path, return_mean: float, client: Any) -> None:
    """The folder alone is enough: neither the data nor the prior are there any more."""
    for gone in ("data", "data/priors"):
        shutil.rmtree(folder.parents[3] / gone, ignore_errors=True)
    assert evaluate_again(folder) == return_mean
    (place,) = (folder / "evaluations").iterdir()
    assert (place / "transcripts.jsonl").read_text() == (folder / "transcripts.jsonl").read_text()
    exported = load_exported(folder / "policy")
    task, trained_with = run_config(folder).task, run_config(folder).algo.decoding
    acting: list[Any] = [exported.policy, trained_policy(folder)]
    for policy in acting:
        assert (policy.decoding.temperature, policy.decoding.support) == (0.5, trained_with.support)
    assert trained_with.temperature == 1.0
    starts = evaluation_starts(instantiate(task.env), 1, 0, stream="test")
    again = evaluate(exported.policy, instantiate(task.env), starts, memory=exported.memory)
    assert again.summary(None)["return_mean"] == pytest.approx(return_mean)
    assert f"mean return is {return_mean:.2f}" in (folder / "policy" / "README.md").read_text()
    changes = ["evaluation.repeats=2", "evaluation.episodes=null"]
    changes += ["evaluation.decoding.temperature=0.3", "seed=5", "tracking=none"]
    evaluate_again(folder, changes)
    (other,) = set((folder / "evaluations").iterdir()) - {place}
    assert json.loads((other / "summary.json").read_text())["evaluation"]["episodes"] == 50
    assert json.loads((other / "changes.json").read_text())["changes"] == changes
    begun = json.loads((other / "provenance.json").read_text())
    assert begun["kind"] == "evaluation"
    assert begun["command"].endswith("evaluation.decoding.temperature=0.3 seed=5 tracking=none")
    with pytest.raises(ConfigError, match=r"no effect here: change evaluation\.decoding\.temperature \(0\.5\)"):
        evaluate_again(folder, ["algo.decoding.temperature=0.3"])
    below = json.loads((place / "mlflow.json").read_text())["run_id"]
    above = json.loads((folder / "mlflow.json").read_text())["run_id"]
    assert client.get_run(below).data.tags["mlflow.parentRunId"] == above
    assert find_run(above, f"sqlite:///{folder.parents[3]}/mlflow.db") == folder
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        trained_policy(folder.parent)


@pytest.mark.slow
def test_the_same_command_twice_gives_the_same_numbers(tmp_path: Path) -> None:
    results = []
    for name in ("first", "second"):
        done = command(tmp_path / name, "task=maze", "algo=ilql", *SMOKE, "algo.prior.steps=20", "tracking=none")
        assert done.returncode == 0, done.stderr
        folder = run_folder(tmp_path / name)
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        stable = [{k: v for k, v in row.items() if "second" not in k} for row in metrics]
        results.append((stable, (folder / "transcripts.jsonl").read_text()))
    assert results[0] == results[1]
    assert any("validation/return_mean" in row for row in results[0][0])


@pytest.mark.slow
def test_a_killed_run_can_be_played_and_resumes_to_the_same_end(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    def arguments(folder: Path) -> list[str]:
        return ["task=maze", "algo=ilql", *SMOKE, "algo.prior.steps=20", "tracking=none", "algo.steps=60",
                f"data_dir={folder}/data", f"runs_dir={folder}/runs"]  # fmt: skip

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert command(whole, *arguments(whole)[:-2]).returncode == 0
    process = subprocess.Popen([sys.executable, "run.py", *arguments(broken)], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not list(broken.glob("runs/*/*/*/checkpoints/latest.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not list(broken.glob("runs/*/*/*/policy"))
    assert -400 <= evaluate_again(run_folder(broken)) < 0
    assert re.search(
        r"has not finished its training: its policy is that of step [1-6]0 \((best|latest)\.ckpt\)",
        capfd.readouterr().err,
    )
    resumed = command(broken, *arguments(broken)[:-2], "resume=true")
    assert resumed.returncode == 0, resumed.stderr
    ends = [(run_folder(folder) / "transcripts.jsonl").read_text() for folder in (whole, broken)]
    assert ends[0] == ends[1]


@pytest.mark.slow
def test_two_processes_share_a_round(tmp_path: Path) -> None:
    """Each plays its share of the episodes; together they train one policy, and the first one reports."""
    two = ["hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2", "hardware.threads=1", "tracking=none"]
    small = ["experiment=smoke", "algo.prior.steps=20", "algo.datamodule.rollouts=6", "task.env.max_steps=20",
             "task.dataset.recipe.max_moves=20"]  # fmt: skip
    done = command(tmp_path, "task=maze", "algo=ppo", *small, *two)
    assert done.returncode == 0, done.stderr
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["train"]["episodes"] == 2 * 6
    assert summary["train"]["environment_steps"] > 12
    assert summary["train"]["steps"] == 20


MISTAKES = {
    "an unknown key": (["task=maze", "algo=ilql", "+algo.module.tau=0.9"], "tau"),
    "an expectile of 1": (["task=maze", "algo=ilql", "algo.module.expectile=1"], "algo.module.expectile"),
    "an expectile of an earlier stage": (["task=maze", "algo=awr", "algo.critic.module.expectile=1"], "expectile"),
    "a word for a number": (["task=maze", "algo=ilql", "algo.module.beta=strong"], "beta"),
    "a negative seed": (["task=maze", "algo=bc", "seed=-1"], "seed"),
    "no steps": (["task=maze", "algo=bc", "algo.steps=0"], "algo.steps"),
    "a missing model": (["task=maze", "algo=bc", "model=hub", "model.path=./no/such/folder"], "./no/such/folder"),
    "a short window": (["task=maze", "algo=bc", "model.lm.window=8"], "window"),
    "an unknown layout": (["task=maze", "algo=bc", "task.env.layout=spiral"], "spiral"),
    "a memory of nothing": (["task=maze", "algo=bc", "task.memory=0"], "memory"),
    "a hot negative temperature": (["task=maze", "algo=bc", "algo.decoding.temperature=-1"], "temperature"),
    "a cold evaluation": (["task=maze", "algo=bc", "evaluation.decoding={temperature: -1}"], "temperature"),
    "a number for its decoding": (["task=maze", "algo=bc", "evaluation.decoding=0.3"], "evaluation.decoding"),
    "an unknown decoding setting": (["task=maze", "algo=bc", "evaluation.decoding={heat: 1}"], "evaluation.decoding"),
    "an unknown schedule": (["task=maze", "algo=bc", "+algo.module.decay=linear"], "algo.module.decay"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found_before_anything_is_trained(compose: Callable, data_dir: Path, name: str) -> None:
    from lmrl.experiment.run import prepare

    overrides, mentioned = MISTAKES[name]

    def attempt() -> None:
        cfg = compose(*overrides, f"data_dir={data_dir}")
        check_config(cfg)
        prepare(cfg)

    with pytest.raises(ConfigError) as caught:
        attempt()
    assert mentioned in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "mentioned"),
    [
        (["task=labyrinth", "algo=ilql"], "labyrinth"),
        (["task=maze"], "algo"),
        (["task=maze", "algo=ilql", "algo.module.tau=0.9"], "tau"),
        (["task=maze", "algo=bc", "seed=-1"], "error: seed must be at least 0, got -1"),
    ],
)
def test_wrong_commands_end_with_one_message(tmp_path: Path, overrides: list[str], mentioned: str) -> None:
    done = command(tmp_path, *overrides, "tracking=none")
    assert done.returncode != 0
    assert mentioned in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resume=true: no run of this configuration was started"):
        open_run(tmp_path, "maze", "bc", "maze-bc-s0-abcdef", resume=True)


def test_resume_finds_the_newest_unfinished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMRL_RUN_DIR", raising=False)
    first, second = (open_run(tmp_path, "maze", "bc", "maze-bc-s0-abcdef", resume=False) for _ in range(2))
    assert first != second
    (second / "summary.json").write_text('{"status": "finished"}')
    assert open_run(tmp_path, "maze", "bc", "maze-bc-s0-abcdef", resume=True) == first
    (first / "summary.json").write_text('{"status": "interrupted"}')
    assert open_run(tmp_path, "maze", "bc", "maze-bc-s0-abcdef", resume=True) == first
    open_run(tmp_path, "maze", "bc", "maze-bc-s1-abcdef", resume=False)
    (first / "summary.json").write_text('{"status": "finished"}')
    with pytest.raises(ConfigError, match="every run of this configuration is finished"):
        open_run(tmp_path, "maze", "bc", "maze-bc-s0-abcdef", resume=True)


def test_help_and_configuration_need_no_heavy_imports() -> None:
    """What only composes must not import torch: it is what makes `--cfg job` answer at once."""
    script = "import sys, run; assert not {'torch', 'transformers', 'mlflow'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    shown = command(Path("/nowhere"), "task=maze", "algo=ilql", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert "expectile: 0.95" in shown.stdout
