"""Run one experiment: `python run.py task=maze algo=ilql`; a sweep with `-m`; a recorded run again with `mode=`."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lmrl.system.signals import ended

# Everything else is imported later, when Ctrl-C ends the program with one line.
if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(cfg: "DictConfig") -> float:
    """Run the experiment of a configuration, and return its objective, which sweepers read."""
    from hydra.core.hydra_config import HydraConfig

    from lmrl.config.checks import ConfigError
    from lmrl.experiment.preflight import preflight

    try:
        choices = HydraConfig.get().runtime.choices
        preflight(cfg, choices)  # needs no torch, so mistakes are reported at once
        announce(cfg, choices)
        from lmrl.experiment.run import run

        return run(cfg)
    except ConfigError as error:
        sys.exit(f"error: {error}")


def announce(cfg: "DictConfig", choices: Mapping[str, str]) -> None:
    """Print the experiment at once: the libraries take some seconds to load."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        names = " · ".join(str(choices[group]) for group in ("task", "algo", "model"))
        print(f"{names} · seed {cfg.seed}: loading", file=sys.stderr)


def train() -> None:
    """Run the experiment, or with `-m` the sweep, of the command line."""
    import hydra

    from lmrl.sweeps.command import defer

    sys.argv[1:] = defer(sys.argv[1:])
    hydra.main(version_base="1.3", config_path="conf", config_name="config")(main)()


def program() -> int:
    """Carry out the command line, and return the exit status."""
    from lmrl.experiment.modes import dispatch

    return dispatch(train, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(ended(program))
