"""Which episodes an evaluation plays, what it says about them, and how it fits into training."""

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

import lmrl.callbacks.validate as callback_module
from lmrl.callbacks.validate import Validate
from lmrl.envs.core import TextEnv
from lmrl.evaluation import Evaluation, evaluate, evaluation_starts, summarize
from lmrl.policies.core import Action
from lmrl.policies.decoding import Decoding
from lmrl.rollout import Start, episode_seed
from lmrl.scores import Anchors, score
from lmrl.text.trajectory import Trajectory, Turn

ANCHORS = Anchors(min=-20.0, data=-10.0, max=0.0)


class Corridor(TextEnv):
    """Walk to cell 0; the ground is slippery, so that episodes depend on their seed."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell, self.steps = (options or {})["cell"], 0
        return f"cell {self.cell}\n", {}

    def step(self, action):
        self.steps += 1
        valid = action == "left\n"
        self.cell -= int(valid and self.np_random.random() < 0.7)
        info = {"success": self.cell == 0, "is_invalid": not valid}
        return f"cell {self.cell}\n", -1.0, self.cell == 0, self.steps >= 20, info

    def evaluation_starts(self):
        return ({"cell": 1}, {"cell": 2}, {"cell": 4})


class Walker:
    """Goes left, but says something else whenever the cell is in `confused`."""

    def __init__(self, confused=()):
        self.confused = confused

    def act(self, requests):
        return [Action("what\n" if r.history[-1].text in self.confused else "left\n") for r in requests]


class Module(pl.LightningModule):
    """A policy that learns nothing, and a layer that must stay frozen."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.frozen = torch.nn.Dropout(0.5).eval()
        self.modes: list[tuple[bool, bool, bool]] = []
        self.decoding = Decoding(temperature=0.7)
        self.drawn: list[Decoding] = []

    def policy(self):
        self.drawn.append(self.decoding)
        self.modes.append((self.training, self.frozen.training, torch.is_grad_enabled()))
        return Walker()

    def training_step(self, batch, batch_idx):
        assert self.decoding.temperature == 0.7
        self.modes.append((self.training, self.frozen.training, torch.is_grad_enabled()))
        return (self.weight * batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def episode(rewards, success=False, invalid=0):
    turns = tuple(t for r in rewards for t in (Turn("o\n", False), Turn("a\n", True, float(r))))
    return Trajectory(turns, success, not success, 0, {"success": success, "invalid_actions": invalid})


def fit(tmp_path, epochs, callbacks, **options):
    module = Module()
    data = DataLoader(torch.ones(4), batch_size=2)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=callbacks, default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=any(
            isinstance(c, ModelCheckpoint) for c in callbacks), **options,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer, module


def evaluator(**options):
    return Validate(**{"make_env": Corridor, "memory": 1, "anchors": ANCHORS, "repeats": 2, "seed": 3, **options})


@pytest.mark.parametrize("decoding", [None, Decoding(temperature=0.2)])
def test_validation_plays_as_the_report_will_and_training_goes_on_as_before(tmp_path, decoding):
    _, module = fit(tmp_path, 2, [evaluator(decoding=decoding)])
    assert module.drawn == [decoding or module.decoding] * 2


def test_every_start_is_played_equally_often_with_seeds_of_its_own():
    starts = evaluation_starts(Corridor, 3, seed=0)
    assert [dict(s.options) for s in starts] == [{"cell": 1}, {"cell": 2}, {"cell": 4}] * 3
    assert len({s.seed for s in starts}) == 9
    assert evaluation_starts(Corridor, 2, seed=0) == starts[:6]


def test_streams_and_run_seeds_never_share_episode_seeds():
    seeds = [s.seed for stream in ("validation", "test") for seed in (0, 1) for s in
             evaluation_starts(Corridor, 100, seed, stream=stream)]  # fmt: skip
    assert len(set(seeds)) == len(seeds) == 1200


def test_episode_seeds_are_the_same_everywhere():
    assert episode_seed(0, "test", 0) == 48899622447205
    assert all(0 <= episode_seed(seed, "test", 1) < 2**48 for seed in range(20))


def test_a_limit_draws_from_the_whole_list_once_and_for_all():
    whole = evaluation_starts(Corridor, 50, seed=0)
    some = evaluation_starts(Corridor, 50, seed=0, limit=20)
    assert len(some) == 20
    assert some == [start for start in whole if start in some]
    assert len({start.options["cell"] for start in some}) == 3
    assert evaluation_starts(Corridor, 50, seed=0, limit=20) == some
    assert evaluation_starts(Corridor, 50, seed=0, limit=150) == evaluation_starts(Corridor, 50, seed=0, limit=None)
    other = evaluation_starts(Corridor, 50, seed=0, stream="validation", limit=20)
    every = evaluation_starts(Corridor, 50, seed=0, stream="validation")
    assert [every.index(start) for start in other] != [whole.index(start) for start in some]
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        evaluation_starts(Corridor, 1, 0, limit=0)


def test_nothing_to_play_is_an_error():
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        evaluation_starts(Corridor, 0, 0)
    with pytest.raises(ValueError, match="no episode was played"):
        summarize([], ANCHORS)


def test_summary_of_known_episodes():
    starts = [Start(0, {"cell": 1}), Start(1, {"cell": 1}), Start(2, {"cell": 4}), Start(3, {"cell": 4})]
    played = [episode([-1], True), episode([-1, -2], True, 1), episode([-4] * 4, invalid=2), episode([-8, -2], True)]
    numbers = summarize(played, ANCHORS, starts=starts)
    assert numbers["episodes"] == 4
    assert numbers["return_mean"] == pytest.approx((-2 - 13) / 2)
    assert numbers["return_std"] == pytest.approx(math.sqrt((6.5**2 + 4.5**2 + 8.5**2 + 2.5**2) / 4))
    assert numbers["score"] == pytest.approx(62.5)
    assert numbers["success_rate"] == 0.75
    assert numbers["invalid_action_rate"] == pytest.approx(3 / 9)
    assert numbers["turns_mean"] == pytest.approx(9 / 4)
    # Of two episodes per start one is drawn: the extremes are (-1, -10) and (-3, -16).
    assert numbers["return_ci95"] == [-9.5, -5.5]
    assert numbers["score_ci95"] == [pytest.approx(52.5), pytest.approx(72.5)]
    assert numbers["own_score"] is None


def test_two_scales_are_both_told_and_never_mixed():
    anchors = Anchors.of_task(
        {"score": {"min": -20, "data": -10, "max": 0}, "own_score": {"min": -8, "data": -4, "max": 0}}
    )
    numbers = summarize([episode([-2], True), episode([-4], True)], anchors)
    assert (numbers["score"], numbers["own_score"]) == (85, pytest.approx(62.5))
    assert numbers["own_score_ci95"] == [score(end, anchors.own) for end in numbers["return_ci95"]]
    assert Anchors.of_task({"score": None}) is None
    with pytest.raises(ValueError, match="exactly min, data and max"):
        Anchors.of_task({"score": {"min": -20, "data": -10, "max": 0}, "own_score": {"min": -8}})


def test_unequal_repeats_still_weigh_starts_equally():
    starts = [Start(0, {"cell": 1}), Start(1, {"cell": 1}), Start(2, {"cell": 1}), Start(3, {"cell": 4})]
    played = [episode([-1], True)] * 3 + [episode([-9], False)]
    numbers = summarize(played, None, starts=starts)
    assert (numbers["return_mean"], numbers["success_rate"]) == (-5, 0.5)
    assert numbers["score"] is None
    assert numbers["score_ci95"] is None
    assert summarize(played, None)["return_mean"] == -3
    with pytest.raises(ValueError, match="cannot belong"):
        summarize(played, None, starts=starts[:2])


def test_same_policy_twice_gives_the_same_numbers():
    starts = evaluation_starts(Corridor, 8, seed=1)
    first = evaluate(Walker(), Corridor, starts, memory=1, slots=5)
    second = evaluate(Walker(), Corridor, starts, memory=1, slots=24)
    other = evaluate(Walker(), Corridor, evaluation_starts(Corridor, 8, seed=2), memory=1)
    assert first.trajectories == second.trajectories
    assert first.summary(ANCHORS) == second.summary(ANCHORS)
    assert first.trajectories != other.trajectories


def test_evaluation_of_a_known_walker():
    starts = evaluation_starts(Corridor, 40, seed=1)
    good = evaluate(Walker(), Corridor, starts, memory=1)
    numbers = good.summary(ANCHORS)
    # A step succeeds with probability 0.7: 1/0.7 steps for each of 1, 2 and 4 cells.
    assert numbers["return_mean"] == pytest.approx(-7 / 3 / 0.7, abs=0.5)
    assert numbers["return_ci95"][0] < -7 / 3 / 0.7 < numbers["return_ci95"][1]
    assert numbers["success_rate"] == 1
    assert good.rollout["turns"] == good.turns == -sum(t.total_reward for t in good.trajectories)
    lost = evaluate(Walker(("cell 2\n",)), Corridor, starts, memory=1).summary(ANCHORS)
    assert lost["success_rate"] == pytest.approx(1 / 3)
    assert 0.5 < lost["invalid_action_rate"] < 1
    assert lost["return_mean"] < -13


def test_starts_and_episodes_must_match():
    with pytest.raises(ValueError, match="1 starts cannot belong to 2 episodes"):
        Evaluation((Start(0),), (episode([-1]), episode([-1])), 1.0)


def test_callback_logs_what_a_checkpoint_can_monitor(tmp_path):
    best = ModelCheckpoint(tmp_path, "best", monitor="validation/return_mean", mode="max", save_on_train_epoch_end=True)
    callback = evaluator()
    trainer, module = fit(tmp_path, 2, [callback, best])
    expected = evaluate(Walker(), Corridor, evaluation_starts(Corridor, 2, 3, stream="validation"), memory=1)
    numbers = expected.summary(ANCHORS)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    for name in ("return_mean", "score", "success_rate", "invalid_action_rate", "turns_mean"):
        assert logged[f"validation/{name}"] == pytest.approx(numbers[name])
    assert logged["rollout/turns_per_second"] > 0
    assert callback.latest is not None
    assert callback.latest.trajectories == expected.trajectories
    assert best.best_model_score is not None
    assert best.best_model_score.item() == pytest.approx(numbers["return_mean"])
    assert (tmp_path / "best.ckpt").exists()
    # Two training batches, then the evaluation, twice: evaluation mode without gradients, and back again.
    training, playing = (True, False, True), (False, False, False)
    assert module.modes == [training, training, playing] * 2


@pytest.mark.parametrize(
    ("epochs", "every", "options", "played"),
    [(5, 2, {}, 3), (4, 2, {}, 2), (-1, 100, {"max_steps": 3}, 1), (1, 7, {}, 1)],
)
def test_callback_plays_every_n_epochs_and_after_the_last(tmp_path, epochs, every, options, played):
    _, module = fit(tmp_path, epochs, [evaluator(every_n_epochs=every, repeats=1)], **options)
    assert sum(not training for training, _, _ in module.modes) == played


def test_tasks_without_anchors_log_no_score(tmp_path):
    trainer, _ = fit(tmp_path, 1, [evaluator(anchors=None)])
    assert "validation/score" not in trainer.callback_metrics
    assert "validation/return_mean" in trainer.callback_metrics


def test_shares_of_several_processes_make_the_same_evaluation(monkeypatch):
    starts = evaluation_starts(Corridor, 3, 3, stream="validation")
    whole = evaluate(Walker(), Corridor, starts, memory=1)
    sent = []  # what each process tells the others: its episodes, then its seconds

    def alone(value):
        sent.append(value)
        raise StopIteration

    monkeypatch.setattr(callback_module, "gathered", alone)
    for rank in (0, 1):
        with pytest.raises(StopIteration):
            evaluator()._play(Module(), starts, rank, 2)
    assert [len(share) for share in sent] == [5, 4]
    answers = iter([list(sent), [2.0, 5.0]])
    monkeypatch.setattr(callback_module, "gathered", lambda _: next(answers))
    together = evaluator()._play(Module(), starts, 1, 2)
    assert together.trajectories == whole.trajectories
    assert together.seconds == 5.0


@pytest.mark.slow
def test_two_real_processes_agree_with_one(tmp_path):
    trainer, _ = fit(tmp_path, 1, [evaluator(repeats=3)], devices=2, strategy="ddp_spawn")
    expected = evaluate(Walker(), Corridor, evaluation_starts(Corridor, 3, 3, stream="validation"), memory=1)
    mean = trainer.callback_metrics["validation/return_mean"].item()
    assert mean == pytest.approx(expected.summary(ANCHORS)["return_mean"])


def test_callback_says_what_is_wrong():
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        evaluator(repeats=0)
    with pytest.raises(TypeError, match="has no policy"):
        callback_module._policy(pl.LightningModule())
