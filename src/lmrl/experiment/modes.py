"""The other modes of `run.py`: `mode=eval`, `mode=replay` and `mode=data`. Needs no torch."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lmrl import __version__
from lmrl.config.checks import ConfigError
from lmrl.config.signatures import suggest

MODES = ("train", "eval", "replay", "data")
_USAGE = """
  python run.py task=maze algo=ilql                  run an experiment (mode=train)
  python run.py -m task=maze algo=bc,ilql seed=0,1   run a sweep: all combinations; launcher= chooses where
  python run.py sweeps=seeds task=maze algo=ilql     run a sweep of a file in sweeps/
  python run.py task=maze algo=ilql resume=true      continue the newest unfinished run of the same configuration
  python run.py mode=eval run=RUN [key=value ...]    repeat a run's evaluation: exactly, or with changes
  python run.py mode=replay run=RUN                  run it again and compare all its numbers
  python run.py mode=data task=maze                  make a task's data and show their statistics
  python -m lmrl.play|data|report|coverage|benchmark --help   the other commands
RUN is a run folder or an MLflow run ID (in sqlite:///mlflow.db, or in tracking.tracking_uri=...).
"""


def dispatch(train: Callable[[], object], arguments: Sequence[str]) -> int:
    """Carry out the `mode` of the command line, and return the exit status.

    Args:
        train: runs an experiment from the command line.
        arguments: the arguments of `run.py`.
    """
    from lmrl.config.compose import at_home, guarded

    arguments = at_home(arguments)
    sys.argv[1:] = arguments  # Hydra reads them there
    given = dict(text.split("=", 1) for text in arguments if text.startswith(("mode=", "run=")))
    mode, rest = given.get("mode", "train"), [text for text in arguments if not text.startswith(("mode=", "run="))]
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(_help())
        return 0
    if "--version" in arguments:
        sys.stdout.write(f"lmrl {__version__}\n")
        return 0
    if not arguments:
        sys.stderr.write(_help())
        return 2
    if mode == "train" and "run" not in given:
        return _run(train, arguments)
    if mode == "data":
        from lmrl.data.__main__ import main as data

        return data(["inspect", *rest])
    return guarded(lambda: _again(mode, given.get("run"), rest))


def _run(train: Callable[[], object], arguments: Sequence[str]) -> int:
    """Train, and report a mistake in the command in one line."""
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    from lmrl.config.compose import beside_sources
    from lmrl.config.mistakes import in_our_words, slip

    folder = beside_sources()
    groups = {path.name for place in (folder, Path("conf")) if place.is_dir() for path in place.iterdir()}
    try:
        if mistake := slip(arguments, groups):
            raise ConfigError(mistake)
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
        train()
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except InstantiationException:
        raise  # an error in the called code, which needs its traceback
    except (HydraException, OmegaConfBaseException) as error:
        sys.stderr.write(f"error: {in_our_words(error, folder)}\n")
        return 1
    return 0


def _help() -> str:
    """Return the usage: the modes, and the choices of each group of the configuration."""
    from lmrl.config.compose import configuration_folder

    folder = configuration_folder(None)
    shown = ("task", "algo", "model", "hardware", "partner", "tracking", "launcher", "experiment")
    choices = {group: " ".join(sorted(path.stem for path in (folder / group).glob("*.yaml"))) for group in shown}
    groups = "".join(f"  {group}= {names}\n" for group, names in choices.items() if names)
    last = "Any value of the configuration is changed by its name; --cfg job prints all of them.\n"
    return f"Usage:\n{_USAGE.lstrip(chr(10))}\nChoices:\n{groups}\n{last}"


def _again(mode: str, run: str | None, rest: list[str]) -> None:
    """Evaluate or replay a recorded run."""
    if mode not in MODES:
        raise ConfigError(f"mode={mode} is unknown{suggest(mode, list(MODES))}:\n{_USAGE}")
    if run is None or mode == "train":
        raise ConfigError(f"mode=eval and mode=replay need run=FOLDER or run=MLFLOW_ID:\n{_USAGE}")
    flags = [text for text in rest if text.startswith("-")]
    if flags:
        raise ConfigError(f"mode={mode} takes only key=value, not {' '.join(flags)}")
    if mode == "eval":
        _check_changes(rest)
    from lmrl.runs.recorded import changed_config
    from lmrl.tracking.find import find_run

    stores = [text.split("=", 1)[1] for text in rest if text.startswith("tracking.tracking_uri=")]
    folder = find_run(run, *stores[-1:])
    changed_config(folder, rest)  # mistakes are reported before anything heavy is imported
    from lmrl.experiment import again

    (again.evaluate_again if mode == "eval" else again.replay)(folder, rest)


_KEPT = ("task", "algo", "model", "experiment", "sweeps", "launcher")
_TRAINS = (
    "training", "validation", "model", "resume", "data_dir", "runs_dir", "task.dataset", "algo.datamodule",
    "algo.prior", "algo.critic", "algo.optimizer", "algo.steps", "algo.steps_per_epoch", "algo.lr_scale",
    "algo.gradient_clip", "algo.accumulate",
)  # fmt: skip


def _check_changes(changes: Sequence[str]) -> None:
    """Raise an error for changes that cannot affect an evaluation of recorded weights."""
    for change in changes:
        key = change.lstrip("+~").split("=")[0]
        if key in _KEPT:
            raise ConfigError(f"{change}: an evaluation keeps the {key} of its run: start another run instead")
        if any(key == part or key.startswith(f"{part}.") for part in _TRAINS):
            raise ConfigError(f"{change} changes the training, which is over: it has no effect on the evaluation")
