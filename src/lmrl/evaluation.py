"""How good a policy is: the starts it must play, the episodes it played, and the numbers that sum them up."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmrl.envs.core import TextEnv
from lmrl.policies.core import Policy
from lmrl.rollout import Start, episode_seed, rollout
from lmrl.scores import Anchors, confidence_interval, mean_over_groups, score
from lmrl.text.trajectory import Trajectory


def evaluation_starts(
    make_env: Callable[[], TextEnv], repeats: int, seed: int, *, stream: str = "test", limit: int | None = None
) -> list[Start]:
    """List every start of the benchmark `repeats` times, each episode with a seed of its own.

    Args:
        make_env: builds the environment whose `evaluation_starts` are played (of the stream `validation`, its
            `validation_starts`).
        repeats: episodes of each start. Fewer repeats are a prefix of more.
        seed: the run's seed.
        stream: the purpose of the episodes. Those that select a checkpoint (`validation`) and those that are reported
            (`test`) must not be the same; different streams have different seeds.
        limit: cap on the number of episodes, drawn from the whole list by seed and stream. `None`: all.

    Raises:
        ValueError: `repeats` or `limit` is not positive, or the environment knows no start.
    """
    for name, value in (("repeats", repeats), ("episodes", limit)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    env = make_env()
    starts = env.validation_starts() if stream == "validation" else env.evaluation_starts()
    every_start = [dict(options) for options in starts] * repeats
    if not every_start:
        raise ValueError("the environment has no evaluation starts")
    chosen = range(len(every_start))
    if limit is not None and limit < len(every_start):
        chance = np.random.default_rng(episode_seed(seed, f"{stream}/which", 0))
        chosen = sorted(chance.choice(len(every_start), size=limit, replace=False).tolist())
    return [Start(episode_seed(seed, stream, index), every_start[index]) for index in chosen]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Played episodes, side by side with the starts that they were played from."""

    starts: tuple[Start, ...]
    trajectories: tuple[Trajectory, ...]
    seconds: float
    """Wall-clock time of playing."""

    def __post_init__(self) -> None:
        if len(self.starts) != len(self.trajectories):
            raise ValueError(f"{len(self.starts)} starts cannot belong to {len(self.trajectories)} episodes")

    @property
    def turns(self) -> int:
        """How often the policy acted."""
        return sum(trajectory.length for trajectory in self.trajectories)

    @property
    def rollout(self) -> dict[str, float | int]:
        """The `rollout` block of summary.json."""
        return {
            "episodes": len(self.trajectories),
            "turns": self.turns,
            "turns_per_second": self.turns / max(self.seconds, 1e-9),
        }

    def summary(self, anchors: Anchors | None) -> dict[str, Any]:
        """Return the `evaluation` block of summary.json; without anchors the scores are `None`."""
        return summarize(self.trajectories, anchors, starts=self.starts)


def evaluate(
    policy: Policy,
    make_env: Callable[[], TextEnv],
    starts: Sequence[Start],
    *,
    memory: int | None,
    slots: int = 64,
    on_episode: Callable[[int, Trajectory], None] | None = None,
) -> Evaluation:
    """Play all starts with the policy; the same policy and starts give the same episodes.

    Args:
        policy: who acts.
        make_env: builds one environment for each slot.
        starts: the starts of the episodes.
        memory: how many of the last turns the policy may see; `None` for all.
        slots: how many environments are played at once.
        on_episode: told the index and the trajectory of each finished episode, in order of finishing (for progress).
    """
    began = time.perf_counter()
    played = rollout(make_env, policy, starts, memory=memory, slots=slots, on_episode=on_episode)
    return Evaluation(tuple(starts), tuple(played), time.perf_counter() - began)


def summarize(
    trajectories: Sequence[Trajectory], anchors: Anchors | None, *, starts: Sequence[Start] | None = None
) -> dict[str, Any]:
    """Sum up episodes as the `evaluation` block of summary.json; every start counts the same.

    Args:
        trajectories: the played episodes.
        anchors: the task's score anchors. `None`: the task has no scores, and they are `None`.
        starts: where each episode began, for means over starts and for intervals that keep the starts fixed. `None`:
            the episodes are taken as draws from one distribution of starts.

    Raises:
        ValueError: there is no episode, or not one start for each.
    """
    if not trajectories:
        raise ValueError("no episode was played: there is nothing to sum up")
    members = _group(trajectories, starts)
    returns = [trajectory.total_reward for trajectory in trajectories]
    by_start = [[returns[i] for i in group] for group in members]
    mean = mean_over_groups(by_start)
    # A generator of its own with a fixed seed: the interval of given episodes is a fixed pair of numbers.
    interval = confidence_interval(by_start, np.random.default_rng(0))
    variance = mean_over_groups([[(value - mean) ** 2 for value in group] for group in by_start])
    actions = sum(trajectory.length for trajectory in trajectories)
    invalid = sum(int(trajectory.info.get("invalid_actions", 0)) for trajectory in trajectories)
    successes = [[float(bool(trajectories[i].info.get("success", False))) for i in group] for group in members]
    own = None if anchors is None else anchors.own
    return {
        "episodes": len(trajectories),
        "return_mean": mean,
        "return_std": float(np.sqrt(variance)),
        "return_ci95": list(interval),
        "score": None if anchors is None else score(mean, anchors),
        # The score never falls when the return grows, so the ends of the interval map to the ends.
        "score_ci95": None if anchors is None else [score(end, anchors) for end in interval],
        "own_score": None if own is None else score(mean, own),
        "own_score_ci95": None if own is None else [score(end, own) for end in interval],
        "success_rate": mean_over_groups(successes),
        "invalid_action_rate": invalid / max(actions, 1),
        "turns_mean": mean_over_groups([[float(trajectories[i].length) for i in group] for group in members]),
    }


def _group(trajectories: Sequence[Trajectory], starts: Sequence[Start] | None) -> list[list[int]]:
    """Return the indices of the episodes of each start."""
    if starts is None:
        return [list(range(len(trajectories)))]
    if len(starts) != len(trajectories):
        raise ValueError(f"{len(starts)} starts cannot belong to {len(trajectories)} episodes")
    groups: dict[str, list[int]] = {}
    for index, start in enumerate(starts):
        groups.setdefault(json.dumps(dict(start.options), sort_keys=True, default=str), []).append(index)
    return list(groups.values())
