"""Find and compose the configuration, and report mistakes in one line; shared by all commands."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmrl.config.checks import ConfigError, check_config, check_partner, expand_home


def configuration_folder(folder: Path | None) -> Path:
    """Return the configuration folder: the given one, `conf` in the working folder, or the one beside the sources.

    Raises:
        FileNotFoundError: there is none.
    """
    places = [folder] if folder else [Path.cwd() / "conf", beside_sources()]
    found = next((place for place in places if (place / "task").is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"no configuration folder with a task group: looked at {', '.join(map(str, places))}")
    return found


def at_home(arguments: Sequence[str]) -> list[str]:
    """Replace `~` in `key=~/place`, which neither shells nor Hydra do; special characters are quoted for Hydra."""

    def replaced(argument: str) -> str:
        key, sign, value = argument.partition("=~")
        if not sign or not (value == "" or value.startswith("/")):
            return argument
        place = str(Path(f"~{value}").expanduser())
        return f"{key}={place}" if re.fullmatch(r"[\w/.-]+", place, re.ASCII) else f"{key}='{place}'"

    return [replaced(argument) for argument in arguments]


def beside_sources() -> Path:
    """Return the place of the configuration folder in a checkout."""
    return Path(__file__).resolve().parents[3] / "conf"


def compose_task(overrides: Sequence[str], folder: Path | None = None) -> Any:
    """Return the configuration of a task alone, for commands without a model and an algorithm.

    Raises:
        FileNotFoundError: there is no configuration folder.
        ConfigError: a value of the chosen partner is missing, or the task has no partner.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    found = configuration_folder(folder)
    whole = OmegaConf.load(found / "config.yaml") if (found / "config.yaml").is_file() else OmegaConf.create()
    defaults = ["_self_", {"task": "???"}, {"optional partner": "embedded"}]
    root = {"defaults": defaults, "data_dir": OmegaConf.select(whole, "data_dir") or "data"}
    ConfigStore.instance().store(name="lmrl_task", node=root)
    with initialize_config_dir(str(found.resolve()), version_base="1.3"):
        cfg = compose("lmrl_task", overrides=at_home(overrides))
    check_partner(cfg)
    expand_home(cfg)
    return cfg.task


def compose_run(overrides: Sequence[str], folder: Path | None = None) -> Any:
    """Return the checked configuration of a run, as `run.py` composes it.

    Raises:
        FileNotFoundError: there is no configuration folder.
        ConfigError: a value is missing or impossible.
    """
    cfg = compose_unchecked(overrides, folder)
    check_config(cfg)
    return cfg


def compose_unchecked(overrides: Sequence[str], folder: Path | None = None) -> Any:
    """Return the configuration of a run, in which values may be missing; Hydra may be running a program meanwhile.

    Raises:
        FileNotFoundError: there is no configuration folder.
        HydraException: a choice or a key does not exist.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    place = str(configuration_folder(folder).resolve())
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(place, version_base="1.3"):
            return compose("config", overrides=[*at_home(overrides), "hydra.searchpath=[]"])
    finally:
        GlobalHydra.instance().hydra = outer


def guarded(work: Callable[[], object]) -> int:
    """Run a command and return the exit status; a mistake of the user ends in one line on standard error."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        work()
    except (HydraException, OmegaConfBaseException, ConfigError, ValueError, OSError, ImportError) as error:
        # Hydra wraps the complaint of a constructor, which is the useful message.
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        from lmrl.config.mistakes import in_our_words

        known = isinstance(cause, HydraException | OmegaConfBaseException)
        print(f"error: {in_our_words(cause, beside_sources()) if known else cause}", file=sys.stderr)
        return 1
    return 0
