"""What is recorded while its receiver is away."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from lmrl.tracking.core import RunIdentity
from lmrl.tracking.mlflow import MLflowTracker
from lmrl.tracking.outbox import Outbox


def outbox() -> Outbox:
    return Outbox("the server", is_final=lambda error: isinstance(error, ValueError))


def test_everything_arrives_in_order() -> None:
    box, received = outbox(), list[int]()
    for number in range(100):
        box.put(lambda number=number: received.append(number))
    assert box.flush(5)
    assert received == list(range(100))


def test_a_receiver_that_returns_gets_everything_and_nobody_waited(capsys: pytest.CaptureFixture) -> None:
    box, received, is_away = outbox(), list[int](), threading.Event()
    is_away.set()

    def send(number: int) -> None:
        if is_away.is_set():
            raise ConnectionError("connection refused")
        received.append(number)

    began = time.monotonic()
    for number in range(5):
        box.put(lambda number=number: send(number))
    assert time.monotonic() - began < 0.5
    time.sleep(0.3)
    assert received == []
    is_away.clear()
    assert box.flush(30)
    assert received == list(range(5))
    said = capsys.readouterr().err
    assert "the server does not answer; the run continues and sends later (ConnectionError: connection refused)" in said
    assert said.count("does not answer") == said.count("answers again") == 1


def test_refused_records_do_not_block_the_rest(capsys: pytest.CaptureFixture) -> None:
    box, received = outbox(), list[int]()

    def refuse() -> None:
        raise ValueError("no such run")

    box.put(refuse)
    box.put(lambda: received.append(1))
    assert box.flush(5)
    assert received == [1]
    assert box.refused == ["ValueError: no such run"]
    assert "the server refused something: ValueError: no such run" in capsys.readouterr().err


def test_waiting_ends_when_the_receiver_stays_away() -> None:
    box = outbox()

    def fail() -> None:
        raise ConnectionError("gone")

    box.put(fail)
    assert not box.flush(0.3)


def server(folder: Path, port: int) -> subprocess.Popen:
    """Start a real MLflow server and wait until it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port),
               "--backend-store-uri", f"sqlite:///{folder}/server.db",
               "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("a") as log:
        started = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                assert answer.status == 200
                return started
        except OSError:
            time.sleep(0.3)
    raise AssertionError((folder / "server.log").read_text()[-2000:])


def stop(started: subprocess.Popen) -> None:
    os.killpg(started.pid, 9)
    started.wait()


@pytest.mark.slow
def test_a_server_that_goes_away_and_returns_has_everything(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server(tmp_path, port)
    tracker = MLflowTracker(tracking_uri=f"http://127.0.0.1:{port}")
    identity = RunIdentity("maze", "bc", "tiny", 0, "0" * 64)
    file = tmp_path / "note.txt"
    file.write_text("kept")
    try:
        with tracker.run(identity, config={"a": 1}, folder=tmp_path) as log:
            log.log_metrics({"loss": 1.0}, step=1)
            time.sleep(1)
            stop(running)
            began = time.monotonic()
            for step in range(2, 50):
                log.log_metrics({"loss": 1.0 / step}, step=step)
            log.log_file(file)
            assert time.monotonic() - began < 2, "training waited for the server"
            time.sleep(3)
            running = server(tmp_path, port)
        from mlflow import MlflowClient

        client = MlflowClient(f"http://127.0.0.1:{port}")
        points = sorted(client.get_metric_history(tracker.run_id, "loss"), key=lambda point: point.step)
        assert [(point.step, point.value) for point in points] == [(step, 1.0 / step) for step in range(1, 50)]
        assert client.get_run(tracker.run_id).info.status == "FINISHED"
        assert "note.txt" in {item.path for item in client.list_artifacts(tracker.run_id)}
    finally:
        stop(running)
    said = capfd.readouterr().err
    assert "MLflow does not answer; the run continues and sends later" in said
    assert "MLflow answers again after" in said
