"""Multilayer perceptrons between tensors of any shape."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected net from events of one shape to events of another, with SiLU between the layers.

    Args:
        inputs, outputs: a number of features, or the shape of one event; () for one number, (n,).
        hidden: widths of the hidden layers.
        input_scale: factor on the first layer's initial weights. A plain net prefers slow functions of its input; a factor
            of 3–4 lets it see detail that is small against the spread of the data.

    >>> import torch
    >>> MLP(2, (1, 8, 8)).forward(torch.zeros(5, 2)).shape
    torch.Size([5, 1, 8, 8])
    """

    def __init__(
        self,
        inputs: int | Sequence[int],
        outputs: int | Sequence[int],
        hidden: Sequence[int] = (128, 128),
        *,
        activation: type[nn.Module] = nn.SiLU,
        input_scale: float = 1.0,
    ):
        super().__init__()
        self.shape = (outputs,) if isinstance(outputs, int) else tuple(outputs)
        sizes = [inputs if isinstance(inputs, int) else prod(inputs), *hidden, prod(self.shape)]
        layers: list[nn.Module] = []
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(before, after), activation()]
        layers[0].weight.data.mul_(input_scale)
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(n, *inputs) -> (n, *outputs)."""
        return self.layers(x.flatten(1)).reshape(len(x), *self.shape)
