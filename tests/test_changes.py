"""In what a run differs from the defaults of its task, method and model, and what may be compared with what."""

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lmrl.config.compose import compose_run
from lmrl.runs.provenance import provenance
from lmrl.runs.recorded import (
    changes_of,
    environment_changes,
    format_changes,
    is_comparable,
    record_beginning,
    run_config,
)

CHOICES = {"task": "maze", "algo": "ilql", "model": "tiny"}


def changes(*overrides, algo="ilql"):
    config = OmegaConf.to_container(compose_run(["task=maze", f"algo={algo}", *overrides]), resolve=True)
    return changes_of(config, CHOICES | {"algo": algo})


def test_the_defaults_of_a_task_and_method_are_no_changes():
    # The seed, places and hardware change no configuration, nor does a tuned file (conf/tuned/maze/bc.yaml).
    assert changes("seed=3", "data_dir=/tmp/x", "hardware=cpu", "tracking=none", "resume=true") == {}
    assert changes(algo="bc") == {}


def test_changes_of_the_command_line_are_listed_with_their_values():
    found = changes("algo.steps=100", "task.env.max_steps=20", "evaluation.env={reward:illegal_penalty}")
    assert found["algo.steps"] == 100
    assert found["task.env.max_steps"] == 20
    assert environment_changes(found) == {"task.env.max_steps": 20, "evaluation.env.reward": "illegal_penalty"}
    assert environment_changes(changes("algo.steps=100")) == {}
    # A key that is gone has no value any more.
    assert changes("~task.evaluation", "evaluation.repeats=32") == {"task.evaluation.repeats": None}


def test_a_value_that_must_be_named_has_no_default_to_differ_from():
    assert changes("algo.policy.endpoint.model=somebodys", algo="prompted") == {}
    assert changes("algo.policy.endpoint.model=somebodys", "algo.policy.format=plain", algo="prompted") == {
        "algo.policy.format": "plain"
    }


def test_another_partner_is_another_environment():
    overrides = ["task=car_dealer", "algo=bc", "partner=endpoint", "partner.endpoint.model=somebodys"]
    config = OmegaConf.to_container(compose_run(overrides), resolve=True)
    found = environment_changes(changes_of(config, {"task": "car_dealer", "algo": "bc", "model": "tiny"}))
    assert found["task.env.partner.endpoint.model"] == "somebodys"
    assert format_changes(found) == "partner=EndpointPartner, partner.endpoint.model=somebodys"


def test_changes_are_formatted_as_one_line():
    assert format_changes({}) == ""
    assert format_changes({"task.env.max_steps": 20, "evaluation.env": None}) == "max_steps=20, evaluation.env=null"
    assert format_changes({f"task.env.k{i}": True for i in range(6)}) == "k0=true, k1=true, k2=true, k3=true and 2 more"
    assert format_changes({"task.env.layout": "#" * 90}) == f"layout={'#' * 31}…"


def test_an_experiment_file_is_a_set_of_changes():
    found = changes("experiment=smoke")
    assert found["algo.steps"] == 20
    assert found["evaluation.repeats"] == 1
    assert environment_changes(found) == {}


def test_a_pair_that_cannot_be_composed_here_has_no_known_defaults():
    config = OmegaConf.to_container(compose_run(["task=maze", "algo=ilql"]), resolve=True)
    assert changes_of(config, CHOICES | {"task": "somebodys_own"}) is None
    assert changes_of(config, {"task": "maze"}) is None


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"kind": "run", "changed": {}}, True),
        ({"kind": "run", "changed": {"algo.steps": 100}, "choices": {"experiment": None}}, True),
        ({"kind": "run", "changed": {"algo.steps": 20}, "choices": {"experiment": "smoke"}}, False),
        ({"kind": "run", "changed": {}, "choices": {"debug": "limit"}}, False),
        ({"kind": "run", "changed": {}, "choices": {"debug": None}}, True),
        ({"kind": "run", "changed": {"task.env.max_steps": 20}}, False),
        ({"kind": "run", "changed": {"evaluation.env.opponent.skill": 5}}, False),
        ({"kind": "run", "changed": {"task.score.max": 5}}, False),
        ({"kind": "evaluation", "changed": {}}, False),
        ({"kind": "run", "changed": None}, True),
        ({}, True),
    ],
)
def test_trial_runs_evaluations_and_changed_tasks_are_not_comparable(record, expected):
    assert is_comparable(record) is expected


def test_a_program_that_hydra_runs_can_compose_another_configuration(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import hydra\nfrom hydra.core.hydra_config import HydraConfig\n"
        f"@hydra.main(version_base='1.3', config_path={str(Path('conf').resolve())!r}, config_name='config')\n"
        "def main(cfg):\n"
        "    from lmrl.runs.recorded import changes_of\n    from omegaconf import OmegaConf\n"
        "    choices = HydraConfig.get().runtime.choices\n"
        "    print(changes_of(OmegaConf.to_container(cfg, resolve=True), choices))\n"
        "    print(HydraConfig.get().runtime.choices.task)\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, program, "task=maze", "algo=bc", "algo.steps=7"],
        capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["{'algo.steps': 7}", "maze"]


def test_a_run_that_is_resumed_began_when_it_was_first_started(compose, tmp_path, monkeypatch):
    choices = {"task": "maze", "algo": "bc", "model": "tiny"}
    for day, steps in (("01", 5), ("02", 7)):
        monkeypatch.setattr("lmrl.runs.provenance.timestamp", lambda day=day: f"2026-01-{day}")
        cfg, typed = compose("task=maze", "algo=bc", f"algo.steps={steps}"), [f"algo.steps={steps}"]
        record_beginning(tmp_path, cfg, choices, typed, env_version="1", dataset="")
        assert run_config(tmp_path).algo.steps == steps
    found = provenance(tmp_path)
    assert (found["started"], found["overrides"], found["changed"]) == ("2026-01-01", typed, {"algo.steps": 7})
