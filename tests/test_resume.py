"""Checkpoints survive what happens to disks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT

from lmrl.callbacks.resume import LATEST, AtomicCheckpointIO, newest_checkpoint, resumable
from lmrl.config.checks import ConfigError
from lmrl.tracking.core import MetricsFile

SCRIPT = """
import resource, signal, sys
import torch
from lmrl.callbacks.resume import AtomicCheckpointIO
path = sys.argv[1]
writer = AtomicCheckpointIO()
writer.save_checkpoint({"step": torch.tensor(1)}, path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # from here on, the disk holds no file above 20 kB
try:
    writer.save_checkpoint({"step": torch.arange(100_000)}, path)
except OSError as error:
    print("refused:", error)
"""


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "latest.ckpt"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "refused:" in done.stdout
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(1)}
    assert list(tmp_path.iterdir()) == [path]


def damage(path: Path) -> None:
    """Change one byte in the middle of a file's numbers."""
    content = bytearray(path.read_bytes())
    content[content.index(b"\x07" * 64) + 9] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert newest_checkpoint(tmp_path) is None
    writer, latest = AtomicCheckpointIO(), tmp_path / "latest.ckpt"
    numbers = torch.full((4096,), 7, dtype=torch.uint8)
    for step in (10, 20, 30):
        writer.save_checkpoint({"global_step": step, "numbers": numbers}, latest)
    assert newest_checkpoint(tmp_path) == (latest, 30)
    damage(latest)
    assert newest_checkpoint(tmp_path) == (tmp_path / "previous.ckpt", 20)
    assert f"{latest} is damaged" in capsys.readouterr().err
    latest.write_bytes(latest.read_bytes()[:100])
    assert newest_checkpoint(tmp_path) == (tmp_path / "previous.ckpt", 20)
    damage(tmp_path / "previous.ckpt")
    with pytest.raises(ConfigError, match=r"every checkpoint in .* is damaged"):
        newest_checkpoint(tmp_path)


def test_metrics_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    log = MetricsFile(tmp_path / "metrics.jsonl")
    log.log_metrics({"evaluation/return_mean": 1.0}, 0)
    for step in (9, 19, 20, 29):
        log.log_metrics({"loss": step / 10}, step)
    with log.path.open("a") as file:
        file.write('{"step": 3')  # cut off by a kill
    log.forget_from(20)
    assert log.rows() == [{"step": 9, "loss": 0.9}, {"step": 19, "loss": 1.9}]
    log.forget_from(0)
    assert log.path.read_text() == ""
    assert json.dumps(log.rows()) == "[]"


class Counting(pl.LightningModule):
    """Counts its steps in its only weight, and is worth what a list says of each epoch."""

    def __init__(self, worth: list[float]) -> None:
        super().__init__()
        self.weight, self.worth, self.automatic_optimization = torch.nn.Parameter(torch.zeros(())), worth, False

    def training_step(self, batch: Any) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(-self.weight)
        optimizer.step()

    def on_train_epoch_end(self) -> None:
        self.log("worth", torch.tensor(self.worth[self.current_epoch]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def train(folder: Path, worth: list[float], newest: Path | None = None) -> None:
    """Train one step for each worth in the list."""
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        max_epochs=len(worth), plugins=[AtomicCheckpointIO()], callbacks=resumable(0, 100, folder, "worth"),
    )  # fmt: skip
    trainer.fit(Counting(worth), torch.utils.data.DataLoader([0]), ckpt_path=newest, weights_only=True)


def test_a_run_that_was_copied_and_resumed_keeps_its_best_checkpoint(tmp_path: Path) -> None:
    """What is worth less than the best before the copy is no new best; what is worth more is one, and there only."""

    def best(folder: Path) -> float:
        return float(torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]["weight"])

    old, new = tmp_path / "old", tmp_path / "new"
    train(old, [5.0])
    shutil.copytree(old, new)
    train(new, [5.0, 1.0], new / LATEST)
    assert (best(old), best(new)) == (1, 1)
    train(new, [5.0, 1.0, 7.0], new / LATEST)
    assert (best(old), best(new)) == (1, 3)
    assert sorted(path.name for path in new.iterdir()) == ["best.ckpt", "latest.ckpt", "previous.ckpt"]
