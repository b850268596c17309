"""What is wrong with a run and needs no torch to be known is told before torch is imported, in one sentence."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import names
from hydra.utils import instantiate

from lmrl.config.checks import ConfigError, expand_home
from lmrl.config.compose import at_home, compose_run
from lmrl.config.mistakes import in_our_words, slip
from lmrl.experiment import preflight
from lmrl.experiment.modes import _check_changes
from lmrl.system import equipment

CHOICES = {"task": "maze", "algo": "bc"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of two cores without a GPU, on which no launcher started this process."""
    for name in ("LOCAL_RANK", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(preflight, "cores", lambda: 2)
    monkeypatch.setattr(preflight, "visible_devices", list)
    monkeypatch.setattr(preflight, "has_other_gpus", lambda: False)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hardware.devices=99", "hardware.devices=99, but this machine has 2 cores and no GPU"),
        ("hardware.devices=[0,1]", "hardware.devices=[0, 1] must be different numbers of GPUs"),
        ("hardware=gpu", "hardware.accelerator=gpu needs a GPU, and there is none here"),
        ("hardware=fsdp", "hardware.strategy=fsdp needs a GPU, and there is none here: hardware=fsdp2"),
        ("hardware.accelerator=tpu", "hardware.accelerator must be"),
        ("hardware.precision=foo", "hardware.precision must be"),
        ("hardware.precision=bf16-true", "hardware.precision=bf16-true keeps the weights themselves in 16 bits"),
        ("hardware.strategy=foo", "hardware.strategy must be"),
        ("seed=99999999999", "seed must be less than 4294967296"),
        ("algo.gradient_clip=-1", "algo.gradient_clip must be greater than 0, got -1"),
        ("task.score.max=-200", "task.score: score anchors must grow"),
        ("model.lm.heads=7", "model.lm.width=64 must be a multiple of model.lm.heads=7"),
        ("task.dataset.folder=/nowhere", "task.dataset.folder=/nowhere: there is no such folder"),
        ("runs_dir=/proc/nowhere", "runs_dir=/proc/nowhere cannot be written to"),
        ("data_dir=/proc/nowhere", "data_dir=/proc/nowhere cannot be written to"),
        ("resume=true", "resume=true: no run of this configuration was started"),
    ],
)
def test_each_mistake_is_reported_with_its_key(
    compose: Callable, tmp_path: Path, machine: None, override: str, said: str
) -> None:
    folders = [f"data_dir={tmp_path}", f"runs_dir={tmp_path}/runs"]
    overrides = [*(one for one in folders if one.split("=")[0] != override.split("=")[0]), override]
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        preflight.preflight(compose("task=maze", "algo=bc", *overrides), CHOICES)


def test_a_model_folder_must_be_there(compose: Callable, tmp_path: Path, machine: None) -> None:
    folders = [f"data_dir={tmp_path}", f"runs_dir={tmp_path}"]
    with pytest.raises(ConfigError, match="there is no such folder"):
        preflight.preflight(compose("task=maze", "algo=bc", "model=hub", "model.path=/nowhere", *folders), CHOICES)
    with pytest.raises(ConfigError, match=r"HF_HUB_OFFLINE=1 .* model=hub model\.path=FOLDER"):
        preflight.preflight(compose("task=maze", "algo=bc", "model=hub", "model.path=no/such", *folders), CHOICES)


@pytest.mark.parametrize("task", [name for name in names("task") if name not in ("chess", "endgames")])
def test_a_shorter_environment_needs_no_second_value(compose: Callable, task: str) -> None:
    cfg = compose(f"task={task}", "algo=bc")
    for key in ("max_steps", "max_turns", "questions"):
        if key in cfg.task.env:
            cfg.task.env[key] = 5
    instantiate(cfg.task.dataset.recipe)


@pytest.mark.parametrize("folder", ["Ünïcode dir", "a%20b", "a?b", "a#b"])
def test_home_is_found_wherever_a_file_or_folder_is_named(
    compose: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / folder))
    paths = ("data_dir=~/data", "tracking.artifacts=~/art", "task.dataset.folder=~/own")
    cfg = compose("task=maze", "algo=bc", *at_home(paths), "tracking.tracking_uri='sqlite:///~/m.db'")
    expand_home(cfg)
    home = tmp_path / folder
    assert (cfg.data_dir, cfg.tracking.artifacts) == (f"{home}/data", f"{home}/art")
    assert (cfg.task.dataset.folder, cfg.tracking.tracking_uri) == (f"{home}/own", f"sqlite:///{home}/m.db")


def test_the_users_own_threads_are_respected() -> None:
    assert equipment.own_threads({"OMP_NUM_THREADS": "3"}) == 3
    assert equipment.own_threads({"OMP_NUM_THREADS": "3", "LMRL_THREADS": "3"}) is None
    assert equipment.own_threads({}) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tsk=maze"], "tsk=maze: there is no setting 'tsk' (did you mean task?)"),
        (["task=maze", "task=wordle"], "task=maze and task=wordle: task is given twice"),
        (["--seed", "1"], "--seed: settings are written as key=value, without dashes, as in seed=1"),
        (["task=maze", "hydra.mode=RUN", "+algo.decoding.top_p=0.9", "~validation", "-m"], None),
    ],
)
def test_slips_of_the_command_line(arguments: list[str], said: str | None) -> None:
    found = slip(arguments)
    assert found == said if said is None or found is None else found.startswith(said)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=maze", "algo=iqll"], "algo=iqll: there is no such choice (did you mean ilql?); choose one of archer"),
        (["task=maze"], "algo=NAME is missing; choose one of archer"),
        (
            ["task=maze", "algo=ilql", "algo.module.bta=1"],
            "algo.module.bta: there is no such setting (did you mean beta?)",
        ),
    ],
)
def test_hydras_errors_are_reported_in_plain_words(overrides: list[str], said: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever Hydra raises
        compose_run(overrides)
    told = in_our_words(caught.value, Path(__file__).parents[1] / "conf")
    assert told.startswith(said)
    assert "HYDRA_FULL_ERROR" not in told
    assert "+algo" not in told


@pytest.mark.parametrize("change", ["task=wordle", "algo.steps=5", "training.env=null", "algo.prior.steps=1"])
def test_an_evaluation_cannot_change_the_training_of_its_run(change: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(change)}"):
        _check_changes([change])
    _check_changes(["evaluation.repeats=1", "algo.decoding.temperature=0.5", "seed=2", "task.env.max_steps=9"])
