"""Energies whose law is known: Gaussians in closed form, a double well by quadrature.

    E(x) = ½ xᵀ Λ x                     ⇒   N(0, Λ⁻¹)
    E(x) = 2 (x² − 1)² + x/4, x in R    ⇒   two wells at about ±1, unequal, a barrier of 2 nats between
"""

import torch
from torch import Tensor, nn

SIGMA = torch.tensor([[2.0, 0.9], [0.9, 0.5]], dtype=torch.float64)
GRID = torch.linspace(-4, 4, 4001, dtype=torch.float64)


class GaussianEnergy(nn.Module):
    """½ xᵀΛx on events of any shape; Λ is a parameter, a number or a matrix (d, d)."""

    def __init__(self, precision=1.0):
        super().__init__()
        self.precision = nn.Parameter(torch.as_tensor(precision, dtype=torch.float64))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        flat, precision = x.reshape(len(x), -1), self.precision.to(x)
        image = flat @ precision if precision.ndim else precision * flat
        return 0.5 * (flat * image).sum(1)


def standard_score(x: Tensor) -> Tensor:
    """∇ log N(x; 0, I)."""
    return -x


def double_well(x: Tensor) -> Tensor:
    """Energy on the line, events of shape ()."""
    return 2 * (x.square() - 1).square() + x / 4


def well_moment(power: int, temperature: float = 1.0) -> float:
    """E[x^power] under e^{−E/T} of the double well."""
    return float((-double_well(GRID) / temperature).softmax(0) @ GRID**power)
