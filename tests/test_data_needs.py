"""A method refuses data that it cannot learn from, before anything is imported and again where they meet."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar

import pytest
from omegaconf import OmegaConf

from lmrl.config.checks import ConfigError, check_config
from lmrl.config.data_needs import DataNeeds, data_faults
from lmrl.experiment.stage import build_stage
from lmrl.modules.ppo import PPO

TOP = "algo.datamodule.filter={_target_: lmrl.data.filters.TopFraction, fraction: 0.5}"
TURNS = "algo.datamodule.filter={_target_: lmrl.tasks.chess.checks.Checks}"
FIXED = ("~algo.datamodule", "+algo.datamodule={_target_: lmrl.datamodules.offline.OfflineDataModule, batch_size: 8}")
ONLINE = ("ppo", "grpo", "rloo")
REFUSED = [
    *((algo, ("algo.datamodule.capacity=30",), "algo.datamodule.capacity=30: ") for algo in ONLINE),
    *((algo, (TOP,), "algo.datamodule.filter: ") for algo in ONLINE),
    *((algo, FIXED, "algo.datamodule._target_=lmrl.datamodules.offline") for algo in ONLINE),
    *((algo, ("algo.datamodule.demonstrations=8",), "algo.datamodule.demonstrations=8: ") for algo in ONLINE),
    *((algo, ("algo.datamodule.group=4",), "algo.datamodule.group=4: ") for algo in ("grpo", "rloo")),
    *((algo, ("algo.datamodule.rollouts=30",), "algo.datamodule.group=8 must divide algo.datamodule.rollouts=30")
      for algo in ("grpo", "rloo")),
    ("ppo", ("algo.module.imitation_weight=0.1",), "algo.module.imitation_weight=0.1: there is nothing to imitate"),
    ("dpo", ("algo.datamodule.group_by=step",), "algo.datamodule.group_by=step: "),
    ("dpo", FIXED, "algo.datamodule.group_by=None: "),
    *((algo, (TURNS,), "algo.datamodule.filter=lmrl.tasks.chess.checks.Checks: ") for algo in
      ("dpo", "rcbc", "ilql", "cql", "mc_returns", "awr", "offline_archer", "archer")),
]  # fmt: skip
ALLOWED = [
    ("ppo", ("algo.datamodule.demonstrations=8", "algo.module.imitation_weight=0.1", "algo.datamodule.group=4")),
    ("grpo", ("algo.module.group=4",)),
    ("online_filtered_bc", ("algo.datamodule.capacity=300", "algo.datamodule.demonstrations=8")),
    ("archer", (TOP, "algo.datamodule.demonstrations=8", "algo.datamodule.group=4")),
    ("dpo", (TOP,)),
    ("bc", (TURNS,)),
]


@pytest.mark.parametrize(("algo", "overrides", "message"), REFUSED)
def test_what_a_method_cannot_learn_from_is_refused(
    compose: Callable, algo: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}") as caught:
        check_config(compose("task=maze", f"algo={algo}", *overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("algo", "overrides"), ALLOWED)
def test_what_a_method_can_learn_from_is_allowed(compose: Callable, algo: str, overrides: tuple[str, ...]) -> None:
    check_config(compose("task=maze", f"algo={algo}", *overrides))


def test_an_earlier_stage_is_named(compose: Callable) -> None:
    """`algo.prior` of AWR is behaviour cloning, which learns from turns; its critic is not."""
    turns = TURNS.partition("filter=")[2]
    check_config(compose("task=maze", "algo=awr", f"algo.prior.datamodule.filter={turns}"))
    with pytest.raises(ConfigError, match=r"^algo\.critic\.datamodule\.filter=.* ILQL learns from the returns"):
        check_config(compose("task=maze", "algo=awr", f"algo.critic.datamodule.filter={turns}"))


def test_the_method_itself_refuses_where_its_source_was_not_read(
    compose: Callable, first_episodes: SimpleNamespace
) -> None:
    cfg = compose("task=maze", "algo=ppo", "algo.datamodule.capacity=30")
    with pytest.raises(ConfigError, match=r"^algo\.datamodule\.capacity=30: PPO learns only from all episodes"):
        build_stage(cfg.algo, first_episodes.materials.under(cfg))


def test_a_method_inherits_what_it_needs() -> None:
    class Gentle(PPO):
        """A stranger's method."""

    class Other(DataNeeds):
        batches_by: ClassVar[str | None] = "anchor"

    data = OmegaConf.create({"rollouts": 8, "capacity": 4, "filter": None, "group_by": "pair"})
    assert [said.partition(":")[0] for said in data_faults(Gentle, {}, data)] == ["algo.datamodule.capacity=4"]
    assert [said.partition(":")[0] for said in data_faults(Other, {}, data)] == ["algo.datamodule.group_by=pair"]
