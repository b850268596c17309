"""Training over several devices with sharded parameters (`fully_shard`), as a strategy of Lightning."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lmrl.functional import like


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for `fully_shard`, over all processes of all nodes.

    Its checkpoints are those of one process: one file with whole tensors, written by the first process, from which any
    number of processes can continue, sharded or not.
    """

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Start the processes' communication; all of them form one data-parallel group."""
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning hands optimizer states back to `load_optimizer_state_dict`: as for one process, yes."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return whole weights on the first process, nothing on the others."""
        module: Any = self.lightning_module
        return assembled(module.state_dict(keep_vars=True), keep=self.is_global_zero)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give each process its part of whole weights."""
        module: Any = self.lightning_module
        own = module.state_dict(keep_vars=True)
        parts = {name: like(value, own.get(name)) for name, value in checkpoint["state_dict"].items()}
        module.load_state_dict(parts, strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return whole moments on the first process, nothing on the others."""
        state: Any = getattr(optimizer, "_optimizer", optimizer).state_dict()
        whole = {key: assembled(values, keep=self.is_global_zero) for key, values in state["state"].items()}
        return {**state, "state": whole} if self.is_global_zero else {}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = True) -> dict[str, Any]:
        """Read the file on every process; nothing in it is executed."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only is not False)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each process its part of whole moments."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            parts = {
                key: {name: like(value, parameters[key]) for name, value in values.items()}
                for key, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": parts})


def assembled(values: Mapping[Any, Any], keep: bool) -> dict[Any, Any]:
    """Put sharded tensors together; all processes must call this with the same keys.

    Args:
        values: tensors, sharded or not, and other values.
        keep: whether this process wants them; others only contribute their shards, and get nothing.
    """
    done: dict[int, Any] = {}
    for value in values.values():
        if id(value) not in done:  # networks that share weights have them under several names
            found = value.full_tensor() if isinstance(value, DTensor) else value
            done[id(value)] = found.detach().cpu() if keep and isinstance(found, Tensor) else found if keep else None
    return {name: done[id(value)] for name, value in values.items()} if keep else {}
