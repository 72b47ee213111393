r"""Back through a diffusion without noise: solvers of the probability flow, from noise to data by a map (Song et al. 2021).

    dx/dt = r x − ½ g² s(x, t)                              Euler, Heun: straight lines in t

Half of that equation is linear and known. In y = x/α, as a function of λ = log α/σ, half the log-SNR, only it is left:

    dy/dλ = −e^{−λ} ε(x, λ),    ε = −σ s                    by the noise in x, or by the data, x̂_0 = (x − σ ε)/α,
    d(x/σ)/dλ = e^λ x̂_0(x, λ)

The weights e^{∓λ} can be integrated exactly, so that only ε, or x̂_0, is approximated over a step h = λ_s − λ_t; by its value
at t this is DDIM, slides (30) with η = 0, of order 1. Lu et al. 2022 go on to order 2, "DPM-Solver":

    DPM-Solver-2    u = α_m/α_t x − σ_m (e^{h/2} − 1) ε(x, t)           m halfway in λ
                    x_s = α_s/α_t x − σ_s (e^h − 1) ε(u, m)
    DPM-Solver++    x_s = σ_s/σ_t x + α_s (1 − e^{−h}) D,    D = x̂_0 + h/(2h′) (x̂_0 − x̂_0′)

where ′ is the step before: two evaluations a step, or one and a memory. Ten to twenty evaluations make good pictures.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from gmcourse.diffusion.reverse import ScoreSampler, check_step, finite_log_snr, time_of
from gmcourse.diffusion.schedule import convert
from gmcourse.diffusion.sde import SDE, Score
from gmcourse.model import check_positive
from gmcourse.sampling.ode import euler, heun


class FlowEuler(ScoreSampler):
    """Euler's step along dx/dt = r x − ½ g² s: order 1, one evaluation; Song et al. 2021 (13)."""

    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """x + (s − t) dx/dt."""
        check_step(t, s)
        return euler(self.velocity, x, t, s)

    def velocity(self, t: float, x: Tensor) -> Tensor:
        """dx/dt = r x − ½ g² s(x, t)."""
        r, g = self.rates(t)
        return r * x - 0.5 * g**2 * self.slope(x, t)


class FlowHeun(FlowEuler):
    """Heun's step along the flow, the mean slope of both ends: order 2, two evaluations, one of them at s.

    >>> from gmcourse.diffusion import reverse, samplers, sde
    >>> flow = FlowHeun(sde.VP(), lambda x, t: -x)  # data N(0, I): nothing moves
    >>> samplers.run(flow.step, torch.ones(1, 2), reverse.falling_times(flow.sde, 5))
    tensor([[1., 1.]])
    """

    evaluations = 2

    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """x + (s − t)/2 (dx/dt at x + dx/dt at the end of Euler's step)."""
        check_step(t, s)
        return heun(self.velocity, x, t, s)


class DPMSolver2(ScoreSampler):
    """DPM-Solver-2, a step by way of the time halfway in log-SNR: order 2, two evaluations; Lu et al. 2022a, algorithm 1.

    Raises ValueError for a step to σ = 0, where the log-SNR is infinite.
    """

    evaluations = 2

    def __init__(self, sde: SDE, score: Score):
        super().__init__(sde, score)
        self._halfway: dict[tuple[float, float], float] = {}

    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """α_s/α_t x − σ_s (e^h − 1) ε(u, m)."""
        check_step(t, s)
        m = self.halfway(t, s)
        now, middle, then = (self.marginal(v) for v in (t, m, s))
        u = exponential(x, -now[1] * self.slope(x, t), *now, *middle)
        return exponential(x, -middle[1] * self.slope(u, m), *now, *then)

    def halfway(self, t: float, s: float) -> float:
        """The time between t and s whose log-SNR is the mean of theirs; found once."""
        if (t, s) not in self._halfway:
            middle = (finite_log_snr(self.sde, t) + finite_log_snr(self.sde, s)) / 2
            self._halfway[t, s] = time_of(self.sde, middle, t, s)
        return self._halfway[t, s]


class DPMSolverPP(ScoreSampler):
    """DPM-Solver++(2M), which leans on the x̂_0 of the step before: order 2, one evaluation; Lu et al. 2022b, algorithm 2.

    The memory is of one x: where `step` is given any other tensor than the one it returned last, be it the first of a new
    run or one that was changed on the way, it takes a step of order 1. A step to σ = 0 is of order 1, too: x_s = x̂_0.

    Args:
        order: 1 for none of this, DDIM without noise at times of one's choice.
        clip: largest value x̂_0 may have, 1 for pictures in [−1, 1].
    """

    def __init__(self, sde: SDE, score: Score, *, order: Literal[1, 2] = 2, clip: float | None = None):
        super().__init__(sde, score)
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2; got {order}")
        self.order, self.clip = order, None if clip is None else check_positive(clip, "clip")
        self._last: tuple[Tensor, Tensor, float] | None = None  # x_s as returned, x̂_0 at t, h

    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """σ_s/σ_t x + α_s (1 − e^{−h}) D; e^{−h} = (σ_s/α_s) (α_t/σ_t)."""
        check_step(t, s)
        (alpha, sigma), (alpha_s, sigma_s) = self.marginal(t), self.marginal(s)
        x0 = convert(self.slope(x, t), x, alpha, sigma, "score", "x0")
        x0 = x0 if self.clip is None else x0.clamp(-self.clip, self.clip)
        h = math.log(alpha_s * sigma / (sigma_s * alpha)) if sigma_s > 0 else math.inf
        found = sigma_s / sigma * x + (alpha_s - sigma_s * alpha / sigma) * self._ahead(x, x0, h)
        self._last = (found, x0, h) if self.order == 2 else None
        return found

    def _ahead(self, x: Tensor, x0: Tensor, h: float) -> Tensor:
        """D, the data's guess drawn on to the middle of the step ahead."""
        if self._last is None or self._last[0] is not x or h == math.inf:
            return x0
        _, before, h_before = self._last
        return x0 + h / (2 * h_before) * (x0 - before)


def exponential(x: Tensor, eps: Tensor, alpha: float, sigma: float, alpha_s: float, sigma_s: float) -> Tensor:
    """α_s/α x − σ_s (e^h − 1) ε from x at α, σ: exact for an ε that does not change; e^h = (α_s/σ_s) (σ/α)."""
    return alpha_s / alpha * x - (alpha_s / alpha * sigma - sigma_s) * eps
