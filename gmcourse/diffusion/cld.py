r"""Critically damped Langevin diffusion: noise enters at a velocity, and reaches the data smoothly (Dockhorn et al. 2021).

    dx = M⁻¹ v β dt,    dv = −x β dt − Γ M⁻¹ v β dt + √(2Γβ) dw                                slides (34)

u = (x, v) is a particle with mass M on a spring, in a fluid of friction Γ. At rest it is N(0, I) × N(0, M I), and at
Γ² = 4M it gets there fastest without swinging. On the clock B = ∫β, with τ = B/√M and w = v/√M, all is in closed form:

    mean          e^{−τ} [1 + τ, τ; −τ, 1 − τ] (x_0, w_0)
    covariance    I − the same of I:  xx = P(3, 2τ),  xw = 2τ² e^{−2τ},  ww = P(3, 2τ) + 4τ e^{−2τ}

with P the regularised incomplete gamma function: no differences of nearly equal numbers, down to t = 0. Noise is in v only,
so back in time, and along the probability flow, only the score of the velocity counts, s = ∇_v log p_t(u):

    du = −[A u + (0, 2Γ s)] β dt + (0, √(2Γβ) dw̄)        back in time, h > 0                    slides (36)
    du =  [A u − (0, Γ s)] β dt                          the probability flow

where A u is the drift of (34) by β. Given x_0 only, with v_0 ~ N(0, γM I) averaged out, s of u_t = mean + L (ε_x, ε_v) is
−ℓ ε_v, ℓ = √(Σ_xx/|Σ|): hybrid score matching, whose target stays small where that given (x_0, v_0) grows as t^{−1/2}.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.data.mixtures import IsotropicMixture
from gmcourse.diffusion.sde import check_times
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal, check_positive
from gmcourse.sampling.ode import same_shape
from gmcourse.sampling.sampler import beside, rows

VelocityScore = Callable[[Tensor, Tensor], Tensor]  # u (n, 2, *event_shape), t (n,) -> ∇_v log p_t(u), (n, *event_shape)
Start = tuple[Tensor | float, Tensor | float, Tensor | float]


class Covariance(NamedTuple):
    """Covariance of (x, v), the same for all dimensions: each part has the shape of the times."""

    xx: Tensor
    xv: Tensor
    vv: Tensor

    def factor(self) -> tuple[Tensor, Tensor, Tensor]:
        """(a, b, c) of the Cholesky factor L = [a, 0; b, c]; 1/c is ℓ. Where xx = 0 there is none, and b and c are NaN."""
        a = self.xx.sqrt()
        b = self.xv / a
        return a, b, (self.vv - b.square()).sqrt()


@dataclass(frozen=True)
class CLD:
    """The forward process (34), u (n, 2, *event_shape) = (x, v); coefficients are worked out in float64.

    Args:
        beta, slope: β(t) = beta + slope·t, not negative on [0, 1].
        mass_inverse: 1/M.
        gamma: friction Γ = 2√M; ValueError for another, since only critical damping is in closed form here.
        gamma0: γ, the velocity starts as N(0, γM I).

    >>> CLD().covariance(torch.tensor(0.25))
    Covariance(xx=tensor(0.7648), xv=tensor(0.0725), vv=tensor(0.2273))
    """

    beta: float = 4.0
    mass_inverse: float = 4.0
    gamma: float = 1.0
    gamma0: float = 0.04
    slope: float = 0.0

    def __post_init__(self):
        for name in ("mass_inverse", "gamma", "gamma0"):
            check_positive(getattr(self, name), name)
        ends = self.beta, self.beta + self.slope
        if not (0 <= min(ends) and 0 < max(ends) < math.inf):
            got = f"{ends[0]:g} at t = 0, {ends[1]:g} at t = 1"
            raise ValueError(f"beta and slope must make β(t) ≥ 0 on [0, 1], and not 0 throughout; got {got}")
        wanted = 2 / self.mass_inverse**0.5
        if abs(self.gamma / wanted - 1) > 1e-6:
            raise ValueError(f"gamma must be 2/√mass_inverse = {wanted:g}, critical damping; got {self.gamma}")

    def rate(self, t: Tensor) -> Tensor:
        """β(t), shape of t."""
        return self.beta + self.slope * check_times(t)

    def clock(self, t: Tensor | float) -> Tensor | float:
        """B(t) = ∫₀ᵗ β, shape of t."""
        return self.beta * t + 0.5 * self.slope * t * t

    def mean_matrix(self, t: Tensor) -> Tensor:
        """e^{A B(t)}: the mean of u_t is this times u_0; (2, 2) for t (), (n, 2, 2) for t (n,)."""
        return self.propagator(self.clock(in_float64(check_times(t)))).to(t)

    def covariance(self, t: Tensor, start: Start | None = None) -> Covariance:
        """Covariance of u_t whose u_0 has the covariance `start` (xx, xv, vv); each part has the shape of t.

        Without `start` that is (0, 0, γM): u_t given x_0, as in hybrid score matching. (0, 0, 0) is u_t given u_0.
        """
        found = self.spread(self.clock(in_float64(check_times(t))), start or (0.0, 0.0, self.gamma0 / self.mass_inverse))
        return Covariance(*(part.to(t) for part in found))

    def propagator(self, clock: Tensor) -> Tensor:
        """e^{A B} for times B on the clock, (*shape of clock, 2, 2)."""
        xx, xw, wx, ww = _mean(self.mass_inverse**0.5 * clock)
        root = self.mass_inverse**0.5
        return torch.stack([xx, xw * root, wx / root, ww], -1).unflatten(-1, (2, 2))

    def spread(self, clock: Tensor, start: Start = (0.0, 0.0, 0.0)) -> Covariance:
        """`covariance` by the clock; `start` broadcasts against it."""
        root = self.mass_inverse**0.5
        tau, s_xx, s_xw, s_ww = root * clock, start[0], start[1] * root, start[2] * root**2
        xx, xw, wx, ww = _mean(tau)
        m_xx = xx**2 * s_xx + 2 * xx * xw * s_xw + xw**2 * s_ww
        m_xw = xx * wx * s_xx + (xx * ww + xw * wx) * s_xw + xw * ww * s_ww
        m_ww = wx**2 * s_xx + 2 * wx * ww * s_xw + ww**2 * s_ww
        p, decay = torch.special.gammainc(torch.full_like(tau, 3.0), 2 * tau), (-2 * tau).exp()
        q_xx, q_xw, q_ww = p, 2 * tau**2 * decay, p + 4 * tau * decay
        return Covariance(m_xx + q_xx, (m_xw + q_xw) / root, (m_ww + q_ww) / root**2)

    def drift(self, u: Tensor, t: Tensor) -> Tensor:
        """β A u, the drift of (34); shape of u."""
        return self._moved(u, t)

    def diffusion(self, t: Tensor) -> Tensor:
        """√(2Γβ), the noise of the velocity; shape of t."""
        return (2 * self.gamma * self.rate(t)).sqrt()

    def reverse(self, score: VelocityScore) -> Callable[[Tensor, Tensor], Tensor]:
        """(u, t) ↦ β [A u − (0, 2Γ s)], which with noise in v leads back to the data as t falls; slides (36)."""
        return lambda u, t: self._moved(u, t, score, 2.0)

    def probability_flow(self, score: VelocityScore) -> Callable[[Tensor, Tensor], Tensor]:
        """(u, t) ↦ β [A u − (0, Γ s)], whose solutions have the laws p_t, forward and back, without noise."""
        return lambda u, t: self._moved(u, t, score, 1.0)

    def motion(self, u: Tensor) -> Tensor:
        """A u = (M⁻¹ v, −x − Γ M⁻¹ v), shape of u (n, 2, *event_shape)."""
        x, v = check_pairs(u).unbind(1)
        return torch.stack([self.mass_inverse * v, -x - self.gamma * self.mass_inverse * v], 1)

    def prior(self, event_shape: int | Sequence[int]) -> "Equilibrium":
        """N(0, I) × N(0, M I) over u (2, *event_shape): the law at rest; on the CPU until moved."""
        return Equilibrium(event_shape, self.mass_inverse**-0.5)

    def _moved(self, u: Tensor, t: Tensor, score: VelocityScore | None = None, share: float = 0.0) -> Tensor:
        moved = self.motion(u)
        if score is not None:
            x, v = moved.unbind(1)
            s = same_shape(score(u, t.expand(len(u))), v, "score")
            moved = torch.stack([x, v - share * self.gamma * s], 1)
        return beside(self.rate(t).to(u), u) * moved


class Equilibrium(GenerativeModel):
    """N(0, I) × N(0, width² I) over (x, v), event shape (2, *event_shape)."""

    likelihood = Likelihood.EXACT
    nfe = 0

    def __init__(self, event_shape: int | Sequence[int], width: float):
        unit = StandardNormal((2, event_shape) if isinstance(event_shape, int) else (2, *event_shape))
        super().__init__(unit.event_shape)
        self.unit, self.width = unit, width

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, 2, *event_shape)."""
        return self._scaled(self.unit.sample(n, generator=generator), self.width)

    def log_prob(self, u: Tensor) -> Tensor:
        """log N(x; 0, I) + log N(v; 0, width² I) in nats, (n,)."""
        return self.unit.log_prob(self._scaled(u, 1 / self.width)) - self.event_shape[1:].numel() * math.log(self.width)

    def _scaled(self, u: Tensor, factor: float) -> Tensor:
        return torch.stack([u[:, 0], factor * u[:, 1]], 1)


def exact_score(cld: CLD, data: IsotropicMixture) -> VelocityScore:
    """∇_v log p_t(u) for data that are a Gaussian mixture: u_t is one too, of the same weights, at every t > 0.

    >>> from gmcourse.data import toy2d
    >>> exact_score(CLD(), toy2d.get("gaussians25"))(torch.zeros(3, 2, 2), torch.full((3,), 0.5)).shape
    torch.Size([3, 2])
    """
    means = data.means.reshape(len(data.means), -1)

    def score(u: Tensor, t: Tensor) -> Tensor:
        common = bool((t == t[:1]).all())  # as samplers ask: the coefficients of one row will do
        clock = cld.clock(in_float64(check_times(t[:1] if common else t)))[:, None]  # (n or 1, 1) against the k modes
        m, variances, log_weights = (v.to(clock) for v in (means, data.sigmas.square(), data.weights.log()))
        a, b, c = (v[..., None] for v in cld.spread(clock, (variances, 0.0, cld.gamma0 / cld.mass_inverse)).factor())
        centre = cld.propagator(clock)[..., 0, None] * m[:, None]  # (n, k, 2, d)
        x, v = (rows(check_pairs(u)[:, i])[:, None] - centre[:, :, i].to(u) for i in (0, 1))
        eps_x = x / a.to(u)
        eps_v = (v - b.to(u) * eps_x) / c.to(u)
        log_heights = (log_weights - means.shape[1] * (a * c)[..., 0].log()).to(u)
        share = (log_heights - 0.5 * (eps_x.square() + eps_v.square()).sum(2)).softmax(1)
        return -(share[..., None] * eps_v / c.to(u)).sum(1).reshape(u[:, 0].shape)

    return score


def check_pairs(u: Tensor) -> Tensor:
    """Return u if it holds positions and velocities, (n, 2, *event_shape), else raise ValueError."""
    if u.ndim < 2 or u.shape[1] != 2 or not u.is_floating_point():
        raise ValueError(f"u must be floats of shape (n, 2, *event_shape), x and v; got {tuple(u.shape)}, {u.dtype}")
    return u


def _mean(tau: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """xx, xw, wx, ww of the mean in units where M = 1."""
    decay = (-tau).exp()
    return (1 + tau) * decay, tau * decay, -tau * decay, (1 - tau) * decay


def in_float64(t: Tensor) -> Tensor:
    """t in float64; on the CPU where the device has none (Apple's)."""
    return (t.cpu() if t.device.type == "mps" else t).double()
