"""What everything around a training step costs: Lightning, callbacks, metrics, MLflow, checkpoints.

    python scripts/overhead.py                    # the default maze run; key=value changes it, as for run.py
    python scripts/overhead.py --steps 200 --repeats 7

One side is a bare loop: the run's own batches, module and optimizer, and nothing else. The other is the run: the same
epoch inside `lmrl.experiment.stage.fit`, with the loggers and the checkpoint that it has. They take turns. Evaluation
between epochs and whatever happens once per run are not counted.
"""

import argparse
import copy
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lmrl.benchmark.timing import Leg, Timing, interleave, median, ratios
from lmrl.benchmark.train_step import Clock, lmrl_step
from lmrl.benchmark.workloads import Workload
from lmrl.config.compose import compose_run
from lmrl.datamodules.sampling import EpochSampler, Rows
from lmrl.experiment.hardware import quiet_libraries, set_threads
from lmrl.experiment.run import prepare
from lmrl.experiment.stage import build_stage, fit
from lmrl.tracking.core import RunIdentity


def legs(cfg: DictConfig, folder: Path) -> dict[str, Leg]:
    """Return both sides; each call trains one epoch from the same weights."""
    _, materials = prepare(cfg)
    module, datamodule = build_stage(cfg.algo, materials)
    rows = Rows(copy.deepcopy(module).prepare(datamodule.episodes()))
    sizes = {"batch_size": cfg.algo.datamodule.batch_size, "batches": cfg.algo.steps}
    batches = EpochSampler(rows.token_lengths, **sizes, seed=cfg.seed)
    workload = Workload("", "", module, [], materials.codec.pad_id, cfg.algo.gradient_clip)
    runs = 0

    def bare() -> Timing:
        step, began = lmrl_step(workload, copy.deepcopy(module)), Timing.now()
        for indices in batches:
            step(rows[indices])
        return began.elapsed()

    def run() -> Timing:
        nonlocal runs
        runs += 1
        place, clock = folder / str(runs), Clock()
        identity = RunIdentity(
            cfg.task.name, "overhead", "tiny", runs, str(runs), env_version="", dataset_fingerprint=""
        )
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        with instantiate(cfg.tracking).run(identity, config=config, folder=place) as log:
            fit(
                cfg.algo, materials, copy.deepcopy(module), datamodule,
                name="run", folder=place, loggers=log.loggers, callbacks=[clock],
            )  # fmt: skip
        return clock.timing

    return {"bare": bare, "run": run}


def main() -> int:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--steps", type=int, default=100, help="steps of an epoch (default: 100)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    quiet_libraries()
    set_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        epoch = [f"algo.steps={options.steps}", f"algo.steps_per_epoch={options.steps}"]
        store = f"tracking.tracking_uri=sqlite:///{folder / 'mlflow.db'}"
        cfg = compose_run(["task=maze", "algo=ilql", *epoch, store, *options.overrides])
        timings = interleave(legs(cfg, folder), options.repeats)
    for side, found in timings.items():
        one = median(found)
        per_step = 1000 / options.steps
        sys.stdout.write(f"{side:5}{one.wall * per_step:8.1f} ms a step, {one.cpu * per_step:.1f} ms of CPU time\n")
    share = [1 - bare.cpu / run.cpu for bare, run in zip(timings["bare"], timings["run"], strict=True)]
    sys.stdout.write(
        f"share of the runner in CPU time: {statistics.median(share):.1%} ({min(share):.1%} to {max(share):.1%})\n"
    )
    sys.stdout.write(f"wall time of a run over the bare loop: {ratios(timings['run'], timings['bare'])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
