"""Trial runs: `experiment=smoke` and `debug=...` shorten every stage of every method, and change nothing else."""

from collections.abc import Callable

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from lmrl.config.checks import check_config
from lmrl.config.limits import stages
from lmrl.experiment.materials import evenly

TUNED = sorted((path.parent.name, path.stem) for path in (ROOT / "conf" / "tuned").glob("*/*.yaml"))
PAIRS = [("experiment=smoke", *pair) for pair in TUNED if pair[1] not in ("clone", "prompted")]
PAIRS += [(preset, "wordle", algo) for preset in ("debug=fdr", "debug=limit") for algo in ("ppo", "ilql", "awr")]
"""Pairs with tuned values, whose stages differ from those of `conf/algo`, and a few more."""


def limited(compose: Callable, *overrides: str):
    cfg = compose(*overrides)
    check_config(cfg)
    return cfg


@pytest.mark.parametrize(("preset", "task", "algo"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_every_stage_of_a_trial_run_is_short(compose: Callable, preset: str, task: str, algo: str) -> None:
    cfg = limited(compose, f"task={task}", f"algo={algo}", preset)
    most = cfg.training.limits
    for stage in stages(cfg.algo):
        assert stage.steps <= most.steps
        assert stage.steps_per_epoch <= most.steps_per_epoch
        assert (stage.datamodule.get("rollouts") or 0) <= most.rollouts
        assert (stage.datamodule.get("batch_size") or 0) <= most.batch_size
    assert cfg.evaluation.episodes <= 50
    assert cfg.validation.every_n_epochs == 1


def test_a_clone_of_a_clone_is_a_stage_too(compose: Callable) -> None:
    chess = compose("task=chess", "algo=ppo")
    assert [stage.steps for stage in stages(chess.algo)] == [560, 2000, 3500]
    cfg = limited(compose, "task=chess", "algo=ppo", "experiment=smoke")
    assert [stage.steps for stage in stages(cfg.algo)] == [20, 20, 20]


def test_a_limit_raises_nothing_and_fills_in_nothing(compose: Callable) -> None:
    whole = compose("task=maze", "algo=ppo")
    cfg = limited(compose, "task=maze", "algo=ppo", "training.limits={steps: 1000000, batch_size: 9999, rollouts: 500}")
    assert cfg.algo.datamodule.batch_size is None
    cfg.training.limits = whole.training.limits
    assert OmegaConf.to_container(cfg, resolve=True) == OmegaConf.to_container(whole, resolve=True)


def test_a_policy_without_training_has_nothing_to_shorten(compose: Callable) -> None:
    cfg = limited(compose, "task=maze", "algo=prompted", "algo.policy.endpoint.model=somebody", "experiment=smoke")
    assert "steps" not in cfg.algo
    assert cfg.evaluation.episodes == 32


@pytest.mark.parametrize(
    ("count", "limit", "kept"), [(5, None, [0, 1, 2, 3, 4]), (3, 9, [0, 1, 2]), (10, 4, [0, 2, 5, 7])]
)
def test_limited_data_are_spread_over_all_of_them(count: int, limit: int | None, kept: list[int]) -> None:
    assert list(evenly(list(range(count)), limit)) == kept
