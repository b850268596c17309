"""Find mistakes in a configuration before anything heavy is imported: this file needs only Hydra's libraries."""

import difflib
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class ConfigError(Exception):
    """A mistake in what the user asked for, said in one sentence."""


_POSITIVE = (
    "algo.steps", "algo.steps_per_epoch", "algo.accumulate", "algo.lr_scale", "algo.datamodule.batch_size",
    "evaluation.repeats", "evaluation.episodes", "evaluation.slots",
    "validation.every_n_epochs", "validation.repeats", "validation.episodes",
    "hardware.num_nodes", "model.optimizer.lr", "task.max_new_tokens",
)  # fmt: skip


def check_config(cfg: DictConfig) -> None:
    """Resolve the whole configuration, and check what can be checked without building anything.

    Raises:
        ConfigError: a value is missing, refers to nothing, or is out of its range; the message names it.
    """
    try:
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'the configuration'}: {str(error).splitlines()[0]}") from error
    seed = cfg.seed
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed must be a whole number of at least 0, got {seed!r}")
    for key in _POSITIVE:
        _check_positive(key, OmegaConf.select(cfg, key))
    if cfg.evaluation.checkpoint not in ("best", "latest"):
        raise ConfigError(f"evaluation.checkpoint must be best or latest, got {cfg.evaluation.checkpoint!r}")
    if not isinstance(cfg.resume, bool):
        raise ConfigError(f"resume must be true or false, got {cfg.resume!r}")


def explain_failure(error: BaseException) -> str:
    """Return what went wrong while building an object from the configuration, without Hydra's wrapping."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error) or type(error).__name__
    marker = "got an unexpected keyword argument "
    if isinstance(error, TypeError) and marker in text:
        where, name = text.split(marker)
        return f"{where.strip().removesuffix('()').removesuffix('.__init__')} has no parameter {name}"
    return text


def suggest(name: str, known: list[str]) -> str:
    """Return ' (did you mean ...?)' for a misspelt name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _check_positive(key: str, value: Any) -> None:
    """Raise unless the value is absent or a number above 0."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ConfigError(f"{key} must be a number above 0, got {value!r}")
