"""A critic: a language model's trunk with heads that read action values, and possibly state values, from it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lmrl.models.backbone import save, vocabulary, width
from lmrl.models.heads import ValueHead
from lmrl.models.loading import pretrained
from lmrl.text.codec import Codec

HEADS = "heads.safetensors"


class Critic(nn.Module):
    """A trunk with heads for the values of all tokens (several, because the smallest overrates least) and of states.

    Args:
        lm: the language model; its own head stays unused.
        qs: heads of action values, at least one.
        v: head of state values. `None`: there is none.
    """

    def __init__(self, lm: nn.Module, qs: Sequence[nn.Module], v: nn.Module | None = None) -> None:
        super().__init__()
        self.lm = lm
        self.q_heads = nn.ModuleList(qs)
        self.v_head = v

    def heads(self) -> dict[str, nn.Module]:
        """Return the heads by the names they are exported under."""
        return {"q": self.q_heads} | ({} if self.v_head is None else {"v": self.v_head})

    def qs(self, states: Float[Tensor, "N D"]) -> list[Float[Tensor, "N V"]]:
        """Return each head's values of all tokens."""
        return [head(states) for head in self.q_heads]

    def smallest(self, states: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        """Return the smallest value of each token over the heads."""
        return torch.stack(self.qs(states)).amin(0)

    def v(self, states: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Return the values of states.

        Raises:
            ValueError: there is no such head.
        """
        if self.v_head is None:
            raise ValueError("this critic has no head for state values")
        return self.v_head(states).squeeze(-1)


def new_critic(lm: nn.Module, *, heads: int = 2, state_values: bool = False, **head: Any) -> Critic:
    """Build a critic whose heads start at a constant.

    Args:
        lm: the language model.
        heads: how many heads of action values.
        state_values: whether there is a head of state values.
        head: further arguments of the heads.
    """
    qs = [ValueHead(width=width(lm), outputs=vocabulary(lm), **head) for _ in range(heads)]
    return Critic(lm, qs, ValueHead(width=width(lm), outputs=1, **head) if state_values else None)


def export_guided(
    folder: Path, *, prior: nn.Module, critic: nn.Module, heads: dict[str, nn.Module], codec: Codec, beta: float
) -> None:
    """Write a value-guided policy: the prior as a Hugging Face folder, the critic below it, its heads as safetensors.

    The folder alone is a plain language model (the prior); `guidance.json` says how the critic guides it.
    """
    from safetensors.torch import save_file

    (folder / "critic").mkdir(parents=True, exist_ok=True)
    save(prior, codec, folder)
    save(critic, codec, folder / "critic")
    weights = {f"{name}.{key}": value for name, head in heads.items() for key, value in head.state_dict().items()}
    save_file({key: value.contiguous().cpu() for key, value in weights.items()}, folder / "critic" / HEADS)
    guidance = {"logits": "log_softmax(prior) + beta * min over q heads of q(critic hidden state)", "beta": beta}
    (folder / "guidance.json").write_text(json.dumps(guidance, indent=2) + "\n", encoding="utf-8")


def load_critic(folder: Path, codec: Codec) -> Critic:
    """Load the critic that a value method exported: a language model, and beside it its heads as safetensors.

    Args:
        folder: the export of a value method, which has a folder `critic`.
        codec: the tokenizer.

    Raises:
        ValueError: there is no critic in the folder, or it has no heads of action values.
    """
    from safetensors.torch import load_file

    path = folder / "critic"
    if not (path / HEADS).is_file():
        raise ValueError(f"{folder} has no critic: expected {path / HEADS}")
    weights = load_file(path / HEADS)
    single = [_head(weights, "q")] if "q.output.weight" in weights else []
    numbered = sorted({int(key.split(".")[1]) for key in weights if key.startswith("q.") and key[2].isdigit()})
    qs = single or [_head(weights, f"q.{index}") for index in numbered]
    if not qs:
        raise ValueError(f"{path / HEADS} has no heads of action values, only {', '.join(sorted(weights))}")
    v = _head(weights, "v") if "v.output.weight" in weights else None
    return Critic(pretrained(codec, path=str(path.resolve())), qs, v)


def _head(weights: dict[str, Tensor], name: str) -> ValueHead:
    """Rebuild the head whose weights begin with a name."""
    own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    outputs, size = own["output.weight"].shape
    head = ValueHead(width=size, outputs=outputs, hidden="hidden.weight" in own)
    head.load_state_dict(own)
    return head
