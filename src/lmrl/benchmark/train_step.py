"""Time ILQL's training step next to plain Hugging Face code, after making sure that both compute the same."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lmrl.benchmark.reference import PlainBatch, PlainILQL, plain_collate
from lmrl.benchmark.timing import Leg, Timing, interleave, matrix_product, median, ratios, timed
from lmrl.benchmark.workloads import Workload
from lmrl.experiment.hardware import cpu_has_fast_bf16
from lmrl.models.backbone import trunk, vocabulary, width
from lmrl.text.tokens import TokenBatch, TokenTrajectory, collate

TOLERANCE = 1e-4
"""Largest difference of the two losses, relative to the loss where that is above 1."""

Step = Callable[[Sequence[TokenTrajectory]], Tensor]
"""One whole training step from a batch of rows; returns the loss."""


def compare(workload: Workload, repeats: int) -> dict[str, Any]:
    """Check that both sides compute the same, time them in turn, and return the report.

    Raises:
        ValueError: the losses differ, so that a comparison of speeds would mean nothing.
    """
    difference = check_losses(workload)
    steps = {
        "plain": plain_step(workload, PlainILQL(workload.module)),
        "lmrl": lmrl_step(workload, copy.deepcopy(workload.module)),
    }
    legs: dict[str, Leg] = {name: _over_batches(workload, step) for name, step in steps.items()}
    legs["trainer"] = _lightning(workload)
    peaks = dict.fromkeys(legs, "peak")
    legs["peak"], operations = matrix_product(torch.float32)
    if cpu_has_fast_bf16():
        step = lmrl_step(workload, copy.deepcopy(workload.module), precision=torch.bfloat16)
        legs["lmrl bf16"] = _over_batches(workload, step)
        legs["peak bf16"], _ = matrix_product(torch.bfloat16)
        peaks["lmrl bf16"] = "peak bf16"
    timings = interleave(legs, repeats)
    return {
        "name": workload.name,
        "description": workload.description,
        "loss_difference": difference,
        "steps": len(workload.batches),
        "tokens_sampled": workload.tokens,
        "peak_gflops": {n: operations / median(timings[n]).cpu / 1e9 for n in timings if n.startswith("peak")},
        "sides": {
            name: _side(workload, name, timings[name], operations / median(timings[peak]).cpu)
            for name, peak in peaks.items()
        },
        "plain_over": {name: ratios(timings["plain"], timings[name]) for name in peaks if name != "plain"},
    }


def _side(workload: Workload, name: str, timings: list[Timing], peak: float) -> dict[str, Any]:
    """Return the numbers of one side."""
    middle, sampled = median(timings), workload.tokens
    computed, operations = 0, 0.0
    for rows in workload.batches:
        merged = rows if name == "plain" else list({row.key: row for row in rows}.values())
        batch = collate(rows, pad_id=workload.pad_id)
        successors = batch.lengths[batch.row_weight == 0].tolist()
        if name == "plain":
            successors = _plain_batch(workload, rows).successor_mask.sum(1).tolist()
        lengths = [len(row.tokens) for row in merged]
        computed += sum(lengths) + sum(successors)
        decisions = sum(int(row.is_decision.sum()) for row in merged)
        operations += model_operations(workload.module, lengths, successors, decisions)
    return {
        "wall_seconds": [t.wall for t in timings],
        "cpu_seconds": [t.cpu for t in timings],
        "tokens_computed": computed,
        "sampled_tokens_per_second": sampled / middle.wall,
        "computed_tokens_per_second": computed / middle.wall,
        "cpu_seconds_per_1000_sampled_tokens": 1000 * middle.cpu / sampled,
        "cpu_seconds_per_1000_computed_tokens": 1000 * middle.cpu / computed,
        "model_operations": operations,
        "utilisation": operations / middle.cpu / peak,
    }


def model_operations(module: Any, lengths: Sequence[int], successors: Sequence[int], decisions: int) -> float:
    """Count the floating-point operations that the method needs for some rows, whoever computes them.

    Matrix products of the transformer and its attention (each token with those up to it): one pass forward and one of
    twice that cost backward for rows, one forward for the target, one forward for successor states. Heads where
    decisions are. Further work of a side (padding, heads elsewhere, gradients that nobody needs) counts as time
    only.
    """
    body = trunk(module.lm)
    tables = {id(layer.weight) for layer in body.modules() if isinstance(layer, nn.Embedding)}
    matrices = sum(p.numel() for p in body.parameters() if p.dim() == 2 and id(p) not in tables)
    config: Any = body.config

    def forward(tokens: Sequence[int]) -> float:
        attention = sum(2 * n * (n + 1) for n in tokens) * width(module.lm) * config.num_hidden_layers
        return 2.0 * matrices * sum(tokens) + attention

    hidden = width(module.lm) ** 2
    q_head, v_head = 2.0 * (hidden + width(module.lm) * vocabulary(module.lm)), 2.0 * (hidden + width(module.lm))
    heads = decisions * ((3 + 1) * 2 * q_head + (3 + 1) * v_head)
    return (3 + 1) * forward(lengths) + forward(successors) + heads


def check_losses(workload: Workload, steps: int = 3) -> float:
    """Train both sides for some steps from the same weights, and return the largest difference of their losses.

    The first step compares the losses alone, the next ones also gradients, the optimizer and the moving targets.

    Raises:
        ValueError: the difference is above `TOLERANCE`.
    """
    ours, plain = copy.deepcopy(workload.module), PlainILQL(workload.module)
    step, reference = lmrl_step(workload, ours), plain_step(workload, plain)
    largest = 0.0
    for rows in workload.batches[:steps]:
        a, b = float(step(rows)), float(reference(rows))
        largest = max(largest, abs(a - b) / max(1.0, abs(b)))
        if not largest <= TOLERANCE:  # also for NaN
            raise ValueError(f"{workload.name}: lmrl's loss is {a:.6g}, that of the plain code {b:.6g}")
    return largest


def _over_batches(workload: Workload, step: Step) -> Leg:
    """Return a leg that trains with each batch once."""
    return timed(lambda: [step(rows) for rows in workload.batches])


def lmrl_step(workload: Workload, module: Any, precision: torch.dtype | None = None) -> Step:
    """Return lmrl's training step, without Lightning around it.

    Args:
        workload: the setting.
        module: the trained module.
        precision: number format of matrix products. `None`: float32.
    """
    optimizer = module.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]  # neither side has a schedule
    module.train()

    def step(rows: Sequence[TokenTrajectory]) -> Tensor:
        batch = collate(rows, pad_id=workload.pad_id)
        with torch.autocast("cpu", dtype=precision) if precision else nullcontext():
            loss, _ = module.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        if workload.gradient_clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), workload.gradient_clip)
        optimizer.step()
        module.after_step()
        return loss.detach()

    return step


def plain_step(workload: Workload, plain: PlainILQL) -> Step:
    """Return the plain training step: AdamW as it comes, with the same settings."""
    ours = workload.module.configure_optimizers()["optimizer"]
    same = {name: ours.defaults[name] for name in ("betas", "eps", "weight_decay")}
    # The trunk's matrices are a group of their own, at the rate of the rest of the trunk.
    rates = [ours.param_groups[place]["initial_lr"] for place in (0, -1)]  # of the language model, and of the heads
    groups = [{"params": part, "lr": rate} for part, rate in zip(plain.groups(), rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, **same)
    plain.train()

    def step(rows: Sequence[TokenTrajectory]) -> Tensor:
        loss = plain.loss(_plain_batch(workload, rows))
        optimizer.zero_grad()
        loss.backward()
        if workload.gradient_clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), workload.gradient_clip)
        optimizer.step()
        plain.follow()
        return loss.detach()

    return step


def _plain_batch(workload: Workload, rows: Sequence[TokenTrajectory]) -> PlainBatch:
    module = workload.module
    return plain_collate(rows, gamma=module.gamma, per=module.discount_per, pad_id=workload.pad_id)


class Clock(pl.Callback):
    """Times the training loop alone: building a trainer costs nothing in a long run."""

    def __init__(self) -> None:
        self.timing = self._began = Timing.now()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self._began = Timing.now()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Stop it."""
        self.timing = self._began.elapsed()


def _lightning(workload: Workload) -> Leg:
    """Return a leg that trains through Lightning, as `run.py` does."""

    def gather(rows: list[Sequence[TokenTrajectory]]) -> TokenBatch:
        return collate(rows[0], pad_id=workload.pad_id)

    def leg() -> Timing:
        module, clock = copy.deepcopy(workload.module), Clock()
        trainer = pl.Trainer(
            accelerator="cpu", max_steps=len(workload.batches), gradient_clip_val=workload.gradient_clip, logger=False,
            callbacks=[clock], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(list(workload.batches), batch_size=1, collate_fn=gather))  # type: ignore[arg-type]
        return clock.timing

    return leg
