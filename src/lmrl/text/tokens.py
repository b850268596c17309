"""Episodes as tokens: rows of training data, and the batches that models and losses read.

Notation: T tokens of a row, S of its successor state, B rows of a batch, N decisions of a batch.
A *decision* is one token of an action: the model has seen everything before it and chooses it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lmrl.text.codec import Codec
from lmrl.text.trajectory import Window


@dataclass(frozen=True, eq=False)
class TokenTrajectory:
    """One window as token ids: a row of training data.

    Example, one decision of two tokens: `tokens = o0 o1 a0 a1`, `is_decision = 0 0 1 1`, `rewards = 0 0 0 r`.
    """

    tokens: Int[np.ndarray, " T"]
    is_decision: Bool[np.ndarray, " T"]
    rewards: Float[np.ndarray, " T"]
    """An action's reward sits on its last token; all others are 0."""
    turn: Int[np.ndarray, " T"]
    """Index of the turn that a token belongs to, for turn-level discounts and critics."""
    successor: Int[np.ndarray, " S"] | None
    """The state after the last action. `None`: nothing to bootstrap from (see `terminated` and `is_known`)."""
    terminated: bool
    is_known: bool
    """False where a recording breaks off right after an action: no target can be computed for that action."""
    extras: Mapping[str, Float[np.ndarray, " A"]] = field(default_factory=dict)
    """Values of an algorithm's `prepare` for each of the row's A decisions, e.g. returns or old log-probs."""

    @property
    def ends_turn(self) -> Bool[np.ndarray, " A"]:
        """Whether each decision is the last token of its action."""
        turn = self.turn[self.is_decision]
        return np.append(turn[1:] != turn[:-1], True)[: len(turn)]

    @cached_property
    def key(self) -> bytes:
        """Equal for rows that are equal in every field: such rows need only one forward pass."""
        parts = [self.tokens.tobytes(), self.is_decision.tobytes(), self.rewards.tobytes(), self.turn.tobytes()]
        parts.append(b"-" if self.successor is None else self.successor.tobytes())
        parts.append(bytes([self.terminated, self.is_known]))
        parts.extend(name.encode() + values.tobytes() for name, values in sorted(self.extras.items()))
        return b"|".join(bytes(str(len(part)), "ascii") + part for part in parts)


def tokenize(window: Window, codec: Codec) -> TokenTrajectory:
    """Turn a window into a row. Sampled turns keep the ids they were sampled with."""
    ids: list[int] = []
    decision: list[bool] = []
    rewards: list[float] = []
    turns: list[int] = []
    for index, turn in enumerate(window.turns):
        new = codec.turn(turn)
        ids += new
        decision += [turn.is_action and index >= window.first_decision] * len(new)
        rewards += [0.0] * len(new)
        turns += [index] * len(new)
        if turn.reward and index >= window.first_decision:
            if not new:
                raise ValueError(f"the action {turn.text!r} has a reward but no tokens to carry it")
            rewards[-1] = turn.reward
    successor = None if window.successor is None else np.asarray(codec.history(window.successor), dtype=np.int32)
    return TokenTrajectory(
        tokens=np.asarray(ids, dtype=np.int32),
        is_decision=np.asarray(decision, dtype=bool),
        rewards=np.asarray(rewards, dtype=np.float32),
        turn=np.asarray(turns, dtype=np.int32),
        successor=successor,
        terminated=window.terminated,
        is_known=window.is_known,
    )


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded rows, and their decisions laid out flat.

    The hidden state at `hidden[row, position]` has seen everything before a decision and chooses `action`; the value
    of its successor is read at `hidden[next_row, next_position]`. This is the only place that shifts by one token:
    losses see equally long vectors over decisions and never slice. Tokens that occur several times are computed once:
    rows that are equal in everything weigh as much as they occur, and others of the same tokens (with other rewards,
    successors or extras) have decisions of their own at the same place.
    """

    tokens: Int[Tensor, "B T"]
    lengths: Int[Tensor, " B"]
    is_decision: Bool[Tensor, "B T"]
    row_weight: Float[Tensor, " B"]
    """How often a row occurs; 0 for a row that is there only to evaluate a successor state."""
    row: Int[Tensor, " N"]
    position: Int[Tensor, " N"]
    action: Int[Tensor, " N"]
    reward: Float[Tensor, " N"]
    weight: Float[Tensor, " N"]
    turn: Int[Tensor, " N"]
    next_row: Int[Tensor, " N"]
    next_position: Int[Tensor, " N"]
    bootstraps: Bool[Tensor, " N"]
    """False where nothing follows (the episode terminated): the next value is 0."""
    is_known: Bool[Tensor, " N"]
    """False where the recording lacks the successor: no temporal-difference target exists."""
    ends_turn: Bool[Tensor, " N"]
    """Whether a decision is the last token of its action, where a turn-level discount applies."""
    extras: dict[str, Float[Tensor, " N"]] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TokenBatch":
        """Copy the batch to a device (Lightning calls this)."""
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
            for f in fields(self)
            if f.name != "extras"
        }
        extras = {name: values.to(device, non_blocking=non_blocking) for name, values in self.extras.items()}
        return replace(self, **moved, extras=extras)

    @property
    def trained_rows(self) -> int:
        """How many rows have decisions; behind them stand those that only evaluate a successor state."""
        return int((self.row_weight > 0).sum())

    @property
    def token_count(self) -> int:
        """Real tokens in the rows as they are computed: padding and repeated rows not counted."""
        return int(self.lengths.sum())

    def predicted(self) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"], Int[Tensor, " M"], Float[Tensor, " M"]]:
        """Return row, position, token and weight of every token that is not a decision, for language modelling.

        The first token of a row has nothing before it and is left out, as are padding and successor-only rows.
        """
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        is_text = (columns < self.lengths[:, None]) & ~self.is_decision & (self.row_weight > 0)[:, None]
        row, column = is_text[:, 1:].nonzero(as_tuple=True)
        return row, column, self.tokens[row, column + 1], self.row_weight[row]


class _Rows:
    """The distinct rows of a batch under construction."""

    def __init__(self) -> None:
        self.tokens: list[np.ndarray] = []
        self.decisions: list[np.ndarray] = []
        self.weights: list[float] = []
        self.places: dict[tuple[bytes, bytes], int] = {}  # a row's ids and decisions -> where it stands
        self.states: dict[bytes, tuple[int, int]] = {}  # a state's ids -> where its last token stands

    def place(self, item: TokenTrajectory, weight: float) -> int:
        """Find where a row's tokens are computed already, or add them; its weight counts there."""
        key = item.tokens.tobytes(), item.is_decision.tobytes()
        if key not in self.places:
            self.places[key] = self.add(item.tokens, item.is_decision, 0.0)
        self.weights[self.places[key]] += weight
        return self.places[key]

    def add(self, tokens: np.ndarray, is_decision: np.ndarray, weight: float) -> int:
        self.tokens.append(tokens)
        self.decisions.append(is_decision)
        self.weights.append(weight)
        first = int(is_decision.argmax()) if is_decision.any() else len(tokens)
        self.states.setdefault(tokens[:first].tobytes(), (len(self.tokens) - 1, first - 1))
        return len(self.tokens) - 1

    def locate(self, state: np.ndarray) -> tuple[int, int]:
        """Find where a successor state is computed already; else add a row for it."""
        key = state.tobytes()
        if key not in self.states:
            self.add(state, np.zeros(len(state), dtype=bool), 0.0)
        return self.states[key]


def collate(rows: Sequence[TokenTrajectory], counts: Iterable[float] | None = None, *, pad_id: int) -> TokenBatch:
    """Lay rows out as a batch.

    Equal rows are merged, equal tokens are computed once, and a successor state that some row of the batch begins with
    is read there instead of in a forward pass of its own. Decisions are in the order of the rows' first occurrence.

    Args:
        rows: the rows; none may be empty of tokens.
        counts: how often each row occurs (default once each).
        pad_id: the id that fills short rows.
    """
    merged: dict[bytes, tuple[TokenTrajectory, float]] = {}
    for item, count in zip(rows, counts if counts is not None else [1.0] * len(rows), strict=True):
        known = merged.get(key := item.key)
        merged[key] = (item, count + (known[1] if known else 0.0))
    distinct = [item for item, _ in merged.values()]
    table = _Rows()
    places = [table.place(item, count) for item, count in merged.values()]

    flat: dict[str, list[np.ndarray]] = {name: [] for name in _FLAT}
    for (item, count), index in zip(merged.values(), places, strict=True):
        _flatten(item, index, count, table, flat)
    extras = {
        name: torch.from_numpy(np.concatenate([item.extras[name] for item in distinct]).astype(np.float32))
        for name in distinct[0].extras
    }
    lengths = np.asarray([len(tokens) for tokens in table.tokens])
    tokens = np.full((len(lengths), int(lengths.max())), pad_id, dtype=np.int64)
    is_decision = np.zeros(tokens.shape, dtype=bool)
    for index, (ids, mask) in enumerate(zip(table.tokens, table.decisions, strict=True)):
        tokens[index, : len(ids)] = ids
        is_decision[index, : len(mask)] = mask
    return TokenBatch(
        tokens=torch.from_numpy(tokens),
        lengths=torch.from_numpy(lengths),
        is_decision=torch.from_numpy(is_decision),
        row_weight=torch.tensor(table.weights, dtype=torch.float32),
        extras=extras,
        **{name: torch.from_numpy(np.concatenate(parts).astype(_FLAT[name])) for name, parts in flat.items()},
    )


_FLAT: dict[str, type] = {
    "row": np.int64, "position": np.int64, "action": np.int64, "reward": np.float32, "weight": np.float32,
    "turn": np.int64, "next_row": np.int64, "next_position": np.int64,
    "bootstraps": np.bool_, "is_known": np.bool_, "ends_turn": np.bool_,
}  # fmt: skip


def _flatten(item: TokenTrajectory, index: int, weight: float, table: _Rows, flat: dict[str, list[np.ndarray]]) -> None:
    """Append one row's decisions to the flat arrays; the shift by one token happens here."""
    at = item.is_decision.nonzero()[0]
    if len(at) == 0 or at[0] == 0:
        raise ValueError("a row needs at least one decision, and at least one token before its first decision")
    final_row, final_position, follows = index, int(at[-1]), False
    if item.successor is not None:
        follows = True
        if np.array_equal(item.tokens[: len(item.successor)], item.successor) and len(item.successor) > at[-1]:
            final_position = len(item.successor) - 1  # the row itself goes on to the state that follows
        else:
            final_row, final_position = table.locate(item.successor)
    count = len(at)
    last = np.arange(count) == count - 1
    flat["row"].append(np.full(count, index))
    flat["position"].append(at - 1)
    flat["action"].append(item.tokens[at])
    flat["reward"].append(item.rewards[at])
    flat["weight"].append(np.full(count, weight))
    flat["turn"].append(item.turn[at])
    flat["next_row"].append(np.where(last, final_row, index))
    flat["next_position"].append(np.where(last, final_position, np.append(at[1:] - 1, 0)))
    flat["bootstraps"].append(~last | follows)
    flat["is_known"].append(~last | item.is_known)
    flat["ends_turn"].append(item.ends_turn)
