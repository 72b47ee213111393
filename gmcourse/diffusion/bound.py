r"""The variational bound of a diffusion model, term by term, in nats (thesis 2.4.2).

    −log p_θ(x_0) ≤ L = L_T + Σ_{t=1}^{T−1} L_t + L_0                                         thesis (2.55), (2.56)
    L_T = KL(q(x_T | x_0) ‖ N(0, I))                          no parameters; small if ᾱ_T is
    L_t = KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t))      two Gaussians: closed form, averaged over x_t
    L_0 = −log p_θ(x_0 | x_1)                                 the decoder

Times count from 0, as in `schedule`: the term of t here compares the step from t to t − 1, and t = 0 is the decoder. With
σ² = β̃_t or β_t fixed, L_t = ‖μ̃ − μ_θ‖²/(2σ²) + C, thesis (2.57), which is (2.61) in terms of the noise; C = 0 for β̃.

Images with whole-numbered brightness have probabilities, not densities: the decoder then integrates its Gaussian over the
bin of each value, the outermost bins being open, and L/(d ln 2) is a number of bits per dimension that a file could have
(Ho et al. 2020, 3.3).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gmcourse.diffusion.schedule import DiscreteDiffusion
from gmcourse.model import check_count
from gmcourse.sampling.sampler import normal_like, rows


class Reverse(Protocol):
    """What the bound asks of a model: its chain, its steps p_θ(x_{t−1} | x_t) and how fine the data are."""

    chain: DiscreteDiffusion
    levels: int | None

    def reverse(self, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of p_θ(x_{t−1} | x_t)."""


class Bound(NamedTuple):
    """The terms of the bound, in nats, for each datum (n,)."""

    prior: Tensor  # L_T
    steps: Tensor  # (k, n): the terms of k times, in their order; that of 0 is the decoder's
    times: list[int]
    total: Tensor  # L: the prior and the sum over all T times, estimated from those k


def variational_bound(
    model: Reverse,
    x: Tensor,
    *,
    times: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Bound:
    """An unbiased estimate of L for x (n, *event_shape): one draw of x_t for each of `times`, in nats.

    Args:
        times: in 0 … T−1; all of them unless given, at one evaluation of the net each. If fewer, 0 and at least one more:
            `total` keeps the decoder, and stands for the sum of the other terms by their mean; unbiased if these times
            are drawn evenly from 1 … T−1.
    """
    last = len(model.chain)
    times = list(range(last)) if times is None else [int(t) for t in times]
    if not times or not all(0 <= t < last for t in times):
        raise ValueError(f"times must lie in 0 … {last - 1}; got {times[:8]}")
    if 0 not in times or not any(times) and last > 1:
        raise ValueError(f"times must hold 0, the decoder, and one that is not; got {times[:8]}")
    clocks = (torch.full((len(x),), t, device=x.device) for t in times)
    found = torch.stack([term(model, x, clock, normal_like(x, generator)) for clock in clocks])
    decoder = torch.tensor([t == 0 for t in times], device=x.device)
    prior = prior_term(model.chain, x)
    total = prior + found[decoder].mean(0)
    if last > 1:
        total = total + (last - 1) * found[~decoder].mean(0)
    return Bound(prior, found, times, total)


def term(model: Reverse, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """L_t in nats (n,) of x (n, *event_shape) at times t (n,), from the draw x_t that the noise eps makes."""
    xt = model.chain.q_sample(x, t, eps)
    mean, variance = model.reverse(xt, t)
    true_mean, true_variance = model.chain.posterior(x, xt, t)
    first = t == 0
    compared = rows(kl_normals(true_mean, true_variance.clamp(min=1e-20), mean, variance)).sum(1)
    decoded = -rows(decoder_log_prob(x, mean, variance, model.levels)).sum(1)
    return torch.where(first, decoded, compared)


def prior_term(chain: DiscreteDiffusion, x: Tensor) -> Tensor:
    """L_T = KL(q(x_T | x_0) ‖ N(0, I)) in nats, (n,)."""
    alpha, sigma = chain.marginal(x, len(chain) - 1)
    zero = torch.zeros_like(x)
    return rows(kl_normals(alpha * x, sigma.square(), zero, torch.ones_like(sigma))).sum(1)


def kl_normals(mean1: Tensor, variance1: Tensor, mean2: Tensor, variance2: Tensor) -> Tensor:
    """KL(N(mean1, variance1) ‖ N(mean2, variance2)) of single numbers, in nats, shapes broadcast."""
    ratio = variance1 / variance2
    return 0.5 * (ratio - 1 - ratio.log() + (mean1 - mean2).square() / variance2)


def decoder_log_prob(x: Tensor, mean: Tensor, variance: Tensor, levels: int | None) -> Tensor:
    """log p_θ(x_0 | x_1) of single numbers, in nats: shape of x.

    A density where `levels` is None; else the probability of the bin of x, one of `levels` values evenly spread over
    [−1, 1], under the Gaussian, the outermost bins reaching to infinity.
    """
    if levels is None:
        return -0.5 * ((x - mean).square() / variance + torch.log(2 * math.pi * variance))
    half, width = 1 / (check_count(levels, "levels") - 1), variance.sqrt()
    above, below = (x - mean + half) / width, (x - mean - half) / width
    flip = x > mean  # log(Φ(b) − Φ(a)) = log(Φ(−a) − Φ(−b)): take the side where neither is near 1
    high = torch.where(flip, -below, above)
    low = torch.where(flip, -above, below)
    top, bottom = x > 1 - half, x < half - 1
    high = torch.where(torch.where(flip, bottom, top), torch.full_like(high, math.inf), high)
    low = torch.where(torch.where(flip, top, bottom), torch.full_like(low, -math.inf), low)
    return _log_difference(torch.special.log_ndtr(high), torch.special.log_ndtr(low))


def _log_difference(high: Tensor, low: Tensor) -> Tensor:
    """log(e^high − e^low), high > low."""
    return high + torch.log(-torch.expm1((low - high).clamp(max=-1e-7)))
