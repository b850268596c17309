"""Where data come from besides recipes: exported files, own dialogues, folders; and data that teach nothing."""

import json
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl.config.checks import ConfigError, check_config
from lmrl.data import store
from lmrl.data.__main__ import main
from lmrl.data.rows import to_row
from lmrl.experiment.run import prepare
from lmrl.text.trajectory import Trajectory, Turn

NAMES: dict[str, str] = {"task": "maze", "policy": "p", "env_version": "1"}
SMALL = "task.dataset.recipe.trajectories=6"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        status = main([command, "task=maze", *arguments, SMALL, f"data_dir={tmp_path / 'data'}"])
        printed = capsys.readouterr()
        return status, printed.out, "".join(re.findall(r"^error: .*", printed.err, re.MULTILINE))

    return call


# Export and import


def test_what_is_exported_can_be_imported_and_is_the_same_byte_for_byte(run: Callable, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert run("export", "--to", str(first))[0] == 0
    status, out, err = run("import", "--file", str(first))
    assert (status, err) == (0, "")
    folder = out.splitlines()[0]
    assert run("export", f"task.dataset.folder={folder}", "--to", str(second))[0] == 0
    assert second.read_bytes() == first.read_bytes()
    (original,) = (place for place in (tmp_path / "data").glob("maze-*") if str(place) != folder)
    ours, theirs = store.load(original), store.load(folder)
    assert ours.trajectories == theirs.trajectories
    assert ours.statistics == theirs.statistics
    assert (theirs.policy, theirs.env_version) == (ours.policy, ours.env_version)


@given(
    rewards=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9),
    text=st.text('a\u00e9\u2028"\\\U0001f600', min_size=1),
)
@settings(max_examples=40, deadline=None)
def test_a_row_that_is_read_is_the_row_that_was_written(rewards: list[float], text: str) -> None:
    """Rewards have 32 bits on disk; their sum must be that of the rewards as they are stored."""
    from lmrl.data.rows import from_row

    turns = tuple(turn for reward in rewards for turn in (Turn(text, False), Turn(text, True, reward)))
    row = to_row(Trajectory(turns, True, info={text: 1}), episode_id="x", **NAMES)
    assert to_row(from_row(json.loads(json.dumps(row))), episode_id="x", **NAMES) == row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "wordle"}, "field 'task': expected 'maze', as the whole file is one dataset of the task maze"),
        ({"env_version": "0"}, "field 'env_version': expected '1'"),
        ({"colour": 1}, "field 'colour': not a field of an exported episode"),
        ({"meta": "{}"}, "field 'meta': expected an object, got '{}'"),
        ({"rewards": []}, r"field 'rewards': 0 rewards for \d+ messages"),
    ],
)
def test_changed_exports_are_refused(change: dict, message: str, run: Callable, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    row = to_row(Trajectory((Turn("a", False), Turn("b", True)), True), episode_id="x", **NAMES) | {"meta": {}}
    file.write_text(f"{json.dumps(row)}\n{json.dumps(row | change)}\n")
    status, _, err = run("import", "--file", str(file))
    assert status == 1
    assert re.match(rf"error: .*mine\.jsonl, line 2, {message}", err), err


# Own dialogues

USER, AGENT = {"role": "user", "content": "Is it up or down?"}, {"role": "assistant", "content": "up\n"}
END = {"role": "user", "content": "It was down."}
OWN = {"messages": [USER, AGENT, END], "rewards": [-1]}


def imported(run: Callable, tmp_path: Path, *values: Any) -> store.Dataset:
    file = tmp_path / "own.jsonl"
    file.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    status, out, err = run("import", "--file", str(file))
    if status:
        raise ValueError(err)
    return store.load(out.splitlines()[0])


def test_own_dialogues_become_data(run: Callable, tmp_path: Path) -> None:
    system = {"role": "system", "content": "Guess."}
    data = imported(
        run,
        tmp_path,
        OWN,
        OWN | {"rewards": [0, -2.5, 0], "truncated": True, "policy": "me", "seed": 3, "meta": {"day": 1}},
        {"messages": [system, USER, AGENT], "return": 7, "success": True},
        {"messages": [system, AGENT, END, AGENT], "rewards": [1, 2]},
    )
    assert (data.task, data.policy) == ("maze", "imported")
    plain, whole, short, bare = data.trajectories
    assert plain.turns == (
        Turn("Is it up or down?\n", False),
        Turn("up\n", True, -1.0),
        Turn("It was down.\n", False),
    )
    assert (plain.terminated, plain.truncated, plain.seed, plain.info) == (True, False, None, {})
    assert [turn.reward for turn in whole.turns] == [0, -2.5, 0]
    assert (whole.terminated, whole.truncated, whole.seed, whole.info) == (False, True, 3, {"day": 1})
    assert short.turns == (Turn("Guess.\nIs it up or down?\n", False), Turn("up\n", True, 7.0))
    assert short.info == {"success": True}
    assert [(turn.text, turn.reward) for turn in bare.turns][:2] == [("Guess.\n", 0), ("up\n", 1)]
    assert bare.total_reward == 3
    assert [row["policy"] for row in store.rows(data.folder)] == ["imported", "me", "imported", "imported"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "the whole line: expected an object, got 3"),
        ({"messages": [USER, AGENT]}, "field 'rewards': missing; give one number for each action, or 'return'"),
        (OWN | {"reward": [1]}, "field 'reward': not a field of a dialogue (did you mean rewards?); put other facts"),
        (OWN | {"rewards": [1, 2]}, "field 'rewards': 2 numbers for 1 actions in 3 messages: give one for each action"),
        (OWN | {"rewards": [1, -1, 0]}, "field 'rewards', entry 0: 1.0 for a message that is not an action"),
        (OWN | {"rewards": ["x"]}, "field 'rewards', entry 0: expected a finite number, got 'x'"),
        (OWN | {"return": 5}, "field 'return': 5.0, but the rewards sum to -1.0"),
        (
            OWN | {"messages": [USER, {"role": "tool", "content": "x"}]},
            "field 'messages', entry 1, field 'role': expected",
        ),
        (
            OWN | {"messages": [USER, {"role": "assistant", "content": " "}]},
            "field 'messages', entry 1, field 'content': it",
        ),
        (
            OWN | {"messages": [USER, {"role": "assistant", "content": [{}]}]},
            "field 'messages', entry 1, field 'content': ex",
        ),
        (OWN | {"messages": [AGENT, USER]}, "message 0: an episode begins with an observation"),
        (
            OWN | {"messages": [USER, AGENT, AGENT], "rewards": [1, 1]},
            "message 2: role assistant follows role assistant",
        ),
        (OWN | {"messages": [USER]}, "field 'messages': an episode needs at least one action"),
        (OWN | {"messages": []}, "field 'messages': an episode needs at least one action"),
        (OWN | {"terminated": True, "truncated": True}, "field 'truncated': an episode is either"),
        (OWN | {"terminated": "yes"}, "field 'terminated': expected true or false, got 'yes'"),
        (OWN | {"seed": 1.5}, "field 'seed': expected a whole number of 64 bits or null, got 1.5"),
        (OWN | {"meta": []}, "field 'meta': expected an object, got []"),
        (OWN | {"rewards": [float("nan")]}, "field 'rewards', entry 0: expected a finite number, got nan"),
    ],
)
def test_faulty_dialogues_name_line_and_field(value: Any, message: str, run: Callable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^error: .*own\.jsonl, line 2, {re.escape(message)}"):
        imported(run, tmp_path, OWN, value)


def test_a_task_without_an_importer_says_what_it_reads(run: Callable, tmp_path: Path) -> None:
    file = tmp_path / "theirs.jsonl"
    file.write_text('{"a": 1}\n')
    status, _, err = run("import", "~task.importer", "--file", str(file))
    assert status == 1
    assert "the lines have no field 'messages', and the task maze has no importer for other layouts" in err


# Folders


def test_a_recipe_that_is_not_used_is_neither_checked_nor_built(
    compose: Callable, run: Callable, tmp_path: Path
) -> None:
    folder = imported(run, tmp_path, *[OWN] * 3).folder
    impossible = ("task.dataset.recipe.trajectories=-1", "task.dataset.recipe.parts=99", "task.env.max_steps=20")
    cfg = compose("task=maze", "algo=bc", *impossible, f"task.dataset.folder={folder}")
    check_config(cfg)
    task, _ = prepare(cfg)
    assert len(task.dataset.trajectories) == 3
    with pytest.raises(ConfigError, match=r"task\.dataset\.recipe\.trajectories must be at least 1, got -1"):
        check_config(compose("task=maze", "algo=bc", *impossible))
    with pytest.raises(ConfigError, match="holds data of the task 'maze', not of 'text_nav'"):
        prepare(compose("task=text_nav", "algo=bc", f"task.dataset.folder={folder}"))


@pytest.mark.parametrize("root", ["/proc/foo", "/dev/null"])
def test_data_that_cannot_be_written_name_the_key(root: str, compose: Callable) -> None:
    with pytest.raises(ConfigError, match=rf"^data_dir={root}: cannot write into this folder \("):
        prepare(compose("task=maze", "algo=bc", SMALL, f"data_dir={root}"))


@pytest.mark.parametrize("command", ["generate", "inspect"])
def test_the_data_command_names_the_key_too(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "task=maze", SMALL, "data_dir=/proc/foo"]) == 1
    assert (
        capsys.readouterr().err
        == "error: data_dir=/proc/foo: cannot write into this folder (No such file or directory)\n"
    )


@pytest.mark.parametrize(
    ("task", "limit"),
    [
        ("maze", "max_steps=20"), ("maze_po", "max_steps=20"), ("text_nav", "max_steps=9"), ("endgames", "max_moves=3"),
        ("twenty_questions", "questions=9"), ("car_dealer", "max_turns=9"), ("chess", "max_moves=3"),
    ],
)  # fmt: skip
def test_shorter_episodes_need_no_second_key(task: str, limit: str, compose: Callable) -> None:
    """The recipe follows the environment's limit."""
    cfg = compose(f"task={task}", "algo=bc", f"task.env.{limit}", "task.dataset.recipe.trajectories=4")
    recipe = instantiate(cfg.task.dataset.recipe)
    episodes = list(islice(recipe, 4))
    assert max(episode.length for episode in episodes) <= int(limit.split("=")[1])


# Data from which nothing can be learned


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("algo=dpo", "algo.module.min_gap=1000"),
            "no two episodes of the data begin with the same observation and differ",
        ),
        (("algo=bc", "+algo.module.least_return=5"), "no action in the data was followed by a return that high"),
        (
            ("algo=rcbc", "model.lm.window=24", "algo.module.template='{} of the points are still to be won'"),
            "with their returns",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused_before_any_training(
    overrides: tuple[str, ...], message: str, compose: Callable, data_dir: Path, tmp_path: Path
) -> None:
    """All stages are built before the first is trained: the prior's training must not come before this answer."""
    cfg = compose("task=maze", *overrides, SMALL, f"data_dir={tmp_path}")
    with pytest.raises(ConfigError, match=message):
        prepare(cfg)
    assert not (tmp_path / "priors").exists()
