"""The maze keeps to the reference environment byte for byte, and its exact solution to the published optimum."""

import json
import os
import random
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl.policies.core import Policy, Request
from lmrl.rollout import Start, rollout
from lmrl.tasks.maze.env import REWARDS, Maze, OptimalPlayer, RememberingPlayer, optimal_values, read_position
from lmrl.tasks.maze.grid import LAYOUTS, MOVES, Layout, random_layout
from lmrl.tasks.maze.recipe import expected_return
from lmrl.text.trajectory import Turn

GOLDEN = Path(os.environ.get("LMRL_GOLDEN", Path(__file__).parents[2] / "golden"))
CASES = json.loads((GOLDEN / "maze_env.json").read_text())["cases"]
REFERENCE_NAMES = {
    "double_t_maze": "double_t",
    "umaze": "umaze",
    "describe_observation": "goal_and_walls",
    "describe_observation_give_position": "position",
    "describe_observation_only_walls": "walls",
    "standard_reward": "standard",
    "illegal_penalty_reward": "illegal_penalty",
    "illegal_penalty_diff_scale": "illegal_penalty_scaled",
}
DOUBLE_T = Layout.parse("double_t")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['maze']}-{case['describe'][20:]}-{case['reward']}")
def test_replays_the_reference(case: dict) -> None:
    names = {ours: REFERENCE_NAMES[case[theirs]] for ours, theirs in [("layout", "maze"), ("describe", "describe")]}
    env = Maze(**names, reward=REFERENCE_NAMES[case["reward"]], max_steps=case["max_steps"])
    observation, _ = env.reset(options={"init_position": case["start"], "goal": case["goal"]})
    assert observation == case["initial_observation"]
    for step in case["steps"]:
        observation, reward, terminated, truncated, info = env.step(step["action"])
        assert (observation, reward, terminated or truncated) == (step["observation"], step["reward"], step["done"])
        assert info["success"] == terminated == (observation == "Success\n")
        assert truncated == (observation == "Failure\n")


def test_golden_cases_cover_all_renderers_rewards_and_ends() -> None:
    assert {case["describe"] for case in CASES} | {case["reward"] for case in CASES} <= set(REFERENCE_NAMES)
    assert len({case["describe"] for case in CASES}) == len({case["reward"] for case in CASES}) == 3
    ends = {case["steps"][-1]["observation"] for case in CASES if case["steps"][-1]["done"]}
    assert ends == {"Success\n", "Failure\n"}


def test_observations_spell_numbers_digit_by_digit() -> None:
    env = Maze()
    observation, _ = env.reset(options={"init_position": (1, 11)})
    assert observation == (
        "The goal is at position 8, 6. Your current position is at position 1, 1 1. "
        "There are walls to your right, above you, below you.\n"
    )
    assert read_position(observation) == ((1, 11), (8, 6))
    assert env.reset(options={"init_position": (5, 6)})[0].endswith("position 5, 6. There is a wall above you.\n")


def test_wall_signatures() -> None:
    env = Maze(describe="walls")
    texts = Counter(env.reset(options=options)[0] for options in env.evaluation_starts())
    assert texts == {
        "There are walls to your left, above you, below you.\n": 2,
        "There are walls to your right, above you, below you.\n": 2,
        "There are walls above you, below you.\n": 8,
        "There is a wall above you.\n": 3,
        "There are walls to your right, to your left.\n": 8,
        "There are walls to your left, below you.\n": 1,
        "There are walls to your right, below you.\n": 1,
    }
    open_space = Maze(layout="#####/#...#/#...#/#..G#/#####", describe="walls")
    assert open_space.reset(options={"init_position": (2, 2)})[0] == "There are no walls near you.\n"


@pytest.mark.parametrize(("action", "expected"), [("move up\n", -101.0), ("fly\n", -401.0)])
def test_step_after_the_last_ignores_its_action(action: str, expected: float) -> None:
    env = Maze()
    env.reset(options={"init_position": (1, 1)})
    results = [env.step(action) for _ in range(101)]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in results[:100]] == [(False, False)] * 100
    assert results[100] == ("Failure\n", -1.0, False, True, {"success": False, "is_invalid": False})
    assert sum(reward for _, reward, *_ in results) == expected
    with pytest.raises(RuntimeError, match="reset"):
        env.step(action)


def test_goal_cannot_be_reached_with_the_step_after_the_last() -> None:
    env = Maze(max_steps=1)
    env.reset(options={"init_position": (6, 6)})
    assert not env.step("move down\n")[2]
    assert env.step("move down\n")[:4] == ("Failure\n", -1.0, False, True)
    env.reset(options={"init_position": (7, 6)})
    assert env.step("move down\n")[:4] == ("Success\n", 0.0, True, False)


def test_starts_are_all_free_cells_but_the_goal() -> None:
    starts = [options["init_position"] for options in Maze().evaluation_starts()]
    assert len(starts) == len(set(starts)) == 25
    assert (8, 6) not in starts
    env, drawn = Maze(), set()
    for seed in range(300):
        env.reset(seed=seed)
        drawn.add(env.position)
    assert drawn == set(starts)


def test_goal_option_moves_the_goal() -> None:
    env = Maze()
    observation, _ = env.reset(seed=0, options={"goal": [1, 1], "init_position": [1, 2]})
    assert read_position(observation) == ((1, 2), (1, 1))
    assert env.step("move left\n")[:3] == ("Success\n", 0.0, True)
    assert read_position(env.reset(seed=0)[0])[1] == (8, 6)  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_position": (0, 0)}, r"\(0, 0\) is not a free cell"),
        ({"init_position": (99, 1)}, "not a free cell"),
        ({"init_position": (8, 6)}, "start on its goal"),
        ({"start": (1, 1)}, "unknown reset options.*start"),
    ],
)
def test_bad_options_are_told(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Maze().reset(options=options)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("treble_t", "unknown maze layout 'treble_t': use one of double_t, umaze, medium, large"),
        ("###/#G.#/###", "row 1 of the maze has 4 cells, but row 0 has 3"),
        ("####/#xG#/####", "row 1, column 1 of the maze is 'x'"),
        ("####/#.G./####", "row 1, column 3 of the maze is open"),
        ("####/#..#/####", "exactly one goal G, but this one has 0"),
        ("####/#GG#/####", "exactly one goal G, but this one has 2"),
        ("###/#G#/###", "at least one free cell"),
        ("######/#.#.G#/######", r"cannot be reached from cell \(1, 1\)"),
    ],
)
def test_bad_layouts_are_told(layout: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Maze(layout=layout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"describe": "smell"}, "describe must be one of position, walls"),
        ({"reward": "gold"}, "reward must be one of standard"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_bad_arguments_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Maze(**arguments)


@pytest.mark.parametrize("name", LAYOUTS)
def test_named_layouts_have_their_sizes(name: str) -> None:
    sizes = {"double_t": (10, 13, 26), "umaze": (5, 5, 7), "medium": (8, 8, 26), "large": (9, 12, 46)}
    layout = Layout.parse(name)
    assert (len(layout.rows), len(layout.rows[0]), len(layout.free)) == sizes[name]


@given(rows=st.integers(2, 8), columns=st.integers(1, 8), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_random_mazes_are_mazes_without_loops(rows: int, columns: int, seed: int) -> None:
    text = random_layout(rows=2 * rows + 1, columns=2 * columns + 1, seed=seed)
    assert text == random_layout(rows=2 * rows + 1, columns=2 * columns + 1, seed=seed)
    layout = Layout.parse(text)
    # A tree over the odd cells: one passage less than there are cells.
    assert len(layout.free) == 2 * rows * columns - 1
    assert (len(layout.rows), len(layout.rows[0])) == (2 * rows + 1, 2 * columns + 1)


@pytest.mark.parametrize(("rows", "columns"), [(4, 7), (7, 4), (3, 3), (1, 9)])
def test_bad_random_sizes_are_told(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match="odd sides"):
        random_layout(rows=rows, columns=columns, seed=0)


@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    reward=st.sampled_from(sorted(REWARDS)),
    seed=st.integers(0, 2**32 - 1),
    actions=st.lists(st.sampled_from([*MOVES, "move", "\n", "move up"]), min_size=1, max_size=12),
)
@settings(max_examples=80, deadline=None)
def test_any_play_keeps_the_rules(layout: str, reward: str, seed: int, actions: list[str]) -> None:
    env = Maze(layout=layout, reward=reward, max_steps=7)
    text, _ = env.reset(seed=seed)
    for count, action in enumerate(actions, start=1):
        before = env.position
        assert read_position(text) == (before, env.layout.goal)
        text, pay, terminated, truncated, info = env.step(action)
        assert abs(before[0] - env.position[0]) + abs(before[1] - env.position[1]) <= 1
        assert not env.layout.is_wall(env.position)
        assert terminated == (env.position == env.layout.goal)
        assert truncated == (count == 8)
        if truncated:
            assert (text, pay, env.position) == ("Failure\n", -1.0, before)
        else:
            pays = env.rewards
            expected = pays.goal if terminated else pays.invalid if action not in MOVES else pays.otherwise
            assert pay == expected
            assert info["is_invalid"] == (action not in MOVES)
        if terminated or truncated:
            return


def test_shortest_distances_are_the_published_ones() -> None:
    distances = DOUBLE_T.distances((8, 6))
    known = {(1, 1): 12, (1, 3): 10, (1, 5): 12, (1, 7): 12, (1, 11): 12, (2, 9): 9, (5, 3): 6, (5, 6): 3, (7, 6): 1}
    assert {cell: distances[cell] for cell in known} == known
    assert sum(distances.values()) / 25 == pytest.approx(7.84)


def test_value_iteration_of_the_double_t_is_the_published_optimum() -> None:
    best = optimal_values("double_t")
    distances = DOUBLE_T.distances((8, 6))
    assert best.values == {cell: -float(max(distance - 1, 0)) for cell, distance in distances.items()}
    assert sum(best.values[cell] for cell in best.greedy) / 25 == pytest.approx(-6.84)
    assert best.greedy[1, 1] == best.greedy[5, 3] == ("move right\n",)
    assert best.greedy[1, 3] == best.greedy[3, 9] == best.greedy[5, 6] == ("move down\n",)
    assert best.action_values[7, 6] == {"move left\n": -1, "move right\n": -1, "move up\n": -2, "move down\n": 0}


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("layout", [*LAYOUTS, random_layout(rows=9, columns=7, seed=1)])
def test_values_satisfy_the_bellman_equation(layout: str, reward: str) -> None:
    maze, pays = Layout.parse(layout), REWARDS[reward]
    best = optimal_values(maze, gamma=0.9, reward=reward)
    for cell, choices in best.action_values.items():
        for action, value in choices.items():
            there = maze.move(cell, action)
            assert value == pytest.approx(
                pays.goal if there == maze.goal else pays.otherwise + 0.9 * best.values[there]
            )
        assert best.values[cell] == max(choices.values())
    assert best.values[maze.goal] == 0


def test_discounted_value_by_hand() -> None:
    best = optimal_values("umaze", gamma=0.5)
    assert best.values[3, 1] == -(1 + 0.5 + 0.25 + 0.125 + 0.0625)
    assert best.values[2, 3] == 0
    with pytest.raises(ValueError, match="gamma"):
        optimal_values("umaze", gamma=0.0)
    with pytest.raises(ValueError, match="reward"):
        optimal_values("umaze", reward="gold")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_optimal_player_earns_the_optimal_values(layout: str) -> None:
    player = OptimalPlayer(layout=layout)
    assert isinstance(player, Policy)
    starts = [Start(0, options) for options in Maze(layout=layout).evaluation_starts()]
    played = rollout(partial(Maze, layout=layout), player, starts, memory=1)
    best = optimal_values(layout)
    for start, trajectory in zip(starts, played, strict=True):
        assert trajectory.terminated
        assert trajectory.info["success"]
        assert trajectory.total_reward == best.values[start.options["init_position"]]


def test_optimal_player_needs_its_position() -> None:
    request = Request((Turn("There is a wall above you.\n", is_action=False),))
    with pytest.raises(ValueError, match="needs its position"):
        OptimalPlayer().act([request])


def test_published_maximum_of_the_partial_maze_is_beaten_by_one_step_of_memory() -> None:
    starts = [Start(0, options) for options in Maze().evaluation_starts()]
    played = rollout(partial(Maze, describe="walls"), RememberingPlayer(), starts, memory=2)
    assert sum(trajectory.total_reward for trajectory in played) / 25 == pytest.approx(-7.24)


def test_the_remembering_player_knows_one_maze() -> None:
    with pytest.raises(ValueError, match="knows only the layout double_t, not 'umaze'"):
        RememberingPlayer(layout="umaze")


def test_exact_return_of_the_random_player_agrees_with_play() -> None:
    maze, chance, returns = Layout.parse("umaze"), random.Random(0), []
    exact = expected_return(maze, dict.fromkeys(maze.free, dict.fromkeys(MOVES, 1.0)), REWARDS["standard"], 8)
    env = Maze(layout="umaze", describe="walls", max_steps=8)
    starts = env.evaluation_starts()
    for episode in range(900):
        env.reset(seed=episode, options=starts[episode % len(starts)])
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(chance.choice(tuple(MOVES)))
            total, over = total + reward, terminated or truncated
        returns.append(total)
    # The standard error of the mean is 0.09.
    assert sum(returns) / len(returns) == pytest.approx(exact, abs=0.3)
    even = dict.fromkeys(DOUBLE_T.free, dict.fromkeys(MOVES, 1.0))
    assert expected_return(DOUBLE_T, even, REWARDS["standard"], 100) == pytest.approx(-85.89, abs=0.01)
