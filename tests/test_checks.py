"""What is wrong with a configuration is found before anything heavy is imported."""

import inspect
import math
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf
from pydantic import Field

from lmrl.config.checks import ConfigError, check_config, check_environments
from lmrl.config.faults import faults
from lmrl.config.signatures import signature_of
from lmrl.config.types import (
    Count,
    NonNegative,
    OpenShare,
    PathText,
    Positive,
    PositiveCount,
    PositiveShare,
    Share,
    checked,
    is_simple,
    objection,
)

ROOT = Path(__file__).resolve().parent.parent
TARGETS = sorted(
    {
        name
        for path in (ROOT / "conf").rglob("*.yaml")
        for name in re.findall(r"_target_: *\"?(lmrl\.[\w.]+)", path.read_text())
    }
)


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (1, Positive, None), (0, Positive, "must be greater than 0, got 0"),
        ("x", Positive, "must be a number, got 'x'"),
        (True, Positive, "must be a number, got True"), (math.inf, NonNegative, "must be a finite number, got inf"),
        (0, NonNegative, None), (0.5, Share, None), (2, Share, "must be at most 1, got 2"),
        (0, PositiveShare, "must be greater than 0, got 0"), (1, OpenShare, "must be less than 1, got 1"),
        (0, Count, None), (1.5, Count, "must be a whole number, got 1.5"),
        (0, PositiveCount, "must be at least 1, got 0"), (None, PositiveCount | None, None),
        (0, PositiveCount | None, "must be at least 1, got 0"), ("c", Literal["a", "b"], "must be 'a' or 'b', got 'c'"),
        (1, bool, "must be true or false, got 1"), (5, str, "must be a text, got 5"),
        ("a", list[str], "must be a list, got 'a'"), ([1, 2], list[int], None),
        (3, PathText | Path, "must be a text, got 3"),
    ],
)  # fmt: skip
def test_a_value_is_judged_by_its_type(value: Any, kind: Any, said: str | None) -> None:
    assert objection(value, kind) == said


def test_nothing_is_said_about_types_that_no_yaml_holds() -> None:
    assert is_simple(Annotated[float | int, Field(gt=0)] | None)
    assert is_simple(list[str] | None)
    assert not is_simple(Callable[[], int])
    assert not is_simple(list[OmegaConf])


def test_arguments_are_checked_in_python_too() -> None:
    class Thing:
        @checked
        def __init__(self, *, share: OpenShare, name: str = "a") -> None:
            self.share = share

    assert Thing(share=0.5).share == 0.5
    with pytest.raises(ValueError, match=r"^share of Thing must be less than 1, got 2$"):
        Thing(share=2)
    with pytest.raises(TypeError, match="sharing"):
        Thing(sharing=0.5)  # type: ignore[call-arg]


def parameters(function: Any) -> tuple[dict[str, Any], bool]:
    """Return what Python says of a target: its parameters' types, those handed to a base's `__init__` included."""
    owners = (
        [one for one in function.__mro__[:-1] if "__init__" in vars(one)] if isinstance(function, type) else [function]
    )
    found: dict[str, Any] = {}
    for owner in owners:
        init = inspect.unwrap(owner.__init__ if isinstance(owner, type) else owner)
        hints = typing.get_type_hints(init, include_extras=True)
        shown = inspect.signature(init).parameters.values()
        found = {
            one.name: hints.get(one.name) for one in shown if one.name != "self" and one.kind != one.VAR_KEYWORD
        } | found
        if not any(one.kind == one.VAR_KEYWORD for one in shown):
            return found, False
    return found, bool(owners)


@pytest.mark.parametrize("target", TARGETS)
def test_a_signature_read_from_the_source_is_the_real_one(target: str) -> None:
    signature = signature_of(target)
    assert signature is not None
    real = get_object(target)
    names, is_open = parameters(real)
    # What a base from elsewhere takes is not known before it is imported.
    has_foreign_base = isinstance(real, type) and not all(
        one.__module__.startswith("lmrl") for one in real.__mro__[:-1]
    )
    assert set(signature.parameters) == set(names)
    assert signature.is_open == is_open or (signature.is_open and has_foreign_base)
    for name, kind in signature.parameters.items():
        if kind is not None and is_simple(kind):
            assert objection_table(kind) == objection_table(names[name]), name


def objection_table(kind: Any) -> list[str | None]:
    return [objection(value, kind) for value in (None, True, -1, 0, 0.5, 1, 2, math.inf, "word", ["word"], {"a": 1})]


def test_signatures_know_what_methods_hand_on_to_their_base() -> None:
    ilql = signature_of("lmrl.modules.ilql.ILQL")
    assert ilql is not None
    assert not ilql.is_open
    assert {"expectile", "beta", "floor", "rerank"} <= set(ilql.parameters)


def test_each_mistake_is_named_by_its_key() -> None:
    module = {"_target_": "lmrl.modules.ilql.ILQL", "gamma": 2, "wings": 0.9, "beta": 1}
    config = {"algo": {"module": module, "prior": {"optimizer": {"_target_": "lmrl.models.optim.Muon", "momentum": 2}}}}
    assert list(faults(config)) == [
        "algo.module.gamma must be at most 1, got 2",
        "algo.module.wings: lmrl.modules.ilql.ILQL has no parameter 'wings'",
        "algo.prior.optimizer.momentum must be at most 1, got 2",
    ]


@pytest.mark.parametrize("target", ["torch.optim.SGD", "lmrl.modules.nothing.Nothing", "lmrl.modules.ilql.Nothing"])
def test_what_is_not_ours_or_not_there_is_left_to_hydra(target: str) -> None:
    assert list(faults({"algo": {"module": {"_target_": target, "anything": -1}}})) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("algo.steps=0", "algo.steps must be at least 1, got 0"),
        ("algo.steps=1.5", "algo.steps must be a whole number, got 1.5"),
        ("evaluation.checkpoint=first", "evaluation.checkpoint must be 'best' or 'latest', got 'first'"),
        ("resume=1", "resume must be true or false, got 1"),
        ("task.memory=0", "task.memory must be at least 1, got 0"),
        ("algo.prior.datamodule.batch_size=0", "algo.prior.datamodule.batch_size must be at least 1, got 0"),
        ("+algo.decoding.top_p=2", "algo.decoding.top_p must be at most 1, got 2"),
        ("model.lm.layers=two", "model.lm.layers must be a whole number, got 'two'"),
        ("algo.module.discount_per=word", "algo.module.discount_per must be 'token' or 'turn', got 'word'"),
        ("task.env.layout=spiral", "task.env: unknown maze layout 'spiral'"),
        ("+evaluation.env.wind=1", "evaluation.env.wind: lmrl.tasks.maze.env.Maze has no parameter 'wind'"),
    ],
)
def test_mistakes_have_one_sentence(compose: Callable, override: str, said: str) -> None:
    def check() -> None:
        cfg = compose("task=maze", "algo=ilql", override)
        check_config(cfg)
        check_environments(cfg)

    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        check()


def test_a_right_configuration_passes_and_composes_the_same(compose: Callable) -> None:
    cfg = compose("task=maze", "algo=ilql")
    before = OmegaConf.to_yaml(cfg)
    check_config(cfg)
    assert OmegaConf.to_yaml(cfg) == before


def test_checking_needs_neither_torch_nor_lightning() -> None:
    script = (
        "import sys, hydra, lmrl.config.checks\n"
        f"with hydra.initialize_config_dir({str(ROOT / 'conf')!r}, version_base='1.3'):\n"
        "    for task in ('maze', 'guess_my_city', 'wordle'):\n"
        "        cfg = hydra.compose('config', ['task=' + task, 'algo=ppo'])\n"
        "        lmrl.config.checks.check_config(cfg)\n"
        "        lmrl.config.checks.check_environments(cfg)\n"
        "print(sorted({'torch', 'pytorch_lightning', 'transformers', 'datasets', 'mlflow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
