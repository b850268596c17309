"""What must hold for every algorithm on every task; both are found by their YAML files."""

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import names, trained
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from lmrl.datamodules.offline import OfflineDataModule
from lmrl.experiment.earlier import StageStore, with_earlier_stages
from lmrl.experiment.materials import build_materials
from lmrl.experiment.stage import Trained, build_stage, fit
from lmrl.experiment.task import load_task
from lmrl.models.backbone import lm_logits, trunk
from lmrl.models.heads import ValueHead
from lmrl.modules.base import Algorithm
from lmrl.policies.core import Request
from lmrl.policies.exactness import check_log_probs
from lmrl.policies.language_model import LanguageModelPolicy
from lmrl.rollout import Start, rollout
from lmrl.text.tokens import TokenBatch, collate
from lmrl.text.trajectory import Turn

ALGOS, TASKS = trained(), names("task")


def small(stage: DictConfig) -> None:
    """Shorten a stage, and those before it, to a few steps on a few rows."""
    stage.steps, stage.steps_per_epoch = 6, 2
    sizes = {"batch_size": 8, "rollouts": 4 if "group" not in stage.module else 2 * stage.module.group, "slots": 8}
    with open_dict(stage):
        for name, size in sizes.items():
            if name in stage.datamodule and stage.datamodule[name] is not None:
                stage.datamodule[name] = size
    for limit in {"max_steps", "max_moves"} & set(stage.datamodule.get("env", {})):
        stage.datamodule.env[limit] = 6  # an untrained model goes nowhere, at length
    for earlier in ("prior", "critic"):
        if stage.get(earlier):
            small(stage[earlier])


@pytest.fixture(scope="session")
def pair(compose: Callable, data_dir: Path) -> Callable[[str, str], SimpleNamespace]:
    """Build a pair of task and algorithm from its YAML files, on few trajectories."""

    @functools.cache
    def built(task_name: str, algo_name: str) -> SimpleNamespace:
        cfg = compose(f"task={task_name}", f"algo={algo_name}", f"data_dir={data_dir}", "algo.datamodule.filter=null",
                      "task.dataset.recipe.trajectories=30")  # fmt: skip
        task = load_task(cfg.task)
        small(cfg.algo)
        materials = with_earlier_stages(cfg.algo, StageStore.of(cfg, task_name, "30"), build_materials(cfg, task))
        module, datamodule = build_stage(cfg.algo, materials)
        rows = module.prepare(datamodule.episodes())
        return SimpleNamespace(cfg=cfg, task=task, module=module, rows=rows, codec=materials.codec, materials=materials)

    return built


@pytest.fixture(params=[(task, algo) for task in TASKS for algo in ALGOS], ids=lambda pair: f"{pair[0]}-{pair[1]}")
def built(request: pytest.FixtureRequest, pair: Callable) -> SimpleNamespace:
    return pair(*request.param)


@pytest.fixture(
    params=[(task, algo) for task in TASKS for algo in ALGOS if task == "maze" or algo in ("bc", "ilql", "ppo")],
    ids=lambda pair: f"{pair[0]}-{pair[1]}",
)
def agreeing(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Each algorithm on one task, and on each task one policy of each kind: clone, guided prior, online learner."""
    return request.param


@pytest.fixture(params=ALGOS)
def algorithm(request: pytest.FixtureRequest, pair: Callable) -> SimpleNamespace:
    """Each algorithm once, with fresh weights."""
    found = pair("maze", request.param)
    module, _ = build_stage(found.cfg.algo, found.materials)
    return SimpleNamespace(**{**vars(found), "module": module})


def batch_of(found: SimpleNamespace, count: int = 16) -> TokenBatch:
    return collate(found.rows[:count], pad_id=found.codec.pad_id)


def wake(module: Algorithm) -> None:
    """Give value heads weights: at zero, as they start, they let no gradient through, and may already be right."""
    for head in module.modules():
        if isinstance(head, ValueHead):
            torch.nn.init.normal_(head.output.weight, std=0.1)


def test_every_pair_computes_a_loss_and_acts(built: SimpleNamespace) -> None:
    wake(built.module)
    loss, logs = built.module.loss(batch_of(built))
    assert torch.isfinite(loss)
    loss.backward()
    gradients = [p.grad for p in built.module.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    # Methods that compare the episodes of a start have nothing to learn from where all earned the same.
    advantages = [row.extras["advantages"] for row in built.rows[:16] if "advantages" in row.extras]
    is_level = bool(advantages) and not any(advantage.any() for advantage in advantages)
    assert is_level or sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    built.module.zero_grad()
    assert all(torch.isfinite(value).all() for value in logs.values())
    env = built.task.make_env()
    observation, _ = env.reset(seed=0)
    requests = [Request((Turn(observation, False),), slot=slot, seed=slot) for slot in range(3)]
    actions = built.module.policy().act(requests)
    assert len(actions) == 3
    assert all(action.tokens and len(action.tokens) <= built.cfg.task.max_new_tokens for action in actions)


def test_the_loss_falls_on_one_batch(algorithm: SimpleNamespace) -> None:
    module, batch = algorithm.module, batch_of(algorithm)
    wake(module)
    optimizer = instantiate(algorithm.cfg.model.optimizer, lr=1e-3)([p for p in module.parameters() if p.requires_grad])
    first = None
    for _ in range(30):
        loss, _ = module.loss(batch)
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        module.after_step()
    assert loss.item() < first - max(0.1 * abs(first), 1e-3)  # a clipped objective cannot fall further than by its clip


def test_padding_and_company_change_nothing(algorithm: SimpleNamespace) -> None:
    """Each row alone, or all in one batch among longer rows: the weighted mean of the losses is the same."""
    module = algorithm.module
    module.non_action_weight = 0.0  # a loss over actions, whose weights are known here
    rows = sorted({row.key: row for row in algorithm.rows}.values(), key=lambda row: len(row.tokens))
    chosen = [rows[0], rows[len(rows) // 2], rows[-1]]
    with torch.no_grad():
        together, _ = module.loss(collate(chosen, pad_id=algorithm.codec.pad_id))
        alone = [module.loss(collate([row], pad_id=algorithm.codec.pad_id))[0] for row in chosen]
    weights = torch.tensor([float(row.is_decision.sum()) for row in chosen])
    expected = (torch.stack(alone) * weights).sum() / weights.sum()
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-5)


def test_no_gradient_reaches_tokens_after_the_last_decision(algorithm: SimpleNamespace) -> None:
    """What stands behind all decisions, and padding, cannot influence a loss over actions alone."""
    module = algorithm.module
    if hasattr(module, "critic_steps"):
        # Its critic reads whole utterances, and its actor speaks anew: test_archer.py compares them by brute force.
        return
    module.non_action_weight = 0.0
    wake(module)
    batch = batch_of(algorithm, 4)
    embedding = module.lm.get_input_embeddings()
    seen: list[torch.Tensor] = []
    hook = embedding.register_forward_hook(lambda _m, _i, output: (output.retain_grad(), seen.append(output))[1])
    loss, _ = module.loss(batch)
    loss.backward()
    hook.remove()
    gradient = seen[0].grad.abs().sum(-1)
    assert len(gradient) == batch.trained_rows  # a successor's value is a target, never a way for gradients
    for row in range(batch.trained_rows):
        last = int(batch.is_decision[row].nonzero().max())
        assert gradient[row, last:].sum() == 0
        assert gradient[row, :last].sum() > 0


@pytest.mark.parametrize("algo", [name for name in ALGOS if name in ("ilql", "mc_returns")])
def test_the_initial_policy_is_the_prior(pair: Callable, algo: str) -> None:
    found = pair("maze", algo)
    module, _ = build_stage(found.cfg.algo, found.materials)
    assert module.beta > 0
    batch = batch_of(found)
    guided = module.policy()
    plain = LanguageModelPolicy(
        trunks=(trunk(module.prior),), next_logits=lambda hidden: lm_logits(module.prior, hidden[0]),
        codec=found.codec, decoding=guided.decoding, max_new_tokens=8,
    )  # fmt: skip
    torch.testing.assert_close(guided.log_probs(batch), plain.log_probs(batch), rtol=0, atol=1e-5)


def test_state_dict_holds_all_networks(algorithm: SimpleNamespace) -> None:
    """A fresh module that loads the weights of a trained one computes the same loss and actions, targets included."""
    module, batch = algorithm.module, batch_of(algorithm)
    wake(module)
    optimizer = instantiate(algorithm.cfg.model.optimizer, lr=1e-2)([p for p in module.parameters() if p.requires_grad])
    for _ in range(3):
        optimizer.zero_grad()
        module.loss(batch)[0].backward()
        optimizer.step()
        module.after_step()
    fresh, _ = build_stage(algorithm.cfg.algo, algorithm.materials)
    with torch.no_grad():
        assert not torch.equal(fresh.loss(batch)[0], module.loss(batch)[0])
        fresh.load_state_dict(module.state_dict())
        assert torch.equal(fresh.loss(batch)[0], module.loss(batch)[0])
    for ours, theirs in zip(module.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class Killed(BaseException):
    """What ends a training from outside."""


class KillAt(pl.Callback):
    """End a training in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *unused: object) -> None:
        if trainer.global_step == self.step:
            raise Killed


def test_a_killed_training_resumes_to_the_same_end(algorithm: SimpleNamespace, tmp_path: Path) -> None:
    """Every network, target, buffer, optimizer state and count is what it would have been without interruption."""

    def train(name: str, *callbacks: pl.Callback) -> Trained:
        module, datamodule = build_stage(algorithm.cfg.algo, algorithm.materials)
        return fit(algorithm.cfg.algo, algorithm.materials, module, datamodule, name=name, folder=tmp_path / name,
                   callbacks=callbacks)  # fmt: skip

    whole = train("whole")
    with pytest.raises(Killed):
        train("broken", KillAt(5))
    expected = torch.load(whole.latest, weights_only=True)
    for _ in ("in the middle", "at the end"):  # where it goes on: evaluations are interrupted too
        resumed = train("broken")
        assert resumed.trainer.global_step == whole.trainer.global_step == 6
        assert resumed.interactions == whole.interactions
        assert resumed.report["tokens"] == whole.report["tokens"] > 0
        ending = torch.load(resumed.latest, weights_only=True)
        for part in ("state_dict", "optimizer_states", "lr_schedulers"):
            torch.testing.assert_close(ending[part], expected[part], rtol=0, atol=0)
        for name, value in resumed.module.state_dict().items():
            assert torch.equal(value, expected["state_dict"][name])
    start, _ = build_stage(algorithm.cfg.algo, algorithm.materials)
    moved = [not torch.equal(a, b) for a, b in zip(start.parameters(), whole.module.parameters(), strict=True)]
    assert any(moved)


def test_a_reranker_proposes_only_what_it_was_given(algorithm: SimpleNamespace) -> None:
    module = algorithm.module
    module.rerank = {"proposals": ["move up\n", "move down\n"], "temperature": 0}
    env = algorithm.task.make_env()
    requests = [Request((Turn(env.reset(seed=seed)[0], False),), seed=seed) for seed in range(4)]
    assert {action.text for action in module.policy().act(requests)} <= {"move up\n", "move down\n"}


def test_acting_and_training_agree_on_log_probabilities(
    agreeing: tuple[str, str], pair: Callable[[str, str], SimpleNamespace]
) -> None:
    """What was played token by token with a cache has the same log-probabilities in training's one forward pass."""
    built = pair(*agreeing)
    task, policy = built.task, built.module.policy()
    starts = [Start(seed) for seed in range(5)]
    limits = {name: 12 for name in ("max_steps", "max_moves") if name in built.cfg.task.env}
    played = rollout(lambda: task.make_env(**limits), policy, starts, memory=task.memory, slots=2)
    worst = check_log_probs(
        played, policy.log_probs, codec=built.codec, memory=task.memory, tolerance=1e-4, seen=built.module.as_shown
    )
    assert worst < 1e-4
    assert sum(len(turn.tokens or ()) for trajectory in played for turn in trajectory.turns) > 30


def test_a_pool_of_one_leaves_batches_as_they_are_drawn(pair: Callable[[str, str], SimpleNamespace]) -> None:
    it = pair("wordle", "ilql")
    spreads = []
    for pool in (16, 1):
        datamodule = OfflineDataModule(
            trajectories=it.materials.trajectories,
            codec=it.codec,
            memory=None,
            batch_size=5,
            steps_per_epoch=6,
            seed=0,
            pool=pool,
        )
        trainer = SimpleNamespace(lightning_module=it.module, global_rank=0, world_size=1)
        datamodule.trainer = trainer  # type: ignore[assignment]
        datamodule.setup("fit")
        spreads.append(np.mean([np.ptp(batch.lengths.numpy()) for batch in datamodule.train_dataloader()]))
    assert spreads[0] < spreads[1]
