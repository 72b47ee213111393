r"""The parameters of a layer: free, or a linear function of the context.

    θ                      one set for all rows: a density
    θ(c) = A c + θ₀        one set per row: a conditional density, or the posterior of a VAE (Rezende & Mohamed 2015)
"""

import torch
from torch import Tensor, nn


class Amortised(nn.Module):
    """Named tensors that a layer is parametrised by.

    Args:
        initial: their initial values; with a context these are the values at context 0.
        context: numbers that they depend on; 0 for none.
    """

    def __init__(self, initial: dict[str, Tensor], context: int = 0):
        super().__init__()
        self.shapes = {name: value.shape for name, value in initial.items()}
        flat = torch.cat([value.flatten() for value in initial.values()])
        self.values = nn.Parameter(flat)
        self.context = context
        if context:
            self.slope = nn.Parameter(torch.randn(context, len(flat)) * 0.1 / context**0.5)

    def forward(self, context: Tensor | None) -> dict[str, Tensor]:
        """The tensors by name, with a leading dimension: 1, or n with a context (n, c)."""
        values = self.values[None]
        if self.context:
            if context is None or context.shape[1:] != (self.context,):
                came = None if context is None else tuple(context.shape)
                raise ValueError(f"context must have shape (n, {self.context}); got {came}")
            values = values + context @ self.slope
        parts = values.split([shape.numel() for shape in self.shapes.values()], 1)
        return {name: part.reshape(-1, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def check_vectors(x: Tensor, dim: int) -> Tensor:
    """Return x if it has shape (n, dim), else raise ValueError."""
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"x must have shape (n, {dim}); got {tuple(x.shape)}")
    return x
