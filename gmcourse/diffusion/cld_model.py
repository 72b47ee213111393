r"""A score model on critically damped Langevin diffusion: it learns the score of the velocity only (Dockhorn et al. 2021).

    loss      λ(t) ‖s_θ(u_t, t) + ℓ_t ε_v‖²,  u_t = mean(x_0) + L (ε_x, ε_v)                    slides (35)
    score     s_θ(u, t) = −v/Σ_vv − ℓ_t net(u, t)                                              mixed score
              s_θ(u, t) = [Σ⁻¹ (m x̂_0(y, t) − u)]_v                                           "edm"
    λ         ℓ^{−2}, "simple": all times count alike;  Γβ, "likelihood": its mean over t in [0, 1] bounds KL(p_0 ‖ model)

(u_t given x_0 is N(m x_0, Σ): hybrid score matching; in the mixed form a net that says 0 has velocities that know nothing of
x.) All that u says of x_0 is in one number per dimension, y = mᵀΣ⁻¹u/π = x_0 + ε_y/√π with π = mᵀΣ⁻¹m: so what there is to
learn is a denoiser of y, as on any other diffusion, and Karras et al.'s scaling of it serves here, too. Samples come from
u ~ N(0, I) × N(0, M I) by a sampler down to t_min. What noise is then left in x is nearly all explained by v, so with the
mean (m_x, m_v) x_0 and the covariance Σ of u there,

    x̂ = (x − r v)/k,   r = Σ_xv/Σ_vv,  k = m_x − r m_v:      the mean of x̂ is x_0, its noise, |Σ|/(Σ_vv k²), is tiny

The map of (x, v) to (x̂, v) is linear, so the probability flow gives the density of (x̂, v), and

    log p(x̂) ≥ E_{v ~ q}[log p(x̂, v) − log q(v)],        q = N(m_v x̂, Σ_vv I)

nearly an equality if the score is right, since then v is noise of that law whatever x̂ is.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from gmcourse.diffusion.cld import CLD, check_pairs, in_float64
from gmcourse.diffusion.cld_samplers import SSCS, CLDEuler, CLDFlow, CLDSampler
from gmcourse.diffusion.probability_flow import TRACES, Trace, random_signs, score_and_trace
from gmcourse.diffusion.samplers import run
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal, check_count, check_positive
from gmcourse.sampling.ode import odeint, same_shape
from gmcourse.sampling.sampler import beside, normal_like, rows

SAMPLERS = {"em": CLDEuler, "sscs": SSCS, "sscs2": partial(SSCS, order=2), "flow": CLDFlow}


class CLDModel(GenerativeModel):
    """A net that sees positions and velocities, and the diffusion that it turns back.

    Args:
        net: u, t (n,) -> what s_θ is made of. "mixed": it sees x and v joined along the first dimension of the event,
            (n, 2d) for points, (n, 2c, h, w) for images, and returns (n, *event_shape), or what it got, whose second half
            counts. "edm": it sees y, scaled, and returns F, both (n, *event_shape), see `score`.
        cld: the forward process.
        steps: of a sample; times are t_min + (1 − t_min)(k/steps)², close together near the data.
        sampler: "em" Euler–Maruyama, "sscs" (order 1), "sscs2" (order 2) or "flow", the probability flow by Heun's rule.
        weighting: λ, "simple" or "likelihood".
        t_min: the first time that training and samplers see.
        parameterization: "mixed" or "edm"; data_scale is the standard deviation of the data for the latter.

    >>> from gmcourse.nets.denoiser import Denoiser
    >>> CLDModel(Denoiser(4), CLD(), event_shape=(2,), steps=50).sample(3).shape
    torch.Size([3, 2])
    """

    likelihood = Likelihood.LOWER_BOUND

    def __init__(
        self,
        net: nn.Module,
        cld: CLD,
        *,
        event_shape: Sequence[int],
        steps: int = 100,
        sampler: Literal["em", "sscs", "sscs2", "flow"] = "sscs2",
        weighting: Literal["simple", "likelihood"] = "simple",
        t_min: float = 1e-3,
        parameterization: Literal["mixed", "edm"] = "mixed",
        data_scale: float = 1.0,
    ):
        super().__init__(event_shape)
        for name, value, known in (
            ("sampler", sampler, SAMPLERS),
            ("weighting", weighting, ("simple", "likelihood")),
            ("parameterization", parameterization, ("mixed", "edm")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        if not 0 < t_min < 1:
            raise ValueError(f"t_min must lie in (0, 1); got {t_min}")
        self.net, self.cld, self.weighting, self.t_min = net, cld, weighting, float(t_min)
        self.steps, self.sampler = check_count(steps, "steps"), sampler
        self.parameterization, self.data_scale = parameterization, check_positive(data_scale, "data_scale")
        self.prior = cld.prior(self.event_shape)

    @property
    def nfe(self) -> int:
        """Evaluations of the net for a sample."""
        return self.steps * self.sampler_of().evaluations

    def sampler_of(self) -> CLDSampler:
        """The sampler, with the model's score."""
        return SAMPLERS[self.sampler](self.cld, self.score_v)

    def score_v(self, u: Tensor, t: Tensor) -> Tensor:
        """s_θ(u, t) ≈ ∇_v log p_t(u) for u (n, 2, *event_shape), t (n,) or (): shape (n, *event_shape)."""
        if self.parameterization == "edm":
            return self._score_by_denoising(check_pairs(u), t)
        vv, ell = self._scales(u, t)
        return -u[:, 1] / vv - ell * self._net(u, t)

    def _score_by_denoising(self, u: Tensor, t: Tensor) -> Tensor:
        """[Σ⁻¹ (m x̂_0 − u)]_v, x̂_0 = (σ_d²/q²) y + (σ_d/(q √π)) F(y/q, t), q² = σ_d² + 1/π."""
        t64, scale = in_float64(t), self.data_scale
        (xx, xv, vv), (m_x, m_v) = self.cld.covariance(t64), self.cld.mean_matrix(t64)[..., :, 0].unbind(-1)
        det = xx * vv - xv.square()
        of_x, of_v = (vv * m_x - xv * m_v) / det, (xx * m_v - xv * m_x) / det  # mᵀΣ⁻¹
        precision = m_x * of_x + m_v * of_v
        q = (scale**2 + 1 / precision).sqrt()
        of_x, of_v, q, small = (self._beside(c, u) for c in (of_x / precision, of_v / precision, q, precision.rsqrt()))
        y = of_x * u[:, 0] + of_v * u[:, 1]
        x0 = (scale / q) ** 2 * y + scale / q * small * same_shape(self.net(y / q, t.expand(len(u))), y, "net")
        by_x, by_v, m_x, m_v = (self._beside(c, u) for c in (-xv / det, xx / det, m_x, m_v))
        return by_x * (m_x * x0 - u[:, 0]) + by_v * (m_v * x0 - u[:, 1])

    def loss(self, x: Tensor) -> Tensor:
        """λ(t) ‖s_θ + ℓ ε_v‖² summed over dimensions, (n,), with times spread evenly over [t_min, 1]; slides (35)."""
        n = len(self.check_batch(x))
        share = (torch.arange(n, dtype=x.dtype, device=x.device) + torch.rand(n, dtype=x.dtype, device=x.device)) / n
        t = self.t_min + (1 - self.t_min) * share
        eps = torch.randn(n, 2, *x.shape[1:], dtype=x.dtype, device=x.device)
        u = self.perturb(x, t, eps)
        _, ell = self._scales(u, t)
        found = rows(self.score_v(u, t) / ell + eps[:, 1]).square().sum(1)
        if self.weighting == "simple":
            return found
        return self.cld.gamma * self.cld.rate(t) * ell.flatten().square() * found

    def perturb(self, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """u_t = mean(x) + L ε for x (n, *event_shape), t (n,), ε (n, 2, *event_shape): shape of ε."""
        to_x, to_v = (beside(part, x) for part in self.cld.mean_matrix(t)[:, :, 0].unbind(1))
        a, b, c = (beside(part, x) for part in self.cld.covariance(t).factor())
        return torch.stack([to_x * x + a * eps[:, 0], to_v * x + b * eps[:, 0] + c * eps[:, 1]], 1)

    def times(self) -> list[float]:
        """The times a sampler visits, from 1 to t_min."""
        return [self.t_min + (1 - self.t_min) * (k / self.steps) ** 2 for k in range(self.steps, -1, -1)]

    def sample(self, n: int, *, generator: torch.Generator | None = None, progress: bool = False) -> Tensor:
        """Draw (n, *event_shape) in `nfe` evaluations."""
        u = self.prior.sample(check_count(n), generator=generator)
        x, v = run(self.sampler_of().step, u, self.times(), generator=generator, progress=progress).unbind(1)
        r, k, *_ = self._landing()
        return (x - r * v) / k

    @torch.no_grad()
    def log_prob(
        self,
        x: Tensor,
        *,
        draws: int = 1,
        trace: Trace = "exact",
        method: str = "rk4",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A lower bound on log p(x) in nats, (n,), of the samples that the probability flow gives; mean over draws of v.

        Args:
            draws: velocities for each x, side by side.
            trace: of ∂s/∂v, by d gradients, or by one random direction of ±1 for the whole way, unbiased.
            method: of `odeint`, on the sampler's times; "dopri5" chooses its own.
        """
        if trace not in TRACES:
            raise ValueError(f"trace must be exact or hutchinson; got {trace!r}")
        x = self.check_batch(x).repeat_interleave(check_count(draws, "draws"), 0)
        r, k, m_v, width = self._landing()
        eps = normal_like(x, generator)
        v = m_v * x + width * eps
        log_q = StandardNormal(self.event_shape).log_prob(eps) - self.event_shape.numel() * math.log(width * k)
        u = torch.stack([k * x + r * v, v], 1)
        return (self._flow_log_prob(u, trace, method, generator) - log_q).reshape(-1, draws).mean(1)

    def _flow_log_prob(self, u: Tensor, trace: Trace, method: str, generator: torch.Generator | None) -> Tensor:
        """log p(u) at t_min, (n,): the prior's at the end of the flow, and the divergence along it, −Γβ (d/M + tr ∂s/∂v)."""
        shape, gamma = u.shape, self.cld.gamma
        d = self.event_shape.numel()
        signs = random_signs(u[:, 1], generator) if trace == "hutchinson" else None

        def field(t: Tensor, state: Tensor) -> Tensor:
            x, v = state[:, :-1].reshape(shape).unbind(1)

            def of_velocity(v: Tensor, t: Tensor) -> Tensor:
                return self.score_v(torch.stack([x, v], 1), t)

            s, slope = score_and_trace(of_velocity, v, t.expand(len(v)), signs)
            divergence = -gamma * self.cld.rate(t) * (self.cld.mass_inverse * d + slope)
            moved = self.cld.probability_flow(lambda u, t: s)(torch.stack([x, v], 1), t)
            return torch.cat([rows(moved), divergence[:, None]], 1)

        start = torch.cat([rows(u), u.new_zeros(len(u), 1)], 1)
        times = self.times()[::-1]
        end = odeint(field, start, (times[0], times[-1]) if method == "dopri5" else times, method=method).end
        return self.prior.log_prob(end[:, :-1].reshape(shape)) + end[:, -1]

    def _landing(self) -> tuple[float, float, float, float]:
        """r, k, m_v and √Σ_vv at t_min."""
        t = torch.tensor(self.t_min, dtype=torch.float64)
        (m_x, m_v), (_, xv, vv) = self.cld.mean_matrix(t)[:, 0].tolist(), (float(part) for part in self.cld.covariance(t))
        return xv / vv, m_x - xv / vv * m_v, m_v, vv**0.5

    def _scales(self, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_vv and ℓ of u_t given x_0, beside x."""
        found = self.cld.covariance(t)
        return self._beside(found.vv, u), self._beside(1 / found.factor()[2], u)

    def _beside(self, coefficient: Tensor, u: Tensor) -> Tensor:
        return beside(coefficient.to(u), u[:, 1])

    def _net(self, u: Tensor, t: Tensor) -> Tensor:
        joined = check_pairs(u).flatten(1, 2) if self.event_shape else u
        y = self.net(joined, t.expand(len(u)))
        if y.shape == joined.shape:
            return y.chunk(2, 1)[1].reshape(u[:, 1].shape)
        if y.shape != u[:, 1].shape:
            raise ValueError(f"net must return shape {tuple(u[:, 1].shape)} or {tuple(joined.shape)}; got {tuple(y.shape)}")
        return y
