"""Which runs are the same experiment: the list of keys that do not change results, and what resuming looks for."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from omegaconf import OmegaConf, open_dict

from lmrl.config.checks import ConfigError
from lmrl.report.groups import settings_of
from lmrl.report.runs import Run
from lmrl.runs.folders import WITHOUT_EFFECT, config_hash, decisive, experiment_hash, flat, lies_in, open_run
from lmrl.runs.provenance import PROVENANCE, describe
from lmrl.sweeps.jobs import has_effect

EXPERIMENTS = {
    "guess_my_city ppo": ["partner=endpoint", "partner.endpoint.model=m", "+algo.datamodule.slots=8"],
    "maze prompted": ["algo.policy.endpoint.model=m"],
    "endgames ilql": [],
}


@pytest.fixture(scope="module", params=EXPERIMENTS)
def experiment(request: pytest.FixtureRequest, compose: Callable) -> Any:
    task, algo = request.param.split()
    return compose(f"task={task}", f"algo={algo}", *EXPERIMENTS[request.param])


def resolved(cfg: Any) -> dict[str, Any]:
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def other(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}x" if isinstance(value, str) else 7


def test_values_without_effect_change_no_digest_and_no_group(experiment: Any) -> None:
    config = resolved(experiment)
    digest, seen = config_hash(config), set()
    for key in [key for key, _ in flat(config) if lies_in(key, WITHOUT_EFFECT)]:
        changed = OmegaConf.create(config)
        with open_dict(changed):
            OmegaConf.update(changed, key, other(OmegaConf.select(changed, key)), force_add=True)
        assert config_hash(resolved(changed)) == digest, key
        seen |= {part for part in WITHOUT_EFFECT if lies_in(key, [part])}
        assert not has_effect(f"{key}=1")
    assert {"data_dir", "hardware", "task.dataset.workers", "evaluation.slots"} <= seen


def test_every_part_of_the_list_stands_in_a_configuration(compose: Callable) -> None:
    keys = {key for name, more in EXPERIMENTS.items() for key, _ in flat(resolved(
        compose(f"task={name.split()[0]}", f"algo={name.split()[1]}", *more)))}  # fmt: skip
    assert [part for part in WITHOUT_EFFECT if not any(lies_in(key, [part]) for key in keys)] == []


def test_everything_else_has_an_effect(experiment: Any) -> None:
    config = resolved(experiment)
    digest = config_hash(config)
    left = [key for key in decisive(config) if key.split(".")[0] in ("algo", "task", "seed", "model", "evaluation")]
    assert len(left) > 20
    for key in left:
        changed = OmegaConf.create(config)
        OmegaConf.update(changed, key, other(OmegaConf.select(changed, key)), force_add=True)
        assert config_hash(resolved(changed)) != digest, key


def test_another_data_folder_is_the_same_experiment(compose: Callable) -> None:
    """Values that refer to the folder follow it: the root of data, the cache of replies, and a dataset inside it."""
    said = ["task=car_dealer", "algo=bc", "partner=endpoint", "partner.endpoint.model=m"]
    one, two, elsewhere = (
        resolved(compose(*said, f"data_dir={place}", f"task.dataset.folder={folder}"))
        for place, folder in (("data", "data/mine"), ("/big/disk", "/big/disk/mine"), ("data", "/big/disk/mine"))
    )
    assert config_hash(one) == config_hash(two) != config_hash(elsewhere)


def test_a_report_groups_by_the_same_list(experiment: Any) -> None:
    config = resolved(experiment)
    run = Run("a", "a", "maze", "bc", "tiny", 0, "finished", "", {}, config, (), {})
    assert set(settings_of(run)) - {"(model)", "(dataset)"} == set(decisive(config)) - {"seed"}


def test_the_docs_name_the_same_keys() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text()
    table = page[page.index("These keys do not count") :]
    rows = re.findall(r"^\| [\w ]+ \| (.*) \|$", table, re.MULTILINE)
    named = [key for row in rows for key in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted(WITHOUT_EFFECT)


def test_resuming_lists_the_differences_from_the_newest_run(
    tmp_path: Path, compose: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("LMRL_RUN_DIR", raising=False)
    before, now = (resolved(compose("task=maze", "algo=bc", f"algo.steps={steps}")) for steps in (100, 120))
    folder = open_run(tmp_path, "maze", "bc", "maze-bc-s0-aaaaaa", resume=False, config=before)
    assert capsys.readouterr().err == ""
    OmegaConf.save(OmegaConf.create(before), folder / "config.yaml")
    with pytest.raises(ConfigError, match=f"; {folder} was written by another version of lmrl, such as 0.1"):
        open_run(tmp_path, "maze", "bc", "maze-bc-s0-bbbbbb", resume=True, config=now)
    (folder / PROVENANCE).write_text(json.dumps(describe(overrides=[], choices={}, env_version="1", dataset="")))
    with pytest.raises(ConfigError) as caught:
        open_run(tmp_path, "maze", "bc", "maze-bc-s0-bbbbbb", resume=True, config=now)
    assert str(caught.value).endswith(f"; the newest run, {folder.name}, differs in algo.steps (there 100, here 120)")
    open_run(tmp_path, "maze", "bc", "maze-bc-s0-aaaaaa", resume=False, config=before)
    assert f"note: {folder} is an unfinished run of this configuration; resume=true continues it" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "said", [["task=maze", "algo=ilql"], ["task=maze", "algo=prompted", "algo.policy.endpoint.model=m"]]
)
def test_seeds_of_one_experiment_have_one_digest(compose: Callable, said: list[str]) -> None:
    zero, one, other = (resolved(compose(*said, *more)) for more in (["seed=0"], ["seed=1"], ["task.memory=3"]))
    assert experiment_hash(zero) == experiment_hash(one) != experiment_hash(other)
    assert config_hash(zero) != config_hash(one)
