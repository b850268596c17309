"""Playing in the terminal: a person's episode, the scripted players of every task, and what is kept."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import names

from lmrl.config.compose import compose_task
from lmrl.data import store
from lmrl.play.__main__ import main


def type_in(typed: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lmrl.play", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, check=False, timeout=120)


def test_a_person_plays_sees_rewards_and_keeps_the_episode(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    walk = "move up\nfly\nmove right\nmove down\nmove down\n"
    done = type_in(walk, "task=maze", 'task.env.layout="###/#.#/#G#/###"', "--seed", "3", "--save", str(folder))
    assert done.returncode == 0, done.stderr
    assert "An action is exactly one of these four" in done.stdout  # the rules
    assert "[reward -1, total -1]" in done.stdout
    assert "[not understood: -4, total -5]" in done.stdout
    assert "success: return -6 after 4 actions" in done.stdout
    assert "maze, human, 1 episode: return -6.000, score" in done.stdout
    (episode,) = store.read(folder)
    said = [turn.text for turn in episode.turns if turn.is_action]
    assert said == ["move up\n", "fly\n", "move right\n", "move down\n"]
    assert [turn.reward for turn in episode.turns if turn.is_action] == [-1, -4, -1, 0]
    assert episode.terminated
    described = store.describe(folder)
    assert (described["policy"], described["recipe"]["seed"]) == ("human", 3)
    again = type_in(walk, "task=maze", "--save", str(folder))
    assert (again.returncode, again.stderr.strip()) == (1, f"error: {folder} exists already: delete it first, or choose another folder")  # fmt: skip  # noqa: E501


def test_leaving_early_keeps_what_was_finished(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    arguments = ["task=maze", 'task.env.layout="###/#.#/#G#/###"', "--episodes", "3", "--save", str(folder)]
    done = type_in("move down\nmove up\n", *arguments)
    assert done.returncode == 0, done.stderr
    assert "stopped: the unfinished episode does not count" in done.stdout
    assert [episode.length for episode in store.read(folder)] == [1]


def test_an_unknown_player_is_told(capsys: pytest.CaptureFixture) -> None:
    assert main(["task=maze", "--player", "chess_master"]) == 1
    expected = "the task maze has human, random, expert; or pass the folder of a run or of an exported policy"
    assert capsys.readouterr().err == f"error: --player chess_master: {expected}\n"


@pytest.mark.parametrize("task", names("task"))
def test_every_task_has_an_expert_better_than_chance(task: str, capsys: pytest.CaptureFixture) -> None:
    returns = {}
    for player in ("random", "expert"):
        assert main([f"task={task}", "--player", player, "--episodes", "6"]) == 0
        said = capsys.readouterr().out
        assert f"{task}, {player}, 6 episodes" in said
        returns[player] = float(said.split("return ")[1].split()[0])
    score = compose_task([f"task={task}"]).score
    assert returns["expert"] > max(score.data, returns["random"])


def test_not_every_task_has_a_partner(capsys: pytest.CaptureFixture) -> None:
    for task in ("maze", "chess"):
        assert main([f"task={task}", "--player", "random", "--partner", "human"]) == 1
        said = f"error: --partner human: the task {task} has no partner whom a person could play\n"
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("twenty_questions", "yes"),
        ("guess_my_city", "Yes, it is."),
        ("car_dealer", "No. Output: Decision=Reject MSRP=$9,000"),
    ],
)
def test_a_person_can_be_the_partner(
    task: str, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The person is told the rules, the secret and what the agent says; the referee takes what is typed."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n" * 60))
    assert main([f"task={task}", "--player", "random", "--partner", "human", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert compose_task([f"task={task}"]).partner_rules.strip() in said
    assert f"{task}, random, 1 episode" in said
