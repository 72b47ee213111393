r"""The checkerboard: uniform on 8 of 16 squares, and the same blurred by Gaussian noise.

Sharp (σ = 0), the density is 1/8 per unit area inside, 0 outside, and its score says nothing: 0 wherever it exists. Blurred,
it is a sum over the squares [a_i, a_i + s] × [a_j, a_j + s], one factor for each axis:

    p(x) = 1/(8 s²) Σ_{i+j even} I_i(x₁) I_j(x₂),     I_i(x) = Φ((x − a_i)/σ) − Φ((x − a_i − s)/σ)

In the tails that difference is 0 in floating point, so everything runs on its logarithm. With z the distance from the
interval's centre in units of σ, mirrored to z ≤ 0, and h = s/2σ its half-width:

    log I = log Φ(z+h) + log(1 − e^−δ),        δ = log Φ(z+h) − log Φ(z−h)
    d log I/dz = λ(z+h) (1 − e^{2zh}) / (1 − e^−δ),     λ = φ/Φ

In float32 δ has few digits left when the noise dwarfs the squares: 1e-5 of the score is lost at σ = 100 s.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from gmcourse.data.known import Box, KnownDensity, check_diffusion, check_width, entropy_on_grid
from gmcourse.data.mixtures import GaussianMixture

CORNERS = torch.tensor([-2.0, -1.0, 0.0, 1.0], dtype=torch.float64)  # a_i / s along one axis
SQUARES = torch.tensor([(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0])  # (8, 2)


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
        check_diffusion(alpha, sigma)
        if alpha == 0:
            return GaussianMixture([1.0], [[0.0, 0.0]], sigma)
        return Checkerboard(alpha * self.side, math.hypot(alpha * self.sigma, sigma))

    def _draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        device = generator.device if generator else None
        square = torch.randint(len(SQUARES), (n,), generator=generator, device=device)
        within = torch.rand(n, 2, generator=generator, device=device)
        sharp = self.side * (CORNERS.to(within)[SQUARES.to(square)[square]] + within)
        return sharp + self.sigma * torch.randn(n, 2, generator=generator, device=device) if self.sigma else sharp

    def _log_prob(self, x: Tensor) -> Tensor:
        if self.sigma:
            return self._log_squares(log_interval(*self._standardised(x))).logsumexp(1)
        inside = self.support.check(x) | x.isnan().any(1)
        flat = x.sum(1) * 0 - math.log(len(SQUARES) * self.side**2)  # depends on x, so that autograd finds the slope 0
        return torch.where(inside, flat, -math.inf)

    def _score(self, x: Tensor) -> Tensor:
        if not self.sigma:
            return torch.zeros_like(x)
        z, h = self._standardised(x)
        share = self._log_squares(log_interval(z, h)).softmax(1)
        slope = log_interval_slope(z, h) / self.sigma
        return torch.stack([(share * slope[:, axis, SQUARES[:, axis]]).sum(1) for axis in range(2)], 1)

    def _standardised(self, x: Tensor) -> tuple[Tensor, float]:
        """Distances z (n, 2, 4) from the intervals' centres along both axes, and their half-width h, in units of σ."""
        centres = self.side * (CORNERS.to(x) + 0.5)
        return (x[:, :, None] - centres) / self.sigma, 0.5 * self.side / self.sigma

    def _log_squares(self, log_intervals: Tensor) -> Tensor:
        """log of each square's term of p(x), from log I (n, 2, 4), shape (n, 8)."""
        i, j = SQUARES.T
        return log_intervals[:, 0, i] + log_intervals[:, 1, j] - math.log(len(SQUARES) * self.side**2)

    def _box(self, widths: float) -> Box:
        reach = 2 * self.side + widths * max(self.sigma, self.side / 16)  # a sharp board, too, gets a margin in plots
        return [(-reach, reach)] * 2

    def _entropy(self) -> float:
        return entropy_on_grid(self, self.sigma) if self.sigma else math.log(len(SQUARES) * self.side**2)


def log_interval(z: Tensor, h: float) -> Tensor:
    """log(Φ(z + h) − Φ(z − h)), for any z, however far out."""
    z = -z.abs()
    upper = torch.special.log_ndtr(z + h)
    return upper + torch.log(-torch.expm1(torch.special.log_ndtr(z - h) - upper))


def log_interval_slope(z: Tensor, h: float) -> Tensor:
    """d/dz of `log_interval`."""
    side, z = -z.sign(), -z.abs()
    delta = torch.special.log_ndtr(z + h) - torch.special.log_ndtr(z - h)
    hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(-(z + h) / math.sqrt(2))
    return side * hazard * torch.expm1(2 * z * h) / torch.expm1(-delta)
