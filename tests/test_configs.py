"""Every configuration file composes: each choice of each group, each sweep, each tuned pair."""

from collections.abc import Callable

import pytest
from conftest import ROOT, names
from omegaconf import OmegaConf

GROUPS = ("task", "algo", "model", "hardware", "tracking", "experiment")


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in names(group)])
def test_every_choice_composes(compose: Callable, group: str, name: str) -> None:
    chosen = {"task": "maze", "algo": "ilql"} | {group: name}
    needed = {"hub": ["model.path=somewhere"], "prompted": ["algo.policy.endpoint.model=somebody"]}.get(name, [])
    cfg = compose(*(f"{key}={value}" for key, value in chosen.items()), *needed)
    assert OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "tuned").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_tuned_pair_is_found_by_its_name(compose: Callable, path) -> None:
    """The file's values are in force without being asked for, and its name is a real pair."""
    pairs = {f"{task}_{algo}": (task, algo) for task in names("task") for algo in names("algo")}
    task, algo = pairs[path.stem]
    cfg = compose(f"task={task}", f"algo={algo}")
    tuned = OmegaConf.load(path)
    tuned.pop("defaults", None)
    assert OmegaConf.merge(cfg, tuned) == cfg


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sweep_overrides_what_exists(compose: Callable, path) -> None:
    cfg = compose("task=maze", "algo=ilql")
    sweep = OmegaConf.load(path)
    assert sweep.hydra.mode == "MULTIRUN"
    for key in sweep.hydra.sweeper.params:
        assert OmegaConf.select(cfg, key) is not None, key
