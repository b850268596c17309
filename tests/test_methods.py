"""Slow: every method, as its YAML has it, learns to leave the small maze, in a number of optimizer steps.

A result is told as a share: 0 is what the data's policy earns, 1 what the best player earns.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
from conftest import trained

from lmrl.evaluation import evaluate, evaluation_starts
from lmrl.experiment.earlier import StageStore, with_earlier_stages
from lmrl.experiment.materials import build_materials
from lmrl.experiment.stage import build_stage, fit
from lmrl.experiment.task import load_task
from lmrl.tasks.maze.env import Maze, OptimalPlayer

pytestmark = pytest.mark.slow

LEAST = {
    "bc": -1.0, "filtered_bc": -1.8, "mc_returns": -0.4, "rcbc": -2.0, "dpo": -0.4,
    "ilql": 0.95, "cql": 0.95, "awr": 0.95, "offline_archer": 0.9,
    "ppo": 0.9, "online_filtered_bc": 0.5, "grpo": 0.85, "rloo": 0.75, "archer": 0.6,
}  # fmt: skip
"""What each method has to reach, somewhat below what seed 0 did: imitators the neighbourhood of the data (an untrained
model is at -14), those that learn from values or from their own play nearly the optimum."""

SHORTER = {
    "ilql": ["algo.steps=1200"],
    "cql": ["algo.steps=1200"],
    "awr": ["algo.critic.steps=1200"],
    "ppo": ["algo.steps=160", "algo.datamodule.rollouts=64"],
    "online_filtered_bc": ["algo.steps=160", "algo.datamodule.rollouts=64"],
    "grpo": ["algo.steps=160", "algo.datamodule.rollouts=64"],
    "rloo": ["algo.steps=80", "algo.datamodule.rollouts=64"],
    "archer": ["algo.steps=1200", "algo.datamodule.batch_size=256"],
}


def test_every_method_has_a_bar() -> None:
    assert set(LEAST) == set(trained())


@pytest.mark.parametrize("algo", LEAST)
def test_a_method_learns_to_leave_the_maze(compose: Callable, tmp_path: Path, algo: str) -> None:
    cfg = compose("task=maze", f"algo={algo}", "task.env.layout=umaze", "task.dataset.recipe.trajectories=400",
                  "hardware=cpu", "hardware.threads=1", f"data_dir={tmp_path}", *SHORTER.get(algo, []))  # fmt: skip
    pl.seed_everything(0, verbose=False)
    task = load_task(cfg.task)
    store = StageStore.of(cfg, "umaze", task.dataset.fingerprint)
    materials = with_earlier_stages(cfg.algo, store, build_materials(cfg, task))
    module, datamodule = build_stage(cfg.algo, materials)
    fit(cfg.algo, materials, module, datamodule, name=algo, folder=tmp_path)

    def make_env() -> Maze:
        return Maze(layout="umaze")

    starts = evaluation_starts(make_env, 30, 0)
    learned = evaluate(module.eval().policy(), make_env, starts, memory=1).summary(None)["return_mean"]
    best = evaluate(OptimalPlayer(layout="umaze"), make_env, starts, memory=1).summary(None)["return_mean"]
    data = task.dataset.statistics["empirical_policy_return"]
    share = (learned - data) / (best - data)
    print(f"{algo} reaches {share:.2f}")
    assert share >= LEAST[algo], f"{algo}: {learned:.2f}, between the data's {data:.2f} and the best, {best:.2f}"
    assert share < 1.05
