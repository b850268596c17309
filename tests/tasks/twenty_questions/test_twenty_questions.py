"""Twenty Questions: the referee's rules, the table of facts, what the oracle understands, the players and the data."""

import csv
import json
import pickle
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lmrl.coverage.__main__ import main as coverage
from lmrl.coverage.questions import Asked, questions, trials
from lmrl.data.generate import load_or_generate
from lmrl.data.recipe import Recipe
from lmrl.envs.core import Dialogue
from lmrl.envs.tables import rows
from lmrl.partners.prompt import PartnerPrompt, Situation
from lmrl.policies.core import Action, Policy, Request
from lmrl.rollout import Start, rollout
from lmrl.tasks.maze.env import Maze
from lmrl.tasks.twenty_questions import parser as parser_module
from lmrl.tasks.twenty_questions.env import TwentyQuestions
from lmrl.tasks.twenty_questions.facts import Facts, Thing, facts
from lmrl.tasks.twenty_questions.parser import PHRASES, meaning, parser
from lmrl.tasks.twenty_questions.partner import EmbeddedOracle, answer, default_oracle, understood
from lmrl.tasks.twenty_questions.players import (
    FEW,
    ExpertQuestioner,
    RandomQuestioner,
    book,
    expert_return,
    possible,
    question_texts,
)
from lmrl.tasks.twenty_questions.published import PublishedTwentyQuestions
from lmrl.tasks.twenty_questions.recipe import MixedQuestioners
from lmrl.tasks.twenty_questions.rules import is_guess_of, is_question, says_yes
from lmrl.text.trajectory import Trajectory, Turn

HELD_OUT = Path(__file__).parents[2] / "data" / "twenty_questions_questions.csv"
THINGS = {thing.name: thing for thing in facts().things}


def names(objects: int) -> set[str]:
    """Return the names of a set of objects."""
    return {thing.name for index, thing in enumerate(facts().things) if objects >> index & 1}


def play(name: str, *texts: str) -> list[tuple]:
    env = TwentyQuestions()
    assert env.reset(seed=0, options={"object": name}) == ("Questions:\n", {})
    return [env.step(text) for text in texts]


class Fixed:
    """An oracle that gives the same reply always, and keeps what it was shown."""

    def __init__(self, reply: str) -> None:
        self.reply, self.seen = reply, list[Request]()

    def act(self, requests: list[Request]) -> list[Action]:
        self.seen += requests
        return [Action(self.reply) for _ in requests]


# The referee


def test_a_whole_game_is_these_texts() -> None:
    first, second, third = play("River", "Is it an animal?\n", "Is it found outside?\n", "Is it a river?\n")
    text = "Questions:\nIs it an animal?\n" + first[0] + "Is it found outside?\n" + second[0] + "Is it a river?\n"
    assert text + third[0] == ("Questions:\nIs it an animal?\nNo.\nIs it found outside?\nYes.\nIs it a river?\nYes.\n")
    assert first == ("No.\n", -1.0, False, False, {"success": False, "is_invalid": False})
    assert third == ("Yes.\n", 0.0, True, False, {"success": True, "is_invalid": False, "object": "River"})


@pytest.mark.parametrize("number", [1, 2, 19, 20])
def test_returns_of_wins_and_losses(number: int) -> None:
    env = TwentyQuestions()
    env.reset(options={"object": "Cat"})
    steps = [env.step(text) for text in ["Is it alive?\n"] * (number - 1) + ["Is it a cat?\n"]]
    assert sum(step[1] for step in steps) == -(number - 1)
    assert [step[2] for step in steps] == [False] * (number - 1) + [True]
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step("Is it a cat?\n")
    lost = play("Cat", *["Is it a dog?\n"] * 20)
    assert sum(step[1] for step in lost) == -20
    assert [step[2] for step in lost] == [False] * 19 + [True]
    assert lost[-1][4] == {"success": False, "is_invalid": False, "object": "Cat"}


@pytest.mark.parametrize(
    ("name", "question", "wins"),
    [
        ("Basketball", "Is it a basketball?", True),
        ("Basketball", "Is it a basketball used in sports?", False),
        ("Basketball", "is it a Basketball", True),
        ("Basketball", "Is it a ball?", False),
        ("Airplane", "Is it a plane?", True),
        ("Airplane", "Is the object an airplane?", True),
        ("Airplane", "Is it a model airplane?", False),
        ("Pants", "Is it a pair of pants?", True),
        ("Pants", "Are they pants?", True),
        ("Puzzle", "Could it be a jigsaw puzzle?", True),
        ("Paper", "Is it a sheet of paper?", True),
        ("Computer", "Is it a computer keyboard?", False),
        ("Computer keyboard", "Is it a keyboard?", True),
        ("Forest", "Is it found in a forest?", False),
        ("Hammer", "Is it a tool such as a hammer?", False),
        ("Dog", "Is it a cat or a dog?", False),
        ("Dog", "Is it not a dog?", False),
        ("Apple", "Is it a red apple?", True),
        ("Apple", "Is it an apple!?  ", True),
        ("Apple", "Apple?", True),
        ("Apple", "Is it a pineapple?", False),
        ("Apple", "", False),
        ("Apple", "?", False),
    ],
)
def test_which_questions_name_the_object_and_nothing_else(name: str, question: str, wins: bool) -> None:
    assert is_guess_of(question, THINGS[name]) is wins


def test_a_win_needs_both_the_name_and_a_yes() -> None:
    env = TwentyQuestions(partner=Fixed("No, not at all."))
    env.reset(options={"object": "Cat"})
    assert env.step("Is it a cat?\n")[:3] == ("No.\n", -1.0, False)
    env = TwentyQuestions(partner=Fixed("yes\n"))
    env.reset(options={"object": "Cat"})
    assert env.step("Is it a dog?\n")[:3] == ("Yes.\n", -1.0, False)
    assert env.step("Is it a cat?\n")[:3] == ("Yes.\n", 0.0, True)


@pytest.mark.parametrize(
    ("reply", "is_yes"),
    [
        *[(reply, True) for reply in ("Yes.", "yes", " YES!\n", '"Yes"', "Yes, it is.")],
        *[(reply, False) for reply in ("No.", "no, yes", "", "I think yes", "yesterday", "\n", "Maybe.")],
    ],
)
def test_what_an_oracle_may_say(reply: str, is_yes: bool) -> None:
    assert says_yes(reply) is is_yes
    env = TwentyQuestions(partner=Fixed(reply))
    env.reset(seed=1)
    assert env.step("Is it alive?\n")[0] == ("Yes.\n" if is_yes else "No.\n")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("Is it alive?\n", True),
        ("does it have wheels", True),
        ("Can you eat it?", True),
        ("", False),
        ("\n", False),
        ("Is?", False),
        ("It is alive?", False),
        ("Elephant?", False),
        ("Is it alive.?", False),
        ("Is it food, drink, etc.?", True),
        (f"Is it {'very ' * 40}big?", False),
        ("\x00\x01", False),
    ],
)
def test_what_is_a_question(text: str, valid: bool) -> None:
    assert is_question(text) is valid
    assert play("Cat", text)[0][4]["is_invalid"] is not valid


@pytest.mark.parametrize("text", ["", "\n", "Is this a valid question?\n", "xyzzy\n", "a" * 100_000, "is " * 50_000])
def test_nonsense_is_answered_with_no_and_counts(text: str) -> None:
    assert play("Cat", text)[0][:4] == ("No.\n", -1.0, False, False)


def test_the_oracle_is_shown_the_object_and_the_dialogue() -> None:
    oracle = Fixed("yes")
    env = TwentyQuestions(partner=oracle)
    assert isinstance(env, Dialogue)
    env.reset(seed=7, options={"object": "Pants"})
    env.step("Is it alive?\n")
    env.step("Is it worn?\n")
    request = oracle.seen[1]
    assert json.loads(request.history[0].text) == {"object": "Pants", "variants": ["Pants", "Pant", "Pair of pants"]}
    assert [(turn.text, turn.is_action) for turn in request.history[1:]] == [
        ("Is it alive?\n", False),
        ("Yes.\n", True),
        ("Is it worn?\n", False),
    ]
    assert (request.seed, request.turn) == (7, 1)


def test_step_is_address_and_judge() -> None:
    whole, halves = TwentyQuestions(), TwentyQuestions()
    for env in (whole, halves):
        env.reset(seed=3)
    for text in question_texts()[:15]:
        assert whole.step(text) == halves.judge(halves.partner.act([halves.address(text)])[0])
    with pytest.raises(RuntimeError, match=r"address\(\) before judge"):
        halves.judge(Action("Yes."))
    assert TwentyQuestions().partner is whole.partner is default_oracle()


def test_objects_are_drawn_evenly() -> None:
    env = TwentyQuestions()
    env.reset(seed=0)
    drawn = Counter()
    for _ in range(158 * 20):
        env.reset()
        drawn[env.object] += 1
    assert set(drawn) == set(THINGS)
    assert max(abs(count - 20) for count in drawn.values()) < 23, "five standard deviations"
    assert [start["object"] for start in env.evaluation_starts()] == list(THINGS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwentyQuestions(questions=0), "questions must be at least 1, got 0"),
        (lambda: EmbeddedOracle(noise=2), "noise must be a probability, got 2"),
        (lambda: TwentyQuestions().reset(options={"object": "cat"}), "one of the 158 objects, got 'cat'"),
        (lambda: TwentyQuestions().reset(options={"word": "Cat"}), r"unknown reset options \['word'\]"),
        (lambda: default_oracle().act([Request((Turn("{}", False),) * 2)]), "must name one of its objects, got {}"),
        (lambda: answer({"object": "Unicorn"}, "Is it?"), "must name one of its objects"),
    ],
)
def test_bad_arguments_are_told(make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# Facts


def test_the_objects_are_the_benchmarks() -> None:
    assert len(THINGS) == 158
    counts = Counter(thing.category for thing in THINGS.values())
    assert sorted(counts.values()) == [5, 5, 6, 7, 9, *[10] * 9, 11, 11, 14]
    assert THINGS["Scissors"].variants == ("Scissors", "Pair of scissors")
    assert all(is_guess_of(f"Is it {thing.said}?", thing) for thing in THINGS.values())


def test_facts_tell_all_pairs_apart() -> None:
    known = facts()
    rows = {name: tuple(objects >> index & 1 for objects in known.sets.values()) for name, index in known.index.items()}
    assert [pair for pair in combinations(rows, 2) if rows[pair[0]] == rows[pair[1]]] == []
    asked = {name: tuple(q.objects >> index & 1 for q in book().questions) for name, index in known.index.items()}
    assert [pair for pair in combinations(asked, 2) if asked[pair[0]] == asked[pair[1]]] == []


def test_facts_are_sensible() -> None:
    known = facts()
    for smaller, larger in (
        ("ball", "sports_equipment"),
        ("pet", "animal"),
        ("wild", "animal"),
        ("brass", "wind"),
        ("wind", "instrument"),
        ("footwear", "clothing"),
        ("footwear", "pairs"),
        ("salty", "water_body"),
        ("fruit", "food"),
        ("jewelry", "worn"),
        ("screen", "electricity"),
    ):
        assert known.sets[smaller] & ~known.sets[larger] == 0, (smaller, larger)
    for one, other in (("animal", "vehicle"), ("fruit", "vegetable"), ("natural", "electricity"), ("alive", "metal")):
        assert known.sets[one] & known.sets[other] == 0, (one, other)
    assert all(min(thing.numbers) > 0 for thing in known.things)


def test_meanings_join_attributes() -> None:
    known = facts()
    assert names(known.describe("brass & !noisy | [Cat; Dog]")) == {"Cat", "Dog"}
    assert names(known.describe("fruit & (colour=red | tropical)")) >= {"Apple", "Strawberry", "Banana"}
    assert names(known.describe("weight_kg<0.006 & jewelry")) == {"Earring", "Ring"}
    assert known.describe("everything") == known.everything
    assert known.describe("nothing") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("brasss", "'brasss' is not an attribute"),
        ("[Unicorn]", "'Unicorn' is not one of the 158 objects"),
        ("(brass", "open parenthesis"),
        ("brass brass", "continues with 'brass'"),
        ("brass ?", "cannot be parsed at"),
    ],
)
def test_damaged_meanings_are_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        facts().describe(text)


def test_damaged_facts_are_told() -> None:
    thing = Thing("Cat", ("Cat",), "a cat", "animal", (1, 1, 1), frozenset())
    with pytest.raises(ValueError, match="attribute alive: expected one of yes, mostly, rarely, no, got 'perhaps'"):
        Facts([thing], {"alive": ["perhaps"]})
    with pytest.raises(ValueError, match="attribute alive"):
        Facts([thing], {"alive": []})


# What the oracle understands


def test_held_out_questions_are_understood_and_answered_rightly() -> None:
    tries = trials("twenty_questions", HELD_OUT)
    assert len({(tried.utterance, tried.about) for tried in tries}) >= 800
    assert sum(tried.is_understood for tried in tries) / len(tries) >= 0.95
    assert sum(tried.is_right for tried in tries) / len(tries) >= 0.95


def test_the_command_prints_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("object,question,answer\nCat,Is it alive?,Yes\nCat,Is it a dog?,Yes\nCat,Is it zorky?,No\n")
    assert coverage(["--task", "twenty_questions", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Cat: Is it a dog? (No, expected Yes)",
        "Cat: Is it zorky? (not understood)",
        "3 questions: 66.7 % understood, 33.3 % answered as expected",
    ]
    conversations = tmp_path / "published.json"
    conversations.write_text(json.dumps([{"lines": ["Is it alive? Yes.", "Is it zorky? No."], "word": ["Cat"]}]))
    assert coverage(["--task", "twenty_questions", str(conversations)]) == 0
    assert capsys.readouterr().out.endswith("2 questions: 50.0 % understood\n")


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("maze", "question\nIs it?\n", "--task maze: this task has no embedded partner"),
        ("a.b", "question\nIs it?\n", "--task a.b: this task has no embedded partner"),
        ("twenty_questions", "object\nCat\n", "a row has no question"),
        ("twenty_questions", "question\n", "there are no questions in it"),
        ("twenty_questions", None, "questions.csv"),
    ],
)
def test_the_command_tells_mistakes(task: str, content: str | None, message: str, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "questions.csv"
    if content is not None:
        file.write_text(content)
    assert coverage(["--task", task, str(file)]) != 0
    assert message in capsys.readouterr().err
    (tmp_path / "other.json").write_text('{"lines": 3}')
    with pytest.raises(ValueError, match="expected a list of conversations"):
        list(questions(tmp_path / "other.json"))
    assert next(questions(HELD_OUT)) == Asked("Is it used in a sport?", {"object": "Basketball"}, "Yes")


@pytest.mark.parametrize(
    ("question", "about", "true_of"),
    [
        ("Is it an animal or a vehicle?", {"Cat", "Bus", "Spoon"}, {"Cat", "Bus"}),
        ("Is it red, green or blue?", {"Tomato", "Cucumber", "Ocean", "Banana"}, {"Tomato", "Cucumber", "Ocean"}),
        ("Is it a metal tool?", {"Hammer", "Spinach", "Car", "Scissors"}, {"Hammer", "Scissors"}),
        ("Is it not alive?", {"Cat", "Cup"}, {"Cup"}),
        ("Isn't it alive?", {"Cat", "Cup"}, {"Cat"}),
        ("Is it non-living?", {"Cat", "Cup"}, {"Cup"}),
        ("Is it orange?", {"Orange", "Carrot", "Apple"}, {"Orange", "Carrot"}),
        ("Is it an orange?", {"Orange", "Carrot", "Apple"}, {"Orange"}),
        ("Is it smaller than a grape?", {"Peas", "Grape", "Apple"}, {"Peas"}),
        ("Is it bigger than me?", {"Elephant", "Cat"}, {"Elephant"}),
        ("Does it weigh more than 10 pounds?", {"Piano", "Dog", "Cup"}, {"Piano", "Dog"}),
        ("Is it shorter than two feet?", {"Spoon", "Rake"}, {"Spoon"}),
        ("Is it about the size of an apple?", {"Orange", "Peach", "Bus", "Peas"}, {"Orange", "Peach"}),
        ("Do you watch it?", {"Television", "Watch"}, {"Television"}),
        ("Is it a watch?", {"Television", "Watch"}, {"Watch"}),
        ("Does it have keys?", {"Piano", "Key"}, {"Piano"}),
        ("Does it have a long handle?", {"Rake", "Hammer", "Carrot"}, {"Rake", "Hammer"}),
        ("Is it a pencil sharpener?", {"Pencil", "Knife"}, set()),
        ("Is it a dragon?", {"Lion", "Cat"}, set()),
        ("IS IT MADE OUT OF WOOD???", {"Table", "Spinach"}, {"Table"}),
    ],
)
def test_how_questions_are_read(question: str, about: set[str], true_of: set[str]) -> None:
    assert names(meaning(question).objects) & about == true_of


def test_every_phrase_and_every_asked_question_is_understood() -> None:
    for row in rows(parser_module.__file__, PHRASES):
        assert 0 <= facts().describe(row["meaning"]) <= facts().everything
    for question in book().questions:
        assert 0 < question.objects < facts().everything, "tells something"
        for text in question.texts:
            assert is_question(text)
            assert meaning(text) == meaning(question.texts[0])
            assert names(meaning(text).objects) == names(question.objects), text
    for index, guess in enumerate(book().guesses):
        assert meaning(guess).objects == 1 << index
    assert parser() is parser()


def test_understood_and_answer_are_plain() -> None:
    assert understood("Is it edible?")
    assert not understood("Is this a valid question?")
    assert (answer({"object": "Apple"}, "Is it edible?"), answer({"object": "Pen"}, "Is it edible?")) == ("Yes", "No")


def test_noise_is_seeded_and_as_frequent_as_told() -> None:
    oracle = EmbeddedOracle(noise=0.25)
    history = (Turn('{"object": "Cat"}', False), Turn("Is it alive?\n", False))
    told = [oracle.act([Request(history, seed=seed)])[0].text for seed in range(1000)]
    assert told == [
        action.text for action in EmbeddedOracle(noise=0.25).act([Request(history, seed=s) for s in range(1000)])
    ]
    assert abs(told.count("No.\n") - 250) < 69, "five standard deviations"
    nonsense = (history[0], Turn("gibberish\n", False))
    assert {oracle.act([Request(nonsense, seed=seed)])[0].text for seed in range(50)} == {"No.\n"}
    assert oracle.settings != EmbeddedOracle().settings


# Players


def test_expert_finds_every_object() -> None:
    player = ExpertQuestioner()
    assert isinstance(player, Policy)
    starts = [Start(0, options) for options in TwentyQuestions().evaluation_starts()]
    played = rollout(TwentyQuestions, player, starts, memory=None)
    assert Counter(trajectory.total_reward for trajectory in played) == {-5: 5, -6: 51, -7: 66, -8: 34, -9: 2}
    assert all(trajectory.info["success"] and not trajectory.info["invalid_actions"] for trajectory in played)
    assert expert_return(20) == pytest.approx(-1083 / 158)
    assert expert_return(1) == pytest.approx(-1)
    assert expert_return(7) == pytest.approx(-(5 * 5 + 51 * 6 + 102 * 7) / 158), "games that go on are lost"


def test_expert_asks_what_divides_most_evenly() -> None:
    history = [Turn("Questions:\n", False)]
    for said, reply in (("Is it found in nature?\n", "Yes.\n"), ("Is it alive?\n", "Yes.\n")):
        history += [Turn(said, True, -1.0), Turn(reply, False)]
    candidates = possible(tuple(history))
    assert names(candidates) == names(facts().sets["natural"] & facts().sets["alive"])
    (action,) = ExpertQuestioner().act([Request(tuple(history))])
    asked = next(question for question in book().questions if question.texts[0] == action.text)
    count = candidates.bit_count()
    gaps = [abs(2 * (question.objects & candidates).bit_count() - count) for question in book().questions]
    assert abs(2 * (asked.objects & candidates).bit_count() - count) == min(gaps)
    assert book().best(0b1011) is None, f"{FEW} objects are guessed"


def test_expert_goes_on_when_answers_contradict_each_other() -> None:
    history = [Turn("Questions:\n", False)]
    for said, reply in (
        ("Is it an animal?\n", "Yes.\n"),
        ("Is it a cat?\n", "No.\n"),
        ("Is it alive?\n", "No.\n"),
        ("What?\n", "No.\n"),
    ):
        history += [Turn(said, True, -1.0), Turn(reply, False)]
    assert possible(tuple(history))
    assert not names(possible(tuple(history))) & {"Cat"}
    assert ExpertQuestioner().act([Request(tuple(history))])[0].text.endswith("?\n")
    wrong = partial(TwentyQuestions, partner=EmbeddedOracle(noise=0.3))
    played = rollout(wrong, ExpertQuestioner(), [Start(seed) for seed in range(6)], memory=None)
    assert all(trajectory.terminated for trajectory in played)


def test_random_questioner_knows_all_texts() -> None:
    player = RandomQuestioner()
    assert len(set(player.actions)) == len(player.actions) == sum(len(q.texts) for q in book().questions) + 158
    assert set(question_texts()) <= set(player.actions)
    played = rollout(TwentyQuestions, player, [Start(seed) for seed in range(80)], memory=None)
    mean = sum(trajectory.total_reward for trajectory in played) / 80
    assert -20 <= mean < -18.5
    assert all(trajectory.info["invalid_actions"] == 0 for trajectory in played)


# Data


@pytest.fixture(scope="module")
def recipe() -> MixedQuestioners:
    return MixedQuestioners(env=TwentyQuestions, task="twenty_questions")


def small(trajectories: int = 12, env: Callable = TwentyQuestions, **arguments: Any) -> MixedQuestioners:
    return MixedQuestioners(env=env, task="twenty_questions", trajectories=trajectories, **arguments)


SUMMED_UP = """
import collections, json
from lmrl.data.statistics import Summary
from lmrl.tasks.twenty_questions.recipe import MixedQuestioners
from lmrl.tasks.twenty_questions.env import TwentyQuestions

recipe = MixedQuestioners(env=TwentyQuestions, task="twenty_questions")
summary, found = Summary(), collections.Counter()
for index in range(158 * 40):
    game = summary.add(recipe.play(index))
    found[game.info["object"]] += game.info["success"]
print(json.dumps({**summary.statistics(), "objects": len(found), "least_found": min(found.values())}))
"""


def test_statistics_meet_the_published_ones() -> None:
    """In a process of its own, because the run-time type checks of the tests make games ten times slower."""
    run = subprocess.run([sys.executable, "-c", SUMMED_UP], capture_output=True, text=True, check=True)
    numbers = json.loads(run.stdout)
    # The standard errors are 0.006, 0.058 and 0.04.
    assert numbers["success_rate"] == pytest.approx(0.31, abs=0.025)
    assert numbers["return_mean"] == pytest.approx(-17.3, abs=0.25)
    assert numbers["length_std"] == pytest.approx(4.38, abs=0.35)
    assert numbers["objects"] == 158
    assert numbers["least_found"] >= 1, "every object is found"


def test_environment_tells_what_the_data_tell(recipe: MixedQuestioners) -> None:
    env = TwentyQuestions()
    for trajectory in (recipe.play(index) for index in range(40)):
        observation, _ = env.reset(seed=trajectory.seed, options={"object": trajectory.info["object"]})
        turns, over, info = [Turn(observation, is_action=False)], False, {}
        for text in (turn.text for turn in trajectory.turns if turn.is_action):
            assert not over
            observation, reward, over, _, info = env.step(text)
            turns += [Turn(text, is_action=True, reward=reward), Turn(observation, is_action=False)]
        assert (tuple(turns), over) == (trajectory.turns, trajectory.terminated)
        assert info == {**trajectory.info, "is_invalid": False}


def test_skilled_questioners_always_ask_like_the_expert() -> None:
    found = [game for game in small(40, share_skilled=1.0, prob_best=1.0)]
    assert all(game.info["success"] for game in found)
    assert sum(game.total_reward for game in found) / 40 == pytest.approx(-6.85, abs=0.8)
    for game in found:
        for place in range(1, len(game.turns), 2):
            number = book().best(possible(game.turns[:place]))
            guessed = game.turns[place].text in book().guesses
            assert guessed if number is None else game.turns[place].text in book().questions[number].texts


def test_the_last_question_is_a_guess_and_none_is_asked_twice() -> None:
    for game in small(30, share_skilled=0.0):
        said = [turn.text for turn in game.turns if turn.is_action]
        assert said[-1] in book().guesses
        meanings = [meaning(text).objects for text in said if text not in book().guesses]
        assert len(said) < 20 or len(meanings) >= 10
        places = [n for text in said for n, q in enumerate(book().questions) if text in q.texts]
        assert len(places) == len(set(places))


def test_games_depend_on_seed_and_index_only(recipe: MixedQuestioners) -> None:
    games = [recipe.play(index) for index in range(20)]
    fresh = pickle.loads(pickle.dumps(small()))
    assert [fresh.play(index) for index in reversed(range(20))] == games[::-1]
    assert [pickle.loads(pickle.dumps(recipe)).play(index) for index in range(5)] == games[:5]
    assert [small(seed=1).play(index) for index in range(20)] != games
    assert len(pickle.dumps(recipe)) < 10_000


def test_stored_data_are_the_played_games(recipe: MixedQuestioners, tmp_path: Path) -> None:
    data = load_or_generate(recipe=small(15), root=tmp_path, progress=False)
    assert data.trajectories == [recipe.play(index) for index in range(15)]
    assert data.statistics["expert_return"] == pytest.approx(-1083 / 158)
    assert data.statistics["objects_found"] == len({g.info["object"] for g in data.trajectories if g.info["success"]})
    others = [small(), small(13), small(seed=1), small(share_skilled=0.5), small(prob_best=0.1), small(prob_guess=0.5)]
    others += [small(memory=1), small(env=partial(TwentyQuestions, questions=19))]
    others += [small(env=partial(TwentyQuestions, partner=EmbeddedOracle(noise=0.1)))]
    assert len({json.dumps(dict(other.settings())) for other in others}) == len(others)
    assert small(env=partial(TwentyQuestions, partner=Fixed("yes"))).settings() == small().settings()
    assert all(isinstance(other, Recipe) for other in others)
    assert others[-2].play(0).length <= 19


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prob_best": 1.5}, "prob_best of MixedQuestioners must be at most 1, got 1.5"),
        ({"share_skilled": -1}, "share_skilled of .* must be at least 0, got -1"),
        ({"trajectories": 0}, "trajectories of .* must be at least 1, got 0"),
        ({"memory": -1}, "memory of .* must be at least 0, got -1"),
        ({"env": Maze}, "env must build a TwentyQuestions, but it builds a Maze"),
    ],
)
def test_bad_recipes_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


# Published files


def published(game: Trajectory) -> dict[str, Any]:
    texts = [turn.text.rstrip("\n") for turn in game.turns[1:]]
    lines = [f"{question} {reply}" for question, reply in zip(texts[::2], texts[1::2], strict=True)]
    variants = list(THINGS[str(game.info["object"])].variants)
    return {"lines": lines, "correct": game.info["success"], "word": variants}


GAME = {"lines": ["Is it alive? No.", "Is it a pen? Yes."], "correct": True, "word": ["Pen"]}


@pytest.mark.parametrize("layout", ["array", "indented array", "lines"])
def test_published_conversations_are_read(layout: str, recipe: MixedQuestioners, tmp_path: Path) -> None:
    originals = [recipe.play(index) for index in range(12)]
    values = [published(game) for game in originals] + [GAME | {"correct": False}]
    file = tmp_path / "train.json"
    text = (
        "\n".join(map(json.dumps, values)) if layout == "lines" else json.dumps(values, indent=len(layout) > 5 or None)
    )
    file.write_text(text)
    importer = PublishedTwentyQuestions(path=file, like=recipe)
    *games, cut = importer
    assert len(importer) == 13
    for original, game in zip(originals, games, strict=True):
        assert (game.turns, game.terminated, game.truncated) == (original.turns, True, False)
        assert (game.info["success"], game.info["object"]) == (original.info["success"], original.info["object"])
    assert (cut.total_reward, cut.terminated, cut.truncated) == (-2.0, False, True)
    data = load_or_generate(recipe=importer, root=tmp_path / "data", progress=False)
    assert (len(data.trajectories), data.task, data.policy) == (13, "twenty_questions", "lmrl-gym")


def test_lines_are_divided_at_the_last_question_mark(recipe: MixedQuestioners, tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    file.write_text(json.dumps([GAME | {"lines": ["Hm? Is it alive? No."], "correct": False}]))
    (game,) = PublishedTwentyQuestions(path=file, like=recipe)
    assert [turn.text for turn in game.turns] == ["Questions:\n", "Hm? Is it alive?\n", "No.\n"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "the whole value: expected an object, got 3"),
        (GAME | {"lines": None}, "field 'lines': expected a list, got None"),
        (GAME | {"lines": []}, "field 'lines': expected 1 to 20 entries, got 0"),
        (GAME | {"lines": ["Is it? No."] * 21}, "field 'lines': expected 1 to 20 entries, got 21"),
        (GAME | {"lines": ["Is it alive"]}, "field 'lines', entry 0: expected a question, '? ' and an answer"),
        (GAME | {"lines": [3]}, "field 'lines', entry 0: expected text, got 3"),
        (GAME | {"correct": 1}, "field 'correct': expected true or false, got 1"),
        (GAME | {"word": "Pen"}, "field 'word': expected a list, got 'Pen'"),
        (GAME | {"word": []}, "field 'word': expected at least one name"),
        (GAME | {"word": [None]}, "field 'word', entry 0: expected text, got None"),
    ],
)
def test_damaged_conversations_name_file_place_and_field(
    value: Any, message: str, recipe: MixedQuestioners, tmp_path: Path
) -> None:
    file = tmp_path / "eval.json"
    file.write_text(json.dumps([GAME, value]))
    with pytest.raises(ValueError, match=rf"eval\.json, conversation 1, {re.escape(message)}"):
        list(PublishedTwentyQuestions(path=file, like=recipe))
    file.write_text(json.dumps(GAME) + "\n" + json.dumps(value) + "\n")
    with pytest.raises(ValueError, match=rf"eval\.json, line 2, {re.escape(message)}"):
        list(PublishedTwentyQuestions(path=file, like=recipe))
    file.write_text("[{")
    with pytest.raises(ValueError, match=r"eval\.json, the whole file: not JSON"):
        list(PublishedTwentyQuestions(path=file, like=recipe))


# Configuration


def test_configuration_makes_the_task(compose: Callable, tmp_path: Path) -> None:
    cfg = compose("task=twenty_questions", "algo=bc", f"data_dir={tmp_path}", "task.dataset.recipe.trajectories=10")
    data = instantiate(cfg.task.dataset, progress=False)()
    make_env = instantiate(cfg.task.env)
    assert make_env().partner is make_env().partner
    assert data.trajectories == [small().play(index) for index in range(10)]
    assert data.recipe["game"] == make_env().settings == TwentyQuestions().settings
    assert max(map(len, RandomQuestioner().actions)) <= 60
    starts = [Start(seed, options) for seed, options in enumerate(make_env().evaluation_starts()[:40])]
    returns = {}
    for name, player in cfg.task.players.items():
        played = rollout(make_env, instantiate(player), starts, memory=cfg.task.memory)
        returns[name] = sum(trajectory.total_reward for trajectory in played) / len(played)
    assert returns["random"] < -18 < -9 < returns["expert"]
    assert cfg.task.own_score.max == pytest.approx(-1083 / 158, abs=1e-4)
    file = tmp_path / "published.json"
    file.write_text(json.dumps([GAME]))
    assert len(list(instantiate(cfg.task.importer)(path=file, like=small()))) == 1


def test_other_oracles_are_asked_as_the_benchmark_asks(compose: Callable) -> None:
    cfg = compose("task=twenty_questions", "algo=bc")
    prompt = PartnerPrompt.from_mapping(OmegaConf.to_container(cfg.task.partner_prompt))  # type: ignore[arg-type]
    oracle = Fixed("yes")
    env = TwentyQuestions(partner=oracle)
    env.reset(options={"object": "Airplane"})
    env.step("Does it fly?\n")
    asked = prompt.messages(Situation.from_history(oracle.seen[0].history))
    assert asked[-1]["content"].splitlines()[1:] == [
        "object: (Airplane, Plane)",
        "question: Does it fly?",
        "answer (yes or no):",
    ]
    for question, reply in zip(asked[1:-1:2], asked[2:-1:2], strict=True):
        name, text = re.findall(r"object: \((\w+).*\nquestion: (.*)", question["content"])[0]
        assert answer({"object": name}, text).lower() == reply["content"]


def test_the_game_is_explained_correctly(compose: Callable) -> None:
    prompt = compose("task=twenty_questions", "algo=bc").task.prompt
    for example in prompt.examples:
        said = list(example.history)[1:]
        turns = [Turn("Questions:\n", False)]
        for question, reply in zip(said[::2], said[1::2], strict=True):
            turns += [Turn(f"{question}\n", True, -1.0), Turn(f"{reply}\n", False)]
        assert possible(tuple(turns)), "some object agrees with the answers"
        assert is_question(example.action)
        assert understood(example.action)
    assert names(possible(tuple(turns))) == {"Trombone"}


def test_held_out_file_is_clean() -> None:
    with HELD_OUT.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["object"] for row in rows} <= set(THINGS)
    assert {row["answer"] for row in rows} == {"Yes", "No"}
