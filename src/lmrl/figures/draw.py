"""Draw the pictures of a run: its learning curves, and those in the task's configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import DictConfig

from lmrl.envs.core import TextEnv
from lmrl.figures.curves import learning_curves
from lmrl.modules.base import Algorithm
from lmrl.policies.language_model import LanguageModelPolicy
from lmrl.text.tokens import collate, tokenize
from lmrl.text.trajectory import Turn, Window


class Explain:
    """Ask a trained algorithm about single observations.

    Args:
        module: the algorithm.
        actions: the actions whose probabilities are asked for.
    """

    def __init__(self, module: Algorithm, actions: Sequence[str]) -> None:
        self._module, self._actions = module, tuple(actions)

    @torch.no_grad()
    def __call__(
        self, observations: Sequence[str]
    ) -> tuple[Float[np.ndarray, "n actions"], Float[np.ndarray, " n"] | None]:
        """Return the probability of each action after each observation, and the state values if there is a critic."""
        policy = self._module.sampler()
        probabilities = np.stack([self._probabilities(policy, text) for text in observations])
        read = self._module.values()
        if read is None:
            return probabilities, None
        states = policy.states([(Turn(text, is_action=False),) for text in observations])
        return probabilities, read(states).float().cpu().numpy()

    def _probabilities(self, policy: LanguageModelPolicy, observation: str) -> Float[np.ndarray, " actions"]:
        """Score every action as a whole: the product of its tokens' probabilities."""
        codec = self._module.codec
        result = []
        for action in self._actions:
            turns = (Turn(observation, is_action=False), Turn(action, is_action=True))
            (row,) = self._module.as_shown([tokenize(Window(turns, 1, None, terminated=True), codec)])
            result.append(float(policy.log_probs(collate([row], pad_id=codec.pad_id)).sum().exp()))
        return np.asarray(result)


def draw_figures(
    task: DictConfig, env: TextEnv, module: Algorithm, rows: Sequence[dict[str, float]], folder: Path, *, title: str
) -> list[Path]:
    """Draw learning curves and the task's own figures into `folder`, and return their paths."""
    score: Any = task.get("score")
    references = (
        {"validation/return_mean": {"data": float(score.data), "paper's maximum": float(score.max)}} if score else None
    )
    pictures = [learning_curves(rows, folder / "learning_curves.png", title=title, references=references)]
    env.reset(seed=0)
    actions = env.legal_actions()
    for name, figure in (task.get("figures") or {}).items():
        explain = Explain(module, actions or ())
        draw = instantiate(figure)
        pictures.append(draw(env=env, explain=explain, path=folder / f"{name}.png", gamma=task.gamma, title=title))
    return pictures
