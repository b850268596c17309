"""Scores against the paper's table, and intervals against textbook formulas."""

import math

import numpy as np
import pytest

from lmrl.scores import Anchors, bootstrap_means, confidence_interval, interquartile_mean, mean_over_groups, score

MAZE = Anchors(min=-101.0, data=-83.0, max=-6.84)
MAZE_PO = Anchors(min=-101.0, data=-83.0, max=-25.75)


@pytest.mark.parametrize(
    ("anchors", "value", "points"),
    [
        (MAZE, -101, 0),
        (MAZE, -83, 50),
        (MAZE, -6.84, 100),
        (MAZE, -92, 25),
        (MAZE, -72.1, 57.2),
        (MAZE, -48.1, 72.9),
        (MAZE, -6.97, 99.9),
        (MAZE_PO, -52.9, 76.3),
        (MAZE_PO, -91.7, 25.8),
        (MAZE_PO, -7.24, 116.2),
        (MAZE, -401, -833.3),
    ],
)
def test_score_is_the_papers(anchors, value, points):
    assert score(float(value), anchors) == pytest.approx(points, abs=0.05)


def test_score_is_cut_only_on_request():
    assert score(-7.24, MAZE_PO, clamp=True) == 100
    assert score(-401.0, MAZE, clamp=True) == 0
    assert score(-72.1, MAZE, clamp=True) == score(-72.1, MAZE)


@pytest.mark.parametrize("values", [(0, 0, 1), (0, 1, 1), (1, 0, 2), (0, math.nan, 1)])
def test_anchors_must_grow(values):
    with pytest.raises(ValueError, match="must grow"):
        Anchors(*map(float, values))


def test_anchors_come_from_the_tasks_block():
    assert Anchors.from_mapping({"max": -6.84, "min": -101.0, "data": -83.0}) == MAZE
    with pytest.raises(ValueError, match=r"exactly min, data and max, got \['data', 'min'\]"):
        Anchors.from_mapping({"min": 0.0, "data": 1.0})


def test_each_start_counts_the_same():
    assert mean_over_groups([[1.0, 3.0], [10.0]]) == 6
    with pytest.raises(ValueError, match="at least one"):
        mean_over_groups([[1.0], []])


def test_episodes_are_drawn_within_their_start():
    # Starts differ by far, episodes of a start do not differ at all: the mean is certain.
    low, high = confidence_interval([[-12.0] * 4, [-1.0] * 4], np.random.default_rng(0))
    assert (low, high) == (-6.5, -6.5)


@pytest.mark.parametrize("repeats", [2, 4, 32])
def test_spread_of_the_replicates_is_that_of_the_mean(repeats):
    values = np.random.default_rng(1).normal(size=(25, repeats)) * 10
    expected = np.sqrt((values.var(axis=1, ddof=1) / repeats).sum()) / 25
    drawn = bootstrap_means(values.tolist(), np.random.default_rng(2), 20_000)
    assert drawn.std() == pytest.approx(expected, rel=0.02)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.05)


def test_interval_of_many_normal_values_is_the_textbooks():
    values = np.random.default_rng(3).normal(5, 2, size=400)
    low, high = confidence_interval([values.tolist()], np.random.default_rng(4), resamples=10_000)
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_starts_played_once_are_drawn_together():
    values = [[-12.0], [-1.0], [-5.0], [-6.0]]
    drawn = bootstrap_means(values, np.random.default_rng(5), 20_000)
    assert drawn.std() == pytest.approx(np.std([-12, -1, -5, -6], ddof=1) / 2, rel=0.02)
    assert drawn.mean() == pytest.approx(-6, abs=0.05)
    # A start that was played twice still counts as one start.
    uneven = bootstrap_means([[-12.0, -10.0], [-1.0]], np.random.default_rng(5), 20_000)
    assert uneven.mean() == pytest.approx(-6, abs=0.05)


def test_one_episode_says_nothing_about_its_spread():
    assert np.isnan(confidence_interval([[-3.0]], np.random.default_rng(0))).all()


def test_interval_is_fixed_by_its_generator():
    groups = np.random.default_rng(6).normal(size=(5, 8)).tolist()
    first = confidence_interval(groups, np.random.default_rng(7))
    assert first == confidence_interval(groups, np.random.default_rng(7))
    assert first != confidence_interval(groups, np.random.default_rng(8))


def test_interval_refuses_nonsense():
    with pytest.raises(ValueError, match="level"):
        confidence_interval([[1.0, 2.0]], np.random.default_rng(0), level=95.0)
    with pytest.raises(ValueError, match="resamples"):
        confidence_interval([[1.0, 2.0]], np.random.default_rng(0), resamples=0)


def test_interquartile_mean_cuts_a_quarter_from_each_end():
    assert interquartile_mean([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0]) == 3.5
    assert interquartile_mean([1.0, 2.0, 9.0]) == 4
    with pytest.raises(ValueError, match="at least one"):
        interquartile_mean([])
