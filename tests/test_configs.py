"""Every configuration file composes: each choice of each group, each sweep, each tuned pair."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, names
from omegaconf import OmegaConf

from lmrl.config.checks import ConfigError, check_environments
from lmrl.experiment.materials import build_materials
from lmrl.experiment.stage import build_stage
from lmrl.experiment.task import Task, evaluation_decoding, load_task
from lmrl.policies.decoding import Decoding
from lmrl.policies.scripted import RandomPolicy
from lmrl.rollout import Start, rollout

GROUPS = ("task", "algo", "partner", "model", "hardware", "tracking", "launcher", "experiment", "debug")


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in names(group)])
def test_every_choice_composes(compose: Callable, group: str, name: str) -> None:
    chosen = {"task": "maze", "algo": "ilql"} | {group: name}
    needed = {
        "hub": ["model.path=somewhere"],
        "prompted": ["algo.policy.endpoint.model=somebody"],
        "local": ["partner.model=somewhere"],
        "endpoint": ["partner.endpoint.model=somebody"],
    }.get(name, [])
    cfg = compose(*(f"{key}={value}" for key, value in chosen.items()), *needed)
    assert OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


TUNED = sorted(path for path in (ROOT / "conf" / "tuned").glob("*/*.yaml") if path.stem != "clone")


@pytest.mark.parametrize("path", TUNED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_tuned_pair_is_found_by_its_name(compose: Callable, path) -> None:
    """The file's values are in force without being asked for, and its name is a real pair."""
    task, algo = path.parent.name, path.stem
    assert task in names("task")
    assert algo in names("algo")
    cfg = compose(f"task={task}", f"algo={algo}")
    tuned = OmegaConf.load(path)
    tuned.pop("defaults", None)
    assert OmegaConf.merge(cfg, tuned) == cfg


def test_a_clone_stands_beside_the_pairs_that_begin_with_it() -> None:
    clones = sorted((ROOT / "conf" / "tuned").glob("*/clone.yaml"))
    assert clones
    for path in clones:
        users = [other for other in path.parent.glob("*.yaml") if f"{path.parent.name}/clone@" in other.read_text()]
        assert users, path


@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sweep_overrides_what_exists(compose: Callable, path) -> None:
    cfg = compose("task=maze", "algo=ilql")
    sweep = OmegaConf.load(path)
    assert sweep.hydra.mode == "MULTIRUN"
    for key in sweep.hydra.sweeper.params:
        assert OmegaConf.select(cfg, key) is not None, key


def test_the_reported_evaluation_may_have_an_environment_of_its_own(compose: Callable, data_dir: Path) -> None:
    options = ["task=maze", "algo=bc", f"data_dir={data_dir}", "task.dataset.recipe.trajectories=3"]

    def loaded(*changes: str) -> Task:
        cfg = compose(*options, *changes)
        return load_task(cfg.task, cfg.evaluation.env)

    same = loaded()
    assert same.evaluation_env().settings == same.make_env().settings
    other = loaded("evaluation.env={layout: umaze}")
    assert (other.make_env().settings, other.evaluation_env().max_steps) == (same.make_env().settings, 100)
    assert other.evaluation_env().layout.rows != other.make_env().layout.rows
    with pytest.raises(ConfigError, match=r"evaluation\.env: .*maze: unknown layout|evaluation\.env: .*nowhere"):
        loaded("evaluation.env={layout: nowhere}")
    with pytest.raises(Exception, match="colour"):
        loaded("evaluation.env={colour: red}")


def test_methods_may_practise_in_another_environment(compose: Callable, data_dir: Path) -> None:
    """Only the episodes that are learned from differ; validation and report stay."""
    options = ["task=maze", "algo=ppo", f"data_dir={data_dir}"]
    cfg = compose(*options, "training.env={max_steps: 7}")
    task = load_task(cfg.task)
    materials = build_materials(cfg, task)
    _, datamodule = build_stage(cfg.algo, materials.under(cfg))
    [played] = rollout(datamodule._env, RandomPolicy(actions=["move up\n"]), [Start(seed=0)], memory=1)
    limits = (played.length - 1, task.make_env().max_steps, task.evaluation_env().max_steps)  # the last one ends it
    assert limits == (7, 100, 100)
    wrong = {"{max_steps: -7}": "max_steps must be at least 1", "{speed: 1}": "has no speed; it has layout"}
    for name, (changes, said) in itertools.product(("training.env", "training.first.env"), wrong.items()):
        cfg = compose(*options, f"{name}={changes}")
        with pytest.raises(ConfigError, match=rf"{re.escape(name)}: .*{said}"):
            build_stage(cfg.algo, materials.under(cfg))
    cfg = compose(*options, "training.env={max_steps: 7}", "training.first={rounds: 2, env: {max_steps: 3}}")
    _, datamodule = build_stage(cfg.algo, materials.under(cfg))
    limits = [datamodule.env_of_round(number)().max_steps for number in range(4)]
    assert limits == [3, 3, 7, 7]
    cfg = compose(*options, "training.env={max_steps: 7}", "training.first=null")
    check_environments(cfg)
    assert build_stage(cfg.algo, materials.under(cfg))[1].env_of_round(0)().max_steps == 7


@pytest.mark.parametrize("algo", ["ppo", "grpo", "rloo", "archer"])
def test_only_the_trained_policy_may_act_with_other_probabilities(compose: Callable, data_dir: Path, algo: str) -> None:
    """What a method cannot learn from ends the run before any training; how its policy plays then is free."""
    options = ["task=maze", f"algo={algo}", f"data_dir={data_dir}", "task.dataset.recipe.trajectories=3"]
    cfg = compose(*options)
    materials = build_materials(cfg, load_task(cfg.task))
    cfg = compose(*options, "+algo.decoding.top_k=3", "+algo.decoding.top_p=0.9")
    said = r"algo\.decoding\.top_k=3, algo\.decoding\.top_p=0\.9: .* evaluation\.decoding={top_k: 3, top_p: 0\.9}"
    with pytest.raises(ConfigError, match=said):
        build_stage(cfg.algo, materials.under(cfg))
    cfg = compose(*options, "evaluation.decoding={retry: false, temperature: 0, support: 0.1, top_k: 3, top_p: 0.9}")
    module, _ = build_stage(cfg.algo, materials.under(cfg))
    module.decoding = evaluation_decoding(cfg.algo.decoding, cfg.evaluation.decoding)
    assert module.sampler().decoding == Decoding(retry=False, temperature=0, support=0.1, top_k=3, top_p=0.9)
