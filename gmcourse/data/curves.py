r"""Densities along a curve: a point on it, plus Gaussian noise.

    x = c_B(T) + σ ε,   T ~ U(0, 1),   B one of b branches, equally likely,   ε ~ N(0, I)
    p(x) = 1/b Σ_B ∫₀¹ N(x; c_B(t), σ² I) dt

There is no closed form, but the integral has one dimension and a smooth integrand, so a few hundred nodes give it to
eight digits. An open branch is cut into panels of equal length with the Gauss–Legendre rule on each; round a closed
one, equal steps of one σ are enough, since the trapezoid rule errs by exp(−2π²σ²/step²). A quadrature of Gaussians is
a mixture of Gaussians, Σ_i ω_i N(x; c(t_i), σ² I), so log-density and score are those of `Gaussians`. Where points
are many, only the nodes near to each are summed (`nearby`), which is ten times faster.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gmcourse.data.gaussians import Gaussians
from gmcourse.data.known import Box, KnownDensity, check_diffusion, check_width, entropy_on_grid
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.nearby import View, by_cell

Curve = Callable[[Tensor], Tensor]  # t (n,) in [0, 1] -> points (branches, n, 2)
RULE = 16  # Gauss–Legendre nodes on a panel
PANEL = 9.0  # length of a panel in widths of the integrand
REACH = 6.0  # σ: how far off the curve the rule stays exact
FEW = 4000  # points; for less, sorting costs more than it saves


def gauss_legendre(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the composite Gauss–Legendre rule, `RULE` nodes between any two edges."""
    node, weight = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(RULE))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * node).flatten(), (half[:, None] * weight).flatten()


def quadrature(points: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Nodes t and weights for ∫₀¹ N(x; c(t), σ² I) dt, from points c(t) (n, 2) at equal steps of t from 0 to 1.

    Along a straight curve the integrand is a Gaussian of width σ. Seen from a distance r outside a bend of curvature
    κ it narrows to σ/√(1 + rκ): lengths are measured in that unit, at r = 6σ.
    """
    step = points[1:] - points[:-1]
    length = step.norm(dim=1)
    direction = (step / length[:, None]).nan_to_num()
    turn = torch.cat([(direction[1:] - direction[:-1]).norm(dim=1), length.new_zeros(1)])
    widths = (length.square() + REACH * sigma * length * turn).sqrt() / sigma
    closed = (points[0] - points[-1]).norm() + (step[0] - step[-1]).norm() < 0.01 * length[0]
    if closed:
        count = max(RULE, math.ceil(len(widths) * widths.max().item()))
        return torch.arange(count, dtype=points.dtype) / count, points.new_full((count,), 1 / count)
    upto = torch.cat([widths.new_zeros(1), widths.cumsum(0)])
    panels = math.ceil(upto[-1].item() / PANEL)
    edges = np.interp(np.linspace(0, upto[-1].item(), panels + 1), upto, np.linspace(0, 1, len(points)))
    return gauss_legendre(torch.from_numpy(edges))


class CurveDensity(KnownDensity):
    """The law of c_B(T) + σ ε; its `curve` may have several branches.

    Args:
        curve: maps t (n,) in [0, 1] to points (branches, n, 2).
        sigma: standard deviation of the noise across and along the curve.

    >>> line = CurveDensity(lambda t: torch.stack([4 * t - 2, 0 * t], -1)[None], sigma=0.1)
    >>> line.log_prob(torch.zeros(1, 2)).exp()     # 1/4 along, 1/(σ√2π) across
    tensor([0.9974])
    """

    def __init__(self, curve: Curve, sigma: float):
        super().__init__((2,))
        self.curve, self.sigma = curve, check_width(sigma)
        self._nodes = self._discretised()

    def _discretised(self) -> Gaussians:
        fine = self.curve(torch.linspace(0, 1, 4001, dtype=torch.float64))
        if fine.ndim != 3 or fine.shape[1:] != (4001, 2):
            raise ValueError(f"curve must map t (n,) to points (branches, n, 2); got {tuple(fine.shape)} for n = 4001")
        nodes, weights = [], []
        for branch, points in enumerate(fine):
            t, weight = quadrature(points, self.sigma)
            nodes.append(self.curve(t)[branch])
            weights.append(weight / len(fine))
        means = torch.cat(nodes)
        return Gaussians(torch.cat(weights).log(), means, torch.full_like(means[:, 0], self.sigma))

    @property
    def mean(self) -> Tensor:
        """E[x], shape (2,), float64."""
        return self._nodes.log_weights.exp() @ self._nodes.means

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, shape (2,), float64."""
        return self._nodes.log_weights.exp() @ (self._nodes.means - self.mean).square() + self.sigma**2

    def diffused(self, alpha: float, sigma: float) -> KnownDensity:
        """The law of alpha·x + sigma·ε: a smaller curve with more noise; at alpha = 0 a Gaussian."""
        alpha, sigma = check_diffusion(alpha, sigma)
        if alpha == 0:
            return GaussianMixture([1.0], [[0.0, 0.0]], sigma)
        return CurveDensity(Scaled(self.curve, alpha), math.hypot(alpha * self.sigma, sigma))

    def _draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        device = generator.device if generator else None
        points = self.curve(torch.rand(n, generator=generator, device=device))
        branch = torch.randint(len(points), (n,), generator=generator, device=device)
        chosen = points[branch, torch.arange(n, device=device)]
        return chosen + self.sigma * torch.randn(n, 2, generator=generator, device=device)

    def _log_prob(self, x: Tensor) -> Tensor:
        nodes = self._nodes.like(x)
        return nodes.log_prob(x) if len(x) <= FEW else by_cell(View.log_prob, nodes, x)

    def _score(self, x: Tensor) -> Tensor:
        nodes = self._nodes.like(x)
        return nodes.score(x) if len(x) <= FEW else by_cell(View.score, nodes, x)

    def _box(self, widths: float) -> Box:
        reach = widths * self.sigma
        low, high = self._nodes.means.amin(0) - reach, self._nodes.means.amax(0) + reach
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def _entropy(self) -> float:
        return entropy_on_grid(self, self.sigma)


@dataclass(frozen=True)
class Scaled:
    """The curve, every point multiplied by `factor`."""

    curve: Curve
    factor: float

    def __call__(self, t: Tensor) -> Tensor:
        return self.factor * self.curve(t)
