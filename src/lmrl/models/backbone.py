"""Causal language models of any architecture: build, split into trunk and head, save."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lmrl.config.types import NonNegative, Seed, Size
from lmrl.models.window import readable
from lmrl.text.codec import Codec

_WHITE_SPACE = str.maketrans("", "", "ĠĊ")
"""Space and line break as byte-level tokenizers write them."""


def from_scratch(
    codec: Codec,
    *,
    layers: Size = 2,
    width: Size = 128,
    heads: Size = 4,
    window: Size = 1024,
    positions: Literal["absolute", "relative"] = "absolute",
    init_scale: NonNegative = 1.0,
    spelled: bool = False,
    seed: Seed = 0,
) -> nn.Module:
    """Build a small transformer with random weights for the tokenizer's vocabulary.

    Its weights are drawn with standard deviation `init_scale / sqrt(width)`: GPT-2's fixed 0.02 is made for widths
    near 1,000, and at width 128 the embeddings of single digits drown (measured: learning starts 3 times later).

    Args:
        codec: the tokenizer, whose size is the vocabulary.
        layers: transformer blocks.
        width: size of the hidden states, a multiple of `heads`.
        heads: attention heads of a block.
        window: the longest sequence.
        positions: `absolute`, a GPT-2, which learns a vector for each place; or `relative`, a Llama, whose attention
            sees how far apart two tokens are (rotary), and learns such a pattern once for all places.
        init_scale: scale of the initial weights.
        spelled: whether tokens of several characters begin as the sum of vectors for each character at its place, so
            that words are alike as far as their letters are, and ranks of a board as far as their squares are.
        seed: seed of the initial weights, apart from all other randomness.

    Raises:
        ValueError: the width is no multiple of the heads, or `positions` is neither of the two.
    """
    from transformers import AutoModelForCausalLM

    if width % heads:
        raise ValueError(f"model.lm.width={width} must be a multiple of model.lm.heads={heads}")
    end = codec.tokenizer.eos_token_id
    common: Any = {
        "vocab_size": codec.size, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "max_position_embeddings": window, "initializer_range": init_scale / width**0.5, "use_cache": False,
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": codec.pad_id,
    }  # fmt: skip
    config = _configuration(positions, width, common)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lm = AutoModelForCausalLM.from_config(config)
        if spelled:
            _spell(lm, codec, init_scale / width**0.5)
        return lm


@torch.no_grad()
def _spell(lm: Any, codec: Codec, scale: float) -> None:
    """Let the vectors of tokens of several characters begin as sums over their characters.

    White space is left out: it stands between characters, and would make all tokens alike.
    """
    vectors: dict[tuple[int, str], Tensor] = {}
    embeddings = {id(m.weight): m.weight for m in (lm.get_input_embeddings(), lm.get_output_embeddings())}
    for token, i in sorted(codec.tokenizer.get_vocab().items(), key=lambda item: item[1]):
        characters = token.translate(_WHITE_SPACE)
        if len(characters) < 2 or i in codec.tokenizer.all_special_ids:
            continue
        for place in enumerate(characters):
            if place not in vectors:
                vectors[place] = torch.randn(lm.config.hidden_size) * scale
        total = torch.stack([vectors[place] for place in enumerate(characters)]).sum(0) / len(characters) ** 0.5
        for weight in embeddings.values():
            weight[i] = total


def _configuration(positions: str, width: int, common: dict[str, Any]) -> Any:
    """Return the configuration of a new model, by how it sees where tokens stand."""
    from transformers import GPT2Config, LlamaConfig

    if positions == "absolute":
        return GPT2Config(
            **common,
            activation_function="gelu_pytorch_tanh",  # the same function as GPT-2's gelu_new, fused: faster on CPUs
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
    if positions == "relative":
        # Three matrices of 8/3 width each in GPT-2's place of two of 4: as many weights.
        return LlamaConfig(**common, intermediate_size=8 * width // 3, tie_word_embeddings=False)
    raise ValueError(f"model.lm.positions={positions!r}: expected absolute or relative")


def trunk(lm: Any) -> nn.Module:
    """Return the transformer without its language-model head; adapters stay in place."""
    inner = lm.get_base_model() if hasattr(lm, "get_base_model") else lm
    return inner.base_model


def parameter_groups(lm: Any) -> list[dict[str, Any]]:
    """Return the trained parameters of a language model, as groups for an optimizer.

    The weight matrices inside the trunk, which turn one hidden state into another, are a group with `matrices: true`,
    which some optimizers treat in another way. The first group are embeddings, biases and the weights of norms, which
    no weight decay shrinks.
    """
    inner = matrices(trunk(lm))
    special = {id(p) for p in inner}
    outer = [p for p in lm.parameters() if p.requires_grad and id(p) not in special]
    return [{"params": outer, "weight_decay": 0.0}, {"params": inner, "matrices": True}]


def head_groups(module: nn.Module, lm: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Return the trained parameters of a module besides its language model, as groups for an optimizer; none is empty.

    Args:
        module: the whole module.
        lm: the language model, which `parameter_groups` takes.
        lr: the learning rate of the rest.
    """
    own, special = {id(p) for p in lm.parameters()}, {id(p) for p in matrices(module)}
    heads = [p for p in module.parameters() if p.requires_grad and id(p) not in own]
    decayed, others = [p for p in heads if id(p) in special], [p for p in heads if id(p) not in special]
    groups: list[dict[str, Any]] = [{"params": decayed, "lr": lr}, {"params": others, "lr": lr, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def matrices(module: nn.Module) -> list[nn.Parameter]:
    """Return the trained weight matrices of a module; an embedding is not one, as it multiplies nothing."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    return [p for p in module.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in embeddings]


def lm_logits(lm: Any, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
    """Apply the language-model head to hidden states of the trunk.

    It computes in the precision of its weights, also where the transformer computes in less: a logit of -30 in bfloat16
    is a multiple of 1/8, and a temperature below 1 multiplies the error.
    """
    head = lm.get_output_embeddings()
    with torch.autocast(hidden.device.type, enabled=False):
        return head(hidden.to(head.weight.dtype))


def hidden_states(lm: Any, tokens: Tensor) -> Float[Tensor, "B T D"]:
    """Run the trunk over right-padded rows.

    No attention mask is needed: padding stands behind all real tokens, and attention is causal.
    """
    return trunk(lm)(input_ids=tokens, use_cache=False).last_hidden_state


def width(lm: Any) -> int:
    """Return the size of the last hidden states, the input of the head."""
    return int(lm.get_output_embeddings().weight.shape[1])


def vocabulary(lm: Any) -> int:
    """Return how many logits the head gives; it may be padded beyond the tokenizer's size."""
    return int(lm.get_output_embeddings().weight.shape[0])


def window(lm: Any) -> int | None:
    """Return the longest sequence that the model reads alike in training and while acting. `None`: unlimited."""
    return readable(lm.config)


def save(lm: Any, codec: Codec, folder: Any) -> None:
    """Write model and tokenizer as a Hugging Face folder; adapters are merged into the weights."""
    from transformers import GenerationConfig

    if hasattr(lm, "merge_and_unload"):
        import copy

        lm = copy.deepcopy(lm).merge_and_unload()
    lm.save_pretrained(folder)
    # So that plain `generate` ends where an action ends.
    GenerationConfig(eos_token_id=sorted(codec.stop_ids), pad_token_id=codec.pad_id).save_pretrained(folder)
    codec.tokenizer.save_pretrained(folder)
