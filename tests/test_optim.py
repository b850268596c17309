"""Muon: what it does to matrices, and that everything else is AdamW's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from worlds import byte_level, random_lm

from lmrl.experiment.materials import build_materials
from lmrl.experiment.stage import build_module
from lmrl.experiment.task import load_task
from lmrl.models.backbone import trunk
from lmrl.models.optim import Muon, orthogonalized
from lmrl.modules.archer import ArCHer
from lmrl.modules.ppo import PPO


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), seed=st.integers(0, 1000))
def test_orthogonalized_keeps_directions_and_evens_out_their_sizes(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rank = min(rows, columns)
    u, _ = torch.linalg.qr(torch.randn(rows, rank, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(columns, rank, generator=generator))
    sizes = 0.1 + torch.rand(rank, generator=generator)
    found = orthogonalized(u * sizes @ v.T)
    inner = u.T @ found @ v
    assert torch.allclose(u @ inner @ v.T, found, atol=1e-4)
    assert torch.allclose(inner - torch.diag(inner.diagonal()), torch.zeros_like(inner), atol=1e-4)
    assert 0.6 < float(inner.diagonal().min()) <= float(inner.diagonal().max()) < 1.3
    assert torch.allclose(orthogonalized((u * sizes @ v.T).T), found.T, atol=1e-4)


def parts(seed: int = 0) -> tuple[nn.Parameter, nn.Parameter]:
    """Return an embedding and a matrix, both with gradients."""
    generator = torch.Generator().manual_seed(seed)
    found = nn.Parameter(torch.randn(7, 4, generator=generator)), nn.Parameter(torch.randn(8, 32, generator=generator))
    for parameter in found:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return found


def muon(embedding: nn.Parameter, matrix: nn.Parameter, **settings: Any) -> Muon:
    return Muon([{"params": [embedding]}, {"params": [matrix], "matrices": True}], lr=0.01, **settings)


def test_everything_but_matrices_is_stepped_as_adamw_does() -> None:
    (ours, matrix), (theirs, _) = parts(), parts()
    optimizer, reference = muon(ours, matrix), torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), weight_decay=0)
    for step in range(3):
        ours.grad, theirs.grad = parts(step)[0].grad, parts(step)[0].grad
        optimizer.step()
        reference.step()
    assert torch.equal(ours, theirs)


def test_the_first_step_of_a_matrix_is_its_orthogonalized_gradient_at_the_stated_size() -> None:
    embedding, matrix = parts()
    before = matrix.detach().clone()
    assert matrix.grad is not None
    muon(embedding, matrix, matrix_scale=2.0).step()
    moved = before - matrix.detach()
    assert torch.allclose(moved, 0.02 * 32**0.5 * orthogonalized(matrix.grad), atol=1e-5)
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.02, rel=0.2)


def test_momentum_carries_a_matrix_on() -> None:
    embedding, matrix = parts()
    optimizer = muon(embedding, matrix, momentum=0.5)
    first = matrix.grad
    optimizer.step()
    before, second = matrix.detach().clone(), parts(1)[1].grad
    assert first is not None
    assert second is not None
    matrix.grad = second
    optimizer.step()
    expected = orthogonalized(second + 0.5 * (0.5 * first + second))
    assert torch.allclose(before - matrix.detach(), 0.015 * 32**0.5 * expected, atol=1e-5)


def test_a_restored_optimizer_goes_on_as_if_it_had_not_stopped() -> None:
    whole, cut = parts(), parts()
    first, second = muon(*whole), muon(*cut)
    for optimizer in (first, second):
        optimizer.step()
    restored = muon(*cut)
    restored.load_state_dict(second.state_dict())
    for optimizer in (first, restored):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


def test_weight_decay_shrinks_matrices_only() -> None:
    """GPT-2 of two layers, width 16: per layer four matrices; two norms and four biases are vectors, and so on."""
    codec = byte_level()
    module = PPO(lm=lambda: random_lm("gpt2", codec.size), codec=codec, gamma=0.9, steps=1,
                 optimizer=partial(torch.optim.AdamW, lr=0.5, weight_decay=0.1))  # fmt: skip
    optimizer = module.configure_optimizers()["optimizer"]
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    decayed = {names.pop(id(p)) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    kinds, layers = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"), range(module.lm.config.n_layer)
    assert decayed == {f"lm.transformer.h.{i}.{kind}.weight" for i in layers for kind in kinds} | {"v.output.weight"}
    left = {names.pop(id(p)) for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    assert {"lm.transformer.wte.weight", "lm.transformer.wpe.weight", "v.output.bias"} < left
    assert len(left) == 2 + 8 * len(layers) + 2 + 1  # embeddings; vectors of layers; last norm; bias of V
    assert not names
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        module.v.output.bias.fill_(3.0)
    optimizer.step()
    assert module.v.output.bias.item() == 3.0  # the initial value, which no gradient has moved


def test_weight_decay_spares_the_embeddings_of_a_critic() -> None:
    codec = byte_level()
    module = ArCHer(lm=lambda: random_lm("llama", codec.size), codec=codec, gamma=0.9, steps=1, round_steps=1,
                    critic_share=1.0, optimizer=partial(torch.optim.AdamW, weight_decay=0.1))  # fmt: skip
    optimizer = module.configure_optimizers()["optimizer"]
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert "critic.q_heads.0.output.weight" in decayed
    assert not [name for name in decayed if "embed" in name or "norm" in name or "bias" in name]
    assert sorted(names) == sorted(id(p) for group in optimizer.param_groups for p in group["params"])


def test_a_stage_has_its_own_optimizer_for_the_matrices_of_its_trunk(compose: Callable, data_dir) -> None:
    cfg = compose("task=wordle", "algo=mc_returns", "task.dataset.recipe.trajectories=60", f"data_dir={data_dir}")
    materials = build_materials(cfg, load_task(cfg.task))
    prior = build_module(cfg.algo.prior, materials)
    optimizer = prior.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, Muon)
    assert optimizer.defaults["lr"] == pytest.approx(cfg.model.optimizer.lr * cfg.algo.prior.lr_scale)
    inner = {id(p) for group in optimizer.param_groups if group.get("matrices") for p in group["params"]}
    named = {name for name, p in trunk(prior.lm).named_parameters() if id(p) in inner}
    kinds, layers = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"), range(cfg.model.lm.layers)
    expected = {f"h.{i}.{kind}.weight" for i in layers for kind in kinds}
    assert named == expected
    every = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in prior.parameters() if p.requires_grad)
