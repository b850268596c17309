"""Find mistakes in a configuration before anything heavy is imported: nothing here needs PyTorch."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from lmrl.config.data_needs import unlearnable
from lmrl.config.faults import declared, faults, is_path
from lmrl.config.limits import limit_stages
from lmrl.config.types import ConfigError


def check_config(cfg: DictConfig) -> None:
    """Resolve the whole configuration and check every value.

    `~` at the beginning of files and folders is replaced, and `training.limits` is applied to every stage.

    Raises:
        ConfigError: a value is missing, refers to nothing, or is out of its range; the message names it.
    """
    check_partner(cfg)
    expand_home(cfg)
    limit_stages(cfg)
    try:
        config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing: set {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key or 'the configuration'}: {str(error).splitlines()[0]}") from error
    data = OmegaConf.select(cfg, "task.dataset")
    if data and data.get("folder"):
        config["task"]["dataset"]["recipe"] = None  # unused, so it is not checked
    for mistake in itertools.chain(faults(config), unlearnable(config)):
        raise ConfigError(mistake)


def check_partner(cfg: DictConfig) -> None:
    """Check that all values of the chosen partner are set, and that the task has a partner.

    Raises:
        ConfigError: a value is missing, or the task has no partner.
    """
    partner = OmegaConf.select(cfg, "partner")
    if not partner:
        return
    if not OmegaConf.select(cfg, "task.partner_prompt"):
        raise ConfigError(
            f"partner: the task {cfg.task.name} has no partner that a model can play; use partner=embedded"
        )
    missing = sorted(key.removeprefix("partner.") for key in OmegaConf.missing_keys(partner))
    if missing:
        raise ConfigError(f"partner.{missing[0]} is missing: set partner.{missing[0]}=...")


def check_environments(cfg: DictConfig) -> None:
    """Build each environment of a checked configuration once.

    Raises:
        ConfigError: one cannot be built; the message has its name and the reason.
    """
    changed_env("task.env", cfg.task.env, None)
    for place in ("training.env", "training.first.env", "evaluation.env"):
        changed_env(place, cfg.task.env, OmegaConf.select(cfg, place))


def expand_home(cfg: DictConfig) -> None:
    """Replace `~` at the beginning of every file and folder that a configuration names."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value, kind in declared(plain):
        if isinstance(value, str) and is_path(kind) and value.startswith("~"):
            OmegaConf.update(cfg, key, str(Path(value).expanduser()))
    uri = OmegaConf.select(cfg, "tracking.tracking_uri") if OmegaConf.is_missing(cfg, "tracking") is False else None
    if isinstance(uri, str) and uri.startswith("sqlite:///~"):
        cfg.tracking.tracking_uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).expanduser()}"


@contextmanager
def config_errors(key: str) -> Iterator[None]:
    """Report an error of the block as a mistake at a key of the configuration.

    Raises:
        ConfigError: the block failed; the message names the key.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{key}: {explain_failure(error)}") from error


def changed_env(name: str, env: Any, changes: Any) -> DictConfig:
    """Return an environment's configuration with some values changed, after building it once.

    Args:
        name: the key of the changes in the configuration.
        env: the configuration of the environment, or a link to it.
        changes: the values that differ. `None`: none.

    Raises:
        ConfigError: there is no such environment.
    """
    unknown = [str(key) for key in changes or () if key not in env]
    if unknown:
        known = ", ".join(str(key) for key in env if not str(key).startswith("_"))
        raise ConfigError(f"{name}: the environment has no {', '.join(unknown)}; it has {known}")
    with config_errors(name):
        merged: Any = OmegaConf.merge(env, changes or {})
        instantiate(merged)()
    return merged


def explain_failure(error: BaseException) -> str:
    """Return the cause of a failed construction, without Hydra's wrapping."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error) or type(error).__name__
    marker = "got an unexpected keyword argument "
    if isinstance(error, TypeError) and marker in text:
        where, name = text.split(marker)
        return f"{where.strip().removesuffix('()').removesuffix('.__init__')} has no parameter {name}"
    return text
