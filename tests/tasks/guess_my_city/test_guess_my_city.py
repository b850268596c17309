"""Guess My City: the rules, the citizen's answers, the players, and the data beside the published statistics."""

import csv
import json
import pickle
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lmrl.coverage.__main__ import main as coverage
from lmrl.data.generate import load_or_generate
from lmrl.data.recipe import Recipe
from lmrl.data.statistics import Summary
from lmrl.envs.core import PRINTABLE, Dialogue
from lmrl.envs.tables import rows
from lmrl.policies.core import Action, Policy, Request
from lmrl.policies.prompted import Prompt
from lmrl.rollout import Start, rollout
from lmrl.tasks.guess_my_city import parser as parser_module
from lmrl.tasks.guess_my_city.cities import cities, themes
from lmrl.tasks.guess_my_city.coverage import is_expected
from lmrl.tasks.guess_my_city.env import GuessMyCity
from lmrl.tasks.guess_my_city.guesses import gives_away, guessed
from lmrl.tasks.guess_my_city.partner import (
    ANSWERS,
    EmbeddedCitizen,
    answer,
    city_of,
    is_informative,
    questions,
    replies,
    understood,
)
from lmrl.tasks.guess_my_city.players import ExpertPlayer, RandomPlayer, beliefs, gains, likelihood
from lmrl.tasks.guess_my_city.published import PublishedGuessMyCity
from lmrl.tasks.guess_my_city.recipe import MixedQuestioners
from lmrl.tasks.guess_my_city.repertoire import GUESSES, SENTENCES, SHARES
from lmrl.tasks.maze.env import Maze
from lmrl.text.trajectory import Turn

HELD_OUT = Path(__file__).parents[2] / "data" / "guess_my_city_questions.csv"
NAMES = [city.name for city in cities()]


class Says:
    """A citizen that says what it is told to, and keeps what it was shown."""

    def __init__(self, reply: str) -> None:
        self.reply, self.shown = reply, []

    def act(self, requests: Sequence[Request]) -> list[Action]:
        self.shown += requests
        return [Action(self.reply) for _ in requests]


def play(env: GuessMyCity, city: str, *asked: str) -> list[tuple]:
    assert env.reset(seed=1, options={"city": city}) == ("Questions:\n", {})
    return [env.step(question) for question in asked]


# The rules


def test_a_whole_game_is_these_texts() -> None:
    steps = play(
        GuessMyCity(),
        "Jakarta",
        "Is your city the capital of its country?\n",
        "Is it Bandung?\n",
        "Is the city you are from Jakarta?\n",
    )
    told = {"success": False, "is_invalid": False}
    assert steps == [
        ("Yes, it is the capital of its country.\n", -1.0, False, False, told),
        ("No, the city I am from is not Bandung.\n", -1.0, False, False, told),
        ("Yes, the city I am from is Jakarta.\n", 0.0, True, False, {**told, "success": True, "city": "Jakarta"}),
    ]


@pytest.mark.parametrize("turn", [1, 2, 11, 19, 20])
def test_return_of_a_win_and_of_a_loss(turn: int) -> None:
    steps = play(GuessMyCity(), "Lima", *["Is it in Asia?\n"] * (turn - 1), "Is it Lima?\n")
    assert sum(step[1] for step in steps) == -(turn - 1)
    assert [step[2] for step in steps] == [False] * (turn - 1) + [True]


def test_twenty_questions_end_the_game() -> None:
    env = GuessMyCity()
    steps = play(env, "Lima", *["Is it Cairo?\n"] * 20)
    assert (sum(step[1] for step in steps), [step[2] for step in steps]) == (-20, [False] * 19 + [True])
    assert steps[-1][4] == {"success": False, "is_invalid": False, "city": "Lima"}
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step("Is it Lima?\n")


@pytest.mark.parametrize(
    ("city", "question"),
    [
        ("Mumbai", "Is it Bombay?"),
        ("Mumbai", "Are you from Mumbai, India?"),
        ("Kyiv", "I think you are from Kiev, am I right?"),
        ("Bogota", "Is the city you are from Bogotá?"),
        ("Sydney", "Is the city you are from you are from Sydney, Australia?"),
        ("Xi'an", "Is your hometown Xi\u2019an?"),
        ("Pyongyang", "is it pyong yang"),
        ("New York", "Could it be New York City?"),
        ("Mexico City", "Do you live in Mexico City?"),
        ("Tashkent", "Is the city you are from Tashkent, the capital of Uzbekistan?"),
        ("Ho Chi Minh City", "My guess is Saigon"),
        ("Abidjan", "Is your city Abidjan, Ivory Coast?"),
        ("St Petersburg", "Is it St. Petersburg?"),
    ],
)
def test_what_is_a_guess(city: str, question: str) -> None:
    assert guessed(question) is city_of(city)
    assert play(GuessMyCity(), city, f"{question}\n")[0][:3] == (f"Yes, the city I am from is {city}.\n", 0.0, True)


@pytest.mark.parametrize(
    ("city", "question"),
    [
        ("Rio de Janeiro", "Is your city in the state of Rio de Janeiro?"),
        ("Lima", "Is it Lima or Cairo?"),
        ("Mexico City", "Is it Mexico?"),
        ("Guangzhou", "Is your city the capital of Guangzhou?"),
        ("Faisalabad", "Is your city located in the Faisalabad district?"),
        ("Casablanca", "Is your city to the north of Casablanca?"),
        ("Cali", "Are you from California?"),
        ("Delhi", "d"),
        ("Delhi", "What do people think of Delhi?"),
    ],
)
def test_what_is_none(city: str, question: str) -> None:
    assert guessed(question) is None
    assert play(GuessMyCity(), city, f"{question}\n")[0][1:3] == (-1.0, False)


@pytest.mark.parametrize("utterance", ["", "\n", "?!\n", "why " * 51 + "\n"])
def test_what_is_no_question_costs_and_is_told_nothing(utterance: str) -> None:
    told = {"success": False, "is_invalid": True}
    assert play(GuessMyCity(), "Lima", utterance) == [("I am not sure about that.\n", -1.0, False, False, told)]


def test_published_environment_tells_only_yes_and_no() -> None:
    env = GuessMyCity(yes_no_only=True)
    asked = ("Is it in Asia?\n", "What is the climate like in your city?\n", "Is it Cairo?\n", "Is it Tokyo?\n")
    assert [step[0] for step in play(env, "Tokyo", *asked)] == ["Yes.\n", "No.\n", "No.\n", "Yes.\n"]


def test_unknown_options_and_cities_are_told() -> None:
    with pytest.raises(ValueError, match=r"unknown reset options \['town'\], the only one is city"):
        GuessMyCity().reset(options={"town": "Lima"})
    with pytest.raises(ValueError, match="there is no city 'Atlantis'"):
        GuessMyCity().reset(options={"city": "Atlantis"})


# The partner


def test_what_the_citizen_is_shown() -> None:
    citizen = Says("Yes, it does.\n")
    env = GuessMyCity(partner=citizen)
    assert isinstance(env, Dialogue)
    play(env, "Busan", "Does it rain?\n", "Is it big?\n", "Is it Seoul?\n")
    first, second, third = citizen.shown
    assert [(turn.text, turn.is_action) for turn in second.history] == [
        ('{"country": "South Korea", "name": "Busan"}', False),
        ("Does it rain?\n", False),
        ("Yes, it does.\n", True),
        ("Is it big?\n", False),
    ]
    assert first.history == second.history[:2]
    assert third.history == (), "the referee answers guesses"
    assert (first.turn, second.turn) == (1, 2)
    assert first.seed == second.seed


@pytest.mark.parametrize(
    ("reply", "question", "shown"),
    [
        ("My home is Busan!", "Where?", "I cannot reveal the name of my city."),
        ("It is in SOUTH KOREA.", "Where?", "I cannot reveal the name of my city."),
        ("We call it P\u00fasan.", "Name?", "I cannot reveal the name of my city."),
        ("Yes, it is in Korea.", "Is it in Korea?", "Yes, it is in Korea."),
        ("Yes, it is Busan.", "Is it Seoul, Busan, or Cairo?", "I cannot reveal the name of my city."),
        ("Busanites are friendly.", "And the people?", "Busanites are friendly."),
        ("", "Really?", "I am not sure about that."),
        ("Yes\n\nAnswer:  of course \u00e9\U0001f600", "Is it big?", "Yes Answer: of course e"),
        ("word " * 500, "Is it big?", ("word " * 120).strip()),
        ("Yes, I am from Seoul.", "Is it Seoul?", "No, the city I am from is not Seoul."),
        ("No.", "Is it Busan?", "Yes, the city I am from is Busan."),
    ],
)
def test_what_becomes_of_a_models_answer(reply: str, question: str, shown: str) -> None:
    observation, *_ = play(GuessMyCity(partner=Says(reply)), "Busan", question)[0]
    assert observation == f"{shown}\n"
    assert set(observation) <= set(PRINTABLE)


def test_names_are_words_not_letters() -> None:
    houston, rio = city_of("Houston"), city_of("Rio de Janeiro")
    assert not gives_away("It told us to use South America.", "Where?", houston)
    assert gives_away("It is in the US.", "Where?", houston)
    assert gives_away("It is in America.", "Where?", houston)
    assert not gives_away("There are curious rituals.", "What?", rio)
    assert gives_away("Rio is nice.", "What?", rio)


def test_embedded_answers_give_nothing_away_and_are_true_to_seed_and_turn() -> None:
    for city in cities():
        for wordings in SENTENCES:
            said = replies(city.name, wordings[0])
            assert said == replies(city.name, wordings[1]), wordings
            assert not any(gives_away(text, wordings[0], city) for text in said)
            assert all(text.endswith("\n") and set(text) <= set(PRINTABLE) for text in said)
    brief, question = Turn('{"name": "Lima"}', False), Turn("What is your city known for?\n", False)
    asked = [Request((brief, question), seed=seed, turn=3) for seed in range(40)]
    told = EmbeddedCitizen().act(asked)
    assert told == EmbeddedCitizen().act(asked[::-1])[::-1]
    assert len({action.text for action in told}) > 3


@pytest.mark.parametrize(
    ("city", "question", "expected"),
    [
        ("Chengdu", "Is your city known for its pandas?", "Yes, my city is known for its pandas."),
        ("Lima", "Is your city known for its pandas?", "No, my city is not known for that."),
        ("Istanbul", "Is your city in two continents?", "Yes, it lies in two continents."),
        ("Toronto", "Is there an ocean near your city?", "No, it is not on the coast."),
        ("Havana", "What is the name of your city?", "I cannot reveal the name of my city."),
        ("Havana", "Which country are you from?", "I cannot reveal the name of my country."),
        ("Lahore", "Question 7: Is your city located in India?", "No, my city is not located there."),
        ("Budapest", "What language is spoken in your city?", "The main language in my city is Hungarian."),
        ("Medan", "Is your city on the island of Java?", "No, that is not right."),
        ("Paris", "Is the Eiffel Tower in your city?", "Yes, my city has that."),
        ("Tehran", "Is the Eiffel Tower in your city?", "No, my city does not have that."),
        ("Cairo", "Xyzzy plugh?", "I am not sure about that."),
    ],
)
def test_answers(city: str, question: str, expected: str) -> None:
    assert answer(city_of(city).brief, question) == expected


def test_names_in_answers_keep_their_capitals() -> None:
    """In all cities: a sentence begins with a capital, and the rest of it is spelled as in the tables."""
    scripts = {city.land["script"] for city in cities()}
    assert len(scripts) > 8
    for city in cities():
        script = city.land["script"]
        assert answer(city.brief, "What script do people write in?") == f"People write in the {script} script."
    names = scripts | {word for city in cities() for word in (*city.languages, *city.land["religions"].split(";"))}
    lowered = {name.lower() for name in names} - names
    for city in cities():
        for _, question, _ in questions(HELD_OUT):
            for reply in replies(city.name, question):
                assert not lowered & set(re.findall(r"[\w-]+", reply)), reply


def test_held_out_questions_are_understood_and_answered_rightly() -> None:
    asked = list(questions(HELD_OUT))
    assert len(asked) >= 300
    assert len({question for _, question, _ in asked}) > 340
    assert sum(understood(question) for _, question, _ in asked) / len(asked) >= 0.95
    assert sum(is_expected(brief["name"], *rest) for brief, *rest in asked) / len(asked) >= 0.95


def test_coverage_prints_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "asked.json"
    lines = ["Is it in Asia? No.", "What about quarks? Well. Is it? No."]
    file.write_text(json.dumps([{"conversation": lines, "done": False, "word": "bogota,colombia"}]))
    assert coverage(["--task", "guess_my_city", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Bogota: What about quarks? (not understood)",
        "2 questions: 50.0 % understood, 50.0 % answered as expected",
    ]
    file.write_text(json.dumps([{"conversation": lines, "done": False, "word": "atlantis,sea"}]))
    with pytest.raises(ValueError, match="'atlantis' is not a city"):
        list(questions(file))
    assert not is_informative("I cannot reveal the name of my city.")


# The tables


def test_tables_agree_with_each_other() -> None:
    assert (len(NAMES), len(set(NAMES))) == (100, 100)
    assert all(theme in themes() for city in cities() for theme in city.themes)
    capitals = {city.name for city in cities() if city.is_capital}
    assert {"Seoul", "Moscow", "Brasilia", "Delhi", "Ankara"} <= capitals
    assert not capitals & {"Istanbul", "Sydney", "Toronto", "New York", "Yangon", "Abidjan", "Casablanca", "Hong Kong"}
    for city in cities():
        north, south = "north" in city.part, "south" in city.part
        assert not (north and south)
        assert -90 < city.latitude < 90
        assert city.population > 300_000
        assert city.languages
        assert city.religions
        assert city.landmarks
        assert (
            city.own["climate"] in "tropical monsoon desert semiarid mediterranean oceanic humid continental highland"
        )
        assert city.own["winter"] in ("cold", "cool", "mild", "warm")


def test_parts_of_the_country_agree_with_the_coordinates() -> None:
    """Of two cities of a country, the one said to lie in the north lies north of the one in the south, and so on."""
    for one in cities():
        for other in (city for city in cities() if city.country == one.country):
            if "north" in one.part and "south" in other.part:
                assert one.latitude > other.latitude, (one.name, other.name)
            if "west" in one.part and "east" in other.part:
                assert one.longitude < other.longitude, (one.name, other.name)


def test_every_pair_of_cities_can_be_told_apart() -> None:
    answers = Counter(tuple(replies(name, wordings[0]) for wordings in SENTENCES) for name in NAMES)
    assert set(answers.values()) == {1}


# Players


def test_beliefs_follow_the_answers() -> None:
    asked = Turn("Is your city on the island of Java?\n", True, -1.0)
    history = (Turn("Questions:\n", False), asked, Turn("Yes, that is right.\n", False))
    weights = beliefs(history)
    on_java = {"Jakarta", "Bandung", "Bogor", "Malang", "Surabaya", "Semarang", "Sukabumi", "Cirebon"}
    assert {name for name, weight in zip(NAMES, weights, strict=True) if weight > 0.01} == on_java
    assert weights.sum() == pytest.approx(1)
    java = next(index for index, wordings in enumerate(SENTENCES) if asked.text in wordings)
    assert gains(weights)[java] < 1e-3
    model = likelihood(asked.text, "Yes, I live on that island.\n")
    assert model[NAMES.index("Jakarta")] == 1
    assert model[NAMES.index("Paris")] < 1e-3
    assert set(likelihood(asked.text, "Who knows.\n")) == {1.0}


def test_expert_wins_always_and_random_hardly_ever() -> None:
    starts = [Start(seed, options) for seed, options in enumerate(GuessMyCity().evaluation_starts())]
    played = rollout(GuessMyCity, ExpertPlayer(), starts, memory=None)
    assert all(game.info["success"] for game in played)
    assert sum(game.total_reward for game in played) / 100 == pytest.approx(-2.2, abs=0.4)
    foolish = rollout(GuessMyCity, RandomPlayer(), starts, memory=None)
    assert sum(game.total_reward for game in foolish) / 100 < -18
    assert isinstance(ExpertPlayer(), Policy)


def test_expert_wins_with_bare_answers_too() -> None:
    starts = [Start(seed, options) for seed, options in enumerate(GuessMyCity().evaluation_starts()[:40])]
    played = rollout(lambda: GuessMyCity(yes_no_only=True), ExpertPlayer(yes_no_only=True), starts, memory=None)
    assert sum(game.info["success"] for game in played) >= 38
    assert -10 < sum(game.total_reward for game in played) / 40 < -5, "log2(100) is 6.6 questions and a guess"


def test_players_say_few_sentences() -> None:
    assert sum(SHARES) == pytest.approx(1)
    assert len({text for wordings in SENTENCES for text in wordings}) == 2 * len(SENTENCES) < 300
    assert all(guessed(text) is city for city, said in zip(cities(), GUESSES, strict=True) for text in said)
    assert not any(guessed(text) for wordings in SENTENCES for text in wordings)


# Data


def small(trajectories: int = 12, **arguments) -> MixedQuestioners:
    arguments = {"env": GuessMyCity, "task": "guess_my_city", "trajectories": trajectories} | arguments
    return MixedQuestioners(**arguments)


def test_statistics_meet_the_published_ones() -> None:
    recipe, summary = small(), Summary()
    for index in range(1000):
        summary.add(recipe.play(index))
    numbers = summary.statistics()
    # The standard errors are 0.016 and 0.11.
    assert numbers["success_rate"] == pytest.approx(0.53, abs=0.06)
    assert numbers["return_mean"] == pytest.approx(-18.8, abs=0.4)


def test_games_depend_on_seed_and_index_only_and_replay() -> None:
    recipe = small()
    games = [recipe.play(index) for index in range(12)]
    fresh = pickle.loads(pickle.dumps(small()))
    assert [fresh.play(index) for index in reversed(range(12))] == games[::-1]
    assert [small(seed=1).play(index) for index in range(12)] != games
    for game in games:
        env = GuessMyCity()
        observation, _ = env.reset(seed=game.seed, options={"city": game.info["city"]})
        turns = [Turn(observation, is_action=False)]
        for action in (turn.text for turn in game.turns if turn.is_action):
            observation, reward, over, _, _ = env.step(action)
            turns += [Turn(action, is_action=True, reward=reward), Turn(observation, is_action=False)]
        assert (tuple(turns), over) == (game.turns, True)


def test_skilled_and_casual_players() -> None:
    skilled = list(small(20, skilled=1.0, prob_smart=1.0))
    assert all(game.info["success"] and game.length < 12 for game in skilled)
    casual = list(small(20, skilled=0.0, attention=0.0))
    assert {game.length for game in casual} == {20}
    assert sum(game.info["success"] for game in casual) <= 3, "nobody listens: 1 in 100"
    for game in casual:
        asked = [turn.text for turn in game.turns if turn.is_action]
        assert [guessed(text) is not None for text in asked] == [False] * 19 + [True]


def test_stored_data_are_the_played_games(tmp_path: Path) -> None:
    recipe = small()
    data = load_or_generate(recipe=recipe, root=tmp_path, progress=False)
    assert data.trajectories == [recipe.play(index) for index in range(12)]
    assert data.statistics["expert_policy_return"] > -3 > -18 > data.statistics["random_policy_return"]
    assert isinstance(recipe, Recipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"skilled": 1.5}, "skilled of .* must be at most 1, got 1.5"),
        ({"attention": -1}, "attention of .* must be at least 0, got -1"),
        ({"trajectories": 0}, "trajectories of .* must be at least 1, got 0"),
        ({"env": Maze}, "env must build a GuessMyCity, but it builds a Maze"),
        ({"env": lambda: GuessMyCity(partner=Says("Yes."))}, "made with the embedded citizen, not with a Says"),
    ],
)
def test_bad_recipes_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


# Published files

TRAINING = {
    "lines": [
        "Is it in Asia? Yes, it is.",
        "Is it old? Yes. Is that a surprise? No.",
        "Is it Seoul? Yes, it is Seoul.",
    ],
    "correct": True,
    "word": ["Seoul", "South Korea"],
}
RAW = {
    "conversation": ["Based on this, I ask:\n\nIs it old? Yes. Why do you ask? I wonder.", "Is it Bogot\u00e1? No."],
    "done": False,
    "word": "lima,peru",
}


def published(path: Path) -> PublishedGuessMyCity:
    return PublishedGuessMyCity(path=path, like=small())


@pytest.mark.parametrize("is_array", [True, False])
def test_published_layouts(is_array: bool, tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    file.write_text(json.dumps([TRAINING, RAW]) if is_array else f"{json.dumps(TRAINING)}\n{json.dumps(RAW)}\n")
    recipe = published(file)
    trained, raw = list(recipe)
    assert len(recipe) == 2
    assert [(turn.text, turn.is_action, turn.reward) for turn in trained.turns] == [
        ("Questions:\n", False, 0.0),
        ("Is it in Asia?\n", True, -1.0),
        ("Yes, it is.\n", False, 0.0),
        ("Is it old? Yes. Is that a surprise?\n", True, -1.0),  # the layout's own rule: the last mark
        ("No.\n", False, 0.0),
        ("Is it Seoul?\n", True, 0.0),
        ("Yes, it is Seoul.\n", False, 0.0),
    ]
    assert (trained.terminated, trained.truncated, trained.info["success"], trained.info["city"]) == (
        *(True, False, True),
        "Seoul",
    )
    assert [turn.text for turn in raw.turns[1:]] == [
        "Based on this, I ask: Is it old?\n",
        "Yes. Why do you ask? I wonder.\n",
        "Is it Bogot\u00e1?\n",
        "No.\n",
    ]
    assert (raw.terminated, raw.truncated, raw.total_reward) == (False, True, -2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lines": "Is it?"}, "field 'lines': expected a list"),
        ({"lines": []}, "field 'lines': 0 lines, expected 1 to 20"),
        ({"lines": ["Is it? No."] * 21}, "field 'lines': 21 lines, expected 1 to 20"),
        ({"lines": ["Is it? No.", 3]}, "field 'lines', entry 1: expected text, got 3"),
        ({"lines": [" "]}, "field 'lines', entry 0: a line without any question"),
        ({"correct": 1}, "field 'correct': expected true or false, got 1"),
        ({"word": 5}, "field 'word': expected text, got 5"),
    ],
)
def test_damaged_files_name_place_and_field(change: dict, message: str, tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    file.write_text(json.dumps([TRAINING, TRAINING | change]))
    with pytest.raises(ValueError, match=rf"train\.json, conversation 1, {message}"):
        list(published(file))
    file.write_text(f"{json.dumps(TRAINING)}\n\n{json.dumps(TRAINING | change)}\n")
    with pytest.raises(ValueError, match=rf"train\.json, line 3, {message}"):
        list(published(file))


def test_other_damage_is_told(tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    for content, message in (("[{]", "not JSON"), ("[3]", "expected an object, got 3"), ('{"a": 1}\n', "'lines'")):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            list(published(file))


# Configuration


def test_configuration(compose, tmp_path: Path) -> None:
    cfg = compose("task=guess_my_city", "algo=bc")
    make_env = instantiate(cfg.task.env)
    assert make_env().partner is make_env().partner, "a rollout asks one partner for all environments"
    assert make_env().settings == GuessMyCity().settings
    for name, kind in (("random", RandomPlayer), ("expert", ExpertPlayer)):
        assert isinstance(instantiate(cfg.task.players[name]), kind)
    prompt = OmegaConf.to_container(cfg.task.prompt)
    assert Prompt.from_mapping(prompt).examples
    fields = {name: f"<{name}>" for name in ("name", "country", "examples", "dialogue", "utterance")}
    filled = cfg.task.partner_prompt.template.format(**fields)
    assert all(value in filled for value in fields.values())


def test_examples_of_the_prompt_are_true(compose) -> None:
    """What the prompt's examples tell, some city's citizen would say."""
    for example in compose("task=guess_my_city", "algo=bc").task.prompt.examples:
        said = list(example.history)[1:]
        for question, reply in zip(said[::2], said[1::2], strict=True):
            assert any(f"{reply}\n" in replies(name, question) for name in NAMES)


def test_held_out_file_is_a_table() -> None:
    with HELD_OUT.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"name", "question", "answer"}
    assert {row["name"] for row in rows} <= set(NAMES)


def test_every_topic_is_answered_by_one_object() -> None:
    topics = {row["topic"] for row in rows(parser_module.__file__, "topics.csv")}
    assert len(topics) > 40
    for topic in topics:
        assert [module.__name__ for module in ANSWERS if hasattr(module, topic)], topic
        assert len([module for module in ANSWERS if callable(getattr(module, topic, None))]) == 1, topic
