"""The report: its statistics by hand, which runs are averaged, and what stands on the page."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from lmrl.evaluation import summarize
from lmrl.report.__main__ import main
from lmrl.report.curves import INTERACTIONS, curve
from lmrl.report.dialogues import best_and_worst
from lmrl.report.folders import read_run, runs_in
from lmrl.report.groups import Group, group_runs
from lmrl.report.results import close_to_best, compare, result_of
from lmrl.report.runs import Run, without_password
from lmrl.report.statistics import (
    interquartile_mean,
    mean,
    optimality_gap,
    probability_of_improvement,
    stratified_interval,
)
from lmrl.report.words import cell, code, fence
from lmrl.runs.summary import build_summary
from lmrl.scores import Anchors
from lmrl.scores import interquartile_mean as plain_iqm
from lmrl.system.files import write_json
from lmrl.text.trajectory import Trajectory, Turn

ANCHORS = Anchors(-4.0, -2.0, 0.0)
HOSTILE = (
    "</pre></article><script>alert(1)</script><img src=http://evil.example/x.png onerror=alert(2)> "
    "``` | &lt; {{ 7*7 }}\n# no"
)


DEFAULTS = {"changed": {}}
"""The provenance of a run that changed nothing."""
PLAIN = str.maketrans({"\N{MULTIPLICATION SIGN}": "x", "\N{EN DASH}": "-"})


def arrays(*tasks):
    return [np.asarray(values, dtype=float) for values in tasks]


# Statistics


def test_interquartile_mean_cuts_a_quarter_from_each_end():
    assert interquartile_mean(arrays([1, 2, 3, 4], [5, 6, 7, 80])) == pytest.approx((3 + 4 + 5 + 6) / 4)
    assert interquartile_mean(arrays([1, 2, 90])) == pytest.approx(31)  # a quarter of 3, rounded down, is none


def test_interquartile_mean_of_equally_many_runs_is_that_of_the_pool():
    chance = np.random.default_rng(3)
    for runs in range(1, 9):
        tasks = [chance.normal(size=runs) for _ in range(3)]
        assert interquartile_mean(tasks) == pytest.approx(plain_iqm(np.concatenate(tasks).tolist()))


def test_tasks_weigh_the_same_however_many_runs_they_have():
    # Sorted, the first task fills the lower half and the second the upper; a fifth is cut from each end.
    assert interquartile_mean(arrays([0, 0, 0, 0], [100])) == pytest.approx(50)
    assert mean(arrays([0, 0, 0, 0], [100])) == pytest.approx(50)


def test_optimality_gap_does_not_count_what_is_above_the_target():
    assert optimality_gap(arrays([120, 80], [100, 40])) == pytest.approx((10 + 30) / 2)


def test_probability_of_improvement_counts_pairs():
    ours, theirs = arrays([1, 3]), arrays([2, 3])
    assert probability_of_improvement(ours, theirs) == pytest.approx((0 + 0 + 1 + 0.5) / 4)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - 1.5 / 4)
    # Two tasks, one always won and one always lost, the lost one with more runs.
    assert probability_of_improvement(arrays([9, 9], [0] * 6), arrays([1], [5, 5])) == pytest.approx(0.5)


def test_intervals_draw_seeds_within_tasks_only():
    generator = np.random.default_rng(0)
    assert stratified_interval(mean, arrays([0, 0], [100, 100]), generator=generator) == (50, 50)
    # The first task's mean is 0, 5 or 10 with chances 1/4, 1/2, 1/4.
    assert stratified_interval(mean, arrays([0, 10], [5, 5]), generator=generator) == (2.5, 7.5)
    assert stratified_interval(mean, arrays([0, 10], [5]), generator=generator) is None
    pair = stratified_interval(probability_of_improvement, arrays([1, 3]), arrays([2, 2]), generator=generator)
    assert pair == (0, 1)


def test_interval_covers_as_often_as_it_says():
    chance, hits = np.random.default_rng(1), 0
    for _ in range(200):
        tasks = [chance.normal(size=10) for _ in range(4)]
        low, high = stratified_interval(mean, tasks, generator=chance, resamples=500)
        hits += low <= 0 <= high
    assert 0.85 <= hits / 200 <= 0.98


def test_impossible_statistics_are_refused():
    with pytest.raises(ValueError, match="at least one run"):
        interquartile_mean(arrays([1], []))
    with pytest.raises(ValueError, match="level must be between"):
        stratified_interval(mean, arrays([1, 2]), generator=np.random.default_rng(0), level=1.0)


# Runs on disk


def episode(total, said="left\n", seed=0):
    turns = (Turn("where?\n", False), Turn(said, True, total), Turn("there\n", False))
    return Trajectory(turns, True, False, seed, {"success": total > -2, "invalid_actions": 0})


class Folder:
    """Makes run folders as an experiment leaves them."""

    def __init__(self, root):
        self.root, self.made = root, 0

    def __call__(
        self, algo="bc", seed=0, returns=(-1.0, -3.0), *, task="toy", status="finished", config=None, rows=(),
        said="left\n", paper=None, provenance=None,
    ):  # fmt: skip
        self.made += 1
        folder = self.root / task / algo / f"2026-01-01_00-00-{self.made:02d}_{task}-{algo}-s{seed}-abcdef"
        folder.mkdir(parents=True)
        place = f"/tmp/somewhere{self.made}"
        settings = {
            "seed": seed, "data_dir": place, "runs_dir": place, "hardware": {"threads": self.made},
            "task": {
                "name": task, "score": {"min": -4, "data": -2, "max": 0},
                "dataset": {"root": place, "file": f"{place}/x"},
            },
            "algo": {"module": {"beta": 1.0, "seed": seed}, "steps": 40},
        }  # fmt: skip
        for key, value in (config or {}).items():
            node = settings
            for part in key.split(".")[:-1]:
                node = node[part]
            node[key.split(".")[-1]] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if status is None:
            return folder
        done = status == "finished"
        played = [episode(total, said) for total in returns]
        summary = build_summary(
            task=task, algo=algo, model="tiny", seed=seed, status=status,
            dataset={"fingerprint": "feed0123", "trajectories": 5},
            evaluation=summarize(played, ANCHORS) if done else None,
            train={"steps": 40, "seconds": 75.0} if done else None, paper=paper,
        )  # fmt: skip
        write_json(summary, folder / "summary.json")
        if provenance:
            write_json(provenance, folder / "provenance.json")
        if done:
            lines = [
                {"index": i, "seed": i, "start": {"cell": i}, "return": t.total_reward, "success": True,
                 "messages": [{"role": "assistant" if x.is_action else "user", "content": x.text} for x in t.turns],
                 "rewards": [x.reward for x in t.turns]}
                for i, t in enumerate(played)
            ]  # fmt: skip
            (folder / "transcripts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder

    def groups(self):
        return group_runs(runs_in([str(self.root)]))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "runs")


def test_seeds_of_one_configuration_are_one_group_wherever_they_are_stored(folder):
    for seed in (2, 0, 1):
        folder(seed=seed, returns=(-1.0 - seed,))
    [group], apart = folder.groups()
    result = result_of(group)
    assert (group.name, result.seeds, apart) == ("bc", (0, 1, 2), [])
    assert result.returns.value == -2
    assert result.returns.interval == (-3, -1)
    assert result.returns.over == "seeds"
    assert result.score.value == pytest.approx((75 + 50 + 25) / 3)
    assert result.iqm is None  # of three seeds nothing is cut


def test_four_seeds_have_an_interquartile_mean(folder):
    for seed, total in enumerate((-1.0, -2.0, -2.0, -4.0)):
        folder(seed=seed, returns=(total,))
    [group], _ = folder.groups()
    assert result_of(group).score.value == pytest.approx((75 + 50 + 50 + 0) / 4)
    assert result_of(group).iqm.value == pytest.approx(50)


def test_a_single_seed_has_the_interval_of_its_episodes(folder):
    path = folder(returns=(-1.0, -3.0, -1.0, -3.0))
    written = json.loads((path / "summary.json").read_text())["evaluation"]
    [group], _ = folder.groups()
    found = result_of(group).returns
    assert (found.value, found.over) == (-2, "episodes")
    assert list(found.interval) == written["return_ci95"]


def test_configurations_are_not_averaged_together(folder):
    folder(seed=0, provenance=DEFAULTS)
    folder(seed=1, provenance=DEFAULTS)
    folder(seed=0, config={"algo.module.beta": 8.0})
    folder(seed=0, config={"algo.module.beta": 8.0, "algo.steps": 50})
    groups, _ = folder.groups()
    assert {group.name: len(group.runs) for group in groups} == {
        "bc": 2,
        "bc · beta=8.0, steps=40": 1,
        "bc · beta=8.0, steps=50": 1,
    }


def test_a_number_is_the_same_however_it_is_written(folder):
    for seed, beta in enumerate((8, 8.0)):
        folder(seed=seed, config={"algo.module.beta": beta}, provenance=DEFAULTS)
    folder(config={"algo.module.beta": 8, "algo.steps": 50})
    assert {group.name: len(group.runs) for group in folder.groups()[0]} == {"bc": 2, "bc · steps=50": 1}


def test_a_key_that_is_null_is_a_key_that_an_older_run_does_not_have(folder):
    folder(seed=0, provenance=DEFAULTS)
    folder(seed=1, config={"algo.env": None}, provenance=DEFAULTS)
    folder(seed=0, config={"algo.env": 3})
    assert {group.name: len(group.runs) for group in folder.groups()[0]} == {"bc": 2, "bc · env=3": 1}


def test_variants_never_share_a_name(folder):
    for ending in "ab":
        folder(config={"algo.module.beta": "x" * 60 + ending})
    first, second = folder.groups()[0]
    assert first.name.startswith("bc · beta=xxx")
    assert first.name != second.name


def test_data_separate_runs_and_pictures_do_not(folder):
    folder(seed=0, config={"task.paper": {"bc": {"score": 1}}, "task.prompt": {"rules": "x"}})
    path = folder(seed=1)
    assert len(folder.groups()[0]) == 1
    summary = json.loads((path / "summary.json").read_text())
    summary["dataset"]["fingerprint"] = "other"
    (path / "summary.json").write_text(json.dumps(summary))
    assert sorted(group.name for group in folder.groups()[0]) == ["bc · dataset=feed0123", "bc · dataset=other"]


def test_a_prompt_matters_where_nothing_is_trained(folder):
    folder(seed=0, config={"algo.module": None, "task.prompt": {"rules": "x"}})
    folder(seed=1, config={"algo.module": None, "task.prompt": {"rules": "y"}})
    assert sorted(group.name for group in folder.groups()[0]) == [
        "bc · task.prompt.rules=x",
        "bc · task.prompt.rules=y",
    ]


def test_a_repeated_seed_counts_once(folder):
    folder(seed=0, returns=(-4.0,))
    newer = folder(seed=0, returns=(-1.0,))
    [group], [repeated] = folder.groups()
    assert result_of(group).returns.value == -1
    assert newer.name in repeated.reason


def test_runs_without_results_are_listed_apart_with_their_reason(folder):
    folder(seed=0)
    folder(seed=1, status="interrupted", rows=[{"step": 19, "train/loss": 1.0}])
    folder(seed=2, status="failed")
    folder(seed=3, status=None, rows=[{"step": 9}])
    torn = folder(seed=4)
    (torn / "summary.json").write_text('{"task": "toy", "al')
    [group], apart = folder.groups()
    reasons = {run.seed: run.reason for run in apart}
    assert [run.seed for run in group.runs] == [0]
    assert reasons[1] == "interrupted at step 20 of 40"
    assert reasons[2] == "failed before its first logged step"
    assert reasons[3].startswith("no summary.json: it was killed, or runs on another machine; last written 2")
    assert reasons[3].endswith("at step 10 of 40")
    assert "summary.json cannot be read" in reasons[4]
    assert {run.task for run in apart} == {"toy"}


def test_a_place_without_runs_is_a_mistake(tmp_path, folder):
    folder()
    assert len(runs_in([str(tmp_path / "runs" / "*" / "bc"), str(tmp_path / "runs")])) == 1
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        runs_in([str(tmp_path / "nothing")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="there is no run in it"):
        runs_in([str(tmp_path / "empty")])


# Methods over tasks


def test_methods_are_compared_on_the_tasks_that_they_share(folder):
    for task in ("toy", "other"):
        for seed in (0, 1):
            folder("bc", seed, (-3.0,), task=task)
            folder("ilql", seed, (-1.0 if task == "toy" else -3.0,), task=task)
    folder("ppo", 0, (-1.0,), task="third")
    folder("dpo", 0, (-1.0,), task="toy")
    found = compare([result_of(group) for group in folder.groups()[0]])
    assert found.tasks == ("other", "toy")
    assert found.left_out == ("dpo", "ppo")
    best, worst = found.methods
    assert (best.name, best.runs, best.mean.value, best.mean.interval) == ("ilql", 4, 50, (50, 50))
    assert (worst.name, worst.iqm.value, worst.gap.value) == ("bc", 25, 75)
    assert found.better["ilql", "bc"].value == 0.75  # always on one task, a tie on the other
    assert found.better["bc", "ilql"].value == 0.25


def test_one_task_is_no_aggregate(folder):
    folder("bc")
    folder("ilql")
    assert compare([result_of(group) for group in folder.groups()[0]]) is None


def test_overlapping_intervals_are_told(folder):
    for seed, shift in enumerate((0.0, 0.4)):
        folder("a", seed, (-1.0 - shift,))
        folder("b", seed, (-1.2 - shift,))
        folder("c", seed, (-3.0 - shift,))
    best, close = close_to_best([result_of(group) for group in folder.groups()[0]])
    assert (best.group.algo, [other.group.algo for other in close]) == ("a", ["b"])


# Curves


def group_of(*rows):
    runs = [Run("n", "p", "toy", "bc", "tiny", seed, "finished", "", {}, {}, one, {}) for seed, one in enumerate(rows)]
    return Group("toy", "bc", tuple(runs), {})


def test_curves_have_the_steps_that_all_seeds_logged():
    first = [{"step": 0, "m": 1.0}, {"step": 5, "m": 9.0}, {"step": 5, "m": 2.0}, {"step": 9, "m": 3.0}, {"step": 9}]
    second = [{"step": 5, "m": 4.0}, {"step": 9, "m": 7.0}, {"step": 12, "m": 8.0}]
    found = curve(group_of(first, second), "m")
    assert found.x.tolist() == [5, 9]
    assert (found.mean.tolist(), found.low.tolist(), found.high.tolist()) == ([3, 5], [2, 3], [4, 7])
    assert curve(group_of(first, [{"step": 0}]), "m") is None


def test_curves_over_interactions_are_interpolated_between_seeds():
    def rows(per_round, values):
        out = []
        for index, value in enumerate(values):
            out.append({"step": 10 * index, "collect/environment_steps": per_round * (index + 1)})
            out.append({"step": 10 * index + 9, "m": value})
        return out

    found = curve(group_of(rows(100, [0.0, 10.0, 20.0]), rows(200, [0.0, 40.0, 80.0])), "m", axis=INTERACTIONS)
    # Both know 200 to 300 environment steps: 10, 15, 20 and 0, 10, 20.
    assert found.x.tolist() == [200, 250, 300]
    assert found.mean.tolist() == pytest.approx([5, 12.5, 20])
    assert curve(group_of([{"step": 0, "m": 1.0}]), "m", axis=INTERACTIONS) is None


# Dialogues


def test_best_and_worst_dialogues_of_all_seeds(folder):
    folder(seed=0, returns=(-1.0, -3.0))
    folder(seed=1, returns=(-2.0, -4.0, -0.5))
    [group], _ = folder.groups()
    best, worst = best_and_worst(group)
    assert (best.title, best.total, best.seed, best.index, best.start) == ("best", -0.5, 1, 2, "cell 2")
    assert (worst.title, worst.total, worst.seed, worst.index) == ("worst", -4.0, 1, 1)
    assert [(turn.is_agent, turn.text, turn.reward) for turn in best.turns] == [
        (False, "where?\n", 0.0), (True, "left\n", -0.5), (False, "there\n", 0.0),
    ]  # fmt: skip
    assert [talk.total for talk in best_and_worst(group, 2)] == [-0.5, -1.0, -4.0, -3.0]


def test_long_dialogues_keep_their_beginning_and_end(folder):
    path = folder(returns=(-1.0,))
    line = json.loads((path / "transcripts.jsonl").read_text())
    line["messages"] = [{"role": "assistant", "content": str(i)} for i in range(50)]
    line["rewards"] = [0.0] * 50
    (path / "transcripts.jsonl").write_text(json.dumps(line) + "\n" + '{"torn')
    [group], _ = folder.groups()
    [talk] = best_and_worst(group, shown=9)
    assert [turn.text for turn in talk.turns] == ["0", "1", "2", "3", "4", "5", "47", "48", "49"]
    assert (talk.left_out, talk.head) == (41, 6)


# Commands


def test_a_run_of_another_version_is_left_out_with_one_line(folder, tmp_path, capsys):
    new, old = folder(seed=0), folder(seed=1)
    summary = json.loads((old / "summary.json").read_text())
    del summary["format"]
    write_json(summary, old / "summary.json")
    assert main([str(tmp_path / "runs"), "--to", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr()
    assert shown.err == f"left out: 1 of 2 runs, made by another version of lmrl: {old} ...\n"
    assert "1 runs compared" in shown.out
    assert new.name in (tmp_path / "report" / "report.md").read_text()


def test_passwords_are_not_shown():
    address = "postgresql://me:" + "secret@db/lmrl"
    provenance = {"command": f"python run.py tracking.tracking_uri={address}"}
    run = Run("n", "p", "maze", "ilql", "tiny", 0, "finished", "", {}, {}, [], provenance)
    assert run.command == "python run.py tracking.tracking_uri=postgresql://me:***" + "@db/lmrl"
    assert (
        without_password("sqlite:///m.db http://localhost:5000/#/a@b") == "sqlite:///m.db http://localhost:5000/#/a@b"
    )


# The page


class Page(HTMLParser):
    """Collects tables by id, the text, tags and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.attributes, self.text = defaultdict(list), [], [], ""
        self._table, self._cell, self._skip = None, None, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "table":
            self._table = values.get("id") or values.get("class")
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag in ("style", "script"):
            self._skip += 1

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self.tables[self._table][-1].append(" ".join(" ".join(self._cell).split()))
            self._cell = None
        elif tag in ("style", "script"):
            self._skip -= 1

    def handle_data(self, data):
        if self._skip:
            return
        self.text += data
        if self._cell is not None:
            self._cell.append(data.translate(PLAIN))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report over two tasks, with everything that can be on it."""
    home = tmp_path_factory.mktemp("report")
    folder = Folder(home / "runs")
    rows = [
        {"step": 9, "validation/score": 40.0, "validation/success_rate": 0.5},
        {"step": 19, "validation/score": 60.0},
    ]
    for seed in (0, 1):
        for task in ("toy", "other"):
            folder("bc", seed, (-3.0, -3.0), task=task, rows=rows, provenance=DEFAULTS,
                   paper={"return": -2.5, "score": 37.5})  # fmt: skip
            folder("ilql", seed, (-1.0 - seed, -1.0), task=task, said=HOSTILE)
    folder("bc", 0, (-4.0, -4.0), config={"algo.module.beta": 8.0},
           provenance={"command": "python run.py <b>", "changed": {"algo.module.beta": 8.0}})  # fmt: skip
    folder("bc", 5, status="interrupted", rows=rows)
    target = home / "report"
    assert main([str(folder.root), "--to", str(target), "--title", "A <comparison>"]) == 0
    return target


def test_the_page_has_every_number(written):
    page = Page((written / "report.html").read_text())
    matrix = page.tables["matrix"]
    assert [name.rstrip("↕") for name in matrix[0]] == ["method", "other, score", "paper", "toy, score", "paper"]
    found = {row[0]: row[1:] for row in matrix[1:]}
    assert found["ilql"][2:] == ["68.8 [62.5, 75.0] 2 seeds x 2 episodes", "-"]
    assert found["bc"][2:] == ["25.0 [25.0, 25.0] 2 seeds x 2 episodes", "37.5"]
    assert found["bc · beta=8.0"] == ["-", "-", "0.0 [0.0, 0.0] 1 seed x 2 episodes; interval over episodes", "-"]
    assert [row[:4] for row in page.tables["aggregate"][1:]] == [
        ["ilql", "4", "68.8 [62.5, 75.0]", "68.8 [62.5, 75.0]"],
        ["bc", "4", "25.0 [25.0, 25.0]", "25.0 [25.0, 25.0]"],
    ]
    assert page.tables["improvement"][1][2] == "1.00 [1.00, 1.00]"
    [apart] = page.tables["notcounted"][1:]
    assert apart[:5] == ["toy", "bc", "5", "interrupted", "interrupted at step 20 of 40"]
    assert len(page.tables["commands"]) == 1 + 9
    row = next(row for row in page.tables["commands"] if row[1] == "bc · beta=8.0")
    assert row[3:6] == ["-4.00", "0.0", "python run.py <b>"]
    assert ["algo.module.beta", "1.0", "1.0", "8.0"] in page.tables["sortable differences"]
    assert "bc was run with several configurations" in page.text
    assert page.text.count("score on validation episodes") == 2


def test_the_page_needs_nothing_from_outside(written):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert not [one for one in page.attributes if one[1] in ("src", "href") and not one[2].startswith("#")]
    assert not {"link", "img", "iframe", "object", "base"} & set(page.tags)
    assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg", "http://evil.example/x.png"}
    assert "url(" not in text.replace("url(#clip", "")
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy


def test_dialogues_cannot_escape(written):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert page.tags.count("script") == 1
    assert "alert(1)</script>" not in text
    assert HOSTILE in page.text
    assert "A <comparison>" in page.text
    assert "comparison" not in page.tags


def test_markdown_has_the_same_tables_and_its_pictures(written):
    text = (written / "report.md").read_text().translate(PLAIN)
    assert "| ilql | 68.8 [62.5, 75.0] | 2 seeds x 2 episodes | - | 68.8 [62.5, 75.0] |" in text
    assert "| toy | bc | 5 | interrupted | interrupted at step 20 of 40 |" in text
    for picture in re.findall(r"\]\(([^)]+)\)", text):
        if picture.endswith(".svg"):
            drawn = (written / picture).read_text()
            assert drawn.startswith("<svg xmlns=")
            assert "<style>" in drawn
    assert len(re.findall(r"\]\(pictures/", text)) == 6
    fenced = re.findall(r"^(`{3,})text\n(.*?)\n\1$", text, flags=re.DOTALL | re.MULTILINE)
    assert any("<script>alert(1)" in body for _, body in fenced)
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in outside
    for table in re.findall(r"(?:^\|.*\n)+", outside, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_texts_stay_what_they_are_in_markdown():
    assert cell("a|b\nc <i> [x](y) *z*") == "a\\|b c &lt;i&gt; \\[x\\](y) \\*z\\*"
    assert code("a`b|c") == "``a`b\\|c``"
    assert fence("```` x") == "`````"


def test_a_report_without_results_says_so(folder, tmp_path):
    folder(status="failed")
    assert main([str(folder.root), "--to", str(tmp_path / "out")]) == 0
    assert "No run is finished" in Page((tmp_path / "out" / "report.html").read_text()).text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["--experiment", "lmrl/maze"], "name it with --mlflow"),
        (["--mlflow", "sqlite:///none.db"], "there is no file none.db"),
        (["--mlflow", "sqlite:///none.db", "--run", "a", "--filter", "b"], "leave --experiment and --filter out"),
        (["--dialogues", "-1"], "--dialogues must be at least 0, got -1"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments, message, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not Path("none.db").exists()


def test_unreadable_lines_and_numbers_do_not_stop_a_report(folder):
    path = folder(
        rows=[{"step": 1, "validation/score": float("nan")}, {"step": 2, "validation/score": 3.0}, {"nothing": 1}]
    )
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "validation/sc')
    run = read_run(path)
    assert [row["step"] for row in run.rows] == [1, 2]
    found = curve(Group("toy", "bc", (run,), {}), "validation/score")
    assert found.x.tolist() == [2]


def test_runs_come_from_an_mlflow_store_as_from_folders(folder, tmp_path, monkeypatch):
    from lmrl.report.store import runs_in_store
    from lmrl.tracking.core import RunIdentity
    from lmrl.tracking.mlflow import MLflowTracker
    from lmrl.tracking.store import PARENT

    uri = f"sqlite:///{tmp_path}/m.db"
    tracker = MLflowTracker(tracking_uri=uri, artifacts=str(tmp_path / "art"), max_traces=0)
    for seed in (0, 1):
        path = folder(seed=seed, returns=(-1.0 - seed,))
        summary = json.loads((path / "summary.json").read_text())
        config = yaml.safe_load((path / "config.yaml").read_text())
        with tracker.run(RunIdentity("toy", "bc", "tiny", seed, "abcdef"), config=config, folder=path) as log:
            for logger in log.loggers:
                logger.log_metrics({"validation/score": 10.0 * seed}, 4)
            log.log_results(summary)
            for name in ("summary.json", "transcripts.jsonl"):
                log.log_file(path / name)
    # Another evaluation of the last run, which would change its mean.
    again = tmp_path / "again"
    again.mkdir()
    write_json({**summary, "evaluation": {**summary["evaluation"], "return_mean": 7.0}}, again / "summary.json")
    write_json({"run": "elsewhere", "changes": ["evaluation.repeats=1"]}, again / "changes.json")
    with monkeypatch.context() as environment:
        environment.setenv(PARENT, json.loads((path / "mlflow.json").read_text())["run_id"])
        with tracker.run(RunIdentity("toy", "bc", "tiny", 1, "other"), config=config, folder=again) as log:
            for name in ("summary.json", "changes.json"):
                log.log_file(again / name)
    with (
        pytest.raises(KeyboardInterrupt),
        tracker.run(RunIdentity("toy", "bc", "tiny", 2, "abcdef"), config={}, folder=tmp_path / "left"),
    ):
        raise KeyboardInterrupt
    [group], [apart] = group_runs(runs_in_store(uri, experiments=["lmrl/toy"]))
    assert (result_of(group).seeds, result_of(group).returns.value) == ((0, 1), -1.5)
    [other] = group.evaluations
    assert (other.seed, other.changes, other.results["return_mean"]) == (1, ("evaluation.repeats=1",), 7)
    assert [dict(row) for row in group.runs[1].rows] == [{"step": 4, "validation/score": 10.0}]
    assert best_and_worst(group)[0].total == -1
    assert (apart.seed, apart.reason) == (2, "interrupted before its first logged step")
    [only] = runs_in_store(uri, filter="tags.seed = '0'")
    assert only.seed == 0
    assert [run.seed for run in runs_in_store(uri, run_ids=[only.run_id])] == [0]
    with pytest.raises(ValueError, match="--experiment lmrl/none: the store has"):
        runs_in_store(uri, experiments=["lmrl/none"])
    # The same runs in folders and in the store count once.
    assert main([str(folder.root), "--mlflow", uri, "--to", str(tmp_path / "out")]) == 0
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert len(page.tables["commands"]) == 1 + 2
    assert [row[1:3] for row in page.tables["sortable evaluations"][1:]] == [["1", "evaluation.repeats=1"]]


@pytest.mark.slow
def test_a_browser_shows_and_sorts_the_page(written, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    text = (written / "report.html").read_text()
    # A click, as a person would: by the scores of the first task, twice.
    click = "<script>for (let i = 0; i < 2; i++) document.querySelectorAll('#matrix thead button')[1].click();</script>"
    (tmp_path / "clicked.html").write_text(text.replace("</body>", f"{click}</body>"))
    options = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path}/u",
        "--enable-logging=stderr", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run(
        [browser, *options, (tmp_path / "clicked.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    page = Page(done.stdout)
    assert [row[0] for row in page.tables["matrix"][1:]] == ["bc", "ilql", "bc · beta=8.0"]  # no number: at the end
    assert page.tags.count("svg") == 6
    assert HOSTILE.strip() in page.text
    assert "alert" not in page.tags
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
