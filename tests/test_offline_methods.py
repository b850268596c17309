"""CQL, AWR, return-conditioned BC, trajectory DPO, and the stages that come before a method."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_cases import golden
from omegaconf import DictConfig, OmegaConf, open_dict
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from worlds import disturb

from lmrl.datamodules.grouped import Groups
from lmrl.experiment.earlier import StageStore, stages_to_train, with_earlier_stages
from lmrl.experiment.materials import Materials, build_materials
from lmrl.experiment.stage import build_stage
from lmrl.experiment.task import load_task
from lmrl.functional import log_prob
from lmrl.models.critic import load_critic
from lmrl.modules.awr import awr_loss
from lmrl.modules.bc import BC
from lmrl.modules.cql import best_value, cql_loss
from lmrl.modules.dpo import dpo_loss, paired
from lmrl.modules.rcbc import RCBC, decimal_places, returns_to_go
from lmrl.policies.conditioned import ReturnToGo
from lmrl.policies.core import Request
from lmrl.rollout import Start, rollout
from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenTrajectory, collate, tokenize
from lmrl.text.trajectory import Trajectory, Turn, windows

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def leaf(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


def close(actual: Tensor, expected: object) -> None:
    torch.testing.assert_close(actual.detach().double(), torch.as_tensor(expected, dtype=torch.float64), **CLOSE)


@pytest.fixture
def make(compose: Callable, first_episodes: SimpleNamespace) -> Callable[..., SimpleNamespace]:
    """Build an algorithm on these trajectories, from fresh weights."""

    def made(algo: str, *overrides: str, folders: dict[str, Path] | None = None) -> SimpleNamespace:
        cfg = compose("task=maze", f"algo={algo}", *overrides)
        task, materials = first_episodes.task, replace(first_episodes.materials.under(cfg), folders=folders or {})
        module, datamodule = build_stage(cfg.algo, materials)
        return SimpleNamespace(cfg=cfg, task=task, module=module, data=datamodule, materials=materials)

    return made


# Behaviour cloning, filtered by action


@pytest.mark.parametrize("memory", [None, 1])
def test_only_actions_that_earned_enough_are_imitated(make: Callable, memory: int | None) -> None:
    found = make("bc", "algo.module.non_action_weight=0.0")
    codec = found.materials.codec
    lm = found.module.lm

    def episode(*rewards: float) -> Trajectory:
        moves = itertools.cycle(["move up\n", "move down\n"])
        turns = [Turn("Success\n", False)]
        for reward in rewards:
            turns += [Turn(next(moves), True, reward), Turn("Failure\n", False)]
        return Trajectory(tuple(turns), terminated=True)

    cut = [
        [tokenize(window, codec) for window in windows(one, memory)]
        for one in (episode(-1.0, -1.0, 0.0), episode(-3.0, -3.0), episode(0.0))
    ]

    def module(least: float | None) -> BC:
        return BC(lm=lambda: lm, codec=codec, optimizer=torch.optim.SGD, steps=1, least_return=least)

    def loss(least: float | None, rows: Sequence[TokenTrajectory]) -> Tensor:
        return module(least).loss(collate(rows, pad_id=codec.pad_id))[0]

    every = module(None).prepare(cut)
    assert len(every) == (3 if memory is None else 6)
    # Returns from each action on: -2, -1, 0; -6, -3; 0.
    kept = {least: [int(row.extras["imitated"].sum()) for row in module(least).prepare(cut)] for least in (0, -1, -3)}
    if memory is None:
        assert [len(rows) for rows in kept.values()] == [2, 2, 3]
    size = len(codec.encode("move up\n"))
    assert len(codec.encode("move down\n")) == size
    assert {least: sum(rows) / size for least, rows in kept.items()} == {0: 2, -1: 3, -3: 5}
    # What is not imitated adds nothing: the loss is the mean over the last actions alone.
    single = [[tokenize(window, codec) for window in windows(episode(-1.0, -1.0, 0.0), memory)]]
    batch = collate(module(None).prepare(single), pad_id=codec.pad_id)
    logits = module(None).logits(lm, module(None).hidden(lm, batch)[batch.row, batch.position])
    close(loss(0, module(0).prepare(single)), -float(log_prob(logits, batch.action)[-size:].mean().detach()))
    with pytest.raises(ValueError, match=r"least_return=0.5: no action in the data was followed by a return that high"):
        module(0.5).prepare(cut)


# CQL


@pytest.mark.parametrize("case", golden("cql"))
def test_cql_equals_the_reference(case: dict) -> None:
    """The reference's form: the next action of the data is backed up."""
    inputs, outputs, params = case["inputs"], case["outputs"], case["params"]
    q1, q2 = leaf(inputs["q1_logits"]), leaf(inputs["q2_logits"])
    kept = (torch.tensor(inputs["should_take_action"]) * torch.tensor(inputs["attention_mask"])) > 0
    slow = torch.minimum(torch.tensor(inputs["target_q1"]), torch.tensor(inputs["target_q2"]))
    final = np.minimum(inputs["target_q1_final"], inputs["target_q2_final"])
    following = torch.zeros_like(slow)
    for row in range(len(slow)):
        at = kept[row].nonzero().flatten().tolist()
        following[row, at] = torch.tensor([*slow[row, at[1:]].tolist(), *([float(final[row])] if at else [])])
    y = torch.tensor(inputs["rewards"]) + params["gamma"] * following
    actions, weight = torch.tensor(inputs["token_ids"])[kept], torch.ones(int(kept.sum()))
    loss, logs = cql_loss([q1[kept], q2[kept]], y[kept], actions, weight, cql_weight=params["cql_weight"])
    close(loss, outputs["total_loss"])
    close(logs["q"], outputs["q1_loss"] + outputs["q2_loss"])
    close(logs["cql"], outputs["q1_cql_loss"] + outputs["q2_cql_loss"])
    loss.backward()
    close(q1.grad, outputs["grad_q1_logits"])
    close(q2.grad, outputs["grad_q2_logits"])


def test_the_best_value_is_one_that_acting_could_choose() -> None:
    q = torch.tensor([[9.0, 8.0, 7.0, 1.0]]).expand(2, 4)
    prior = torch.tensor([[0.0, -5.0, 0.0, 0.0], [0.0, -0.1, 0.0, 0.0]])
    sampleable = torch.tensor([False, True, True, True])
    close(best_value(q, prior, sampleable, support=0.01), [7.0, 8.0])
    close(best_value(q, prior, sampleable, support=0.0), [8.0, 8.0])


@pytest.mark.parametrize("backup", ["max", "sarsa", "expectile"])
def test_cql_backs_up_what_its_name_says(make: Callable, backup: str) -> None:
    """Heads that say a token's id make every target readable: r + gamma times an id, and 0 after the end."""
    overrides = [f"algo.module.backup={backup}", "algo.module.gamma=0.5", "algo.decoding.support=0"]
    found = make("cql", *overrides, "algo.module.monte_carlo_steps=0", "algo.module.monte_carlo_decay=0")
    module, codec = found.module, found.materials.codec
    for critic in (module.critic, module.target):
        for head in critic.q_heads:
            head.output.bias.data = torch.arange(codec.size, dtype=torch.float32)
    if backup == "expectile":
        module.critic.v_head.output.bias.data.fill_(3.0)
    episodes = found.data.episodes()
    ended = next(episode for episode in episodes if episode[-1].terminated and len(episode) > 1)
    with_next = module.prepare(episodes)
    start = sum(len(episode) for episode in episodes[: episodes.index(ended)])
    ours = with_next[start : start + len(ended)]
    batch = collate(ours, pad_id=codec.pad_id)
    with torch.no_grad():
        hidden, slow = module.hidden(module.lm, batch), module.hidden(module.target.lm, batch)
        target = module._bellman_target(hidden, slow, batch, 0.0)
    actions = [row.tokens[row.is_decision] for row in {row.key: row for row in ours}.values()]
    assert {len(action) for action in actions} == {1}
    following = {
        "max": [float(codec.size - 1)] * len(actions),
        "sarsa": [float(action[0]) for action in actions[1:]] + [0.0],
        "expectile": [3.0] * len(actions),
    }[backup]
    ends = batch.bootstraps.logical_not().tolist()
    assert ends == [False] * (len(actions) - 1) + [True]
    values = [0.0 if end else 0.5 * value for end, value in zip(ends, following, strict=True)]
    close(target, batch.reward + torch.tensor(values))


def test_sarsa_leaves_out_actions_whose_next_one_was_not_recorded(make: Callable) -> None:
    found = make("cql", "algo.module.backup=sarsa")
    episodes = found.data.episodes()
    rows = found.module.prepare(episodes)
    cut_off = [episode for episode in episodes if not episode[-1].terminated]
    assert cut_off
    unknown = [row for row in rows if row.extras["next_action"][-1] < 0 and not row.terminated]
    assert len(unknown) == len(cut_off)
    batch = collate(unknown, pad_id=found.materials.codec.pad_id)
    assert not found.module._is_known(batch).any()
    assert torch.isfinite(found.module.loss(batch)[0])


# AWR


def test_awr_weights_by_the_clipped_exponential() -> None:
    log_probs = leaf([-1.0, -2.0, -3.0])
    advantages = torch.tensor([0.0, -1.0, 1000.0])
    loss, logs = awr_loss(
        log_probs, advantages, torch.tensor([1.0, 1.0, 2.0]), advantage_temperature=0.5, max_weight=20.0
    )
    weights = [1.0, float(np.exp(-2)), 20.0]
    close(loss, (1 * weights[0] + 2 * weights[1] + 2 * 3 * weights[2]) / 4)
    close(logs["clipped"], 0.5)
    loss.backward()
    close(log_probs.grad, [-weights[0] / 4, -weights[1] / 4, -weights[2] / 2])


def test_awr_ends_at_the_tilted_policy() -> None:
    """Where nothing is clipped the optimum is the data's policy times exp(A / lambda)."""
    data, advantages = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.0, 1.0, -0.5])
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        awr_loss(logits.log_softmax(0), advantages, data, advantage_temperature=0.7, max_weight=100.0)[0].backward()
        optimizer.step()
    expected = (data.log() + advantages / 0.7).softmax(0)
    torch.testing.assert_close(logits.softmax(0).detach(), expected, rtol=0, atol=2e-3)


def test_awr_reads_the_critic_that_ilql_wrote(make: Callable, tmp_path: Path) -> None:
    ilql = make("ilql").module
    disturb(ilql)
    ilql.export(tmp_path)
    found = make("awr", folders={"critic": tmp_path})
    rows = found.module.prepare(found.data.episodes())
    batch = collate(rows[:50], pad_id=found.materials.codec.pad_id)
    with torch.no_grad():
        states = ilql.hidden(ilql.lm, batch)[batch.row, batch.position]
        q = torch.stack([head(states) for head in ilql.critic.q_heads]).amin(0)
        expected = q.gather(-1, batch.action[:, None])[:, 0] - ilql.critic.v(states)
    assert expected.std() > 0.1
    torch.testing.assert_close(batch.extras["advantage"], expected, rtol=1e-4, atol=1e-4)


def test_awr_without_a_critic_can_be_built_but_not_trained(make: Callable, tmp_path: Path) -> None:
    found = make("awr")
    with pytest.raises(ValueError, match=r"algo\.critic"):
        found.module.prepare(found.data.episodes())
    with pytest.raises(ValueError, match="has no critic"):
        load_critic(tmp_path, found.materials.codec)


def test_awr_fits_its_own_state_value(make: Callable) -> None:
    found = make("awr", "algo.module.advantage=returns", "algo.critic=null", "algo.module.head_lr_scale=1")
    module = found.module
    rows = module.prepare(found.data.episodes())
    batch = collate(rows[:200], pad_id=found.materials.codec.pad_id)
    optimizer = torch.optim.Adam(module.v.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        loss, logs = module.loss(batch)
        loss.backward()
        optimizer.step()
    mean = float((batch.extras["returns"] * batch.weight).sum() / batch.weight.sum())
    assert float(logs["v_mean"]) == pytest.approx(mean, rel=0.1)
    trunk = list(module.lm.parameters())
    assert not any(gradient is not None for gradient in torch.autograd.grad(logs["v"], trunk, allow_unused=True))
    state = module.hidden(module.lm, batch)[batch.row, batch.position]
    assert module.values()((state,)).shape == (len(batch.action),)


# Return-conditioned BC


def test_returns_to_go_are_those_of_whole_episodes(make: Callable) -> None:
    found = make("rcbc")
    for trajectory, episode in zip(found.task.dataset.trajectories, found.data.episodes(), strict=True):
        rewards = [turn.reward for turn in trajectory.turns if turn.is_action]
        np.testing.assert_allclose(returns_to_go(episode), np.cumsum(rewards[::-1])[::-1])


@pytest.mark.parametrize("memory", ["1", "3", "null"])
def test_rows_say_what_was_earned_from_each_action_on(make: Callable, memory: str) -> None:
    found = make("rcbc", f"task.memory={memory}", "algo.datamodule.replies=false")
    codec, module, episodes = found.materials.codec, found.module, found.data.episodes()
    rows = iter(module.prepare(episodes))
    for trajectory, episode in zip(found.task.dataset.trajectories[:10], episodes[:10], strict=True):
        rewards = [turn.reward for turn in trajectory.turns if turn.is_action]
        to_go = [sum(rewards[index:]) for index in range(len(rewards))]
        for row in episode:
            said = codec.decode(next(rows).tokens.tolist())
            if memory != "null":
                assert said == f"return: {to_go.pop(0):.0f}\n" + codec.decode(row.tokens.tolist())
        if memory == "null":
            texts = [turn.text for turn in trajectory.turns]
            starts = [0, *(i + 1 for i, turn in enumerate(trajectory.turns) if turn.is_action)][: len(to_go)]
            for place, value in reversed(list(zip(starts, to_go, strict=True))):
                texts.insert(place, f"return: {value:.0f}\n")
            assert said == "".join(texts)


@pytest.mark.parametrize("memory", ["1", "3", "null"])
def test_conditioned_acting_sees_what_training_sees(make: Callable, memory: str) -> None:
    """Rows of what was played, with the texts put in as training does, give the log-probabilities of acting."""
    found = make("rcbc", f"task.memory={memory}", "algo.module.target_return=-5")
    codec, module = found.materials.codec, found.module
    rows = module.prepare(found.data.episodes())
    assert sum(int(row.is_decision.sum()) for row in rows) == sum(
        int(row.is_decision.sum()) for episode in found.data.episodes() for row in episode
    )
    policy = module.policy()
    limit = None if memory == "null" else int(memory)
    starts = [Start(seed) for seed in range(3)]
    played = rollout(lambda: found.task.make_env(max_steps=6), policy, starts, memory=limit, slots=2)
    compared = 0
    for trajectory in played:
        batch = collate(seen(module, trajectory, codec, limit), pad_id=codec.pad_id)
        torch.testing.assert_close(policy.log_probs(batch).float(), batch.extras["log_probs"], rtol=0, atol=1e-4)
        compared += len(batch.action)
        first = codec.decode(batch.tokens[0].tolist())
        assert first.startswith("return: -5\n")
    assert compared > 10


def seen(module: RCBC, trajectory: Trajectory, codec: Codec, memory: int | None) -> list[TokenTrajectory]:
    """Return the rows that the policy was shown, with the log-probabilities that it acted with."""
    rows = module.as_shown([tokenize(window, codec) for window in windows(trajectory, memory)])
    then = iter([value for turn in trajectory.turns for value in turn.log_probs or ()])
    result = []
    for row in rows:
        values = np.asarray([next(then) for _ in range(int(row.is_decision.sum()))], dtype=np.float32)
        result.append(replace(row, extras={"log_probs": values}))
    return result


def test_what_is_left_of_the_target_is_said(make: Callable, tmp_path: Path) -> None:
    found = make("rcbc")
    found.module.prepare(found.data.episodes())
    returns = [trajectory.total_reward for trajectory in found.task.dataset.trajectories]
    lowest = min(returns)
    history = (Turn("Where am I?\n", is_action=False),)

    def said(module: RCBC, earned: float) -> str:
        return module.asks().condition(Request(history, earned=earned))[0].text

    assert said(found.module, 0.0) == f"return: {max(returns):.0f}\n"
    assert said(found.module, 1000.0) == f"return: {lowest:.0f}\n"  # clipped: no number that was never seen
    found.module.export(tmp_path)
    written = ReturnToGo(**json.loads((tmp_path / "conditioning.json").read_text()))
    assert written == found.module.asks()
    assert (written.target, written.lowest) == (max(returns), lowest)
    fresh = make("rcbc").module
    fresh.load_state_dict(found.module.state_dict())
    assert [said(fresh, earned) for earned in (0.0, 2.0)] == [said(found.module, earned) for earned in (0.0, 2.0)]
    asked = make("rcbc", "algo.module.target_return=-7").module
    assert said(asked, -3.0) == "return: -4\n"
    assert asked.asks().text(-0.2) == "return: 0\n"


@pytest.mark.parametrize(
    ("returns", "places"),
    [
        ([-6.0, -1.0, 0.0], 0),  # whole numbers, however few
        ([0.0, 1.0], 0),
        ([0.0, 0.5, 0.56, 1.1], 1),  # Car Dealer: 0.5 and 0.56 were "0" and "1"
        ([0.0, 42.17, 100.0], 0),
        ([0.001, 0.0042, 0.0099], 3),
        ([0.25, 0.25], 0),  # nothing to tell apart
    ],
)
def test_returns_are_told_apart_by_their_spread(returns: list[float], places: int) -> None:
    assert decimal_places(np.asarray(returns)) == places


def test_the_decimal_places_of_the_data_are_said_and_kept(make: Callable) -> None:
    found = make("rcbc")
    episodes = [[replace(row, rewards=row.rewards / 64) for row in one] for one in found.data.episodes()]
    earned = np.concatenate([returns_to_go(episode) for episode in episodes])
    assert 1 <= np.ptp(earned) < 4  # in 64ths: 0 places change some by nearly a half, 1 none by more than 0.05
    rows = found.module.prepare(episodes)
    said = found.materials.codec.decode(rows[0].tokens.tolist())
    assert said.startswith(f"return: {earned[0]:.1f}\n")
    fresh = make("rcbc").module
    fresh.load_state_dict(found.module.state_dict())
    assert fresh.asks() == found.module.asks()
    fixed = make("rcbc", "algo.module.digits=3").module
    fixed.prepare(episodes)
    assert fixed.asks().digits == 3


def test_a_tokenizer_without_digits_is_refused(make: Callable) -> None:
    raw = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "return": 2, ":": 3, "a": 4}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    codec = Codec(PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>"))
    module = make("rcbc").module
    with pytest.raises(ValueError, match="cannot encode"):
        RCBC(lm=lambda: module.lm, codec=codec, optimizer=torch.optim.SGD, steps=1)


# Trajectory DPO


def test_dpo_compares_sums_over_whole_episodes() -> None:
    log_probs = leaf([-1.0, -2.0, -1.5, -0.5, -0.7])
    reference = torch.tensor([-1.2, -1.0, -1.0, -0.9, -0.7])
    share = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0])
    pair = torch.tensor([7, 7, 7, 3, 3])
    weight = torch.tensor([2.0, 2.0, 2.0, 1.0, 1.0])
    loss, logs = dpo_loss(log_probs, reference, share, pair, weight, beta=0.5, bc_weight=0.1)
    margins = [0.5 * (0.2 - 1.0 + 0.5), 0.5 * 0.4]
    preference = (2 * np.log1p(np.exp(-margins[0])) + np.log1p(np.exp(-margins[1]))) / 3
    close(logs["preference"], preference)
    close(logs["bc"], (2 * 1.5 + 0.5) / 3)
    close(loss, preference + 0.1 * (2 * 1.5 + 0.5) / 3)
    close(logs["accuracy"], 1 / 3)
    logs["preference"].backward()
    push = 0.5 / (1 + np.exp(margins[0])) * 2 / 3
    close(log_probs.grad[:3], [-push, -push, push])


def test_pairs_begin_alike_and_differ_in_return(make: Callable) -> None:
    found = make("dpo")
    episodes = found.data.episodes()
    pairs = list(paired(episodes, 0.0))
    earned = [[sum(float(row.rewards.sum()) for row in episode) for episode in pair] for pair in pairs]
    assert len(pairs) > 10
    assert all(better > worse for better, worse in earned)
    for better, worse in pairs:
        states = [episode[0].tokens[: episode[0].is_decision.argmax()] for episode in (better, worse)]
        np.testing.assert_array_equal(*states)
    assert len(list(paired(episodes, 20.0))) == sum(better - worse > 20 for better, worse in earned) < len(pairs)
    used = [id(episode) for pair in pairs for episode in pair]
    assert len(set(used)) == len(used)
    with pytest.raises(ValueError, match=r"algo\.module\.min_gap"):
        found.module.prepare(episodes[:1])


@pytest.mark.parametrize("memory", ["1", "null"])
def test_a_batch_holds_whole_pairs(make: Callable, memory: str) -> None:
    found = make("dpo", f"task.memory={memory}")
    module, codec = found.module, found.materials.codec
    rows = module.prepare(found.data.episodes())
    groups = Groups(rows, "pair")
    sizes = {pair: sum(len(row.extras["pair"]) for row in groups[[pair]]) for pair in range(len(groups))}
    assert sum(sizes.values()) == sum(len(row.extras["pair"]) for row in rows)
    batch = collate(groups[[3, 0, 3]], pad_id=codec.pad_id)
    assert sorted(batch.extras["pair"].unique().tolist()) == [0.0, 3.0]
    assert len(batch.action) == sizes[0] + sizes[3]
    assert set(batch.weight[batch.extras["pair"] == 3].tolist()) == {2.0}
    # Nothing has been learned: every margin is 0, whatever the lengths.
    loss, logs = module.loss(batch)
    close(logs["preference"], np.log(2))
    single = [module.loss(collate(groups[[pair]], pad_id=codec.pad_id))[0] for pair in (3, 3, 0)]
    torch.testing.assert_close(loss, torch.stack(single).mean(), rtol=1e-5, atol=1e-6)


# Stages before the main one


def shortened(cfg: DictConfig, stages: Sequence[str]) -> None:
    for name in stages:
        stage = OmegaConf.select(cfg, name)
        stage.steps = stage.steps_per_epoch = 2
        stage.datamodule.batch_size = 8


def test_earlier_stages_are_found_again_wherever_they_stand(compose: Callable, data_dir: Path, tmp_path: Path) -> None:
    """AWR needs a prior and a critic, the critic needs the same prior: each is trained once, then found."""

    steps: list[list[int]] = []

    def stages(algo: str, names: Sequence[str]) -> Materials:
        cfg = compose("task=maze", f"algo={algo}", f"data_dir={data_dir}", "algo.steps=7")
        task = load_task(cfg.task)
        task.dataset.trajectories[:] = task.dataset.trajectories[:60]
        cfg.data_dir = str(tmp_path)
        with open_dict(cfg):
            shortened(cfg.algo, names)
        store = StageStore.of(cfg, "maze", "some data")
        steps.append([stage.steps for stage in stages_to_train(cfg.algo, store)])
        return with_earlier_stages(cfg.algo, store, build_materials(cfg, task))

    materials = stages("awr", ["prior", "critic", "critic.prior"])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    (prior,) = [path for path in (tmp_path / "priors").iterdir() if path.is_dir()]
    (critic,) = [path for path in (tmp_path / "critics").iterdir() if path.is_dir()]
    assert materials.folders == {"critic": critic}
    assert (prior / "prior.json").is_file()
    assert (critic / "critic.json").is_file()
    assert (critic / "critic" / "heads.safetensors").is_file()
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("*.ckpt"))
    loaded = load_critic(critic, materials.codec)
    assert len(loaded.q_heads) == 2
    assert loaded.v_head is not None
    again = stages("awr", ["prior", "critic", "critic.prior"])
    ilql = stages("ilql", ["prior"])
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert again.folders == materials.folders
    assert ilql.folders == {}
    assert steps == [[2, 2, 2, 7], [7], [7]]  # what is kept needs not be built to see that it can be
    for ours, theirs in zip(again.lm().parameters(), ilql.lm().parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_stage_is_trained_anew_when_anything_about_it_changes(compose: Callable) -> None:
    def key(*overrides: str, fingerprint: str = "a") -> str:
        cfg = compose("task=maze", "algo=awr", *overrides)
        return StageStore.of(cfg, "maze", fingerprint).key(cfg.algo.critic)

    same = [key(), key("algo.steps=7"), key("algo.prior.steps=7"), key("algo.module.advantage_temperature=1")]
    assert len(set(same)) == 1
    different = [
        key("algo.critic.steps=7"), key("algo.critic.prior.steps=7"), key("seed=1"), key("task.memory=2"),
        key("model.lm.width=32"), key("task.gamma=0.5"), key(fingerprint="b"),
    ]  # fmt: skip
    assert len({*same, *different}) == 8


def test_a_stage_may_do_without_earlier_ones(compose: Callable, data_dir: Path) -> None:
    cfg = compose("task=maze", "algo=awr", "algo.critic=null", "algo.prior=null", f"data_dir={data_dir}")
    materials = build_materials(cfg, load_task(cfg.task))
    assert with_earlier_stages(cfg.algo, StageStore.of(cfg, "maze", "some data"), materials) is materials


@pytest.mark.parametrize(
    ("algo", "name", "value"),
    [
        ("cql", "backup", "min"), ("cql", "polyak", "0"), ("cql", "monte_carlo_share", "2"),
        ("awr", "advantage", "value"), ("awr", "advantage_temperature", "0"), ("awr", "max_weight", "-1"),
        ("rcbc", "template", "return"), ("rcbc", "digits", "-1"), ("rcbc", "target_return", "1e10"),
        ("dpo", "beta", "0"), ("dpo", "bc_weight", "-1"), ("dpo", "min_gap", "-1"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(make: Callable, algo: str, name: str, value: str) -> None:
    with pytest.raises(Exception, match=rf"{name}"):
        make(algo, f"algo.module.{name}={value}")
