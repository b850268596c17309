"""Time rollouts next to calling `generate` afresh on the whole history at every turn."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig

from lmrl.benchmark.timing import interleave, median, ratios, timed
from lmrl.benchmark.workloads import GPT2_SMALL, changed
from lmrl.envs.core import StepResult, TextEnv
from lmrl.evaluation import evaluation_starts
from lmrl.experiment.materials import build_materials
from lmrl.experiment.task import load_task
from lmrl.models.backbone import lm_logits, trunk
from lmrl.policies.core import Action, Policy, Request
from lmrl.policies.decoding import Decoding
from lmrl.policies.language_model import LanguageModelPolicy
from lmrl.rollout import Start, rollout
from lmrl.text.codec import Codec
from lmrl.text.trajectory import Trajectory


class Bounded(TextEnv):
    """Another environment whose episodes all have the same number of turns.

    After the end of an episode its last text is shown again, so that all rollouts are equally much work.

    Args:
        env: the environment.
        turns: length of an episode.
    """

    def __init__(self, env: TextEnv, turns: int) -> None:
        super().__init__()
        self._env, self._turns = env, turns
        self._left, self._is_over, self._text = turns, False, ""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode."""
        self._left, self._is_over = self._turns, False
        self._text, info = self._env.reset(seed=seed, options=options)
        return self._text, info

    def step(self, action: str) -> StepResult:
        """Take a turn."""
        if not self._is_over:
            self._text, _, terminated, truncated, _ = self._env.step(action)
            self._is_over = terminated or truncated
        self._left -= 1
        return self._text, 0.0, False, self._left == 0, {}


class GenerateAfresh:
    """Asks Hugging Face's `generate` for each action, with the whole history and nothing kept from the turn before.

    Histories of one turn go through it together, padded on the left. Ids that lmrl never says are suppressed.

    Args:
        lm: the language model.
        codec: the tokenizer.
        max_new_tokens: longest utterance.
    """

    def __init__(self, lm: Any, codec: Codec, max_new_tokens: int) -> None:
        from transformers import GenerationConfig

        self._lm, self._codec = lm.eval(), codec
        self._settings = GenerationConfig(
            do_sample=False, use_cache=True, max_new_tokens=max_new_tokens, pad_token_id=codec.pad_id,
            eos_token_id=sorted(codec.stop_ids), suppress_tokens=[codec.pad_id],
        )  # fmt: skip

    def act(self, requests: Sequence[Request]) -> list[Action]:
        """Return one utterance per request."""
        histories = [self._codec.history(request.history) for request in requests]
        width = max(map(len, histories))
        ids = torch.tensor([[self._codec.pad_id] * (width - len(h)) + h for h in histories])
        mask = torch.tensor([[0] * (width - len(h)) + [1] * len(h) for h in histories])
        with torch.no_grad():
            said = self._lm.generate(input_ids=ids, attention_mask=mask, generation_config=self._settings)
        return [self._action(row) for row in said[:, width:].tolist()]

    def _action(self, ids: list[int]) -> Action:
        """Cut an utterance off behind its first stop id, where the row is filled up."""
        end = next((n for n, token in enumerate(ids, start=1) if token in self._codec.stop_ids), len(ids))
        return Action(self._codec.utterance(ids[:end]), tuple(ids[:end]))


def compare(cfg: DictConfig, *, turns: int, repeats: int, quick: bool = False) -> list[dict[str, Any]]:
    """Time both, for the configured model and for 4 layers of 128, one and several episodes at once.

    Random weights never end an action by themselves: actions are as long as the longest of the task's data, and once
    more as long as the task allows at most.

    Raises:
        ValueError: the two sides said different things.
    """
    task = load_task(cfg.task)
    actions = {turn.text for trajectory in task.dataset.trajectories for turn in trajectory.turns if turn.is_action}
    results = []
    for name, chosen in (("default", cfg), ("4x128", changed(cfg, GPT2_SMALL))):
        materials = build_materials(chosen, task)
        lm: Any = materials.lm()
        as_said = max(len(materials.codec.encode(text)) for text in actions)
        for slots, length in ((2, as_said),) if quick else ((1, as_said), (16, as_said), (16, cfg.task.max_new_tokens)):
            starts = evaluation_starts(task.make_env, 1, cfg.seed)[:slots]
            sides = {
                "plain": partial(GenerateAfresh, lm, materials.codec, int(length)),
                "lmrl": partial(lmrl_policy, lm, materials.codec, int(length)),
            }
            compared = play(sides, lambda: Bounded(task.make_env(), turns), starts, repeats)
            results.append({"name": name, "turns_per_episode": turns, "max_new_tokens": int(length), **compared})
    return results


def lmrl_policy(lm: Any, codec: Codec, max_new_tokens: int) -> LanguageModelPolicy:
    """Return lmrl's policy with an empty cache, taking the likeliest tokens."""
    return LanguageModelPolicy(
        trunks=(trunk(lm),),
        next_logits=lambda hidden: lm_logits(lm, hidden[0]),
        codec=codec,
        decoding=Decoding(temperature=0),
        max_new_tokens=max_new_tokens,
    )


def play(
    sides: Mapping[str, Callable[[], Policy]], make_env: Callable[[], TextEnv], starts: Sequence[Start], repeats: int
) -> dict[str, Any]:
    """Play the same episodes with both sides in turn; each begins with a policy that remembers nothing.

    Raises:
        ValueError: the sides said different things, so that their work was not the same.
    """
    played: dict[str, list[Trajectory]] = {}

    def episodes(name: str) -> None:
        played[name] = rollout(make_env, sides[name](), starts, memory=None, slots=len(starts))

    legs = {name: timed(lambda name=name: episodes(name)) for name in sides}
    timings = interleave(legs, repeats)
    said = {name: [[turn.tokens for turn in t.turns if turn.is_action] for t in played[name]] for name in sides}
    if said["plain"] != said["lmrl"]:
        raise ValueError("lmrl's policy and `generate` said different things: their speeds cannot be compared")
    turns = sum(trajectory.length for trajectory in played["lmrl"])
    return {
        "episodes": len(starts),
        "turns": turns,
        "tokens_said": sum(len(tokens or ()) for episode in said["lmrl"] for tokens in episode),
        "sides": {
            name: {
                "wall_seconds": [t.wall for t in timings[name]],
                "cpu_seconds": [t.cpu for t in timings[name]],
                "turns_per_second": turns / median(timings[name]).wall,
                "turns_per_cpu_second": turns / median(timings[name]).cpu,
            }
            for name in sides
        },
        "plain_over": {"lmrl": ratios(timings["plain"], timings["lmrl"])},
    }
