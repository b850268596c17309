"""An exported policy: a Hugging Face folder that plays again from its own files, without a configuration."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lmrl.evaluation import Evaluation
from lmrl.models import tokenizer
from lmrl.models.backbone import lm_logits, trunk
from lmrl.models.critic import Critic, load_critic
from lmrl.models.loading import pretrained
from lmrl.policies.conditioned import Conditioned, ReturnToGo
from lmrl.policies.core import Policy
from lmrl.policies.decoding import Decoding, GuidedLogits
from lmrl.policies.language_model import LanguageModelPolicy
from lmrl.system.files import write_text

PLAYER = "player.json"
"""How the exported networks act: task, memory, decoding."""
_FORMAT = 1

_CARD = """---
{data}
---
# {task}, {algo}

A language-model policy for the task `{task}` of LMRL-Gym (arXiv 2311.18232): `model={model}`, trained with
`algo={algo}`. {result}

```bash
python -m lmrl.play task={task} --player FOLDER     # this folder is all it needs
```

```python
from lmrl.exported import load_policy
policy = load_policy("FOLDER")                      # act(requests) -> actions, as in evaluation
```

With `transformers` alone it is a causal language model{plain}: encode each text of the dialogue
on its own, in order and without special tokens, and generate: it ends at a line break. `player.json` says how many
earlier texts it reads (`memory`; null: all) and how tokens are drawn.
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """A policy from an export folder."""

    task: str
    """The task that it was trained for."""
    memory: int | None
    """How many earlier turns it reads; `None`: all."""
    policy: Policy


def write_player(folder: Path, algorithm: Any, *, task: str, memory: int | None) -> None:
    """Write down how the networks in an export folder act.

    Args:
        folder: the export, with the networks in it.
        algorithm: the exported module, with its decoding.
        task: the task that it was trained for.
        memory: how many earlier turns the policy reads.
    """
    says = {"format": _FORMAT, "task": task, "memory": memory, "max_new_tokens": algorithm.max_new_tokens}
    says |= {"decoding": asdict(algorithm.decoding), "reranks": algorithm.rerank is not None}
    write_text(json.dumps(says, indent=2) + "\n", folder / PLAYER)


def write_card(
    folder: Path, *, task: str, algo: str, model: str, evaluation: Evaluation, base_model: str | None = None
) -> None:
    """Write the model card of an export folder: content, results, and usage.

    Args:
        folder: the export.
        task: the task that it was trained for.
        algo: how.
        model: the choice of model.
        evaluation: the reported episodes.
        base_model: Hub id or folder of the pretrained model that it began with; `None`: random weights.
    """
    found = evaluation.summary(None)
    result = f"Over {found['episodes']:,} evaluation episodes its mean return is {found['return_mean']:.2f}."
    plain = " (the prior, without the guidance of its critic)" if (folder / "critic").is_dir() else ""
    data = _metadata(task, algo, found, base_model)
    card = _CARD.format(data=data, task=task, algo=algo, model=model, result=result, plain=plain)
    write_text(card, folder / "README.md")


def _metadata(task: str, algo: str, found: Mapping[str, Any], base_model: str | None) -> str:
    """Return the metadata of a model card for the Hub, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    common: dict[str, Any] = {
        "task_type": "reinforcement-learning",
        "dataset_type": f"lmrl/{task}",
        "dataset_name": task,
    }
    values = {"mean_reward": found["return_mean"], "success_rate": found["success_rate"]}
    known = {name: value for name, value in values.items() if value is not None}
    is_on_hub = base_model is not None and not Path(base_model).expanduser().is_dir()
    card = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        # Weights that began at random are under the project's licence, others under that of their base.
        license="apache-2.0" if base_model is None else None,
        base_model=base_model if is_on_hub else None,
        tags=["lmrl", "reinforcement-learning", task],
        model_name=f"{task}-{algo}",
        eval_results=[EvalResult(**common, metric_type=name, metric_value=value) for name, value in known.items()],
    )
    return card.to_yaml().strip()


def load_policy(folder: Path | str) -> Policy:
    """Return the policy of an export folder. Nothing in the folder is executed.

    Raises:
        FileNotFoundError: the folder is no export.
        ValueError: a file in it is damaged, or the policy is of a kind that an export cannot hold.
    """
    return load_exported(Path(folder)).policy


def load_exported(folder: Path) -> Exported:
    """Return the policy of an export folder, and its task.

    Raises:
        FileNotFoundError: the folder is no export.
        ValueError: a file in it is damaged, or the policy is of a kind that an export cannot hold.
    """
    folder = folder.expanduser().resolve()
    if not (folder / PLAYER).is_file():
        raise FileNotFoundError(f"{folder} is not an exported policy: it has no {PLAYER}")
    says = _read(folder / PLAYER)
    if says.get("format") != _FORMAT:
        raise ValueError(f"{folder / PLAYER} has format {says.get('format')!r}, but this version reads {_FORMAT}")
    if says["reranks"]:
        raise ValueError(f"{folder}: a reranking policy cannot be loaded from its export; pass its run folder instead")
    codec = tokenizer.load(path=str(folder))
    lm = pretrained(codec, path=str(folder)).eval()
    trunks, next_logits = (trunk(lm),), partial(_plain, lm)
    if (folder / "guidance.json").is_file():
        critic = load_critic(folder, codec).eval()
        trunks = (trunk(lm), trunk(critic.lm))
        next_logits = partial(_guided, lm, critic, float(_read(folder / "guidance.json")["beta"]))
    policy: Any = LanguageModelPolicy(
        trunks=trunks,
        next_logits=next_logits,
        codec=codec,
        decoding=Decoding(**says["decoding"]),
        max_new_tokens=says["max_new_tokens"],
    )
    if (folder / "conditioning.json").is_file():
        policy = Conditioned(policy, ReturnToGo(**_read(folder / "conditioning.json")).condition)
    return Exported(says["task"], says["memory"], policy)


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is damaged: line {error.lineno} is not JSON; export the policy again") from error


def _plain(lm: nn.Module, hidden: tuple[Tensor, ...]) -> Tensor:
    return lm_logits(lm, hidden[0])


def _guided(lm: nn.Module, critic: Critic, beta: float, hidden: tuple[Tensor, ...]) -> GuidedLogits:
    return GuidedLogits.by_values(lm_logits(lm, hidden[0]), critic.smallest(hidden[1]), beta)
