"""Training computes the numbers that acting computes: without padding, in one precision, and without dropout."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM, XGLMConfig, XGLMForCausalLM
from worlds import Sights, byte_level, disturb, random_lm, split_bytes

from lmrl.config.checks import ConfigError
from lmrl.datamodules.online import OnlineDataModule
from lmrl.experiment.hardware import resolve_precision
from lmrl.models import backbone, loading, tokenizer
from lmrl.models.cache import evaluation
from lmrl.models.heads import ValueHead
from lmrl.modules.archer import ArCHer
from lmrl.modules.awr import AWR
from lmrl.modules.bc import BC
from lmrl.modules.dpo import DPO
from lmrl.modules.grpo import GRPO
from lmrl.modules.ppo import PPO
from lmrl.modules.rcbc import RCBC
from lmrl.modules.rloo import RLOO
from lmrl.policies.scripted import RandomPolicy
from lmrl.rollout import Start, rollout
from lmrl.text.tokens import TokenTrajectory, collate, tokenize
from lmrl.text.trajectory import Trajectory, windows

COMMON: dict[str, Any] = {"optimizer": torch.optim.SGD, "steps": 4, "max_new_tokens": 6}
OFFSET = -33.0
LORA = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}


def rows_of(played: Sequence[Trajectory], codec: Any) -> list[list[TokenTrajectory]]:
    return [[tokenize(window, codec) for window in windows(one, None)] for one in played]


# The row of a pad token that the model did not have


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 without a pad token, all of whose logits lie around -33, as those of `gpt2` and `gpt2-medium` do."""
    folder, codec = tmp_path_factory.mktemp("low"), split_bytes()
    codec.tokenizer.pad_token = codec.tokenizer.eos_token
    codec.tokenizer.save_pretrained(folder)
    lm = random_lm("gpt2", codec.size)
    lm.config.initializer_range = 0.02  # which the new row would be drawn with
    with torch.no_grad():
        lm.transformer.wte.weight[:, 0] = 1.0
        lm.transformer.ln_f.weight[0], lm.transformer.ln_f.bias[0] = 0.0, OFFSET
    lm.save_pretrained(folder)
    return folder


def test_a_new_row_is_as_likely_as_the_others(low: Path) -> None:
    codec = tokenizer.load(path=str(low))
    lm: Any = loading.pretrained(codec, path=str(low))
    assert lm.get_output_embeddings().weight.shape[0] == codec.size == codec.pad_id + 1
    with torch.no_grad():
        logits = lm(input_ids=torch.arange(5, 25)[None]).logits[0]
    known = logits[:, : codec.pad_id]
    assert float(known.mean()) == pytest.approx(OFFSET, abs=1)
    torch.testing.assert_close(logits[:, codec.pad_id], known.mean(-1), atol=0.05, rtol=0)
    again: Any = loading.pretrained(codec, path=str(low))
    assert torch.equal(again.get_output_embeddings().weight, lm.get_output_embeddings().weight)


IMITATE: dict[str, Callable[..., Any]] = {
    "bc": BC,
    "filtered_bc": partial(BC, least_return=-1e9),
    "rcbc": RCBC,
    "awr": partial(AWR, advantage="returns", advantage_temperature=1e9, max_weight=1.0, gamma=1.0),
}


@pytest.mark.parametrize("lora", [None, LORA], ids=["whole", "lora"])
@pytest.mark.parametrize("name", IMITATE)
def test_imitation_begins_with_the_probabilities_that_were_acted_with(name: str, lora: dict | None, low: Path) -> None:
    """Over all ids, or with a row that was never trained, the loss would be about 33 nats more."""
    codec = tokenizer.load(path=str(low))
    lm: Any = loading.pretrained(codec, path=str(low), lora=lora)
    with torch.no_grad():  # whatever the new row is: nobody says it
        lm.get_output_embeddings().weight[codec.pad_id, 0] = 0.0
    module = IMITATE[name](lm=lambda: lm, codec=codec, **COMMON)
    played = rollout(Sights, module.sampler(), [Start(seed) for seed in range(4)], memory=None)
    batch = collate([row for rows in rows_of(played, codec) for row in rows], pad_id=codec.pad_id)
    acted = [value for one in played for turn in one.turns for value in turn.log_probs or ()]
    if name.startswith(("awr", "filtered")):
        extra = {"returns" if name == "awr" else "imitated": torch.ones_like(batch.weight)}
        batch.extras.update(extra)
    assert len(acted) > 40
    assert float(module.loss(batch)[1]["bc"].detach()) == pytest.approx(-np.mean(acted), abs=1e-3)


def test_dpo_and_a_reranker_read_the_probabilities_that_were_acted_with(low: Path) -> None:
    codec = tokenizer.load(path=str(low))
    module: Any = DPO(lm=lambda: loading.pretrained(codec, path=str(low)), codec=codec, beta=0.1, **COMMON)
    played = rollout(Sights, module.sampler(), [Start(seed) for seed in range(4)], memory=None)
    with torch.no_grad():
        module.lm.get_output_embeddings().weight[codec.pad_id, 0] = 0.0
    batch = collate([row for rows in rows_of(played, codec) for row in rows], pad_id=codec.pad_id)
    acted = torch.tensor([value for one in played for turn in one.turns for value in turn.log_probs or ()])
    hidden = module.hidden(module.lm, batch)[batch.row, batch.position]
    for found in (module._reference(batch)["reference"], module.token_scores((hidden,), batch.action)):
        torch.testing.assert_close(found.detach(), acted.float(), atol=1e-3, rtol=0)


# One precision


def fit(module: Any, codec: Any, precision: str, watch: Callable[[Any], None]) -> None:
    """Train for one round with a learning rate of 0, and let somebody look at each batch where losses are computed."""
    played = rollout(Sights, RandomPolicy(actions=["one\n"]), [Start(i) for i in range(3)], memory=None)
    data = OnlineDataModule(env=Sights, trajectories=played, codec=codec, memory=None, rollouts=8, group=2,
                            batch_size=5, steps_per_epoch=3, seed=5, max_new_tokens=6)  # fmt: skip
    loss = module.loss

    def watched(batch: Any) -> Any:
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16-mixed")
        watch(batch)
        return loss(batch)

    module.loss = watched
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    pl.Trainer(
        accelerator="cpu", precision=precision, max_epochs=1, use_distributed_sampler=False,  # type: ignore[arg-type]
        enable_model_summary=False, reload_dataloaders_every_n_epochs=1, **quiet,
    ).fit(module, data)  # fmt: skip


STILL: dict[str, Any] = {**COMMON, "optimizer": partial(torch.optim.SGD, lr=0.0)}
ROUNDS: dict[str, Callable[..., Any]] = {
    "ppo": partial(PPO, gamma=0.9),
    "grpo": partial(GRPO, group=2),
    "rloo": partial(RLOO, group=2),
}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ROUNDS)
def test_ratios_are_one_before_anything_was_learned(name: str, precision: str) -> None:
    codec, drift = byte_level(), []
    module = ROUNDS[name](lm=lambda: random_lm("gpt2", codec.size), codec=codec, **STILL)

    @torch.no_grad()
    def watch(batch: Any) -> None:
        drift.append(module.action_log_probs(module.lm, batch) - batch.extras["old_log_probs"])

    fit(module, codec, precision, watch)
    moved = torch.cat(drift).double()
    assert len(moved) > 60
    assert float((moved.expm1() - moved).mean()) < 1e-6  # PPO's approx_kl
    assert float(moved.abs().max()) < (1e-4 if precision == "32-true" else 0.02)


def test_archer_trains_the_actor_and_judges_in_mixed_precision() -> None:
    """Samples are drawn inside the step; what they left behind must not cut the actor's gradient."""
    codec, found = byte_level(), []
    module: Any = ArCHer(lm=lambda: random_lm("gpt2", codec.size), codec=codec, gamma=0.9, round_steps=3,
                         critic_share=0.3, head_bias=-60.0, **STILL)  # fmt: skip
    disturb(module)

    def watch(batch: Any) -> None:
        said, _ = module.speak(batch)
        log_probs = module.action_log_probs(module.lm, said)
        (gradient,) = torch.autograd.grad(log_probs.sum(), module.lm.transformer.h[0].mlp.c_fc.weight)
        with torch.no_grad():
            hidden = module.hidden(module.critic.lm, said)[said.row, said.position]
            values = module.critic.vs(hidden)
            with torch.autocast("cpu", enabled=False):
                exact = module.critic.vs(hidden)
        found.append((float(gradient.abs().max()), float((values - exact).abs().max()), values.dtype))

    fit(module, codec, "bf16-mixed", watch)
    assert min(gradient for gradient, _, _ in found) > 0
    assert max(error for _, error, _ in found) == 0
    assert {dtype for _, _, dtype in found} == {torch.float32}


@pytest.mark.parametrize("read", ["head", "lm_head"])
def test_what_is_read_from_hidden_states_is_not_rounded(read: str) -> None:
    """In bfloat16 numbers around -60 are multiples of 1/4."""
    codec = byte_level()
    lm = random_lm("llama", codec.size)
    head = ValueHead(width=32, outputs=1, hidden=True, bias=-60.0)
    disturb(head)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        states = backbone.hidden_states(lm, torch.arange(5, 30)[None])
        found: Tensor = head(states) if read == "head" else backbone.lm_logits(lm, states)
    with torch.no_grad():
        exact = head(states.float()) if read == "head" else lm.lm_head(states.float())
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "transformer-engine"])
def test_weights_of_16_bits_are_refused(precision: str) -> None:
    """A target at .9 that follows 1 at the paper's rate stands still in bfloat16."""
    slow = torch.tensor(0.9, dtype=torch.bfloat16)
    assert torch.equal(torch.lerp(slow, torch.ones_like(slow), 0.005), slow)
    with pytest.raises(ConfigError, match=rf"^hardware\.precision={precision} .*use bf16-mixed"):
        resolve_precision(precision)


# Dropout


SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 360}
SIZES |= {"max_position_embeddings": 256, "ffn_dim": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}


def drops(folder: Path, family: str) -> Path:
    """A model that drops a tenth of everything, read from its configuration in each forward pass."""
    byte_level().tokenizer.save_pretrained(folder)
    if family == "opt":
        OPTForCausalLM(OPTConfig(**SIZES, word_embed_proj_dim=32, layerdrop=0.3)).save_pretrained(folder)
    else:
        names = {"d_model": 32, "num_layers": 2, "attention_heads": 4, "layerdrop": 0.3}
        XGLMForCausalLM(XGLMConfig(**SIZES, **names)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["opt", "xglm"])
def test_without_dropout_the_first_ratios_are_one(family: str, tmp_path: Path) -> None:
    codec, folder = byte_level(), drops(tmp_path, family)
    module = PPO(lm=lambda: loading.pretrained(codec, path=str(folder)), codec=codec, gamma=0.9, **COMMON)
    assert module.lm.training
    played = rollout(Sights, RandomPolicy(actions=["one\n", "three\n"]), [Start(i) for i in range(6)], memory=None)
    batch = collate(module.prepare(rows_of(played, codec)), pad_id=codec.pad_id)
    _, logs = module.loss(batch)
    assert abs(float(logs["approx_kl"])) < 1e-9
    assert logs["clip_fraction"] == 0


def test_dropout_that_is_asked_for_takes_place(tmp_path: Path) -> None:
    codec, folder = byte_level(), drops(tmp_path, "opt")
    tokens = torch.arange(5, 30)[None]

    def differ(**options: Any) -> bool:
        lm = loading.pretrained(codec, path=str(folder), **options)
        return not torch.equal(*(backbone.hidden_states(lm, tokens) for _ in range(2)))

    assert [differ(), differ(dropout=0.2), differ(dropout=None)] == [False, True, True]
    with pytest.raises(ValueError, match=r"^model\.lora\.lora_dropout=0\.1 contradicts model\.lm\.dropout=0"):
        loading.pretrained(codec, path=str(folder), lora={**LORA, "lora_dropout": 0.1})
    assert differ(dropout=None, lora={**LORA, "lora_dropout": 0.1})


def test_parts_keep_their_own_mode() -> None:
    frozen, trained = nn.Linear(1, 1).eval(), nn.Linear(1, 1)
    both = nn.Sequential(frozen, trained)
    with evaluation((both,)):
        assert not any(part.training for part in both.modules())
    assert [part.training for part in (both, frozen, trained)] == [True, False, True]
