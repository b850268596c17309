"""Small trainings in one or several real processes: `python tests/processes.py JOBS.json RESULTS.json`.

Environment variables say which of the processes this one is, as torchrun sets them.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict
from torch.distributed.tensor import DTensor

from lmrl.callbacks.validate import Validate
from lmrl.experiment.earlier import StageStore, with_earlier_stages
from lmrl.experiment.hardware import path_from_rank_zero
from lmrl.experiment.materials import build_materials
from lmrl.experiment.stage import build_stage, fit
from lmrl.experiment.task import load_task

ROOT = Path(__file__).parents[1]
ROWS = 8
"""Rows of a step, over all processes."""


@dataclass(frozen=True)
class Job:
    """One training."""

    algo: str
    hardware: str
    processes: int
    folder: str
    data_dir: str
    kill_at: int | None = None
    overrides: tuple[str, ...] = ()


class Killed(BaseException):
    """What ends a training from outside."""


class Watch(pl.Callback):
    """Writes down what every step reported and how much of each network this process holds; may end the training."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.steps: dict[int, dict[str, float]] = {}
        self.held: dict[str, list[int]] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.log_every_n_steps = 1  # type: ignore[attr-defined]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.kill_at:
            raise Killed
        for name, network in pl_module.named_children():
            parameters = list(network.parameters())
            local = [p.to_local() if isinstance(p, DTensor) else p for p in parameters]
            self.held[name] = [sum(p.numel() for p in local), sum(p.numel() for p in parameters)]

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any, **unused_too: Any) -> None:  # type: ignore[override]
        told = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        self.steps[trainer.global_step] = told


def configured(job: Job) -> DictConfig:
    """Compose the configuration of a job."""
    overrides = ["task=maze", f"algo={job.algo}", f"hardware={job.hardware}", "hardware.accelerator=cpu",
                 f"hardware.devices={job.processes}", "hardware.precision=32-true", f"data_dir={job.data_dir}",
                 "algo.datamodule.filter=null", "task.dataset.recipe.trajectories=30"]  # fmt: skip
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=[*overrides, *job.overrides, "hydra.searchpath=[]"])


def small(stage: DictConfig, rows: int) -> None:
    """Shorten a stage, and those before it."""
    stage.steps, stage.steps_per_epoch = 6, 2
    sizes = {"batch_size": rows, "rollouts": 4 if "group" not in stage.module else 2 * stage.module.group, "slots": 8}
    with open_dict(stage):
        for name, size in sizes.items():
            if name in stage.datamodule and stage.datamodule[name] is not None:
                stage.datamodule[name] = size
        for name in ("monte_carlo_steps", "monte_carlo_decay", "warmup_rounds"):
            if name in stage.module:
                stage.module[name] = 1
        stage.module.warmup_steps = 0
    for limit in {"max_steps", "max_moves"} & set(stage.datamodule.get("env", {})):
        stage.datamodule.env[limit] = 6
    for earlier in ("prior", "critic"):
        if stage.get(earlier):
            small(stage[earlier], rows)


def train(job: Job) -> dict[str, Any]:
    """Train, from a checkpoint in the folder if there is one; the first process exports."""
    cfg = configured(job)
    task = load_task(cfg.task)
    small(cfg.algo, ROWS)
    with open_dict(cfg.algo.datamodule):
        cfg.algo.datamodule.batch_size = ROWS // job.processes
    materials = with_earlier_stages(cfg.algo, StageStore.of(cfg, "maze", "30"), build_materials(cfg, task))
    module, datamodule = build_stage(cfg.algo, materials)
    watch, folder = Watch(job.kill_at), Path(job.folder)
    playing = Validate(make_env=lambda: task.make_env(max_steps=6), memory=task.memory, anchors=task.anchors,
                       every_n_epochs=3, repeats=1, episodes=4, slots=2)  # fmt: skip
    try:
        stage = fit(cfg.algo, materials, module, datamodule, name=job.algo, folder=folder, callbacks=[playing, watch],
                    monitor="validation/return_mean")  # fmt: skip
    except Killed:
        return {"job": asdict(job), "steps": watch.steps}
    if stage.trainer.is_global_zero:
        stage.module.export(folder / "policy")
    evaluation = playing.latest.summary(task.anchors) if playing.latest else {}
    return {
        "job": asdict(job),
        "steps": watch.steps,
        "held": watch.held,
        "tokens": stage.module.tokens_trained,
        "interactions": dict(stage.interactions),
        "return": evaluation["return_mean"],
    }


def free_port() -> int:
    """Return a port that is free, as is the next one."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                next_one.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def together(jobs: Sequence[Job], folder: Path, processes: int = 2, timeout: float = 900) -> list[list[dict[str, Any]]]:
    """Start processes that do all jobs, one after another, and return what each process found."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes),
              "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps([asdict(job) for job in jobs]))
    running = []
    for rank in range(processes):
        own = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with (folder / f"log-{rank}.txt").open("w") as log:
            command = [sys.executable, __file__, str(folder / "jobs.json"), str(folder / f"found-{rank}.json")]
            running.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, stdout=log, stderr=log))
    try:
        codes = [process.wait(timeout) for process in running]
    finally:
        for process in running:
            process.kill()
    logs = "\n".join((folder / f"log-{rank}.txt").read_text()[-3000:] for rank in range(processes))
    assert codes == [0] * processes, logs
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(processes)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    agreed = path_from_rank_zero(lambda: Path(f"chosen by {os.environ['RANK']}"))
    found = [train(Job(**job)) | {"agreed": str(agreed)} for job in json.loads(Path(sys.argv[1]).read_text())]
    Path(sys.argv[2]).write_text(json.dumps(found))
