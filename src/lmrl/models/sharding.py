"""Networks spread over processes: who holds which part, and when all of them are whole again.

A sharded module is one whose transformer blocks and, apart from these, whose remaining parameters (embeddings, heads)
are each split over the processes. While it computes, the remaining parameters are whole and the blocks become so one
after the other, which needs all processes to do the same at the same time. Work that is not in step, such as playing
episodes, happens in `whole`.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

M = TypeVar("M", bound=nn.Module)


def blocks(module: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks of all language models in a module, each once.

    They are the members of each model's largest list of modules of one class.
    """
    found: dict[int, nn.Module] = {}
    for model in module.modules():
        if isinstance(model, PreTrainedModel):
            lists = [
                part for part in model.modules() if isinstance(part, nn.ModuleList) and len(set(map(type, part))) == 1
            ]
            found |= {id(block): block for block in max(lists, key=_size, default=())}
    return list(found.values())


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shard(module: nn.Module, mesh: DeviceMesh, step: str) -> None:
    """Split all parameters of a module over the processes of a mesh; frozen ones too.

    Args:
        module: the whole module, which contains all networks.
        mesh: the processes.
        step: name of the method that computes; in it, and in the backward pass of its result, all processes keep step.
    """
    if isinstance(module, FSDPModule):
        return
    for block in blocks(module):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    module.begin = _nothing  # type: ignore[assignment]
    for name in (step, "begin"):
        register_fsdp_forward_method(module, name)


def is_sharded(module: nn.Module) -> bool:
    """Tell whether `shard` has split a module, so that all processes must make the same forward passes."""
    return isinstance(module, FSDPModule)


def _nothing() -> None:
    """Serve as the first computation of a sharded module, by which PyTorch finds its root."""


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Give every process all parameters of a module for a while, to compute without keeping step with the others.

    All processes must enter together. Parameters must not be changed inside. Modules that are not sharded, or are
    whole already, stay as they are.
    """
    sharded = [part for part in module.modules() if isinstance(part, FSDPModule) and _lies_in_shards(part)]
    if module in sharded:
        module.begin()  # type: ignore[operator]
    inner = [part for part in sharded if part is not module]
    for part in sharded:
        part.unshard()
    for part in inner:
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in inner:
            part.set_reshard_after_forward(True, recurse=False)
        for part in sharded:
            part.reshard()


def _lies_in_shards(part: nn.Module) -> bool:
    """Tell whether the parameters that a part manages itself, not through an inner part, are in shards now."""
    inner = [module for module in part.modules() if isinstance(module, FSDPModule) and module is not part]
    managed = {id(parameter) for module in inner for parameter in module.parameters()}
    return any(isinstance(parameter, DTensor) for parameter in part.parameters() if id(parameter) not in managed)


def gathered(value: Any) -> list[Any]:
    """Return the value that each training process has, in order of rank."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def emptied(module: M) -> M:
    """Copy a module without the numbers of its parameters; modules that share parameters still do in the copy."""
    memo = {id(p): nn.Parameter(p.detach().new_empty(0), p.requires_grad) for p in module.parameters()}
    return copy.deepcopy(module, memo)


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give an emptied module parameters and buffers; it keeps the tensors themselves.

    Raises:
        KeyError: the state lacks a parameter.
    """
    for name, parameter in module.named_parameters():
        parameter.data = state[name]
    for name, buffer in module.named_buffers():
        if name in state:
            buffer.copy_(state[name])


def recompute_activations(module: nn.Module) -> None:
    """Let trained language models keep only the input of each block, and compute the rest again in the backward pass.

    Raises:
        ValueError: an architecture cannot.
    """
    for model in module.modules():
        if isinstance(model, PreTrainedModel) and any(p.requires_grad for p in model.parameters()):
            model.activation_checkpointing_enable({"use_reentrant": False})


def compile_blocks(module: nn.Module) -> None:
    """Compile the transformer blocks for those forward passes that a backward one follows.

    Playing and targets stay as they are: their shapes change at every call.
    """
    for block in blocks(module):
        if any(parameter.requires_grad for parameter in block.parameters()):
            block.forward = _compiled_for_training(block.forward)


def _compiled_for_training(forward: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(forward)

    def either(*args: Any, **kwargs: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else forward)(*args, **kwargs)

    return either
