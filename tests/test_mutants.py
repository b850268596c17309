"""The table of mutants fits the source and the tests; scripts/mutants.py itself runs them, which takes minutes."""

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

FEWEST = 60


@pytest.fixture(scope="module")
def script() -> Any:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("mutants")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def test_every_mutant_changes_one_place_and_is_still_python(script: Any) -> None:
    mutants = script.read_table()
    assert len({mutant.name for mutant in mutants}) == len(mutants) >= FEWEST
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py"))]
    for mutant in mutants:
        found = [text for text in texts if mutant.code in text]
        places = sum(text.count(mutant.code) for text in found)
        assert places == 1, f"scripts/mutants.toml, {mutant.name}: its code is {places} times in src/"
        changed = ast.parse(found[0].replace(mutant.code, mutant.change))
        assert ast.dump(changed) != ast.dump(ast.parse(found[0])), f"{mutant.name} changes no code"


def test_every_mutant_names_tests_that_exist(script: Any) -> None:
    for mutant in script.read_table():
        assert mutant.tests, f"{mutant.name} names no test"
        assert script.files_of(mutant.tests, ROOT), mutant.name


def test_a_snippet_must_occur_once_and_a_test_must_exist(script: Any, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("x = 1\ny = 1\n")
    assert script.place("x = 1", tmp_path) == tmp_path / "src" / "a.py"
    for code, count in (("z = 1", 0), (" = 1", 2)):
        with pytest.raises(script.StaleError, match=f"occurs {count} times"):
            script.place(code, tmp_path)
    with pytest.raises(script.StaleError, match="no test test_nothing_of_the_kind"):
        script.files_of(["test_nothing_of_the_kind"], tmp_path)


def test_a_copy_is_changed_and_restored(script: Any, tmp_path: Path) -> None:
    source = tmp_path / "src" / "a.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    with script.mutated(script.Mutant("m", "t", "x = 1", "x = 2", ()), tmp_path):
        assert source.read_text() == "x = 2\n"
    assert source.read_text() == "x = 1\n"


def test_tests_must_run_and_pass_on_the_unchanged_source(script: Any) -> None:
    passed = ["tests/test_a.py::test_one[case-3]", "tests/test_a.py::test_two"]
    assert script.misfit(["test_one", "test_one[3]", "test_two"], {"passed": passed, "failed": []}) == ""
    assert "no case of test_one[4]" in script.misfit(["test_one[4]"], {"passed": passed, "failed": []})
    assert "fails without the change" in script.misfit(["test_two"], {"passed": passed, "failed": ["test_three"]})
