r"""A square matrix by its factors: the determinant can be read off, and it is never singular (Glow).

    W = P L (U + diag(±eˢ)),    log|det W| = Σ s: d numbers instead of a determinant at a cost of d³

L has a unit diagonal and U a zero one; the permutation P and the signs are fixed buffers. The inverse is two triangular
systems.
"""

import torch
from torch import Tensor, nn
from torch.linalg import solve_triangular


class PLU(nn.Module):
    """A square matrix W = P L (U + diag(±eˢ)) by its factors; starts as a random orthogonal one, with determinant ±1."""

    def __init__(self, size: int):
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(torch.linalg.qr(torch.randn(size, size))[0])
        diagonal = upper.diagonal()
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(±eˢ)."""
        lower = self.lower.tril(-1) + torch.eye(len(self.sign)).to(self.lower)
        return lower, self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())

    def log_det(self) -> Tensor:
        """log|det W|, shape ()."""
        return self.log_diagonal.sum()

    def times(self, x: Tensor) -> Tensor:
        """W x of columns (..., size, m): factor by factor, unless there are so many columns that W itself is cheaper."""
        lower, upper = self.factors()
        if x.shape[-1] > len(self.sign):
            return (self.permutation @ lower @ upper) @ x
        return self.permutation @ (lower @ (upper @ x))

    def solve(self, z: Tensor) -> Tensor:
        """W⁻¹ z of columns (..., size, m), by two triangular systems."""
        lower, upper = self.factors()
        y = solve_triangular(lower, self.permutation.T @ z, upper=False, unitriangular=True)
        return solve_triangular(upper, y, upper=True)
