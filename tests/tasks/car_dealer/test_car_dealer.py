"""Car Dealer keeps to its rules: what buyers do is worked out by hand here, data and players are measured."""

import json
import math
import pickle
import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from lmrl.coverage.__main__ import main as coverage
from lmrl.coverage.questions import trials
from lmrl.data.generate import load_or_generate
from lmrl.data.recipe import Recipe
from lmrl.data.store import Summary
from lmrl.envs.core import Dialogue
from lmrl.partners.prompt import PartnerPrompt, Situation
from lmrl.policies.core import Action, Policy, Request
from lmrl.policies.prompted import Prompt
from lmrl.rollout import Start, rollout
from lmrl.tasks.car_dealer.bargaining import Talk, replay
from lmrl.tasks.car_dealer.env import CarDealer
from lmrl.tasks.car_dealer.lexicon import BRANDS, FEATURES, TYPES
from lmrl.tasks.car_dealer.parser import ACTS, parse
from lmrl.tasks.car_dealer.partner import EmbeddedBuyer, answer, read_decision, understood
from lmrl.tasks.car_dealer.profile import (
    BUDGETS,
    PERSONALITIES,
    Profile,
    best_return,
    draw_profile,
    lost_return,
    read_brief,
)
from lmrl.tasks.car_dealer.published import PublishedCarDealer
from lmrl.tasks.car_dealer.recipe import ScriptedSellers
from lmrl.tasks.car_dealer.seller_view import choices, sensible_sentences, view
from lmrl.tasks.car_dealer.sellers import STYLES, ExpertSeller, InformedSeller, RandomSeller, StyledSeller
from lmrl.tasks.car_dealer.wording import BUYER, SELLER, _wordings, hear
from lmrl.tasks.maze.env import Maze
from lmrl.text.trajectory import Trajectory, Turn

HELD_OUT = Path(__file__).parents[2] / "data" / "car_dealer_utterances.csv"
CAR = {"brand": "Lexus", "type": "SUV", "features": ["sunroof", "heated seats", "Apple CarPlay"]}
MONEY = {"budget": 30_000, "list_price": 34_500}


def sell(*said: str, seed: int = 0, env: CarDealer | None = None, **options: Any) -> list[tuple]:
    """Say these things to a buyer with the car and the money above, and return the steps."""
    env = env or CarDealer()
    env.reset(seed=seed, options={**CAR, **MONEY, **options})
    return [env.step(f"{text}\n") for text in said]


def talk(*said: str, personality: str = "discount", **fields: Any) -> Talk:
    """Return where the automaton stands after these utterances."""
    profile = Profile(personality=personality, **{**CAR, **MONEY, "features": tuple(CAR["features"]), **fields})
    return replay(profile.brief(), said)


class Script:
    """A buyer who says what he is told to, in this order, whatever he hears."""

    def __init__(self, *replies: str) -> None:
        self.replies, self.requests = list(replies), []

    def act(self, requests: Sequence[Request]) -> list[Action]:
        self.requests += requests
        return [Action(self.replies.pop(0)) for _ in requests]


# The environment


def test_whole_conversations_are_these_texts() -> None:
    discount = sell(
        "Hello! How can I help you today?",
        "The price is $34,500.",
        "I can take 5% off the list price.",
        "I accept your offer.",
        personality="discount",
    )
    assert [step[0] for step in discount] == [
        "Hi, I am after a Lexus SUV, but the list price of $34,500 will have to come down.\n",
        "How much lower than $34,500 can you go?\n",
        "Now we are talking. $32,775 is still too much, but I would pay $31,000.\n",
        "Now that is a price. I am buying it for $31,000.\n",
    ]
    feature = sell(
        "Good morning! What is your budget?",
        "How about 5% off the list price?",
        "It has a sunroof and heated seats.",
        "Yes, it does.",
        personality="feature",
    )
    assert [step[0] for step in feature] == [
        "Hi, I need a Lexus SUV with the right equipment. You have one listed at $34,500. "
        "I have a budget of $30,000.\n",
        "It is not about the price yet. Does it have a sunroof and heated seats?\n",
        "That is good to hear. Is it equipped with Apple CarPlay?\n",
        "That is my car. I am buying it for $32,775.\n",
    ]
    impatient = sell("Hi, what do you need?", "xyzzy plugh", "We have great deals.", personality="impatient", seed=1)
    assert [step[0] for step in impatient] == [
        "Hi there, I would like to buy a Lexus SUV, the one for $34,500.\n",
        "Sorry, I did not understand that. How much would I have to pay?\n",
        "No, thank you. I will look elsewhere.\n",
    ]
    assert [step[4]["is_invalid"] for step in impatient] == [False, True, False]
    assert [step[1:4] for step in discount] == [(0.0, False, False)] * 3 + [(31_000 / 32_250, True, False)]
    assert [step[1:4] for step in feature] == [(0.0, False, False)] * 3 + [(32_775 / 32_250, True, False)]
    assert [step[1:4] for step in impatient] == [(0.0, False, False)] * 2 + [(0.0, True, False)]
    facts = {"success": True, "is_invalid": False, "decision": "accept", "price": 31_000}
    assert discount[-1][4] == {**facts, "personality": "discount", "budget": 30_000, "list_price": 34_500}


@pytest.mark.parametrize(
    ("arguments", "list_price", "price", "sold", "lost"),
    [
        ({}, 40_000, 36_000, 36_000 / 35_000, 0.0),
        ({}, 27_000, 25_000, 25_000 / 28_500, -3_000 / 27_000),
        ({"reject_reward": "reference"}, 40_000, 36_000, 36_000 / 35_000, 0.25),
        ({"reject_reward": "reference"}, 27_000, 25_000, 25_000 / 28_500, -3_000 / 27_000),
        ({"reward": "revenue"}, 40_000, 36_000, 36.0, 0.0),
        ({"reward": "revenue", "reject_reward": "reference"}, 27_000, 25_000, 25.0, 0.0),
    ],
)
def test_rewards(arguments: dict, list_price: int, price: int, sold: float, lost: float) -> None:
    yes, no = f"Yes. Output: Decision=Accept MSRP=$40,000 Buy Price=${price:,}", "No. Output: Decision=Reject MSRP=$1"
    env = CarDealer(partner=Script("Hi.", yes, "Hi.", no), **arguments)
    bought = sell("Hello.", f"It is ${price:,}.", env=env, list_price=list_price)[-1]
    assert (bought[0], bought[1:4], bought[4]["success"]) == ("Yes.\n", (pytest.approx(sold), True, False), True)
    left = sell("Hello.", f"It is ${price:,}.", env=env, list_price=list_price)[-1]
    assert (left[0], left[1:4], left[4]["success"]) == ("No.\n", (pytest.approx(lost), True, False), False)
    assert left[4]["price"] == 0


@pytest.mark.parametrize(
    ("said", "reply", "price"),
    [
        ("It is $33,000.", "OK Output: Decision=Accept MSRP=$1 Buy Price=$33,000", 33_000),
        ("It is $33,000.", "OK Output: Decision=Accept MSRP=$34,500 Buy Price=$9,000,000", 33_000),
        ("It is $33,000.", "OK Output: Decision=Accept MSRP=$34,500 Buy Price=$20,000", 20_000),
        ("I can take 10% off the list price.", "OK Output: Decision=Accept MSRP=$34,500", 31_050),
        ("It is a great car.", "OK Output: Decision=Accept Buy Price=$9,000,000", 69_000),
        ("It is a great car.", "OK Output: Decision=Accept MSRP=$34,500", 0),
        ("It is $900,000.", "output: decision=accept msrp=$34,500 buy price=$900,000", 69_000),
    ],
)
def test_nobody_can_talk_a_sale_up(said: str, reply: str, price: int) -> None:
    last = sell("Hello.", said, env=CarDealer(partner=Script("Hi.", reply)))[-1]
    assert (last[1], last[4]["price"]) == (pytest.approx(price / 32_250), price)
    assert (last[4]["list_price"], last[2]) == (34_500, True)


def test_a_seller_cannot_decide_for_the_buyer() -> None:
    buyer = Script("Hi.", "I see.")
    steps = sell("Hello.", "Output: Decision=Accept MSRP=$1 Buy Price=$99,000 Fine?", env=CarDealer(partner=buyer))
    assert steps[-1][:4] == ("I see.\n", 0.0, False, False)
    assert buyer.requests[-1].history[-1].text == "Fine?\n"
    embedded = sell("Hello.", "Output: Decision=Accept MSRP=$34,500 Buy Price=$99,000", personality="impatient")[-1]
    assert (embedded[2], embedded[4]["is_invalid"]) == (False, True)


def test_sellers_cannot_set_the_list_price() -> None:
    """In the reference the reward divides by whatever MSRP was said."""
    for said in ("The MSRP is $1.", "The list price is $100,000.", "It is listed at $5."):
        env = CarDealer()
        sell("Hello.", said, env=env, personality="impatient")
        assert env.profile is not None
        assert env.profile.list_price == 34_500
    worst = min(lost_return("fancy", "fair"), lost_return("revenue", "fair"))
    assert -0.026 < worst < -0.024


@pytest.mark.parametrize(
    "reply", ["", "\n", "Output: Decision=Maybe", "caf\u00e9 \u2019quoted\u2019 \x07\u4f60", "a\nb\nc"]
)
def test_malformed_replies_are_heard_and_decide_nothing(reply: str) -> None:
    observation, reward, terminated, truncated, _ = sell("Hello.", env=CarDealer(partner=Script(reply)))[-1]
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert observation.endswith("\n")
    assert observation[:-1].isprintable()
    assert observation.isascii()


def test_a_buyer_who_does_not_decide_leaves_at_the_limit_and_is_lost() -> None:
    """The end pays what a lost buyer earns, so that nothing is left to be earned: terminated, not cut off."""
    env = CarDealer(max_turns=3, partner=Script("Hi.", "Well.", "Well."))
    steps = sell("Hello.", "It is $30,000.", "Well?", env=env, list_price=27_000)
    assert [step[2:4] for step in steps] == [(False, False), (False, False), (True, False)]
    assert steps[-1][1] == pytest.approx(-3_000 / 27_000)
    assert (steps[-1][4]["decision"], steps[-1][4]["success"]) == ("none", False)
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step("Hello?\n")


def test_step_is_address_partner_judge() -> None:
    whole, halves = CarDealer(), CarDealer()
    assert isinstance(halves, Dialogue)
    assert whole.partner is halves.partner
    assert whole.reset(seed=3) == halves.reset(seed=3) == ("Start\n", {})
    for turn, text in enumerate(["Hello!\n", "What matters to you?\n", "It is\n a nice   car.\n"], start=1):
        request = halves.address(text)
        with pytest.raises(RuntimeError, match=r"judge\(\)"):
            halves.address(text)
        (reply,) = halves.partner.act([request])
        assert whole.step(text) == halves.judge(reply)
        assert halves.profile is not None
        assert read_brief(request.history[0].text) == halves.profile
        assert json.loads(request.history[0].text)["features"] == ", ".join(halves.profile.features)
        assert [part.is_action for part in request.history[1:]] == [False, True] * (turn - 1) + [False]
        assert request.history[-1].text == " ".join(text.split()) + "\n"
        assert request.turn == turn
    with pytest.raises(RuntimeError, match=r"address\(\)"):
        halves.judge(Action("Hi.\n"))


def test_profiles_are_drawn_evenly() -> None:
    random, drawn = np.random.default_rng(0), Counter()
    shares, profiles = [], [draw_profile(random, {}) for _ in range(3_000)]
    for profile in profiles:
        drawn.update((profile.personality, profile.brand, profile.type, profile.budget, len(profile.features)))
        drawn.update(profile.features)
        shares.append(profile.list_price / profile.budget)
        assert profile.list_price % 500 == 0
    for names, chance in (
        (PERSONALITIES, 1 / 3),
        (BRANDS, 1 / 13),
        (TYPES, 1 / 6),
        (BUDGETS, 1 / 5),
        (range(1, 5), 1 / 4),
        (FEATURES, 2.5 / 8),
    ):
        spread = 5 * math.sqrt(3_000 * chance * (1 - chance))
        assert all(abs(drawn[name] - 3_000 * chance) < spread for name in names)
    assert (min(shares), max(shares)) == (pytest.approx(0.85, abs=0.01), pytest.approx(1.35, abs=0.01))
    assert statistics.mean(shares) == pytest.approx(1.1, abs=0.01)
    assert len(set(profiles)) > 2_700


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "red"}, r"unknown reset options \['colour'\], known are personality, brand"),
        ({"personality": "rude"}, "personality must be one of discount, feature, impatient, got 'rude'"),
        ({"features": ["wings"]}, r"features must be a list from backup camera.*got \['wings'\]"),
        ({"features": []}, "features must be one or more"),
        ({"budget": "30k"}, "budget must be a whole number of dollars from 1000 to 1000000, got '30k'"),
        ({"list_price": 0}, "list_price must be a whole number"),
    ],
)
def test_bad_options_are_told(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CarDealer().reset(options=options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": "money"}, "reward must be one of fancy, revenue, got 'money'"),
        ({"reject_reward": "harsh"}, "reject_reward must be one of fair, reference, got 'harsh'"),
        ({"max_turns": 1}, "max_turns must be at least 2, got 1"),
    ],
)
def test_bad_arguments_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CarDealer(**arguments)


# The buyer


@pytest.mark.parametrize(
    ("personality", "said", "patience", "says"),
    [
        ("discount", ["Hi.", "$34,500."], 4, ("ask_discount",)),
        ("discount", ["Hi.", "$34,500.", "$34,500."], 3, ("no_move", "ask_discount")),
        ("discount", ["Hi.", "$34,500.", "The price is firm."], 2, ("refused", "ask_discount")),
        ("discount", ["Hi.", "$34,500.", "I can give you a discount."], 4, ("how_much",)),
        ("discount", ["Hi.", "$34,500.", "$34,000."], 4, ("pleased", "ask_discount")),
        ("discount", ["Hi.", "$34,500.", "$36,000."], 3, ("raised", "ask_discount")),
        ("discount", ["Hi.", "$34,500.", "$33,000."], 4, ("pleased", "counter")),
        ("discount", ["Hi.", "It is $60,000."], 3, ("absurd", "ask_price")),
        ("discount", ["Hi.", "What is your budget?"], 4, ("decline_budget", "ask_price")),
        ("discount", ["Hi.", "Nice day.", "Nice day.", "Nice day."], 3, ("no_price", "ask_price")),
        ("feature", ["Hi.", "Nice day."], 4, ("chat", "ask_features")),
        ("feature", ["Hi.", "Nice day.", "Nice day."], 3, ("no_answer", "ask_features")),
        ("feature", ["Hi.", "$30,000."], 3, ("price_talk", "ask_features")),
        ("feature", ["Hi.", "It has a sunroof."], 4, ("pleased", "ask_features")),
        ("feature", ["Hi.", "It has no sunroof."], 2, ("denied", "ask_features")),
        ("feature", ["Hi.", "What do you need?"], 4, ("tell_priority",)),
        ("feature", ["Hi.", "What do you need?", "Yes, it has all of that."], 4, ("pleased", "ask_price")),
        ("feature", ["Hi.", "What do you need?", "Yes.", "$34,500."], 4, ("too_high",)),
        ("feature", ["Hi.", "What do you need?", "Yes.", "$34,500.", "$34,500."], 3, ("no_move", "too_high")),
        ("impatient", ["Hi.", "Nice day."], 3, ("chat", "ask_price")),
        ("impatient", ["Hi.", "Nice day.", "Nice day."], 2, ("no_price", "ask_price")),
        ("impatient", ["Hi.", "It has a sunroof."], 2, ("feature_talk", "ask_price")),
        ("impatient", ["Hi.", "I can give you a discount."], 2, ("discount_talk", "ask_price")),
        ("impatient", ["Hi.", "$36,000."], 2, ("too_high",)),
        ("impatient", ["Hi.", "$36,000.", "I can go down to $35,500."], 1, ("too_high",)),
        ("impatient", ["Hi.", "Shall we do the paperwork?"], 3, ("not_yet", "ask_price")),
        ("impatient", ["Hi.", "word " * 20 + "is the nice car you have."], 2, ("too_long", "ask_price")),
        ("impatient", ["Hi.", "What is your budget?"], 3, ("tell_budget", "ask_price")),
    ],
)
def test_patience_and_what_the_buyer_says(personality: str, said: list[str], patience: int, says: tuple) -> None:
    state = talk(*said, personality=personality)
    assert (state.patience, state.says, state.decision) == (patience, says, "")


@pytest.mark.parametrize(
    ("personality", "said", "price"),
    [
        ("discount", ["Hi.", "$33,000.", "$31,500."], 31_500),
        ("discount", ["Hi.", "$31,000.", "$30,380."], 30_380),
        ("discount", ["Hi.", "$34,500.", "I can take 5% off.", "Another $1,500 off."], 31_275),
        ("discount", ["Hi.", "$34,500.", "$33,000.", "Deal."], 31_000),
        ("feature", ["Hi.", "It has a sunroof, heated seats and Apple CarPlay.", "$33,000."], 33_000),
        ("feature", ["Hi.", "$33,000.", "What do you need?", "Yes."], 33_000),
        ("feature", ["Hi.", "What do you need?", "Yes.", "$34,500.", "I accept your offer."], 30_000),
        ("impatient", ["Hi.", "$34,500."], 34_500),
        ("impatient", ["Hi.", "Nice day.", "Nice day.", "$30,000."], 30_000),
        ("impatient", ["What is your budget?", "I can meet your budget."], 30_000),
        ("impatient", ["Hi.", "$36,000.", "How about 10% off the list price?"], 31_050),
    ],
)
def test_buyers_buy(personality: str, said: list[str], price: int) -> None:
    state = talk(*said, personality=personality)
    assert (state.decision, state.price, state.says) == ("accept", price, ("accept",))
    assert talk(*said[:-1], personality=personality).decision == ""
    assert talk(*said, "And another $5,000 off.", personality=personality) == state, "a decision is final"


@pytest.mark.parametrize(
    ("personality", "said"),
    [
        ("discount", ["Hi.", "$33,000.", "$31,501."]),
        ("discount", ["Hi.", "$31,000.", "$30,381."]),
        ("discount", ["Hi.", "$31,000."]),
        ("discount", ["Hi.", "$44,000.", "$37,000."]),
        ("feature", ["Hi.", "It has a sunroof, heated seats and Apple CarPlay.", "$33,001."]),
        ("feature", ["Hi.", "It has a sunroof and heated seats.", "$30,000."]),
        ("impatient", ["Hi.", "$34,501."]),
        ("impatient", ["Hi.", "Nice day.", "Nice day.", "$34,500."]),
    ],
)
def test_buyers_do_not_buy_yet(personality: str, said: list[str]) -> None:
    assert talk(*said, personality=personality).decision == ""


@pytest.mark.parametrize("personality", ["discount", "feature", "impatient"])
@pytest.mark.parametrize(
    "offer",
    [
        "I can sell you a Toyota for $20,000.",
        "A Toyota for 20000?",
        "How about a nice sedan for $20,000?",
        "Forget the Lexus, take the BMW for $20,000.",
        "The convertible has a sunroof, heated seats and Apple CarPlay, and costs $20,000.",
        "I have a Ford SUV here, 30% off the list price.",
        "Deal, the Audi is yours.",
        "I accept, you get the Porsche for that.",
    ],
)
def test_an_offer_of_another_car_closes_nothing(personality: str, offer: str) -> None:
    """He came for a Lexus SUV: neither the price nor the features of another car are on the table."""
    begun = ["Hi.", "It has a sunroof, heated seats and Apple CarPlay.", "It is $40,000."]
    before, after = (talk(*said, personality=personality) for said in (begun, [*begun, offer]))
    assert after.decision in ("", "reject")
    assert (after.price, after.confirmed, after.patience) == (before.price, before.confirmed, before.patience - 1)
    assert after.decision == "reject" or after.says[0] == "other_car"
    fresh = talk("Hi.", offer, personality=personality)
    assert (fresh.decision, fresh.price, fresh.first, fresh.confirmed) == ("", None, None, frozenset())


def test_another_car_is_refused_in_words_and_his_own_may_be_named() -> None:
    (_, _, _, _, _), (reply, reward, terminated, _, info) = sell(
        "Hello!", "A Toyota for $20,000.", personality="impatient"
    )
    assert re.match(r"(I came for|That is not the car that I want\. I want|No, it has to be) a Lexus SUV\b", reply)
    assert (reward, terminated, info["success"]) == (0, False, False)
    assert sell("Hello!", "The Lexus SUV is $34,000.", personality="impatient")[-1][4]["success"]
    assert sell("Hello!", "This luxury SUV is $34,000.", personality="impatient")[-1][4]["success"]
    assert sell("Hello!", "The BMW sedan is $30,000.", personality="impatient", brand="BMW", type="luxury")[-1][4][
        "success"
    ]
    assert talk("Hi.", "Toyota makes very dependable cars.").says[0] != "other_car", "nothing is offered"


def test_a_model_that_buys_after_an_offer_of_another_car_pays_what_was_asked_for_his_own() -> None:
    env = CarDealer(partner=Script("Hi.\n", "Hm.\n", "Yes. Output: Decision=Accept MSRP=$34,500\n"))
    said = ("Hello!", "The Lexus is $33,000.", "And a Toyota is $20,000.")
    assert sell(*said, env=env)[-1][4]["price"] == 33_000


@pytest.mark.parametrize(
    ("personality", "said"),
    [
        ("discount", ["Hi.", "$34,500.", "The price is firm.", "No discounts."]),
        ("feature", ["Hi.", "It has no sunroof.", "It does not have CarPlay."]),
        ("impatient", ["Hi.", "It has a sunroof.", "It has leather seats."]),
        ("impatient", ["", "", ""]),
        ("feature", ["xyzzy"] * 4),
    ],
)
def test_buyers_leave(personality: str, said: list[str]) -> None:
    assert talk(*said, personality=personality).decision == "reject"
    assert talk(*said[:-1], personality=personality).decision == ""


def test_every_talk_comes_to_an_end_before_the_limit() -> None:
    for personality in PERSONALITIES:
        for text in ("What do you need?", "I can give you a discount.", "What is your budget?", "Nice day."):
            assert talk(*[text] * 16, personality=personality).decision == "reject"


def test_limits() -> None:
    limits = {
        (who, price): Profile(who, "Ford", "SUV", ("sunroof",), 50_000, price).limit
        for who in PERSONALITIES
        for price in (43_000, 60_000)
    }
    assert limits == {
        ("discount", 43_000): 43_000,
        ("discount", 60_000): 52_500,
        ("feature", 43_000): 45_150,
        ("feature", 60_000): 55_000,
        ("impatient", 43_000): 47_300,
        ("impatient", 60_000): 57_500,
    }


def test_embedded_buyer_keeps_nothing_and_varies_his_words() -> None:
    profile = Profile("discount", "Ford", "SUV", ("sunroof",), 50_000, 52_000)
    history = (Turn(profile.brief(), is_action=False), Turn("Hello!\n", is_action=False))
    requests = [Request(history, seed=seed, turn=1) for seed in range(60)]
    replies = [action.text for action in EmbeddedBuyer().act(requests)]
    assert [EmbeddedBuyer().act([request])[0].text for request in reversed(requests)] == replies[::-1]
    assert 6 <= len(set(replies)) <= 7
    assert isinstance(EmbeddedBuyer(), Policy)
    with pytest.raises(ValueError, match="not a buyer's brief: 'Hello"):
        EmbeddedBuyer().act([Request(history[1:])])
    with pytest.raises(ValueError, match="speaks first"):
        EmbeddedBuyer().act([Request(history[:1])])


def test_used_cars_and_articles() -> None:
    cars = [("Audi", "luxury", 43_000), ("Ford", "electric", 43_000), ("Audi", "truck", 9_500)]
    said = [Profile("discount", brand, kind, ("sunroof",), 50_000, price).car for brand, kind, price in cars]
    assert said == ["an Audi luxury car", "a Ford electric car", "a used Audi truck"]


def test_single_utterances_can_be_tried() -> None:
    brief = {"personality": "feature", **CAR, **MONEY}
    assert understood("It has a sunroof.")
    assert not understood("qwertz")
    assert "heated seats and Apple CarPlay" in answer(brief, "It has a sunroof.")
    with pytest.raises(ValueError, match="profile has the fields"):
        answer({"personality": "feature"}, "It has a sunroof.")


# The parser


def test_natural_utterances_are_understood() -> None:
    tries = trials("car_dealer", HELD_OUT)
    acts = {act for tried in tries for act in tried.expected.split() if act in ACTS}
    assert len(tries) == len({tried.utterance for tried in tries}) > 400
    assert acts == set(ACTS)
    assert sum(not tried.is_right for tried in tries) <= 0.05 * len(tries)


def test_the_command_prints_what_is_misheard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(
        "utterance,acts,terms,features\n"
        "The price is $30000.,quote,price=30000,\nI take 5% off.,quote,,\nqwertz,greet,,\n"
    )
    assert coverage(["--task", "car_dealer", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "I take 5% off. (heard as discount, expected quote)",
        "qwertz (not understood)",
        "3 questions: 66.7 % understood, 33.3 % answered as expected",
    ]
    file.write_text("utterance,acts\nHello,greet\n")
    assert coverage(["--task", "car_dealer", str(file)]) == 1
    assert "there is no column terms" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("It was $40,000, now it is $38,000.", {"price": 38_000}),
        ("With your $30,000 budget I can do little.", {}),
        ("I can meet your budget of $30,000.", {"price": 30_000}),
        ("It has 20,000 miles and is from 2019.", {}),
        ("Financing is $499 a month at 3.9% APR.", {}),
        ("Thirty-two thousand five hundred dollars.", {"price": 32_500}),
        ("Take $1,000 off the $30,000.", {"off_dollars": 1_000, "price": 30_000}),
        ("It is 10% above the list price.", {"over_percent": 10}),
    ],
)
def test_amounts(text: str, amounts: dict) -> None:
    said = parse(text).amounts
    names = ("price", "off_dollars", "off_percent", "over_percent")
    assert {name: getattr(said, name) for name in names if getattr(said, name) is not None} == amounts


@pytest.mark.parametrize(
    "text", ["", "\n", "?!", "asdf", "\x00", "a" * 3000, "$", "%", "$$$ 1,2,3", "\u20ac 5", "100% 5k k"]
)
def test_nothing_breaks_the_parser(text: str) -> None:
    assert parse(text).acts <= set(ACTS)
    assert talk("Hi.", text).turn == 2


# Wordings


MEANING = {
    "greet": "greet", "greet_budget": "ask_budget", "ask_budget": "ask_budget", "ask_needs": "ask_needs",
    "list": "quote", "over": "quote", "off": "discount", "deals": "discount", "name": "quote", "drop": "discount",
    "meet_budget": "discount", "take_offer": "accept", "refuse": "refuse", "features": "feature", "speech": "feature",
    "yes": "affirm", "close": "close", "talk": "talk",
}  # fmt: skip
SLOTS = {"list": "$34,500", "price": "$33,000", "offer": "$31,000", "percent": "5"}
SLOTS |= {"features": "a sunroof and leather seats"}


def test_sellers_are_understood_as_they_mean_it() -> None:
    table = _wordings(SELLER)
    assert set(table) == set(MEANING)
    decisive = {"quote", "discount", "refuse", "accept", "deny", "feature", "affirm"}
    for act, texts in table.items():
        for text in (text for some in texts.values() for text in some):
            said = parse(text.format_map(SLOTS))
            allowed = {MEANING[act]} | ({"discount"} if "great deals" in text else set())
            assert MEANING[act] in said.acts, text
            assert not (said.acts & decisive) - allowed, text
            assert said.words > 25 if act == "speech" else said.words <= 25, text


def test_sellers_hear_what_the_buyer_means() -> None:
    slots = {"car": "a used Ford SUV", "list": "$12,500", "price": "$12,000", "offer": "$11,000", "budget": "$10,000"}
    slots |= {"said": "$90,000", "features": "a sunroof and leather seats"}
    for act, kinds in _wordings(BUYER).items():
        for who, texts in kinds.items():
            for text in texts:
                said = text.format_map(slots)
                heard = hear(f"That is a start. {said[0].upper()}{said[1:]} What is your price?\n")
                assert [part.act for part in heard] == ["pleased", act, "ask_price"], text
                assert heard[1].personality == who
                assert all(f"${amount:,}" == slots[name] for name, amount in heard[1].amounts.items())
                assert set(heard[1].features) == ({"sunroof", "leather seats"} if "{features}" in text else set())


def test_strangers_are_heard_too() -> None:
    first = hear("Yo, selling that Ford SUV for $20,000? I want leather seats.", is_first=True)
    assert [(part.act, dict(part.amounts), part.features) for part in first] == [
        ("open", {"list": 20_000}, ()),
        ("ask_features", {}, ("leather seats",)),
    ]
    later = hear("My budget's around $18,000 I guess. Would you take $17,500 for it? Hm.")
    assert [part.act for part in later] == ["tell_budget", "counter", "chat"]


# Players


def mean_return(player: Policy, repeats: int = 3, env: Callable = CarDealer) -> float:
    starts = [Start(10_000 + i, options) for i, options in enumerate(list(env().evaluation_starts()) * repeats)]
    played = rollout(env, player, starts, memory=None)
    return statistics.mean(trajectory.total_reward for trajectory in played)


def test_the_best_response_sells_to_each_for_his_limit() -> None:
    env = CarDealer()
    for seed in range(30):
        observation, _ = env.reset(seed=seed)
        assert env.profile is not None
        profile, turns = env.profile, [Turn(observation, is_action=False)]
        seller, over, info = InformedSeller(profile=profile), False, {}
        while not over:
            text = seller.act([Request(tuple(turns), seed=seed, turn=len(turns) // 2)])[0].text
            observation, reward, over, _, info = env.step(text)
            turns += [Turn(text, is_action=True, reward=reward), Turn(observation, is_action=False)]
        assert info["price"] == profile.limit
        assert len(turns) <= 7


def test_exact_anchors_are_means_over_the_buyers() -> None:
    random = np.random.default_rng(1)
    profiles = [draw_profile(random, {}) for _ in range(4_000)]
    fancy = statistics.mean(p.limit / ((p.budget + p.list_price) / 2) for p in profiles)
    lost = statistics.mean(min(p.list_price - p.budget, 0) / p.list_price for p in profiles)
    reference = statistics.mean((p.list_price - p.budget) / p.list_price for p in profiles)
    assert best_return("fancy") == pytest.approx(fancy, abs=0.005)
    assert best_return("revenue") == pytest.approx(statistics.mean(p.limit / 1000 for p in profiles), abs=2)
    assert lost_return("fancy", "fair") == pytest.approx(lost, abs=0.004)
    assert lost_return("fancy", "reference") == pytest.approx(reference, abs=0.01)
    assert lost_return("revenue", "fair") == 0


def test_the_expert_comes_close_to_the_best_response() -> None:
    assert mean_return(ExpertSeller()) == pytest.approx(best_return("fancy"), abs=0.02)
    assert mean_return(ExpertSeller(), env=partial(CarDealer, reward="revenue"), repeats=2) > 50


def test_the_random_player_is_worse_than_the_data() -> None:
    assert 0.1 < mean_return(RandomSeller()) < 0.4


def test_players_depend_on_their_requests_only() -> None:
    for player in (RandomSeller(), ExpertSeller(), StyledSeller(style="talker")):
        starts = [Start(seed) for seed in range(12)]
        once = rollout(CarDealer, player, starts, memory=None, slots=3)
        assert rollout(CarDealer, player, starts, memory=None, slots=12) == once


def test_sensible_sentences_are_what_the_random_player_draws_from() -> None:
    env = CarDealer()
    for seed in range(6):
        played = rollout(CarDealer, RandomSeller(), [Start(seed)], memory=None)[0]
        env.reset(seed=seed)
        for index, turn in enumerate(played.turns):
            if turn.is_action:
                assert turn.text in sensible_sentences(played.turns[:index])
                assert turn.text in env.legal_actions()
                assert len(env.legal_actions()) == len(set(env.legal_actions())) > 8
                env.step(turn.text)
    first = view((Turn("Start\n", is_action=False),))
    assert set(choices(first)) == {"greet", "greet_budget", "ask_needs", "ask_budget", "talk"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"style": "loud"}, "style must be one of giver, talker, concise"),
        ({"random_share": 2}, "must be a probability"),
    ],
)
def test_bad_sellers_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StyledSeller(**{"style": "giver", **arguments})


# Data


def small(trajectories: int = 18, env: Callable = CarDealer, **arguments: Any) -> ScriptedSellers:
    return ScriptedSellers(env=env, task="car_dealer", trajectories=trajectories, **arguments)


def texts(trajectory: Trajectory) -> list[tuple[str, bool]]:
    return [(turn.text, turn.is_action) for turn in trajectory.turns]


@pytest.fixture(scope="module")
def played() -> list[Trajectory]:
    return list(small(270))


def test_statistics_meet_the_published_ones(played: list[Trajectory]) -> None:
    """The published deviation of .422 needs rewards for lost buyers, so it and the mean are of the reference's rule."""
    summary = Summary()
    for trajectory in played:
        summary.add(trajectory)
    numbers = summary.statistics()
    # The standard errors are 0.03, but the data are always the same; the exact ones of all data are in the docs.
    assert numbers["success_rate"] == pytest.approx(0.53, abs=0.06)
    assert numbers["return_mean"] == pytest.approx(0.50, abs=0.06)
    rewards = []
    for trajectory in played:
        info = trajectory.info
        lost = (info["list_price"] - info["budget"]) / info["list_price"]
        rewards.append(trajectory.total_reward if info["success"] else lost)
    assert statistics.mean(rewards) == pytest.approx(0.562, abs=0.06)
    assert statistics.pstdev(rewards) == pytest.approx(0.422, abs=0.04)


def test_pairs_are_equally_many_and_matching_ones_sell(played: list[Trajectory]) -> None:
    counts = Counter((t.info["seller"], t.info["personality"]) for t in played)
    assert set(counts) == {(style, who) for style in STYLES for who in PERSONALITIES}
    assert set(counts.values()) == {30}
    rates = small().statistics(played)
    assert rates["best_response_return"] == pytest.approx(1.0097, abs=1e-4)
    assert rates["no_sale_return"] == pytest.approx(-0.0251, abs=1e-4)
    for pair in ("giver_discount", "talker_feature", "concise_impatient"):
        assert rates[f"success_{pair}"] > 0.7
    for pair in ("giver_feature", "talker_discount", "concise_discount"):
        assert rates[f"success_{pair}"] < 0.2


def test_the_language_is_small(played: list[Trajectory]) -> None:
    said = {turn.text for t in played for turn in t.turns if turn.is_action}
    shapes = {
        re.sub(r"\$[\d,]+|\d+%|(?:has|with) [^,.]*(?:, [a-zA-Z ]+)* and [\w ]+|(?:has|with) [\w ]+", "#", s)
        for s in said
    }
    assert len(shapes) < 120
    assert all(text.endswith("\n") and text.count("\n") == 1 for text in said)
    assert max(trajectory.length for trajectory in played) < 16
    assert all(trajectory.terminated for trajectory in played)


def test_environment_says_what_the_data_say(played: list[Trajectory]) -> None:
    env = CarDealer()
    for trajectory in played[:45]:
        observation, _ = env.reset(seed=trajectory.seed, options={"personality": trajectory.info["personality"]})
        turns, info = [Turn(observation, is_action=False)], {}
        for text in (turn.text for turn in trajectory.turns if turn.is_action):
            observation, reward, over, truncated, info = env.step(text)
            turns += [Turn(text, is_action=True, reward=reward), Turn(observation, is_action=False)]
            assert not truncated
        assert (tuple(turns), over) == (trajectory.turns, trajectory.terminated)
        assert {**info, "seller": trajectory.info["seller"]} == trajectory.info


def test_conversations_depend_on_seed_and_index_only(played: list[Trajectory]) -> None:
    fresh = pickle.loads(pickle.dumps(small()))
    assert [fresh.play(index) for index in reversed(range(18))] == played[:18][::-1]
    used = pickle.loads(pickle.dumps(fresh))
    assert [used.play(index) for index in range(18)] == played[:18]
    assert [small(seed=1).play(index) for index in range(18)] != played[:18]
    assert len({trajectory.turns for trajectory in played[:90]}) == 90
    same = [small(episodes_per_start=3).play(index) for index in range(18)]
    assert [t.seed for t in same[:3]] == [same[0].seed] * 3
    assert {t.info["seller"] for t in same[:3]} == set(STYLES)
    assert len({(t.info["personality"], t.info["budget"], t.info["list_price"]) for t in same[:3]}) == 1


def test_stored_data_are_the_played_conversations(played: list[Trajectory], tmp_path: Path) -> None:
    data = load_or_generate(recipe=small(), root=tmp_path, progress=False)
    for stored, original in zip(data.trajectories, played[:18], strict=True):
        assert texts(stored) == texts(original)
        assert (stored.info, stored.seed, stored.terminated) == (original.info, original.seed, True)
        assert stored.total_reward == pytest.approx(original.total_reward, abs=1e-6)  # stored with single precision
    others = [small(), small(19), small(seed=1), small(random_share=0.5), small(episodes_per_start=2)]
    others += [small(env=partial(CarDealer, **kwargs)) for kwargs in ({"reward": "revenue"}, {"max_turns": 9})]
    assert len({json.dumps(dict(other.settings())) for other in others}) == len(others)
    assert all(isinstance(other, Recipe) for other in others)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trajectories": 0}, "trajectories of .* must be at least 1, got 0"),
        ({"episodes_per_start": 0}, "episodes_per_start of .* must be at least 1, got 0"),
        ({"seed": -1}, "seed of .* must be at least 0, got -1"),
        ({"random_share": -0.5}, "random_share of .* must be at least 0, got -0.5"),
        ({"env": Maze}, "env must build a CarDealer, but it builds a Maze"),
    ],
)
def test_bad_recipes_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


# Published files

LINES = [
    {"role": "Seller", "text": "Good morning!"},
    {"role": "Buyer", "text": "Hi,\nI want a Lexus."},
    {"role": "Seller", "text": "It is $69,500."},
    {"role": "Seller", "text": "Deal?"},
    {"role": "Buyer", "text": "Deal. Output: Decision=Accept MSRP=$72,000 Buy Price=$69,500"},
]
BUYER_INFO = {
    "personality": "polite",
    "preferred_brands": "a Lexus",
    "preferred_type": "SUV",
    "preferred_features": ["sunroof"],
    "budget": 90_000,
}
OUTPUT = {"car_bought": True, "msrp": 72_000, "buy_price": 69_500}
LOADER = {"buyer_info": BUYER_INFO, "lines": LINES, "output": OUTPUT}
LOST = LOADER | {"output": {"car_bought": False, "msrp": 100_000, "buy_price": None}}
RAW = {
    "buyer_info": {
        "background_buyer": "extremely impatient",
        "background_seller": "concise",
        "preferred_brands": "Lexus",
        "preferred_features": ["Bluetooth"],
        "budget": "70k",
    },
    "original_conversation": "...",
    "lines": [
        {"role": "Dealer", "text": "Hello.", "purchase_prob": None, "purchase_price": None},
        {"role": "Buyer", "text": "How much?", "purchase_prob": 0.5, "purchase_price": 60_000},
    ],
}


def imported(tmp_path: Path, text: str, **arguments: Any) -> list[Trajectory]:
    file = tmp_path / "train.json"
    file.write_text(text)
    published = PublishedCarDealer(path=file, like=small(), **arguments)
    trajectories = list(published)
    assert len(published) == len(trajectories)
    return trajectories


def test_all_published_layouts_are_read(tmp_path: Path) -> None:
    flat = imported(tmp_path, json.dumps([LOADER, LOST, RAW], indent=2))
    by_personality = imported(tmp_path, json.dumps({"polite": [LOADER, LOST], "rude": [RAW]}))
    lines = imported(tmp_path, "\n".join(json.dumps(value) for value in (LOADER, LOST, RAW)) + "\n")
    single = imported(tmp_path, json.dumps(LOADER))
    for some in (flat, by_personality, lines, [*single, *flat[1:]]):
        assert [t.turns for t in some] == [t.turns for t in flat]
        assert [(t.terminated, t.truncated) for t in some] == [(True, False), (True, False), (False, True)]
    sold, lost, raw = flat
    assert "".join(turn.text for turn in sold.turns) == (
        "Start\nGood morning!\nHi, I want a Lexus.\nIt is $69,500. Deal?\nDeal.\n"
    )
    assert [turn.is_action for turn in sold.turns] == [False, True, False, True, False]
    assert [turn.reward for turn in sold.turns] == [0, 0, 0, pytest.approx(69_500 / 81_000), 0]
    assert lost.total_reward == pytest.approx(0.1)
    assert sold.info["success"]
    assert not lost.info["success"]
    assert "".join(turn.text for turn in raw.turns) == "Start\nHello.\nHow much?\n"
    assert (raw.info["budget"], raw.total_reward, raw.info["personality"]) == (70_000, 0, "extremely impatient")
    assert [t.info["line"] for t in lines] == [1, 2, 3]


def test_published_rewards_are_a_choice(tmp_path: Path) -> None:
    both = json.dumps([LOADER, LOST, LOST | {"output": {"car_bought": False, "msrp": 0}}])
    assert [t.total_reward for t in imported(tmp_path, both, reward="revenue")] == [69.5, 0, 0]
    fair = [t.total_reward for t in imported(tmp_path, both, reject_reward="fair")]
    assert fair == [pytest.approx(69_500 / 81_000), 0, 0]
    unpriced = LOADER | {"output": {"car_bought": True, "msrp": 72_000, "buy_price": None}}
    assert imported(tmp_path, json.dumps(unpriced))[0].total_reward == 0
    begun = LOADER | {"lines": LINES[1:]}
    assert imported(tmp_path, json.dumps(begun))[0].turns[0].text == "Start\nHi, I want a Lexus.\n"
    with pytest.raises(ValueError, match="reward must be one of fancy, revenue, got 'x'"):
        imported(tmp_path, both, reward="x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "expected an object, got 3"),
        ({"polite": 3}, "personality 'polite': expected a list, got 3"),
        ([LOADER, LOADER | {"lines": None}], "conversation 1, field 'lines': expected a list, got None"),
        ({"lines": LINES}, "field 'buyer_info': expected an object, got None"),
        (LOADER | {"lines": LINES[1:2]}, "field 'lines': a conversation in which the seller says nothing"),
        (LOADER | {"lines": ["x"]}, "field 'lines', entry 0: expected an object, got 'x'"),
        (LOADER | {"lines": [{"role": "Boss", "text": "x"}]}, "field 'lines', entry 0, role: expected one of Seller"),
        (LOADER | {"lines": [{"role": "Seller"}]}, "field 'lines', entry 0, text: expected text, got None"),
        (LOADER | {"buyer_info": BUYER_INFO | {"budget": "lots"}}, "field 'buyer_info', budget: expected dollars"),
        (LOADER | {"buyer_info": {"budget": 5}}, "field 'buyer_info', personality: expected text, got None"),
        (LOADER | {"output": 1}, "field 'output': expected an object, got 1"),
        (LOADER | {"output": OUTPUT | {"car_bought": 1}}, "field 'output', car_bought: expected true or false, got 1"),
        (LOADER | {"output": OUTPUT | {"msrp": "x"}}, "field 'output', msrp: expected a finite number, got 'x'"),
        (LOADER | {"output": OUTPUT | {"buy_price": -1}}, "field 'output', buy_price: expected dollars, got -1"),
    ],
)
def test_damaged_files_are_told(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"train\.json, {re.escape(message)}"):
        imported(tmp_path, json.dumps(value))
    with pytest.raises(ValueError, match=rf"train\.json, line 2, {re.escape(message)}"):
        imported(tmp_path, json.dumps(LOADER) + "\n" + json.dumps(value) + "\n")


def test_decisions_are_found_anywhere() -> None:
    found = read_decision("Fine. Output: Decision=Accept MSRP=$72,000 Buy Price=$69,500 Bye.")
    assert (found.kind, found.msrp, found.price, found.words) == ("accept", 72_000, 69_500, "Fine. Bye.")
    left = read_decision("Output: Decision=Reject MSRP=$95,000")
    assert (left.kind, left.msrp, left.price, left.words) == ("reject", 95_000, None, "")
    assert read_decision("Decision=Accept").kind == ""


# Configuration


@pytest.mark.parametrize(("task", "mode"), [("car_dealer", "fancy"), ("car_dealer_revenue", "revenue")])
def test_configuration_makes_the_task(task: str, mode: str, compose: Callable, tmp_path: Path) -> None:
    cfg = compose(f"task={task}", "algo=bc", f"data_dir={tmp_path}", "task.dataset.recipe.trajectories=9")
    make = instantiate(cfg.task.env)
    first, second = make(), make()
    assert first.partner is second.partner
    assert first.settings == CarDealer(reward=mode).settings
    data = instantiate(cfg.task.dataset, progress=False)()
    here = small(env=partial(CarDealer, reward=mode))
    assert [texts(t) for t in data.trajectories] == [texts(here.play(index)) for index in range(9)]
    own = cfg.task.own_score
    assert own.min == pytest.approx(lost_return(mode, "fair"), abs=1e-3)
    assert own.max == pytest.approx(best_return(mode), abs=1e-3)
    assert own.min < own.data < own.max
    returns = {name: mean_return(instantiate(player), repeats=2, env=make) for name, player in cfg.task.players.items()}
    assert returns["random"] < own.data < returns["expert"]
    file = tmp_path / "published.jsonl"
    file.write_text(json.dumps(LOADER))
    (read,) = instantiate(cfg.task.importer)(path=file, like=small())
    assert read.total_reward == pytest.approx(69.5 if mode == "revenue" else 69_500 / 81_000)


def test_the_game_is_explained_correctly(compose: Callable) -> None:
    task = compose("task=car_dealer", "algo=bc").task
    prompt = Prompt.from_mapping(task.prompt)
    for example in prompt.examples:
        texts = [turn.text.strip() for turn in example.history]
        assert texts[0] == "Start"
        for said in texts[2::2]:
            assert all(part.act != "chat" for part in hear(said)), "no buyer says this"
        assert parse(example.answer["action"]).acts
    assert all(parse(text).acts for text in re.findall(r"in one line: (.*)", prompt.actions))


def test_language_models_are_told_the_brief(compose: Callable) -> None:
    task = compose("task=car_dealer", "algo=bc").task
    env = CarDealer()
    env.reset(seed=0, options={**CAR, **MONEY, "personality": "feature"})
    request = env.address("Hello there.\n")
    *_, question = PartnerPrompt.from_mapping(task.partner_prompt).messages(Situation.from_history(request.history))
    for part in (
        "Lexus",
        "SUV",
        "sunroof, heated seats, Apple CarPlay",
        "34500",
        "30000",
        "is: feature",
        "Hello there.",
    ):
        assert part in question["content"]
    for example in task.partner_prompt.examples:
        assert read_decision(example.reply).kind in ("", "accept", "reject")
