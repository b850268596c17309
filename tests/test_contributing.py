"""The recipes of CONTRIBUTING.md are complete: their files, and nothing else, make a task and an algorithm that run."""

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from worlds import byte_level, random_lm

from lmrl import functional
from lmrl.text.tokens import collate, tokenize
from lmrl.text.trajectory import Trajectory, Turn, windows

ROOT = Path(__file__).resolve().parent.parent
RECIPE = re.compile(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the recipes' files."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name, text in RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text()):
        assert not (folder / name).exists(), f"{name} would be an edit"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def call(project: Path, *command: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(project / "src")}
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)


def test_recipes_are_found() -> None:
    names = [name for name, _ in RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text())]
    assert [Path(name).parent.name for name in names] == [
        "higher_lower",
        "higher_lower",
        "higher_lower",
        "task",
        "modules",
        "algo",
    ]


def test_recipes_keep_the_rules(project: Path) -> None:
    scripts = Path(sys.executable).parent
    names = [name for name, _ in RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text()) if name.endswith(".py")]
    for command in (["ruff", "check", *names], ["ruff", "format", "--check", *names], ["lint-imports", "--no-cache"]):
        result = call(project, str(scripts / command[0]), *command[1:])
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_algorithm_weighs_rows_alike_on_one_process_and_on_two(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with half of a batch each: the mean of their losses is the loss of the whole batch.

    By hand: returns 0 and -1 on one process, -4 and -5 on the other, T = 1; all say the same.
    """
    source = importlib.util.spec_from_file_location("rwr", project / "src/lmrl/modules/rwr.py")
    assert source is not None
    assert source.loader is not None
    recipe = importlib.util.module_from_spec(source)
    source.loader.exec_module(recipe)
    codec = byte_level()
    module = recipe.RWR(lm=lambda: random_lm("gpt2", codec.size), codec=codec, gamma=1.0, temperature=1.0,
                        optimizer=torch.optim.SGD, steps=1)  # fmt: skip
    turns = [Turn("Well?\n", False), Turn("a", True), Turn("\n", False)]
    episodes = [
        [tokenize(next(windows(Trajectory((turns[0], replace(turns[1], reward=earned), turns[2]), True), None)), codec)]
        for earned in (0.0, -1.0, -4.0, -5.0)
    ]
    rows = module.prepare(episodes)
    merits = [math.exp(earned) for earned in (0, -1, -4, -5)]
    assert [float(row.extras["merit"][0]) for row in rows] == pytest.approx(merits)
    first, second, whole = (collate(part, pad_id=codec.pad_id) for part in (rows[:2], rows[2:], rows))
    expected = module.loss(whole)[0]
    shared = torch.tensor(sum(merits) / 2)  # what processes that share a batch divide by
    monkeypatch.setattr(functional, "mean_over_processes", lambda _: shared)
    parts = [float(module.loss(part)[0].detach()) for part in (first, second)]
    assert sum(parts) / 2 == pytest.approx(float(expected.detach()), rel=1e-5)
    assert parts[0] / parts[1] == pytest.approx((merits[0] + merits[1]) / (merits[2] + merits[3]), rel=1e-5)


def test_recipes_run(project: Path) -> None:
    budget = ["algo.steps=4", "algo.steps_per_epoch=2", "evaluation.repeats=1", "validation.repeats=1"]
    small = ["task.dataset.recipe.trajectories=20", "tracking=none"]
    result = call(project, sys.executable, "run.py", "task=higher_lower", "algo=rwr", *budget, *small)
    assert result.returncode == 0, result.stderr
    (summary,) = (project / "runs").rglob("summary.json")
    numbers = json.loads(summary.read_text())
    assert (numbers["task"], numbers["algo"], numbers["status"]) == ("higher_lower", "rwr", "finished")
    assert numbers["evaluation"]["episodes"] == 9
    assert numbers["train"]["steps"] == 4
