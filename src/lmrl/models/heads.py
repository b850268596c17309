"""Heads that read values from a language model's hidden states."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ValueHead(nn.Module):
    """A linear layer, or a two-layer perceptron, whose last layer starts at a constant.

    Zero weights and a constant bias make every initial value the same, so that a policy guided by them equals its
    prior at step 0 (as LMRL-Gym's heads do; hidden layer as wide as the model, ReLU).

    Args:
        width: size of the hidden states.
        outputs: 1 for a state value, the vocabulary's size for action values.
        hidden: whether there is a hidden layer.
        bias: the initial value, in units of return.
    """

    def __init__(self, *, width: int, outputs: int, hidden: bool = True, bias: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width) if hidden else None
        self.output = nn.Linear(width, outputs)
        nn.init.zeros_(self.output.weight)
        nn.init.constant_(self.output.bias, bias)

    def forward(self, states: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Return one value per output, in the precision of the weights also where the transformer computes in less.

        A value of -60 in bfloat16 is a multiple of 1/4, coarser than the differences between actions.
        """
        with torch.autocast(states.device.type, enabled=False):
            states = states.to(self.output.weight.dtype)
            if self.hidden is not None:
                states = torch.relu(self.hidden(states))
            return self.output(states)
