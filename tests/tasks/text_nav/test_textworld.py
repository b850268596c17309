"""The house agrees with the real TextWorld engine: recorded play always, live play where TextWorld is installed."""

import importlib.util
import json
import os
import random
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lmrl.tasks.text_nav.env import TextNav
from lmrl.tasks.text_nav.house import ROOMS

HERE = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("LMRL_GOLDEN", HERE / "golden")) / "text_nav_textworld.json"


def recorded() -> list[dict[str, Any]]:
    """Read the recording, with commands instead of their numbers."""
    packed = json.loads(GOLDEN.read_text())
    commands = packed["commands"]
    return [
        {
            "room": episode["room"],
            "first": [commands[number] for number in episode["first"]],
            "steps": [
                [commands[command], [commands[number] for number in shown], *rest]
                for command, shown, *rest in episode["steps"]
            ],
        }
        for episode in packed["episodes"]
    ]


EPISODES = recorded()


def replay(episode: dict[str, Any]) -> None:
    """Give our house the same commands, and require the same admissible commands, score and ending at every step."""
    env = TextNav(max_steps=1000)
    env.reset(seed=0, options={"room": episode["room"]})
    assert env.house.admissible() == episode["first"]
    said = []
    for command, admissible, score, done, won, lost in episode["steps"]:
        said.append(command)
        where = f"{episode['room']}: {'; '.join(said)}"
        _, reward, terminated, truncated, info = env.step(f"{command}\n")
        assert env.house.admissible() == admissible, where
        assert (reward, terminated, info["success"], info["lost"]) == (score, done, won, lost), where
        assert not truncated, where
        assert terminated or not info["is_invalid"] or admissible == before(said, episode), where


def before(said: list[str], episode: dict[str, Any]) -> list[str]:
    """Return what was admissible before the last of the commands."""
    return episode["first"] if len(said) == 1 else episode["steps"][len(said) - 2][1]


@pytest.mark.parametrize("room", ROOMS)
def test_replays_textworld(room: str) -> None:
    episodes = [episode for episode in EPISODES if episode["room"] == room]
    assert len(episodes) >= 30
    for episode in episodes:
        replay(episode)


def test_recording_covers_the_game() -> None:
    steps = [step for episode in EPISODES for step in episode["steps"]]
    assert len(steps) > 4000
    verbs = Counter(step[0].split()[0].lower() for step in steps)
    assert set(verbs) >= {"go", "open", "close", "take", "put", "insert", "drop", "eat", "examine", "look", "inventory"}
    ends = Counter(
        "won" if episode["steps"][-1][4] else "lost" if episode["steps"][-1][5] else "neither" for episode in EPISODES
    )
    assert min(ends["won"], ends["lost"], ends["neither"]) >= 10
    admissible = {command for step in steps for command in step[1]}
    for command in ("insert fruit into chest", "put utensils on table", "take stale food", "take plate from fridge"):
        assert command in admissible


def script() -> ModuleType:
    """Load the script that plays the real engine."""
    spec = importlib.util.spec_from_file_location("textworld_golden", HERE.parent / "scripts" / "textworld_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_agrees_with_textworld_live(tmp_path: Path) -> None:
    pytest.importorskip("textworld", reason="needs `pip install textworld==1.7.0` (GPL imports, make and gcc)")
    golden, seed = script(), random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    for room in random.Random(seed).sample(ROOMS, 2):
        game = golden.compile_game(room, seed, tmp_path)
        for episode in golden.play(game, room, 12, seed):
            replay(episode)
