"""Residual cells: x + f(x), the building blocks of deep paths that stay trainable."""

import torch
from torch import Tensor, nn


class DenseCell(nn.Module):
    """x + f(x) on vectors: normalise, SiLU, linear, SiLU, linear; starts as the identity, its last layer at zero."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), zeroed(nn.Linear(width, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        return x + self.layers(x)


class ConvCell(nn.Module):
    """x + f(x) on feature maps: GroupNorm, SiLU, 3×3 convolution, twice; starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        groups = max(g for g in (8, 4, 2, 1) if channels % g == 0)
        self.layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels), nn.SiLU(), zeroed(nn.Conv2d(channels, channels, 3, padding=1)),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, channels, h, w)."""
        return x + self.layers(x)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with weight and bias set to zero: its output starts at 0, so what it is added to starts unchanged."""
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    return layer
