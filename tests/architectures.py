"""Tiny random models of many architectures of transformers."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lmrl.models.loading import set_dropout

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim", "encoder_ffn_dim"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "num_heads", "n_routed_experts"), 4),
    **dict.fromkeys(("num_local_experts", "num_experts"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "topk_group"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions"), 256),
    **dict.fromkeys(("initializer_range", "init_std"), 0.3),  # next tokens then depend on what was read
    "rotary_dim": 8, "sliding_window": 192, "n_group": 2, "first_k_dense_replace": 1,
}  # fmt: skip
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
_NO_HEAD_DIM = ("qk_rope_head_dim", "n_head")


def config_of(kind: str, vocabulary: int, **own: Any) -> Any:
    """Return a small configuration of an architecture; fields that it does not have are left out."""
    default = AutoConfig.for_model(kind)

    def fields(config: Any) -> dict[str, Any]:
        wanted = {"vocab_size": vocabulary, **_SIZES, **_SPECIAL}
        if not any(hasattr(config, name) for name in _NO_HEAD_DIM):
            wanted["head_dim"] = 8
        return {
            name: value
            for name, value in wanted.items()
            if hasattr(config, name) and not isinstance(getattr(type(config), name, None), property)
        }

    told = fields(default)
    for name, inner in vars(default).items():
        if hasattr(inner, "to_diff_dict"):
            told[name] = {**fields(inner), "model_type": inner.model_type}
    return AutoConfig.for_model(kind, **{**told, **own})


def build(kind: str, vocabulary: int, **own: Any) -> Any:
    """Build a small random model, without dropout, as `pretrained` loads one."""
    config = config_of(kind, vocabulary, **own)
    set_dropout(config, 0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).float().eval()
