"""Tests that training recomputes the log-probabilities of acting, and that the check notices when it does not."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import CODECS, Sights, language_policy, random_lm

from lmrl.functional import log_prob
from lmrl.models.backbone import hidden_states, lm_logits
from lmrl.policies.decoding import Decoding
from lmrl.policies.exactness import check_log_probs
from lmrl.rollout import Start, rollout
from lmrl.tasks.maze.env import Maze
from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenBatch
from lmrl.text.trajectory import Trajectory, Turn

FAMILIES = sorted(CODECS)
STARTS = [Start(seed) for seed in range(5)]
BUILT = {family: make() for family, make in CODECS.items()}


class ShortMaze(Maze):
    """The maze, for a few moves; walls alone are told, so that remembered turns matter."""

    def __init__(self) -> None:
        super().__init__(max_steps=4, describe="walls")


@cache
def play(
    family: str, memory: int | None, *, env: Any = Sights, decoding: Decoding | None = None
) -> tuple[Any, Codec, list[Trajectory]]:
    codec = BUILT[family]
    lm = random_lm(family, codec.size, window=1024, layers=1)
    policy = language_policy(lm, codec, decoding=decoding, max_new_tokens=4)
    return lm, codec, rollout(env, policy, STARTS, memory=memory, slots=4)


def changed(trajectory: Trajectory, **news: Any) -> Trajectory:
    """Change the first action of an episode that has two."""
    index = next(i for i, turn in enumerate(trajectory.turns) if turn.is_action)
    turns = list(trajectory.turns)
    turns[index] = replace(turns[index], **news)
    return replace(trajectory, turns=tuple(turns))


@pytest.mark.parametrize("memory", [1, 4, None])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("env", [Sights, ShortMaze])
def test_training_recomputes_what_was_acted(family: str, memory: int | None, env: Any) -> None:
    lm, codec, played = play(family, memory, env=env)
    policy = language_policy(lm, codec)
    assert sum(len(turn.log_probs or ()) for t in played for turn in t.turns) > 30
    assert check_log_probs(played, policy.log_probs, codec=codec, memory=memory) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_filters_are_part_of_what_was_acted(family: str) -> None:
    decoding = Decoding(temperature=0.7, top_k=25, support=0.02)
    lm, codec, played = play(family, 4, decoding=decoding)
    filtered = language_policy(lm, codec, decoding=decoding)
    assert check_log_probs(played, filtered.log_probs, codec=codec, memory=4) < 1e-4
    with pytest.raises(ValueError, match="training and acting disagree"):
        check_log_probs(played, language_policy(lm, codec).log_probs, codec=codec, memory=4)


def test_an_algorithms_own_path_agrees_up_to_padding() -> None:
    lm, codec, played = play("gpt2", None)

    @torch.no_grad()
    def train(batch: TokenBatch) -> Tensor:
        logits = lm_logits(lm, hidden_states(lm, batch.tokens)[batch.row, batch.position])
        logits[:, codec.pad_id] = -torch.inf  # acting never says it
        return log_prob(logits, batch.action)

    assert check_log_probs(played, train, codec=codec, memory=None) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_sampled_ids_are_not_those_of_their_text(family: str) -> None:
    # Otherwise these tests would pass with any tokenisation: here, encoding the text again is really another action.
    _, codec, played = play(family, None)
    actions = [turn for t in played for turn in t.turns if turn.is_action]
    assert sum(codec.encode(turn.text) != turn.tokens for turn in actions) > len(actions) / 4


@pytest.mark.parametrize("memory", [4, None])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_remembered_turn_that_was_tokenised_again_is_noticed(family: str, memory: int | None) -> None:
    lm, codec, played = play(family, memory)
    drifted = [changed(trajectory, tokens=None, log_probs=None) for trajectory in played]
    with pytest.raises(ValueError, match="training and acting disagree"):
        check_log_probs(drifted, language_policy(lm, codec).log_probs, codec=codec, memory=memory)


def test_the_worst_place_is_named() -> None:
    lm, codec, played = play("gpt2", 1)
    index, turn = next(
        (e, i)
        for e, t in enumerate(played)
        if e
        for i, turn in enumerate(t.turns)
        if i > 2 and len(turn.tokens or ()) > 1
    )
    turns = list(played[index].turns)
    log_probs = list(turns[turn].log_probs or ())
    log_probs[1] -= 0.5
    turns[turn] = replace(turns[turn], log_probs=tuple(log_probs))
    drifted = [*played[:index], replace(played[index], turns=tuple(turns)), *played[index + 1 :]]
    with pytest.raises(
        ValueError, match=rf"differs by 0\.5 \(allowed 0\.0001\) at trajectory {index}, turn {turn}, token 1: "
    ):
        check_log_probs(drifted, language_policy(lm, codec).log_probs, codec=codec, memory=1, batch_size=3)
    assert check_log_probs(
        drifted, language_policy(lm, codec).log_probs, codec=codec, memory=1, tolerance=0.6
    ) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("wrong", [1, 2, None])
def test_another_memory_is_noticed(wrong: int | None) -> None:
    lm, codec, played = play("llama", 4)
    with pytest.raises(ValueError, match="training and acting disagree"):
        check_log_probs(played, language_policy(lm, codec).log_probs, codec=codec, memory=wrong)


def test_other_weights_and_broken_ones_are_noticed() -> None:
    lm, codec, played = play("qwen2", 1)
    lm = copy.deepcopy(lm)
    with torch.no_grad():
        lm.base_model.norm.weight[3] += 0.05
    with pytest.raises(ValueError, match="training and acting disagree"):
        check_log_probs(played, language_policy(lm, codec).log_probs, codec=codec, memory=1)

    def broken(batch: TokenBatch) -> Tensor:
        return torch.full(batch.action.shape, torch.nan)

    with pytest.raises(ValueError, match="differs by inf"):
        check_log_probs(played, broken, codec=codec, memory=1)


def test_a_wrong_gather_is_noticed() -> None:
    lm, codec, played = play("gpt2", None)

    def shifted(batch: TokenBatch) -> Tensor:
        return language_policy(lm, codec).log_probs(replace(batch, position=batch.position + 1))

    with pytest.raises(ValueError, match="training and acting disagree"):
        check_log_probs(played, shifted, codec=codec, memory=None)


def test_turns_without_log_probabilities_are_skipped_and_nothing_to_check_is_an_error() -> None:
    lm, codec, played = play("gpt2", None)
    policy = language_policy(lm, codec)
    foreign = [changed(trajectory, log_probs=None) for trajectory in played]
    assert check_log_probs(foreign, policy.log_probs, codec=codec, memory=None) < 1e-4
    silent = Trajectory((Turn("You see elm.\n", False), Turn("go\n", True)), terminated=True)
    with pytest.raises(ValueError, match="nothing to check"):
        check_log_probs([silent], policy.log_probs, codec=codec, memory=None)
