"""Small properties that only mutation testing (scripts/mutants.py) found to be unchecked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader
from worlds import Sights, byte_level, random_lm

from lmrl.callbacks.resume import EndAtStep, Reseed
from lmrl.data.parallel import save_shards
from lmrl.data.store import fingerprint, load, save
from lmrl.datamodules.rows import ResumableLoader
from lmrl.functional import return_share, warmup_then
from lmrl.models.optim import Muon
from lmrl.modules.base import frozen
from lmrl.modules.bc import BC
from lmrl.modules.ilql import ILQL
from lmrl.policies.core import Action, Request
from lmrl.policies.decoding import GuidedLogits
from lmrl.rollout import Start, rollout
from lmrl.runs.folders import config_hash
from lmrl.tasks.maze.env import Maze
from lmrl.tasks.maze.recipe import SubMazeRecipe
from lmrl.text.tokens import collate, tokenize
from lmrl.text.trajectory import Trajectory, Turn, windows
from lmrl.tracking.core import NoTracker, RunIdentity, evaluation_metrics

COMMON: dict[str, Any] = {"optimizer": torch.optim.SGD, "steps": 4, "max_new_tokens": 6}


# Losses and schedules


def test_the_share_of_returns_falls_from_one_to_its_end() -> None:
    shares = [return_share(step, steps=2, decay=4, share=0.2) for step in range(8)]
    assert shares == pytest.approx([1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert [return_share(step, steps=1, decay=0, share=0.5) for step in range(3)] == [1.0, 0.5, 0.5]


def test_the_learning_rate_warms_up_and_then_decays_to_its_floor() -> None:
    def factors(decay: Any) -> list[float]:
        factor = warmup_then(decay, warmup_steps=2, total_steps=6, floor=0.25)
        return [factor(step) for step in range(8)]

    assert factors("constant") == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    half = 0.25 + 0.75 / 2
    cosine = [0.5, 1.0, 1.0, half + 0.75 / 8**0.5, half, half - 0.75 / 8**0.5, 0.25, 0.25]
    assert factors("cosine") == pytest.approx(cosine)
    exponential = [0.5, 1.0, *(0.25 ** (step / 4) for step in range(5)), 0.25]
    assert factors("exponential") == pytest.approx(exponential)


def test_ilql_bootstraps_only_where_something_follows_and_is_known() -> None:
    """Where all values are c, a target is r at the end of an episode and r + gamma c elsewhere: by hand."""
    codec, value, gamma = byte_level(), -3.0, 0.5
    module = ILQL(
        lm=lambda: random_lm("gpt2", codec.size), codec=codec, gamma=gamma, discount_per="turn", expectile=0.7,
        cql_weight=0.0, polyak=0.1, beta=1.0, head_bias=value, **COMMON,
    )  # fmt: skip

    def q_loss(*, terminated: bool, has_reply: bool) -> float:
        turns = (Turn("sight\n", False), Turn("a\n", True, -1.0), Turn("other\n", False), Turn("a\n", True, -2.0))
        turns += (Turn("last\n", False),) if has_reply else ()
        rows = [tokenize(window, codec) for window in windows(Trajectory(turns, terminated), 1)]
        batch = collate(rows, pad_id=codec.pad_id)
        return float(module.loss(batch)[1]["q"].detach())

    tokens = len(codec.encode("a\n"))  # before its last token an action neither earns nor discounts: no error
    first, at_the_end, before_a_state = ((value - y) ** 2 for y in (-1 + gamma * value, -2, -2 + gamma * value))
    ended, open_end = q_loss(terminated=True, has_reply=False), q_loss(terminated=False, has_reply=True)
    assert tokens > 1
    assert ended == pytest.approx((first + at_the_end) / (2 * tokens))
    assert open_end == pytest.approx((first + before_a_state) / (2 * tokens))
    # Where the recording breaks off, nothing is known about the last token, and it does not count.
    assert q_loss(terminated=False, has_reply=False) == pytest.approx(first / (2 * tokens - 1))


def test_guidance_adds_values_times_their_strength() -> None:
    prior, values = torch.tensor([[0.5, 0.3, 0.2]]).log() + 4.0, torch.tensor([[1.0, 0.0, -2.0]])
    guided = GuidedLogits.by_values(prior, values, beta=3.0)
    torch.testing.assert_close(guided.prior.exp(), torch.tensor([[0.5, 0.3, 0.2]]))
    torch.testing.assert_close(guided.logits - guided.prior, torch.tensor([[3.0, 0.0, -6.0]]))


def test_a_frozen_network_neither_learns_nor_drops_out() -> None:
    network = frozen(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))
    assert not any(part.training for part in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())


def test_muon_shrinks_the_matrices_that_it_steps() -> None:
    matrix = nn.Parameter(torch.eye(3))
    matrix.grad = torch.zeros(3, 3)
    Muon([{"params": [matrix], "matrices": True}], lr=0.5, weight_decay=0.1).step()
    torch.testing.assert_close(matrix.detach(), torch.eye(3) * 0.95)


# Training and resuming


class Draws(pl.LightningModule):
    """Notes a random number of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.drawn: dict[int, list[float]] = {}

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.drawn.setdefault(self.current_epoch, []).append(float(torch.rand(())))
        return (self.weight * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder: Path, *callbacks: pl.Callback, epochs: int) -> Draws:
    module = Draws()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=list(callbacks), default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(torch.ones(8), batch_size=2))
    return module


def test_each_epoch_draws_from_a_seed_of_its_own(tmp_path: Path) -> None:
    drawn, again, other = (fit(tmp_path, Reseed(seed=seed), epochs=2).drawn for seed in (5, 5, 6))
    assert drawn == again
    assert len({*drawn[0], *drawn[1], *other[0], *other[1]}) == 16


def test_training_ends_at_its_step_within_an_epoch(tmp_path: Path) -> None:
    drawn = fit(tmp_path, EndAtStep(steps=6), epochs=5).drawn
    assert {epoch: len(numbers) for epoch, numbers in drawn.items()} == {0: 4, 1: 2}


def test_a_loader_continues_where_another_one_was() -> None:
    def loader() -> ResumableLoader:
        return ResumableLoader(list(range(6)), batch_size=2)  # type: ignore[arg-type]

    whole = [[0, 1], [2, 3], [4, 5]]
    left = loader()
    batches = iter(left)
    assert [next(batches).tolist(), next(batches).tolist()] == whole[:2]
    resumed = loader()
    resumed.load_state_dict(left.state_dict())
    assert [batch.tolist() for batch in resumed] == whole[2:]
    assert resumed.state_dict() == {"place": 0}
    assert [batch.tolist() for batch in resumed] == whole


def test_the_token_count_comes_back_from_a_checkpoint() -> None:
    codec = byte_level()

    def module() -> BC:
        return BC(lm=lambda: random_lm("gpt2", codec.size), codec=codec, **COMMON)

    checkpoint: dict[str, Any] = {}
    trained, resumed = module(), module()
    trained.tokens_trained = 1234
    trained.on_save_checkpoint(checkpoint)
    resumed.on_load_checkpoint(checkpoint)
    assert resumed.tokens_trained == 1234


# Records


def test_the_first_status_of_a_run_counts(tmp_path: Path) -> None:
    tracker = NoTracker()
    with tracker.run(RunIdentity("toy", "bc", "tiny", 0, "3fa9c1"), config={}, folder=tmp_path) as log:
        log.finish("interrupted")
    assert tracker.status == "interrupted"


def test_an_interval_has_a_low_and_a_high_end() -> None:
    numbers = evaluation_metrics({"evaluation": {"return_mean": -2.0, "return_ci95": [-3.5, -1.5], "score": None}})
    ends = {"evaluation/return_ci95_low": -3.5, "evaluation/return_ci95_high": -1.5}
    assert numbers == {"evaluation/return_mean": -2.0, **ends}


def test_metrics_that_json_does_not_know_are_null(tmp_path: Path) -> None:
    with NoTracker().run(RunIdentity("toy", "bc", "tiny", 0, "3fa9c1"), config={}, folder=tmp_path) as log:
        log.log_metrics({"loss": float("nan"), "norm": float("inf"), "return": -1.0}, 3)
        assert log.metrics is not None
        assert log.metrics.rows() == [{"step": 3, "loss": None, "norm": None, "return": -1.0}]


def test_a_fingerprint_covers_task_version_and_recipe() -> None:
    known: dict[str, Any] = {"task": "maze", "env_version": "1", "recipe": {"seed": 0, "parts": 3}}
    others = [known | {"task": "chess"}, known | {"env_version": "2"}, known | {"recipe": {"seed": 1, "parts": 3}}]
    assert fingerprint(**known) == fingerprint(**known | {"recipe": {"parts": 3, "seed": 0}})
    assert len({fingerprint(**one) for one in (known, *others)}) == 4


def test_files_of_another_recipe_are_not_continued(tmp_path: Path) -> None:
    """Two recipes may write to one folder; the second one makes all of its episodes, not the rest of them."""
    first, second = (SubMazeRecipe(env=Maze, task="maze", trajectories=9, seed=seed) for seed in (0, 1))

    def interrupt(episodes: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        save_shards(first, tmp_path / "data", processes=1, published=None, on_episodes=interrupt)
    assert list(tmp_path.glob(".*/*.sums.json"))
    save_shards(second, tmp_path / "data", processes=1, published=None, on_episodes=lambda episodes: None)
    assert load(tmp_path / "data").trajectories == list(second)


def test_a_bit_that_flipped_on_the_disk_is_noticed(tmp_path: Path) -> None:
    turns = (Turn("a quixotic zebra\n", False), Turn("pet it\n", True, -1.0), Turn("it purrs\n", False))
    names: dict[str, Any] = {"task": "zoo", "policy": "visitor", "env_version": "1", "recipe": {}}
    folder = save([Trajectory(turns, terminated=True)], tmp_path / "data", **names)
    (file,) = folder.glob("*.parquet")
    content = bytearray(file.read_bytes())
    content[content.index(b"quixotic")] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file}, after row 0: damaged"):
        load(folder)


def test_keys_that_are_null_change_no_digest() -> None:
    config = {"seed": 0, "task": {"name": "maze"}}
    assert config_hash(config) == config_hash(
        {**config, "algo": {"extra": None}, "task": {"name": "maze", "own": None}}
    )
    assert config_hash(config) != config_hash({**config, "algo": {"extra": 1}})


# Episodes


def test_padding_is_never_predicted() -> None:
    codec = byte_level()
    short, long = (Turn("sight\n", False), Turn("a\n", True)), (Turn("a longer sight\n", False), Turn("a\n", True))
    rows = [tokenize(next(windows(Trajectory(turns, terminated=True), None)), codec) for turns in (short, long)]
    _, _, tokens, _ = collate(rows, pad_id=codec.pad_id).predicted()
    assert tokens.tolist() == [*codec.encode("sight\n")[1:], *codec.encode("a longer sight\n")[1:]]


class Listener:
    """Notes what each request says was earned so far."""

    def __init__(self) -> None:
        self.earned: list[float] = []

    def act(self, requests: Sequence[Request]) -> list[Action]:
        self.earned += [request.earned for request in requests]
        return [Action("x" * (2 + request.turn)) for request in requests]


def test_a_request_says_how_much_was_earned() -> None:
    policy = Listener()
    rollout(Sights, policy, [Start(0, {"turns": 4})], memory=1)
    assert policy.earned == [0.0, 2.0, 5.0, 9.0]  # an action earns its length
