"""Slow: learned values and policies agree with exact solutions of a small maze, by numbers of optimizer steps."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl

from lmrl.evaluation import evaluation_starts
from lmrl.experiment.earlier import StageStore, with_earlier_stages
from lmrl.experiment.materials import build_materials
from lmrl.experiment.stage import build_stage, fit
from lmrl.experiment.task import load_task
from lmrl.figures.draw import Explain
from lmrl.rollout import rollout
from lmrl.tasks.maze.env import Maze, OptimalPlayer, optimal_values
from lmrl.text.trajectory import Turn

pytestmark = pytest.mark.slow
GAMMA = 0.9


def train(
    compose: Callable, folder: Path, algo: str, *overrides: str, trajectories: list | None = None
) -> SimpleNamespace:
    """Train an algorithm on the 7 cells of the u-shaped maze; returns its values and its probabilities of moves."""
    cfg = compose(
        "task=maze", f"algo={algo}", "task.env.layout=umaze", "task.dataset.recipe.trajectories=400", "hardware=cpu",
        f"task.gamma={GAMMA}", f"data_dir={folder / 'data'}", "algo.prior.steps=200", *overrides,
    )  # fmt: skip
    pl.seed_everything(0, verbose=False)
    task = load_task(cfg.task)
    if trajectories is not None:
        task.dataset.trajectories[:] = trajectories
    store = StageStore.of(cfg, f"umaze-{algo}", task.dataset.fingerprint)
    materials = with_earlier_stages(cfg.algo, store, build_materials(cfg, task))
    module, datamodule = build_stage(cfg.algo, materials)
    fit(cfg.algo, materials, module, datamodule, name=algo, folder=folder)
    env = Maze(layout="umaze")
    cells = [cell for cell in env.layout.free if cell != env.layout.goal]
    texts = [env.reset(seed=0, options={"init_position": cell})[0] for cell in cells]
    probabilities, values = Explain(module.eval(), env.legal_actions())(texts)
    exact, moves = optimal_values("umaze", gamma=GAMMA), env.legal_actions()
    states = module.sampler().states([(Turn(text, is_action=False),) for text in texts])
    return SimpleNamespace(
        cells=cells, probabilities=probabilities, values=values, exact=exact, moves=moves, module=module, states=states
    )


def greedy_share(learned: SimpleNamespace) -> float:
    chosen = [learned.moves[i] for i in learned.probabilities.argmax(1)]
    pairs = zip(learned.cells, chosen, strict=True)
    return float(np.mean([move in learned.exact.greedy[cell] for cell, move in pairs]))


def test_ilql_finds_the_optimal_values_and_policy(compose: Callable, tmp_path: Path) -> None:
    learned = train(
        compose,
        tmp_path,
        "ilql",
        "algo.module.expectile=0.99",
        "algo.module.cql_weight=0.001",
        "algo.steps=1200",
        "algo.module.monte_carlo_steps=200",
    )
    assert greedy_share(learned) == 1.0
    # An expectile of .99 and a conservative weight of .001 leave a bias of a few per cent of the span of V (about 4).
    np.testing.assert_allclose(learned.values, [learned.exact.values[cell] for cell in learned.cells], atol=0.35)


def test_monte_carlo_returns_on_optimal_data_are_the_optimal_values(compose: Callable, tmp_path: Path) -> None:
    def make_env() -> Maze:
        return Maze(layout="umaze")

    best = rollout(make_env, OptimalPlayer(layout="umaze"), evaluation_starts(make_env, 20, 0), memory=1)
    learned = train(compose, tmp_path, "mc_returns", "algo.steps=600", "algo.module.cql_weight=0", trajectories=best)
    assert greedy_share(learned) == 1.0
    q = learned.module.q(learned.states[1]).detach()
    ids = [learned.module.codec.encode(learned.exact.greedy[cell][0])[0] for cell in learned.cells]
    exact = [learned.exact.values[cell] for cell in learned.cells]
    # Actions of one token: the value of the best move's token is the cell's optimal value.
    np.testing.assert_allclose([float(row[i]) for row, i in zip(q, ids, strict=True)], exact, atol=0.1)
