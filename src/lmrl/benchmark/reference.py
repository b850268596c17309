"""ILQL as one would first write it with Hugging Face: padded rows, masks, three forward passes, heads everywhere.

The mathematics is that of `lmrl.modules.ilql`; of its code only the heads' layers are used, so that equal losses also
prove it right. It is plain in these points: equal rows are computed as often as they occur; successor states have a
forward pass of their own; heads run over all positions and a mask picks the actions; the model has GPT-2's own
activation (`gelu_new`) and writes its cache (`use_cache`), as its defaults have it; AdamW is not fused. It is not made
worse than that: it has no unused language-model head, its rows are padded only to the longest of the batch, and a row
that goes on to its own successor needs no second pass.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmrl.models.backbone import trunk
from lmrl.text.tokens import TokenTrajectory


@dataclass(frozen=True)
class PlainBatch:
    """Right-padded rows [B, T], and the padded successor states [S, U] of those rows that need one."""

    tokens: Int[Tensor, "B T"]
    mask: Int[Tensor, "B T"]
    chosen: Float[Tensor, "B T-1"]
    """1 where the next token is an action's and its successor is known."""
    reward: Float[Tensor, "B T-1"]
    discount: Float[Tensor, "B T-1"]
    next_position: Int[Tensor, "B T-1"]
    """The position of the successor's value in the same row."""
    inside: Float[Tensor, "B T-1"]
    """1 where that position is meant; 0 where nothing or a successor of its own follows."""
    successors: Int[Tensor, "S U"]
    successor_mask: Int[Tensor, "S U"]
    successor_row: Int[Tensor, " S"]
    successor_column: Int[Tensor, " S"]
    """The decision that the successor follows."""


def pad(rows: Sequence[Int[np.ndarray, " _"]], pad_id: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Return right-padded ids and their mask; one row and one column at least."""
    width = max((len(row) for row in rows), default=1)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def plain_collate(rows: Sequence[TokenTrajectory], *, gamma: float, per: str, pad_id: int) -> PlainBatch:
    """Lay rows out as they come."""
    tokens, mask = pad([row.tokens for row in rows], pad_id)
    shape = (tokens.shape[0], tokens.shape[1] - 1)
    chosen, reward, inside = (np.zeros(shape, dtype=np.float32) for _ in range(3))
    discount, next_position = np.full(shape, gamma, dtype=np.float32), np.zeros(shape, dtype=np.int64)
    successors: list[np.ndarray] = []
    places: list[tuple[int, int]] = []
    for index, row in enumerate(rows):
        at = row.is_decision.nonzero()[0] - 1  # the state that chooses a token stands one before it
        chosen[index, at] = 1
        chosen[index, at[-1]] = row.is_known
        reward[index, at] = row.rewards[at + 1]
        next_position[index, at[:-1]] = at[1:]
        inside[index, at[:-1]] = 1
        if per == "turn":
            discount[index, at] = np.where(row.ends_turn, gamma, 1.0)
        follows = row.successor
        if follows is None:
            continue
        if len(follows) > at[-1] + 1 and np.array_equal(row.tokens[: len(follows)], follows):
            next_position[index, at[-1]] = len(follows) - 1
            inside[index, at[-1]] = 1
        else:
            successors.append(follows)
            places.append((index, int(at[-1])))
    ids, successor_mask = pad(successors, pad_id)
    where = torch.tensor(places, dtype=torch.int64).reshape(-1, 2)
    return PlainBatch(
        tokens=tokens,
        mask=mask,
        chosen=torch.from_numpy(chosen),
        reward=torch.from_numpy(reward),
        discount=torch.from_numpy(discount),
        next_position=torch.from_numpy(next_position),
        inside=torch.from_numpy(inside),
        successors=ids,
        successor_mask=successor_mask,
        successor_row=where[:, 0],
        successor_column=where[:, 1],
    )


def plain_trunk(trunk: Any) -> Any:
    """Copy a transformer, with the activation and the cache that a published GPT-2 has."""
    from transformers import AutoModel

    config = copy.deepcopy(trunk.config)
    if getattr(config, "activation_function", None) == "gelu_pytorch_tanh":
        config.activation_function = "gelu_new"
    config.use_cache = True
    model = AutoModel.from_config(config, dtype=torch.float32)
    model.load_state_dict(trunk.state_dict())
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # both sides compute the same function
    return model


class PlainILQL(nn.Module):
    """The critics, their targets, and the loss.

    Args:
        ours: lmrl's module, whose weights are copied.
    """

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.trunk = plain_trunk(trunk(ours.lm))
        self.q1, self.q2 = (copy.deepcopy(head) for head in ours.critic.q_heads)
        self.v = copy.deepcopy(ours.critic.v_head)
        self.target_trunk = plain_trunk(trunk(ours.target.lm)).requires_grad_(False).eval()
        self.target_q1, self.target_q2 = (copy.deepcopy(head) for head in ours.target.q_heads)
        self.expectile, self.cql_weight, self.polyak = ours.expectile, ours.cql_weight, ours.polyak

    def loss(self, batch: PlainBatch) -> Float[Tensor, ""]:
        """Return the objective of one batch."""
        hidden = self.trunk(input_ids=batch.tokens, attention_mask=batch.mask).last_hidden_state
        actions = batch.tokens[:, 1:]
        qs = [head(hidden)[:, :-1] for head in (self.q1, self.q2)]
        values = self.v(hidden).squeeze(-1)
        with torch.no_grad():
            target_hidden = self.target_trunk(input_ids=batch.tokens, attention_mask=batch.mask).last_hidden_state
            targets = [_taken(head(target_hidden)[:, :-1], actions) for head in (self.target_q1, self.target_q2)]
            target_q = torch.minimum(*targets)
            next_value = values.gather(1, batch.next_position) * batch.inside
            if len(batch.successors):
                next_value[batch.successor_row, batch.successor_column] = self._successor_values(batch)
            y = batch.reward + batch.discount * next_value
        advantage = target_q - values[:, :-1]
        asymmetry = torch.where(advantage >= 0, self.expectile, 1 - self.expectile)
        loss = _mean(asymmetry * 0.5 * advantage**2, batch.chosen)
        for q in qs:
            loss = loss + _mean(0.5 * (_taken(q, actions) - y) ** 2, batch.chosen)
            cross_entropy = F.cross_entropy(q.reshape(-1, q.shape[-1]), actions.reshape(-1), reduction="none")
            loss = loss + self.cql_weight * _mean(cross_entropy.reshape(actions.shape), batch.chosen)
        return loss

    def _successor_values(self, batch: PlainBatch) -> Float[Tensor, " S"]:
        """Read V at the end of each successor state, in a forward pass of its own."""
        hidden = self.trunk(input_ids=batch.successors, attention_mask=batch.successor_mask).last_hidden_state
        last = batch.successor_mask.sum(1) - 1
        return self.v(hidden).squeeze(-1).gather(1, last[:, None]).squeeze(1)

    def follow(self) -> None:
        """Let the targets follow, one parameter after the other."""
        pairs = ((self.trunk, self.target_trunk), (self.q1, self.target_q1), (self.q2, self.target_q2))
        with torch.no_grad():
            for online, target in pairs:
                for new, old in zip(online.parameters(), target.parameters(), strict=True):
                    old.mul_(1 - self.polyak).add_(new, alpha=self.polyak)

    def groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the parameters that are trained: the transformer's, and the heads'."""
        heads = nn.ModuleList([self.q1, self.q2, self.v])
        return list(self.trunk.parameters()), list(heads.parameters())


def _taken(values: Float[Tensor, "B T V"], actions: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Select the value of the token that was taken."""
    return values.gather(-1, actions[..., None]).squeeze(-1)


def _mean(values: Float[Tensor, "B T"], mask: Float[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Average over the positions that count."""
    return (values * mask).sum() / mask.sum()
