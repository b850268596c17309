"""What MLflow is told about a run besides its numbers: tags, parameters, notes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import ROOT
from omegaconf import OmegaConf
from test_tracking import CONFIG, IDENTITY

from lmrl.tracking.facts import flatten, rounded, run_tags, task_note


def test_numbers_are_rounded_as_people_read_them() -> None:
    assert [rounded(value) for value in (-6.840000152587891, 99.99671743, 1234567, 2.0e-7, 0.1)] == [
        -6.84, 99.9967, 1234567, 2.0e-7, 0.1,
    ]  # fmt: skip
    assert str(rounded(float("nan"))) == "nan"


def resolved(cfg: Any) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def test_parameters_are_values_to_compare_runs_by(compose: Callable) -> None:
    names = set(dict(flatten(resolved(compose("task=guess_my_city", "algo=ppo")))))
    assert {"seed", "algo.module.clip", "algo.steps", "hardware.precision", "task.memory"} <= names
    noise = ("task.paper", "task.prompt", "task.players", "task.dataset.published", "tracking", "launcher", "data_dir",
             "runs_dir", "task.dataset.root", "task.partner_prompt", "task.importer")  # fmt: skip
    assert not [name for name in names if name.startswith(noise)]


def test_the_changes_of_a_run_may_be_unknown(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps({"changed": None}))
    tags = run_tags(IDENTITY, CONFIG, tmp_path)
    assert (tags["changed"], tags["mlflow.user"] != "") == ("unknown", True)


def test_only_runs_that_differ_in_the_seed_alone_are_averaged(tmp_path: Path) -> None:
    """A file of data that was replaced, and another version of the environment, change no key of a configuration."""
    known = run_tags(IDENTITY, CONFIG, tmp_path)["configuration"]
    assert run_tags(replace(IDENTITY, seed=1), {**CONFIG, "seed": 1}, tmp_path)["configuration"] == known
    others = [
        run_tags(replace(IDENTITY, env_version="9"), CONFIG, tmp_path),
        run_tags(replace(IDENTITY, dataset_fingerprint="beef"), CONFIG, tmp_path),
        run_tags(replace(IDENTITY, model="gpt2"), CONFIG, tmp_path),
        run_tags(IDENTITY, {**CONFIG, "algo": {"lr": 0.25}}, tmp_path),
    ]
    assert len({known, *(tags["configuration"] for tags in others)}) == 5


def test_every_task_is_described(compose: Callable) -> None:
    tasks = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))
    assert len(tasks) >= 11
    for task in tasks:
        first = task_note(resolved(compose(f"task={task}", "algo=bc")), "7").splitlines()[0]
        assert len(first) > 50, task
        assert "`" not in first, f"{task} is described for programmers"


def test_a_tasks_note_has_the_published_numbers(compose: Callable) -> None:
    note = task_note(resolved(compose("task=maze", "algo=bc")), "7")
    assert note.splitlines()[0].startswith("The maze of LMRL-Gym: walk to the goal")
    assert "| ilql | -6.97 | 99.9 |" in note
    view = "#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=methods"
    assert f"[Methods, best first]({view})" in note
