"""The data command generates, shows, exports and imports, and tells mistakes in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lmrl.data import store
from lmrl.data.__main__ import main

SMALL = "task.dataset.recipe.trajectories=6"


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        status = main([*arguments, SMALL, f"data_dir={tmp_path / 'data'}"])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_generate_prints_the_folder(run: Run) -> None:
    status, out, _ = run("generate", "task=maze_po")
    assert status == 0
    assert len(store.load(out.strip()).trajectories) == 6


def test_inspect_shows_statistics_and_episodes(run: Run) -> None:
    status, out, _ = run("inspect", "task=maze", "--episodes", "2")
    assert status == 0
    assert "empirical policy return" in out
    assert "episode 1:" in out
    assert "episode 2:" not in out
    assert "> move" in out


def test_export_writes_chats(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out" / "chats.jsonl"
    assert run("export", "task=maze", "--to", str(target))[0] == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(rows) == 6
    assert rows[0]["messages"][0]["role"] == "user"
    assert rows[0]["messages"][1] == {"role": "assistant", "content": rows[0]["messages"][1]["content"]}
    assert len(rows[0]["rewards"]) == len(rows[0]["messages"])
    assert isinstance(rows[0]["meta"], dict)
    status, _, err = run("export", "task=maze", "--to", str(target))
    assert status == 1
    assert "exists already" in err


def test_export_copies_the_folder(run: Run, tmp_path: Path) -> None:
    assert run("export", "task=maze", "--to", str(tmp_path / "copy"))[0] == 0
    assert len(store.load(tmp_path / "copy").trajectories) == 6


def test_import_stores_a_published_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "published.jsonl"
    step = {"state": "There is a wall above you.\n", "action": "move down\n", "reward": -1.0, "done": True}
    file.write_text(json.dumps([step, step | {"reward": 0.0}]) + "\n")
    status, out, _ = run("import", "task=maze", "--file", str(file))
    assert status == 0
    folder = out.splitlines()[0]
    data = store.load(folder)
    assert (data.policy, data.trajectories[0].terminated) == ("lmrl-gym", True)
    assert run("inspect", "task=maze", f"task.dataset.folder={folder}")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "task=atlantis"], "atlantis"),
        (["generate", "task=maze", "task.dataset.recipe.colour=1"], "colour"),
        (["generate", "task=maze", "task.dataset.recipe.parts=99"], "cannot be cut into 99 parts"),
        (["generate", "task=maze", "task.env.layout=labyrinth"], "unknown maze layout 'labyrinth'"),
        (["generate"], "task"),
        (["import", "task=maze"], "--file"),
        (["import", "task=maze", "--file", "missing.jsonl"], "missing.jsonl"),
        (["export", "task=maze"], "--to"),
        (["inspect", "task=maze", "task.dataset.folder=nowhere"], "nowhere is not a dataset"),
        (["generate", "task=maze", "--config", "nowhere"], "no configuration folder"),
    ],
)
def test_mistakes_are_told(run: Run, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert status == 1
    assert message in err
    assert not out
    assert "Traceback" not in err
