"""ArCHer: its losses by hand, values where utterances begin and end, samples that repeat, and whose step it is."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from worlds import Sights, byte_level, random_lm

from lmrl.experiment.materials import build_materials
from lmrl.experiment.stage import Trained, build_stage, fit
from lmrl.experiment.task import load_task
from lmrl.models.backbone import hidden_states
from lmrl.modules.archer import ArCHer, archer_actor_loss, archer_critic_loss
from lmrl.policies.core import Action, Request
from lmrl.policies.decoding import Decoding
from lmrl.policies.scripted import RandomPolicy
from lmrl.rollout import Start, rollout
from lmrl.text.tokens import TokenBatch, TokenTrajectory, collate, tokenize
from lmrl.text.trajectory import Trajectory, windows

CODEC = byte_level()
ONES = torch.ones(2)


def test_critic_loss_by_hand() -> None:
    """Weights 1 and 3: L_Q = (1 * 1 + 3 * 4) / 4 + (1 * 0 + 3 * 1) / 4, L_V = (1 * 4 + 3 * 1) / 4 + 0."""
    qs = torch.tensor([[1.0, 2.0], [0.0, 1.0]], requires_grad=True)
    vs = torch.tensor([[0.0, 3.0], [5.0, 5.0]], requires_grad=True)
    y = torch.tensor([[0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    values = torch.tensor([[2.0, 2.0], [5.0, 5.0]], requires_grad=True)
    weight = torch.tensor([1.0, 3.0])
    loss, logs = archer_critic_loss(qs, vs, y, values, weight, expectile=None)
    assert logs["q"].item() == pytest.approx(13 / 4 + 3 / 4)
    assert logs["v"].item() == pytest.approx(7 / 4)
    loss.backward()
    torch.testing.assert_close(qs.grad, torch.tensor([[0.5, 3.0], [0.0, 1.5]]))
    torch.testing.assert_close(vs.grad, torch.tensor([[-1.0, 1.5], [0.0, 0.0]]))
    assert y.grad is None
    assert values.grad is None


def test_expectile_follows_what_is_above_more() -> None:
    """Errors 2 (below its target) and 1 (above it) at tau .9: (.9 * 4 + .1 * 1) / 2 for each of both critics."""
    vs, values = torch.tensor([[0.0, 3.0]] * 2), torch.tensor([[2.0, 2.0]] * 2)
    _, logs = archer_critic_loss(vs, vs, vs, values, ONES, expectile=0.9)
    assert logs["v"].item() == pytest.approx(2 * 3.7 / 2)


def test_actor_losses_by_hand() -> None:
    advantages, options = torch.tensor([2.0, -1.0]), {"max_weight": 5.0}
    log_probs = torch.tensor([-3.0, -4.0], requires_grad=True)
    loss, logs = archer_actor_loss(log_probs, advantages, ONES, inverse_temperature=None, **options)
    assert loss.item() == pytest.approx(-(2 * -3 + -1 * -4) / 2)
    assert logs["advantage_size"].item() == pytest.approx(1.5)
    loss.backward()
    torch.testing.assert_close(log_probs.grad, torch.tensor([-1.0, 0.5]))
    regression, _ = archer_actor_loss(log_probs, advantages, ONES, inverse_temperature=0.5, **options)
    assert regression.item() == pytest.approx((3 * np.exp(1) + 4 * np.exp(-0.5)) / 2)
    clipped, _ = archer_actor_loss(log_probs, 1e6 * advantages, ONES, inverse_temperature=1.0, **options)
    assert clipped.item() == pytest.approx(3 * 5 / 2)


def agent(**options: Any) -> ArCHer:
    """Build a random agent, all of whose networks and heads differ."""
    given = {"gamma": 0.8, "round_steps": 3, "critic_share": 0.67, "reward_scale": 0.5, **options}
    module = ArCHer(lm=lambda: random_lm("gpt2", CODEC.size), codec=CODEC, optimizer=torch.optim.SGD, steps=9,
                    max_new_tokens=6, **given)  # fmt: skip
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in (*module.critic.parameters(), *module.target.parameters()):
            parameter += 0.05 * torch.randn_like(parameter)
    return module


@pytest.fixture(scope="module")
def episode() -> Trajectory:
    (played,) = rollout(
        Sights, RandomPolicy(actions=["one\n", "three\n", "a longer phrase\n"]), [Start(3)], memory=None
    )
    assert played.length > 2
    return played


def read(critic: Any, ids: list[int], which: str) -> Tensor:
    """Read both values after some tokens, in a forward pass of their own."""
    return getattr(critic, which)(hidden_states(critic.lm, torch.tensor([ids]))[0, -1:])[:, 0]


def turns(rows: list[TokenTrajectory]) -> list[tuple[list[int], list[int], float, list[int] | None]]:
    """Return state, utterance, reward and next state of each turn, found by walking over rows."""
    found = []
    for row in rows:
        decisions = np.flatnonzero(row.is_decision)
        for turn in dict.fromkeys(row.turn[decisions].tolist()):
            at = decisions[row.turn[decisions] == turn]
            later = decisions[decisions > at[-1]]
            following = row.successor if not len(later) else row.tokens[: later[0]]
            reward = float(row.rewards[at].sum())
            found.append((row.tokens[: at[0]].tolist(), row.tokens[at].tolist(), reward,
                          None if following is None else list(following)))  # fmt: skip
    return found


@pytest.mark.parametrize("ending", [True, False], ids=["terminated", "truncated"])
@pytest.mark.parametrize("memory", [1, 3, None])
@pytest.mark.parametrize("critic", ["sampled", "expectile"])
def test_critic_reads_values_where_utterances_begin_and_end(
    episode: Trajectory, memory: int | None, ending: bool, critic: str
) -> None:
    module = agent(critic=critic, samples=2)
    one = replace(episode, terminated=ending, truncated=not ending)
    rows = [tokenize(window, CODEC) for window in windows(one, memory)]
    batch = collate(rows, pad_id=CODEC.pad_id)
    said, places = module.speak(batch)
    spoken = [(row[: end.item()].tolist()) for row, end in zip(said.tokens, said.lengths, strict=True)]
    q, v, y, values = [], [], [], []
    with torch.no_grad():
        for index, (state, utterance, reward, following) in enumerate(turns(rows)):
            q.append(read(module.critic, state + utterance, "qs"))
            v.append(read(module.critic, state, "vs"))
            after = torch.zeros(2) if following is None else read(module.target, following, "vs")
            y.append(0.5 * reward + 0.8 * after)
            if critic == "sampled":
                drawn = [spoken[place] for place in places[index].tolist()]
                assert all(ids[: len(state)] == state for ids in drawn)
                values.append(torch.stack([read(module.target, ids, "qs") for ids in drawn]).mean(0))
            else:
                values.append(read(module.target, state + utterance, "qs").amin(0).expand(2))
        assert (turns(rows)[-1][3] is None) == ending
        stacked = [torch.stack(part, -1) for part in (q, v, y, values)]
        expected, _ = archer_critic_loss(*stacked, torch.ones(len(q)), expectile=module.expectile)
        loss, _ = module.critic_loss(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.4}, {"retry": False}, {"temperature": 0}, {"support": 0.2},
                                     {"top_k": 3}, {"top_p": 0.8}], ids=str)  # fmt: skip
def test_the_actor_learns_with_the_probabilities_of_its_samples_or_refuses(episode: Trajectory, setting: dict) -> None:
    """Nothing was tried before in the states that it samples in, so `retry` changes nothing."""
    module = agent(samples=3)
    module.decoding = Decoding(**setting)
    policy, acted = module.sampler(), list[Action]()

    def act(requests: list[Request]) -> list[Action]:
        acted.extend(policy.act(requests))
        return acted

    module.sampler = lambda: SimpleNamespace(act=act)  # type: ignore[assignment, return-value]
    batch = collate([tokenize(window, CODEC) for window in windows(episode, 1)], pad_id=CODEC.pad_id)
    said, places = module.speak(batch)
    by_row = dict(zip(places.flatten().tolist(), acted, strict=True))
    expected = torch.tensor([*chain.from_iterable(by_row[row].log_probs or () for row in sorted(by_row))])
    drift = float((module.action_log_probs(module.lm, said) - expected).abs().max().detach())
    if setting.get("temperature") != 0 and setting.keys() <= {"temperature", "retry"}:
        assert drift < 1e-4
        agent(decoding=Decoding(**setting))
    else:
        assert drift > 0.01
        with pytest.raises(ValueError, match=r"^algo\.decoding\."):
            agent(decoding=Decoding(**setting))
    agent(actor="awr", decoding=Decoding(**setting))  # which learns from what the data say


@pytest.mark.parametrize("memory", [1, None])
@pytest.mark.parametrize("actor", ["reinforce", "awr"])
def test_actor_weighs_whole_utterances_by_their_advantage(episode: Trajectory, memory: int | None, actor: str) -> None:
    module = agent(actor=actor, samples=3)
    batch = collate([tokenize(window, CODEC) for window in windows(episode, memory)], pad_id=CODEC.pad_id)
    said = module.speak(batch)[0] if actor == "reinforce" else batch
    token_log_probs = module.sampler().log_probs(said).float()
    log_probs, advantages, weight = [], [], []
    with torch.no_grad():
        begin = 0
        for end in (said.ends_turn.nonzero().flatten() + 1).tolist():
            ids = said.tokens[said.row[begin]].tolist()
            state, whole = ids[: said.position[begin] + 1], ids[: said.position[end - 1] + 2]
            advantages.append(read(module.critic, whole, "qs").amin() - read(module.critic, state, "vs").amin())
            log_probs.append(token_log_probs[begin:end].sum())
            weight.append(said.weight[begin])
            begin = end
        assert sum(weight) == pytest.approx(episode.length)
        options: dict[str, Any] = {"inverse_temperature": module.inverse_temperature, "max_weight": module.max_weight}
        expected, _ = archer_actor_loss(*map(torch.stack, (log_probs, advantages, weight)), **options)
    loss, _ = module.actor_loss(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    assert all(parameter.grad is None for parameter in module.critic.parameters())
    assert any(parameter.grad is not None for parameter in module.lm.parameters())


def test_a_normalised_advantage_knows_no_scale(episode: Trajectory) -> None:
    batch = collate([tokenize(window, CODEC) for window in windows(episode, 1)], pad_id=CODEC.pad_id)
    module = agent(normalise_advantage=True, samples=4)
    losses = []
    for _ in range(2):
        loss, logs = module.actor_loss(batch)
        assert logs["advantage"].abs() < 1e-6
        losses.append(loss.item())
        with torch.no_grad():
            for head in (*module.critic.q_heads, *module.critic.v_heads):
                head.output.weight.mul_(7)
                head.output.bias.mul_(7)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_nothing_is_learned_about_what_the_recording_does_not_say(episode: Trajectory) -> None:
    """An episode cut off right after an action: that action has no target, and counts for nothing."""
    module = agent(critic="expectile")
    cut_off = replace(episode, turns=episode.turns[:-1], terminated=False)
    rows = [tokenize(window, CODEC) for window in windows(cut_off, 1)]
    assert not rows[-1].is_known
    with torch.no_grad():
        whole = module.critic_loss(collate(rows, pad_id=CODEC.pad_id))[0]
        known = module.critic_loss(collate(rows[:-1], pad_id=CODEC.pad_id))[0]
    torch.testing.assert_close(whole, known, rtol=1e-5, atol=1e-6)


def utterances(module: ArCHer, batch: TokenBatch) -> list[set[tuple[int, ...]]]:
    """Return what was said in each state of a batch."""
    said, places = module.speak(batch)
    ids = [tuple(row[: int(end)].tolist()) for row, end in zip(said.tokens, said.lengths, strict=True)]
    return [{ids[place] for place in found} for found in places.tolist()]


def test_samples_repeat_and_depend_on_nothing_but_seed_step_and_state(
    episode: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = agent(samples=3)
    rows = [tokenize(window, CODEC) for window in windows(episode, 1)]
    batch = collate(rows, pad_id=CODEC.pad_id)
    torch.manual_seed(5)
    first = utterances(module, batch)
    torch.rand(3)
    assert utterances(module, batch) == first
    assert utterances(module, collate(rows[1:], pad_id=CODEC.pad_id)) == first[1:]
    assert any(len(said) > 1 for said in first)
    torch.manual_seed(6)
    assert utterances(module, batch) != first
    torch.manual_seed(5)
    monkeypatch.setattr(ArCHer, "global_step", 1)
    assert utterances(module, batch) != first


def test_equal_states_share_what_is_said_in_them(episode: Trajectory) -> None:
    """Rows of one state with different rewards: one set of utterances, with the weight of all rows."""
    module = agent(samples=2)
    row = tokenize(next(iter(windows(episode, 1))), CODEC)
    batch = collate([replace(row, rewards=row.rewards * k) for k in (1, 2, 2)], pad_id=CODEC.pad_id)
    said, places = module.speak(batch)
    assert places.shape == (2, 2)
    assert torch.equal(places[0], places[1])
    assert float(said.weight[said.ends_turn].sum()) == pytest.approx(3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("critic", "td"), ("actor", "ppo"), ("critic_share", 0), ("critic_share", 1.1), ("round_steps", 0), ("samples", 0),
     ("polyak", 0), ("expectile", 1), ("inverse_temperature", 0), ("max_weight", 0), ("gamma", 1.1),
     ("warmup_rounds", -1), ("reward_scale", 0)],
)  # fmt: skip
def test_mistakes_name_their_field(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} of ArCHer must be"):
        agent(**{name: value})


class Snapshots(pl.Callback):
    """Say which networks each optimizer step moved, and end the training where it is told to."""

    def __init__(self, end: int | None = None) -> None:
        self.end, self.moved, self.before = end, [], {}

    def weights(self, module: Any) -> dict[str, Tensor]:
        networks = {"actor": module.lm, "critic": module.critic, "target": module.target}
        return {
            name: torch.cat([p.detach().flatten().clone() for p in net.parameters()]) for name, net in networks.items()
        }

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *unused: object) -> None:
        if trainer.global_step == self.end:
            raise InterruptedError
        self.before = self.weights(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *unused: object) -> None:
        after = self.weights(pl_module)
        self.moved.append({name for name, value in after.items() if not torch.equal(value, self.before[name])})


@pytest.mark.parametrize("algo", ["archer", "offline_archer"])
def test_each_step_trains_one_network_and_resumes_exactly(
    algo: str, compose: Callable, data_dir: Path, tmp_path: Path
) -> None:
    """Rounds of two steps for the critic and one for the actor, the first round for the critic alone."""
    options = [
        "steps=9",
        "steps_per_epoch=3",
        "module.critic_share=0.67",
        "datamodule.batch_size=16",
    ]
    options += ["module.warmup_rounds=1"] + ["datamodule.rollouts=2"] * (algo == "archer")
    cfg = compose("task=maze", "task.env.layout=umaze", "task.dataset.recipe.trajectories=30", f"algo={algo}",
                  f"data_dir={data_dir}", *(f"algo.{option}" for option in options))  # fmt: skip
    materials = build_materials(cfg, load_task(cfg.task))

    def train(name: str, callback: pl.Callback) -> Trained:
        module, data = build_stage(cfg.algo, materials)
        return fit(cfg.algo, materials, module, data, name=name, folder=tmp_path / name, callbacks=[callback])

    whole = train("whole", seen := Snapshots())
    critic, actor = {"critic", "target"}, {"actor"}
    assert seen.moved == [critic, critic, critic, critic, critic, actor, critic, critic, actor]
    with pytest.raises(InterruptedError):
        train("broken", Snapshots(end=7))
    resumed = train("broken", Snapshots())
    ends = [torch.load(stage.latest, weights_only=True) for stage in (whole, resumed)]
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(ends[1][part], ends[0][part], rtol=0, atol=0)
