"""What a report compares: smoke runs, re-evaluations and changed tasks are shown, and compete with nothing."""

import json

import pytest
import yaml
from test_report import ANCHORS, Folder, Page, episode

from lmrl.evaluation import summarize
from lmrl.report.__main__ import main
from lmrl.report.folders import runs_in
from lmrl.report.groups import group_runs
from lmrl.report.results import compare, result_of
from lmrl.runs.summary import build_summary
from lmrl.system.files import write_json

PAPER = {"return": -2.5, "score": 37.5}


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "runs")


def record(*, experiment=None, **changed):
    """The provenance of a run with changes, whose dots are written as two underscores."""
    changes = {key.replace("__", "."): value for key, value in changed.items()}
    return {"kind": "run", "choices": {"experiment": experiment}, "changed": changes}


def evaluated_again(run, returns, changes, changed=None):
    """Leave another evaluation of a run, as mode=eval does."""
    place = run / "evaluations" / f"{len(changes)}abc"
    place.mkdir(parents=True)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (place / "config.yaml").write_text(yaml.safe_dump(config | {"evaluation": {"repeats": len(returns)}}))
    summary = build_summary(
        task="toy", algo="bc", model="tiny", seed=config["seed"], status="finished",
        evaluation=summarize([episode(total) for total in returns], ANCHORS),
    )  # fmt: skip
    write_json(summary, place / "summary.json")
    write_json({"run": str(run), "changes": changes}, place / "changes.json")
    write_json({"kind": "evaluation", "changed": changed or {"evaluation.repeats": 1}}, place / "provenance.json")


def page_of(folder, tmp_path):
    assert main([str(folder.root), "--to", str(tmp_path / "out")]) == 0
    markdown = (tmp_path / "out" / "report.md").read_text()
    return Page((tmp_path / "out" / "report.html").read_text()), markdown


def best_lines(markdown):
    return [line for line in markdown.splitlines() if line.startswith("- **")]


def test_the_default_configuration_has_the_plain_name_however_many_seeds_another_has(folder):
    folder(seed=0, provenance=record())
    for seed in (0, 1, 2):
        folder(seed=seed, config={"algo.steps": 50}, provenance=record(algo__steps=50))
    assert {group.name: len(group.runs) for group in folder.groups()[0]} == {"bc": 1, "bc · steps=50": 3}


def test_the_only_configuration_is_named_by_its_changes_too(folder):
    folder(config={"algo.steps": 50}, provenance=record(algo__steps=50))
    assert [group.name for group in folder.groups()[0]] == ["bc · steps=50"]


def test_smoke_runs_are_listed_and_compete_with_nothing(folder, tmp_path):
    for task in ("toy", "other"):
        for seed in (0, 1):
            smoke = record(experiment="smoke", algo__steps=20)
            folder("bc", seed, (-0.5, -0.5), task=task, config={"algo.steps": 20}, provenance=smoke)
        folder("bc", 0, (-3.0, -3.0), task=task, provenance=record())
        folder("ilql", 0, (-2.0, -3.0), task=task, provenance=record())
    groups, apart = folder.groups()
    assert (sorted({group.name for group in groups}), apart) == (["bc", "bc · smoke", "ilql"], [])
    found = compare([result_of(group) for group in groups])
    assert sorted(method.name for method in found.methods) == ["bc", "ilql"]
    assert found.left_out == ()
    page, markdown = page_of(folder, tmp_path)
    assert [row[0] for row in page.tables["matrix"][1:]] == ["ilql", "bc"]
    for line in best_lines(markdown):
        assert ": ilql with a score of 37.5" in line
        assert "smoke" not in line
    rows = [row[0] for row in page.tables["sortable results"]]
    assert rows[1:4] == ["ilql", "bc", "bc · smoke not ranked: a trial run learns nothing"]


def test_a_page_of_smoke_runs_names_no_best_method(folder, tmp_path):
    folder(provenance=record(experiment="smoke"))
    page, markdown = page_of(folder, tmp_path)
    assert "toy: no run that can be ranked" in " ".join(page.text.split())
    assert "**toy**: no run that can be ranked" in markdown
    assert "matrix" not in page.tables
    assert len(page.tables["sortable results"]) == 2


def test_another_look_at_a_run_is_told_with_it_and_competes_with_nothing(folder, tmp_path):
    run = folder("bc", 0, (-2.0, -3.0), provenance=record())
    folder("ilql", 0, (-2.0, -2.0), provenance=record())
    address = "tracking.tracking_uri=postgresql://me:" + "secret@db/lmrl"
    evaluated_again(run, (-1.0,), ["evaluation.repeats=1", address])
    groups, apart = folder.groups()
    assert [(group.name, len(group.runs), len(group.evaluations)) for group in groups] == [("bc", 1, 1), ("ilql", 1, 0)]
    assert apart == []
    page, markdown = page_of(folder, tmp_path)
    assert ": ilql with a score of 50.0" in best_lines(markdown)[0]
    assert "evaluation.repeats" not in best_lines(markdown)[0]
    [row] = page.tables["sortable evaluations"][1:]
    assert row[:6] == ["bc", "0", "evaluation.repeats=1", "1", "-1.00", "75.0"]
    assert "| bc | 0 | `evaluation.repeats=1` | 1 | -1.00 | 75.0 |" in markdown


def test_another_look_in_a_changed_environment_says_so(folder, tmp_path):
    run = folder("bc", 0, (-2.0, -3.0), provenance=record())
    evaluated_again(run, (-1.0,), ["task.env.max_steps=20"], {"task.env.max_steps": 20})
    page, markdown = page_of(folder, tmp_path)
    [row] = page.tables["sortable evaluations"][1:]
    assert row[2] == "task.env.max_steps=20 another environment: score anchors belong to the unchanged task"
    assert "`task.env.max_steps=20` (another environment: score anchors belong to the unchanged task)" in markdown


def test_another_look_at_a_run_that_is_not_there_does_not_count(folder):
    run = folder("bc", 0, (-2.0,), provenance=record())
    evaluated_again(run, (-1.0,), ["evaluation.repeats=1"])
    groups, [alone] = group_runs(runs_in([str(run / "evaluations")]))
    assert groups == []
    assert alone.reason == "it evaluates a run again that is not compared here"


def test_a_changed_task_is_a_section_of_its_own(folder, tmp_path):
    changed = {"task.env": {"max_steps": 20}}
    folder("bc", 0, (-3.0,), config={"task.env": {"max_steps": 100}}, provenance=record(), paper=PAPER)
    folder("bc", 0, (-1.0,), config=changed, provenance=record(task__env__max_steps=20), paper=PAPER)
    more = record(task__env__max_steps=20, algo__env__max_steps=20, algo__steps=50)
    folder("bc", 0, (-0.5,), config=changed | {"algo.steps": 50, "algo.env": {"max_steps": 20}}, provenance=more)
    groups, _ = folder.groups()
    assert [(group.section, group.name) for group in groups] == [
        ("toy", "bc"),
        ("toy with max_steps=20", "bc"),
        ("toy with max_steps=20", "bc · steps=50"),
    ]
    assert [result_of(group).paper for group in groups] == [PAPER, {}, {}]
    page, markdown = page_of(folder, tmp_path)
    assert [row[0] for row in page.tables["matrix"]] == ["method", "bc"]
    plain, other = best_lines(markdown)
    assert plain.startswith("- **toy**: bc with a score of 25.0")
    assert other.startswith("- **toy with max\\_steps=20**: bc · steps=50 with a score of 87.5")
    assert other.endswith("Score anchors belong to the unchanged task.")
    assert "score anchors belong to the unchanged task" in page.text
    # Beside the unchanged task only: in two tables, and in a sentence of the page.
    assert (page.text.count("37.5"), markdown.count("37.5")) == (3, 2)
    assert all(picture.is_file() for picture in (tmp_path / "out" / "pictures").iterdir())


def test_environments_are_told_apart_where_nothing_is_recorded_of_changes(folder):
    for steps in (20, 100):
        folder("bc", 0, (-1.0,), config={"task.env": {"max_steps": steps}})
    assert [group.section for group in folder.groups()[0]] == ["toy with max_steps=100", "toy with max_steps=20"]
    folder("ilql", 0, (-1.0,), config={"task.env": {"max_steps": 100}}, provenance=record())
    assert sorted(group.section for group in folder.groups()[0]) == ["toy", "toy", "toy with max_steps=20"]


def test_methods_are_not_compared_over_changed_tasks(folder):
    for algo in ("bc", "ilql"):
        folder(algo, 0, (-1.0,), provenance=record())
        env = {"task.env": {"max_steps": 20}}
        folder(algo, 0, (-1.0,), task="other", config=env, provenance=record(task__env__max_steps=20))
    assert compare([result_of(group) for group in folder.groups()[0]]) is None


def test_numbers_that_json_does_not_know_are_read(folder, tmp_path):
    run = folder(provenance=record())
    lines = [
        '{"step": NaN, "validation/score": 1.0}',
        '{"step": 1, "validation/score": NaN}',
        '{"step": 2, "validation/score": Infinity}',
        '{"step": 3, "validation/score": null}',
    ]
    lines += [json.dumps({"step": 4, "validation/score": 3.0}), '{"step": null}']
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    folder(seed=1, status="interrupted")
    (sorted((folder.root / "toy" / "bc").iterdir())[-1] / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    page, _ = page_of(folder, tmp_path)
    assert page.tables["notcounted"][1][4] == "interrupted at step 5 of 40"
