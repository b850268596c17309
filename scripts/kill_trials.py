"""Kill trainings at random moments, resume them, and see whether they end as if nothing had happened.

    python scripts/kill_trials.py --trials 100

Each trial draws a method, a seed and one to three moments. A process runs the experiment and gets SIGKILL at the first
moment; the same experiment with resume=true gets it at the next one, and so on; the last one is left alone. Its
metrics, episodes and weights must be those of a run that nobody killed, digit by digit. Half of the trials begin
without data and priors, so that kills hit these too.

Processes are forked from one that has imported everything, because importing takes longer than these trainings.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

import lmrl.experiment.run
from lmrl.config.checks import ConfigError
from lmrl.config.compose import compose_run
from lmrl.experiment.again import first_difference

TINY = (
    "task=maze", "experiment=smoke", "hardware=cpu", "hardware.threads=1", "tracking=none", "task.env.max_steps=20",
    "task.dataset.recipe.max_moves=20", "task.dataset.recipe.trajectories=60", "algo.steps=12",
    "algo.steps_per_epoch=3", "validation.episodes=4", "evaluation.episodes=8",
)  # fmt: skip
ONLINE = ("algo.datamodule.rollouts=8",)
SOME = ("algo.datamodule.filter._target_=lmrl.data.filters.TopFraction", "++algo.datamodule.filter.fraction=0.5")
PRIOR = ("algo.prior.steps=6", "algo.prior.steps_per_epoch=2")


def overrides_of(algo: str) -> list[str]:
    """Return the command of a tiny experiment with a method."""
    cfg = compose_run([*TINY, f"algo={algo}"])
    rounds = ONLINE if "rollouts" in cfg.algo.datamodule else ()
    kept = SOME if cfg.algo.datamodule.get("filter") else ()  # so little training wins no episode
    return [*TINY, f"algo={algo}", *rounds, *kept, *(PRIOR if cfg.algo.get("prior") else ())]


def trained_methods() -> list[str]:
    """Return the methods that train something."""
    found = []
    for path in sorted(Path("conf/algo").glob("*.yaml")):
        with contextlib.suppress(ConfigError):  # a method that needs further settings trains nothing
            if compose_run(["task=maze", f"algo={path.stem}"]).algo.get("module"):
                found.append(path.stem)
    return found


def start(overrides: list[str], log: Path) -> int:
    """Fork a process that runs an experiment; return its number."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        cfg = compose_run(overrides)
        choices = {part.split("=")[0]: part.split("=")[1] for part in overrides if part.startswith(("task=", "algo="))}
        lmrl.experiment.run.run_as(cfg, {**choices, "model": "tiny"}, overrides)
        code = 0
    except ConfigError as error:
        known = {"no run of this configuration was started": 3, "every run of this configuration is finished": 4}
        code = next((code for text, code in known.items() if text in str(error)), 1)
        print(error)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def run(overrides: list[str], log: Path, kill_after: float | None = None) -> int | None:
    """Run an experiment; return its exit code, or `None` if it was killed after this many seconds."""
    number, began = start(overrides, log), time.monotonic()
    while True:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if kill_after is not None and time.monotonic() - began >= kill_after:
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
            return None
        time.sleep(0.01)


def ending(runs: Path) -> dict[str, Any]:
    """Return the metrics, episodes and weights of the one finished run below a folder."""
    folders = [path.parent for path in runs.glob("*/*/*/summary.json")]
    finished = [path for path in folders if json.loads((path / "summary.json").read_text())["status"] == "finished"]
    if len(finished) != 1:
        raise RuntimeError(f"{len(finished)} finished runs in {runs}")
    (folder,) = finished
    weights = torch.load(folder / "checkpoints" / "latest.ckpt", weights_only=True, map_location="cpu")
    numbers = hashlib.sha256()
    for part in (weights["state_dict"], *(group["state"] for group in weights["optimizer_states"])):
        numbers.update(repr(digest(part)).encode())
    return {
        "metrics": [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()],
        "episodes": (folder / "transcripts.jsonl").read_text(),
        "weights": numbers.hexdigest(),
    }


def digest(value: Any) -> Any:
    """Return nested values with digests in place of tensors."""
    if isinstance(value, dict):
        return {key: digest(part) for key, part in value.items()}
    return hashlib.sha256(value.numpy().tobytes()).hexdigest() if isinstance(value, torch.Tensor) else value


def compare(whole: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Return the first difference between two endings; `None` if they are equal."""
    if found := first_difference(whole["metrics"], other["metrics"]):
        return f"metrics: {found}"
    return next((name for name in ("weights", "episodes") if whole[name] != other[name]), None)


class Trials:
    """Trials with whole runs to compare with, which are made once for each method and seed.

    Args:
        folder: where runs are written.
        seed: seed of the trials.
        methods: the methods to draw from.
    """

    def __init__(self, folder: Path, seed: int, methods: list[str]) -> None:
        self.folder, self.chance, self.methods = folder, random.Random(seed), methods
        self.whole: dict[str, tuple[dict[str, Any], float]] = {}

    def reference(self, algo: str) -> tuple[dict[str, Any], float]:
        """Return how a run of a method ends that nobody kills, and how long it takes."""
        if algo not in self.whole:
            place, began = self.folder / "whole" / algo, time.monotonic()
            place.mkdir(parents=True)
            places = [f"data_dir={place}/data", f"runs_dir={place}/runs"]
            if run([*overrides_of(algo), *places], place / "log") != 0:
                raise RuntimeError(f"{algo} does not run at all: {(place / 'log').read_text()[-2000:]}")
            self.whole[algo] = ending(place / "runs"), time.monotonic() - began
        return self.whole[algo]

    def trial(self, number: int) -> tuple[str, str | None]:
        """Kill and resume one training; return its description, and its difference from the whole run."""
        algo = self.chance.choice(self.methods)
        whole, seconds = self.reference(algo)
        place = self.folder / f"trial{number}"
        place.mkdir()
        if self.chance.random() < 0.5:
            shutil.copytree(self.folder / "whole" / algo / "data", place / "data")
        overrides = [*overrides_of(algo), f"data_dir={place}/data", f"runs_dir={place}/runs"]
        moments = [self.chance.uniform(0.05, 1.0) * seconds for _ in range(self.chance.randint(1, 3))]
        trial = f"{algo}, killed after {', '.join(f'{moment:.1f}' for moment in moments)} s"
        code = self._attempt(overrides, place / "log", [*moments, None])
        if code != 0:
            return trial, f"ended with {code}: {(place / 'log').read_text()[-1500:]}"
        found = compare(whole, ending(place / "runs"))
        if found is None:
            shutil.rmtree(place)
        return trial, found

    def _attempt(self, overrides: list[str], log: Path, moments: list[float | None]) -> int | None:
        """Run, be killed, and resume until the last one is left alone or one has finished before its moment."""
        code: int | None = None
        for attempt, moment in enumerate(moments):
            code = run([*overrides, *(["resume=true"] if attempt else [])], log, moment)
            if code == 3:  # killed before there was anything to resume
                code = run(overrides, log, moment)
            if code == 4:  # killed after everything was written
                code = 0
            if code is not None:
                break
        return code


def main() -> int:
    """Run the trials; the exit status is 1 if one of them ended differently."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--algo", nargs="*", help="the methods to draw from; default: all that train")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder = Path(tempfile.mkdtemp(prefix="kill_trials_"))
    trials, differing = Trials(folder, options.seed, options.algo or trained_methods()), 0
    for number in range(options.trials):
        trial, found = trials.trial(number)
        differing += found is not None
        print(f"{number + 1}/{options.trials} {trial}: {'the same ending' if found is None else f'DIFFERENT: {found}'}")
        sys.stdout.flush()
    print(f"{options.trials - differing} of {options.trials} identical endings")
    if not differing:
        shutil.rmtree(folder)
    return int(differing > 0)


if __name__ == "__main__":
    raise SystemExit(main())
