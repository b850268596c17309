"""Online methods: their estimates against the reference and by hand, and the episodes that they collect."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from golden_cases import golden
from torch import Tensor
from worlds import Sights, byte_level, random_lm

from lmrl.datamodules.online import OnlineDataModule
from lmrl.datamodules.replay import Replay
from lmrl.datamodules.sampling import EpochSampler, Mixed
from lmrl.functional import entropy
from lmrl.modules.bc import BC
from lmrl.modules.grpo import GRPO, group_advantages, grpo_loss, widest_groups
from lmrl.modules.ppo import PPO, gae, kl, ppo_loss, turn_gae
from lmrl.modules.rloo import RLOO, leave_one_out, rloo_loss
from lmrl.policies.decoding import Decoding
from lmrl.policies.exactness import check_log_probs
from lmrl.policies.scripted import RandomPolicy
from lmrl.rollout import Start, rollout
from lmrl.text.tokens import collate, tokenize
from lmrl.text.trajectory import Trajectory, windows

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
COMMON: dict[str, Any] = {"optimizer": torch.optim.SGD, "steps": 4, "max_new_tokens": 6}
FROM_PLAY = pytest.mark.parametrize(
    "method",
    [partial(PPO, gamma=0.9), partial(GRPO, group=2), partial(RLOO, group=2)],
    ids=["ppo", "grpo", "rloo"],
)


@pytest.mark.parametrize("case", golden("ppo"))
def test_ppo_equals_the_reference(case: dict) -> None:
    inputs, outputs, params = case["inputs"], case["outputs"], case["params"]
    # The reference's arrays stand one position before the token that they are about.
    kept = (torch.tensor(inputs["should_take_action"]) * torch.tensor(inputs["attention_mask"])) > 0
    log_probs, values = (torch.tensor(inputs[name], requires_grad=True) for name in ("logprobs", "values"))
    names = ("old_logprobs", "old_values", "old_advantages", "old_returns")
    loss, logs = ppo_loss(
        log_probs[kept],
        values[kept],
        *(torch.tensor(inputs[name])[kept] for name in names),
        torch.ones(int(kept.sum())),
        clip=params["cliprange"],
        value_clip=params["cliprange_value"],
        value_weight=params["value_loss_coef"],
    )
    loss.backward()
    for ours, name in ((loss.detach(), "total_loss"), (logs["policy"], "policy_loss"), (logs["value"], "value_loss"),
                       (logs["approx_kl"], "approx_kl"), (logs["clip_fraction"], "policy_clipfrac"),
                       (log_probs.grad, "grad_logprobs"), (values.grad, "grad_values")):  # fmt: skip
        torch.testing.assert_close(ours, torch.tensor(outputs[name]), **CLOSE)


@pytest.mark.parametrize("case", golden("gae"))
def test_gae_equals_the_reference(case: dict) -> None:
    inputs, params = case["inputs"], case["params"]
    rows = [np.asarray(inputs[n], np.float32) for n in ("state_values", "next_state_values", "action_rewards")]
    steps = [np.full(rows[0].shape[1], params[name], np.float32) for name in ("gamma", "lam")]
    found = [gae(*(array[i] for array in rows), *steps) for i in range(len(rows[0]))]
    advantages, returns = (np.stack(part) for part in zip(*found, strict=True))
    if params["use_whitening"]:
        advantages = (advantages - advantages.mean()) / np.sqrt(advantages.var() + 1e-8)
    np.testing.assert_allclose(advantages, case["outputs"]["advantages"], **CLOSE)
    np.testing.assert_allclose(returns, case["outputs"]["returns"], **CLOSE)


def test_a_turn_is_one_step_of_the_turn_estimate() -> None:
    """Two actions of two and one tokens: by hand, A_2 = 3 - 1 = 2, A_1 = 1 + .5 * 1 - 2 + .5 * .8 * 2 = .3."""
    values, after = np.array([2.0, 9.0, 1.0], np.float32), np.array([9.0, 1.0, 0.0], np.float32)
    rewards, ends = np.array([0.25, 0.75, 3.0], np.float32), np.array([False, True, True])
    advantages, returns = turn_gae(values, after, rewards, ends, gamma=0.5, trace=0.8)
    np.testing.assert_allclose(advantages, [0.3, 0.3, 2.0], rtol=1e-6)
    np.testing.assert_allclose(returns, [2.3, 2.3, 3.0], rtol=1e-6)


def test_the_divergence_is_zero_for_equal_policies_and_never_negative() -> None:
    assert kl(np.zeros(5, np.float32)) == 0
    assert kl(np.array([-0.3, 0.4, 0.0], np.float32)) > 0
    # Samples of pi = (.8, .2) against pi_ref = (.5, .5): the mean over pi is the exact divergence.
    log_ratio = np.log(np.array([0.8 / 0.5] * 8 + [0.2 / 0.5] * 2)).astype(np.float32)
    assert kl(log_ratio) == pytest.approx(0.8 * np.log(1.6) + 0.2 * np.log(0.4), rel=1e-6)


def test_group_advantages_compare_episodes_of_one_start() -> None:
    returns = np.array([1.0, 3.0, 5.0, 5.0, 0.0, 10.0])
    advantages, spread = group_advantages(returns, 2)
    np.testing.assert_allclose(advantages, [-1, 1, 0, 0, -1, 1], atol=1e-5)
    np.testing.assert_allclose(spread, [1, 0, 5])
    assert widest_groups(spread, 1 / 3).tolist() == [2]
    assert widest_groups(spread, 2 / 3).tolist() == [0, 2]
    assert widest_groups(spread, 0.01).tolist() == [2]
    np.testing.assert_allclose(leave_one_out(np.array([1.0, 2.0, 6.0]), 3), [1 - 4, 2 - 3.5, 6 - 1.5])
    assert leave_one_out(returns, 2).sum() == 0


def test_rloo_pushes_down_a_bad_token_that_became_likelier() -> None:
    """The gradient is that of min(ratio, c) A log pi with the ratio as a weight: by hand, over 4 tokens with c = 2."""
    log_probs = torch.tensor([1.5, 3.0, 1.5, 3.0]).log().requires_grad_()
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    rloo_loss(
        log_probs, torch.zeros(4), advantages, torch.ones(4), tokens_per_episode=1.0, importance_cap=2.0
    ).backward()
    torch.testing.assert_close(log_probs.grad, torch.tensor([-0.375, -0.5, 0.375, 0.5]))


def test_grpo_clips_asymmetrically_and_rloo_does_not() -> None:
    old, weight, advantages = torch.zeros(2), torch.ones(2), torch.tensor([1.0, -1.0])
    log_probs = torch.tensor([0.25, -0.25], requires_grad=True)  # ratios 1.284 and .779
    loss, _ = grpo_loss(log_probs, old, old, advantages, weight, weight, clip_low=0.2, clip_high=0.28, kl_weight=0.0)
    assert loss.item() == pytest.approx(-(1.28 - 0.8) / 2)
    loss.backward()
    assert torch.equal(log_probs.grad, torch.zeros(2))
    reinforced = torch.tensor([0.25, -0.25], requires_grad=True)
    rloo_loss(reinforced, old, advantages, weight, tokens_per_episode=2.0, importance_cap=None).backward()
    torch.testing.assert_close(reinforced.grad, -advantages)
    corrected = torch.tensor([0.25, -0.25], requires_grad=True)
    rloo_loss(corrected, old, advantages, weight, tokens_per_episode=2.0, importance_cap=1.2).backward()
    torch.testing.assert_close(corrected.grad, torch.tensor([-1.2, np.exp(-0.25)], dtype=torch.float32))


@pytest.fixture
def played() -> list[Trajectory]:
    return rollout(Sights, RandomPolicy(actions=["one\n", "three\n"]), [Start(i) for i in range(12)], memory=None)


@pytest.mark.parametrize("memory", [1, None])
def test_ppo_estimates_run_over_the_whole_episode(played: list[Trajectory], memory: int | None) -> None:
    """Cut into windows or not, advantages are the concatenated episode's; truncation bootstraps, an end does not."""
    codec = byte_level()
    module = PPO(lm=lambda: random_lm("gpt2", codec.size), codec=codec, gamma=0.9, trace=0.8, whiten=False,
                 kl_weight=0.5, reward_scale=0.5, **COMMON)  # fmt: skip
    torch.nn.init.normal_(module.v.output.weight)
    torch.nn.init.normal_(module.lm.get_output_embeddings().weight, std=0.3)
    for ending in (True, False):
        episode = replace(played[0], terminated=ending, truncated=not ending)
        rows = [tokenize(window, codec) for window in windows(episode, memory)]
        prepared = module.prepare([rows])
        extras = {name: np.concatenate([row.extras[name] for row in prepared]) for name in prepared[0].extras}
        measured = module.evaluate_decisions(rows, module._read)
        reference = np.concatenate([m["reference"] for m in measured])
        rewards = 0.5 * np.concatenate([row.rewards[row.is_decision] for row in rows])
        rewards = rewards - 0.5 * (extras["old_log_probs"] - reference)
        v, expected, later = extras["old_values"], 0.0, measured[-1]["following"][-1]
        assert (later == 0) == ending
        for t in reversed(range(len(v))):
            expected = rewards[t] + 0.9 * later - v[t] + 0.9 * 0.8 * expected
            assert extras["advantages"][t] == pytest.approx(expected, abs=1e-4)
            assert extras["returns"][t] == pytest.approx(expected + v[t], abs=1e-4)
            later = v[t]


class Wall(Sights):
    """Shows the same, whatever is said."""

    def look(self, action: str) -> str:
        return "You see a wall.\n"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({}, None),
        ({"temperature": 0.4}, None),
        ({"temperature": 3.0}, None),
        ({"temperature": 0}, "temperature=0"),
        ({"retry": False}, "retry=false"),
        ({"support": 0.2}, "support=0.2"),
        ({"top_k": 3}, "top_k=3"),
        ({"top_p": 0.8}, "top_p=0.8"),
    ],
    ids=str,
)
@FROM_PLAY
def test_what_makes_training_compute_other_probabilities_than_acting_is_refused(
    method: Callable, setting: dict, said: str | None
) -> None:
    """What is refused is measured to differ, and what is allowed to agree."""
    codec = byte_level()
    make = partial(method, lm=lambda: random_lm("gpt2", codec.size), codec=codec, **{**COMMON, "max_new_tokens": 1})
    module = make()
    module.decoding = Decoding(**setting)  # as validation and report set it
    acted = rollout(Wall, module.policy(), [Start(seed) for seed in range(8)], memory=1)
    drift = check_log_probs(
        acted, lambda batch: module._read(batch)["old_log_probs"], codec=codec, memory=1, tolerance=math.inf
    )
    if said is None:
        assert drift < 1e-4
        make(decoding=Decoding(**setting))
    else:
        assert drift > 0.01
        with pytest.raises(ValueError, match=rf"^algo\.decoding\.{said}: .* evaluation\.decoding={{"):
            make(decoding=Decoding(**setting))


@FROM_PLAY
def test_a_reranker_is_refused_by_methods_that_learn_from_their_probabilities(method: Callable) -> None:
    codec = byte_level()
    with pytest.raises(ValueError, match=r"^algo\.module\.rerank: .* algo=ilql$"):
        method(lm=lambda: random_lm("gpt2", codec.size), codec=codec, rerank={"proposals": ["a\n"]}, **COMMON)


def test_the_first_step_of_a_round_has_ratio_one(played: list[Trajectory]) -> None:
    codec = byte_level()
    module = PPO(lm=lambda: random_lm("llama", codec.size), codec=codec, gamma=0.9, **COMMON)
    rows = module.prepare([[tokenize(w, codec) for w in windows(one, 2)] for one in played])
    _, logs = module.loss(collate(rows, pad_id=codec.pad_id))
    assert logs["approx_kl"] < 1e-9
    assert logs["clip_fraction"] == 0
    assert abs(float(np.mean(np.concatenate([row.extras["advantages"] for row in rows])))) < 1e-5


def test_a_step_of_the_entropy_bonus_makes_the_policy_less_certain(played: list[Trajectory]) -> None:
    """H of k equally likely tokens is log k; the bonus is part of the loss, and its gradient points to a larger H."""
    some = torch.tensor([[0.0] * 4, [3.0, 3.0, -1e30, torch.finfo(torch.float32).min]])
    torch.testing.assert_close(entropy(some), torch.tensor([4.0, 2.0]).log())
    codec = byte_level()
    losses = []
    for weight in (0.0, 0.5):
        module = PPO(lm=lambda: random_lm("gpt2", codec.size), codec=codec, gamma=0.9, value_weight=0.0,
                     entropy_weight=weight, **COMMON)  # fmt: skip
        rows = [[tokenize(w, codec) for w in windows(t, None)] for t in played]
        batch = collate(module.prepare(rows), pad_id=codec.pad_id)
        batch.extras["advantages"].zero_()
        loss, logs = module.loss(batch)
        losses.append(float(loss.detach()))
    before = float(logs["entropy"])
    assert losses == pytest.approx([0.0, -0.5 * before], abs=1e-6)
    assert 0 < before < math.log(codec.size)
    loss.backward()
    torch.optim.SGD(module.lm.parameters(), lr=0.01).step()
    assert float(module.loss(batch)[1]["entropy"]) > before


def test_the_kl_weight_follows_its_target(played: list[Trajectory]) -> None:
    codec = byte_level()
    module = PPO(lm=lambda: random_lm("gpt2", codec.size), codec=codec, gamma=0.9, kl_weight=0.1, kl_target=0.05,
                 kl_horizon=24, **COMMON)  # fmt: skip
    rows = [[tokenize(window, codec) for window in windows(one, 2)] for one in played]
    module.prepare(rows)  # no divergence: it may fall by a fifth, times 12 episodes of 24
    assert float(module.kl_weight) == pytest.approx(0.1 * 0.9)
    assert "kl_weight" in module.state_dict()
    with torch.no_grad():
        module.lm.get_output_embeddings().weight.mul_(3)
    module.prepare(rows)
    assert module.round_logs["kl"] > 0.06
    assert float(module.kl_weight) == pytest.approx(0.1 * 0.9 * 1.1)


def test_grpo_leaves_an_incomplete_group_out(played: list[Trajectory]) -> None:
    codec = byte_level()
    module = GRPO(lm=lambda: random_lm("gpt2", codec.size), codec=codec, group=5, average="token", **COMMON)
    rows = [[tokenize(window, codec) for window in windows(one, None)] for one in played]
    prepared = module.prepare(rows)
    assert len(prepared) == 10
    returns = np.array([one.total_reward for one in played[:5]])
    expected = (returns - returns.mean()) / (returns.std() + 1e-6)
    np.testing.assert_allclose([row.extras["advantages"][0] for row in prepared[:5]], expected, rtol=1e-4)
    with pytest.raises(ValueError, match=r"algo\.module\.group=5"):
        module.prepare(rows[:4])
    module.average = "episode"  # each episode's tokens count as much as if all were equally long
    sums = [float((row.extras["share"] * row.extras["advantages"]).sum()) for row in module.prepare(rows[:5])]
    length = np.mean([row.is_decision.sum() for episode in rows[:5] for row in episode])
    np.testing.assert_allclose(sums, expected * length, rtol=1e-4)


def test_grpo_trains_only_on_the_groups_it_keeps(played: list[Trajectory]) -> None:
    codec = byte_level()
    module = GRPO(lm=lambda: random_lm("gpt2", codec.size), codec=codec, group=3, keep_groups=0.5, **COMMON)
    rows = [[tokenize(window, codec) for window in windows(one, None)] for one in played]
    # Twelve episodes in four groups; the returns of the first and the last are made to spread most.
    rows = [[replace(row, rewards=row.rewards * (i < 3 or i > 8)) for row in one] for i, one in enumerate(rows)]
    prepared = module.prepare(rows)
    assert [row.tokens.tolist() for row in prepared] == [one[0].tokens.tolist() for one in rows[:3] + rows[9:]]
    assert module.round_logs["group_std"] > 0


def test_grpos_divergence_is_a_mean_over_episodes_where_its_surrogate_is_one() -> None:
    """Two episodes of 1 and 3 tokens: the mean over episodes of the means over tokens of k3, by hand."""
    log_probs, reference = torch.zeros(4), torch.tensor([0.0, 0.4, 0.4, 0.4])
    share = torch.tensor([2.0, 2 / 3, 2 / 3, 2 / 3])  # the mean length over the episode's own
    _, logs = grpo_loss(
        log_probs,
        log_probs,
        reference,
        torch.zeros(4),
        share,
        torch.ones(4),
        clip_low=0.2,
        clip_high=0.28,
        kl_weight=1.0,
    )
    assert logs["kl"].item() == pytest.approx((math.exp(0.4) - 1 - 0.4) / 2)


@pytest.mark.parametrize("trains", [True, False])
def test_measuring_leaves_each_network_in_its_mode(played: list[Trajectory], trains: bool) -> None:
    codec = byte_level()
    module = PPO(lm=lambda: random_lm("gpt2", codec.size), codec=codec, gamma=0.9, **COMMON).train(trains)
    module.reference.eval()  # as Lightning leaves a frozen network
    module.lm.get_output_embeddings().train(not trains)
    before = {name: part.training for name, part in module.named_modules()}
    seen: list[bool] = []

    def read(batch: Any) -> dict[str, Tensor]:
        seen.extend(part.training for part in module.modules())
        return module._read(batch)

    module.evaluate_decisions([tokenize(window, codec) for window in windows(played[0], None)], read)
    assert not any(seen)
    assert {name: part.training for name, part in module.named_modules()} == before


# Collecting.


class Trained(SimpleNamespace):
    """Stands where Lightning's trainer would, for what the data module asks of it."""


def attached(data: OnlineDataModule, module: BC, number: int, rank: int = 0, world: int = 1) -> OnlineDataModule:
    progress = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=number)))
    trainer = Trained(lightning_module=module, fit_loop=progress, global_rank=rank, world_size=world, loggers=[],
                      global_step=0, max_epochs=50)  # fmt: skip
    data.trainer = trainer  # type: ignore[assignment]
    return data


def online(offline: list[Trajectory], **options: Any) -> tuple[OnlineDataModule, BC]:
    codec = byte_level()
    module = BC(lm=lambda: random_lm("gpt2", codec.size), codec=codec, **COMMON)
    given: dict[str, Any] = {"rollouts": 8, "steps_per_epoch": 3, "seed": 5, "memory": 2, "max_new_tokens": 6}
    return OnlineDataModule(env=Sights, trajectories=offline, codec=codec, **{**given, **options}), module


def test_no_two_rounds_share_a_seed_and_groups_share_their_start(played: list[Trajectory]) -> None:
    data, _ = online(played, group=4)
    plays = [data.starts(play) for play in range(6)]
    seeds = [start.seed for start in itertools.chain(*plays)]
    drawn = [start.policy_seed for start in itertools.chain(*plays)]
    assert len(set(seeds)) == 12
    assert len(set(drawn)) == 48
    assert [len({s.seed for s in play[:4]}) for play in plays] == [1] * 6


def test_episodes_of_a_group_begin_alike_and_differ(played: list[Trajectory]) -> None:
    data, module = online(played, group=4)
    episodes = attached(data, module, 0)._play(Sights, module.policy(), data.starts(0))
    assert len({one.turns[0].text for one in episodes[:4]}) == 1
    assert len({one.turns[1].text for one in episodes[:4]}) > 1


def test_rounds_are_played_once_counted_and_repeatable(played: list[Trajectory]) -> None:
    (first, module), (second, _) = online(played), online(played)
    batches = [list(attached(first, module, n).train_dataloader()) for n in (0, 0, 1)]
    assert torch.equal(batches[0][0].tokens, batches[1][0].tokens)
    assert list(attached(first, module, 50).train_dataloader()) == []  # the training is at its end
    assert first.interactions["episodes"] == 16
    assert len(batches[0]) == 3
    again = list(attached(second, module, 1).train_dataloader())
    for ours, theirs in zip(batches[2], again, strict=True):
        assert torch.equal(ours.tokens, theirs.tokens)
    turns = sum(float(batch.weight[batch.ends_turn].sum()) for batch in again)
    assert abs(turns - second.interactions["environment_steps"]) <= 3  # one pass, rounded to equal batches


def test_a_batch_goes_through_a_round_as_often_as_passes_says(played: list[Trajectory]) -> None:
    data, module = online(played, passes=2, memory=None)
    batches = list(attached(data, module, 0).train_dataloader())
    assert [float(batch.row_weight.sum()) for batch in batches] == [5.0, 5.0, 5.0]  # 8 episodes, twice, in 3 steps


def test_demonstrations_are_marked_in_each_batch(played: list[Trajectory]) -> None:
    data, module = online(played, demonstrations=6, batch_size=4)
    for batch in attached(data, module, 0).train_dataloader():
        marked = batch.extras["demonstration"]
        rows = [float(batch.weight[(marked == value) & batch.ends_turn].sum()) for value in (0, 1)]
        assert rows == [4, 6]


def test_a_filter_that_keeps_nothing_plays_again_and_then_says_so(played: list[Trajectory]) -> None:
    calls: list[int] = []

    def third_time(trajectories: Any) -> Any:
        calls.append(len(trajectories))
        return trajectories if len(calls) == 3 else []

    data, module = online(played, filter=third_time)
    attached(data, module, 0).train_dataloader()
    assert data.interactions["episodes"] == 24
    never, module = online(played, filter=lambda trajectories: [])
    with pytest.raises(ValueError, match=r"algo\.datamodule\.filter keeps none of 80 episodes"):
        attached(never, module, 0).train_dataloader()


def test_replay_keeps_the_newest_and_comes_back_exactly(played: list[Trajectory]) -> None:
    codec = byte_level()
    module = BC(lm=lambda: random_lm("gpt2", codec.size), codec=codec, **COMMON)
    sampled = rollout(Sights, module.policy(), [Start(i) for i in range(5)], memory=None)
    replay = Replay(6)
    assert replay.add(played[:4]) == played[:4]
    assert replay.add(sampled) == [played[3], *sampled]
    other = Replay(6)
    other.load_state_dict(replay.state_dict())
    assert other.add([]) == [played[3], *sampled]
    assert other.add([])[1].turns[1].tokens == sampled[0].turns[1].tokens
    assert Replay(None).add(played) == played


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 3}, "algo.datamodule.group=3 must divide algo.datamodule.rollouts=8"),
        ({"rollouts": 0}, "rollouts of OnlineDataModule must be at least 1, got 0"),
        ({"capacity": -1}, "capacity of OnlineDataModule must be at least 1, got -1"),
    ],
)
def test_mistakes_name_their_field(played: list[Trajectory], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        online(played, **options)


def test_parts_of_a_mixture_keep_to_their_rows() -> None:
    parts = [EpochSampler(np.full(n, 5), batch_size=size, batches=4, seed=1) for n, size in ((10, 3), (6, 2))]
    mixed = Mixed(parts)
    first = list(mixed)
    mixed.set_epoch(1)
    assert first != list(mixed)
    assert all(
        len(batch) == 5 and all(i < 10 for i in batch[:3]) and all(10 <= i < 16 for i in batch[3:]) for batch in first
    )


def test_tokens_are_computed_once_for_rows_that_differ_in_what_they_earned(played: list[Trajectory]) -> None:
    codec = byte_level()
    row = tokenize(next(windows(played[0], 1)), codec)
    count = int(row.is_decision.sum())
    rows = [replace(row, extras={"advantages": np.full(count, value, np.float32)}) for value in (1.0, 2.0, 2.0)]
    batch = collate(rows, pad_id=codec.pad_id)
    assert int((batch.row_weight > 0).sum()) == 1
    assert batch.row_weight.max() == 3
    assert batch.extras["advantages"].tolist() == [1.0] * count + [2.0] * count
    assert batch.weight.tolist() == [1.0] * count + [2.0] * count
    assert isinstance(batch.row, Tensor)
    assert batch.row.unique().numel() == 1
