"""The shape of a configuration: its keys and their types. Needs no torch.

The arguments of an object are declared by its own parameters (`lmrl.config.signatures`). This module declares the rest:
the blocks of `conf/` that are not objects, the contents of tables that an object takes unchanged, and the arguments of
objects from other libraries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from lmrl.config.limits import LIMITED
from lmrl.config.signatures import Part, Signature
from lmrl.config.types import (
    Count,
    NonNegative,
    Number,
    PathText,
    Positive,
    PositiveCount,
    PositiveShare,
    Processes,
    Seed,
    Share,
    Size,
    Text,
)

Kind: TypeAlias = Any
"""A type of plain values, a `Part`, a `Block` or `Several`."""


_Devices: TypeAlias = Literal["auto", -1] | Processes | list[Count] | Annotated[str, Field(pattern=r"^\d+(,\d+)*$")]
_MaybeCount: TypeAlias = PositiveCount | None
_MaybeNumber: TypeAlias = Number | None
_MaybeSize: TypeAlias = NonNegative | None
_MaybePositive: TypeAlias = Positive | None
_MaybeShare: TypeAlias = Share | None
_MaybeTopP: TypeAlias = PositiveShare | None
_MaybeText: TypeAlias = Text | None
_MaybeProcesses: TypeAlias = Processes | None
_MaybeZero: TypeAlias = Count | None


@dataclass(frozen=True)
class Block:
    """A table whose names are known."""

    fields: Mapping[str, Kind]
    others: Kind = None
    """The type of all other names. `None`: other names are mistakes."""
    optional: bool = False
    """Whether `null` is allowed as well."""


@dataclass(frozen=True)
class Several:
    """A list."""

    of: Kind
    or_text: bool = False
    """Whether there may be a text instead."""


FREE = Block({}, others=Any)
"""A table whose contents are not checked here."""
_ANCHORS = Block({"min": Number, "data": Number, "max": Number}, optional=True)
_PARTS = Block({}, others=Part(optional=True))
_LINES = Several(str)

_EXAMPLE = Block({"history": _LINES, "thought": str, "action": str})
_PROMPT = Block({"system": str | None, "rules": str, "actions": str, "examples": Several(_EXAMPLE)}, optional=True)
_PARTNER_PROMPT = Block(
    {"system": str | None, "template": Text, "examples": Several(FREE, or_text=True)}, optional=True
)

_TINY = Block(
    {
        "vocab_size": Annotated[int, Field(ge=300, le=10**7)],
        "token_ends": _MaybeText,
        "runs_before": _MaybeText,
        "whole_tokens": bool,
        "layers": Size,
        "width": Size,
        "heads": Size,
        "positions": Literal["absolute", "relative"],
    },
    optional=True,
)
_TASK: Mapping[str, Kind] = {
    "name": Text,
    "env": Part(),
    "dataset": Part(),
    "importer": Part(optional=True),
    "players": _PARTS,
    "figures": _PARTS,
    "records": _PARTS,
    "memory": _MaybeCount,
    "gamma": PositiveShare,
    "max_new_tokens": PositiveCount,
    "validation": Block({"repeats": PositiveCount}, optional=True),
    "score": _ANCHORS,
    "own_score": _ANCHORS,
    "paper": Block({}, others=Block({"return": _MaybeNumber, "score": _MaybeNumber})),
    "prompt": _PROMPT,
    "partner_prompt": _PARTNER_PROMPT,
    "partner_rules": str,
    "tiny": _TINY,
}
_STAGE: dict[str, Kind] = {}
STAGE = Block(_STAGE, optional=True)
"""An algorithm, or an earlier stage of one, which is an algorithm as well."""
_STAGE.update(
    {
        "module": Part(optional=True),
        "policy": Part(optional=True),
        "datamodule": Part(),
        "decoding": Part(),
        "optimizer": Part(optional=True),
        "steps": PositiveCount,
        "steps_per_epoch": PositiveCount,
        "accumulate": PositiveCount,
        "lr_scale": Positive,
        "gradient_clip": _MaybePositive,
        "prior": STAGE,
        "critic": STAGE,
    }
)

POLICY = Block({"policy": Part()}, others=FREE)
"""An algorithm that plays as it is, without training."""

_LORA = Block(
    {
        "r": Size,
        "lora_alpha": Positive,
        "lora_dropout": Annotated[float | int, Field(ge=0, lt=1)],
        "target_modules": list[str] | str | None,
        "use_rslora": bool,
        "use_dora": bool,
        "bias": Literal["none", "all", "lora_only"],
        "modules_to_save": list[str] | None,
        "layers_to_transform": list[int] | int | None,
        "rank_pattern": dict[str, Size],
        "alpha_pattern": dict[str, Positive],
        "init_lora_weights": bool | Text,
    },
    optional=True,
)
MODEL = Block(
    {
        "path": PathText,
        "lora": _LORA,
        "tokenizer": Part(),
        "lm": Part(),
        "optimizer": Part(),
        "non_action_weight": NonNegative,
    }
)
HARDWARE = Block(
    {
        "accelerator": Literal["auto", "cpu", "gpu", "cuda"],
        "devices": _Devices,
        "num_nodes": Annotated[int, Field(ge=1, le=10_000)],
        "strategy": Literal["auto", "ddp", "ddp_find_unused_parameters_true", "fsdp", "fsdp2"],
        "precision": Literal["auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true"],
        "threads": _MaybeProcesses,
        "activation_checkpointing": bool,
        "compile": bool,
    }
)
_LIMITS = Block(dict.fromkeys((*LIMITED, "trajectories"), _MaybeCount), optional=True)
_PROFILER = Literal["simple", "advanced", "pytorch"] | None
_REPEATS = {"repeats": PositiveCount, "episodes": _MaybeCount}
_ENDPOINT = "lmrl.policies.chat.ChatEndpoint"
_DECODING = "lmrl.policies.decoding.Decoding"


def root(config: Any) -> Block:
    """Return the declaration of a whole configuration.

    `vars` is for values that others refer to, as `${vars.name}`.

    Args:
        config: the configuration; its environment determines the keys of `evaluation.env` and `training.env`.
    """
    target = _target(config, "task", "env")
    env: Kind = Any if target is None else Part(optional=True, target=target)
    first = Block({"rounds": Count, "env": env}, optional=True)
    task = {**_TASK, "evaluation": Block({"repeats": PositiveCount, "env": env})}
    evaluation = {
        **_REPEATS,
        "env": env,
        "decoding": Part(optional=True, target=_DECODING),
        "slots": Annotated[int, Field(ge=1, le=10**6)],
        "checkpoint": Literal["best", "latest"],
    }
    return Block(
        {
            "seed": Seed,
            "resume": bool,
            "data_dir": PathText,
            "runs_dir": PathText,
            "training": Block({"env": env, "first": first, "limits": _LIMITS, "profiler": _PROFILER}),
            "evaluation": Block(evaluation),
            "validation": Block({**_REPEATS, "every_n_epochs": PositiveCount}),
            "task": Block(task),
            "algo": POLICY if _is_policy(config) else Block(_STAGE),
            "model": MODEL,
            "hardware": HARDWARE,
            "partner": Part(optional=True),
            "tracking": Part(),
            "launcher": Part(),
            "vars": FREE,
        }
    )


def _is_policy(config: Any) -> bool:
    """Return whether the algorithm of a configuration has a policy and nothing to train."""
    algo = config.get("algo")
    return isinstance(algo, dict) and "policy" in algo and algo.get("module") is None


def _target(config: Any, *names: str) -> str | None:
    """Return the `_target_` at a place of a configuration, if there is one."""
    for name in (*names, "_target_"):
        config = config.get(name) if isinstance(config, dict) else None
    return config if isinstance(config, str) else None


_BETAS = Annotated[list[Annotated[float | int, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
_PRICES = Block({"prompt": _MaybeSize, "completion": _MaybeSize}, optional=True)
_REQUEST = Block(
    {
        "temperature": _MaybeSize,
        "top_p": _MaybeTopP,
        "max_tokens": _MaybeCount,
        "max_completion_tokens": _MaybeCount,
    },
    others=Any,
    optional=True,
)
_PUBLISHED = {"trajectories": _MaybeCount, "success_rate": _MaybeShare} | dict.fromkeys(
    ("length_mean", "length_std", "return_std"), _MaybeSize
)
INSIDE: Mapping[tuple[str, str], Kind] = {
    ("lmrl.data.generate.load_or_generate", "published"): Block(_PUBLISHED, others=_MaybeNumber, optional=True),
    (_ENDPOINT, "sampling"): _REQUEST,
    (_ENDPOINT, "price"): _PRICES,
    (_ENDPOINT, "retries"): Part(optional=True, target="lmrl.policies.chat_settings.Retries"),
    ("lmrl.partners.partners.EndpointPartner", "endpoint"): Part(target=_ENDPOINT),
    ("lmrl.partners.partners.EndpointPartner", "prompt"): _PARTNER_PROMPT,
    ("lmrl.partners.partners.LocalPartner", "prompt"): _PARTNER_PROMPT,
    ("lmrl.partners.partners.LocalPartner", "sampling"): Part(optional=True, target=_DECODING),
    ("lmrl.models.loading.pretrained", "lora"): _LORA,
    ("lmrl.models.optim.Muon", "betas"): _BETAS,
    ("lmrl.sweeps.slurm.Slurm", "parameters"): Block(
        {
            "timeout_min": _MaybeCount,
            "cpus_per_task": _MaybeCount,
            "gpus_per_node": _MaybeZero,
            "nodes": _MaybeCount,
            "mem_gb": _MaybePositive,
            "slurm_partition": _MaybeText,
            "slurm_array_parallelism": _MaybeCount,
            "slurm_additional_parameters": Mapping[str, Any] | None,
        },
        others=Any,
        optional=True,
    ),
}
"""The contents of tables that an object takes, by its `_target_` and the name of its parameter."""

FOREIGN: Mapping[str, Signature] = {
    "torch.optim.AdamW": Signature(
        {
            "lr": Positive,
            "betas": _BETAS,
            "eps": Positive,
            "weight_decay": NonNegative,
            "amsgrad": bool,
            "maximize": bool,
            "foreach": bool | None,
            "capturable": bool,
            "differentiable": bool,
            "fused": bool | None,
        },
        is_open=False,
    ),
}
"""The parameters of objects of other libraries in `conf/`; those of further objects are unknown before an import."""
