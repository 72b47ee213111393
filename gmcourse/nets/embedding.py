r"""Embeddings: coordinates seen as waves, so that a small net can learn detail.

    x ↦ (x, sin xW, cos xW),      W ~ N(0, scale²), fixed                        Rahimi & Recht 2007; Tancik et al. 2020

A net with smooth activations learns slow functions of its input first, and what changes within a tenth of the data's spread
very late. Of a sine of the right frequency such detail is a slow function. `scale` says what is seen: structure of width
about 1/scale, in the units of x.
"""

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """x (..., inputs) -> (x, sin xW, cos xW), shape (..., inputs + 2·columns); W is a buffer, saved with the weights.

    Args:
        inputs: length of x.
        columns: number of random frequencies.
        scale: their standard deviation, in radians per unit of x.

    >>> FourierFeatures(2, columns=3)(torch.zeros(5, 2)).shape
    torch.Size([5, 8])
    """

    def __init__(self, inputs: int, columns: int = 32, scale: float = 4.0):
        super().__init__()
        if columns < 1:
            raise ValueError(f"columns must be at least 1; got {columns}")
        if not scale > 0:
            raise ValueError(f"scale must be positive; got {scale}")
        self.outputs = inputs + 2 * columns
        self.register_buffer("frequencies", scale * torch.randn(inputs, columns))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        phase = x @ self.frequencies
        return torch.cat([x, phase.sin(), phase.cos()], -1)

    def extra_repr(self) -> str:
        """Sizes, as in the constructor."""
        return f"{self.frequencies.shape[0]}, columns={self.frequencies.shape[1]}"
