"""Muon: steps of equal size in all directions for the matrices inside a transformer, AdamW for everything else."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor

from lmrl.config.types import NonNegative, Positive, Share, checked
from lmrl.functional import like

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration of Jordan et al. 2024, which has the steepest slope at 0."""
_ITERATIONS = 5


def orthogonalized(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Return U V^T of a matrix U S V^T, roughly: singular values come to lie between 0.7 and 1.2.

    In the matrix's own precision, as bfloat16 (PyTorch's `torch.optim.Muon`) is slow on processors without it.
    """
    a, b, c = _QUINTIC
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


class Muon(torch.optim.AdamW):
    """Momentum, orthogonalized, for parameter groups with `matrices: true`; AdamW for the other groups.

    A step moves the entries of a matrix by `matrix_scale` times the learning rate, root mean square, whatever its
    shape. A small transformer from random weights, which has to learn the spelling of its tokens, begins to learn
    after about half of AdamW's steps; where it ends was the same (docs/notes/wordle.md).

    Sources: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); Liu et al. 2025 (arXiv 2502.16982), for steps
    whose size does not depend on the shape.

    Args:
        params: parameters or groups of them.
        lr: learning rate of all of them.
        matrix_scale: size of a matrix's step relative to the learning rate, above 0.
        momentum: of the matrices, in [0, 1].
        betas: of AdamW.
        eps: of AdamW, above 0.
        weight_decay: of groups that do not say otherwise, at least 0.
        fused: whether AdamW's part runs as one kernel.
    """

    @checked
    def __init__(
        self,
        params: Any,
        *,
        lr: Positive = 1e-3,
        matrix_scale: Positive = 1.5,
        momentum: Share = 0.95,
        betas: Any = (0.9, 0.99),
        eps: Positive = 1e-8,
        weight_decay: NonNegative = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, fused=fused)
        self.matrix_scale, self.momentum = matrix_scale, momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step matrices here, and everything else as AdamW does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group.get("matrices"):
                for matrix in group["params"]:
                    self._step_matrix(matrix, group)
        self.param_groups = [group for group in groups if not group.get("matrices")]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _step_matrix(self, matrix: Tensor, group: dict[str, Any]) -> None:
        """Step one matrix, with Nesterov's momentum; all processes at once, if it is spread over them."""
        if matrix.grad is None:
            return
        state = self.state[matrix]
        if not state:  # AdamW looks for `step` in all states that it loads
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(matrix)
        state["step"] += 1
        state["momentum"].mul_(self.momentum).add_(matrix.grad)
        direction = _whole(orthogonalized, matrix.grad + self.momentum * state["momentum"])
        size = self.matrix_scale * group["lr"]
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(direction, alpha=-size * max(matrix.shape) ** 0.5)  # an orthogonal matrix has RMS 1 / sqrt(max)


def _whole(function: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
    """Apply a function that needs a whole matrix. If it is spread over processes, each computes all of it once more."""
    return like(function(matrix.full_tensor() if isinstance(matrix, DTensor) else matrix), matrix)
