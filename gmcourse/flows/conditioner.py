r"""The nets of coupling layers: ordinary MLPs that hand out their result column by column.

A transformer wants its numbers h as (k, d, n): number j of coordinate i, for all data next to each other in memory. The last
layer computes W hᵀ instead of h Wᵀ, and the transposition, which costs as much as a layer, is never made.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ColumnLinear(nn.Linear):
    """nn.Linear on vectors (n, inputs), the same numbers in the same shape (n, outputs), stored column after column."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs), a transposed view."""
        return torch.addmm(self.bias.unsqueeze(1), self.weight, x.T).T


def in_place(activation: nn.Module) -> nn.Module:
    """The activation, overwriting its input if it is one whose derivative can be read off its output."""
    if isinstance(activation, nn.ReLU):
        activation.inplace = True
    return activation


def conditioner(
    inputs: int, outputs: int, hidden: Sequence[int] = (64, 64), activation: type[nn.Module] = nn.SiLU
) -> nn.Sequential:
    """MLP from (n, inputs) to (n, outputs), fit for Coupling."""
    layers: list[nn.Module] = []
    for before, after in zip((inputs, *hidden), hidden, strict=False):
        layers += [nn.Linear(before, after), in_place(activation())]
    return nn.Sequential(*layers, ColumnLinear((inputs, *hidden)[-1], outputs))
