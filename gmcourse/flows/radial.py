r"""Radial flows: blow up or draw in the space around a point.

    z = x + β h(r) (x − x₀),      h(r) = 1/(α + r),  r = ‖x − x₀‖                                         slides (10)
    det ∂z/∂x = (1 + βh)^(D−1) (1 + βh + βh′r) = (1 + βh)^(D−1) (1 + αβh²)

(The slides' formula lacks the β before h′.) It is a bijection if β > −α, α > 0, which holds by construction:
α = softplus(a) + 10⁻³, β = α m(b/α) with the m of `planar`. Directions from x₀ stay, so that the inverse needs r alone, and
‖z − x₀‖ = r + βr/(α + r) is a quadratic in r: both directions are cheap.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gmcourse.flows.amortised import Amortised, check_vectors
from gmcourse.flows.layer import Layer
from gmcourse.flows.planar import above_minus_one


class Radial(Layer):
    """z = x + β/(α + r) (x − x₀) on vectors of size `dim`, slides (10)."""

    def __init__(self, dim: int, *, context: int = 0):
        super().__init__()
        self.dim = dim
        centre, a, b = torch.randn(dim), torch.zeros(()), 0.3 * torch.randn(())
        self.parts = Amortised({"centre": centre, "a": a, "b": b}, context)

    def shape(self, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x₀ (1 or n, dim), α > 0 and β > −α, both (1 or n,)."""
        centre, a, b = self.parts(context).values()
        alpha = F.softplus(a) + 1e-3
        return centre, alpha, alpha * above_minus_one(b / alpha)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cheap."""
        centre, alpha, beta = self.shape(context)
        offset = check_vectors(x, self.dim) - centre
        r = torch.linalg.vector_norm(offset, dim=1)
        return x + (beta / (alpha + r))[:, None] * offset, self._log_det(r, alpha, beta)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cheap, too: the positive root of r² + (α + β − ρ) r − αρ = 0, ρ = ‖z − x₀‖, without cancellation."""
        centre, alpha, beta = self.shape(context)
        offset = check_vectors(z, self.dim) - centre
        rho = torch.linalg.vector_norm(offset, dim=1)
        half = (alpha + beta - rho) / 2
        size = half.abs() + torch.sqrt(half.square() + alpha * rho)
        r = torch.where(half > 0, alpha * rho / size, size)
        x = centre + offset / (1 + beta / (alpha + r))[:, None]
        return x, self._log_det(r, alpha, beta)

    def _log_det(self, r: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        h = 1 / (alpha + r)
        return (self.dim - 1) * torch.log1p(beta * h) + torch.log1p(alpha * beta * h.square())
