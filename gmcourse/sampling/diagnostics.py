r"""Has the chain arrived, and how much is it worth? Numbers from recorded chains, values (t, n): t steps of n chains.

    ρ_k                    autocorrelation at lag k
    τ = 1 + 2 Σ_k ρ_k      integrated autocorrelation time: steps per independent value
    ESS = n t / τ          the standard error of the mean is √(variance / ESS)
    R̂ = √(v⁺ / W)          spread of all half chains together over the spread inside them: near 1, or they have not mixed

Correlations are taken about the mean of all chains, so chains that sit in different modes count as correlated.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.sampling.sampler import Sampler


def autocorrelation(values: Tensor) -> Tensor:
    """ρ_0 = 1, ρ_1, … of values (t, n) or (t,), pooled over chains, by FFT; shape (t,), the last of them mere noise.

    Raises ValueError for fewer than two steps, values that are not finite, or values that never change.
    """
    values = _check(values, least=2)
    t = len(values)
    centred = values - values.mean()
    power = torch.fft.rfft(centred, n=2 * t, dim=0).abs().square()  # zeros behind the data: lags do not wrap around
    covariance = torch.fft.irfft(power, n=2 * t, dim=0)[:t].mean(1) / torch.arange(t, 0, -1, device=values.device)
    if not covariance[0] > torch.finfo(values.dtype).eps ** 2 * values.square().mean():
        raise ValueError(f"values must vary; got {values.flatten()[0]:g} throughout")
    return covariance / covariance[0]


def integrated_time(values: Tensor) -> float:
    """τ in steps, of values (t, n) or (t,): Geyer's initial positive sequence (1992), the sum of ρ_2m + ρ_2m+1 while > 0.

    Chains that swing about the mean have τ < 1. It is kept above 1/log₁₀(t n), as Stan does: noise could make it negative.
    """
    rho = autocorrelation(values)
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(1)
    positive = (pairs > 0).cumprod(0)
    least = 1 / math.log10(max(values.numel(), 10))
    return max(float(2 * (pairs * positive).sum() - 1), least)


def chain_ess(values: Tensor) -> float:
    """Number of independent values that values (t, n) or (t,) are worth: n t / τ."""
    return values.numel() / integrated_time(values)


def r_hat(values: Tensor) -> float:
    """Split R̂ of values (t, n): Gelman et al., Bayesian Data Analysis (3rd ed.), 11.4; above 1.01 chains have not mixed.

    Each chain is cut in two halves of h steps, with means m_j and variances s_j²:
    W = mean s_j²,  B/h = variance of m_j,  v⁺ = (h−1)/h W + B/h.
    """
    values = _check(values, least=4)
    h = len(values) // 2
    halves = torch.cat([values[:h], values[-h:]], 1)
    within, between = halves.var(0).mean(), halves.mean(0).var()
    if within == 0:
        raise ValueError("values must vary within chains; each half of a chain is constant")
    return float(((h - 1) / h + between / within).sqrt())


class Bias(NamedTuple):
    """What a sampler's step size costs: bias of an expectation and its standard error, each (k,), for k step sizes."""

    step_sizes: Tensor
    value: Tensor
    stderr: Tensor


def bias_against_step(
    make: Callable[[float], Sampler],
    x0: Tensor,
    statistic: Callable[[Tensor], Tensor],
    truth: float,
    step_sizes: Sequence[float],
    *,
    steps: int = 1000,
    skip: int = 200,
    every: int = 1,
    generator: torch.Generator | None = None,
) -> Bias:
    """Mean of `statistic` over long runs, minus `truth`, for each step size; standard errors from independent chains.

    Args:
        make: step size -> sampler.
        x0: (n, *event_shape), n > 1 independent chains; every step size starts from them.
        statistic: x (m, *event_shape) -> (m,).
        steps, skip, every: as in `Sampler.trace`; `skip` must be long enough for the smallest step to forget x0.
    """
    if len(x0) < 2:
        raise ValueError(f"x0 must hold at least 2 chains for a standard error; got {len(x0)}")
    means = []
    for step in step_sizes:
        x = make(step).trace(x0, steps, every=every, skip=skip, generator=generator).x
        means.append(statistic(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(0))
    found = torch.stack(means)
    return Bias(torch.as_tensor(step_sizes), found.mean(1) - truth, found.std(1) / math.sqrt(found.shape[1]))


def _check(values: Tensor, *, least: int) -> Tensor:
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) < least or values.shape[1] == 0 or not values.is_floating_point():
        raise ValueError(f"values must be floats (t, n), at least {least} steps; got {tuple(values.shape)}, {values.dtype}")
    if not values.isfinite().all():
        raise ValueError("values must be finite; got NaN or inf among them")
    return values
