"""The Hugging Face model of a partner on this machine: loaded once per process, and asked many prompts at once.

The reply to a prompt does not depend on the other prompts of a batch (up to rounding): padding is masked, and a sampled
reply is drawn with the numbers of its own episode and turn. Nothing here touches the global state of randomness.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmrl.config.hub import check_path
from lmrl.models.window import positions
from lmrl.partners.prompt import Message, plain
from lmrl.policies.decoding import Decoding, sample
from lmrl.policies.randomness import Uniforms
from lmrl.policies.system_role import without_system
from lmrl.policies.thoughts import Spoken, opening_mark, without_thoughts

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of each file of a model's folder."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The model, and the form in which it is loaded."""

    path: str
    """Hub id or folder."""
    revision: str | None
    """Branch, tag or commit of the Hub's model. `None`: its newest."""
    stamp: Stamp
    """Digest of its folder: weights that were trained further are another model."""
    dtype: str
    """The number format by PyTorch's name."""
    device: str
    """Where it computes, by PyTorch's name."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to answer, with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def is_causal(self) -> bool:
        """Whether it goes on with the prompt, instead of translating it."""
        return not self.model.config.is_encoder_decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerModel:
    """How a model is asked; small, so that it can be pickled: the weights are loaded when they are first needed."""

    weights: Weights
    decoding: Decoding
    max_new_tokens: int
    """Longest reply."""
    max_prompt_tokens: int | None
    """Longest prompt. `None`: as much as the window holds."""
    chat: bool | None
    """Whether prompts are written in the model's chat format. `None`: if it has one."""
    batch_size: int
    """Prompts that are computed at once."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that a reply depends on beside the prompt, as JSON values; the device is not part of it."""
        weights = {name: value for name, value in asdict(self.weights).items() if name not in ("path", "device")}
        limits = {"max_new_tokens": self.max_new_tokens, "max_prompt_tokens": self.max_prompt_tokens}
        return {"model": self.weights.path, **weights, "decoding": asdict(self.decoding), **limits, "chat": self.chat}

    @property
    def writes_chats(self) -> bool:
        """Whether prompts are written in the model's chat format."""
        return bool(load(self.weights).tokenizer.chat_template) if self.chat is None else self.chat

    @property
    def room(self) -> int | None:
        """The longest prompt in tokens. `None`: any.

        Raises:
            ValueError: a reply alone fills the window.
        """
        loaded = load(self.weights)
        limit = positions(loaded.model.config)
        if limit is not None and loaded.is_causal:
            limit -= self.max_new_tokens
            if limit < 1:
                raise ValueError(f"partner.max_new_tokens={self.max_new_tokens} leaves no room in the model's window")
        return min((n for n in (limit, self.max_prompt_tokens) if n is not None), default=None)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a chat, or of the plain text that says the same.

        Raises:
            ValueError: the model's chat format refuses the chat.
        """
        tokenizer = load(self.weights).tokenizer
        if not self.writes_chats:
            return tokenizer(plain(messages)).input_ids
        return tokenizer(self._written(messages), add_special_tokens=False).input_ids  # the format has written them

    @property
    def begun(self) -> str:
        """The mark by which the model's chat format begins a thought for it; or nothing."""
        return opening_mark(self._written(({"role": "user", "content": "?"},))) if self.writes_chats else ""

    def _written(self, messages: Sequence[Message]) -> str:
        """Write a chat in the model's format; the system's text begins the first turn where there is no such role."""
        from jinja2 import TemplateError

        write = partial(load(self.weights).tokenizer.apply_chat_template, add_generation_prompt=True, tokenize=False)
        try:
            text = write([*messages])
        except TemplateError:
            text = ""
        if text and (messages[0]["role"] != "system" or messages[0]["content"] in text):
            return text
        try:
            return write([*without_system(messages)])
        except TemplateError as error:
            raise ValueError(
                f"partner.model: its chat format refuses the prompt: {error}; partner.chat=false writes plain text"
            ) from None

    def generate(
        self, prompts: Sequence[list[int]], streams: Sequence[tuple[int, int]], *, first_line: bool
    ) -> list[Spoken]:
        """Return the model's reply to each prompt, in order, without its thoughts.

        Args:
            prompts: their tokens.
            streams: seed and turn of each, from which sampled replies are drawn.
            first_line: whether a reply may end at its first line break.
        """
        replies = [Spoken("", is_thinking=False, has_thoughts=False)] * len(prompts)
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))  # the least padding
        for first in range(0, len(prompts), self.batch_size):
            some = by_length[first : first + self.batch_size]
            said = self._batch([prompts[i] for i in some], [streams[i] for i in some], first_line)
            for index, reply in zip(some, said, strict=True):
                replies[index] = reply
        return replies

    def _batch(self, prompts: list[list[int]], streams: list[tuple[int, int]], first_line: bool) -> list[Spoken]:
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        loaded, device, begun = load(self.weights), torch.device(self.weights.device), self.begun
        side = "left" if loaded.is_causal else "right"
        rows = loaded.tokenizer.pad({"input_ids": prompts}, padding_side=side, return_tensors="pt").to(device)
        begin = rows.input_ids.shape[1] if loaded.is_causal else 1
        processors = LogitsProcessorList()
        if self.decoding.temperature > 0:
            uniforms = Uniforms()
            drawn = np.stack([uniforms.draw(*stream, self.max_new_tokens) for stream in streams])
            processors.append(_Draw(self.decoding, torch.from_numpy(drawn), begin))
        # A rollout may be part of a training step with mixed precision, which must not change the partner's replies.
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            said = loaded.model.generate(
                input_ids=rows.input_ids,
                attention_mask=rows.attention_mask,
                generation_config=GenerationConfig(max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1),
                logits_processor=processors,
                stopping_criteria=StoppingCriteriaList([_LineEnd(self, begin, begun)] if first_line else []),
            )
        return self.read(said[:, begin:], begun)

    def read(self, tokens: Int[Tensor, "b T"], begun: str) -> list[Spoken]:
        """Return the replies, whether the chat format began them with a mark or with nothing."""
        tokenizer = load(self.weights).tokenizer
        # The marks of thoughts are special tokens of some models, so these are left out last.
        whole = [without_thoughts(begun + text) for text in tokenizer.batch_decode(tokens, skip_special_tokens=False)]
        plain_texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        special = tokenizer.all_special_tokens
        return [
            replace(spoken, text=_without(special, spoken.text) if spoken.has_thoughts else text)
            for spoken, text in zip(whole, plain_texts, strict=True)
        ]


class _Draw:
    """Leaves one token of each row: the one that the row's own number draws from the distribution."""

    def __init__(self, decoding: Decoding, uniforms: Tensor, begin: int) -> None:
        self.decoding, self.uniforms, self.begin = decoding, uniforms, begin

    def __call__(self, input_ids: Int[Tensor, "b T"], scores: Float[Tensor, "b V"]) -> Float[Tensor, "b V"]:
        log_probs = self.decoding.log_probs(scores, torch.ones(scores.shape[-1], dtype=torch.bool))
        numbers = self.uniforms[:, input_ids.shape[1] - self.begin]
        tokens = sample(log_probs, numbers.to(log_probs.device)).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens[:, None], 0.0)


class _LineEnd:
    """Ends each row behind its first line that says something; lines of a thought say nothing."""

    def __init__(self, model: PartnerModel, begin: int, begun: str) -> None:
        self.model, self.begin, self.begun = model, begin, begun

    def __call__(self, input_ids: Int[Tensor, "b T"], scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        said = self.model.read(input_ids[:, self.begin :], self.begun)
        ended = [not spoken.is_thinking and "\n" in spoken.text.lstrip() for spoken in said]
        return torch.tensor(ended, device=input_ids.device)


def _without(parts: Sequence[str], text: str) -> str:
    """Return a text without the given parts."""
    for part in parts:
        text = text.replace(part, "")
    return text


@cache
def load(weights: Weights) -> Loaded:
    """Load a model and its tokenizer, once per process.

    Raises:
        ValueError: there is no such model, or it cannot generate text.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

    where: dict[str, Any] = {"revision": weights.revision or "main"}
    # Loading must not move random numbers: a run in which all replies are on disk never loads anything.
    with torch.random.fork_rng(devices=[]):
        try:
            config: Any = AutoConfig.from_pretrained(weights.path, **where)
            kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            model: Any = kind.from_pretrained(weights.path, dtype=getattr(torch, weights.dtype), **where)
            tokenizer: Any = AutoTokenizer.from_pretrained(weights.path, **where)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"partner.model={weights.path!r} cannot be loaded: {error}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so any token will do
    own = model.generation_config
    # Only the settings for begin and end: the sampling settings of its makers are not used.
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
        forced_bos_token_id=own.forced_bos_token_id,
    )
    return Loaded(model.to(weights.device).eval().requires_grad_(False), tokenizer)


def weights_of(path: str, revision: str | None, *, dtype: str, device: str) -> Weights:
    """Say which model is meant, without loading it.

    Raises:
        ValueError: there is no such folder or device; the message names the setting.
    """
    try:
        check_path(path)
    except ValueError as error:
        raise ValueError(str(error).replace("model.path", "partner.model")) from None
    has_gpu = torch.cuda.is_available()
    device = device if device != "auto" else "cuda" if has_gpu else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"partner.device={device!r} is no device of this machine: {error}") from None
    if dtype == "auto":
        fast = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()
        dtype = "bfloat16" if fast else "float32"
    folder = Path(path).expanduser()
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    stamp = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
    return Weights(str(folder) if folder.is_dir() else path, revision, stamp, dtype, device)
