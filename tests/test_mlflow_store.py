"""What an MLflow store keeps of several runs: each its own episodes, in its project's folder, ranked with its like."""

import base64
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from omegaconf import OmegaConf
from test_tracking import CONFIG, EVALUATION, IDENTITY, SUMMARY

from lmrl.experiment.again import tracked
from lmrl.report.store import runs_in_store
from lmrl.tracking.find import find_run
from lmrl.tracking.mlflow import MLflowTracker
from lmrl.tracking.moved import HOME_TAG, follow
from lmrl.tracking.store import PARENT, PARENT_TAG, Store, connect

CONNECT = sqlite3.connect


def record(project: Path, name: str, provenance: dict[str, Any] | None = None) -> str:
    """Record a run of seed 0 with three episodes in a project's store; return its id."""
    random.seed(0)
    folder = project / "runs" / name
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps(provenance or {}))
    (folder / "config.yaml").touch()
    tracker = MLflowTracker(
        tracking_uri=f"sqlite:///{project}/mlflow.db", artifacts=str(project / "mlartifacts"), max_traces=3
    )
    with tracker.run(IDENTITY, config=CONFIG, folder=folder) as log:
        log.log_evaluation(EVALUATION, memory=1)
        log.log_results(SUMMARY)
        log.log_file(folder / "provenance.json")
    return json.loads((folder / "mlflow.json").read_text())["run_id"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two runs of one seed, one of them a smoke run."""
    project = tmp_path_factory.mktemp("project")
    record(project, "first", {"kind": "run", "choices": {"experiment": None}, "changed": {"algo.lr": 0.5}})
    record(project, "second", {"kind": "run", "choices": {"experiment": "smoke"}, "changed": {}})
    return project


def counted(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_runs_of_one_seed_keep_their_own_episodes(project: Path) -> None:
    """An episode is a span, two actions below it, and two assessments: return and success."""
    database = project / "mlflow.db"
    owners = counted(
        database,
        "select value, count(*) from trace_request_metadata where key = 'mlflow.sourceRun' group by value",
    )
    assert sorted(count for _, count in owners) == [3, 3]
    assert counted(database, "select count(*) from spans group by trace_id") == [(3,)] * 6
    assert counted(database, "select count(*) from assessments group by trace_id") == [(2,)] * 6


def test_ids_do_not_come_from_the_generator_that_a_run_seeds(project: Path) -> None:
    drawn = random.Random(0)
    of_the_seed = {f"tr-{drawn.getrandbits(128):032x}" for _ in range(100)}
    kept = {trace for (trace,) in counted(project / "mlflow.db", "select request_id from trace_info")}
    assert len(kept) == 6
    assert not kept & of_the_seed


def test_tags_say_which_runs_can_be_compared(project: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{shutil.copytree(project, tmp_path / 'project')}/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name == "lmrl/toy"]
    found = {Path(run.data.tags["output_folder"]).name: run.data.tags
             for run in client.search_runs([experiment.experiment_id])}  # fmt: skip
    assert (found["first"]["comparable"], found["first"]["changed"]) == ("true", "algo.lr")
    assert (found["first"]["experiment"], found["second"]["changed"]) == ("none", "nothing")
    assert (found["second"]["comparable"], found["second"]["experiment"]) == ("false", "smoke")
    assert found["first"]["configuration"] == found["second"]["configuration"]
    view = json.loads(experiment.tags["mlflow.sharedViewState.methods"])
    state = json.loads(zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;"))))
    assert view["name"] == "Methods, best first"
    stopped = client.create_run(experiment.experiment_id, tags={"comparable": "true"})
    client.set_terminated(stopped.info.run_id, "KILLED")
    shown = client.search_runs([experiment.experiment_id], state["searchFilter"])
    assert [Path(run.data.tags["output_folder"]).name for run in shown] == ["first"]
    assert [key["groupByData"] for key in state["groupBy"]["groupByKeys"]] == ["algo", "configuration"]
    assert state["orderByKey"] == "metrics.`score`"


@pytest.mark.parametrize("sweep", [None, "a" * 32])
def test_another_evaluation_is_recorded_below_its_run_and_nothing_after_it_is(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: str | None
) -> None:
    if sweep:
        monkeypatch.setenv(PARENT, sweep)
    else:
        monkeypatch.delenv(PARENT, raising=False)
    run = shutil.copytree(project, tmp_path / "project") / "runs" / "first"
    place = run / "evaluations" / "abc"
    place.mkdir(parents=True)
    settings = {
        "tracking_uri": f"sqlite:///{tmp_path}/project/mlflow.db",
        "artifacts": f"{tmp_path}/project/mlartifacts",
    }
    tracking = OmegaConf.create({"_target_": "lmrl.tracking.mlflow.MLflowTracker", "max_traces": 0, **settings})
    with tracked(run, tracking, IDENTITY, config=CONFIG, place=place) as log:
        log.log_evaluation(EVALUATION, memory=1)
    assert os.environ.get(PARENT) == sweep
    above = json.loads((run / "mlflow.json").read_text())["run_id"]
    recorded = json.loads((place / "mlflow.json").read_text())["run_id"]
    assert connect(settings["tracking_uri"]).get_run(recorded).data.tags[PARENT_TAG] == above


def test_a_copied_project_writes_into_itself_and_keeps_its_episodes(project: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(project, tmp_path / "a copy")
    before = sorted(path for path in project.rglob("*") if not path.name.startswith("mlflow.db"))
    record(copied, "third")
    assert sorted(path for path in project.rglob("*") if not path.name.startswith("mlflow.db")) == before
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{copied}/mlflow.db")
    [experiment] = [one for one in client.search_experiments() if one.name == "lmrl/toy"]
    assert experiment.artifact_location == (copied / "mlartifacts" / "lmrl" / "toy").as_uri()
    assert experiment.tags[HOME_TAG] == str(copied / "mlflow.db")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3
    for run in runs:
        assert Path(run.data.tags["output_folder"]).parent == copied / "runs"
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["config.yaml", "provenance.json"]
        assert run.info.artifact_uri.startswith(copied.as_uri())
    assert len(client.search_traces(locations=[experiment.experiment_id])) == 9
    assert counted(copied / "mlflow.db", f"select count(*) from trace_tags where value like '%{project}/%'") == [(0,)]


def test_a_moved_project_is_read_before_anything_new_is_recorded(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report and `mode=eval run=ID` find its files where they are now."""
    before = shutil.copytree(project, tmp_path / "before")
    (before / "runs" / "first" / "config.yaml").write_text("seed: 0\n")
    Store.named(f"sqlite:///{before}/mlflow.db", str(before / "mlartifacts")).open("lmrl/toy")
    after = before.rename(tmp_path / "after")
    monkeypatch.chdir(after)
    run_id = json.loads((after / "runs" / "first" / "mlflow.json").read_text())["run_id"]
    assert find_run(run_id) == after / "runs" / "first"
    after = after.rename(tmp_path / "later")
    runs = runs_in_store(f"sqlite:///{after}/mlflow.db")
    assert [run.provenance["kind"] for run in runs] == ["run", "run"]


def read_only(path: Path, **options: Any) -> sqlite3.Connection:
    """Connect as somebody who may not write."""
    return CONNECT(f"{path.as_uri()}?mode=ro", uri=True, **options)


def test_a_store_of_somebody_else_is_read_as_it_is(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be written, a store that did not move is read in silence, and of one that did it is said."""
    moved = shutil.copytree(project, tmp_path / "moved") / "mlflow.db"
    monkeypatch.setattr(sqlite3, "connect", read_only)
    follow(project / "mlflow.db")
    assert capsys.readouterr().err == ""
    follow(moved)
    assert f"{moved} was moved from {project}" in capsys.readouterr().err


def test_files_elsewhere_stay_there(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    Store.named(f"sqlite:///{old}/m.db", str(tmp_path / "disk")).open("lmrl/toy")
    shutil.copytree(old, new)
    client, found = Store.named(f"sqlite:///{new}/m.db", str(tmp_path / "disk")).open("lmrl/toy")
    assert client.get_experiment(found).artifact_location == (tmp_path / "disk" / "lmrl" / "toy").as_uri()


def test_a_task_is_described_also_where_a_sweep_came_first(project: Path, tmp_path: Path) -> None:
    """A sweep's own run knows no task's configuration; what people have written since stays."""
    store = Store.named(
        f"sqlite:///{shutil.copytree(project, tmp_path / 'p')}/mlflow.db", str(tmp_path / "p/mlartifacts")
    )
    _, found = store.open("lmrl/other")
    for said in ("first", "second"):
        client, again = store.open("lmrl/other", lambda created, said=said: f"{said} of {created}")
        assert again == found
        assert client.get_experiment(found).tags["mlflow.note.content"] == f"first of {found}"


def test_an_address_opens_model_training_and_the_view() -> None:
    pages = Store.named(f"sqlite:///{ROOT}/some where/mlflow.db", "a").pages("7", "abc")
    assert pages["MLflow"].startswith("MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 ")
    assert "'sqlite:///" in pages["MLflow"], "a space is quoted"
    assert pages["this run"] == "http://localhost:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert pages["all methods"].endswith("/7/runs?workflowType=machine_learning&viewStateShareKey=methods")
    assert list(Store.named("http://server:1", "a").pages("7", "abc")) == ["this run", "all methods"]


@pytest.mark.parametrize("name", ["per%20cent", "quest?ion", "ha#sh", "with space", "Ünïcode", "a+b&c=d"])
def test_a_store_may_be_in_any_folder(project: Path, tmp_path: Path, name: str) -> None:
    """The database of the project is copied there, as making one takes seconds."""
    copied = shutil.copytree(project, tmp_path / name)
    run_id = record(copied, "third")
    store = Store.named(f"sqlite:///{copied}/mlflow.db", str(copied / "mlartifacts"))
    assert {file.path for file in connect(store.tracking_uri).list_artifacts(run_id)} == {
        "config.yaml", "provenance.json",
    }  # fmt: skip
    assert find_run(run_id, f"sqlite:///{copied}/mlflow.db") == copied / "runs" / "third"
    assert len(runs_in_store(f"sqlite:///{copied}/mlflow.db")) == 3
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_telemetry_is_disabled_before_mlflow_is_imported() -> None:
    """It starts its telemetry when it is imported, so whoever imports it imports what forbids that before."""
    users = [
        path for path in (ROOT / "src").rglob("*.py") if re.search(r"^ *(from|import) mlflow", path.read_text(), re.M)
    ]
    assert len(users) >= 5
    heads = {path: path.read_text().split("\nclass ")[0].split("\ndef ")[0] for path in users}
    # Episodes are written by the tracker alone.
    others = {ROOT / "src/lmrl/tracking" / name for name in ("store.py", "episodes.py")}
    assert {path for path, head in heads.items() if "from lmrl.tracking.store import" not in head} <= others
    assert [path.name for path, head in heads.items() if re.search(r"^(from|import) mlflow", head, re.M)] == []
    script = (
        "import os, sys, lmrl.sweeps.parent; print('mlflow' in sys.modules, os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "true"]
