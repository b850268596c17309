"""The other modes of `run.py`: `mode=eval`, `mode=replay` and `mode=data`. Needs no torch."""

import sys
from collections.abc import Callable, Sequence

from lmrl.checks import ConfigError
from lmrl.signatures import suggest

MODES = ("train", "eval", "replay", "data")
_USAGE = """
  python run.py task=maze algo=ilql                  run an experiment (mode=train)
  python run.py mode=eval run=RUN [key=value ...]    play a run's evaluation again: exactly, or with changes
  python run.py mode=replay run=RUN                  run it again and compare all its numbers
  python run.py mode=data task=maze                  make a task's data and show their statistics
RUN is a run's folder, or its id in MLflow (of tracking.tracking_uri=sqlite:///mlflow.db unless named).
"""


def dispatch(train: Callable[[], object], arguments: Sequence[str]) -> int:
    """Do what the command line's `mode` asks for, and return the exit status.

    Args:
        train: runs an experiment from the command line.
        arguments: what stands behind `run.py`.
    """
    from lmrl.commands import guarded

    given = dict(text.split("=", 1) for text in arguments if text.startswith(("mode=", "run=")))
    mode, rest = given.get("mode", "train"), [text for text in arguments if not text.startswith(("mode=", "run="))]
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(_help())
        return 0
    if mode == "train" and "run" not in given:
        train()
        return 0
    if mode == "data":
        from lmrl.data.__main__ import main as data

        return data(["inspect", *rest])
    return guarded(lambda: _again(mode, given.get("run"), rest))


def _help() -> str:
    """Return what can be typed: the modes, and the choices of each group of the configuration."""
    from lmrl.commands import configuration_folder

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
    from lmrl.recorded import changed_config, find_run

    stores = [text.split("=", 1)[1] for text in rest if text.startswith("tracking.tracking_uri=")]
    folder = find_run(run, *stores[-1:])
    changed_config(folder, rest)  # mistakes are answered before anything heavy is imported
    from lmrl import again

    (again.evaluate_again if mode == "eval" else again.replay)(folder, rest)
