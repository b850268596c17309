"""Offline data: the maze's recipe meets the published statistics, and stored data come back unchanged or not at all."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import datasets
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lmrl.data import store
from lmrl.data.filters import Successful, TopFraction
from lmrl.data.generate import folder_of, generate, load_or_generate
from lmrl.data.recipe import Recipe
from lmrl.data.rows import FEATURES, RowError, from_row, to_row
from lmrl.data.statistics import Summary
from lmrl.envs.core import TextEnv
from lmrl.tasks.maze.env import Maze, optimal_values, read_position
from lmrl.tasks.maze.grid import LAYOUTS, MOVES, Cell, Layout, random_layout
from lmrl.tasks.maze.published import PublishedMaze
from lmrl.tasks.maze.recipe import SubMazeRecipe, action_counts, split
from lmrl.text.trajectory import Trajectory, Turn

CONF = Path(__file__).resolve().parent.parent / "conf"
DOUBLE_T = Layout.parse("double_t")
BEST = optimal_values(DOUBLE_T)


@pytest.fixture(scope="module")
def recipe() -> SubMazeRecipe:
    return SubMazeRecipe(env=Maze, task="maze", trajectories=1240)


@pytest.fixture(scope="module")
def episodes(recipe: SubMazeRecipe) -> list[Trajectory]:
    return list(recipe)


def small(trajectories: int = 12, **arguments: Any) -> SubMazeRecipe:
    return SubMazeRecipe(env=Maze, task="maze", trajectories=trajectories, **arguments)


def cells_of(trajectory: Trajectory) -> list[Cell]:
    """Return where the episode was; `Success` is the goal."""
    told = [read_position(turn.text) for turn in trajectory.turns if not turn.is_action]
    return [place[0] if place else DOUBLE_T.goal for place in told]


# The maze's recipe


def test_statistics_meet_the_published_ones(recipe: SubMazeRecipe, episodes: list[Trajectory]) -> None:
    summary = Summary()
    for trajectory in episodes:
        summary.add(trajectory)
    numbers = summary.statistics() | recipe.statistics(episodes)
    assert numbers["trajectories"] == 1240
    assert numbers["length_mean"] == pytest.approx(19.7, abs=2)
    assert numbers["return_mean"] == pytest.approx(-19.7, abs=2)
    assert numbers["success_rate"] == pytest.approx(0.11, abs=0.03)
    assert numbers["empirical_policy_return"] == pytest.approx(-83, abs=1.5)
    assert numbers["optimal_policy_return"] == pytest.approx(-6.84)


def test_every_step_of_every_optimal_path_is_in_the_data(episodes: list[Trajectory]) -> None:
    counts = action_counts(episodes, DOUBLE_T)
    missing = [(cell, move) for cell, moves in BEST.greedy.items() for move in moves if not counts[cell][move]]
    assert len(BEST.greedy) == 25
    assert not missing


def test_no_episode_shows_a_whole_path_from_a_bar_to_the_goal(episodes: list[Trajectory]) -> None:
    visited = [set(cells_of(trajectory)) for trajectory in episodes]
    assert sum(DOUBLE_T.goal in cells for cells in visited) > 100
    assert sum(bool(cells & {(1, 1), (1, 11)}) for cells in visited) > 100
    for cells in visited:
        assert not (DOUBLE_T.goal in cells and any(row < 5 for row, _ in cells))


def test_episodes_stay_in_their_sub_maze_and_end_where_they_must(
    recipe: SubMazeRecipe, episodes: list[Trajectory]
) -> None:
    for trajectory in episodes:
        cells, info = cells_of(trajectory), trajectory.info
        assert set(cells) <= recipe.sub_mazes[info["sub_maze"]].cells
        assert cells[0] == tuple(info["start"])
        assert trajectory.terminated == info["success"] == (trajectory.turns[-1].text == "Success\n")
        assert trajectory.truncated != trajectory.terminated
        ended_well = cells[-1] in (tuple(info["sub_goal"]), DOUBLE_T.goal)
        assert ended_well or trajectory.length == 100
        assert not {tuple(info["sub_goal"]), DOUBLE_T.goal} & set(cells[:-1])


def test_data_are_what_the_environment_says(episodes: list[Trajectory]) -> None:
    env = Maze()
    for trajectory in episodes[:60]:
        observation, _ = env.reset(seed=trajectory.seed, options={"init_position": trajectory.info["start"]})
        assert trajectory.turns[0].text == observation
        for action, reply in zip(trajectory.turns[1::2], trajectory.turns[2::2], strict=True):
            observation, reward, *_ = env.step(action.text)
            assert (reply.text, action.reward) == (observation, reward)


def test_the_double_t_is_cut_as_the_paper_draws_it() -> None:
    centre, right, left = split(DOUBLE_T, 3)
    corridor = {(5, column) for column in range(4, 9)}
    assert centre.cells == corridor | {(6, 6), (7, 6), (8, 6)}
    stem = {(row, 3) for row in range(2, 6)}
    assert left.cells == {(1, column) for column in range(1, 6)} | stem | {(5, 4)}
    assert right.cells == {(row, 12 - column) for row, column in left.cells}
    assert left.landmarks == ((1, 1), (1, 5), (5, 4))
    assert centre.landmarks == ((5, 4), (5, 8), (8, 6))


@given(
    text=st.one_of(
        st.sampled_from(sorted(LAYOUTS)),
        st.builds(partial(random_layout, rows=9), columns=st.sampled_from([5, 7, 11]), seed=st.integers(0, 999)),
    ),
    parts=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_any_maze_is_cut_into_connected_parts_that_hold_all_optimal_steps(text: str, parts: int) -> None:
    layout = Layout.parse(text)
    try:
        cut = split(layout, parts)
    except ValueError:
        assume(False)
    assert len(cut) == parts
    assert set().union(*(part.cells for part in cut)) == set(layout.free)
    for part in cut:
        assert set(layout.distances(part.landmarks[0], part.cells)) == part.cells, "a part is connected"
        assert set(part.landmarks) <= part.cells
    for cell, moves in optimal_values(layout).greedy.items():
        for move in moves:
            assert any({cell, layout.move(cell, move)} <= part.cells for part in cut)


@pytest.mark.parametrize("layout", ["umaze", "medium", "large", random_layout(rows=7, columns=9, seed=4)])
def test_other_layouts_have_data_too(layout: str) -> None:
    made = SubMazeRecipe(env=partial(Maze, layout=layout, describe="walls"), task="maze", trajectories=30)
    numbers = made.statistics(made)
    assert -101 <= numbers["empirical_policy_return"] < numbers["optimal_policy_return"] < 0


def test_both_observations_show_the_same_walks(episodes: list[Trajectory]) -> None:
    partial_view = SubMazeRecipe(env=partial(Maze, describe="walls"), task="maze_po")
    for full, blind in zip(episodes[:50], partial_view, strict=False):
        assert full.turns[1::2] == blind.turns[1::2]
        assert full.info == blind.info
    counted = [action_counts(source, DOUBLE_T) for source in (episodes[:50], [partial_view.play(i) for i in range(50)])]
    assert counted[0] == counted[1]


def test_seeds_decide_the_data() -> None:
    assert list(small(seed=3)) == list(small(seed=3))
    assert list(small(seed=3)) != list(small(seed=4))
    assert list(small(seed=0)) == list(small())
    assert list(small(5)) == list(small(12))[:5], "an episode depends on its index alone"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directed": 1.5}, "directed of .* must be at most 1, got 1.5"),
        ({"landmark": -0.1}, "landmark of .* must be at least 0, got -0.1"),
        ({"trajectories": 0}, "trajectories of .* must be at least 1, got 0"),
        ({"parts": 0}, "parts of .* must be at least 1, got 0"),
        ({"parts": 26}, "cannot be cut into 26 parts"),
        ({"env": partial(Maze, layout="umaze"), "parts": 4}, "into 4 parts: one has only the goal"),
        ({"env": TextEnv}, "must build a Maze"),
    ],
)
def test_bad_recipes_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubMazeRecipe(**({"env": Maze, "task": "maze"} | arguments))


# Rows and folders

texts = st.text(st.characters(codec="utf-8"), max_size=8)
said = st.tuples(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), st.floats(-100, 100, width=32))
plain = st.tuples(
    st.lists(said, min_size=2, max_size=6),
    st.booleans(),
    st.none() | st.integers(0, 2**63 - 1),
    st.dictionaries(texts, st.one_of(st.booleans(), st.integers(-9, 9), texts), max_size=3),
)


def trajectory_of(plain: tuple) -> Trajectory:
    said, terminated, seed, info = plain
    turns = tuple(Turn(text, i % 2 == 1, reward if i % 2 else 0.0) for i, (text, reward) in enumerate(said))
    return Trajectory(turns, terminated, not terminated, seed, info)


NAMES: dict[str, Any] = {"task": "t", "policy": "p", "env_version": "1"}


@given(plain=plain)
@settings(max_examples=50, deadline=None)
def test_an_episode_survives_its_row(plain: tuple) -> None:
    trajectory = trajectory_of(plain)
    row = to_row(trajectory, episode_id="x", **NAMES)
    assert set(row) == set(FEATURES)
    assert from_row(row) == trajectory


@given(plains=st.lists(plain, min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_episodes_survive_the_disk(plains: list[tuple], tmp_path_factory: pytest.TempPathFactory) -> None:
    said = [trajectory_of(plain) for plain in plains]
    folder = tmp_path_factory.mktemp("data") / "set"
    store.save(iter(said), folder, recipe={"a": 1}, **NAMES)
    data = store.load(folder)
    assert data.trajectories == said
    assert data.fingerprint == store.fingerprint(task="t", env_version="1", recipe={"a": 1})
    assert data.statistics["trajectories"] == len(said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": [{"role": "bot", "content": "a"}]}, "field 'messages': message 0: expected a role"),
        ({"messages": [{"role": "user", "content": None}]}, "field 'messages': message 0: expected text"),
        ({"messages": []}, "field 'messages': expected a list"),
        ({"rewards": [0.0]}, "field 'rewards': 1 rewards for 3 messages"),
        ({"rewards": [-1.0, 0.0, 0.0]}, "field 'rewards': entry 0 is -1.0, but message 0 is not an action"),
        ({"rewards": [0.0, float("nan"), 0.0]}, "field 'rewards': entry 1: expected a finite number, got nan"),
        ({"return": 7.0}, "field 'return': 7.0, but the rewards sum to -1.0"),
        ({"terminated": None}, "field 'terminated': expected true or false, got None"),
        ({"terminated": True, "truncated": True}, "field 'truncated': .*not both"),
        ({"seed": "0"}, "field 'seed': expected a whole number"),
        ({"task": ""}, "field 'task': expected text"),
        ({"meta": "[1]"}, "field 'meta': expected a JSON object"),
        ({"meta": "{"}, "field 'meta': expected a JSON object"),
    ],
)
def test_damaged_rows_name_their_field(change: dict, message: str) -> None:
    said = (Turn("a", False), Turn("b", True, -1.0), Turn("c", False))
    row = to_row(Trajectory(said, False, True), episode_id="x", **NAMES)
    if change.get("rewards", [0])[0] == -1.0:
        change |= {"return": -1.0}
    with pytest.raises(RowError, match=message):
        from_row(row | change)


def test_a_missing_field_is_named() -> None:
    row = to_row(Trajectory((Turn("a", False), Turn("b", True)), True), episode_id="x", **NAMES)
    del row["policy"]
    with pytest.raises(RowError, match="field 'policy': missing"):
        from_row(row)


def rewrite(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        pq.write_table(change(pq.read_table(file)), file)

    return damage


def bad_row(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    rows[7]["rewards"] = rows[7]["rewards"][:-1]
    return pa.Table.from_pylist(rows, schema=table.schema)


def flip_bits(file: Path) -> None:
    content = bytearray(file.read_bytes())
    middle = slice(len(content) // 3, len(content) // 3 + 40)
    content[middle] = bytes(255 - byte for byte in content[middle])
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rewrite(lambda table: table.drop_columns("rewards")), "field 'rewards' is missing"),
        (
            rewrite(lambda t: t.set_column(3, "seed", pa.array(["x"] * len(t)))),
            "field 'seed' has type string, not int64",
        ),
        (rewrite(bad_row), r"row 7, field 'rewards': \d+ rewards for \d+ messages"),
        (rewrite(lambda table: table.slice(0, 5)), "has 5 rows, but dataset.json says 12"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "cannot be read as Parquet"),
        (lambda file: file.write_text("not parquet"), "cannot be read as Parquet"),
        (lambda file: file.unlink(), "cannot be read as Parquet"),
        (flip_bits, "damaged|cannot be read|field"),
    ],
)
def test_damaged_files_name_file_row_and_field(damage: Callable, message: str, tmp_path: Path) -> None:
    folder = generate(small(), tmp_path, progress=False)
    damage(folder / "train-00000.parquet")
    with pytest.raises(ValueError, match=rf"train-00000\.parquet.*({message})"):
        store.load(folder)


def test_damaged_descriptions_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a dataset of lmrl"):
        store.load(tmp_path)
    folder = generate(small(), tmp_path, progress=False)
    description = json.loads((folder / "dataset.json").read_text())
    for change, message in [
        ({"format": 1}, "format 1, but this version of lmrl reads 2: make the data again"),
        ({"files": None}, "field 'files'"),
    ]:
        (folder / "dataset.json").write_text(json.dumps(description | change))
        with pytest.raises(ValueError, match=message):
            store.load(folder)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset\.json: damaged"):
        store.load(folder)


def test_large_data_are_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROWS_PER_GROUP", 2)
    monkeypatch.setattr(store, "ROWS_PER_FILE", 4)
    folder = generate(small(11), tmp_path, progress=False)
    assert store.describe(folder)["files"] == {f"train-{i:05d}.parquet": rows for i, rows in enumerate([4, 4, 3])}
    assert store.load(folder).trajectories == list(small(11))


def test_other_libraries_read_the_folder(tmp_path: Path) -> None:
    folder = generate(small(), tmp_path, progress=False)
    table = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(table, datasets.Dataset)
    assert table.features == FEATURES
    assert [from_row(row) for row in table] == list(small())  # type: ignore[arg-type]
    assert {message["role"] for message in table[0]["messages"]} == {"user", "assistant"}
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert "| length mean |" in card


def test_files_written_by_datasets_are_read_too(tmp_path: Path) -> None:
    folder = generate(small(), tmp_path, progress=False)
    file = folder / "train-00000.parquet"
    datasets.Dataset.from_list(pq.read_table(file).to_pylist(), features=FEATURES).to_parquet(str(file))
    assert store.load(folder).trajectories == list(small())


class Interrupted(SubMazeRecipe):
    def __iter__(self) -> Iterator[Trajectory]:
        yield self.play(0)
        raise KeyboardInterrupt


def test_interrupted_generation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_or_generate(recipe=Interrupted(env=Maze, task="maze"), root=tmp_path, progress=False, workers=1)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_data_are_made_once(tmp_path: Path) -> None:
    made = load_or_generate(recipe=small(), root=tmp_path / "new", published={"length_mean": 19.7}, progress=False)
    file = made.folder / "train-00000.parquet"
    stamp = file.stat().st_mtime_ns
    again = load_or_generate(recipe=small(), root=tmp_path / "new", progress=False)
    assert again == made
    assert file.stat().st_mtime_ns == stamp
    assert made.trajectories == list(small())
    assert made.published == {"length_mean": 19.7}
    with pytest.raises(FileExistsError, match="exists already"):
        store.save(small(), made.folder, recipe={}, **NAMES)


def test_changed_settings_are_other_data(tmp_path: Path) -> None:
    others = [small(), small(13), small(seed=1), small(directed=0.2), small(parts=2)]
    others += [
        SubMazeRecipe(env=partial(Maze, layout=name), task="maze", trajectories=12) for name in ("umaze", "large")
    ]
    others.append(SubMazeRecipe(env=Maze, task="other", trajectories=12))
    assert len({folder_of(other, tmp_path) for other in others}) == len(others)
    assert all(isinstance(other, Recipe) for other in others)


def make_small(root: Path) -> Path:
    return generate(small(), root, progress=False)


def test_two_processes_may_make_the_same_data(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        folders = list(pool.map(make_small, [tmp_path, tmp_path]))
    assert folders == [folder_of(small(), tmp_path)] * 2
    assert list(store.read(folders[0])) == list(small())
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == [folders[0].name]


def test_any_number_of_processes_makes_the_same_rows(tmp_path: Path) -> None:
    alone = load_or_generate(recipe=small(45), root=tmp_path / "one", workers=1, progress=False)
    shared = load_or_generate(recipe=small(45), root=tmp_path / "two", workers=2, progress=False)
    assert list(store.rows(shared.folder)) == list(store.rows(alone.folder))
    assert shared.statistics == pytest.approx(alone.statistics)
    assert (shared.fingerprint, shared.recipe) == (alone.fingerprint, alone.recipe)
    assert len(store.describe(shared.folder)["files"]) > 1
    assert sorted(path.suffix for path in shared.folder.iterdir()) == sorted(
        [".md", ".json"] + [".parquet"] * len(store.describe(shared.folder)["files"])
    )


class Killed(SubMazeRecipe):
    """A recipe whose process is killed at its 30th episode, as long as a file is there; it notes what it plays.

    It is killed when the first part of the data is whole, however slowly the other process starts.
    """

    folder: Path

    def play(self, index: int) -> Trajectory:
        if index == 30 and (self.folder / "kill").exists():
            while not any(self.folder.glob("data/.*.parts/00000.sums.json")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "played").open("a") as file:
            file.write(f"{index} ")
        return super().play(index)


def test_data_that_were_interrupted_go_on(tmp_path: Path) -> None:
    recipe = Killed(env=Maze, task="maze", trajectories=45)
    recipe.folder = tmp_path
    (tmp_path / "kill").touch()
    with pytest.raises(BrokenProcessPool):
        load_or_generate(recipe=recipe, root=tmp_path / "data", workers=2, progress=False)
    assert not folder_of(recipe, tmp_path / "data").exists()
    before = (tmp_path / "played").read_text().split()
    (tmp_path / "kill").unlink()
    data = load_or_generate(recipe=recipe, root=tmp_path / "data", workers=2, progress=False)
    assert data.trajectories == list(small(45))
    again = (tmp_path / "played").read_text().split()[len(before) :]
    assert "0" in before
    assert "0" not in again


class Endless(SubMazeRecipe):
    """A recipe that plays for ever, and notes which processes do."""

    folder: Path

    def play(self, index: int) -> Trajectory:
        (self.folder / f"{os.getpid()}.pid").touch()
        while True:
            time.sleep(0.01)


def _make_endless(folder: Path) -> None:
    recipe = Endless(env=Maze, task="maze", trajectories=45)
    recipe.folder = folder
    load_or_generate(recipe=recipe, root=folder / "data", workers=2, progress=False)


def test_no_process_goes_on_without_the_one_that_started_it(tmp_path: Path) -> None:
    """However suddenly the making of data ends, its processes do not go on unseen."""
    parent = get_context("spawn").Process(target=_make_endless, args=(tmp_path,))
    parent.start()
    deadline = time.monotonic() + 120
    while len(pids := [int(file.stem) for file in tmp_path.glob("*.pid")]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2
    assert parent.pid not in pids
    workers = [psutil.Process(pid) for pid in pids]
    parent.kill()
    parent.join()
    _, alive = psutil.wait_procs(workers, timeout=30)
    for worker in alive:
        worker.kill()
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


def test_data_of_another_task_are_refused(tmp_path: Path) -> None:
    folder = generate(small(), tmp_path, progress=False)
    other = SubMazeRecipe(env=Maze, task="maze_po", trajectories=12)
    with pytest.raises(ValueError, match="holds data of the task 'maze', not of 'maze_po'"):
        load_or_generate(recipe=other, root=tmp_path, folder=folder)
    assert load_or_generate(recipe=small(99), root=tmp_path, folder=folder).trajectories == list(small())


# Filters


def returns(*values: float, **info: Any) -> list[Trajectory]:
    return [Trajectory((Turn("a", True, value),), True, info=info) for value in values]


@pytest.mark.parametrize(("fraction", "kept"), [(0.1, [5.0]), (0.4, [5.0, 3.0]), (0.6, [1.0, 5.0, 3.0]), (1.0, None)])
def test_top_fraction_keeps_the_best_in_order(fraction: float, kept: list[float] | None) -> None:
    data = returns(1.0, 5.0, 0.0, 3.0, 1.0)
    assert TopFraction(fraction=fraction)(data) == (data if kept is None else returns(*kept))


@given(values=st.lists(st.floats(-9, 9), max_size=40), fraction=st.floats(0.001, 1))
def test_top_fraction_drops_nothing_better(values: list[float], fraction: float) -> None:
    kept = [t.total_reward for t in TopFraction(fraction=fraction)(returns(*values))]
    assert fraction * len(values) - 1e-5 <= len(kept) <= fraction * len(values) + 1
    assert sorted(kept) == sorted(values)[len(values) - len(kept) :]


def test_top_fraction_counts_without_rounding_noise() -> None:
    assert len(TopFraction(fraction=0.1)(returns(*map(float, range(30))))) == 3


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.1])
def test_bad_fractions_are_told(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction of TopFraction must be"):
        TopFraction(fraction=fraction)


def test_successful_keeps_what_says_so(episodes: list[Trajectory]) -> None:
    kept = Successful()(episodes)
    assert len(kept) == sum(trajectory.terminated for trajectory in episodes)
    assert all(trajectory.turns[-1].text == "Success\n" for trajectory in kept)
    with pytest.raises(ValueError, match="episode 0 does not say"):
        Successful()(returns(1.0))


# Published files


def published_full(trajectory: Trajectory) -> str:
    pairs = zip(trajectory.turns[::2], trajectory.turns[1::2], strict=False)
    steps = [{"state": s.text, "action": a.text, "reward": a.reward, "done": False} for s, a in pairs]
    steps[-1]["done"] = True
    return json.dumps(steps)


def published_partial(trajectory: Trajectory, *, with_end: bool = False) -> str:
    said = trajectory.turns if with_end else trajectory.turns[:-1]
    history, paid = [turn.text for turn in said], [turn.reward for turn in said]
    return json.dumps({"text_history": history, "rewards": paid, "dones": [False] * len(said)})


@pytest.mark.parametrize("layout", [published_full, published_partial])
def test_published_layouts_are_read(layout: Callable[[Trajectory], str], recipe: SubMazeRecipe, tmp_path: Path) -> None:
    originals = [recipe.play(index) for index in range(40)]
    file = tmp_path / "published.jsonl"
    file.write_text("\n".join(map(layout, originals)) + "\n\n")
    read = list(PublishedMaze(path=file, like=recipe))
    assert len(read) == 40
    assert {trajectory.terminated for trajectory in read} == {True, False}
    for original, copy in zip(originals, read, strict=True):
        assert copy.turns == original.turns[:-1]
        assert (copy.terminated, copy.truncated) == (original.terminated, original.truncated)
        assert copy.info["success"] == original.info["success"]


def test_a_recorded_end_is_kept(recipe: SubMazeRecipe, tmp_path: Path) -> None:
    originals = [recipe.play(index) for index in range(10)]
    file = tmp_path / "published.jsonl"
    file.write_text("\n".join(published_partial(t, with_end=True) for t in originals))
    read = list(PublishedMaze(path=file, like=recipe))
    assert [trajectory.turns for trajectory in read] == [trajectory.turns for trajectory in originals]


def test_published_files_become_datasets(recipe: SubMazeRecipe, tmp_path: Path) -> None:
    file = tmp_path / "published.jsonl"
    file.write_text("\n".join(published_full(recipe.play(index)) for index in range(40)))
    source = PublishedMaze(path=file, like=recipe)
    data = load_or_generate(recipe=source, root=tmp_path / "data", progress=False)
    assert (len(source), data.task, data.env_version, data.policy) == (40, "maze", Maze.version, "lmrl-gym")
    # Cells are read from the text, so the published "dataset average" can be computed.
    expected = recipe.statistics(recipe.play(index) for index in range(40))["empirical_policy_return"]
    assert data.statistics["empirical_policy_return"] == pytest.approx(expected)
    with pytest.raises(FileNotFoundError, match="no such file"):
        PublishedMaze(path=tmp_path / "missing.jsonl", like=recipe)


STEP = {"state": "s\n", "action": "a\n", "reward": -1.0, "done": False}
HISTORY = {"text_history": ["s\n", "a\n"], "rewards": [0.0, -1.0], "dones": [False, True]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "the whole line: not JSON"),
        ("3", "the whole line: expected a list or an object, got 3"),
        ("[]", "the whole line: a trajectory without any action"),
        (json.dumps([STEP, 4]), "step 1: expected an object, got 4"),
        (json.dumps([STEP, {k: v for k, v in STEP.items() if k != "reward"}]), "step 1, field 'reward': missing"),
        (json.dumps([STEP | {"state": None}]), "step 0, field 'state': expected text, got None"),
        (json.dumps([STEP | {"action": 1}]), "step 0, field 'action': expected text, got 1"),
        (json.dumps([STEP | {"reward": True}]), "step 0, field 'reward': expected a finite number, got True"),
        (json.dumps([STEP | {"reward": float("inf")}]), "entry 0, field 'reward': expected a finite number, got inf"),
        (json.dumps([STEP | {"done": 0}]), "step 0, field 'done': expected true or false, got 0"),
        (json.dumps({"rewards": [], "dones": []}), "field 'text_history': expected a list, got None"),
        (json.dumps(HISTORY | {"rewards": [0.0]}), "field 'rewards': 1 entries for 2 texts"),
        (json.dumps(HISTORY | {"dones": []}), "field 'dones': 0 entries for 2 texts"),
        (json.dumps(HISTORY | {"text_history": ["s\n", 5]}), "field 'text_history', entry 1: expected text, got 5"),
        (json.dumps(HISTORY | {"rewards": [0.0, "x"]}), "field 'rewards', entry 1: expected a finite number"),
        (json.dumps(HISTORY | {"dones": [False, "no"]}), "field 'dones', entry 1: expected true or false"),
    ],
)
def test_damaged_lines_name_file_line_and_field(line: str, message: str, recipe: SubMazeRecipe, tmp_path: Path) -> None:
    file = tmp_path / "published.jsonl"
    file.write_text(json.dumps([STEP]) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=rf"published\.jsonl, line 2, {message}"):
        list(PublishedMaze(path=file, like=recipe))


def test_bytes_that_are_no_text_are_told(recipe: SubMazeRecipe, tmp_path: Path) -> None:
    file = tmp_path / "published.jsonl"
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="line 1, the whole line: not JSON"):
        list(PublishedMaze(path=file, like=recipe))


# Configuration


@pytest.mark.parametrize(("task", "memory", "describe"), [("maze", 1, "position"), ("maze_po", 40, "walls")])
def test_configuration_makes_the_data(task: str, memory: int, describe: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=[f"+task={task}", f"+data_dir={tmp_path}", "task.dataset.recipe.trajectories=20"])
    data = instantiate(cfg.task.dataset, progress=False)()
    assert data.task == cfg.task.name == task
    assert len(data.trajectories) == 20
    assert data.folder.parent == tmp_path
    assert data.recipe["game"]["describe"] == describe
    assert instantiate(cfg.task.env)().settings == data.recipe["game"]
    assert (cfg.task.memory, cfg.task.gamma, cfg.task.max_new_tokens, cfg.task.evaluation.repeats) == (
        memory,
        0.99,
        8,
        32,
    )
    assert data.published["success_rate"] == 0.11


def test_configured_layouts_reach_the_data(tmp_path: Path) -> None:
    drawn = "task.env.layout={_target_: lmrl.tasks.maze.grid.random_layout, rows: 7, columns: 7, seed: 0}"
    for override in ("task.env.layout=umaze", drawn):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose(
                overrides=["+task=maze", f"+data_dir={tmp_path}", "task.dataset.recipe.trajectories=5", override]
            )
        assert len(instantiate(cfg.task.dataset, progress=False)().trajectories) == 5
    assert len(list(tmp_path.glob("maze-*"))) == 2


def test_every_move_is_known() -> None:
    assert set(Maze().legal_actions()) == set(MOVES)
