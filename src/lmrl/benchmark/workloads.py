"""The workloads of the training step: a model and its batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from lmrl.datamodules.sampling import EpochSampler, Rows
from lmrl.experiment.materials import Materials, build_materials
from lmrl.experiment.stage import build_stage
from lmrl.experiment.task import load_task
from lmrl.text.tokens import TokenTrajectory

GPT2_SMALL = {"model": {"lm": {"layers": 4, "width": 128, "heads": 4, "window": 2048}}}
"""The size at which other implementations were timed."""

BOOTSTRAP = {"algo": {"module": {"monte_carlo_steps": 0, "monte_carlo_decay": 0, "monte_carlo_share": 0.0}}}
"""From the first step on, critics bootstrap: that is the method of the paper, and all of its work."""


@dataclass(frozen=True)
class Workload:
    """One setting of the comparison."""

    name: str
    description: str
    """For the reader of the table."""
    module: Any
    batches: Sequence[Sequence[TokenTrajectory]]
    pad_id: int
    gradient_clip: float | None

    @property
    def tokens(self) -> int:
        """Real tokens of all batches as they were sampled: no padding, no successor states."""
        return sum(len(row.tokens) for batch in self.batches for row in batch)


def workloads(cfg: DictConfig, *, steps: int, quick: bool = False) -> list[Workload]:
    """Build all settings.

    Args:
        cfg: the configuration of a run with a method that has critics and targets (`algo=ilql`).
        steps: batches of each.
        quick: much smaller batches, to see that everything works.
    """
    cfg = changed(cfg, BOOTSTRAP)
    task = load_task(cfg.task)
    materials = build_materials(cfg, task)
    small = changed(cfg, GPT2_SMALL)
    small_materials = build_materials(small, task)
    size = 64 if quick else int(cfg.algo.datamodule.batch_size)
    few = 4 if quick else 32
    name = cfg.task.name
    sampled = f"{name}, {_memory(cfg.task.memory)}, as sampled"
    whole = changed(small, {"task": {"memory": None}})
    return [
        _from_task("default", f"{sampled}, batch {size}", cfg, materials, size, steps),
        _from_task("4x128", f"4 layers of 128, {sampled}, batch {few}", small, small_materials, few, steps),
        _from_task(
            "episodes", f"4 layers of 128, {name}, whole episodes, batch {few}", whole, small_materials, few, steps
        ),
        _random(
            "distinct",
            f"4 layers of 128, random texts, nothing to share, batch {few}",
            small,
            small_materials,
            few,
            steps,
        ),
    ]


def changed(cfg: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """Return a configuration with some values replaced."""
    merged = OmegaConf.merge(cfg, changes)
    assert isinstance(merged, DictConfig)
    return merged


def _memory(turns: int | None) -> str:
    return "whole episodes" if turns is None else f"memory {turns}"


def _build(cfg: DictConfig, materials: Materials) -> tuple[Any, Any]:
    """Build module and data."""
    module, datamodule = build_stage(cfg.algo, materials.under(cfg))
    _randomise(module)
    return module, datamodule


def _from_task(
    name: str, description: str, cfg: DictConfig, materials: Materials, batch_size: int, steps: int
) -> Workload:
    """Draw batches from the task's data exactly as training does."""
    module, datamodule = _build(cfg, materials)
    rows = Rows(module.prepare(datamodule.episodes()))
    sampler = EpochSampler(rows.token_lengths, batch_size=batch_size, batches=steps, seed=cfg.seed)
    batches = [rows[indices] for indices in sampler]
    return Workload(name, description, module, batches, materials.codec.pad_id, cfg.algo.gradient_clip)


def _random(
    name: str, description: str, cfg: DictConfig, materials: Materials, batch_size: int, steps: int
) -> Workload:
    """Make rows of random ids: no two are equal, and no state occurs twice."""
    module, _ = _build(cfg, materials)
    generator = np.random.default_rng(cfg.seed)
    low, high = 2, materials.codec.size

    def row() -> TokenTrajectory:
        state, action, after = (int(generator.integers(*span)) for span in ((24, 65), (2, 9), (24, 65)))
        length = state + action
        rewards = np.zeros(length, dtype=np.float32)
        rewards[-1] = -1.0
        return TokenTrajectory(
            tokens=generator.integers(low, high, length, dtype=np.int32),
            is_decision=np.arange(length) >= state,
            rewards=rewards,
            turn=(np.arange(length) >= state).astype(np.int32),
            successor=generator.integers(low, high, after, dtype=np.int32),
            terminated=False,
            is_known=True,
        )

    batches = [[row() for _ in range(batch_size)] for _ in range(steps)]
    return Workload(name, description, module, batches, materials.codec.pad_id, cfg.algo.gradient_clip)


@torch.no_grad()
def _randomise(module: Any) -> None:
    """Give heads and targets weights of their own: heads start at zero, where almost any two losses agree."""
    generator = torch.Generator().manual_seed(0)
    for network in (module.critic.q_heads, module.critic.v_head, module.target):
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.02)
