"""Pictures: what they are asked, what they mark, and that they can be drawn at all."""

import math
import struct

import numpy as np
import pytest

import lmrl.tasks.maze.figures as maze_figure
from lmrl.figures.curves import _curve, learning_curves
from lmrl.tasks.maze.env import Maze, optimal_values, read_position
from lmrl.tasks.maze.figures import policy_map
from lmrl.tasks.maze.grid import MOVES


def size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def best_moves(texts):
    """Answer with the first best move everywhere, and with the exact values."""
    solution = optimal_values("double_t")
    cells = [read_position(text)[0] for text in texts]
    moves = np.array([[float(action == solution.greedy[cell][0]) for action in MOVES] for cell in cells])
    return moves, np.array([solution.values[cell] for cell in cells])


@pytest.fixture
def views(monkeypatch):
    """The views that are drawn."""
    seen = []
    draw = maze_figure._draw
    monkeypatch.setattr(maze_figure, "_draw", lambda *arguments: seen.extend(arguments[1:3]) or draw(*arguments))
    return seen


def test_optimal_policy_is_marked_right_everywhere(tmp_path, views):
    path = policy_map(env=Maze(), explain=best_moves, path=tmp_path / "new" / "map.png", title="a run")
    learned, best = views
    assert learned.wrong == frozenset()
    assert learned.values == best.values
    assert best.values[(1, 1)] == -11
    width, height = size(path)
    assert width > 1.5 * height


def test_wrong_cells_are_those_whose_likeliest_move_is_not_optimal(tmp_path, views):
    def lost_at_the_junction(texts):
        moves, _ = best_moves(texts)
        moves[[read_position(text)[0] == (5, 6) for text in texts]] = [0.1, 0.1, 0.6, 0.2]
        return moves, None

    policy_map(env=Maze(), explain=lost_at_the_junction, path=tmp_path / "map.png")
    assert views[0].wrong == {(5, 6)}
    assert views[0].values == {}
    assert views[0].moves[(5, 6)]["move up\n"] == 0.6


def test_partially_observed_maze_asks_about_single_observations(tmp_path):
    asked = []

    def explain(texts):
        asked.extend(texts)
        return np.full((len(texts), 4), 0.25), np.zeros(len(texts))

    policy_map(env=Maze(describe="walls"), explain=explain, path=tmp_path / "map.png", gamma=0.99)
    assert len(asked) == 25
    assert len(set(asked)) == 7
    assert "There are walls to your left, above you, below you.\n" in asked


def test_answers_of_the_wrong_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"probabilities \(25, 4\)"):
        policy_map(env=Maze(), explain=lambda texts: (np.ones((3, 4)), None), path=tmp_path / "map.png")


def test_curves_have_one_panel_for_each_metric(tmp_path):
    rows = [{"step": s, "train/loss": 1.0 / (s + 1), "epoch": 0} for s in range(100)]
    rows += [{"step": s, "validation/return_mean": float(s), "validation/score": 1.0} for s in (10, 50, 90)]
    one = learning_curves(rows, tmp_path / "one.png", metrics=["train/loss"])
    three = learning_curves(
        rows, tmp_path / "three.png", references={"validation/return_mean": {"data": -1, "paper": 80}}
    )
    assert size(three)[0] == pytest.approx(3 * size(one)[0], abs=3)
    assert size(three)[1] == pytest.approx(size(one)[1], abs=3)


def test_numbers_that_are_not_finite_are_left_out_of_curves(tmp_path):
    broken = [None, math.nan, math.inf, -math.inf]
    rows = [{"step": i, "train/loss": broken[i % 4] if i % 3 else 1.0, "train/gone": broken[i % 4]} for i in range(90)]
    assert _curve(rows[:7], "train/loss") == ([0, 3, 6], [1, 1, 1])
    both = learning_curves([*rows, {"step": 1, "validation/score": 5.0}], tmp_path / "both.png")
    one = learning_curves(rows, tmp_path / "one.png", metrics=["train/loss"])
    assert size(both)[0] == pytest.approx(2 * size(one)[0], abs=2)  # nothing of train/gone can be drawn


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        learning_curves([{"step": 1, "epoch": 0}], tmp_path / "none.png")
