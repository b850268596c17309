"""Tests of the loop that joins environments and policies."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
from worlds import Sights, Talk, byte_level, language_policy, random_lm

from lmrl.envs.core import StepResult, TextEnv
from lmrl.policies.core import Action, Request
from lmrl.policies.decoding import Decoding
from lmrl.policies.language_model import LanguageModelPolicy
from lmrl.policies.scripted import RandomPolicy
from lmrl.rollout import Start, rollout
from lmrl.text.trajectory import Trajectory

CODEC = byte_level()
STARTS = [Start(seed) for seed in range(8)]


class Recorder:
    """Says how many requests came at once; keeps them all."""

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []

    def act(self, requests: Sequence[Request]) -> list[Action]:
        self.batches.append(list(requests))
        return [Action("x" * (1 + request.turn) + "\n") for request in requests]


def texts(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [(turn.text, turn.is_action, turn.reward, turn.tokens) for turn in trajectory.turns]


def assert_same(a: Sequence[Trajectory], b: Sequence[Trajectory]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert texts(one) == texts(other)
        assert (one.seed, one.terminated, one.truncated, one.info) == (
            other.seed,
            other.terminated,
            other.truncated,
            other.info,
        )
        for turn, same in zip(one.turns, other.turns, strict=True):
            assert (turn.log_probs or ()) == pytest.approx(same.log_probs or (), abs=2e-5)


def new_policy(decoding: Decoding | None = None) -> Any:
    return language_policy(random_lm("gpt2", CODEC.size, layers=1), CODEC, decoding=decoding, max_new_tokens=4)


@pytest.mark.parametrize("memory", [None, 1, 3])
def test_episodes_do_not_depend_on_slots(memory: int | None) -> None:
    alone = rollout(Sights, new_policy(), STARTS, memory=memory, slots=1)
    for slots in (3, 64):
        assert_same(rollout(Sights, new_policy(), STARTS, memory=memory, slots=slots), alone)
    assert len({tuple(texts(t)) for t in alone}) == len(STARTS)


def test_episodes_do_not_depend_on_order_company_or_what_was_played_before() -> None:
    policy = new_policy()
    forwards = rollout(Sights, policy, STARTS, memory=None, slots=7)
    backwards = rollout(Sights, policy, STARTS[::-1], memory=None, slots=5)
    assert_same(backwards[::-1], forwards)
    assert_same(rollout(Sights, policy, STARTS[3:5], memory=None, slots=7), forwards[3:5])


def test_filtered_decoding_is_as_independent() -> None:
    decoding = Decoding(temperature=0.7, top_k=20, top_p=0.9, support=0.01)
    alone = rollout(Sights, new_policy(decoding), STARTS[:8], memory=3, slots=1)
    assert_same(rollout(Sights, new_policy(decoding), STARTS[:8], memory=3, slots=5), alone)


def test_seeds_make_episodes_and_seed_zero_is_one() -> None:
    first, again, other = rollout(
        Sights, RandomPolicy(actions=["a", "b"]), [Start(0), Start(0), Start(1)], memory=None, slots=2
    )
    assert_same([first], [again])
    assert texts(first) != texts(other)
    assert first.seed == 0
    assert first.turns[0].text == Sights().reset(seed=0)[0]


def test_a_finished_episode_is_replaced_at_once() -> None:
    policy = Recorder()
    starts = [Start(i, {"turns": turns}) for i, turns in enumerate([3, 1, 1, 1, 2])]
    played = rollout(Sights, policy, starts, memory=None, slots=2)
    assert [t.length for t in played] == [3, 1, 1, 1, 2]
    assert [[r.seed for r in batch] for batch in policy.batches] == [[0, 1], [0, 2], [0, 3], [4], [4]]
    assert [[r.slot for r in batch] for batch in policy.batches] == [[0, 1], [0, 1], [0, 1], [0], [0]]
    assert [[r.turn for r in batch] for batch in policy.batches] == [[0, 0], [1, 0], [2, 0], [0], [1]]


def test_the_policy_sees_only_its_memory_and_the_episode_is_whole() -> None:
    policy = Recorder()
    (played,) = rollout(Sights, policy, [Start(5, {"turns": 3})], memory=2)
    assert [tuple(t.text for t in batch[0].history) for batch in policy.batches] == [
        (played.turns[0].text,),
        (played.turns[1].text, played.turns[2].text),
        (played.turns[3].text, played.turns[4].text),
    ]
    assert [t.is_action for t in played.turns] == [False, True, False, True, False, True, False]
    assert [t.reward for t in played.turns] == [0, 2, 0, 3, 0, 4, 0]


class Deaf(TextEnv):
    """Answers a text that has an x with the same observation, and others with a new one."""

    version = "1"

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.turns, self.number = 0, 0
        return "0\n", {}

    def step(self, action: str) -> StepResult:
        self.turns, self.number = self.turns + 1, self.number + ("x" not in action)
        return f"{self.number}\n", 0.0, False, self.turns == 7, {}

    def evaluation_starts(self) -> Sequence[Mapping[str, Any]]:
        return ({},)

    def legal_actions(self) -> Sequence[str]:
        return ("x\n", "o\n")


def test_a_request_tells_what_was_of_no_use_since_the_observation_came() -> None:
    class Script:
        asked: ClassVar[list[list[str]]] = []

        def act(self, requests: Sequence[Request]) -> list[Action]:
            self.asked.append([turn.text for turn in requests[0].tried])
            return [Action(text) for text in ["x\n", "xx\n", "o\n", "x\n", "o\n", "o\n", "x\n"][requests[0].turn :][:1]]

    rollout(Deaf, Script(), [Start(0)], memory=1)
    assert Script.asked == [[], ["x\n"], ["x\n", "xx\n"], [], ["x\n"], [], []]


def test_without_retry_nothing_is_said_twice_to_the_same_observation() -> None:
    """Two tokens, of which the first alone repeats freely: what is refused is the whole utterance."""

    letters = "xyzuvwst"
    scores = torch.full((CODEC.size,), -9.0)
    scores[[CODEC.encode(letter)[0] for letter in letters]] = torch.arange(8, 0, -1).float()
    lm = random_lm("gpt2", CODEC.size, layers=1)

    def played(retry: bool) -> list[list[str]]:
        policy = LanguageModelPolicy(
            trunks=(lm.base_model,), next_logits=lambda hidden: scores.expand(len(hidden[0]), -1), codec=CODEC,
            decoding=Decoding(retry=retry, temperature=0.0), max_new_tokens=2,
        )  # fmt: skip
        return [[turn.text for turn in t.turns if turn.is_action] for t in rollout(Deaf, policy, STARTS[:2], memory=1)]

    assert played(True) == [["xx"] * 7] * 2
    assert played(False) == [["x" + letter for letter in letters[:7]]] * 2


def test_info_holds_plain_values_success_and_invalid_actions() -> None:
    (played,) = rollout(Sights, Recorder(), [Start(5, {"turns": 4})], memory=None)
    # The recorder's actions have 2, 3, 4 and 5 letters; odd ones are invalid, and 5 are not more than 5.
    assert played.info == {"success": False, "is_invalid": True, "left": 0, "invalid_actions": 2}
    assert played.terminated
    assert not played.truncated


class Cut(Sights):
    """Is cut off after its first step, without another word."""

    def step(self, action: str) -> StepResult:
        return "", 1.0, False, True, {}


def test_truncation_is_not_termination_and_silence_is_no_turn() -> None:
    (played,) = rollout(Cut, Recorder(), [Start(1)], memory=None)
    assert (played.terminated, played.truncated) == (False, True)
    assert len(played.turns) == 2
    assert played.info == {"success": False, "invalid_actions": 0}


def test_a_dialogue_in_a_batch_equals_step_by_step() -> None:
    lm = random_lm("gpt2", CODEC.size, seed=7, layers=1)
    starts = STARTS[:4]
    shared = language_policy(lm, CODEC)
    batched = rollout(lambda: Talk(partner=shared), new_policy(), starts, memory=None, slots=3)
    for start, played in zip(starts, batched, strict=True):
        policy, env = new_policy(), Talk(partner=language_policy(lm, CODEC))
        observation, _ = env.reset(seed=start.seed)
        spoken = [observation]
        for turn in range(played.length):
            request = Request(played.turns[: 2 * turn + 1], seed=start.seed, turn=turn)
            action = policy.act([request])[0]
            observation, reward, terminated, _, _ = env.step(action.text)
            spoken += [action.text, observation]
            assert reward == played.turns[2 * turn + 1].reward
        assert terminated
        assert spoken == [turn.text for turn in played.turns]


def test_a_partner_is_asked_once_per_turn_for_all_who_wait() -> None:
    partners = [Recorder(), Recorder()]
    made = iter([partners[0], partners[1], partners[0]])
    starts = [Start(i, {"turns": 2}) for i in range(3)]
    rollout(lambda: Talk(partner=next(made)), RandomPolicy(actions=["hello"]), starts, memory=None, slots=3)
    assert [[r.slot for r in batch] for batch in partners[0].batches] == [[0, 2], [0, 2]]
    assert [[r.slot for r in batch] for batch in partners[1].batches] == [[1], [1]]


def test_every_episode_is_reported_once_and_environments_are_closed() -> None:
    envs: list[Sights] = []
    seen: list[int] = []
    lengths: dict[int, int] = {}

    def make() -> Sights:
        envs.append(Sights())
        return envs[-1]

    def told(index: int, trajectory: Trajectory) -> None:
        seen.append(index)
        lengths[index] = trajectory.length

    starts = [Start(i, {"turns": turns}) for i, turns in enumerate([3, 1, 2])]
    rollout(make, Recorder(), starts, memory=None, slots=2, on_episode=told)
    assert seen == [1, 0, 2]
    assert lengths == {0: 3, 1: 1, 2: 2}
    assert [env.closed for env in envs] == [True, True]


class Broken(Recorder):
    def act(self, requests: Sequence[Request]) -> list[Action]:
        return super().act(requests)[1:]


def test_a_policy_that_drops_an_action_is_an_error_and_environments_are_closed() -> None:
    env = Sights()
    with pytest.raises(ValueError, match="shorter"):
        rollout(lambda: env, Broken(), [Start(0)], memory=None)
    assert env.closed


def test_nothing_to_play_and_numbers_out_of_range() -> None:
    assert rollout(Sights, Recorder(), [], memory=None) == []
    with pytest.raises(ValueError, match="slots must be at least 1, got 0"):
        rollout(Sights, Recorder(), STARTS, memory=None, slots=0)
    with pytest.raises(ValueError, match="memory must be at least 1 turn"):
        rollout(Sights, Recorder(), STARTS, memory=0)
