"""The materials that all stages of a run share: tokenizer, initial model, data, and a few settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from lmrl.config.checks import config_errors
from lmrl.experiment.task import Task
from lmrl.models import loading
from lmrl.text.codec import Codec
from lmrl.text.trajectory import Trajectory


@dataclass(frozen=True)
class Materials:
    """The inputs of a stage besides its own configuration."""

    codec: Codec
    lm: Callable[[], nn.Module]
    """Builds a fresh copy of the initial language model."""
    trajectories: Sequence[Trajectory]
    seed: int
    memory: int | None
    """The number of last turns that the policy may see; `None` for all."""
    max_new_tokens: int
    """The longest action in tokens."""
    model: DictConfig
    hardware: DictConfig
    training: DictConfig
    """The last three are the configuration's groups of these names."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """The folders of further stages before this one, by the module's argument that takes them."""

    @classmethod
    def of(
        cls, cfg: DictConfig, codec: Codec, lm: Callable[[], nn.Module], trajectories: Sequence[Trajectory] = ()
    ) -> "Materials":
        """Add the settings that the stages of a configuration share."""
        task = cfg.task
        return cls(
            codec, lm, trajectories, cfg.seed, task.memory, task.max_new_tokens, cfg.model, cfg.hardware, cfg.training
        )

    def under(self, cfg: DictConfig) -> "Materials":
        """Return the same tokenizer, model and data with the settings of another configuration."""
        return replace(Materials.of(cfg, self.codec, self.lm, self.trajectories), folders=self.folders)

    def with_weights(self, folder: Path) -> "Materials":
        """Return the same materials with the exported model of a folder as the initial one."""
        path, lora = str(folder.resolve()), self.model.get("lora")
        return replace(self, lm=partial(loading.pretrained, self.codec, path=path, lora=lora))


def build_materials(cfg: DictConfig, task: Task) -> Materials:
    """Build the tokenizer and the factory of the initial model, and check that the tokenizer can write the task.

    Args:
        cfg: the configuration of the run.
        task: its task.

    Raises:
        ConfigError: the tokenizer cannot be built, or lacks characters that the task uses.
    """
    trajectories = evenly(task.dataset.trajectories, cfg.training.limits.trajectories)
    texts = [turn.text for trajectory in trajectories for turn in trajectory.turns]
    with config_errors("model.tokenizer"):
        codec = instantiate(cfg.model.tokenizer)(texts)
    with config_errors("model"):
        codec.check(sorted(set(texts)))
    return Materials.of(cfg, codec, partial(initial_model, cfg.model.lm, codec), trajectories)


def initial_model(settings: DictConfig, codec: Codec) -> nn.Module:
    """Build the language model that training begins with.

    Raises:
        ConfigError: a value of `model.lm` is wrong, or does not fit the tokenizer.
    """
    with config_errors("model.lm"):
        return instantiate(settings)(codec)


def evenly(trajectories: Sequence[Trajectory], limit: int | None) -> Sequence[Trajectory]:
    """Return at most `limit` trajectories, spread evenly over all of them; `None`: all."""
    if limit is None or limit >= len(trajectories):
        return trajectories
    return [trajectories[place * len(trajectories) // limit] for place in range(limit)]
