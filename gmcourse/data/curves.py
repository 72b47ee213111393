r"""Densities along a curve: a point on it, plus Gaussian noise.

    x = c_B(T) + σ ε,   T ~ U(0, 1),   B one of b branches,   ε ~ N(0, I)
    p(x) = Σ_B w_B ∫₀¹ N(x; c_B(t), σ² I) dt

There is no closed form, but the integral has one dimension and a smooth integrand, so a few hundred nodes give it to all the
digits of float64: branches are cut into panels of equal arc length, with the Gauss–Legendre rule on each. A quadrature of
Gaussians is a mixture of Gaussians, Σ_i ω_i N(x; c(t_i), σ² I), so log-density and score are those of `Gaussians`.

Only the nodes close to a point matter. Many points are therefore sorted into regions along the curve, and each region uses
the nodes that its points can see (`Gaussians.near`): ten times faster, equal to 1e-10.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gmcourse.data.gaussians import Gaussians
from gmcourse.data.known import Box, KnownDensity, check_diffusion, check_width, entropy_on_grid

Curve = Callable[[Tensor], Tensor]  # t (n,) in [0, 1] -> points (branches, n, 2)
RULE = 16  # Gauss–Legendre nodes on a panel
PANEL = 8.0  # length of a panel in units of σ; the tests hold the error below 1e-8
ALL_AT_ONCE = 512  # up to so many points, sorting costs more than it saves


def gauss_legendre(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the composite Gauss–Legendre rule with `RULE` nodes between any two edges, float64."""
    node, weight = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(RULE))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return (middle[:, None] + half[:, None] * node).flatten(), (half[:, None] * weight).flatten()


def equal_lengths(points: Tensor, longest: float) -> Tensor:
    """Cut a curve, given as a fine polygon (n, 2) at equal steps of t in [0, 1], into pieces no longer than `longest`.

    Returns the edges' values of t.
    """
    length = torch.cat([torch.zeros(1, dtype=points.dtype), (points[1:] - points[:-1]).norm(dim=1).cumsum(0)])
    pieces = max(1, math.ceil(length[-1].item() / longest))
    if pieces == 1:
        return torch.tensor([0.0, 1.0], dtype=points.dtype)
    at = torch.linspace(0, length[-1].item(), pieces + 1)
    return torch.from_numpy(np.interp(at, length, np.linspace(0, 1, len(points))))


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
        self._nodes = self._quadrature()

    def _quadrature(self) -> Gaussians:
        fine = self.curve(torch.linspace(0, 1, 4001, dtype=torch.float64))
        if fine.ndim != 3 or fine.shape[1:] != (4001, 2):
            raise ValueError(f"curve must map t (n,) to points (branches, n, 2); got {tuple(fine.shape)} for n = 4001")
        nodes, weights = [], []
        for branch, points in enumerate(fine):
            t, weight = gauss_legendre(equal_lengths(points, PANEL * self.sigma))
            nodes.append(self.curve(t)[branch])
            weights.append(weight / len(fine))
        means = torch.cat(nodes)
        return Gaussians(torch.cat(weights).log(), means, torch.full((len(means),), self.sigma, dtype=torch.float64))

    @property
    def mean(self) -> Tensor:
        """E[x], shape (2,), float64."""
        return self._nodes.log_weights.exp() @ self._nodes.means

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, shape (2,), float64."""
        return self._nodes.log_weights.exp() @ (self._nodes.means - self.mean).square() + self.sigma**2

    def diffused(self, alpha: float, sigma: float) -> "CurveDensity":
        """The law of alpha·x + sigma·ε: the curve shrinks by alpha, its noise grows to √(alpha²σ² + sigma²)."""
        check_diffusion(alpha, sigma)
        return CurveDensity(Scaled(self.curve, alpha), math.hypot(alpha * self.sigma, sigma))

    def _draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        device = generator.device if generator else None
        points = self.curve(torch.rand(n, generator=generator, device=device))
        branch = torch.randint(len(points), (n,), generator=generator, device=device)
        chosen = points[branch, torch.arange(n, device=device)]
        return chosen + self.sigma * torch.randn(n, 2, generator=generator, device=device)

    def _log_prob(self, x: Tensor) -> Tensor:
        return by_regions(Gaussians.log_prob, self._nodes.like(x), x)

    def _score(self, x: Tensor) -> Tensor:
        return by_regions(Gaussians.score, self._nodes.like(x), x)

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


def by_regions(formula: Callable[[Gaussians, Tensor], Tensor], nodes: Gaussians, x: Tensor) -> Tensor:
    """formula(nodes, x) for many points x (n, d), region by region with the nodes in view."""
    if len(x) <= ALL_AT_ONCE:
        return formula(nodes, x)
    with torch.no_grad():
        region, order = torch.cdist(x, nodes.means[RULE // 2 :: RULE]).argmin(1).sort()
        sizes = region.unique_consecutive(return_counts=True)[1].tolist()
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(x), device=x.device))
    parts = [formula(nodes.near(points.detach()), points) for points in x[order].split(sizes)]
    return torch.cat(parts)[place]
