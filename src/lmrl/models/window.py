"""How many tokens a model can read, by its configuration."""

from collections.abc import Iterable, Iterator
from typing import Any

_POSITIONS = ("max_position_embeddings", "max_seq_len", "max_target_positions")


def positions(config: Any) -> int | None:
    """Return for how many positions a model is made. `None`: any number, as far as its configuration tells."""
    own = text_part(config)
    return min((int(value) for name in _POSITIONS if (value := getattr(own, name, None))), default=None)


def readable(config: Any) -> int | None:
    """Return how many tokens a model reads alike at once and step by step. `None`: as many as memory holds.

    Layers with a sliding window are used within that window only, where they equal full attention; rotary positions
    that change beyond some length are used up to it.
    """
    return min((limit for limit in (positions(config), *_other_limits(text_part(config))) if limit), default=None)


def readable_by_all(trunks: Iterable[Any]) -> int | None:
    """Return how many tokens each of several transformers reads."""
    return min((limit for trunk in trunks if (limit := readable(trunk.config)) is not None), default=None)


def text_part(config: Any) -> Any:
    """Return the configuration of the language model inside one that also sees or hears."""
    return config.get_text_config(decoder=True)


def _other_limits(config: Any) -> Iterator[int]:
    """Yield the lengths beyond which a model computes in another way."""
    if "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"]):
        yield int(getattr(config, "sliding_window", None) or 0)
    if "local" in (getattr(config, "attention_layers", None) or ()):
        yield int(config.window_size)
    rotary = getattr(config, "rope_parameters", None) or {}
    for part in (rotary, *(value for value in rotary.values() if isinstance(value, dict))):
        if part.get("rope_type") in ("dynamic", "longrope"):
            yield int(part.get("original_max_position_embeddings") or 0)
