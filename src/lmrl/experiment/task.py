"""The task of an experiment: its environments, its data, and the policies that play it without training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lmrl.config.checks import changed_env, config_errors
from lmrl.data.generate import loader_of
from lmrl.data.store import Dataset
from lmrl.envs.core import TextEnv
from lmrl.policies.decoding import Decoding
from lmrl.scores import Anchors


@dataclass(frozen=True)
class Task:
    """A task, with its data."""

    make_env: Callable[[], TextEnv]
    """Builds the environment of training and validation."""
    evaluation_env: Callable[[], TextEnv]
    """Builds the environment of the reported evaluation."""
    memory: int | None
    """The number of last turns that the policy may see; `None` for all."""
    anchors: Anchors | None
    dataset: Dataset

    @property
    def summary(self) -> dict[str, Any]:
        """The `dataset` block of summary.json."""
        numbers = self.dataset.statistics
        return {
            "fingerprint": self.dataset.fingerprint,
            "trajectories": len(self.dataset.trajectories),
            "return_mean": numbers["return_mean"],
        }


def load_task(task: DictConfig, changes: DictConfig | None = None) -> Task:
    """Load or generate the data of a task, and build its environments once to see that they can be built.

    Args:
        task: the configuration's group of that name.
        changes: the values of the environment that the reported evaluation changes (`evaluation.env`).

    Raises:
        ConfigError: the data or an environment cannot be made; the message names the key.
    """
    with config_errors("task.env"):
        make_env = instantiate(task.env)
        make_env()
    reported = evaluation_env(task, changes)
    with config_errors("task.dataset"):
        dataset = loader_of(task)()
    return Task(make_env, reported, task.memory, Anchors.of_task(task), dataset)


def evaluation_env(task: DictConfig, changes: DictConfig | None) -> Callable[[], TextEnv]:
    """Return the constructor of the environment of the reported evaluation.

    Args:
        task: the configuration's group of that name.
        changes: the values of the environment that the evaluation changes (`evaluation.env`).

    Raises:
        ConfigError: the environment cannot be built; the message gives the reason.
    """
    return instantiate(changed_env("evaluation.env", task.env, changes))


def is_trained(algo: DictConfig) -> bool:
    """Return whether an algorithm trains something; otherwise it names a policy that plays as it is."""
    return algo.get("module") is not None


def build_policy(algo: DictConfig, prompt: DictConfig | None) -> Any:
    """Build the policy of an algorithm without training.

    Args:
        algo: the configuration's group of that name.
        prompt: the task's prompt for language models, if it has one.

    Raises:
        ConfigError: a value of the policy is wrong.
    """
    texts = OmegaConf.to_container(prompt, resolve=True) if prompt else None
    with config_errors("algo.policy"):
        return instantiate(algo.policy)(prompt=texts)


def evaluation_decoding(training: Mapping[str, Any], changes: Mapping[str, Any] | None) -> Decoding:
    """Return the decoding of the reported policy: that of training, with the changes of the evaluation.

    Args:
        training: `algo.decoding`.
        changes: `evaluation.decoding`.

    Raises:
        ConfigError: a value is out of range or unknown, or the changes are not a mapping.
    """
    with config_errors("evaluation.decoding"):
        return instantiate({**training, **(changes or {})})
