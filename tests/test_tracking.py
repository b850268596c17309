"""What trackers record of a run, and how they mark its end."""

import csv
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import datasets
import pytest
from pytorch_lightning.utilities import rank_zero_only

from lmrl.evaluation import Evaluation
from lmrl.rollout import Start
from lmrl.runs.summary import build_summary
from lmrl.scores import Anchors
from lmrl.text.trajectory import Trajectory, Turn
from lmrl.tracking.core import CsvTracker, MetricsFile, NoTracker, RunIdentity, evaluation_metrics
from lmrl.tracking.facts import flatten
from lmrl.tracking.mlflow import MLflowTracker

IDENTITY = RunIdentity("toy", "bc", "tiny", 0, "3fa9c1deadbeef", "1", "feed0123456789ab")
CONFIG = {"seed": 0, "task": {"env": {"_target_": "x.Y", "size": 4}, "memory": None}, "algo": {"lr": 0.5, "on": True}}


def episode(index):
    turns = (
        Turn("left or right?\n", False),
        Turn("left\n", True, -1.0, (3, 4), (-0.5, -0.25)),
        Turn("again?\n", False),
        Turn("right\n", True, 0.0),
        Turn("won\n", False),
    )
    return Trajectory(turns, True, False, index, {"success": True, "invalid_actions": 0})


EVALUATION = Evaluation(tuple(Start(i, {"cell": (1, i % 2)}) for i in range(4)), tuple(map(episode, range(4))), 0.5)
SUMMARY = build_summary(
    task="toy", algo="bc", model="tiny", seed=0, status="finished", rollout=EVALUATION.rollout,
    evaluation=EVALUATION.summary(Anchors(-4.0, -2.0, 0.0)), train={"steps": 10}, paper={"return": -1.5, "score": 62.5},
)  # fmt: skip


def test_runs_are_named_by_task_method_seed_and_digest():
    assert IDENTITY.name == "toy-bc-s0-3fa9c1"


def test_evaluation_metrics_have_the_summarys_names():
    numbers = evaluation_metrics(SUMMARY)
    assert numbers["evaluation/return_mean"] == -1
    assert (numbers["evaluation/return_ci95_low"], numbers["evaluation/return_ci95_high"]) == (-1, -1)
    assert numbers["evaluation/score"] == 75
    assert numbers["evaluation/train/steps"] == 10
    assert numbers["evaluation/paper/score"] == 62.5
    assert numbers["evaluation/rollout/turns"] == 8
    assert "evaluation/train/tokens" not in numbers  # unknown
    assert not any(name.startswith("validation/") for name in numbers)


def test_the_metrics_file_continues_after_a_torn_line(tmp_path):
    metrics = MetricsFile(tmp_path / "new" / "metrics.jsonl")
    assert metrics.rows() == []
    metrics.log_metrics({"train/loss": 2.0}, 1)
    with metrics.path.open("a") as file:
        file.write('{"step": 2, "train/lo\n')
    again = MetricsFile(metrics.path)
    again.log_metrics({"train/loss": 1.0}, 2)
    assert again.rows() == [{"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": 1.0}]


def test_csv_has_one_line_per_step(tmp_path):
    with CsvTracker().run(IDENTITY, config=CONFIG, folder=tmp_path) as log:
        log.loggers[0].log_metrics({"train/loss": 2.0}, 1)
        log.loggers[0].log_metrics({"validation/return_mean": -3.0}, 1)
        log.loggers[0].log_metrics({"train/loss": 1.0}, 2)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "1", "validation/return_mean": "-3.0", "train/loss": "2.0"},
        {"step": "2", "validation/return_mean": "", "train/loss": "1.0"},
    ]


def test_a_new_run_replaces_the_metrics_and_a_resumed_one_continues_them(tmp_path):
    for resume, expected in ((False, 1), (True, 2), (False, 1)):
        with NoTracker().run(IDENTITY, config=CONFIG, folder=tmp_path, resume=resume) as log:
            log.log_metrics({"x": 1.0}, 0)
            assert log.metrics is not None
            assert len(log.metrics.rows()) == expected


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (RuntimeError, "failed"), (KeyboardInterrupt, "interrupted"),
                          (SystemExit, "interrupted")],
)  # fmt: skip
def test_the_status_follows_from_the_end_of_the_block(tmp_path, error, status):
    tracker = NoTracker()
    if error is None:
        with tracker.run(IDENTITY, config={}, folder=tmp_path):
            pass
    else:
        with pytest.raises(error), tracker.run(IDENTITY, config={}, folder=tmp_path):
            raise error
    assert tracker.status == status


def test_other_processes_track_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    tracker = MLflowTracker(tracking_uri=f"sqlite:///{tmp_path}/m.db", artifacts=str(tmp_path / "a"))
    with tracker.run(IDENTITY, config=CONFIG, folder=tmp_path / "run") as log:
        assert log.loggers == []
        log.log_results(SUMMARY)
        log.log_evaluation(EVALUATION, memory=1)
        log.log_file(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_mlflow_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="use sqlite:///FILE"):
        MLflowTracker(tracking_uri="file:./mlruns")
    with pytest.raises(ValueError, match="max_traces must not be negative"):
        MLflowTracker(max_traces=-1)


def test_parameters_are_the_scalars_of_the_configuration():
    config = {**CONFIG, "long": "x" * 300, "list": [1, 2], "odd key!": 1}
    assert dict(flatten(config)) == {
        "seed": "0", "task.env.size": "4", "task.memory": "null", "algo.lr": "0.5", "algo.on": "true",
        "list": "[1, 2]", "odd key_": "1",
    }  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a database, which takes seconds to make."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def tracker(home):
    return MLflowTracker(tracking_uri=f"sqlite:///{home}/mlflow.db", artifacts=str(home / "artifacts"), max_traces=3)


@pytest.fixture
def client(home):
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{home}/mlflow.db")


def run_id(folder: Path) -> str:
    return json.loads((folder / "mlflow.json").read_text())["run_id"]


def test_mlflow_records_the_whole_run(tracker, client, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"png")
    rows = datasets.Dataset.from_dict({"episode_id": ["a"] * 30, "return": [1.0] * 30})
    with tracker.run(IDENTITY, config=CONFIG, folder=tmp_path) as log:
        log.log_dataset(rows, name="toy", fingerprint=IDENTITY.dataset_fingerprint)
        for logger in log.loggers:
            logger.log_metrics({"train/loss": 0.5, "validation/return_mean": -2.0}, 7)
            logger.finalize("success")  # as Lightning does when training ends
        assert client.get_run(run_id(tmp_path)).info.status == "RUNNING"
        log.log_results(SUMMARY)
        log.log_file(tmp_path / "picture.png", "figures")
    run = client.get_run(run_id(tmp_path))
    assert (run.info.status, run.info.run_name) == ("FINISHED", "toy-bc-s0-3fa9c1")
    assert client.get_experiment(run.info.experiment_id).name == "lmrl/toy"
    assert run.data.params["algo.lr"] == "0.5"
    assert {
        "train/loss": 0.5,
        "validation/return_mean": -2.0,
        "evaluation/return_mean": -1.0,
        "evaluation/score": 75.0,
    }.items() <= (run.data.metrics.items())
    assert {
        "task": "toy",
        "seed": "0",
        "dataset": "feed01234567",
        "status": "finished",
    }.items() <= run.data.tags.items()
    assert "| return | -1.00 |" in run.data.tags["mlflow.note.content"]
    [data] = run.inputs.dataset_inputs
    assert json.loads(data.dataset.profile)["num_rows"] == len(rows)
    assert (data.dataset.name, data.dataset.digest) == ("toy", "feed01234567")
    assert {tag.key: tag.value for tag in data.tags} == {"mlflow.data.context": "training"}
    artifacts = {f.path for folder in ("", "figures") for f in client.list_artifacts(run.info.run_id, folder)}
    assert artifacts == {"config.yaml", "figures", "figures/picture.png"}
    assert log.metrics is not None
    assert log.metrics.rows() == [
        {"step": 7, "train/loss": 0.5, "validation/return_mean": -2.0}, {"step": 0, **evaluation_metrics(SUMMARY)},
    ], "the run's own file is the same for all trackers"  # fmt: skip
    assert run.info.run_id in tracker.location["this run"]
    assert {"return": -1.0, "score": 75.0, "score_paper": 62.5, "success": 1.0}.items() <= run.data.metrics.items()


def test_mlflow_shows_episodes_as_conversations(tracker, client, tmp_path):
    with tracker.run(IDENTITY, config=CONFIG, folder=tmp_path) as log:
        log.log_evaluation(EVALUATION, memory=1)
    run = client.get_run(run_id(tmp_path))
    found = client.search_traces(
        locations=[run.info.experiment_id], filter_string=f"trace.run_id = '{run.info.run_id}'"
    )
    assert len(found) == 3  # of 4: max_traces
    trace = next(t for t in found if "cell (1, 0)" in t.info.request_preview)
    assert trace.info.response_preview == "return -1, success, 2 turns … won"
    assert trace.info.trace_metadata["mlflow.trace.session"] == "toy-bc-s0-3fa9c1 evaluation"
    assert {a.name: a.feedback.value for a in trace.info.assessments} == {"return": -1.0, "success": True}
    root, first, second = trace.data.spans
    assert root.inputs == {"messages": [{"role": "user", "content": "left or right?\n"}]}
    assert root.outputs["messages"] == [
        {"role": "assistant", "content": "left\n\nreward -1"},
        {"role": "user", "content": "again?\n"},
        {"role": "assistant", "content": "right\n\nreward 0"},
        {"role": "user", "content": "won\n"},
    ]
    assert (first.name, first.parent_id) == ("left · -1", root.span_id)
    assert second.inputs == {"messages": [{"role": "user", "content": "again?\n"}]}
    assert second.outputs == {"messages": [{"role": "assistant", "content": "right\n"}], "reward": 0}
    assert (first.attributes["reward"], first.attributes["log_prob"]) == (-1, -0.75)


def test_no_recorded_episode_lacks_its_turns(tmp_path):
    """Many episodes that arrive together: MLflow's own threads must not race each other to create their traces."""
    many = Evaluation(tuple(Start(i, {"cell": (1, i)}) for i in range(60)), tuple(map(episode, range(60))), 0.5)
    tracker = MLflowTracker(
        tracking_uri=f"sqlite:///{tmp_path}/m.db", artifacts=str(tmp_path / "a"), max_traces=len(many.starts)
    )
    with tracker.run(IDENTITY, config=CONFIG, folder=tmp_path) as log:
        log.log_evaluation(many, memory=None)
    assert os.environ["MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS"] == "1", "the race is rare: forbid it too"
    with closing(sqlite3.connect(tmp_path / "m.db")) as database:
        [(traces,)] = database.execute("select count(*) from trace_info")
        spans = database.execute("select count(*) from spans group by trace_id").fetchall()
    assert traces == len(many.starts)
    assert spans == [(3,)] * len(many.starts), "an episode and its two actions"


def test_mlflow_resumes_the_run_of_the_folder(tracker, client, tmp_path):
    def diverge():
        with tracker.run(IDENTITY, config=CONFIG, folder=tmp_path) as log:
            log.log_metrics({"train/loss": 2.0}, 1)
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        diverge()
    first = run_id(tmp_path)
    assert client.get_run(first).info.status == "FAILED"
    changed = {**CONFIG, "seed": 5, "new": 1}
    with tracker.run(IDENTITY, config=changed, folder=tmp_path, resume=True) as log:
        log.log_metrics({"train/loss": 1.0}, 2)
    run = client.get_run(first)
    assert run_id(tmp_path) == first
    assert run.info.status == "FINISHED"
    assert (run.data.params["seed"], run.data.params["new"]) == ("0", "1")
    assert json.loads(run.data.tags["changed_at_resume"]) == {"seed": "5"}
    assert [m.value for m in client.get_metric_history(first, "train/loss")] == [2.0, 1.0]
    client.delete_run(first)
    with tracker.run(IDENTITY, config=CONFIG, folder=tmp_path, resume=True):
        pass
    assert run_id(tmp_path) != first


def test_mlflow_marks_an_interrupt(tracker, client, tmp_path):
    with pytest.raises(KeyboardInterrupt), tracker.run(IDENTITY, config=CONFIG, folder=tmp_path):
        raise KeyboardInterrupt
    run = client.get_run(run_id(tmp_path))
    assert (run.info.status, run.data.tags["status"]) == ("KILLED", "interrupted")
    assert run.data.tags["mlflow.note.content"].startswith("Interrupted. The same command with `resume=true`")


@pytest.mark.parametrize(("error", "most"), [(KeyboardInterrupt, 10), (RuntimeError, 300)])
def test_an_interrupted_run_waits_only_seconds_for_mlflow(tracker, tmp_path, monkeypatch, error, most):
    asked: list[float] = []
    monkeypatch.setattr(tracker._outbox, "flush", lambda patience: asked.append(patience) or True)
    with pytest.raises(error), tracker.run(IDENTITY, config=CONFIG, folder=tmp_path):
        raise error
    assert [patience <= most for patience in asked] == [True]


@pytest.mark.slow
def test_processes_that_start_together_share_a_new_database(tmp_path):
    script = f"""
from pathlib import Path
import sys
from lmrl.tracking.core import RunIdentity
from lmrl.tracking.mlflow import MLflowTracker
tracker = MLflowTracker(tracking_uri="sqlite:///{tmp_path}/m.db", artifacts="{tmp_path}/a")
seed = int(sys.argv[1])
with tracker.run(RunIdentity("toy", "bc", "tiny", seed, "abcdef"), config={{}}, folder=Path("{tmp_path}", str(seed))):
    pass
"""
    jobs = [subprocess.Popen([sys.executable, "-c", script, str(seed)]) for seed in range(3)]
    assert [job.wait() for job in jobs] == [0, 0, 0]
