r"""Diffusions in continuous time: data at t = 0 dissolve into noise at t = 1, and the score leads back.

    dx = f(x, t) dt + g(t) dw                     f(x, t) = r(t) x                                 thesis (2.63)
    x(t) | x(0) ~ N(α(t) x(0), σ²(t) I)           dα/dt = r α,   dσ²/dt = 2 r σ² + g²
    dx = [f − g² ∇ log p_t] dt + g dw̄             back in time, the same laws p_t                  thesis (2.64)
    dx/dt = f − ½ g² ∇ log p_t                    the probability flow: the same laws, no noise    Song et al. 2021

              r        g²                  α              σ²
    VP        −β/2     β                   e^{−B/2}       1 − e^{−B}       B = ∫β, β linear in t   thesis (2.67)
    SubVP     −β/2     β (1 − e^{−2B})     e^{−B/2}       (1 − e^{−B})²
    VE        0        dσ²/dt              1              σ²_min (σ²_max/σ²_min)^t                 thesis (2.68)
    Geometric −β/2     β                   √((1 − σ²)/(1 − σ²_min)), σ² as VE's                    LSGM 3.4

VE and the geometric one start with a blur, σ(0) = σ_min. The signal-to-noise ratio α²/σ² falls at the rate
d log SNR/dt = −g²/σ², whatever r is. Times are float tensors in [0, 1]: (n,), one for each datum, or () for all.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gmcourse.model import GenerativeModel, Likelihood, StandardNormal
from gmcourse.sampling.ode import same_shape
from gmcourse.sampling.sampler import beside

Score = Callable[[Tensor, Tensor], Tensor]  # x (n, *event_shape), t (n,) -> ∇ log p_t(x), shape of x


class SDE(ABC):
    """A linear diffusion: `rate`, `diffusion` and `marginal` say all of it; t is (n,) or () throughout, and so they return.

    Every method raises ValueError for times that are not floats of that shape, and on the CPU for times outside [0, 1]: on
    a GPU that look would make the program wait at every step.
    """

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor:
        """r(t) of the drift r(t) x, shape of t."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t), shape of t."""

    @abstractmethod
    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α(t), σ(t), each of the shape of t: x(t) given x(0) is N(α x(0), σ² I)."""

    @abstractmethod
    def prior(self, event_shape: int | Sequence[int]) -> GenerativeModel:
        """The noise that p_1 is taken for, with `sample` and `log_prob`; on the CPU until moved."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """f(x, t) = r(t) x, thesis (2.63); shape of x."""
        return _of_row(self.rate(t), x) * x

    def log_snr(self, t: Tensor) -> Tensor:
        """log α²/σ², shape of t; falls from data to noise, and is +inf where σ = 0."""
        alpha, sigma = self.marginal(t)
        return 2 * (alpha.log() - sigma.log())

    def snr(self, t: Tensor) -> Tensor:
        """α²/σ², shape of t."""
        alpha, sigma = self.marginal(t)
        return (alpha / sigma).square()

    def reverse(self, score: Score) -> Score:
        """(x, t) ↦ f − g² s, the drift that leads back to the data together with noise g dw̄; thesis (2.64), Anderson 1982.

        >>> from gmcourse.sampling import sdeint
        >>> sde, x = VP(), torch.randn(100, 2)  # data N(0, I): the score is −x at all times
        >>> drift = sde.reverse(lambda x, t: -x)
        >>> x = sdeint(lambda t, x: drift(x, t), lambda t, x: sde.diffusion(t), x, (1.0, 0.0), steps=500).end
        """
        return self._against(score, 1.0)

    def probability_flow(self, score: Score) -> Score:
        """(x, t) ↦ f − ½ g² s, whose solutions carry p_0 to p_1 and, back in time, p_1 to p_0; Song et al. 2021, (13).

        >>> from gmcourse.sampling import odeint
        >>> flow = VP().probability_flow(lambda x, t: -x)
        >>> x = odeint(lambda t, x: flow(x, t), torch.randn(100, 2), (1.0, 0.0), steps=20).end
        """
        return self._against(score, 0.5)

    def _against(self, score: Score, share: float) -> Score:
        """(x, t) ↦ f − share·g² s; a common time t () reaches the score as (n,)."""

        def field(x: Tensor, t: Tensor) -> Tensor:
            g2 = _of_row(self.diffusion(t).square(), x)
            s = same_shape(score(x, t.expand(len(x))), x, "score")
            return self.drift(x, t) - share * g2 * s

        return field


@dataclass(frozen=True)
class _Linear(SDE):
    """β(t) = β_min + (β_max − β_min) t, and the drift −½ β x of thesis (2.67)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        if not 0 <= self.beta_min <= self.beta_max < math.inf or self.beta_max == 0:
            got = f"beta_min {self.beta_min}, beta_max {self.beta_max}"
            raise ValueError(f"betas must satisfy 0 <= beta_min <= beta_max, 0 < beta_max; got {got}")

    def beta(self, t: Tensor) -> Tensor:
        """β(t), shape of t."""
        return self.beta_min + (self.beta_max - self.beta_min) * check_times(t)

    def integral(self, t: Tensor) -> Tensor:
        """B(t) = ∫₀ᵗ β, shape of t."""
        return self.beta_min * check_times(t) + 0.5 * (self.beta_max - self.beta_min) * t.square()

    def rate(self, t: Tensor) -> Tensor:
        return -0.5 * self.beta(t)

    def prior(self, event_shape: int | Sequence[int]) -> GenerativeModel:
        return StandardNormal(event_shape)


@dataclass(frozen=True)
class VP(_Linear):
    """Variance preserving, the limit of DDPM: dx = −½ β x dt + √β dw, thesis (2.67); data of unit variance keep it.

    >>> VP().marginal(torch.tensor([0.0, 1.0]))
    (tensor([1.0000, 0.0066]), tensor([0.0000, 1.0000]))
    """

    def diffusion(self, t: Tensor) -> Tensor:
        return self.beta(t).sqrt()

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        b = self.integral(t)
        return (-0.5 * b).exp(), (-(-b).expm1()).sqrt()


@dataclass(frozen=True)
class SubVP(_Linear):
    """VP's drift with less noise, dx = −½ β x dt + √(β (1 − e^{−2B})) dw; σ = 1 − e^{−B} is VP's squared (Song et al.)."""

    def diffusion(self, t: Tensor) -> Tensor:
        return (self.beta(t) * -(-2 * self.integral(t)).expm1()).sqrt()

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        b = self.integral(t)
        return (-0.5 * b).exp(), -(-b).expm1()


@dataclass(frozen=True)
class VE(SDE):
    """Variance exploding, the limit of NCSN: dx = √(dσ²/dt) dw, thesis (2.68), with σ = σ_min (σ_max/σ_min)^t.

    σ_max must be as wide as the data, whose positions the noise has to hide. Song et al.'s integral from x(0) would give
    the variance σ²(t) − σ²_min; here, as in their code, the data themselves come with the blur σ_min.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"sigmas must satisfy 0 < sigma_min < sigma_max; got {self.sigma_min}, {self.sigma_max}")

    def rate(self, t: Tensor) -> Tensor:
        return torch.zeros_like(check_times(t))

    def diffusion(self, t: Tensor) -> Tensor:
        return math.sqrt(2 * math.log(self.sigma_max / self.sigma_min)) * self.marginal(t)[1]

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        sigma = self.sigma_min * (check_times(t) * math.log(self.sigma_max / self.sigma_min)).exp()
        return torch.ones_like(t), sigma

    def prior(self, event_shape: int | Sequence[int]) -> GenerativeModel:
        """N(0, σ²_max I)."""
        return WideNormal(event_shape, self.sigma_max)


@dataclass(frozen=True)
class GeometricVP(SDE):
    """VP with σ² = σ²_min (σ²_max/σ²_min)^t: so LSGM's likelihood-weighted loss on data N(0, I) is the same at all t.

    β = log(σ²_max/σ²_min) σ²/(1 − σ²), LSGM 3.4. Data start with the variance σ²_min of their own: α(0) = 1.
    """

    variance_min: float = 3e-5
    variance_max: float = 0.999

    def __post_init__(self):
        if not 0 < self.variance_min < self.variance_max < 1:
            got = f"{self.variance_min}, {self.variance_max}"
            raise ValueError(f"variances must satisfy 0 < variance_min < variance_max < 1; got {got}")

    def beta(self, t: Tensor) -> Tensor:
        """β(t), shape of t."""
        variance = self.variance(t)
        return math.log(self.variance_max / self.variance_min) * variance / (1 - variance)

    def variance(self, t: Tensor) -> Tensor:
        """σ²(t), shape of t."""
        return self.variance_min * (check_times(t) * math.log(self.variance_max / self.variance_min)).exp()

    def rate(self, t: Tensor) -> Tensor:
        return -0.5 * self.beta(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.beta(t).sqrt()

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        variance = self.variance(t)
        return ((1 - variance) / (1 - self.variance_min)).sqrt(), variance.sqrt()

    def prior(self, event_shape: int | Sequence[int]) -> GenerativeModel:
        return StandardNormal(event_shape)


class WideNormal(GenerativeModel):
    """N(0, scale² I) on `event_shape`."""

    likelihood = Likelihood.EXACT
    nfe = 0

    def __init__(self, event_shape: int | Sequence[int], scale: float):
        unit = StandardNormal(event_shape)
        super().__init__(unit.event_shape)
        self.unit, self.scale = unit, scale

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, *event_shape)."""
        return self.scale * self.unit.sample(n, generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; 0, scale² I) in nats, shape (n,)."""
        return self.unit.log_prob(x / self.scale) - self.event_shape.numel() * math.log(self.scale)


def _of_row(c: Tensor, x: Tensor) -> Tensor:
    """A coefficient, one for each row of x (n,) or one for all (), as it multiplies x; in the dtype of x."""
    if c.shape not in ((), x.shape[:1]):
        raise ValueError(f"t must have shape ({len(x)},), one time for each row of x, or (); got {tuple(c.shape)}")
    return beside(c.to(x), x)


def check_times(t: Tensor) -> Tensor:
    """Return t if it holds times of an SDE, else raise ValueError: a float tensor (n,) or (), on the CPU seen in [0, 1]."""
    if t.ndim > 1 or not t.is_floating_point():
        raise ValueError(f"t must be a float tensor of shape (n,) or (); got {tuple(t.shape)}, {t.dtype}")
    if t.device.type == "cpu" and t.numel():
        now = t.detach()
        low, high = (float(v) for v in (now.aminmax() if now.ndim else (now, now)))
        if not (low >= 0 and high <= 1):
            raise ValueError(f"t must lie in [0, 1]; got values from {low:g} to {high:g}")
    return t
