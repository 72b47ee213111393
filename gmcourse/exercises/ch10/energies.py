"""Energies to check with: small, smooth, of known curvature, and particular about the shape of what they are given."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gmcourse.exercises.core import Random

Function = Callable[[Tensor], Tensor]


class Landscape(nn.Module):
    """E(x) = ½ b ‖x‖² + Σ_h tanh(x · w_h), x (n, *event_shape) -> (n,), with the weights w (D, h) as its one parameter."""

    def __init__(self, random: Random, event_shape: Sequence[int], units: int, *, scale: float = 1.5):
        super().__init__()
        self.event_shape, self.bowl = tuple(event_shape), 0.5
        dims = math.prod(event_shape)
        self.weight = nn.Parameter(random.normal(dims, units) * scale / math.sqrt(dims))

    def forward(self, x: Tensor) -> Tensor:
        """(n, *event_shape) -> (n,)."""
        if x.ndim != 1 + len(self.event_shape) or tuple(x.shape[1:]) != self.event_shape:
            wanted = ", ".join(str(size) for size in ("n", *self.event_shape))
            raise ValueError(f"energy wants shape ({wanted}); got {tuple(x.shape)}")
        x = x.flatten(1)
        return self.bowl / 2 * x.square().sum(1) + torch.tanh(x @ self.weight).sum(1)

    def steepness(self) -> float:
        """A bound of ‖∇²E‖: tanh bends by less than 0.77."""
        return self.bowl + 0.77 * float(torch.linalg.matrix_norm(self.weight.detach(), 2)) ** 2


def valley(matrix: Tensor) -> Function:
    """E(x) = ½ xᵀ A x, A (d, d) symmetric; x (n, d) -> (n,)."""

    def energy(x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != len(matrix):
            raise ValueError(f"energy wants shape (n, {len(matrix)}); got {tuple(x.shape)}")
        return torch.einsum("ni,ij,nj->n", x, matrix, x) / 2

    return energy


def slope(energy: Function, x: Tensor) -> Tensor:
    """∇E(x), with a graph behind it where gradients are wanted."""
    wanted = torch.is_grad_enabled()
    with torch.enable_grad():
        at = x if x.requires_grad else x.detach().requires_grad_()
        (found,) = torch.autograd.grad(energy(at).sum(), at, create_graph=wanted)
    return found


def hessians(energy: Function, x: Tensor) -> Tensor:
    """∇²E at each row of x (n, d), (n, d, d), without a graph."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        return jacobians(slope(energy, at), at).detach()


def jacobians(y: Tensor, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """∂y_i/∂x_i for each row of y (n, m), (n, m, d)."""
    rows = [torch.autograd.grad(column.sum(), x, retain_graph=True, create_graph=create_graph)[0] for column in y.unbind(1)]
    return torch.stack(rows, 1)
