"""Signals end a program in every phase of a run: its status says which one came, and nothing kept is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT

from lmrl.experiment.stage import build_stage, fit
from lmrl.system import signals
from lmrl.system.signals import Interrupted
from lmrl.tracking.core import MetricsFile

SMALL = ("task.env.max_steps=20", "task.dataset.recipe.max_moves=20", "task.dataset.recipe.trajectories=60")
RUN = ("hardware=cpu", "hardware.threads=1", "tracking=none", "algo.datamodule.batch_size=8")
PROGRAM = """
import sys, time
from lmrl.system.signals import ended
def work():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("leaving", flush=True)
        time.sleep(float(sys.argv[1]))
ended(work)
"""


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program's handlers, as at its start; afterwards those of the tests."""
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    monkeypatch.setattr(signals, "_first", None)
    signals.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_the_exit_status_is_that_of_the_signal(number: str, status: int) -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, "0"], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    program.send_signal(getattr(signal, number))
    _, said = program.communicate(timeout=60)
    assert (program.returncode, said) == (status, f"interrupted by {number}\n")


def test_a_second_signal_ends_a_slow_cleanup_at_once() -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, "600"], cwd=ROOT, stdout=-1, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGTERM)
    assert program.stdout.readline() == "leaving\n"
    program.send_signal(signal.SIGTERM)  # the same request once more, from a parent process
    time.sleep(signals._REPEATED + 0.1)
    assert program.poll() is None
    program.send_signal(signal.SIGINT)
    assert program.wait(60) == 143


LEADER = """
import os, subprocess, sys, time
from lmrl.system import signals
led = [subprocess.Popen(["sleep", "100"], stdin=-3, stdout=-3, stderr=-3)]
def work():
    signals.lead(lambda: led)
    try:
        print(led[0].pid, flush=True)
        time.sleep(60)
    finally:
        print(len(led), flush=True)  # as Lightning's thread, which kills the leader for a child that was killed
signals.ended(work)
"""


def test_the_processes_that_it_leads_end_with_the_first() -> None:
    program = subprocess.Popen([sys.executable, "-c", LEADER], cwd=ROOT, stdout=-1, stderr=-1, text=True)
    assert program.stdout is not None
    led = psutil.Process(int(program.stdout.readline()))
    program.send_signal(signal.SIGTERM)
    left, said = program.communicate(timeout=60)
    assert (program.returncode, left, said) == (143, "0\n", "interrupted by SIGTERM\n")
    assert not led.is_running() or led.status() == psutil.STATUS_ZOMBIE


def test_a_held_signal_waits_for_the_block(handlers: None) -> None:
    done: list[str] = []

    def start() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("a worker is started")

    with pytest.raises(Interrupted), signals.held():
        start()
    assert done
    with pytest.raises(KeyError), signals.held():
        raise KeyError
    assert not signals._held


class Signal(pl.Callback):
    """Sends this process a signal, at a step or at the end of an epoch, when it is validated."""

    def __init__(self, number: int, *, step: int | None = None, epoch: int | None = None) -> None:
        self._number, self._step, self._epoch = number, step, epoch

    def on_train_batch_start(self, trainer: pl.Trainer, *unused: Any) -> None:  # type: ignore[override]
        if trainer.global_step == self._step:
            os.kill(os.getpid(), self._number)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self._epoch:
            os.kill(os.getpid(), self._number)
            time.sleep(60)  # as a long validation; the signal ends it


class Noise(pl.Callback):
    """Training that draws random numbers, as dropout does."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *unused: Any) -> None:  # type: ignore[override]
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.add_(1e-3 * torch.randn_like(parameter))


@pytest.mark.parametrize("moment", [{"step": 5}, {"epoch": 2}], ids=["step", "validation"])
@pytest.mark.parametrize("number", signals.ENDING, ids=lambda number: number.name)
def test_a_training_that_a_signal_ended_continues_to_the_same_end(
    compose: Callable, first_episodes: Any, tmp_path: Path, handlers: None, moment: dict[str, int], number: int,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    cfg = compose("task=maze", "algo=bc", "model.lm.window=4096", "algo.steps=8", "algo.steps_per_epoch=2", *RUN)

    def train(folder: Path, *callbacks: pl.Callback) -> list[Any]:
        materials = first_episodes.materials.under(cfg)
        module, datamodule = build_stage(cfg.algo, materials)
        stage = fit(cfg.algo, materials, module, datamodule, name="bc", folder=folder, callbacks=callbacks)
        return [parameter.tolist() for parameter in stage.module.parameters()]

    with pytest.raises(Interrupted) as caught:
        train(tmp_path / "broken", Signal(number, **moment))
    assert caught.value.number == number
    assert [signal.getsignal(number) for number in signals.ENDING] == [signals._interrupt] * 3
    assert (tmp_path / "broken" / "checkpoints" / "latest.ckpt").exists()
    monkeypatch.setattr(signals, "_first", None)
    assert train(tmp_path / "broken") == train(tmp_path / "whole")
    assert f"continuing {tmp_path / 'broken'} from step 4\n" in capsys.readouterr().err


def test_the_steps_of_an_unfinished_epoch_are_kept(
    compose: Callable, first_episodes: Any, tmp_path: Path, handlers: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    """The first epoch of a clone can take longer than a user waits; random numbers are drawn on as they were."""
    cfg = compose("task=maze", "algo=bc", "model.lm.window=4096", "algo.steps=10", "algo.steps_per_epoch=6",
                  "algo.accumulate=2", *RUN)  # fmt: skip

    def train(folder: Path, *callbacks: pl.Callback) -> tuple[list[Any], list[dict[str, float | int]]]:
        materials = first_episodes.materials.under(cfg)
        module, datamodule = build_stage(cfg.algo, materials)
        metrics = MetricsFile(folder / "metrics.jsonl")
        stage = fit(cfg.algo, materials, module, datamodule, name="bc", folder=folder, loggers=[metrics],
                    callbacks=[Noise(), *callbacks])  # fmt: skip
        return [parameter.tolist() for parameter in stage.module.parameters()], metrics.rows()

    whole = train(tmp_path / "whole")
    for step in (1, 7):
        monkeypatch.setattr(signals, "_first", None)
        with pytest.raises(Interrupted):
            train(tmp_path / "broken", Signal(signal.SIGTERM, step=step))
    monkeypatch.setattr(signals, "_first", None)
    assert train(tmp_path / "broken") == whole
    assert re.findall(r"from step (\d+)", capsys.readouterr().err) == ["2", "8"]


PHASES: dict[str, tuple[list[str], str, bool]] = {
    # further arguments, the file that shows that the phase has begun, whether a checkpoint is kept by then
    "data": (["task.dataset.recipe.trajectories=1000000", "task.dataset.workers=2"], "data/.*.parts/plan.json", False),
    "clone": (["algo.prior.steps=100000"], "data/priors/*/checkpoints/latest.ckpt", False),
    "training": (["algo.steps=100000", "algo.steps_per_epoch=2"], "runs/*/*/*/checkpoints/latest.ckpt", True),
    "validation": (["validation.repeats=100000", "validation.episodes=null"], "runs/*/*/*/metrics.jsonl", False),
    "processes": (["hardware.devices=2", "hardware.strategy=ddp_find_unused_parameters_true", "algo.steps=100000",
                   "algo.prior.datamodule.batch_size=8"], "runs/*/*/*/checkpoints/latest.ckpt", True),
    "evaluation": (["evaluation.repeats=100000"], "runs/*/*/*/policy/player.json", True),
}  # fmt: skip


def interrupted(folder: Path, phase: str, number: int) -> tuple[int, str]:
    """Start a run, send it a signal in a phase, and return its status and what it printed."""
    further, shows, _ = PHASES[phase]
    line = ["task=maze", "algo=ilql", *SMALL, *RUN, "algo.prior.steps=4", "algo.prior.steps_per_epoch=2",
            "algo.steps=2", "algo.steps_per_epoch=2", "validation.episodes=2", *further]  # fmt: skip
    command = [sys.executable, "run.py", *line, f"data_dir={folder}/data", f"runs_dir={folder}/runs"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=subprocess.STDOUT, text=True)
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: said.extend(process.stdout), daemon=True)  # type: ignore[arg-type]
    reader.start()
    while not [path for path in folder.glob(shows) if path.stat().st_size]:
        assert process.poll() is None, "".join(said)
        time.sleep(0.05)
    process.send_signal(number)
    status = process.wait(300)
    reader.join()
    return status, "".join(said)


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("clone", signal.SIGTERM),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [
            ("data", signal.SIGTERM), ("data", signal.SIGINT), ("clone", signal.SIGUSR1), ("training", signal.SIGTERM),
            ("training", signal.SIGUSR1), ("processes", signal.SIGTERM),
            ("validation", signal.SIGTERM), ("evaluation", signal.SIGTERM),
        ]),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)  # fmt: skip
def test_a_run_is_interrupted_in_each_phase(tmp_path: Path, phase: str, number: signal.Signals) -> None:
    status, said = interrupted(tmp_path, phase, number)
    assert status == 128 + number, said
    assert "Traceback" not in said
    assert said.endswith(f"interrupted by {number.name}\n")
    folders = list(tmp_path.glob("runs/*/*/*"))
    assert len(folders) == (phase != "data")
    for folder in folders:
        assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
        kept = "checkpoints are kept" if PHASES[phase][2] else "no checkpoint was written yet"
        assert f"interrupted: {kept} in {folder}; run the same command with resume=true to continue" in said
    if phase == "clone":
        [partial] = tmp_path.glob("data/priors/*.partial/checkpoints/latest.ckpt")
        assert partial.stat().st_size > 0


def test_an_interrupt_while_libraries_load_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "run.py", "task=maze", "algo=bc", *RUN, f"data_dir={tmp_path}", f"runs_dir={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=-1, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "maze · bc · tiny · seed 0: loading\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == "interrupted by SIGINT\n"
    assert process.wait() == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_other_commands_are_interrupted_too(tmp_path: Path) -> None:
    line = ["generate", "task=maze", "task.dataset.recipe.trajectories=1000000", "task.dataset.workers=2"]
    command = [sys.executable, "-m", "lmrl.data", *line, f"data_dir={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=subprocess.STDOUT, text=True)
    while not list(tmp_path.glob(".*.parts/plan.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=100)
    assert (process.returncode, "Traceback" in said) == (143, False), said


def test_signals_are_handled_before_heavy_imports() -> None:
    program = "import sys, run; print(*{'hydra', 'omegaconf', 'pydantic', 'numpy', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
