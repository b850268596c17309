"""summary.json, transcripts.jsonl and the table at the end of a run."""

import io
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from lmrl.evaluation import Evaluation
from lmrl.experiment.record import write_transcripts
from lmrl.rollout import Start
from lmrl.runs import provenance
from lmrl.runs.provenance import git_commit, versions
from lmrl.runs.summary import BLOCKS, build_summary, markdown, print_summary
from lmrl.scores import Anchors
from lmrl.system.files import write_json
from lmrl.text.trajectory import Trajectory, Turn
from lmrl.tracking.core import evaluation_metrics

TURNS = (Turn("go\n", False), Turn("left\n", True, -1.0), Turn("ö\n", False), Turn("right\n", True, 0.0))
EPISODE = Trajectory(TURNS, True, False, 5, {"success": True, "invalid_actions": 1})
EVALUATION = Evaluation((Start(5, {"cell": (1, 2)}), Start(6, {"cell": (1, 2)})), (EPISODE, EPISODE), 2.0)

HEAD = {"task": "maze", "algo": "ilql", "model": "tiny", "seed": 0, "status": "finished"}


def whole(**changes):
    blocks = {
        "dataset": {"fingerprint": "ab" * 16, "trajectories": 1240, "return_mean": -19.7},
        "train": {"steps": 2000, "tokens": 10**6, "tokens_per_second": 20345.2, "seconds": 93.2},
        "rollout": EVALUATION.rollout,
        "evaluation": EVALUATION.summary(Anchors(-101.0, -83.0, -0.5)),
        "paper": {"return": -6.97, "score": 99.9},
        "anchors": Anchors(-101.0, -83.0, -0.5),
        "config_hash": "cd" * 32,
        "started": "2026-01-02T03:04:05+00:00",
    }
    return build_summary(**{**HEAD, **blocks, **changes})


def test_summary_has_every_key():
    summary = whole()
    assert list(summary) == [
        "format", "task", "algo", "model", "seed", "status", "config_hash", "started", "ended", "changed",
        "dataset", "train", "rollout", "evaluation", "paper", "anchors", "error", "versions", "git_commit",
    ]  # fmt: skip
    assert list(summary["evaluation"]) == [
        "episodes", "return_mean", "return_std", "return_ci95", "score", "score_ci95",
        "own_score", "own_score_ci95", "success_rate", "invalid_action_rate", "turns_mean",
    ]  # fmt: skip
    assert list(summary["train"]) == [
        "steps", "tokens", "tokens_per_second", "seconds", "episodes", "environment_steps",
        "checkpoint_step", "parameters", "trained_parameters",
    ]  # fmt: skip
    assert list(summary["rollout"]) == ["episodes", "turns", "turns_per_second"]
    assert (summary["seed"], summary["rollout"]["turns_per_second"]) == (0, 2)
    assert summary["anchors"] == {"min": -101.0, "data": -83.0, "max": -0.5}


def test_a_block_that_does_not_apply_is_left_out():
    summary = whole(paper=None, anchors=None)
    assert not {"paper", "anchors", "usage", "partner"} & set(summary)
    assert {"paper", "usage", "partner"} <= set(whole(usage={"requests": 1}, partner={"prompts": 1}))
    # The paper may have one of the two numbers.
    assert whole(paper={"score": 12.5})["paper"] == {"return": None, "score": 12.5}
    assert printed(summary)
    assert "paper" not in evaluation_metrics(summary)


def test_summary_says_when_a_run_began_and_ended():
    summary = whole()
    began, ended = (datetime.fromisoformat(summary[key]) for key in ("started", "ended"))
    assert began == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert ended.tzinfo == UTC
    assert abs(datetime.now(UTC) - ended) < timedelta(minutes=5)


def test_the_summary_explains_the_scores():
    assert "0 is a return of -101, 50 of -83, 100 of -0.5" in printed(whole())
    assert "- score: 0 is a return of -101, 50 of -83, 100 of -0.5" in markdown(whole())
    assert "score anchors belong" not in printed(whole(changed={"algo.steps": 7}))
    assert "0 is a return" not in printed(whole(anchors=None))


def test_a_changed_environment_has_no_paper_column():
    summary = whole(changed={"algo.steps": 7, "task.env.max_steps": 20})
    for text in (printed(summary), markdown(summary)):
        assert "99.9" not in text
        assert "paper" not in text
        assert "the environment differs from the task's own (max_steps=20)" in text
        assert "score anchors belong to the unchanged task" in text
    assert "paper" in printed(whole(changed={"algo.steps": 7}))
    assert "paper" not in printed(whole(paper=None))


def test_the_summary_suggests_the_next_commands():
    text = printed(whole(), folder="runs/maze/bc/a b")
    assert "python -m lmrl.report runs/maze\n" in text  # all methods of the task
    assert "python -m lmrl.play task=maze --player 'runs/maze/bc/a b/policy'" not in text  # it has no policy
    assert "python run.py mode=eval run='runs/maze/bc/a b' evaluation.repeats=..." in text
    text = printed(whole(), folder="runs/x", policy="runs/x/policy")
    assert "python -m lmrl.play task=maze --player runs/x/policy" in text
    assert "python run.py" not in printed(build_summary(**{**HEAD, "status": "failed"}), folder="runs/x")


def test_a_second_scale_has_a_row_of_its_own():
    anchors = Anchors(-101.0, -83.0, -0.5, own=Anchors(-10.0, -5.0, -0.5))
    evaluated = EVALUATION.summary(anchors)
    row = next(line for line in printed(whole(evaluation=evaluated)).splitlines() if "own constants" in line)
    assert f"{evaluated['own_score']:.1f}" in row
    assert "own constants" not in printed(whole())


def test_interrupted_runs_have_a_summary():
    summary = build_summary(task="maze", algo="bc", model="tiny", seed=0, status="interrupted", train={"steps": 7})
    assert summary["train"] == {**dict.fromkeys(BLOCKS["train"]), "steps": 7}
    assert set(summary["evaluation"].values()) == {None}
    assert "interrupted" in printed(summary)


def test_the_summary_lists_the_usage_of_online_and_prompted_runs():
    train = {"steps": 7, "seconds": 3.0, "tokens_per_second": 1.0, "episodes": 2560, "environment_steps": 70189}
    used = {"requests": 1234, "retries": 5, "prompt_tokens": 10**6, "completion_tokens": 2000, "unparsable": 3}
    summary = whole(train=train, usage={**used, "cost": 1.5})
    shown = printed(summary)
    assert "2,560 episodes, 70,189 environment steps" in shown
    assert "1,234 requests, 1,000,000 + 2,000 tokens, 1.50 USD, 5 retries, 3 unreadable answers" in shown
    assert evaluation_metrics(summary)["evaluation/usage/cost"] == 1.5


def test_the_summary_lists_the_requests_of_a_partner():
    asked = {"kind": "endpoint", "model": "m", "prompts": 1200, "repeated": 100, "cached": 1000, "asked": 100}
    summary = whole(partner=asked)
    assert "m, 1,200 replies: 100 asked, 1,000 from disk, 100 repeated" in printed(summary)
    assert evaluation_metrics(summary)["evaluation/partner/cached"] == 1000


def test_unknown_keys_are_refused():
    with pytest.raises(ValueError, match="'train' has no key loss"):
        whole(train={"loss": 1})


def test_versions_are_those_of_the_packages():
    found = versions()
    assert set(found) == {"python", "torch", "transformers", "lightning", "datasets", "mlflow", "lmrl"}
    assert all(found.values())


def test_git_commit_is_only_that_of_this_code(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    source = tmp_path / "summary.py"
    source.write_text("1")
    monkeypatch.setattr(provenance, "__file__", str(source))
    assert git_commit() is None
    git("init")
    (tmp_path / "other").write_text("1")
    git("add", "other")
    git("commit", "-m", "somebody's project")
    assert git_commit() is None
    git("add", "summary.py")
    git("commit", "-m", "ours")
    assert git_commit() == git("rev-parse", "HEAD")
    source.write_text("2")
    assert git_commit() == git("rev-parse", "HEAD") + "-dirty"


def test_json_is_whole_and_readable_by_anyone(tmp_path):
    path = tmp_path / "new" / "summary.json"
    write_json({"a": float("nan"), "b": (1, 2.5), "c": None, "d": True}, path)
    assert json.loads(path.read_text()) == {"a": None, "b": [1, 2.5], "c": None, "d": True}


def test_a_dying_writer_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_json({"old": 1}, path)

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_json({"new": 1}, path)
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_transcripts_have_one_episode_per_line(tmp_path):
    write_transcripts(EVALUATION, tmp_path / "transcripts.jsonl")
    first, second = map(json.loads, (tmp_path / "transcripts.jsonl").read_text().splitlines())
    assert first["messages"] == [
        {"role": "user", "content": "go\n"},
        {"role": "assistant", "content": "left\n"},
        {"role": "user", "content": "ö\n"},
        {"role": "assistant", "content": "right\n"},
    ]
    assert first["rewards"] == [0, -1, 0, 0]
    assert (first["return"], first["seed"], first["start"], first["index"]) == (-1, 5, {"cell": [1, 2]}, 0)
    assert (first["success"], first["invalid_actions"], first["turns"]) == (True, 1, 2)
    assert (second["seed"], second["index"]) == (6, 1)


def printed(summary, **files):
    screen = io.StringIO()
    print_summary(summary, files, Console(file=screen, width=80))
    return screen.getvalue()


def test_the_table_shows_results_costs_and_files():
    place = "runs/" + "very/long/" * 20
    text = printed(whole(), policy=place)
    for said in ("maze · ilql · tiny · seed 0", "finished", "-1.00", "-6.97", "99.7", "99.9", "100.0 %", "50.0 %",
                 "1,240 episodes", "-19.70", "2,000 steps in 1 min 33 s, 20,345 tokens/s", place):  # fmt: skip
        assert said in text


def test_markdown_is_the_same_table():
    text = markdown(whole())
    assert "| return | -1.00 | -1.00 … -1.00 | -6.97 |" in text
    assert "- training: 2,000 steps in 1 min 33 s" in text
