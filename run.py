"""Run one experiment: `python run.py task=maze algo=ilql`; with `-m` a sweep; with `mode=` what comes after one."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lmrl.modes import dispatch
from lmrl.sweeps.command import defer


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """Run what the configuration names, and return its objective (so that sweepers can read it)."""
    from lmrl.checks import ConfigError
    from lmrl.preflight import preflight

    try:
        preflight(cfg, HydraConfig.get().runtime.choices)  # needs no torch: mistakes are answered at once
        from lmrl.experiment import run

        return run(cfg)
    except ConfigError as error:
        sys.exit(f"error: {error}")


def train() -> None:
    """Run the experiment, or with `-m` the sweep, of the command line."""
    sys.argv[1:] = defer(sys.argv[1:])
    main()


if __name__ == "__main__":
    sys.exit(dispatch(train, sys.argv[1:]))
