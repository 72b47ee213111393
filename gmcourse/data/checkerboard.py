r"""The checkerboard: uniform on 8 of 16 squares, and the same blurred by Gaussian noise.

Sharp (σ = 0), the density is 1/8 per unit area inside, 0 outside, and its score says nothing: 0 wherever it exists.
Blurred, it is a sum over the squares [a_i, a_i + s] × [a_j, a_j + s], one factor for each axis:

    p(x) = 1/(8 s²) Σ_{i+j even} I_i(x₁) I_j(x₂),     I_i(x) = Φ((x − a_i)/σ) − Φ((x − a_i − s)/σ)

Far out that difference is 0 in floating point. With z the distance from the interval's centre in units of σ, mirrored
to z ≤ 0, h = s/2σ its half-width and u = z + h, the scaled function erfcx(y) = e^{y²} erfc(y) keeps it apart from its
vanishing factor e^{−u²/2}:

    I = e^{−u²/2} J,     J = ½ [erfcx(−u/√2) − e^{2zh} erfcx(−(z−h)/√2)]     for u < 0
    d log I/dz = [φ(z+h) − φ(z−h)]/I = φ(0) (1 − e^{2zh})/J
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from gmcourse.data.gaussians import blocks, log_sum_exp
from gmcourse.data.known import Box, KnownDensity, check_diffusion, check_width, entropy_on_grid
from gmcourse.data.mixtures import GaussianMixture

CORNERS = torch.tensor([-2.0, -1.0, 0.0, 1.0], dtype=torch.float64)  # a_i / s along one axis
SQUARES = torch.tensor([(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0])  # (8, 2)
EDGE = 1e-6  # samples keep this far from the edges, or rounding would carry one in ten million across


class _OnSquares(constraints.Constraint):
    """Points of the 8 squares of a sharp board."""

    event_dim = 1

    def __init__(self, side: float):
        self.side = side

    def check(self, value: Tensor) -> Tensor:
        cells = (value / self.side).floor()
        return (cells.abs() <= 2).all(-1) & (cells < 2).all(-1) & (cells.sum(-1) % 2 == 0)


class Checkerboard(KnownDensity):
    """Uniform on the 8 squares (i, j), i + j even, of a 4 × 4 board centred at 0, blurred by N(0, sigma² I).

    Args:
        side: of one square; the board is [−2 side, 2 side]².
        sigma: of the blur; 0 for the sharp board, whose entropy is ln(8 side²).
    """

    def __init__(self, side: float = 1.0, sigma: float = 0.0):
        super().__init__((2,))
        self.side = check_width(side, "side")
        self.sigma = check_width(sigma) if sigma != 0 else 0.0

    @property
    def support(self) -> constraints.Constraint:
        """The squares, or the plane if the board is blurred."""
        return constraints.real_vector if self.sigma else _OnSquares(self.side)

    @property
    def mean(self) -> Tensor:
        """E[x] = 0, shape (2,), float64."""
        return torch.zeros(2, dtype=torch.float64)

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate: each is uniform on [−2 side, 2 side], plus the blur; shape (2,), float64."""
        return torch.full((2,), (4 * self.side) ** 2 / 12 + self.sigma**2, dtype=torch.float64)

    def diffused(self, alpha: float, sigma: float) -> KnownDensity:
        """The law of alpha·x + sigma·ε: a smaller board with more blur; at alpha = 0 a Gaussian."""
        alpha, sigma = check_diffusion(alpha, sigma)
        if alpha == 0:
            return GaussianMixture([1.0], [[0.0, 0.0]], sigma)
        return Checkerboard(alpha * self.side, math.hypot(alpha * self.sigma, sigma))

    def _draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        device = generator.device if generator else None
        square = torch.randint(len(SQUARES), (n,), generator=generator, device=device)
        within = torch.rand(n, 2, generator=generator, device=device) * (1 - 2 * EDGE) + EDGE
        sharp = self.side * (CORNERS.to(within)[SQUARES.to(square)[square]] + within)
        return sharp + self.sigma * torch.randn(n, 2, generator=generator, device=device) if self.sigma else sharp

    def _log_prob(self, x: Tensor) -> Tensor:
        if self.sigma:
            return torch.cat([log_sum_exp(self._log_terms(*self._standardised(block))) for block in blocks(x, 8)])
        inside = self.support.check(x) | x.isnan().any(1)
        flat = x.sum(1) * 0 - math.log(len(SQUARES) * self.side**2)  # autograd finds the slope 0, and a NaN stays
        return torch.where(inside, flat, -math.inf)

    def _score(self, x: Tensor) -> Tensor:
        if self.sigma:
            return torch.cat([self._pull(*self._standardised(block)) for block in blocks(x, 8)])
        return torch.zeros_like(x)

    def _standardised(self, x: Tensor) -> tuple[Tensor, float]:
        """Distances z (n, 2, 4) from the intervals' centres along both axes, and their half-width h, in units of σ."""
        centres = self.side * (CORNERS.to(x) + 0.5)
        return (x[:, :, None] - centres) / self.sigma, 0.5 * self.side / self.sigma

    def _log_terms(self, z: Tensor, h: float) -> Tensor:
        """log of each square's term of p(x), (n, 2, 4) -> (n, 8)."""
        log_i = log_interval(z, h)
        column, row = SQUARES.T
        return log_i[:, 0, column] + log_i[:, 1, row] - math.log(len(SQUARES) * self.side**2)

    def _pull(self, z: Tensor, h: float) -> Tensor:
        share, slope = self._log_terms(z, h).softmax(1), log_interval_slope(z, h) / self.sigma
        return torch.stack([(share * slope[:, axis, SQUARES[:, axis]]).sum(1) for axis in range(2)], 1)

    def _box(self, widths: float) -> Box:
        reach = 2 * self.side + widths * self.sigma
        return [(-reach, reach)] * 2

    def _entropy(self) -> float:
        return entropy_on_grid(self, self.sigma) if self.sigma else math.log(len(SQUARES) * self.side**2)


def scaled_interval(z: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """The pair (u, J) with Φ(z + h) − Φ(z − h) = e^{−min(u, 0)²/2} J, for z ≤ 0."""
    u, v = z + h, z - h
    scaled = torch.special.erfcx(u.clamp(max=0) / -math.sqrt(2))
    outside = 0.5 * (scaled - (2 * h * z).exp() * torch.special.erfcx(v / -math.sqrt(2)))
    return u, torch.where(u < 0, outside, torch.special.ndtr(u) - torch.special.ndtr(v))


def log_interval(z: Tensor, h: float) -> Tensor:
    """log(Φ(z + h) − Φ(z − h)), for any z, however far out."""
    u, j = scaled_interval(-z.abs(), h)
    return (j.log() - 0.5 * u.clamp(max=0).square()).clamp(min=0.25 * torch.finfo(z.dtype).min)


def log_interval_slope(z: Tensor, h: float) -> Tensor:
    """d/dz of `log_interval`."""
    u, j = scaled_interval(-z.abs(), h)
    height = (-0.5 * u.clamp(min=0).square()).exp() / math.sqrt(2 * math.pi)
    return z.sign() * height * torch.expm1(-2 * h * z.abs()) / j
