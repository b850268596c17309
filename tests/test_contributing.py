"""The recipes of CONTRIBUTING.md are complete: their files, and nothing else, make a task and an algorithm that run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
        (folder / name).write_text(text)
    return folder


def call(project: Path, *command: str) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(project / "src")}
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)


def test_recipes_are_found() -> None:
    names = [name for name, _ in RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text())]
    assert [Path(name).parent.name for name in names] == ["envs", "data", "task", "modules", "algo"]


def test_recipes_keep_the_rules(project: Path) -> None:
    scripts = Path(sys.executable).parent
    names = [name for name, _ in RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text()) if name.endswith(".py")]
    for command in (["ruff", "check", *names], ["ruff", "format", "--check", *names], ["lint-imports", "--no-cache"]):
        result = call(project, str(scripts / command[0]), *command[1:])
        assert result.returncode == 0, result.stdout + result.stderr


def test_recipes_run(project: Path) -> None:
    budget = ["algo.steps=4", "algo.steps_per_epoch=2", "evaluation.repeats=1", "validation.repeats=1"]
    small = ["task.dataset.recipe.trajectories=20", "tracking=none"]
    result = call(project, sys.executable, "run.py", "task=higher_lower", "algo=rwr", *budget, *small)
    assert result.returncode == 0, result.stderr
    (summary,) = (project / "runs").rglob("summary.json")
    numbers = json.loads(summary.read_text())
    assert (numbers["task"], numbers["algo"], numbers["status"]) == ("higher_lower", "rwr", "finished")
    assert numbers["eval"]["episodes"] == 9
    assert numbers["train"]["steps"] == 4
