"""Upper limits for every stage of a method: a trial run is short, however its clone and its critic are configured."""

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

LIMITED = {
    "steps": "steps",
    "steps_per_epoch": "steps_per_epoch",
    "batch_size": "datamodule.batch_size",
    "rollouts": "datamodule.rollouts",
}
"""The value of a stage that each limit lowers. `trajectories` limits the data, which all stages share."""
EARLIER = ("prior", "critic")
"""Under these names a stage has the stages that are trained before it."""


def stages(algo: DictConfig) -> Iterator[DictConfig]:
    """Yield the configuration of a method and of all stages that it begins with, at any depth."""
    yield algo
    for name in EARLIER:
        earlier = algo.get(name)
        if isinstance(earlier, DictConfig):
            yield from stages(earlier)


def limit_stages(cfg: DictConfig) -> None:
    """Lower the numbers of every stage to `training.limits`; values that a stage lacks or that are null stay."""
    limits = OmegaConf.select(cfg, "training.limits")
    if not limits or not isinstance(cfg.get("algo"), DictConfig):
        return
    for stage in stages(cfg.algo):
        for name, key in LIMITED.items():
            limit, value = limits.get(name), OmegaConf.select(stage, key)
            if isinstance(limit, int) and isinstance(value, int) and value > limit:
                OmegaConf.update(stage, key, limit)
