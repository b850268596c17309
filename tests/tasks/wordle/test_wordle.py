"""Wordle keeps to the reference environment, its data to the published statistics, and its players to exact numbers."""

import json
import math
import pickle
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from golden_cases import golden
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrl.data.filters import Successful
from lmrl.data.generate import load_or_generate
from lmrl.data.recipe import Recipe
from lmrl.data.store import Summary
from lmrl.envs.sets import member, members
from lmrl.policies.core import Policy, Request
from lmrl.policies.prompted import Prompt
from lmrl.rollout import Start, rollout
from lmrl.tasks.maze.env import Maze
from lmrl.tasks.wordle.env import GreedyPlayer, GreedyTree, RandomPlayer, Wordle, greedy_return, random_return
from lmrl.tasks.wordle.published import PublishedWordle
from lmrl.tasks.wordle.recipe import MixedGuesses
from lmrl.tasks.wordle.vocabulary import REPLIES, load, spell
from lmrl.text.trajectory import Trajectory, Turn

CASES = golden("wordle_env")
WORDS = Wordle().vocabulary.words
FEW = ("slate", "crane", "allee", "eerie", "sassy", "abbey", "llama", "added", "mamma", "geese", "teeth", "error")
WORD = st.text("abcde", min_size=5, max_size=5)


def told(guess: str, hidden: str, feedback: str = "set") -> str:
    """Apply the rules of feedback letter by letter, as a person would."""
    marks = ["g" if a == b else "b" for a, b in zip(guess, hidden, strict=True)]
    unused = [b for a, b in zip(guess, hidden, strict=True) if a != b]
    for place, letter in enumerate(guess):
        if marks[place] == "g":
            continue
        if feedback == "set" and letter in hidden:
            marks[place] = "y"
        if feedback == "official" and letter in unused:
            unused.remove(letter)
            marks[place] = "y"
    return " ".join(marks) + "\n"


def play(env: Wordle, word: str, *guesses: str) -> list[tuple]:
    assert env.reset(options={"word": word}) == ("Wordle:\n", {})
    return [env.step(guess) for guess in guesses]


# The environment


@pytest.mark.parametrize("number", range(len(CASES)))
def test_replays_the_reference(number: int) -> None:
    case = CASES[number]
    env = Wordle(words=case["vocab"])
    env.reset(options={"word": case["target"]})
    for step in case["steps"]:
        observation, reward, terminated, truncated, info = env.step(spell(step["guess"]))
        assert observation == " ".join(step["feedback"][1:-1].split("><")) + "\n"
        assert (reward, terminated, truncated) == (step["reward"], step["done"], False)
        assert info["success"] == (reward == 0)
        assert sorted(env.remaining) == sorted(step["remaining"])


def test_golden_cases_cover_repeated_letters_and_both_ends() -> None:
    guesses = [(step["guess"], case["target"]) for case in CASES for step in case["steps"]]
    assert sum(told(*pair) != told(*pair, "official") for pair in guesses) >= 10
    assert {case["steps"][-1]["reward"] for case in CASES} == {0.0, -1.0}


def test_a_whole_game_is_these_texts() -> None:
    env = Wordle(words=["shire", "panic", "felon", "fiend"])
    first, second = play(env, "fiend", "p a n i c\n", "f e l o n\n")
    text = "Wordle:\np a n i c\n" + first[0] + "f e l o n\n" + second[0]
    assert text == "Wordle:\np a n i c\nb b y y b\nf e l o n\ng y b b y\n"
    assert first[1:] == (-1.0, False, False, {"success": False, "is_invalid": False})
    won = {"success": True, "is_invalid": False, "word": "fiend"}
    assert env.step("f i e n d\n") == ("g g g g g\n", 0.0, True, False, won)


@pytest.mark.parametrize(
    ("hidden", "as_set", "official"),
    [
        ("abide", "b b y y y\n", "b b y b y\n"),
        ("erase", "y b y y b\n", "y b y y b\n"),
        ("steal", "g b g y b\n", "g b g b b\n"),
        ("crepe", "b y g y b\n", "b y g y b\n"),
        ("speed", "g g g g g\n", "g g g g g\n"),
    ],
)
def test_repeated_letters(hidden: str, as_set: str, official: str) -> None:
    words = ["abide", "erase", "steal", "crepe", "speed"]
    assert play(Wordle(words=words), hidden, "s p e e d\n")[0][0] == as_set
    assert play(Wordle(words=words, feedback="official"), hidden, "s p e e d\n")[0][0] == official


@given(words=st.lists(WORD, min_size=2, max_size=30, unique=True), feedback=st.sampled_from(["set", "official"]))
@settings(max_examples=60, deadline=None)
def test_feedback_is_that_of_a_person(words: list[str], feedback: str) -> None:
    vocabulary = load(words, feedback)
    for guess, word in enumerate(words):
        for hidden, code in enumerate(vocabulary.codes(guess)):
            assert REPLIES[code] == told(word, words[hidden], feedback)
        sets = vocabulary.sets(guess)
        assert sum(sets.values()) == vocabulary.everything, "every word is in one set"
        assert all(vocabulary.codes(guess)[index] == code for code, some in sets.items() for index in members(some))


@given(indices=st.sets(st.integers(0, 200), min_size=1))
def test_sets_of_words_are_bits(indices: set[int]) -> None:
    words = sum(1 << index for index in indices)
    assert members(words) == sorted(indices)
    assert [member(words, rank) for rank in range(len(indices))] == sorted(indices)


@pytest.mark.parametrize("action", ["z z z z z\n", "s h i r\n", "s h i r e s\n", "", "\n", "sh1re\n", "\u017fhire\n"])
def test_what_is_no_word_is_told_nothing_and_counts(action: str) -> None:
    env = Wordle(words=["shire", "panic"])
    play(env, "panic")
    for left in reversed(range(6)):
        observation, reward, terminated, truncated, info = env.step(action)
        assert (observation, reward, terminated, truncated) == ("\n", -1.0, left == 0, False)
        assert info == {"success": False, "is_invalid": True} | ({} if left else {"word": "panic"})
        assert env.remaining == ("shire", "panic")


@pytest.mark.parametrize("action", ["s h i r e\n", "shire", "S H I R E\n", " sh  ire \n", "s h i r e\n\n"])
def test_spaces_and_capitals_do_not_matter(action: str) -> None:
    assert play(Wordle(words=["shire", "panic"]), "shire", action)[0][:3] == ("g g g g g\n", 0.0, True)


@pytest.mark.parametrize("guess", range(1, 7))
def test_returns_of_wins_and_losses(guess: int) -> None:
    env = Wordle()
    steps = play(env, "cloud", *["r a i s e\n"] * (guess - 1), "c l o u d\n")
    assert sum(step[1] for step in steps) == -(guess - 1)
    assert [step[2] for step in steps] == [False] * (guess - 1) + [True]
    assert sum(step[1] for step in play(env, "cloud", *["r a i s e\n"] * 6)) == -6
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step("c l o u d\n")


def test_reward_of_bad_words_is_an_option() -> None:
    env = Wordle(bad_word_reward=-10)
    assert [step[1] for step in play(env, "cloud", "x\n", "r a i s e\n", "x\n", "c l o u d\n")] == [-10, -1, -10, 0]


def test_hidden_words_are_drawn_evenly_and_once() -> None:
    env = Wordle(words=FEW)
    drawn = Counter()
    env.reset(seed=0)
    for _ in range(2400):
        env.reset()
        word = env.word
        env.step("x\n")
        assert env.word == word
        drawn[word] += 1
    assert set(drawn) == set(FEW)
    assert max(abs(count - 200) for count in drawn.values()) < 70, "five standard deviations"
    assert [options["word"] for options in Wordle().evaluation_starts()] == list(WORDS)


# Word lists


def test_packaged_list() -> None:
    assert (len(WORDS), len(set("".join(WORDS)))) == (431, 26)
    assert sum(len(set(word)) < 5 for word in WORDS) == 145
    assert list(WORDS) == sorted(set(WORDS))
    assert Wordle().settings == {
        "words": 431,
        "words_digest": "00415ebf063634a7",
        "feedback": "set",
        "bad_word_reward": -1.0,
    }


def test_all_environments_share_one_table() -> None:
    assert Wordle().vocabulary is Wordle(bad_word_reward=-10).vocabulary
    assert pickle.loads(pickle.dumps(Wordle().vocabulary)) is Wordle().vocabulary
    assert Wordle(feedback="official").vocabulary is not Wordle().vocabulary


def test_lists_from_files_and_from_yaml_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# mine\n\n  shire\r\npanic \n")
    assert load(file) is load(str(file)) is load(["shire", "panic"])
    assert Wordle(words=file).settings == Wordle(words=("shire", "panic")).settings
    assert Wordle(words=("panic", "shire")).settings != Wordle(words=("shire", "panic")).settings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"shire\n\npanics\n", "line 3: 'panics' is not 5 lower-case letters a-z"),
        (b"Shire\npanic\n", "line 1: 'Shire' is not 5 lower-case letters a-z"),
        (b"shire\npan1c\n", "line 2: 'pan1c' is not"),
        ("shire\nécole\n".encode(), "line 2: 'école' is not"),
        (b"shire\npanic\n# no\nshire\n", "line 1 and line 4: 'shire' occurs more than once"),
        (b"# none\n", "needs at least 2 words, found 0"),
        (b"shire\n\xff\n", "cannot be read as text"),
    ],
)
def test_damaged_lists_name_file_line_and_word(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"wordle: words: .*mine\.txt.*{message}"):
        Wordle(words=file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"words": "nowhere.txt"}, r"words: nowhere\.txt: there is no such file"),
        ({"words": ["shire", "panics"]}, "words, entry 1: 'panics' is not 5"),
        ({"words": ["shire", False]}, "words, entry 1: False is not 5"),
        ({"feedback": "fuzzy"}, "feedback must be one of set, official, got 'fuzzy'"),
        ({"bad_word_reward": math.inf}, "bad_word_reward must be a finite number, got inf"),
    ],
)
def test_bad_arguments_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wordle(**arguments)


@pytest.mark.parametrize(
    ("options", "message"), [({"word": "zzzzz"}, "one of the 431 words, got 'zzzzz'"), ({"wrod": "a"}, "wrod.*is word")]
)
def test_bad_options_are_told(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wordle().reset(options=options)


# Players


def test_greedy_player_earns_what_its_tree_promises() -> None:
    tree = GreedyTree(load())
    assert WORDS[tree.guess(tree.vocabulary.everything)] == "raise"
    counts = tree.counts()
    assert counts == {1: 1, 2: 84, 3: 285, 4: 58, 5: 3}
    assert greedy_return(load()) == pytest.approx(-840 / 431)
    assert sum(-(guess - 1) * count for guess, count in counts.items()) == -840
    player = GreedyPlayer()
    assert isinstance(player, Policy)
    played = rollout(Wordle, player, [Start(0, options) for options in Wordle().evaluation_starts()], memory=None)
    assert Counter(trajectory.length for trajectory in played) == counts
    assert all(trajectory.info["success"] and trajectory.info["invalid_actions"] == 0 for trajectory in played)
    assert sum(trajectory.total_reward for trajectory in played) == -840


@pytest.mark.parametrize("feedback", ["set", "official"])
def test_greedy_guesses_have_the_highest_entropy(feedback: str) -> None:
    def information(guess: str, words: list[str]) -> float:
        counts = Counter(told(guess, word, feedback) for word in words)
        return -sum(count / len(words) * math.log2(count / len(words)) for count in counts.values())

    player, history, words = GreedyPlayer(words=FEW, feedback=feedback), [Turn("Wordle:\n", False)], list(FEW)
    while len(words) > 1:
        (action,) = player.act([Request(tuple(history))])
        guess = action.text.replace(" ", "").strip()
        best = max(information(word, words) for word in words)
        assert guess == next(word for word in words if information(word, words) > best - 1e-9)
        reply = max(sorted({told(guess, word, feedback) for word in words if word != guess}))
        history += [Turn(action.text, True, -1.0), Turn(reply, False)]
        words = [word for word in words if told(guess, word, feedback) == reply]
    assert player.act([Request(tuple(history))])[0].text == spell(words[0])


def test_greedy_return_counts_games_that_are_lost() -> None:
    words = [f"{letter}aaaa" for letter in "bcdefghij"]  # nothing tells them apart but guessing each
    assert greedy_return(load(words)) == pytest.approx(-(0 + 1 + 2 + 3 + 4 + 5 + 6 + 6 + 6) / 9)


def test_greedy_player_passes_over_what_told_nothing() -> None:
    history = (Turn("Wordle:\n", False), Turn("z z z z z\n", True, -1.0), Turn("\n", False))
    assert GreedyPlayer().act([Request(history)]) == GreedyPlayer().act([Request(history[:1])])


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (("r a i s e\n", "g g g g b\n"), "no word .*agrees with 'Wordle.*g g g g b"),
        (("r a i s e\n", "warm\n"), "cannot read the guess 'r a i s e.*' with the reply 'warm"),
        (("z z z z z\n", "b b b b b\n"), "cannot read the guess 'z z z z z"),
    ],
)
def test_greedy_player_tells_foreign_histories(turns: tuple[str, str], message: str) -> None:
    history = (Turn("Wordle:\n", False), Turn(turns[0], True, -1.0), Turn(turns[1], False))
    with pytest.raises(ValueError, match=message):
        GreedyPlayer().act([Request(history)])


def test_exact_return_of_the_random_player_agrees_with_play() -> None:
    player, env = RandomPlayer(words=FEW), partial(Wordle, words=FEW)
    played = rollout(env, player, [Start(seed) for seed in range(1000)], memory=None)
    exact = random_return(load(FEW))
    p = 1 / len(FEW)
    assert exact == pytest.approx(-(1 - p) * (1 - (1 - p) ** 6) / p)
    # The standard error of the mean is 0.06.
    assert sum(trajectory.total_reward for trajectory in played) / 1000 == pytest.approx(exact, abs=0.25)
    assert random_return(load()) == pytest.approx(-5.9515, abs=1e-4)


# Data


@pytest.fixture(scope="module")
def recipe() -> MixedGuesses:
    return MixedGuesses(env=Wordle, task="wordle")


def small(trajectories: int = 12, env: Callable = Wordle, **arguments: Any) -> MixedGuesses:
    return MixedGuesses(env=env, task="wordle", trajectories=trajectories, **arguments)


def guesses(trajectory: Trajectory) -> list[tuple[str, str]]:
    """Return each guessed word and what it was told."""
    texts = [turn.text for turn in trajectory.turns[1:]]
    return [(guess.replace(" ", "").strip(), reply) for guess, reply in zip(texts[::2], texts[1::2], strict=True)]


def test_statistics_meet_the_published_ones(recipe: MixedGuesses) -> None:
    summary = Summary()
    for index in range(8_000):
        summary.add(recipe.play(index))
    numbers = summary.statistics()
    # The standard errors are 0.018, 0.014 and 0.005.
    assert numbers["return_mean"] == pytest.approx(-4.121715, abs=0.05)
    assert numbers["length_mean"] == pytest.approx(4.82, abs=0.04)
    assert numbers["success_rate"] == pytest.approx(0.70, abs=0.015)
    assert numbers["return_std"] == pytest.approx(1.59, abs=0.03)
    assert numbers["length_std"] == pytest.approx(1.27, abs=0.03)


@pytest.mark.parametrize("feedback", ["set", "official"])
def test_environment_tells_what_the_data_tell(feedback: str) -> None:
    env, lost = Wordle(feedback=feedback), 0
    for trajectory in small(400, env=partial(Wordle, feedback=feedback)):
        observation, _ = env.reset(seed=trajectory.seed, options={"word": trajectory.info["word"]})
        turns, over, info = [Turn(observation, is_action=False)], False, {}
        for action in (turn.text for turn in trajectory.turns if turn.is_action):
            assert not over
            observation, reward, over, truncated, info = env.step(action)
            turns += [Turn(action, is_action=True, reward=reward), Turn(observation, is_action=False)]
            assert not truncated
        assert (tuple(turns), over, False) == (trajectory.turns, trajectory.terminated, trajectory.truncated)
        assert info == {**trajectory.info, "is_invalid": False}
        lost += not info["success"]
    assert 60 < lost < 200


@pytest.mark.parametrize("feedback", ["set", "official"])
def test_smart_guesses_agree_with_what_was_told(feedback: str) -> None:
    for trajectory in small(150, env=partial(Wordle, feedback=feedback), prob_smart=1.0):
        played = guesses(trajectory)
        for turn, (guess, _) in enumerate(played):
            assert all(told(earlier, guess, feedback) == reply for earlier, reply in played[:turn])


def test_guesses_are_drawn_evenly() -> None:
    env, told_nothing = partial(Wordle, words=FEW), "b b b b b\n"
    played = [guesses(game) for game in small(6_000, env=env, prob_smart=1.0)]
    first = Counter(game[0][0] for game in played)
    assert set(first) == set(FEW)
    assert max(abs(count - 500) for count in first.values()) < 107, "five standard deviations"
    # Of the words that agree with a reply, each is the next guess as often as another.
    second = Counter(game[1][0] for game in played if game[0] == ("error", told_nothing))
    agreeing = {word for word in FEW if told("error", word) == told_nothing}
    assert agreeing == set(second) == {"sassy", "llama", "mamma"}
    assert max(abs(count - second.total() / 3) for count in second.values()) < 27, "five standard deviations"
    any_word = Counter(guess for game in small(300, env=env, prob_smart=0.0) for guess, _ in guesses(game))
    assert set(any_word) == set(FEW)


def test_games_depend_on_seed_and_index_only(recipe: MixedGuesses) -> None:
    games = [recipe.play(index) for index in range(30)]
    fresh = pickle.loads(pickle.dumps(small()))
    assert [fresh.play(index) for index in reversed(range(30))] == games[::-1]
    used = pickle.loads(pickle.dumps(recipe))
    assert [used.play(index) for index in range(30)] == games
    assert len({game.turns for game in games}) == 30
    assert [small(seed=1).play(index) for index in range(30)] != games


def test_stored_data_are_the_played_games(recipe: MixedGuesses, tmp_path: Path) -> None:
    data = load_or_generate(recipe=small(40), root=tmp_path, progress=False)
    assert data.trajectories == [recipe.play(index) for index in range(40)]
    assert data.statistics["greedy_policy_return"] == pytest.approx(-840 / 431)
    assert data.statistics["random_policy_return"] == pytest.approx(-5.9515, abs=1e-4)
    assert small(env=partial(Wordle, bad_word_reward=-10)).settings() == small().settings()
    others = [small(), small(13), small(seed=1), small(prob_smart=0.5)]
    others += [small(env=partial(Wordle, **kwargs)) for kwargs in ({"words": FEW}, {"feedback": "official"})]
    assert len({json.dumps(dict(other.settings())) for other in others}) == len(others)
    assert all(isinstance(other, Recipe) for other in others)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prob_smart": 1.5}, "prob_smart of MixedGuesses must be at most 1, got 1.5"),
        ({"trajectories": 0}, "trajectories of .* must be at least 1, got 0"),
        ({"seed": -1}, "seed of .* must be at least 0, got -1"),
        ({"env": Maze}, "env must build a Wordle, but it builds a Maze"),
    ],
)
def test_bad_recipes_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


# Published files


def published(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "sequence": [[turn.text, float(turn.is_action)] for turn in trajectory.turns],
        "reward": [turn.reward for turn in trajectory.turns[1:]],
        "done": trajectory.terminated,
    }


SEQUENCE = [["Wordle:\n", 0.0], ["r a i s e\n", 1.0], ["b b b b b\n", 0.0]]
GAME = {"sequence": SEQUENCE, "reward": [-1.0, 0.0], "done": False}


def test_published_games_are_read(recipe: MixedGuesses, tmp_path: Path) -> None:
    originals = [recipe.play(index) for index in range(60)]
    file = tmp_path / "train_data.jsonl"
    file.write_text("\n".join(json.dumps(published(game)) for game in originals) + "\n\n" + json.dumps(GAME) + "\n")
    *games, cut = PublishedWordle(path=file, like=recipe)
    for original, game in zip(originals, games, strict=True):
        assert (game.turns, game.terminated, game.truncated) == (original.turns, True, False)
        assert game.info["success"] == original.info["success"]
    assert (cut.terminated, cut.truncated, cut.info) == (False, True, {"line": 62, "success": False})
    data = load_or_generate(recipe=PublishedWordle(path=file, like=recipe), root=tmp_path / "data", progress=False)
    assert (len(data.trajectories), data.task, data.policy) == (61, "wordle", "lmrl-gym")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "the whole line: expected an object, got 3"),
        ({"reward": [], "done": True}, "field 'sequence': expected a list, got None"),
        (GAME | {"sequence": [["Wordle:\n", 0.0]]}, "field 'sequence': a game without any action"),
        (GAME | {"sequence": [["r a i s e\n", 1.0]]}, "field 'sequence', entry 0: a game begins with an observation"),
        (GAME | {"sequence": [["Wordle:\n"]]}, "field 'sequence', entry 0: expected a pair"),
        (
            GAME | {"sequence": [["Wordle:\n", 0.5]]},
            "field 'sequence', entry 0, is_action: expected 0.0 or 1.0, got 0.5",
        ),
        (GAME | {"sequence": [[None, 0.0]]}, "field 'sequence', entry 0, text: expected text, got None"),
        ({k: v for k, v in GAME.items() if k != "reward"}, "field 'reward': expected a list, got None"),
        (GAME | {"reward": [0.0, -1.0, 0.0]}, "field 'reward': 3 entries for 3 texts"),
        (GAME | {"reward": ["x", 0.0]}, "field 'reward', entry 0: expected a finite number, got 'x'"),
        (GAME | {"reward": [-1.0, -1.0]}, "field 'reward', entry 1: -1.0 for an observation"),
        (GAME | {"done": 1}, "field 'done': expected true or false, got 1"),
        ({k: v for k, v in GAME.items() if k != "done"}, "field 'done': expected true or false, got None"),
    ],
)
def test_damaged_lines_name_file_line_and_field(value: Any, message: str, recipe: MixedGuesses, tmp_path: Path) -> None:
    file = tmp_path / "bc_data1.jsonl"
    file.write_text(json.dumps(GAME) + "\n" + json.dumps(value) + "\n")
    with pytest.raises(ValueError, match=rf"bc_data1\.jsonl, line 2, {re.escape(message)}"):
        list(PublishedWordle(path=file, like=recipe))


# Configuration


def test_configuration_makes_the_task(compose: Callable, tmp_path: Path) -> None:
    cfg = compose("task=wordle", "algo=filtered_bc", f"data_dir={tmp_path}", "task.dataset.recipe.trajectories=20")
    data = instantiate(cfg.task.dataset, progress=False)()
    env = instantiate(cfg.task.env)()
    assert data.trajectories == [small().play(index) for index in range(20)]
    assert data.recipe["game"] | {"bad_word_reward": -1.0} == env.settings == Wordle().settings
    assert data.recipe["prob_smart"] == 1 / 3
    assert isinstance(instantiate(cfg.algo.datamodule.filter), Successful)
    assert cfg.algo.module.least_return == 0
    assert max(len(action) for action in env.legal_actions()) <= cfg.task.max_new_tokens
    file = tmp_path / "published.jsonl"
    file.write_text(json.dumps(GAME))
    assert len(list(instantiate(cfg.task.importer)(path=file, like=small()))) == 1


def test_configured_players_follow_the_words(compose: Callable, tmp_path: Path) -> None:
    file = tmp_path / "few.txt"
    file.write_text("\n".join(FEW))
    cfg = compose("task=wordle", "algo=bc", f"task.env.words={file}", "task.env.feedback=official")
    env = instantiate(cfg.task.env)
    starts = [Start(seed, options) for seed, options in enumerate(env().evaluation_starts())]
    returns = {}
    for name, player in cfg.task.players.items():
        played = rollout(env, instantiate(player), starts, memory=cfg.task.memory)
        assert all(trajectory.info["invalid_actions"] == 0 for trajectory in played)
        returns[name] = sum(trajectory.total_reward for trajectory in played) / len(played)
    assert returns["expert"] == pytest.approx(greedy_return(load(FEW, "official")))
    assert returns["random"] < returns["expert"]


def replies(env: Wordle, word: str, actions: list[str]) -> list[str]:
    """Play until the game is over, and return what was told."""
    env.reset(options={"word": word})
    said: list[str] = []
    for action in actions:
        observation, _, over, _, _ = env.step(action)
        said.append(observation)
        if over:
            break
    return said


def test_the_game_is_explained_correctly(compose: Callable) -> None:
    prompt = Prompt.from_mapping(compose("task=wordle", "algo=bc").task.prompt)
    env, seen = Wordle(), set()
    for example in prompt.examples:
        texts = [f"{turn.text}\n" for turn in example.history]
        agreeing = []
        for word in WORDS:
            if replies(env, word, texts[1::2]) == texts[2::2]:
                agreeing.append(word)
        assert texts[0] == "Wordle:\n"
        assert agreeing, "the game never says this"
        assert example.answer["action"].replace(" ", "") in agreeing, "the answer contradicts the history"
        seen |= set(texts[2::2])
    assert "\n" in seen
    assert set("".join(seen)) == set("gyb \n")
    shown = prompt.actions.rpartition(": ")[2]
    assert f"{shown}\n" in env.legal_actions(), "the rules' example of an action is a word of the list"
