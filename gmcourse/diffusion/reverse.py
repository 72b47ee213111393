r"""Back through a diffusion with noise: three samplers that need a score and nothing else (thesis 2.4.3).

From t to s < t, h = t − s, z ~ N(0, I), a = α_t/α_s and b = σ_t² − a²σ_s², so that x_t | x_s ~ N(a x_s, b I):

    Euler–Maruyama       x_s = x − h (r x − g² s(x, t)) + g √h z                     thesis (2.64), one Euler step
    reverse diffusion    x_s = (2 − a) x + b s(x, t) + √b z                          Song et al. 2021, (46)
    corrector            x ← x + ε s(x, s) + √(2ε) z,   ε = 2 a² (snr ‖z‖/‖s‖)²      slides (25), their algorithms 4, 5

Reverse diffusion turns the forward step around, x_t = x_s + (a − 1) x_s + √b z, with x_t for x_s in the drift: it knows how
α and σ change over the step, where Euler–Maruyama knows r and g at its start. Both make errors of order h in the law of
x_s. Correctors are Langevin steps that stay at s, and pull the law back to p_s.

`run(sampler.step, noise, falling_times(sde, 100))` of `gmcourse.diffusion.samplers` is the whole algorithm. With an exact
score all that is wrong is the step size; with a net for a score, the net comes on top. Samplers without noise:
`flow_samplers`.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from gmcourse.diffusion.schedule import convert
from gmcourse.diffusion.sde import SDE, Score
from gmcourse.model import check_count, check_positive
from gmcourse.sampling.ode import same_shape
from gmcourse.sampling.sampler import normal_like, rows

RHO = 7.0  # of Karras et al. 2022: steps near the data are the finer, the larger it is


def falling_times(
    sde: SDE,
    steps: int,
    *,
    start: float = 1.0,
    end: float = 1e-3,
    spacing: Literal["uniform", "log_snr", "edm"] = "uniform",
) -> list[float]:
    """The steps + 1 times a sampler visits, falling from `start` to `end`.

    Args:
        spacing: even in t, or in the log-SNR, or in (σ/α)^{1/7}, Karras et al. 2022 (5). The latter two need σ(end) > 0.

    Raises ValueError for steps < 1 and for times not 1 ≥ start > end ≥ 0.

    >>> from gmcourse.diffusion.sde import VP
    >>> falling_times(VP(), 4, end=0.0)
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    check_step(start, end, "start", "end")
    share = np.arange(1, check_count(steps, "steps")) / steps
    if spacing == "uniform":
        return [start, *(start + share * (end - start)).tolist(), end]
    first, last = (finite_log_snr(sde, t) for t in (start, end))
    if spacing == "log_snr":
        wanted = first + share * (last - first)
    elif spacing == "edm":
        first, last = (math.exp(-v / 2 / RHO) for v in (first, last))  # (σ/α)^{1/ρ}
        wanted = -2 * RHO * np.log(first + share * (last - first))
    else:
        raise ValueError(f"spacing must be uniform, log_snr or edm; got {spacing!r}")
    return [start, *(time_of(sde, v, start, end) for v in wanted), end]


def time_of(sde: SDE, log_snr: float, late: float, early: float) -> float:
    """The time in [early, late] at which log α²/σ² is so much; ValueError, by scipy, if it is at none."""
    return brentq(lambda t: _log_snr(sde, t) - log_snr, early, late)


def finite_log_snr(sde: SDE, t: float) -> float:
    """log α²/σ² at t; ValueError where it is infinite."""
    value = _log_snr(sde, t)
    if not math.isfinite(value):
        raise ValueError(f"log-SNR must be finite at the end: choose end > 0 where σ > 0; got σ = 0 at t = {t:g}")
    return value


def check_step(t: float, s: float, *names: str) -> None:
    """Raise ValueError unless 1 ≥ t > s ≥ 0."""
    if not 0 <= s < t <= 1:
        late, early = names or ("t", "s")
        raise ValueError(f"{late} and {early} must be times, 1 ≥ {late} > {early} ≥ 0; got {t} and {s}")


class ScoreSampler(ABC):
    """What samplers in continuous time share; coefficients are numbers, worked out in float64 on the CPU.

    Args:
        sde: the forward process.
        score: x (n, *event_shape), t (n,) -> ∇ log p_t(x), like x.
    """

    evaluations = 1  # of the score, a step

    def __init__(self, sde: SDE, score: Score):
        self.sde, self.score = sde, score

    @abstractmethod
    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """x_s from x_t (n, *event_shape), 1 ≥ t > s ≥ 0; ValueError for other times, or a score of another shape."""

    def denoise(self, x: Tensor, t: float) -> Tensor:
        """E[x_0 | x_t] = (x + σ² s)/α, Tweedie's formula: takes what noise is left out of samples at t, in the mean."""
        return convert(self.slope(x, t), x, *self.marginal(t), "score", "x0")

    def slope(self, x: Tensor, t: float) -> Tensor:
        """The score where all of x are at time t, checked."""
        at = torch.full((len(x),), t, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
        return same_shape(self.score(x, at), x, "score")

    def marginal(self, t: float) -> tuple[float, float]:
        """α and σ at t."""
        alpha, sigma = self.sde.marginal(_scalar(t))
        return float(alpha), float(sigma)

    def rates(self, t: float) -> tuple[float, float]:
        """r and g at t."""
        return float(self.sde.rate(_scalar(t))), float(self.sde.diffusion(_scalar(t)))


class EulerMaruyama(ScoreSampler):
    """x_s = x − h (r x − g² s) + g √h z: weak order 1; thesis (2.64).

    >>> from gmcourse.diffusion import samplers, sde
    >>> em = EulerMaruyama(sde.VP(), lambda x, t: -x)  # data N(0, I)
    >>> samplers.run(em.step, torch.randn(5, 2), falling_times(em.sde, 100)).shape
    torch.Size([5, 2])
    """

    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """x − h (r x − g² s) + g √h z."""
        check_step(t, s)
        h, (r, g) = t - s, self.rates(t)
        return x - h * (r * x - g**2 * self.slope(x, t)) + g * h**0.5 * normal_like(x, generator)


class ReverseDiffusion(ScoreSampler):
    """Song et al.'s predictor, x_s = (2 − a) x + b s + √b z, for the exact forward step N(a x_s, b I): weak order 1.

    For VE a = 1 and b = σ_t² − σ_s², their algorithm 2; for VP a = √(1 − β) and b = β, algorithm 3.
    """

    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """(2 − a) x + b s + √b z."""
        check_step(t, s)
        a, b = forward_step(*self.marginal(t), *self.marginal(s))
        return (2 - a) * x + b * self.slope(x, t) + b**0.5 * normal_like(x, generator)


class PredictorCorrector(ScoreSampler):
    """A predictor's step to s, then `corrections` steps of Langevin there; slides (25), Song et al. 2021, algorithms 4, 5.

    A Langevin step is as large as the ratio `snr` of its signal ε‖s‖ to its noise √(2ε)‖z‖ wants it, with the lengths
    averaged over the batch: so ε does not depend on where a single x is, which would bend the law. What the steps leave is
    the bias of unadjusted Langevin, of order ε, so of order snr².

    Args:
        predictor: a sampler of this module or of `flow_samplers`, whose sde and score are used.
        corrections: Langevin steps after each of the predictor's.
        snr: larger steps for larger values; Song et al. use 0.16 for VE and pictures, less for VP.
    """

    def __init__(self, predictor: ScoreSampler, *, corrections: int = 1, snr: float = 0.16):
        super().__init__(predictor.sde, predictor.score)
        self.predictor, self.corrections = predictor, check_count(corrections, "corrections")
        self.snr = check_positive(snr, "snr")

    @property
    def evaluations(self) -> int:
        """The predictor's, and one a correction."""
        return self.predictor.evaluations + self.corrections

    def step(self, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """Predict x_s, then correct it."""
        x = self.predictor.step(x, t, s, generator)
        share = (self.marginal(t)[0] / self.marginal(s)[0]) ** 2
        for _ in range(self.corrections):
            x = self.correct(x, s, share, generator)
        return x

    def correct(self, x: Tensor, s: float, share: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """x + ε s + √(2ε) z at time s, with ε = 2·share·(snr ‖z‖/‖s‖)²; share is a², 1 for VE."""
        score, z = self.slope(x, s), normal_like(x, generator)
        signal, noise = (torch.linalg.vector_norm(rows(v), dim=1).mean() for v in (score, z))
        eps = 2 * share * (self.snr * noise / signal).square()
        return x + eps * score + (2 * eps).sqrt() * z


def forward_step(alpha: float, sigma: float, alpha_then: float, sigma_then: float) -> tuple[float, float]:
    """(a, b) of x_t | x_s ~ N(a x_s, b I) from α, σ at t and, `then`, at s < t."""
    a = alpha / alpha_then
    return a, sigma**2 - (a * sigma_then) ** 2


def _scalar(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


def _log_snr(sde: SDE, t: float) -> float:
    return float(sde.log_snr(_scalar(t)))
