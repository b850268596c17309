"""Each architecture of transformers acts as it trains, or is refused before anything is trained, with the reason."""

from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build
from worlds import Sights, byte_level, language_policy

from lmrl.models import backbone, loading
from lmrl.models.probe import probe
from lmrl.models.window import readable
from lmrl.policies.exactness import check_log_probs
from lmrl.rollout import Start, rollout

CODEC = byte_level()
SAME_HEADS = {"num_key_value_heads": 4}
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
OWN: dict[str, dict[str, Any]] = {
    "deepseek_v2": SAME_HEADS,
    "deepseek_v3": SAME_HEADS,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 192},
    "hrm_text": {"initializer_range": 0.1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"expand": 2, "head_dim": 16, "num_heads": 4},
    "bamba": {"mamba_n_heads": 4, "mamba_d_head": 16},
    "zamba2": {"layer_types": ["mamba", "hybrid"]},
}
RIGHT = (
    "afmoe", "apertus", "aria_text", "biogpt", "codegen", "ctrl", "deepseek_v2", "deepseek_v3", "diffllama", "emu3",
    "ernie4_5", "exaone4", "falcon", "fuyu", "gemma", "gemma3", "gemma3_text", "glm", "glm4", "got_ocr2", "gpt2",
    "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "helium", "hrm_text",
    "internlm3", "jetmoe", "llama", "minimax_m2", "ministral", "mistral", "mixtral", "mpt", "nemotron", "olmo", "olmo2",
    "olmoe", "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3",
    "stablelm", "starcoder2", "whisper", "xglm",
)  # fmt: skip
CACHE = "a key-value cache, which does not hold layers of type"
STEPS = r"reading step by step with a cache gives other probabilities .* differs by [\d.]+\), so it would act otherwise"
SCALED = "its logits are not its language-model head applied to its last hidden state"
REFUSED = {
    "bamba": CACHE, "falcon_h1": CACHE, "falcon_mamba": CACHE, "jamba": CACHE, "lfm2": CACHE, "llama4": CACHE,
    "llama4_text": CACHE, "mamba": CACHE, "mamba2": CACHE, "qwen3_5": CACHE, "qwen3_next": CACHE, "zamba2": CACHE,
    "recurrent_gemma": CACHE,
    "bart": STEPS, "blenderbot": STEPS, "mbart": STEPS, "pegasus": STEPS, "rwkv": STEPS, "trocr": STEPS,
    "bert": "depends on later tokens", "xlm": "depends on later tokens",
    "cohere": SCALED, "cohere2": SCALED, "gemma2": SCALED, "xlstm": SCALED,
    "bloom": r"reading step by step with a cache fails \(ValueError: too many values to unpack",
    "openai-gpt": r"reading step by step with a cache fails \(RuntimeError",
    "roberta": r"reading 256 tokens fails \(RuntimeError",
    "mllama": "transformers does not tell its transformer from its language-model head",
}  # fmt: skip


@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_accepted_acts_as_it_trains(kind: str) -> None:
    lm = build(kind, CODEC.size, **OWN.get(kind, {}))
    probe(lm, CODEC)
    assert backbone.width(lm) == backbone.hidden_states(lm, torch.arange(5, 8)[None]).shape[-1]
    policy = language_policy(lm, CODEC, max_new_tokens=4)
    played = rollout(Sights, policy, [Start(seed) for seed in range(3)], memory=2, slots=2)
    assert check_log_probs(played, policy.log_probs, codec=CODEC, memory=2, tolerance=1e-4) < 1e-4


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_act_otherwise_is_refused_with_its_reason(kind: str) -> None:
    lm = build(kind, CODEC.size, **OWN.get(kind, {}))
    with pytest.raises(ValueError, match=rf"^{type(lm).__name__} cannot be used: .*{REFUSED[kind]}") as caught:
        probe(lm, CODEC)
    assert "\n" not in str(caught.value)


WINDOWS = {
    "gpt2": ({}, 256),
    "mistral": ({"sliding_window": 20}, 20),
    "qwen2": ({"sliding_window": 20}, 256),
    "gemma3": ({}, 192),
    "gpt_neo": ({"attention_types": [[["global", "local"], 1]], "window_size": 20}, 20),
    "phi3": ({"rope_parameters": LONGROPE, "original_max_position_embeddings": 32}, 32),
    "mpt": ({"max_seq_len": 40}, 40),
    "llama": ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0,
                                   "original_max_position_embeddings": 24}}, 24),
}  # fmt: skip


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_window_is_what_is_read_alike_at_once_and_in_steps(kind: str) -> None:
    """Beyond it, where there is a beyond, the probe finds the difference that the limit is there for."""
    own, expected = WINDOWS[kind]
    lm = build(kind, CODEC.size, **own)
    assert backbone.window(lm) == readable(lm.base_model.config) == expected
    probe(lm, CODEC)


def test_a_window_that_the_configuration_exaggerates_is_found() -> None:
    lm = build("gpt2", CODEC.size)
    lm.config.n_positions = 100_000
    with pytest.raises(ValueError, match=r"allows texts of 100000 tokens, but the model has no position 99999|fails"):
        probe(lm, CODEC)


def test_noise_in_training_is_found() -> None:
    lm = build("gpt2", CODEC.size, attn_pdrop=0.0)
    lm.transformer.h[1].mlp.dropout.p = 0.1
    lm.config.name = "noisy"
    with pytest.raises(ValueError, match="in training mode it computes something else than while acting"):
        probe(lm, CODEC)
    probe(lm, CODEC, drops=True)
    assert not lm.training


def test_a_model_is_probed_when_it_is_loaded_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CODEC.tokenizer.save_pretrained(tmp_path / "bloom")
    build("bloom", CODEC.size).save_pretrained(tmp_path / "bloom")
    with pytest.raises(ValueError, match=r"^BloomForCausalLM cannot be used: "):
        loading.pretrained(CODEC, path=str(tmp_path / "bloom"))
    build("gpt2", CODEC.size, n_positions=72).save_pretrained(tmp_path / "gpt2")
    loading.pretrained(CODEC, path=str(tmp_path / "gpt2"))
    monkeypatch.setattr("lmrl.models.probe._objection", lambda *_: pytest.fail("probed again"))
    before = torch.random.get_rng_state()
    assert loading.pretrained(CODEC, path=str(tmp_path / "gpt2")).training
    assert torch.equal(before, torch.random.get_rng_state())
