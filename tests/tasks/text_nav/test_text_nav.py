"""Text-Nav: the house's rules and texts, its players, the behaviour data and the published layout."""

import json
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lmrl.data import store
from lmrl.data.generate import folder_of, generate
from lmrl.models.tokenizer import build
from lmrl.policies.core import Action, Policy, Request
from lmrl.rollout import Start, rollout
from lmrl.tasks.maze.env import Maze
from lmrl.tasks.text_nav.env import ExpertPlayer, RandomPlayer, TextNav, read_commands
from lmrl.tasks.text_nav.house import DIRECTIONS, EXITS, HOLDERS, ROOMS, THINGS, House, Reply, directions_to
from lmrl.tasks.text_nav.published import PublishedTextNav
from lmrl.tasks.text_nav.recipe import HALVES, WALKTHROUGH, HalfwayRecipe
from lmrl.tasks.text_nav.texts import ROOM_FAMILIES, listing
from lmrl.text.trajectory import Trajectory, Turn

Partial = partial(TextNav, display_location=False, display_inventory=False)
VARIANTS = {"full": TextNav, "partial": Partial}
OBJECTIVE = (
    "Your objective is to put the stale food on the table in the living room into the fridge in the kitchen.\n\n"
)
TO_THE_WIN = ("go west", "go west", "open fridge", "insert stale food into fridge", "close fridge")


def started(room: str, commands: Sequence[str] = (), make: Callable[..., TextNav] = TextNav) -> TextNav:
    """Return an environment in which some commands have been given."""
    env = make(max_steps=1000)
    env.reset(seed=1, options={"room": room})
    for command in commands:
        assert not env.step(f"{command}\n")[4]["is_invalid"], command
    return env


def test_transcript_of_a_won_game() -> None:
    env = TextNav()
    observation, info = env.reset(seed=1, options={"room": "bedroom"})
    assert info == {"room": "bedroom"}
    assert observation == (
        f"{OBJECTIVE}You have come to the bedroom. It smells of fresh paint.\n\n"
        "What you find here is a table. On the table you see a bowl.\n\nIf you want to leave, go south or west.\n\n"
        "You are carrying nothing.\n\nAdmissible commands: go south, go west, take bowl from table\n"
    )
    assert env.step("go west\n")[0] == (
        "You stand in a living room. It smells of fresh paint.\n\n"
        "You notice a table. The table has a stale food and a fresh food on it.\n\n"
        "If you want to leave, go east, south or west.\n\nYou are carrying nothing.\n\n"
        "Admissible commands: go east, go south, go west, take fresh food from table, take stale food from table\n"
    )
    assert env.step("take stale food from table\n") == (
        "You take the stale food from the table.\n\nYou are carrying: a stale food.\n\nAdmissible commands: "
        "drop stale food, eat stale food, go east, go south, go west, put stale food on table, "
        "take fresh food from table\n",
        0.0,
        False,
        False,
        {"success": False, "is_invalid": False, "lost": False, "room": "living room"},
    )
    for command in TO_THE_WIN[:2]:
        env.step(f"{command}\n")
    assert env.step("open fridge\n")[0] == (
        "You open the fridge, revealing a fruit.\n\nYou are carrying: a stale food.\n\nAdmissible commands: "
        "close fridge, drop stale food, eat stale food, go east, go north, go west, insert stale food into fridge, "
        "take fruit from fridge\n"
    )
    env.step("insert stale food into fridge\n")
    assert env.step("close fridge\n") == (
        "You close the fridge.\n\nYour score has just gone up by one point.\n\n*** The End ***\n\n"
        "You scored 1 out of a possible 1, in 7 turns.\n",
        1.0,
        True,
        False,
        {"success": True, "is_invalid": False, "lost": False, "room": "kitchen"},
    )
    with pytest.raises(RuntimeError, match="reset"):
        env.step("go east\n")


def test_eating_the_stale_food_loses() -> None:
    env = started("living room", ["take stale food from table"])
    assert env.step("eat stale food\n") == (
        "You eat the stale food. Not bad.\n\n*** You lost! ***\n\nYou scored 0 out of a possible 1, in 2 turns.\n",
        0.0,
        True,
        False,
        {"success": False, "is_invalid": False, "lost": True, "room": "living room"},
    )


def test_partial_observations_lack_name_and_inventory_and_nothing_else() -> None:
    full, part = TextNav(), Partial()
    for room in ROOMS:
        whole, less = (env.reset(seed=1, options={"room": room})[0] for env in (full, part))
        assert room in whole.removeprefix(OBJECTIVE)
        assert room not in less.removeprefix(OBJECTIVE)
        paragraphs = whole.removeprefix(OBJECTIVE).split("\n\n")
        assert paragraphs.pop(0).strip().endswith((".", "!"))
        paragraphs.remove("You are carrying nothing.")
        assert less == OBJECTIVE + "\n\n".join(paragraphs)
    said = "You take the fresh food from the table.\n\nAdmissible commands: drop fresh food, "
    assert started("living room", make=Partial).step("take fresh food from table\n")[0].startswith(said)
    _, part = part.reset(options={"room": "bedroom"}), part
    assert part.step("inventory\n")[0].startswith("You are carrying nothing.\n\nAdmissible")


@pytest.mark.parametrize(
    ("room", "before", "command", "feedback"),
    [
        ("living room", [], "take table", "The table does not move."),
        ("living room", [], "dance", "That's not a verb I recognise."),
        ("living room", [], "take", "That's not a verb I recognise."),
        ("living room", [], "", "That's not a verb I recognise."),
        ("living room", [], "look fridge", "That's not a verb I recognise."),
        ("living room", [], "go north", "You can't go that way."),
        ("living room", [], "go home", "You can't see any such thing."),
        ("living room", [], "open table", "That cannot be opened."),
        ("living room", [], "close table", "That cannot be closed."),
        ("living room", [], "open fridge", "You can't see any such thing."),
        ("living room", [], "eat stale food", "You need to take the stale food first."),
        ("living room", [], "eat table", "Nobody can eat that."),
        ("living room", [], "drop stale food", "You do not have that."),
        ("living room", [], "drop table", "The table is here already."),
        ("living room", ["take stale food from table"], "take stale food", "You have that already."),
        ("living room", ["take stale food"], "take stale food from table", "You can't see any such thing."),
        ("living room", ["take stale food"], "insert stale food into table", "Nothing goes into the table."),
        ("living room", ["take stale food"], "put stale food on stale food", "Nothing goes into or onto itself."),
        ("kitchen", [], "take fruit from fridge", "You can't see any such thing."),
        ("kitchen", [], "close fridge", "That's already closed."),
        ("kitchen", ["open fridge"], "open fridge", "That's already open."),
        ("kitchen", ["open fridge"], "insert fruit into fridge", "You need to take the fruit first."),
        ("kitchen", ["open fridge"], "insert fridge into fridge", "The fridge does not move."),
        ("kitchen", ["open fridge", "take fruit"], "put fruit on fridge", "Nothing stays on the fridge."),
        ("kitchen", ["open fridge", "take fruit", "close fridge"], "insert fruit into fridge", "The fridge is closed."),
        ("office", ["open chest"], "insert utensils into chest", "You need to take the utensils first."),
    ],
)
def test_refusals_change_nothing(room: str, before: list[str], command: str, feedback: str) -> None:
    env = started(room, before, Partial)
    state = pickle.dumps(vars(env.house))
    admissible = ", ".join(env.house.admissible())
    observation, reward, terminated, truncated, info = env.step(f"{command}\n")
    assert observation == f"{feedback}\n\nAdmissible commands: {admissible}\n"
    assert (reward, terminated, truncated, info["is_invalid"], info["success"]) == (0.0, False, False, True, False)
    assert pickle.dumps(vars(env.house)) == state


@pytest.mark.parametrize(
    ("room", "before", "command", "feedback"),
    [
        ("office", [], "open chest", "You open the chest, revealing some utensils."),
        ("office", ["open chest"], "close chest", "You close the chest."),
        ("office", ["open chest", "take utensils", "close chest"], "open chest", "You open the chest."),
        ("office", ["open chest", "take utensils"], "drop utensils", "You drop the utensils on the ground."),
        ("bedroom", ["take bowl", "drop bowl"], "take bowl", "You pick up the bowl from the ground."),
        ("bedroom", ["take bowl"], "put bowl on table", "You put the bowl on the table."),
        ("living room", ["take fresh food"], "eat fresh food", "You eat the fresh food. Not bad."),
        ("living room", [], "  TAKE the   stale food ", "You take the stale food from the table."),
        ("living room", ["take stale food", "take fresh food"], "inventory",
         "You are carrying: a fresh food and a stale food."),
    ],
)  # fmt: skip
def test_what_commands_answer(room: str, before: list[str], command: str, feedback: str) -> None:
    observation, _, _, _, info = started(room, before, Partial).step(f"{command}\n")
    assert observation.startswith(f"{feedback}\n\nAdmissible commands: ")
    assert not info["is_invalid"]


def test_looking_repeats_the_room_and_examining_tells_what_is_open() -> None:
    env = TextNav()
    first = env.reset(seed=4, options={"room": "kitchen"})[0]
    assert OBJECTIVE + env.step("look\n")[0] == first
    assert "It is closed." in env.step("examine fridge\n")[0]
    env.step("open fridge\n")
    assert "It is open." in env.step("examine fridge\n")[0]
    assert env.step("take fruit\n")[0].startswith("You take the fruit from the fridge.")
    env.step("drop fruit\n")
    assert "\n\nThere is a fruit on the floor.\n\n" in env.step("look\n")[0]


def test_fifteen_commands_and_no_more() -> None:
    env = TextNav()
    env.reset(seed=0, options={"room": "garden"})
    results = [env.step("nonsense\n") for _ in range(15)]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in results] == [(False, False)] * 14 + [
        (False, True)
    ]
    assert "Admissible commands: go south\n" in results[-1][0]
    with pytest.raises(RuntimeError, match="reset"):
        env.step("go south\n")


def test_a_win_with_the_last_command_is_a_win() -> None:
    env = TextNav(max_steps=6)
    env.reset(seed=0, options={"room": "living room"})
    results = [env.step(f"{command}\n") for command in ("take stale food from table", *TO_THE_WIN)]
    assert results[-1][1:4] == (1.0, True, False)


def test_the_food_must_be_behind_a_closed_door() -> None:
    env = started("living room", ["take stale food", *TO_THE_WIN[:3]])
    env.step("insert stale food into fridge\n")
    assert not env.house.is_won
    env.step("take stale food from fridge\n")
    assert env.step("close fridge\n")[1:4] == (0.0, False, False)


def test_the_house_is_the_published_one() -> None:
    opposite = {"west": "east", "east": "west", "north": "south", "south": "north"}
    for room, exits in EXITS.items():
        assert list(exits) == sorted(exits)
        assert all(EXITS[there][opposite[direction]] == room for direction, there in exits.items())
    assert len({frozenset(exits) for exits in EXITS.values()}) == len(ROOMS) == 8, "exits identify rooms"
    assert sorted(THINGS) == [
        "bowl", "coffee cup", "fresh food", "fruit", "plate", "stale food", "utensils",
    ]  # fmt: skip
    assert set(ROOMS) - set(HOLDERS) == {"bathroom", "garden", "backyard"}
    assert directions_to("kitchen") == {
        "dining room": "west", "garden": "south", "backyard": "east", "living room": "west", "bedroom": "west",
        "office": "north", "bathroom": directions_to("kitchen")["bathroom"],
    }  # fmt: skip


def test_wording_changes_between_episodes_and_never_within() -> None:
    env = TextNav()
    texts = {env.reset(seed=seed, options={"room": "kitchen"})[0] for seed in range(60)}
    assert len(texts) > 45
    assert env.reset(seed=7, options={"room": "kitchen"})[0] == env.reset(seed=7, options={"room": "kitchen"})[0]
    env.reset(seed=7, options={"room": "dining room"})
    described = {env.step("go west\n" if turn % 2 == 0 else "go east\n")[0] for turn in range(8)}
    assert len(described) == 2
    unseeded = [env.reset(options={"room": "kitchen"})[0] for _ in range(20)]
    assert len(set(unseeded)) > 10


def test_every_sentence_is_drawn_and_comes_out_whole() -> None:
    env, seen = TextNav(max_steps=1000), Counter[str]()
    for seed in range(70):
        for room in ROOMS:
            seen[env.reset(seed=seed, options={"room": room})[0]] += 1
        for command in ("open fridge", "look", "take fruit", "look"):
            if env.house.room != "kitchen":
                env.reset(seed=seed, options={"room": "kitchen"})
            seen[env.step(f"{command}\n")[0]] += 1
    everything = "\n".join(seen)
    assert "{" not in everything
    assert "  " not in everything
    assert " a unblocked" not in everything
    for name in ("You stand in an office.", "You stand in a bedroom.", "There is an unguarded exit to the south."):
        assert name in everything
    for family in ("mood", "remark"):
        assert all(text in everything for text in ROOM_FAMILIES[family])


def test_starts_are_the_rooms_and_drawn_evenly() -> None:
    assert [options["room"] for options in TextNav().evaluation_starts()] == list(ROOMS)
    env = TextNav()
    env.reset(seed=0)
    drawn = Counter(env.reset()[1]["room"] for _ in range(800))
    # The standard deviation of each count is 9.4.
    assert set(drawn) == set(ROOMS)
    assert all(60 < count < 140 for count in drawn.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"room": "attic"}, "room must be one of bedroom, .*got 'attic'"), ({"start": "office"}, "unknown.*start.*room")],
)
def test_bad_options_are_told(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextNav().reset(options=options)


def test_bad_arguments_are_told() -> None:
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        TextNav(max_steps=0)
    with pytest.raises(RuntimeError, match="call reset"):
        TextNav().step("go west\n")


WORDS = [*DIRECTIONS, *THINGS, *set(HOLDERS.values())]


@given(
    room=st.sampled_from(ROOMS),
    picks=st.lists(
        st.one_of(
            st.integers(0, 10**6),
            st.builds(
                "{} {}".format, st.sampled_from(["go", "open", "close", "drop", "eat", "take"]), st.sampled_from(WORDS)
            ),
            st.builds("insert {} into {}".format, st.sampled_from(WORDS), st.sampled_from(WORDS)),
            st.text(max_size=12),
        ),
        min_size=1,
        max_size=25,
    ),
)
@settings(max_examples=40, deadline=None)
def test_any_play_keeps_the_rules(room: str, picks: list[int | str]) -> None:
    house = House(room)
    for pick in picks:
        before, shown = pickle.dumps(vars(house)), house.admissible()
        assert shown == sorted(set(shown))
        command = pick if isinstance(pick, str) else shown[pick % len(shown)]
        outcome = house.obey(command)
        places = [thing for things in house.contents.values() for thing in things]
        assert sorted(places) == sorted(THINGS), "nothing is lost or doubled"
        if outcome.is_refusal:
            assert pickle.dumps(vars(house)) == before
            assert command not in shown, "what is called admissible is never refused"
        elif command in shown:
            assert pickle.dumps(vars(house)) != before, "what is called admissible does something"
        assert outcome.is_refusal == (outcome.reply.value >= Reply.NO_VERB.value)
        if house.is_won or house.is_lost:
            return


# The players


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("memory", [None, 1])
def test_the_expert_always_wins_on_a_shortest_way(variant: str, memory: int | None) -> None:
    player = ExpertPlayer()
    assert isinstance(player, Policy)
    starts = [Start(seed, options) for seed, options in enumerate([*TextNav().evaluation_starts()] * 3)]
    played = rollout(VARIANTS[variant], player, starts, memory=memory)
    assert all(trajectory.total_reward == 1 and trajectory.terminated for trajectory in played)
    assert [trajectory.length for trajectory in played[:8]] == [7, 6, 7, 8, 7, 8, 9, 9]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("room", "before"),
    [
        ("living room", ["take stale food", "go south", "drop stale food", "go east"]),
        ("living room", ["take stale food", "go south", "open chest", "insert stale food into chest", "close chest"]),
        ("living room", ["take stale food", "go east", "put stale food on table", "go south", "go west"]),
        ("kitchen", ["open fridge", "go north"]),
        ("living room", ["take stale food", "go west", "go west", "open fridge", "insert stale food into fridge"]),
    ],
)
def test_the_expert_remembers_where_the_food_was_left(variant: str, room: str, before: list[str]) -> None:
    env, player = VARIANTS[variant](max_steps=40), ExpertPlayer()
    turns = [Turn(env.reset(seed=3, options={"room": room})[0], is_action=False)]
    commands = [f"{command}\n" for command in before]
    while True:
        action = commands.pop(0) if commands else player.act([Request(tuple(turns))])[0].text
        observation, reward, terminated, truncated, info = env.step(action)
        assert not info["is_invalid"]
        turns += [Turn(action, is_action=True, reward=reward), Turn(observation, is_action=False)]
        if terminated or truncated:
            break
    assert info["success"]
    assert len(turns) // 2 <= len(before) + 9


def test_an_expert_without_memory_looks_in_the_next_rooms() -> None:
    env, player = TextNav(max_steps=100), ExpertPlayer()
    env.reset(seed=0, options={"room": "living room"})
    for command in ("take stale food", "go south", "drop stale food", "go north"):
        observation = env.step(f"{command}\n")[0]
    for turn in range(90):
        request = Request((Turn(observation, is_action=False),), seed=1, turn=turn)
        observation, _, terminated, _, info = env.step(player.act([request])[0].text)
        if terminated:
            break
    assert info["success"]


def test_random_players_never_win_and_repeat_themselves() -> None:
    starts = [Start(seed, options) for seed, options in enumerate([*TextNav().evaluation_starts()] * 12)]
    first, again = (rollout(TextNav, RandomPlayer(), starts, memory=1, slots=slots) for slots in (200, 3))
    assert first == again
    assert sum(trajectory.total_reward for trajectory in first) == 0
    assert all(trajectory.info["invalid_actions"] == 0 for trajectory in first)
    chosen = Counter(trajectory.turns[1].text for trajectory in first if "bathroom" in trajectory.turns[0].text)
    assert set(chosen) == {"go north\n", "go west\n"}


@pytest.mark.parametrize("player", [RandomPlayer(), ExpertPlayer()])
@pytest.mark.parametrize("text", ["You have won.\n", "Admissible commands: go up\n"])
def test_players_need_the_commands(player: Policy, text: str) -> None:
    request = Request((Turn(text, is_action=False),))
    if "go up" in text and isinstance(player, RandomPlayer):
        assert player.act([request]) == [Action("go up\n")]
        return
    with pytest.raises(ValueError, match=r"no admissible commands|no room of the house has exactly the exits up"):
        player.act([request])


def test_legal_actions_are_the_ones_shown() -> None:
    env = started("living room", ["take stale food"])
    observation = env.step("take fresh food\n")[0]
    assert [f"{command}\n" for command in read_commands(observation)] == list(env.legal_actions())
    assert "drop fresh food\n" in env.legal_actions()
    assert listing(["a", "b", "c"], "or") == "a, b or c"


# The data


@pytest.fixture(scope="module")
def recipe() -> HalfwayRecipe:
    return HalfwayRecipe(env=TextNav, task="text_nav", trajectories=2500)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, recipe: HalfwayRecipe) -> store.Dataset:
    """The whole data, made by the command: without the tests' run-time type checks it is ten times faster."""
    root = tmp_path_factory.mktemp("data")
    command = [sys.executable, "-m", "lmrl.data", "generate", "task=text_nav", f"data_dir={root}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return store.load(folder_of(recipe, root))


@pytest.fixture(scope="module")
def episodes(data: store.Dataset) -> list[Trajectory]:
    return list(data.trajectories)


def test_statistics_meet_the_published_ones(data: store.Dataset, recipe: HalfwayRecipe) -> None:
    numbers = data.statistics
    assert numbers["trajectories"] == len(recipe) == 2500
    assert numbers["success_rate"] == pytest.approx(0.25, abs=0.02)
    assert numbers["return_mean"] == pytest.approx(0.258, abs=0.02)
    assert numbers["return_std"] == pytest.approx(0.424, abs=0.02)
    assert numbers["length_mean"] == pytest.approx(12.6, abs=0.2)
    assert numbers["expert_policy_return"] == 1
    assert numbers["random_policy_return"] == 0


@pytest.mark.parametrize(
    ("arguments", "low", "high"),
    [({"far": 0.0}, 0.95, 1), ({"far": 1.0}, 0, 0.02), ({"greedy": 0.1}, 0, 0.05), ({"far": 0.5}, 0.35, 0.65)],
)
def test_options_of_the_behaviour(arguments: dict[str, float], low: float, high: float) -> None:
    played = list(HalfwayRecipe(env=TextNav, task="t", trajectories=60, **arguments))
    assert low <= sum(trajectory.total_reward for trajectory in played) / 60 <= high


def test_players_follow_the_walkthrough_at_home(episodes: list[Trajectory]) -> None:
    wins, strayed = Counter[str](), 0
    for trajectory in episodes[:300]:
        player = trajectory.info["player"]
        wins[player] += trajectory.info["success"]
        house, taken, plan = House(trajectory.info["start"]), False, []
        for action in trajectory.turns[1::2]:
            command = action.text.strip()
            if not plan and house.room in HALVES[player]:
                plan = list(WALKTHROUGH[house.room][taken])
            if plan:
                assert command == plan.pop(0)
            else:
                strayed += 1
                assert command in house.admissible()
            taken = taken or command == "take stale food from table"
            house.obey(command)
    assert strayed > 1000
    assert wins["near"] > 50
    assert wins["far"] < 3


def test_data_are_what_the_environment_says(episodes: list[Trajectory]) -> None:
    env = TextNav()
    for trajectory in episodes[:30]:
        observation, info = env.reset(seed=trajectory.seed)
        assert (trajectory.turns[0].text, trajectory.info["start"]) == (observation, info["room"])
        for action, reply in zip(trajectory.turns[1::2], trajectory.turns[2::2], strict=True):
            observation, reward, *_ = env.step(action.text)
            assert (reply.text, action.reward) == (observation, reward)


def test_episodes_depend_on_nothing_but_seed_and_index(recipe: HalfwayRecipe, episodes: list[Trajectory]) -> None:
    again = pickle.loads(pickle.dumps(HalfwayRecipe(env=TextNav, task="text_nav", trajectories=2500)))
    assert [again.play(index) for index in (77, 3)] == [episodes[77], episodes[3]]
    assert HalfwayRecipe(env=TextNav, task="text_nav", seed=1).play(3) != episodes[3]
    part = HalfwayRecipe(env=Partial, task="text_nav_po")
    assert [turn.text for turn in part.play(3).turns[1::2]] == [turn.text for turn in episodes[3].turns[1::2]]
    assert part.settings()["game"] == {"display_location": False, "display_inventory": False, "max_steps": 15}


def test_stored_data_come_back_byte_for_byte(tmp_path: Path) -> None:
    recipe = HalfwayRecipe(env=Partial, task="text_nav_po", trajectories=25)
    data = store.load(generate(recipe, tmp_path, progress=False))
    kept = list(data.trajectories)
    assert [trajectory.turns for trajectory in kept] == [recipe.play(index).turns for index in range(25)]
    assert data.env_version == TextNav.version


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"greedy": 1.5}, "greedy of .* must be at most 1, got 1.5"),
        ({"far": -0.1}, "far of .* must be at least 0, got -0.1"),
        ({"trajectories": 0}, "trajectories of .* must be at least 1, got 0"),
        ({"env": Maze}, "env must build a TextNav"),
    ],
)
def test_bad_recipes_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HalfwayRecipe(**{"env": TextNav, "task": "t", **arguments})


# The published layout


def published(trajectory: Trajectory) -> dict[str, Any]:
    """Write an episode as LMRL-Gym's script does."""
    rewards = [turn.reward for turn in trajectory.turns[1::2]]
    dones = [False] * (len(rewards) - 1) + [True]
    return {"text_history": [turn.text.strip() for turn in trajectory.turns], "rewards": rewards, "dones": dones}


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_published_files_are_read(layout: str, tmp_path: Path, recipe: HalfwayRecipe) -> None:
    played = list(map(recipe.play, range(30)))
    lost = next(trajectory for trajectory in played if trajectory.info["lost"])
    won = next(trajectory for trajectory in played if trajectory.info["success"])
    cut = next(trajectory for trajectory in played if trajectory.truncated)
    made = [lost, won, cut]
    objects = [published(trajectory) for trajectory in made]
    path = tmp_path / "bc_full_info.json"
    path.write_text(json.dumps(objects) if layout == "array" else "\n".join(map(json.dumps, objects)) + "\n")
    source = PublishedTextNav(path=path, like=recipe)
    read = list(source)
    assert len(source) == len(read) == 3
    for ours, theirs in zip(made, read, strict=True):
        assert [(turn.text, turn.is_action, turn.reward) for turn in theirs.turns] == [
            (turn.text, turn.is_action, turn.reward) for turn in ours.turns
        ]
        assert (theirs.terminated, theirs.truncated) == (ours.terminated, ours.truncated)
        assert (theirs.info["success"], theirs.info["lost"]) == (ours.info["success"], ours.info["lost"])
    where = [{key: item.info[key] for key in ("line", "index") if key in item.info} for item in read]
    lines = [{"line": 1}, {"line": 2}, {"line": 3}]
    assert where == (lines if layout == "lines" else [{"index": index} for index in range(3)])


SOUND = {"text_history": ["a", "go west", "b"], "rewards": [0.0], "dones": [True]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ([], "the whole value: expected an object, got "),
        (7, "the whole value: expected an object, got 7"),
        ({**SOUND, "text_history": None}, "field 'text_history': expected a list, got None"),
        ({**SOUND, "text_history": ["a", 1, "b"]}, "field 'text_history', entry 1: expected text, got 1"),
        ({**SOUND, "text_history": ["a", "go west"]}, "field 'text_history': 2 texts, expected an odd number from 3"),
        ({**SOUND, "text_history": ["a"]}, "field 'text_history': 1 texts, expected an odd number"),
        ({**SOUND, "rewards": [0.0, 1.0]}, "field 'rewards': 2 entries for 1 actions"),
        ({**SOUND, "rewards": ["1"]}, "field 'rewards', entry 0: expected a finite number, got '1'"),
        ({**SOUND, "dones": []}, "field 'dones': 0 entries for 1 actions"),
        ({**SOUND, "dones": [1]}, "field 'dones', entry 0: expected true or false, got 1"),
        (
            {"text_history": list("abcde"), "rewards": [0, 0], "dones": [True, True]},
            "field 'dones', entry 0: true, but the trajectory goes on",
        ),
    ],
)
@pytest.mark.parametrize("layout", ["lines", "array"])
def test_damage_is_told_with_its_place(
    damage: Any, message: str, layout: str, tmp_path: Path, recipe: HalfwayRecipe
) -> None:
    path = tmp_path / "published.json"
    if layout == "lines" and isinstance(damage, list):
        damage = "text"
    objects = [SOUND, damage]
    path.write_text(json.dumps(objects) if layout == "array" else "\n".join(map(json.dumps, objects)))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is checked below
        list(PublishedTextNav(path=path, like=recipe))
    place = "trajectory 1" if layout == "array" else "line 2"
    assert str(caught.value).startswith(f"{path}, {place}, {message}")


def test_a_torn_file_is_told(tmp_path: Path, recipe: HalfwayRecipe) -> None:
    path = tmp_path / "torn.json"
    path.write_text(json.dumps([SOUND, SOUND])[:-9])
    source = PublishedTextNav(path=path, like=recipe)
    assert len(source) == 0
    with pytest.raises(ValueError, match=r"torn\.json, the whole file: not JSON"):
        list(source)


# The configuration


@pytest.mark.parametrize("task", ["text_nav", "text_nav_po"])
def test_the_configuration_fits_the_game(compose: Callable, task: str) -> None:
    from hydra.utils import instantiate

    cfg = compose(f"task={task}", "algo=bc").task
    env = instantiate(cfg.env)()
    assert env.settings == VARIANTS["full" if task == "text_nav" else "partial"]().settings
    assert (cfg.score.min, cfg.score.data, cfg.score.max) == (0, 0.26, 1)
    starts = [Start(seed, dict(options)) for seed, options in enumerate(env.evaluation_starts())]
    for name, earned in (("expert", 8), ("random", 0)):
        played = rollout(instantiate(cfg.env), instantiate(cfg.players[name]), starts, memory=cfg.memory)
        assert sum(trajectory.total_reward for trajectory in played) == earned


@pytest.mark.parametrize("task", ["text_nav", "text_nav_po"])
def test_the_prompt_plays_as_the_expert(compose: Callable, task: str) -> None:
    prompt: Any = OmegaConf.to_container(compose(f"task={task}", "algo=bc").task.prompt, resolve=True)
    assert "After 15 commands" in prompt["rules"]
    make = VARIANTS["full" if task == "text_nav" else "partial"]
    said = {text for seed in (1, 2) for text in expert_texts(make, seed)}
    for example in prompt["examples"]:
        history = tuple(Turn(f"{text}\n", is_action=i % 2 == 1) for i, text in enumerate(example["history"]))
        assert {turn.text for turn in history} <= said, "the game says this"
        assert ExpertPlayer().act([Request(history)]) == [Action(f"{example['action']}\n")]


def expert_texts(make: Callable[[], TextNav], seed: int) -> set[str]:
    """Return all that is said while the expert plays from every room, with the wording of a seed."""
    starts = [Start(seed, options) for options in make().evaluation_starts()]
    played = rollout(make, ExpertPlayer(), starts, memory=None)
    return {turn.text.removeprefix(OBJECTIVE) for trajectory in played for turn in trajectory.turns}


def test_every_command_is_short_enough_for_the_small_model(compose: Callable, episodes: list[Trajectory]) -> None:
    """And so are the remembered turns for its window, however much a player carries."""
    codec = build((turn.text for trajectory in episodes[:400] for turn in trajectory.turns), vocab_size=512)
    limit = compose("task=text_nav", "algo=bc").task.max_new_tokens
    patterns = ("take {} from {}", "put {} on {}", "insert {} into {}")
    commands = [text.format(thing, holder) for text in patterns for thing in THINGS for holder in HOLDERS.values()]
    assert max(len(codec.history((Turn(f"{command}\n", is_action=True),))) for command in commands) <= limit
    for task, make in (("text_nav", TextNav), ("text_nav_po", Partial)):
        env = started("kitchen", ["open fridge", "take fruit", "go east", "take plate", "take coffee cup", "go east",
                                  "take stale food", "take fresh food", "go south", "open chest", "take utensils",
                                  "go north", "go east", "take bowl"], make)  # fmt: skip
        memory = compose(f"task={task}", "algo=bc").task.memory
        size = len(codec.history((Turn(env.step("look\n")[0], is_action=False),)))
        assert (memory // 2 + 1) * size + (memory // 2 + 1) * limit < 1024


def test_draws_of_wording_are_even() -> None:
    env = Partial()
    first = Counter(env.reset(seed=seed, options={"room": "garden"})[0] for seed in range(800))
    kinds = np.array(list(first.values()))
    # One exit: three families without a kind of exit (200 each), one with four kinds (50 each, deviation 7).
    assert sorted(kinds > 120) == [False] * 4 + [True] * 3
