"""Load pretrained causal language models, and make sure that they can be trained and played."""

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lmrl.config.hub import check_path
from lmrl.config.types import Chance, PathText
from lmrl.models.probe import probe
from lmrl.text.codec import Codec


def pretrained(
    codec: Codec, *, path: PathText, lora: Mapping[str, Any] | None = None, dropout: Chance | None = 0.0
) -> nn.Module:
    """Load a causal language model from the Hub or a folder, with room for the tokenizer's pad token.

    Args:
        codec: the tokenizer that goes with it.
        path: Hub id or folder.
        lora: arguments of `peft.LoraConfig`, to train low-rank adapters instead of all weights. `None`: all weights.
        dropout: probability of all dropout, below 1; 0 switches it off, layers that are left out by chance included,
            and keeps the log-probabilities of rollouts and training equal. `None` leaves the model's own.

    Raises:
        ValueError: no such model, an architecture without a causal-LM form, one that does not pass the probe of the
            training and acting need, or adapters with dropout where there shall be none.
    """
    adapters_drop = (lora or {}).get("lora_dropout")
    if dropout == 0 and adapters_drop:
        raise ValueError(
            f"model.lora.lora_dropout={adapters_drop} contradicts model.lm.dropout=0, which switches all dropout off: "
            "leave it out, or set model.lm.dropout=null to train with the model's and the adapters' own dropout"
        )
    lm = _loaded(path, dropout)
    if codec.size > lm.get_input_embeddings().num_embeddings:
        with torch.random.fork_rng(devices=[]), contextlib.suppress(AttributeError):
            torch.manual_seed(0)  # the new pad embedding is never read, but checkpoints should not depend on chance
            lm.resize_token_embeddings(codec.size)
    lm.config.use_cache = False
    probe(lm, codec, drops=dropout != 0)
    if lora is not None:
        from peft import LoraConfig, get_peft_model

        lm = get_peft_model(lm, LoraConfig(task_type="CAUSAL_LM", **lora))
    return lm.train()  # as a new model is: dropout that is asked for takes place


def _loaded(path: str, dropout: float | None) -> Any:
    """Load a language model, with this probability of all dropout.

    Raises:
        ValueError: there is none.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    check_path(path)
    try:
        config = AutoConfig.from_pretrained(path)
        if dropout is not None:
            set_dropout(config, dropout)
        lm = AutoModelForCausalLM.from_pretrained(path, config=config, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"model.path={path!r} cannot be loaded as a causal language model: {error}") from error
    for layer in lm.modules():
        if isinstance(layer, nn.Dropout) and dropout is not None:
            layer.p = dropout
    return lm


def set_dropout(config: Any, probability: float) -> None:
    """Write a probability of dropout into a configuration, and into those that it contains.

    Many architectures read it from there in each forward pass, and have no dropout layer. Other sources of chance
    in training, whole layers that are left out and the noise of routers, stays as the model's makers chose, or goes
    with all dropout.
    """
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_diff_dict"):
            set_dropout(value, probability)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            is_dropout = "drop" in name and "layer" not in name and "path" not in name
            if is_dropout and probability:
                setattr(config, name, probability)
            elif probability == 0 and ("drop" in name or "jitter" in name):
                setattr(config, name, type(value)(0))
