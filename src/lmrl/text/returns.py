"""Returns of an episode's decisions, which run over the whole episode and not only over one row of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from lmrl.text.tokens import TokenTrajectory


def row_discounts(gamma: float, ends_turn: Bool[np.ndarray, " A"], per: str) -> Float[np.ndarray, " A"]:
    """Return the discount between each decision and the next one.

    Args:
        gamma: the discount.
        ends_turn: whether a decision is the last token of its action.
        per: "token" discounts after every token, as LMRL-Gym does; "turn" only from one action to the next, so that
            long utterances are not punished.
    """
    return np.where(ends_turn | (per == "token"), gamma, 1.0)


def reward_to_go(rewards: Float[np.ndarray, " A"], factors: Float[np.ndarray, " A"]) -> Float[np.ndarray, " A"]:
    """Return the discounted sum of rewards from each decision to the end of the episode.

    Args:
        rewards: reward of each decision, in order of time.
        factors: the discount between each decision and the next.
    """
    returns = np.zeros(len(rewards), dtype=np.float64)
    running = 0.0
    for t in reversed(range(len(rewards))):
        running = returns[t] = float(rewards[t]) + float(factors[t]) * running
    return returns.astype(np.float32)


def with_returns(episode: Sequence[TokenTrajectory], gamma: float, per: str) -> list[TokenTrajectory]:
    """Write each decision's return into `extras["returns"]` of the episode's rows."""
    if not episode:
        return []
    ends = np.concatenate([row.ends_turn for row in episode])
    rewards = np.concatenate([row.rewards[row.is_decision] for row in episode])
    returns = reward_to_go(rewards, row_discounts(gamma, ends, per))
    return with_extras(episode, returns=returns)


def with_extras(episode: Sequence[TokenTrajectory], **values: Float[np.ndarray, " A"]) -> list[TokenTrajectory]:
    """Write values of an episode's decisions, in order of time, into the `extras` of its rows."""
    cuts = np.cumsum([int(row.is_decision.sum()) for row in episode])[:-1]
    parts = {name: np.split(all_values, cuts) for name, all_values in values.items()}
    return [
        replace(row, extras={**row.extras, **{name: part[index] for name, part in parts.items()}})
        for index, row in enumerate(episode)
    ]


def average_returns(rows: Sequence[TokenTrajectory]) -> list[TokenTrajectory]:
    """Replace the returns of rows that are otherwise equal by their mean.

    The gradient of a squared error summed over equal rows is the one of as many errors to their mean, so this changes
    no optimum; it lets equal rows share one forward pass, and takes the returns' noise out of the batches.
    """
    groups: dict[bytes, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(replace(row, extras={}).key, []).append(index)
    result = list(rows)
    for members in groups.values():
        if len(members) == 1:
            continue  # its mean is itself: most rows of long histories
        mean = np.mean([rows[i].extras["returns"] for i in members], axis=0, dtype=np.float64).astype(np.float32)
        for i in members:
            result[i] = replace(rows[i], extras={**rows[i].extras, "returns": mean})
    return result
