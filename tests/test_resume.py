"""Checkpoints survive what happens to disks."""

import subprocess
import sys
from pathlib import Path

import torch
from conftest import ROOT

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
