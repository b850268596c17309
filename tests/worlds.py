"""Small environments, tokenizers and random models that several tests share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lmrl.envs.core import StepResult, TextEnv
from lmrl.models.heads import ValueHead
from lmrl.policies.core import Action, Policy, Request
from lmrl.policies.decoding import Decoding
from lmrl.policies.language_model import LanguageModelPolicy
from lmrl.text.codec import Codec
from lmrl.text.trajectory import Turn

torch.set_num_threads(1)  # threads that wait for each other cost more than these small tensors take

WORDS = ("apple", "boat", "cloud", "dune", "elm", "a longer phrase, of several words")
TEXTS = [f"You see {a}; you said {n} letters, it's {b}.\n" for a in WORDS for b in WORDS for n in range(0, 40, 3)]


class Sights(TextEnv):
    """Shows random sights for a number of turns that the seed, or the option `turns`, decides."""

    def __init__(self, *, memory_of_actions: int = 0) -> None:
        super().__init__()
        self.memory_of_actions = memory_of_actions
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int((options or {}).get("turns", self.np_random.integers(2, 7)))
        return self.look(""), {}

    def look(self, action: str) -> str:
        a, b = self.np_random.choice(WORDS, 2)
        return f"You see {a}; you said {len(action)} letters, it's {b}.\n"

    def step(self, action: str) -> StepResult:
        self.left -= 1
        is_invalid = len(action) % 2 == 1
        info = {"success": len(action) > 5, "is_invalid": is_invalid, "left": self.left, "picture": object()}
        return self.look(action), float(len(action)), self.left == 0, False, info

    def close(self) -> None:
        self.closed = True


class Talk(Sights):
    """The same, but a partner writes what is seen."""

    def __init__(self, *, partner: Policy) -> None:
        super().__init__()
        self.partner = partner

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        first, info = super().reset(seed=seed, options=options)
        self.said = [Turn(first, is_action=True)]
        self.seed = int(self.np_random.integers(2**40))
        return first, info

    def address(self, action: str) -> Request:
        self.said.append(Turn(action, is_action=False))
        return Request(tuple(self.said), seed=self.seed, turn=len(self.said) // 2)

    def judge(self, reply: Action) -> StepResult:
        self.said.append(Turn(reply.text, is_action=True, tokens=reply.tokens))
        self.left -= 1
        return f"The partner says: {reply.text}\n", -1.0, self.left == 0, False, {}

    def step(self, action: str) -> StepResult:
        return self.judge(self.partner.act([self.address(action)])[0])


def byte_level() -> Codec:
    """Build a byte-level BPE tokenizer with GPT-2's word splitting."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXTS, trainer)
    return Codec(PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=special[0], eos_token=special[1]))


def metaspace() -> Codec:
    """Build a SentencePiece-like unigram tokenizer, which puts a space in front of each text."""
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=220,
        special_tokens=special,
        unk_token="<unk>",
        initial_alphabet=[chr(i) for i in range(33, 127)] + ["\n"],
        show_progress=False,
    )
    raw.train_from_iterator(TEXTS, trainer)
    return Codec(
        PreTrainedTokenizerFast(
            tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    )


def split_bytes() -> Codec:
    """Build a BPE tokenizer with Qwen's normalisation and splitting: single digits, line breaks with what precedes."""
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(TEXTS, trainer)
    return Codec(PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=special[0], eos_token=special[2]))


CODECS = {"gpt2": byte_level, "llama": metaspace, "qwen2": split_bytes}


def random_lm(
    family: str, vocabulary: int, *, seed: int = 0, window: int = 512, width: int = 32, layers: int = 2
) -> Any:
    """Build a small random model whose next-token distribution depends strongly on what it reads."""
    sizes: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 1, "initializer_range": 0.3, "vocab_size": vocabulary}
    sizes |= {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4}
    rope: dict[str, Any] = {"intermediate_size": 2 * width, "max_position_embeddings": window, **sizes}
    gpt2: dict[str, Any] = {"n_positions": window, "activation_function": "gelu_pytorch_tanh", **sizes}
    gpt2 |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)  # or no two readings of a text are equal
    makers = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**gpt2)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **rope)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, **rope)),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return makers[family]().eval()


def save_pretrained_model(folder: Path, family: str, *, window: int = 512, pad_token: bool = True) -> Path:
    """Write a small random model with its own tokenizer, as a user would have it on disk."""
    codec = CODECS[family]()
    if not pad_token:  # as GPT-2 has none: the end-of-text token stands in its place
        codec.tokenizer.pad_token = codec.tokenizer.eos_token
    codec.tokenizer.save_pretrained(folder)
    random_lm(family, codec.size, window=window).save_pretrained(folder)
    return folder


def language_policy(
    lm: Any, codec: Codec, *, decoding: Decoding | None = None, max_new_tokens: int = 6
) -> LanguageModelPolicy:
    """Build the plain policy of a language model."""
    return LanguageModelPolicy(
        trunks=(lm.base_model,),
        next_logits=lambda hidden: lm.get_output_embeddings()(hidden[0]),
        codec=codec,
        decoding=decoding or Decoding(),
        max_new_tokens=max_new_tokens,
    )


def disturb(module: nn.Module) -> None:
    """Give value heads, which start at a constant, something to say."""
    for head in module.modules():
        if isinstance(head, ValueHead):
            nn.init.normal_(head.output.weight, generator=torch.Generator().manual_seed(0))
