"""The MLflow tracker writes to PostgreSQL by one setting, and the report reads from there."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lmrl.evaluation import Evaluation
from lmrl.experiment.record import write_transcripts
from lmrl.rollout import Start
from lmrl.runs.summary import build_summary
from lmrl.scores import Anchors
from lmrl.system.files import write_json
from lmrl.text.trajectory import Trajectory, Turn
from lmrl.tracking.core import RunIdentity

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/nowhere"))
USER = "postgres"
ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_postgres(*command: str | Path) -> None:
    """Run a program of PostgreSQL's as a user that it accepts: it refuses root."""
    user = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=120, cwd="/", **user)


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database of a server that lives as long as the test."""
    if not (PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL's server is not installed")
    pytest.importorskip("psycopg")
    # pytest's own folders are closed to other users, and the path of a socket must be short.
    home = Path(f"/tmp/lmrl-postgres-{os.getpid()}")
    home.mkdir(mode=0o755)
    if os.geteuid() == 0:
        shutil.chown(home, USER, USER)
    port = free_port()
    data, options = home / "data", f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        as_postgres(PROGRAMS / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync")
        as_postgres(PROGRAMS / "pg_ctl", "-D", data, "-o", options, "-l", home / "log", "-w", "start")
        as_postgres(PROGRAMS / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "lmrl")
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/lmrl"
    finally:
        if (data / "postmaster.pid").exists():
            as_postgres(PROGRAMS / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(home, ignore_errors=True)


def record(folder: Path, uri: str, artifacts: Path, seed: int) -> str:
    """Record a small run as an experiment does, and return its id."""
    turns = (Turn("left or right?\n", False), Turn("left\n", True, -1.0 - seed), Turn("won\n", False))
    played = tuple(Trajectory(turns, True, False, i, {"success": True, "invalid_actions": 0}) for i in range(2))
    evaluation = Evaluation(tuple(Start(i, {}) for i in range(2)), played, 0.5)
    summary = build_summary(
        task="toy", algo="bc", model="tiny", seed=seed, status="finished",
        rollout=evaluation.rollout, evaluation=evaluation.summary(Anchors(-4.0, -2.0, 0.0)),
    )  # fmt: skip
    write_json(summary, folder / "summary.json")
    write_transcripts(evaluation, folder / "transcripts.jsonl")
    settings = OmegaConf.load(ROOT / "conf" / "tracking" / "mlflow.yaml")
    tracker = instantiate(settings, tracking_uri=uri, artifacts=str(artifacts), max_traces=1)
    config = {"seed": seed, "algo": {"steps": 10}, "task": {"name": "toy"}}
    with tracker.run(RunIdentity("toy", "bc", "tiny", seed, "3fa9c1deadbeef"), config=config, folder=folder) as log:
        for step, value in enumerate((-3.0, -2.0)):
            log.log_metrics({"validation/score": value}, step)
        log.log_results(summary)
        log.log_evaluation(evaluation, memory=None)
        for name in ("summary.json", "transcripts.jsonl"):
            log.log_file(folder / name)
    return json.loads((folder / "mlflow.json").read_text())["run_id"]


@pytest.mark.slow
def test_runs_are_recorded_in_postgresql_and_compared_from_there(database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow would put files that nothing else has a place for
    ids = [record(tmp_path / f"run{seed}", database, tmp_path / "artifacts", seed) for seed in (0, 1)]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(database)
    runs = [client.get_run(run_id) for run_id in ids]
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert [run.data.metrics["evaluation/return_mean"] for run in runs] == [-1.0, -2.0]
    assert [run.data.params["algo.steps"] for run in runs] == ["10", "10"]
    assert [point.value for point in client.get_metric_history(ids[0], "validation/score")] == [-3.0, -2.0]
    place = client.get_experiment(runs[0].info.experiment_id).artifact_location
    assert place.startswith((tmp_path / "artifacts").as_uri())
    traces = client.search_traces(locations=[runs[0].info.experiment_id])
    assert sorted(trace.info.tags["return"] for trace in traces) == ["-1", "-2"]

    from lmrl.report.groups import group_runs
    from lmrl.report.results import result_of
    from lmrl.report.store import runs_in_store

    [group], apart = group_runs(runs_in_store(database))
    result = result_of(group)
    assert apart == []
    assert (result.seeds, result.returns.value) == ((0, 1), -1.5)
    assert result.score is not None
    assert result.score.value == (75 + 50) / 2
    assert [row["validation/score"] for row in group.runs[0].rows] == [-3.0, -2.0]
