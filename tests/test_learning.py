"""Slow: learned values and policies agree with exact solutions of a small maze, by numbers of optimizer steps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl

from lmrl.envs.maze import Maze, optimal_values
from lmrl.experiment import build_materials, load_task
from lmrl.figures.draw import Explain
from lmrl.prior import find_or_train, from_folder
from lmrl.training import build_stage, fit

pytestmark = pytest.mark.slow
GAMMA = 0.9


def train(compose: Callable, folder: Path, algo: str, *overrides: str, trajectories: list | None = None) -> tuple:
    """Train an algorithm on the 7 cells of the u-shaped maze; returns its values and its probabilities of moves."""
    cfg = compose(
        "task=maze", f"algo={algo}", "task.env.layout=umaze", "task.dataset.recipe.trajectories=400", "hardware=cpu",
        f"task.gamma={GAMMA}", f"data_dir={folder / 'data'}", "algo.prior.steps=200", *overrides,
    )  # fmt: skip
    pl.seed_everything(0, verbose=False)
    task = load_task(cfg)
    if trajectories is not None:
        task.dataset.trajectories[:] = trajectories
    materials = build_materials(cfg, task)
    prior = find_or_train(cfg, f"umaze-{algo}", materials, task.dataset.fingerprint)
    module, datamodule = build_stage(cfg, cfg.algo, from_folder(materials, prior, cfg))
    fit(cfg, cfg.algo, module, datamodule, name=algo, folder=folder)
    env = Maze(layout="umaze")
    cells = [cell for cell in env.layout.free if cell != env.layout.goal]
    texts = [env.reset(seed=0, options={"init_position": cell})[0] for cell in cells]
    probabilities, values = Explain(module.eval(), env.legal_actions())(texts)
    return cells, probabilities, values, optimal_values("umaze", gamma=GAMMA), env.legal_actions()


def greedy_share(cells: list, probabilities: np.ndarray, exact, moves) -> float:
    chosen = [moves[i] for i in probabilities.argmax(1)]
    return float(np.mean([move in exact.greedy[cell] for cell, move in zip(cells, chosen, strict=True)]))


def test_ilql_finds_the_optimal_values_and_policy(compose: Callable, tmp_path: Path) -> None:
    cells, probabilities, values, exact, moves = train(
        compose, tmp_path, "ilql", "algo.module.expectile=0.99", "algo.module.cql_weight=0.001", "algo.steps=1200",
        "algo.module.monte_carlo_steps=200",
    )  # fmt: skip
    assert greedy_share(cells, probabilities, exact, moves) == 1.0
    # An expectile of .99 and a conservative weight of .001 leave a bias of a few per cent of the span of V (about 4).
    np.testing.assert_allclose(values, [exact.values[cell] for cell in cells], atol=0.35)


def test_monte_carlo_returns_on_optimal_data_are_the_optimal_values(compose: Callable, tmp_path: Path) -> None:
    from lmrl.envs.maze import OptimalPlayer
    from lmrl.evaluation import evaluation_starts
    from lmrl.rollout import rollout

    def make_env() -> Maze:
        return Maze(layout="umaze")

    best = rollout(make_env, OptimalPlayer(layout="umaze"), evaluation_starts(make_env, 20, 0), memory=1)
    cells, probabilities, _, exact, moves = train(
        compose, tmp_path, "mc_returns", "algo.steps=600", "algo.module.cql_weight=0", trajectories=best
    )
    assert greedy_share(cells, probabilities, exact, moves) == 1.0
