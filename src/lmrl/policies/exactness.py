"""The check that training computes the same log-probabilities as acting did: no token drift, no wrong mask."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lmrl.text.codec import Codec
from lmrl.text.tokens import TokenBatch, TokenTrajectory, collate, tokenize
from lmrl.text.trajectory import Trajectory, Window, windows


def check_log_probs(
    trajectories: Sequence[Trajectory],
    log_probs: Callable[[TokenBatch], Float[Tensor, " N"] | Float64[Tensor, " N"]],
    *,
    codec: Codec,
    memory: int | None,
    tolerance: float = 1e-4,
    batch_size: int = 64,
    seen: Callable[[Sequence[TokenTrajectory]], Sequence[TokenTrajectory]] = list,
) -> float:
    """Recompute the log-probability of every sampled token through the training path, and return the worst difference.

    Args:
        trajectories: episodes that were played; turns without log-probabilities are skipped.
        log_probs: training's computation for the decisions of a batch, such as `LanguageModelPolicy.log_probs`.
        codec: the tokenizer.
        memory: the memory that they were played with.
        tolerance: largest difference that is allowed; float32 needs about 1e-4, bfloat16 about 0.1.
        batch_size: rows per batch.
        seen: turns an episode's rows into those that the policy saw, if it saw more.

    Raises:
        ValueError: a difference is larger, the message says where; or there is nothing to compare.
    """
    rows = (row for episode in _episodes(trajectories, codec, memory) for row in seen(episode))
    worst, place, compared = 0.0, (0, 0, 0), 0
    while batch_rows := list(islice(rows, batch_size)):
        batch = collate(batch_rows, pad_id=codec.pad_id)
        then = batch.extras["log_probs"].double()
        known = ~then.isnan()
        now = log_probs(batch).detach().double().to(then.device)
        # Two infinities of the same sign agree, although their difference is not a number; else NaN is a failure.
        difference = torch.where(now == then, 0.0, (now - then).abs())[known].nan_to_num(nan=torch.inf)
        compared += int(known.sum())
        if len(difference) and float(difference.max()) > worst:
            worst = float(difference.max())
            at = int(known.nonzero()[difference.argmax(), 0])
            place = (int(batch.extras["episode"][at]), int(batch.extras["turn"][at]), int(batch.extras["offset"][at]))
    if not compared:
        raise ValueError("nothing to check: no turn of these trajectories carries log-probabilities")
    if worst > tolerance:
        episode, turn, token = place
        raise ValueError(
            f"training and acting disagree: a log-probability differs by {worst:.3g} (allowed {tolerance:g}) "
            f"at trajectory {episode}, turn {turn}, token {token}: {trajectories[episode].turns[turn].text!r}"
        )
    return worst


def _episodes(trajectories: Sequence[Trajectory], codec: Codec, memory: int | None) -> Iterator[list[TokenTrajectory]]:
    """Cut episodes as training does, and attach to each decision its old log-probability and where it was taken."""
    for episode, trajectory in enumerate(trajectories):
        actions = [index for index, turn in enumerate(trajectory.turns) if turn.is_action]
        rows = []
        for number, window in enumerate(windows(trajectory, memory)):
            first_turn = 0 if memory is None else actions[number] - window.first_decision
            row = tokenize(window, codec)
            if row.is_decision.any():
                rows.append(replace(row, extras=_extras(window, codec, episode, first_turn)))
        if rows:
            yield rows


def _extras(window: Window, codec: Codec, episode: int, first_turn: int) -> dict[str, Float[np.ndarray, " A"]]:
    values: list[tuple[float, int, int, int]] = []
    for index, turn in enumerate(window.turns):
        if turn.is_action and index >= window.first_decision:
            count = len(codec.turn(turn))
            old = turn.log_probs if turn.log_probs is not None else (np.nan,) * count
            values += [(value, episode, first_turn + index, offset) for offset, value in enumerate(old)]
    columns = np.asarray(values, dtype=np.float32).T
    return dict(zip(("log_probs", "episode", "turn", "offset"), columns, strict=True))
