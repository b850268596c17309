"""Recorded runs: finding them, changing their configuration, and comparing what they logged."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from omegaconf import DictConfig, OmegaConf
from test_run import SMOKE, command, run_folder
from worlds import disturb, save_pretrained_model

from lmrl.config.checks import ConfigError
from lmrl.config.compose import compose_run
from lmrl.experiment.again import first_difference, replay
from lmrl.experiment.materials import build_materials
from lmrl.experiment.modes import dispatch
from lmrl.experiment.reload import trained_policy
from lmrl.experiment.stage import TOKENIZER, build_stage
from lmrl.experiment.task import load_task
from lmrl.exported import write_player
from lmrl.policies.core import Request
from lmrl.policies.decoding import Decoding
from lmrl.runs.provenance import PROVENANCE, describe, differences
from lmrl.runs.recorded import changed_config, changed_values, run_config
from lmrl.text.trajectory import Turn
from lmrl.tracking.find import find_run

OVERRIDES = ["task=maze", "algo=ilql", "algo.module.beta=3", "hardware=cpu", "tracking.max_traces=7"]


def record(cfg: DictConfig, folder: Path, overrides: Sequence[str] = ()) -> None:
    """Write the two files that a run begins with."""
    choices = dict(text.split("=") for text in OVERRIDES[:2])
    written = describe(overrides=overrides, choices=choices, env_version="1", dataset="d")
    (folder / PROVENANCE).write_text(json.dumps(written))
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of which only its beginning is there."""
    place = tmp_path / "runs" / "maze" / "ilql" / "run"
    place.mkdir(parents=True)
    cfg = compose_run(OVERRIDES)
    cfg.algo.module.expectile = 0.77  # as if conf/ had said so at that time
    record(cfg, place, OVERRIDES)
    return place


def refused(*arguments: str, capsys: pytest.CaptureFixture) -> str:
    assert dispatch(lambda: pytest.fail("this trains nothing"), arguments) == 1
    return capsys.readouterr().err


def test_without_changes_the_recorded_configuration_counts(folder: Path) -> None:
    assert changed_config(folder, []) == run_config(folder)


def test_changes_change_what_they_name_and_nothing_else(folder: Path) -> None:
    changed = changed_config(folder, ["evaluation.episodes=7", "tracking=none"])
    recorded = run_config(folder)
    assert changed.tracking == {"_target_": "lmrl.tracking.core.NoTracker"}
    assert (changed.evaluation.episodes, changed.algo.module.expectile, changed.algo.module.beta) == (7, 0.77, 3)
    recorded.evaluation.episodes, recorded.tracking = 7, changed.tracking
    assert changed == recorded


def test_a_change_to_the_current_default_is_a_change(folder: Path) -> None:
    default = compose_run(OVERRIDES).algo.module.expectile
    assert changed_config(folder, [f"algo.module.expectile={default}"]).algo.module.expectile == default != 0.77
    recorded = run_config(folder)
    recorded.evaluation.episodes = 8  # as if conf/ had said so
    OmegaConf.save(recorded, folder / "config.yaml")
    assert changed_config(folder, ["evaluation.episodes=null"]).evaluation.episodes is None


def test_another_partner_replaces_the_recorded_one_as_a_whole(tmp_path: Path) -> None:
    overrides = ["task=twenty_questions", "algo=bc"]
    record(compose_run(overrides), tmp_path, overrides)
    changed = changed_config(tmp_path, ["partner=endpoint", "partner.endpoint.model=m"])
    assert changed.task.env.partner._target_ == "lmrl.partners.partners.EndpointPartner"
    assert changed.task.env.partner.endpoint.model == "m"
    assert "noise" not in changed.task.env.partner


def test_differences_are_found_at_any_depth() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": {"_target_": "x", "e": 1}, "f": 0, "g": None}
    after = {"a": {"b": 1, "c": 3}, "d": {"_target_": "y"}, "g": None, "h": {"i": 1}}
    assert changed_values(before, after) == {"a.c": 3, "d": {"_target_": "y"}, "f": None, "h": {"i": 1}}
    assert changed_values(before, before) == {}


def test_runs_of_another_version_are_refused_in_one_line(folder: Path, capsys: pytest.CaptureFixture) -> None:
    written = json.loads((folder / PROVENANCE).read_text())
    del written["format"]
    (folder / PROVENANCE).write_text(json.dumps(written))
    for mode in ("eval", "replay"):
        message = refused(f"mode={mode}", f"run={folder}", capsys=capsys)
        assert f"{folder} was written by another version of lmrl" in message
        assert len(message.splitlines()) == 1
    (folder / PROVENANCE).unlink()
    assert "another version of lmrl" in refused("mode=eval", f"run={folder}", capsys=capsys)


def test_mistakes_are_reported_in_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "mode=evla is unknown (did you mean eval?)" in refused("mode=evla", f"run={folder}", capsys=capsys)
    assert "need run=FOLDER" in refused("mode=eval", "task=maze", capsys=capsys)
    assert "need run=FOLDER" in refused(f"run={folder}", "task=maze", capsys=capsys)
    assert "no config.yaml in it" in refused("mode=eval", f"run={tmp_path}", capsys=capsys)
    assert "takes only key=value, not -m" in refused("mode=eval", f"run={folder}", "-m", capsys=capsys)
    assert "evaluation.repeats" in refused("mode=eval", f"run={folder}", "evaluation.repeats=0", capsys=capsys)
    assert "evaluatoin" in refused("mode=eval", f"run={folder}", "evaluatoin.repeats=1", capsys=capsys)
    assert "has no checkpoint yet" in refused("mode=eval", f"run={folder}", capsys=capsys)
    assert "is not a finished run" in refused("mode=replay", f"run={folder}", capsys=capsys)


def exported(module: Any, folder: Path) -> None:
    """Export a policy as a run does."""
    module.export(folder)
    write_player(folder, module, task="maze", memory=1)


def test_a_policy_is_reloaded_however_it_acts(compose: Callable, data_dir: Path, tmp_path: Path) -> None:
    """Also with a decoding that its method refuses to learn from."""
    cfg = compose("task=maze", "algo=ppo", f"data_dir={data_dir}", "task.dataset.recipe.trajectories=3")
    materials = build_materials(cfg, load_task(cfg.task))
    module, _ = build_stage(cfg.algo, materials)
    exported(module, tmp_path / "policy")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": module.state_dict(), "global_step": 0}, tmp_path / "checkpoints" / "latest.ckpt")
    for changes in (["+algo.decoding.retry=false"], ["evaluation.decoding={retry: false}"]):
        record(compose("task=maze", "algo=ppo", *changes), tmp_path)
        policy: Any = trained_policy(tmp_path)
        assert policy.decoding == Decoding(retry=False)
    proposals = "+algo.module.rerank={proposals: [up, down], temperature: 0.0}"
    record(compose("task=maze", "algo=ppo", proposals), tmp_path)
    history = (Turn("The goal is at 8, 6. Your current position is at 1, 1.\n", is_action=False),)
    assert trained_policy(tmp_path).act([Request(history, seed=0)])[0].text in ("up", "down")


def test_a_run_that_was_ended_while_it_exported_is_played_from_its_checkpoint(
    compose: Callable, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cfg = compose("task=maze", "algo=bc", f"data_dir={data_dir}", "task.dataset.recipe.trajectories=3")
    module, _ = build_stage(cfg.algo, build_materials(cfg, load_task(cfg.task)))
    module.codec.tokenizer.save_pretrained(tmp_path / "checkpoints" / TOKENIZER)
    module.lm.config.save_pretrained(tmp_path / "checkpoints" / TOKENIZER)
    torch.save({"state_dict": module.state_dict(), "global_step": 7}, tmp_path / "checkpoints" / "latest.ckpt")
    record(cfg, tmp_path)
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "model.safetensors").write_bytes(b"half")
    request = [Request((Turn("The goal is at 8, 6. Your current position is at 1, 1.\n", is_action=False),), seed=0)]
    assert trained_policy(tmp_path).act(request) == module.eval().policy().act(request)
    assert "has not finished its training: its policy is that of step 7 (latest.ckpt)" in capsys.readouterr().err


@pytest.mark.parametrize("lora", [[], ["model.lora={r: 2}"]], ids=["whole", "lora"])
def test_a_finished_run_needs_its_base_model_no_more(
    compose: Callable, data_dir: Path, tmp_path: Path, lora: list[str]
) -> None:
    base = save_pretrained_model(tmp_path / "base", "gpt2")
    said = ["task=maze", "algo=bc", "model=hub", f"model.path={base}", "task.max_new_tokens=4", "task.memory=1", *lora]
    cfg = compose(*said, f"data_dir={data_dir}", "task.dataset.recipe.trajectories=3")
    module, _ = build_stage(cfg.algo, build_materials(cfg, load_task(cfg.task)))
    folder = tmp_path / "run"
    exported(module, folder / "policy")
    (folder / "checkpoints").mkdir()
    disturb(module)  # the weights of the checkpoint are not those of the base
    torch.save({"state_dict": module.state_dict(), "global_step": 0}, folder / "checkpoints" / "latest.ckpt")
    record(cfg, folder)
    request = [Request((Turn("The goal is at 8, 6. Your current position is at 1, 1.\n", is_action=False),), seed=0)]
    expected = module.eval().policy().act(request)
    shutil.rmtree(base)
    assert trained_policy(folder).act(request) == expected


def test_help_names_every_choice(capsys: pytest.CaptureFixture) -> None:
    assert dispatch(lambda: pytest.fail("this trains nothing"), ["--help"]) == 0
    said = capsys.readouterr().out
    assert "mode=eval run=RUN" in said
    for path in [*ROOT.glob("conf/task/*.yaml"), *ROOT.glob("conf/algo/*.yaml")]:
        assert f" {path.stem}" in said


def test_an_unknown_id_names_the_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not in sqlite:///.*tracking\.tracking_uri"):
        find_run("0" * 32, f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == [], "looking for a run makes no store"


def test_differences_that_may_change_numbers_are_listed() -> None:
    now = describe(overrides=[], choices={}, env_version="2", dataset="")
    before = {**now, "versions": {**now["versions"], "torch": "1.0"}, "env_version": "1", "git_commit": "0" * 40}
    said = differences(before, now)
    assert f"torch 1.0, now {now['versions']['torch']}" in said
    assert "environment 1, now 2" in said
    assert any(line.startswith("code 000000000000, now ") for line in said)
    assert differences(now, now) == []


def test_the_first_difference_is_found_and_timings_are_ignored() -> None:
    rows = [{"step": 1, "loss": float("nan"), "tokens_per_second": 5.0}, {"step": 2, "loss": 0.1}]
    assert first_difference(rows, [{**rows[0], "tokens_per_second": 9.0}, rows[1]]) is None
    assert first_difference(rows, [rows[0], {"step": 2, "loss": 0.1000001}]) == (
        "row 2 (step 2): loss was 0.1, is 0.1000001"
    )
    assert first_difference([{"step": 1, "loss": None}], [{"step": 1, "loss": None}]) is None
    assert first_difference([{"step": 1, "loss": None}], [{"step": 1}]) == ("row 1 (step 1): loss was null, is absent")
    assert first_difference([{"step": 1, "loss": 2.0}], [{"step": 1, "loss": float("inf")}]) == (
        "row 1 (step 1): loss was 2.0, is Infinity"
    )
    assert first_difference(rows, rows[:1]) == "there were 2 rows, there are 1"


@pytest.mark.slow
def test_a_replay_gives_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    done = command(tmp_path, "task=maze", "algo=ppo", *SMOKE, "algo.prior.steps=20", "tracking=none")
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path)
    replayed = [sys.executable, "run.py", "mode=replay", f"run={folder}"]
    again = subprocess.run(replayed, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "metric rows are identical" in again.stdout
    assert "the reported evaluation, exactly: 25 of 25 episodes" in again.stdout
    replay(folder, ["algo.lr_scale=0.1"])
    assert "NOT the same metrics: row" in capsys.readouterr().out
