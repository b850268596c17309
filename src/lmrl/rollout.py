"""The one loop that joins environments and policies."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lmrl.envs.core import Dialogue, StepResult, TextEnv
from lmrl.policies.core import Action, Policy, Request
from lmrl.text.trajectory import Trajectory, Turn, view


def episode_seed(seed: int, stream: str, index: int) -> int:
    """Return the seed of one episode, the same on every machine; different streams never share a seed."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")  # 48 bits: exact in JSON readers that only know floats


@dataclass(frozen=True, slots=True)
class Start:
    """The start of an episode: the arguments of the environment's reset."""

    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    policy_seed: int | None = None
    """Seed of the policy's randomness, where it must differ between episodes of one start. `None`: the same seed."""


def rollout(
    make_env: Callable[[], TextEnv],
    policy: Policy,
    starts: Sequence[Start],
    *,
    memory: int | None,
    slots: int = 64,
    on_episode: Callable[[int, Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play one episode from each start; the result is in the order of the starts and independent of `slots`.

    Args:
        make_env: builds one environment for each slot; a slot's episodes reset it one after another.
        policy: who acts; asked once per turn for all environments that wait.
        starts: the starts of the episodes.
        memory: how many of the last turns the policy is shown; `None` for all.
        slots: how many environments are played at once; a finished episode makes room for the next start at once.
        on_episode: told the index and the trajectory of each finished episode, in order of finishing (for progress).

    Raises:
        ValueError: `slots` or `memory` is not positive.
    """
    if slots < 1:
        raise ValueError(f"slots must be at least 1, got {slots}")
    if memory is not None and memory < 1:
        raise ValueError(f"memory must be at least 1 turn (or null for the whole episode), got {memory}")
    finished: dict[int, Trajectory] = {}
    envs = [make_env() for _ in range(min(slots, len(starts)))]
    try:
        for index, trajectory in _play(envs, policy, starts, memory):
            finished[index] = trajectory
            if on_episode is not None:
                on_episode(index, trajectory)
    finally:
        for env in envs:
            env.close()
    return [finished[index] for index in range(len(starts))]


def _play(
    envs: Sequence[TextEnv], policy: Policy, starts: Sequence[Start], memory: int | None
) -> Iterator[tuple[int, Trajectory]]:
    """Play all starts in the given environments; yield each episode when it is finished."""
    waiting = iter(enumerate(starts))
    live = [_Episode(env, slot, *next(waiting)) for slot, env in enumerate(envs)]
    while live:
        actions = policy.act([episode.request(memory) for episode in live])
        for episode, action, result in zip(live, actions, _step(live, actions), strict=True):
            episode.record(action, result)
        yield from ((episode.index, episode.trajectory()) for episode in live if episode.is_over)
        live = list(_refill(live, waiting))


def _refill(live: Sequence["_Episode"], waiting: Iterator[tuple[int, Start]]) -> Iterator["_Episode"]:
    """Keep episodes that go on, and let the next starts take the places of those that are over."""
    for episode in live:
        if not episode.is_over:
            yield episode
        elif (following := next(waiting, None)) is not None:
            yield _Episode(episode.env, episode.slot, *following)


def _step(live: Sequence["_Episode"], actions: Sequence[Action]) -> list[StepResult]:
    """Step all environments, asking each partner once for all dialogues that wait for it."""
    results: list[StepResult | None] = [None] * len(live)
    asked: dict[int, list[tuple[int, Dialogue, Request]]] = {}
    for index, (episode, action) in enumerate(zip(live, actions, strict=True)):
        if episode.dialogue is None:
            observation, reward, terminated, truncated, info = episode.env.step(action.text)
            results[index] = (observation, float(reward), terminated, truncated, info)
        else:
            request = replace(episode.dialogue.address(action.text), slot=episode.slot)
            asked.setdefault(id(episode.dialogue.partner), []).append((index, episode.dialogue, request))
    for group in asked.values():
        replies = group[0][1].partner.act([request for _, _, request in group])
        for (index, dialogue, _), reply in zip(group, replies, strict=True):
            results[index] = dialogue.judge(reply)
    return [result for result in results if result is not None]


class _Episode:
    """An episode under way in one slot."""

    def __init__(self, env: TextEnv, slot: int, index: int, start: Start) -> None:
        self.env, self.slot, self.index, self.start = env, slot, index, start
        self.dialogue = env if isinstance(env, Dialogue) else None
        observation, _ = env.reset(seed=start.seed, options=dict(start.options))
        self.turns = [Turn(observation, is_action=False)]
        self.actions = self.invalid_actions = 0
        self.earned = 0.0
        self.tried: tuple[Turn, ...] = ()
        self.terminated = self.truncated = False
        self.info: Mapping[str, Any] = {}

    @property
    def is_over(self) -> bool:
        return self.terminated or self.truncated

    def request(self, memory: int | None) -> Request:
        """Ask for the next action."""
        seed = self.start.seed if self.start.policy_seed is None else self.start.policy_seed
        return Request(view(tuple(self.turns), memory), self.slot, seed, self.actions, self.earned, self.tried)

    def record(self, action: Action, result: StepResult) -> None:
        """Append the action exactly as the policy gave it, and its result."""
        observation, reward, self.terminated, self.truncated, self.info = result
        said = Turn(action.text, True, float(reward), action.tokens, action.log_probs)
        self.tried = (*self.tried, said) if observation == self.turns[-1].text else ()
        self.turns.append(said)
        if observation or not self.is_over:  # an ended episode has nothing to say, unless it does
            self.turns.append(Turn(observation, is_action=False))
        self.actions += 1
        self.earned += float(reward)
        self.invalid_actions += bool(self.info.get("is_invalid", False))

    def trajectory(self) -> Trajectory:
        """Return the finished episode, with the values of the last step's info that can be stored."""
        values = {key: value.item() if isinstance(value, np.generic) else value for key, value in self.info.items()}
        info = {key: value for key, value in values.items() if isinstance(value, bool | int | float | str)}
        info |= {"success": bool(info.get("success", False)), "invalid_actions": self.invalid_actions}
        return Trajectory(tuple(self.turns), bool(self.terminated), bool(self.truncated), self.start.seed, info)
