r"""The toy densities of the plane, all of known log-density, score and entropy.

    gaussians25, gaussians25_dot, gaussian_grid9, gaussians8    Gaussian mixtures with well separated modes
    swiss_roll, two_moons, rings, pinwheel                      curves with Gaussian noise
    checkerboard                                                uniform on 8 squares: sharp edges

A model's gap on such a set is −entropy() − E[log q(x)], in nats: the Kullback–Leibler divergence from truth to model.

>>> toy = get("gaussians25")
>>> toy.sample((3,)).shape, toy.entropy()
(torch.Size([3, 2]), tensor(1.1005))
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gmcourse.data.checkerboard import Checkerboard
from gmcourse.data.curves import CurveDensity
from gmcourse.data.known import KnownDensity, check_width
from gmcourse.data.mixtures import GaussianMixture


def lattice(side: int, spacing: float) -> Tensor:
    """Centres of a square grid of side² points around 0, shape (side², 2), float64."""
    axis = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
    return torch.cartesian_prod(axis, axis)


class _EqualMixture(GaussianMixture):
    """Equal weights, one width `sigma`."""

    def __init__(self, means: Tensor, sigma: float):
        self.sigma = check_width(sigma)
        super().__init__(torch.ones(len(means)), means, sigma)


class Gaussians25(_EqualMixture):
    """25 Gaussians with centres {−2, −1, 0, 1, 2}². The thesis leaves σ open; 0.0839 gives its −1.10 nats."""

    def __init__(self, sigma: float = 0.0839):
        super().__init__(lattice(5, 1.0), sigma)


class Gaussians25Dot(_EqualMixture):
    """25 Gaussians scaled as in the codes of WGAN-GP and DOT: centres 2·{−2 … 2}²/2.828, σ = 0.05/2.828."""

    def __init__(self, sigma: float = 0.05 / 2.828):
        super().__init__(lattice(5, 2 / 2.828), sigma)


class GaussianGrid9(_EqualMixture):
    """9 Gaussians with centres 1.5·{−1, 0, 1}²."""

    def __init__(self, sigma: float = 0.15):
        super().__init__(lattice(3, 1.5), sigma)


class Gaussians8(_EqualMixture):
    """8 Gaussians on a ring, the first centre at (radius, 0)."""

    def __init__(self, sigma: float = 0.1, radius: float = 2.0):
        angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
        super().__init__(radius * torch.stack([angle.cos(), angle.sin()], 1), sigma)


def polar(radius: Tensor, angle: Tensor) -> Tensor:
    """Points (…, 2) of the plane."""
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def swiss_roll_curve(u: Tensor) -> Tensor:
    """(t cos t, t sin t)/7.5 with t = 1.5π(1 + 2u), shape (1, n, 2)."""
    t = 1.5 * math.pi * (1 + 2 * u)
    return polar(t / 7.5, t)[None]


def two_moons_curve(t: Tensor) -> Tensor:
    """The outer half circle (cos πt, sin πt) and the inner one (1 − cos πt, ½ − sin πt), shape (2, n, 2)."""
    outer = polar(torch.ones_like(t), math.pi * t)
    return torch.stack([outer, outer.new_tensor([1.0, 0.5]) - outer])


@dataclass(frozen=True)
class RingsCurve:
    """Circles of the given radii around 0: t (n,) -> (rings, n, 2)."""

    radii: tuple[float, ...]

    def __call__(self, t: Tensor) -> Tensor:
        return t.new_tensor(self.radii)[:, None, None] * polar(torch.ones_like(t), 2 * math.pi * t)


@dataclass(frozen=True)
class PinwheelCurve:
    """Blades from radius 0.4 to 2, blade k at angle 2πk/blades + ½(e^{r/2} − 1): t (n,) -> (blades, n, 2)."""

    blades: int

    def __call__(self, t: Tensor) -> Tensor:
        radius = 0.4 + 1.6 * t
        first = torch.arange(self.blades, dtype=t.dtype, device=t.device)[:, None] * (2 * math.pi / self.blades)
        return polar(radius, first + 0.5 * torch.expm1(radius / 2))


class SwissRoll(CurveDensity):
    """scikit-learn's `make_swiss_roll(noise=0.25)`, axes 0 and 2, divided by 7.5."""

    def __init__(self, sigma: float = 0.25 / 7.5):
        super().__init__(swiss_roll_curve, sigma)


class TwoMoons(CurveDensity):
    """scikit-learn's `make_moons(noise=0.1)`: two interleaved half circles of radius 1."""

    def __init__(self, sigma: float = 0.1):
        super().__init__(two_moons_curve, sigma)


class Rings(CurveDensity):
    """Concentric rings, each with the same share of the mass, Gaussian noise in both directions."""

    def __init__(self, sigma: float = 0.08, radii: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)):
        if not radii or not all(0 < r < math.inf for r in radii):
            raise ValueError(f"radii must be positive and finite, at least one; got {radii}")
        super().__init__(RingsCurve(tuple(radii)), sigma)


class Pinwheel(CurveDensity):
    """Curved blades around the origin, uniform along the radius from 0.4 to 2, of constant width."""

    def __init__(self, sigma: float = 0.1, blades: int = 5):
        if int(blades) != blades or blades < 1:
            raise ValueError(f"blades must be a positive whole number; got {blades}")
        super().__init__(PinwheelCurve(int(blades)), sigma)


_SETS: dict[str, type[KnownDensity]] = {
    "gaussians25": Gaussians25,
    "gaussians25_dot": Gaussians25Dot,
    "gaussian_grid9": GaussianGrid9,
    "gaussians8": Gaussians8,
    "swiss_roll": SwissRoll,
    "two_moons": TwoMoons,
    "rings": Rings,
    "pinwheel": Pinwheel,
    "checkerboard": Checkerboard,
}
NAMES = tuple(_SETS)


def get(name: str) -> KnownDensity:
    """The density of that name, with its default parameters. Raises ValueError for a name that is not in `NAMES`."""
    if name not in _SETS:
        raise ValueError(f"name must be one of {', '.join(NAMES)}; got {name!r}")
    return _SETS[name]()
