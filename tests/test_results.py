"""The page of results is what its records give, and records are read from runs and checked field by field."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT, names


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_script", ROOT / "scripts" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results_script"] = module
    spec.loader.exec_module(module)
    return module


results = load()
FILES = sorted((ROOT / "results").glob("*/*/*.json"))
SUMMARY: dict[str, Any] = {
    "task": "maze", "algo": "ilql", "model": "tiny", "seed": 3, "status": "finished", "config_hash": "ab12cd34",
    "ended": "2026-12-01T14:10:50+00:00", "git_commit": "0123456789abcdef",
    "train": {"seconds": 61.4, "episodes": None, "environment_steps": None},
    "evaluation": {
        "return_mean": -7.25, "return_ci95": [-7.5, -7.0], "score": 99.5, "score_ci95": [99.0, 99.9],
        "success_rate": 1.0,
    },
}  # fmt: skip
PROVENANCE: dict[str, Any] = {"command": "python run.py task=maze algo=ilql seed=3", "changed": {}}


def run(folder: Path, summary: dict[str, Any] | None = None, provenance: dict[str, Any] | None = None) -> Path:
    """A run's folder with the files that a record is made of."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(SUMMARY | (summary or {})))
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE | (provenance or {})))
    return folder


def test_the_page_is_what_the_records_give() -> None:
    assert results.check() is None, "run `python scripts/results.py write`"


def test_a_changed_record_is_noticed_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    records = results.records()
    records[0].returns.mean += 1
    monkeypatch.setattr(results, "records", lambda: records)
    assert "python scripts/results.py write" in results.check()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT / "results").as_posix())
def test_a_record_stands_where_its_task_and_method_say(file: Path) -> None:
    record = results.read(file)
    assert (record.task, record.algo) == (file.parent.parent.name, file.parent.name)
    assert record.task in names("task")
    assert record.algo in names("algo")
    if record.command is not None:
        assert f"task={record.task}" in record.command
        assert f"algo={record.algo}" in record.command


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scroe": None}, "scroe: Extra inputs are not permitted"),
        ({"seeds": []}, "seeds: List should have at least 1 item"),
        ({"return": {"mean": "much", "low": None, "high": None}}, "return.mean: Input should be a valid number"),
        ({"command": 3}, "command: Input should be a valid string"),
    ],
)
def test_a_bad_record_is_reported_with_file_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = tmp_path / "0.json"
    file.write_text(json.dumps(json.loads(FILES[0].read_text()) | change))
    with pytest.raises(ValueError, match=r"0\.json: ") as caught:
        results.read(file)
    assert message in str(caught.value)


@pytest.mark.parametrize("field", ["task", "return", "command", "commit"])
def test_a_missing_field_is_reported_with_file_and_field(tmp_path: Path, field: str) -> None:
    file = tmp_path / "0.json"
    file.write_text(json.dumps({key: value for key, value in json.loads(FILES[0].read_text()).items() if key != field}))
    with pytest.raises(ValueError, match=rf"0\.json: {field}: Field required"):
        results.read(file)


def test_a_record_without_a_row_is_reported() -> None:
    records = results.records()
    maze = next(record for record in records if record.task == "maze")
    with pytest.raises(ValueError, match=r"page\.md\.j2 has no table with maze/prompted"):
        results.page([*records, maze.model_copy(update={"algo": "prompted"})])


def test_a_run_becomes_a_record_and_a_row(tmp_path: Path) -> None:
    file = results.add(run(tmp_path / "run"), tmp_path / "results")
    assert file == tmp_path / "results" / "maze" / "ilql" / "3.json"
    record = results.read(file)
    assert (record.returns.mean, record.success, record.time, record.commit) == (-7.25, 100.0, "61 s", "0123456")
    assert (record.variant, record.digest, record.measured) == ("", "ab12cd34", "2026-12-01")
    row = results.table([record], "maze").splitlines()[2]
    assert row.startswith("| `ilql` | 3 | -7.25 (-7.50, -7.00) | 99.5 (99.0, 99.9) | 100 % | 61 s | -6.97 | 99.9 |")


def test_another_configuration_has_a_record_of_its_own(tmp_path: Path) -> None:
    changed = run(tmp_path / "run", provenance={"changed": {"algo.module.beta": 8}})
    file = results.add(changed, tmp_path / "results")
    assert file.name == "3-ab12cd.json"
    assert results.read(file).variant == "algo.module.beta=8"


def test_another_model_has_a_record_and_a_column_of_its_own(tmp_path: Path) -> None:
    tiny = results.add(run(tmp_path / "tiny"), tmp_path / "results")
    large = results.add(run(tmp_path / "large", {"model": "gpt2", "config_hash": "cd34ef56"}), tmp_path / "results")
    assert (tiny.name, large.name) == ("3.json", "3-cd34ef.json")
    rows = results.table([results.read(tiny), results.read(large)], "maze").splitlines()
    assert [row.split(" | ")[1] for row in (rows[0], *rows[2:])] == ["model", "", "`gpt2`"]


def test_a_run_with_unknown_defaults_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="changed is null"):
        results.add(run(tmp_path / "run", provenance={"changed": None}), tmp_path / "results")


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ({"status": "interrupted"}, "the run is interrupted"),
        ({"evaluation": None}, "is not a finished run of this version"),
        ({"git_commit": "0123456789-dirty"}, "uncommitted changes of 0123456"),
    ],
)
def test_what_is_not_a_result_is_refused(tmp_path: Path, summary: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        results.add(run(tmp_path / "run", summary), tmp_path / "results")


def test_numbers_have_one_or_two_decimals() -> None:
    estimate = results.Estimate(mean=-9.99, low=-12.0, high=None)
    assert results.estimate(estimate) == "-9.99"
    assert results.estimate(results.Estimate(mean=-10.0, low=-10.9, high=-8.6)) == "-10.0 (-10.9, -8.6)"
