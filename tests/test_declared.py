"""Every value of every file in `conf/` has a declared range, and what is outside of it is answered in one sentence."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import ROOT, names
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError

from lmrl.config.checks import ConfigError, check_config
from lmrl.config.declared import INSIDE, Block, Several
from lmrl.config.faults import declared, faults, known_signature
from lmrl.config.signatures import Part
from lmrl.config.types import is_simple

GROUPS = ("task", "algo", "partner", "model", "hardware", "tracking", "launcher", "experiment")
NEEDED = {
    "hub": ["model.path=somewhere"],
    "prompted": ["algo.policy.endpoint.model=somebody"],
    "local": ["partner.model=somewhere"],
    "endpoint": ["partner.endpoint.model=somebody"],
}
WRONG = (-1, 0, 10**30, 10**400, math.inf, math.nan, 0.5, True, "a text", "", None, [1, "a text"], {"a": 1})
OTHERS = ("task.partner_prompt.examples", "vars", "slurm_additional_parameters")
"""What is passed on as it stands, whatever it is."""


@pytest.fixture(scope="module")
def configurations(compose: Callable) -> list[dict[str, Any]]:
    """Configurations that have every choice of every group at least once, as plain values."""
    choices = {group: names(group) for group in GROUPS}
    found = []
    for index in range(max(map(len, choices.values()))):
        chosen = {group: known[index % len(known)] for group, known in choices.items() if group != "partner"}
        chosen["partner"] = {"car_dealer": "local", "guess_my_city": "endpoint"}.get(chosen["task"], "embedded")
        needed = [text for name in chosen.values() for text in NEEDED.get(name, ())]
        cfg = compose(*(f"{group}={name}" for group, name in chosen.items()), *needed)
        found.append(OmegaConf.to_container(cfg, resolve=True))
    return found


def places(configurations: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str, Any, Any]]:
    """Yield each key of the configurations once, or once for each thing that may be declared about it."""
    seen = set()
    for config in configurations:
        for key, value, kind in declared(config):
            if (key, str(kind)) not in seen:
                seen.add((key, str(kind)))
                yield config, key, value, kind


def put(config: dict[str, Any], key: str, value: Any) -> Any:
    """Put a value into a configuration, and return what was there."""
    *blocks, name = key.split(".")
    for block in blocks:
        config = config[block]
    before, config[name] = config[name], value
    return before


def admits(kind: Any, value: Any) -> bool:
    """Tell whether a declaration lets a value pass, as the library of types has it."""
    if isinstance(kind, Part | Block):
        return value is None and kind.optional
    if isinstance(kind, Several):
        return isinstance(value, str) and kind.or_text
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except (ValidationError, OverflowError):
        return False
    return True


def test_every_file_is_right_and_every_value_is_declared(configurations: list[dict[str, Any]]) -> None:
    undeclared = set()
    for config in configurations:
        assert not list(faults(config)), config["task"]["name"]
        for key, _, kind in declared(config):
            known = isinstance(kind, Part | Block | Several) or (kind is not Any and is_simple(kind))
            if not known and not any(other in key for other in OTHERS):
                undeclared.add(key)
    assert not undeclared


def test_every_wrong_value_of_every_key_has_one_sentence(configurations: list[dict[str, Any]]) -> None:
    count = 0
    for config, key, _, kind in places(configurations):
        for wrong in WRONG:
            before = put(config, key, wrong)
            said = list(faults(config))
            put(config, key, before)
            count += 1
            if isinstance(wrong, dict) and (isinstance(kind, Block) or getattr(kind, "target", None)):
                assert all(one.startswith(f"{key}.a") for one in said), (key, said)
            elif admits(kind, wrong):
                assert not said, (key, wrong, said)
            else:
                assert said, (key, wrong)
                for one in said:
                    assert one.startswith((f"{key} must be ", f"{key}[")), (key, wrong, one)
                    assert "\n" not in one
    assert count > 5_000


def test_no_number_is_without_end(configurations: list[dict[str, Any]]) -> None:
    """What would overflow, or fill the memory, far from where it was written is no value of any key."""
    for config, key, value, _ in places(configurations):
        if isinstance(value, int | float) and not isinstance(value, bool):
            for wrong in (10**30, 10**400, math.inf, -math.inf, math.nan, "many", True, [1]):
                before = put(config, key, wrong)
                if key.startswith("hardware.devices") and wrong == [1]:  # the numbers of GPUs
                    wrong = ["one"]
                    put(config, key, wrong)
                assert [said for said in faults(config) if said.startswith(f"{key} must be ")], (key, wrong)
                put(config, key, before)


PASSED = {"memory", "window", "max_new_tokens", "seed", "steps", "steps_per_epoch", "first_rounds", "lm", "params"}
"""Arguments that the program gives, and no file."""


def test_no_number_that_a_file_may_add_is_without_end(configurations: list[dict[str, Any]]) -> None:
    """As `+algo.module.head_bias=1e400`: what a constructor takes besides what the files list."""
    targets = {value["_target_"] for c in configurations for _, value, _ in declared(c) if is_object(value)}
    assert len(targets) > 50
    for target in sorted(target for target in targets if target.startswith("lmrl.")):
        signature = known_signature(target)
        assert signature is not None, target
        for name, kind in signature.parameters.items():
            kind = INSIDE.get((target, name), kind)
            if name not in PASSED and not isinstance(kind, Part) and is_simple(kind) and admits(kind, 7):
                assert not any(admits(kind, wrong) for wrong in (10**30, math.inf, math.nan)), f"{target}: {name}"


def is_object(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


SIGNED = ("published", "reward", "return", "score", "head_bias", "paper", "hardware.devices")
"""What may be negative: what is earned, and -1 for all GPUs."""


def test_only_what_is_earned_may_be_negative(configurations: list[dict[str, Any]]) -> None:
    for config, key, value, _ in places(configurations):
        if isinstance(value, int | float) and not isinstance(value, bool):
            before = put(config, key, -1)
            said = [one for one in faults(config) if one.startswith(f"{key} must be ")]
            put(config, key, before)
            assert said or any(part in key for part in SIGNED), key


@pytest.mark.parametrize("block", ["", "task", "algo", "algo.prior", "model", "hardware", "evaluation", "validation"])
def test_a_key_that_nobody_reads_is_refused(compose: Callable, block: str) -> None:
    name = f"{block}.stepz".lstrip(".")
    with pytest.raises(ConfigError, match=rf"^{name}: there is no such setting"):
        check_config(compose("task=maze", "algo=ilql", f"+{name}=3"))


def test_a_misspelt_key_is_told_the_right_one(compose: Callable) -> None:
    with pytest.raises(ConfigError, match=r"^algo\.stepz: there is no such setting \(did you mean steps\?\)$"):
        check_config(compose("task=maze", "algo=ilql", "+algo.stepz=3"))


def test_values_of_ones_own_have_a_place(compose: Callable) -> None:
    cfg = compose("task=maze", "algo=ilql", "+vars.long=7", "algo.steps=${vars.long}")
    check_config(cfg)
    assert cfg.algo.steps == 7


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_sweep_varies_is_declared(compose: Callable, path: Any) -> None:
    known = {key for key, _, _ in declared(OmegaConf.to_container(compose("task=maze", "algo=ilql"), resolve=True))}
    assert set(OmegaConf.load(path).hydra.sweeper.params) <= known
