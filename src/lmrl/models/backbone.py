"""Causal language models of any architecture: build, load, split into trunk and head."""

import contextlib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lmrl.hub import check_path
from lmrl.hyperparameters import NonNegative, PathText, Seed, Share, Size
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


def pretrained(
    codec: Codec, *, path: PathText, lora: Mapping[str, Any] | None = None, dropout: Share | None = 0.0
) -> nn.Module:
    """Load a causal language model from the Hub or a folder, with room for the tokenizer's pad token.

    Args:
        codec: the tokenizer that goes with it.
        path: Hub id or folder.
        lora: arguments of `peft.LoraConfig`, to train low-rank adapters instead of all weights. `None`: all weights.
        dropout: probability for every dropout layer; 0 keeps the log-probabilities of rollouts and training equal.
            `None` leaves the model's own.

    Raises:
        ValueError: no such model, an architecture without a causal-LM form, or one whose output is not its head
            applied to its trunk's last hidden state.
    """
    from transformers import AutoModelForCausalLM

    check_path(path)
    try:
        lm: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"model.path={path!r} cannot be loaded as a causal language model: {error}") from error
    if codec.size > lm.get_input_embeddings().num_embeddings:
        with torch.random.fork_rng(devices=[]), contextlib.suppress(AttributeError):
            torch.manual_seed(0)  # the new pad embedding is never read, but checkpoints should not depend on chance
            lm.resize_token_embeddings(codec.size, mean_resizing=False)
    lm.config.use_cache = False
    if dropout is not None:
        for layer in lm.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = dropout
    _check_split(lm)
    if lora is not None:
        from peft import LoraConfig, get_peft_model

        lm = get_peft_model(lm, LoraConfig(task_type="CAUSAL_LM", **lora))
    return lm


def trunk(lm: Any) -> nn.Module:
    """Return the transformer without its language-model head; adapters stay in place."""
    inner = lm.get_base_model() if hasattr(lm, "get_base_model") else lm
    return inner.base_model


def parameter_groups(lm: Any) -> list[dict[str, Any]]:
    """Return what is trained of a language model, as groups for an optimizer.

    The weight matrices inside the trunk, which turn one hidden state into another, are a group with `matrices: true`,
    which some optimizers treat in another way. Embeddings are in the first group.
    """
    layers = [m for m in trunk(lm).modules() if not isinstance(m, nn.Embedding)]
    inner = [p for m in layers for p in m.parameters(recurse=False) if p.requires_grad and p.ndim == 2]
    special = {id(p) for p in inner}
    outer = [p for p in lm.parameters() if p.requires_grad and id(p) not in special]
    return [{"params": outer}, {"params": inner, "matrices": True}]


def lm_logits(lm: Any, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
    """Apply the language-model head to hidden states of the trunk."""
    return lm.get_output_embeddings()(hidden)


def hidden_states(lm: Any, tokens: Tensor) -> Float[Tensor, "B T D"]:
    """Run the trunk over right-padded rows.

    No attention mask is needed: padding stands behind all real tokens, and attention is causal.
    """
    return trunk(lm)(input_ids=tokens, use_cache=False).last_hidden_state


def width(lm: Any) -> int:
    """Return the size of the hidden states."""
    return int(lm.config.hidden_size)


def vocabulary(lm: Any) -> int:
    """Return how many logits the head gives; it may be padded beyond the tokenizer's size."""
    return int(lm.get_output_embeddings().weight.shape[0])


def window(lm: Any) -> int | None:
    """Return the longest sequence that the model can read. `None`: unlimited, as far as its config tells."""
    limit = getattr(lm.config, "max_position_embeddings", None)
    return None if limit is None else int(limit)


def save(lm: Any, codec: Codec, folder: Any) -> None:
    """Write model and tokenizer as a Hugging Face folder; adapters are merged into the weights."""
    if hasattr(lm, "merge_and_unload"):
        import copy

        lm = copy.deepcopy(lm).merge_and_unload()
    lm.save_pretrained(folder)
    codec.tokenizer.save_pretrained(folder)


@torch.no_grad()
def _check_split(lm: Any) -> None:
    """Make sure that logits are the head of the trunk's hidden states (some architectures rescale or cap them)."""
    was_training = lm.training
    lm.eval()
    tokens = torch.arange(1, 5)[None]
    split = lm_logits(lm, hidden_states(lm, tokens))
    whole = lm(input_ids=tokens, use_cache=False).logits
    lm.train(was_training)
    if not torch.allclose(split, whole, atol=1e-4, rtol=1e-4):
        raise ValueError(
            f"{type(lm).__name__} changes its logits after the language-model head (scaling or soft-capping); "
            "lmrl reads policies and values from the same hidden states and cannot use such a model"
        )
