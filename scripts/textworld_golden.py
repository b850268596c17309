"""Record what the real TextWorld engine says of Text-Nav's house, for tests/tasks/text_nav/test_textworld.py.

    python scripts/textworld_golden.py tests/golden/text_nav_textworld.json   # record
    python scripts/textworld_golden.py --compile 20                           # only time how long a game is compiled

Needs `pip install textworld==1.7.0` (not a dependency: it imports GPL code that needs make and gcc), and nothing of
this project: the house is written down here a second time.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOMS = ("bedroom", "living room", "dining room", "kitchen", "office", "bathroom", "garden", "backyard")
WAYS = (
    ("bedroom", "west", "living room"),
    ("bedroom", "south", "bathroom"),
    ("living room", "west", "dining room"),
    ("living room", "south", "office"),
    ("dining room", "west", "kitchen"),
    ("kitchen", "north", "garden"),
    ("kitchen", "west", "backyard"),
    ("office", "east", "bathroom"),
)
BACK = {"west": "east", "east": "west", "south": "north", "north": "south"}
FURNITURE = (
    ("bedroom", "s", "table", (("o", "bowl"),)),
    ("living room", "s", "table", (("f", "stale food"), ("f", "fresh food"))),
    ("dining room", "s", "table", (("o", "coffee cup"), ("o", "plate"))),
    ("kitchen", "c", "fridge", (("f", "fruit"),)),
    ("office", "c", "chest", (("o", "utensils"),)),
)
NOUNS = ("bowl", "stale food", "fresh food", "coffee cup", "plate", "fruit", "utensils", "table", "fridge", "chest")
PLAN = ("take stale food from table", "go west", "go west", "open fridge", "insert stale food into fridge")
TO_LIVING_ROOM = {
    "bedroom": ("go west",),
    "living room": (),
    "dining room": ("go east",),
    "kitchen": ("go east", "go east"),
    "office": ("go north",),
    "bathroom": ("go west", "go north"),
    "garden": ("go south", "go east", "go east"),
    "backyard": ("go east", "go east", "go east"),
}
LONGEST = 30
LIKELY = {"take": 3.0, "go": 2.0, "drop": 0.4, "eat": 0.2, "eat stale food": 0.1}


def compile_game(room: str, seed: int, folder: Path) -> Path:
    """Build the house with TextWorld's GameMaker and compile it; the player starts in `room`."""
    import textworld
    from textworld.generator.game import Event, Quest
    from textworld.generator.maker import GameMaker

    options = textworld.GameOptions()
    options.seeds, options.path, options.force_recompile = seed, str(folder / f"{room.replace(' ', '_')}.z8"), True
    options.grammar.theme, options.grammar.include_adj = "house", False
    options.grammar.only_last_action = options.grammar.blend_instructions = options.grammar.blend_descriptions = True
    maker = GameMaker(options)
    rooms = {name: maker.new_room(name) for name in ROOMS}
    for here, direction, there in WAYS:
        maker.connect(getattr(rooms[here], direction), getattr(rooms[there], BACK[direction]))
    entities: dict[str, Any] = {}
    for place, kind, name, things in FURNITURE:
        holder = maker.new(kind, name=name)
        if kind == "c":
            holder.add_property("closed")
        rooms[place].add(holder)
        entities[name] = holder
        for thing_kind, thing in things:
            entities[thing] = maker.new(thing_kind, name=thing)
            holder.add(entities[thing])
    maker.set_player(rooms[room])
    food, fridge = entities["stale food"], entities["fridge"]
    won = Event(conditions={maker.new_fact("in", food, fridge), maker.new_fact("closed", fridge)})
    lost = Event(conditions={maker.new_fact("eaten", food)})
    maker.quests = [Quest(win_events=[won], fail_events=[lost], reward=1)]
    return Path(maker.compile(options.path))


def displayed(commands: Sequence[str]) -> list[str]:
    """Return what LMRL-Gym shows of TextWorld's admissible commands."""
    return sorted({c for c in commands if not any(word in c for word in ("examine", "look", "inventory"))})


def any_command(chance: random.Random) -> str:
    """Return a command of the game's grammar, sensible or not."""
    one, other = chance.choice(NOUNS), chance.choice(NOUNS)
    return chance.choice(
        [
            f"go {chance.choice(list(BACK))}",
            f"open {one}",
            f"close {one}",
            f"take {one}",
            f"take {one} from {other}",
            f"put {one} on {other}",
            f"insert {one} into {other}",
            f"drop {one}",
            f"eat {one}",
            f"examine {one}",
            chance.choice(["look", "inventory", "dance", "take the stale food", "GO WEST", "  go   east "]),
        ]
    )


def choose(chance: random.Random, plan: list[str], admissible: Sequence[str], keen: float) -> str:
    """Return the plan's next command with probability `keen`, else one that is admissible or, now and then, any."""
    if plan and chance.random() < keen:
        return plan.pop(0)
    if chance.random() < 0.3:
        return any_command(chance)
    # Things get about, and food is seldom eaten: evenly random commands would see little of the game.
    likely = [LIKELY.get(command, LIKELY.get(command.split()[0], 1.0)) for command in admissible]
    return chance.choices(list(admissible), likely)[0]


def play(game: Path, room: str, episodes: int, seed: int) -> Iterator[dict[str, Any]]:
    """Play random sequences of commands; yield for each what TextWorld calls admissible, and how it goes.

    Each step is a list: command, admissible commands after it, score, done, won, lost.
    """
    import textworld

    asked = textworld.EnvInfos(admissible_commands=True, won=True, lost=True, score=True)
    env = textworld.start(str(game), asked)
    chance = random.Random(seed)
    for episode in range(episodes):
        state = env.reset()
        admissible = displayed(state.admissible_commands)
        first, steps, done = admissible, [], False
        plan, keen = [*TO_LIVING_ROOM[room], *PLAN, "close fridge"], (1.0, 0.6, 0.3, 0.0)[episode % 4]
        while not done and len(steps) < LONGEST:
            command = choose(chance, plan, admissible, keen)
            state, score, done = env.step(command)
            admissible = displayed(state.admissible_commands)
            steps.append([command, admissible, score, bool(done), bool(state.won), bool(state.lost)])
        yield {"room": room, "first": first, "steps": steps}
    env.close()


def packed(episodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Replace commands by their places in a list of all commands, which makes the file five times smaller."""
    numbers: dict[str, int] = {}

    def number(command: str) -> int:
        return numbers.setdefault(command, len(numbers))

    rows = []
    for episode in episodes:
        steps = [[number(c), [number(a) for a in shown], *map(int, rest)] for c, shown, *rest in episode["steps"]]
        rows.append({"room": episode["room"], "first": [number(a) for a in episode["first"]], "steps": steps})
    return {"commands": list(numbers), "episodes": rows}


def main() -> None:
    """Record a golden file, or time the compiler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, nargs="?", help="the file to write")
    parser.add_argument("--episodes", type=int, default=36, help="sequences from each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", type=int, default=0, help="compile so many games and print the median time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, times = Path(name), []
        for index in range(options.compile):
            began = time.perf_counter()
            compile_game(ROOMS[index % len(ROOMS)], index, folder)
            times.append(time.perf_counter() - began)
        if times:
            print(f"median of {len(times)} compilations: {statistics.median(times):.2f} s, fastest {min(times):.2f} s")
        if options.golden is not None:
            recorded = [
                episode
                for index, room in enumerate(ROOMS)
                for episode in play(compile_game(room, index, folder), room, options.episodes, options.seed + index)
            ]
            text = json.dumps({"textworld": "1.7.0", **packed(recorded)}, separators=(",", ":"))
            options.golden.write_text(text.replace('{"room"', '\n{"room"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
