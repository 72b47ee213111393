r"""When to look: the times at which a score is trained, and what each of them counts.

    loss = ∫ ½ w(t) E‖ε − ε_θ(x_t, t)‖² dt = E_{t~r}[½ w(t)/r(t) ‖ε − ε_θ‖²]                       LSGM (9), 3.4

    likelihood   w = g²/σ²    the Kullback–Leibler divergence of data and model is at most this     LSGM Table 1
    reweighted   w = g²       unweighted   w = 1: less of the small times, better to look at

Any density r gives the same mean; the best one is proportional to the integrand. For data N(0, I), the exact score and the
VP diffusion that is, with v = σ²,

    likelihood   d log v/dt   v = v₁^ρ v₀^{1−ρ}                           ρ ~ U[0, 1]               LSGM App. B
    reweighted   dv/dt        v = (1 − ρ) v₀ + ρ v₁
    unweighted   1 − v        a slice of a bell: 1 − v = e^{−B}, B quadratic in t where β is linear

and t is where σ² has that value. A batch of n may share one number u, ρ_i = u + i/n mod 1: each ρ_i is uniform and all n
together are evenly spread, so that the mean varies less (Kingma et al. 2021, I.1).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from gmcourse.diffusion.sde import SDE, VP, GeometricVP
from gmcourse.model import check_count

Weighting = Literal["likelihood", "unweighted", "reweighted"]
FLATTEST = 5.0  # β_min/√(β_max − β_min) up to which float32 sees the slice of the bell


def weight(sde: SDE, weighting: Weighting, t: Tensor) -> Tensor:
    """w(t) of the loss ½ w ‖ε − ε_θ‖², shape of t: g²/σ², 1 or g²; LSGM Table 1.

    >>> weight(VP(1.0, 1.0), "reweighted", torch.tensor([0.2, 0.9]))
    tensor([1., 1.])
    """
    if _known(weighting) == "unweighted":
        return torch.ones_like(t)
    g2 = sde.diffusion(t).square()
    return g2 if weighting == "reweighted" else g2 / sde.marginal(t)[1].square()


class Times(ABC):
    """A law of times on [start, end], drawn by inverse transform.

    Args:
        start, end: 0 ≤ start < end ≤ 1.
        low_discrepancy: spread the times of one `draw` evenly, instead of drawing each on its own.
    """

    def __init__(self, start: float = 1e-3, end: float = 1.0, *, low_discrepancy: bool = True):
        if not 0 <= start < end <= 1:
            raise ValueError(f"start and end must satisfy 0 <= start < end <= 1; got {start}, {end}")
        self.start, self.end, self.low_discrepancy = float(start), float(end), low_discrepancy

    @abstractmethod
    def at(self, rho: Tensor) -> Tensor:
        """The time below which the share rho of all times lies, shape and dtype of rho."""

    @abstractmethod
    def density(self, t: Tensor) -> Tensor:
        """r(t), shape of t; its integral from start to end is 1."""

    def draw(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """n times, (n,).

        >>> UniformTimes(0.0, 1.0).draw(4).sort().values.diff()
        tensor([0.2500, 0.2500, 0.2500])
        """
        shared = self.low_discrepancy
        rho = torch.rand(1 if shared else check_count(n), generator=generator, device=device, dtype=dtype)
        if shared:
            rho = (rho + torch.arange(check_count(n), device=rho.device, dtype=rho.dtype) / n) % 1
        return self.at(rho)


class UniformTimes(Times):
    """r = 1/(end − start)."""

    def at(self, rho: Tensor) -> Tensor:
        return (self.start + (self.end - self.start) * rho).clamp(self.start, self.end)

    def density(self, t: Tensor) -> Tensor:
        return torch.full_like(t, 1 / (self.end - self.start))


class Curve(NamedTuple):
    """A rising u(t) with its inverse and its derivative: r ∝ u′ where u is drawn uniformly."""

    value: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


class ImportanceTimes(Times):
    """r proportional to what w weighs if the data are N(0, I) and the score is exact, in closed form; LSGM 3.4, App. B.

    For other data it is a good guess, and the mean is the same. ValueError where there is no closed form: SDEs other than
    VP and GeometricVP, and the unweighted loss for the latter or for a VP whose β hardly rises.

    >>> times = ImportanceTimes(VP(), "likelihood")
    >>> times.at(torch.tensor([0.25, 0.5, 0.75]))     # half of what counts is over at t = 0.03
    tensor([0.0065, 0.0279, 0.0993])
    """

    def __init__(
        self,
        sde: SDE,
        weighting: Weighting = "likelihood",
        start: float = 1e-3,
        end: float = 1.0,
        *,
        low_discrepancy: bool = True,
    ):
        super().__init__(start, end, low_discrepancy=low_discrepancy)
        self.curve = _curve(sde, _known(weighting))
        ends = torch.tensor([self.start, self.end], dtype=torch.float64)
        self.low, self.high = self.curve.value(ends).tolist()
        if not math.isfinite(self.low):
            raise ValueError(f"start must be positive where σ(0) = 0; got {start}")

    def at(self, rho: Tensor) -> Tensor:
        low, high = rho.new_full((), self.low), rho.new_full((), self.high)
        return self.curve.inverse(torch.lerp(low, high, rho)).clamp(self.start, self.end)

    def density(self, t: Tensor) -> Tensor:
        return self.curve.slope(t) / (self.high - self.low)


def best_times(sde: SDE, weighting: Weighting, start: float = 1e-3, end: float = 1.0) -> Times:
    """`ImportanceTimes` where they are known in closed form, else uniform ones."""
    try:
        return ImportanceTimes(sde, weighting, start, end)
    except NoClosedForm:
        return UniformTimes(start, end)


class NoClosedForm(ValueError):
    """There are no importance times in closed form."""


def _curve(sde: SDE, weighting: Weighting) -> Curve:
    """log v, v or ∫(1 − v), up to constants."""
    if not isinstance(sde, VP | GeometricVP):
        raise NoClosedForm(f"sde must be VP or GeometricVP for times in closed form; got {sde}")
    if weighting == "unweighted":
        return _bell(sde)
    time_of, slope = _of_variance(sde)
    if weighting == "reweighted":  # −(1 − v) for v: exact at late times
        return Curve(lambda t: -_rest(sde, t), lambda u: time_of(1 + u, -u), slope)
    return Curve(
        lambda t: 2 * sde.marginal(t)[1].log(),
        lambda u: time_of(u.exp(), -u.expm1()),
        lambda t: slope(t) / sde.marginal(t)[1].square(),
    )


def _rest(sde: VP | GeometricVP, t: Tensor) -> Tensor:
    """1 − v, without the loss of digits where v is near 1."""
    return (-sde.integral(t)).exp() if isinstance(sde, VP) else 1 - sde.variance(t)


def _of_variance(sde: VP | GeometricVP) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The time at which σ² = v, of v and 1 − v, each accurate where it is small; and dv/dt = β (1 − v), of t."""
    if isinstance(sde, GeometricVP):
        rate = math.log(sde.variance_max / sde.variance_min)
        return lambda v, _: (v / sde.variance_min).log() / rate, lambda t: rate * sde.variance(t)

    def time_of(v: Tensor, rest: Tensor) -> Tensor:
        b = torch.where(v < 0.5, -(-v).log1p(), -rest.log())  # B = β_min t + ½ (β_max − β_min) t²
        return 2 * b / (sde.beta_min + (sde.beta_min**2 + 2 * (sde.beta_max - sde.beta_min) * b).sqrt())

    return time_of, lambda t: sde.beta(t) * _rest(sde, t)


def _bell(sde: VP | GeometricVP) -> Curve:
    """e^{−B} is the bell of z = √Δβ (t + β_min/Δβ), Δβ = β_max − β_min, so u = −Φ(−z): exact far out, where t is late."""
    if not isinstance(sde, VP):
        raise NoClosedForm(f"sde must be VP for unweighted times in closed form; got {sde}")
    rise = sde.beta_max - sde.beta_min
    if sde.beta_min > FLATTEST * math.sqrt(rise):
        raise NoClosedForm(f"sde must have a beta that rises by beta_min²/{FLATTEST**2:g} or more; got {sde}")
    root, shift = math.sqrt(rise), sde.beta_min / math.sqrt(rise)
    return Curve(
        lambda t: -torch.special.ndtr(-(root * t + shift)),
        lambda u: (-torch.special.ndtri(-u) - shift) / root,
        lambda t: root / math.sqrt(2 * math.pi) * (-0.5 * (root * t + shift).square()).exp(),
    )


def _known(weighting: Weighting) -> Weighting:
    if weighting not in get_args(Weighting):
        raise ValueError(f"weighting must be one of {', '.join(get_args(Weighting))}; got {weighting!r}")
    return weighting
