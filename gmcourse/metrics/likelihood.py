r"""Log-likelihood against the truth: on data whose density is known, the gap of a model is an estimate of a KL divergence.

    gap = E_p[log p(x)] − E_p[log p_θ(x)] = KL(p ‖ p_θ) ≥ 0

Both averages use the same samples, so most of the noise cancels. For a model with a lower bound the gap also holds the
looseness of the bound.
"""

import math
from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.model import GenerativeModel, check_count
from gmcourse.randomness import seeded


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    stderr: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.stderr:.3f}"


@torch.no_grad()
def likelihood_gap(
    model: GenerativeModel | Callable[[Tensor], Tensor], data: Distribution, *, n: int = 10_000, seed: int = 0
) -> Estimate:
    """KL(data ‖ model) in nats by n fresh samples of `data`, with its standard error.

    `model` is a model with `log_prob`, or a function x (n, *event_shape) -> log-density (n,). The gap is (inf, inf) where
    the model gives a sample probability 0; NaN is a ValueError.
    """
    if check_count(n) < 2:
        raise ValueError(f"n must be at least 2 for a standard error; got {n}")
    with seeded(seed):
        x = data.sample((n,))
    log_prob, there = model, x
    if isinstance(model, GenerativeModel):
        log_prob, there = model.log_prob, x.to(next(chain(model.parameters(), model.buffers()), x).device)
    found = log_prob(there).to(x.device)
    if found.shape != (n,):
        raise ValueError(f"model must give log-densities of shape ({n},); got {tuple(found.shape)}")
    if (wild := ~(found < math.inf)).any():
        raise ValueError(f"model must give log-densities below +inf; got NaN or +inf at {int(wild.sum())} of {n} points")
    difference = data.log_prob(x) - found
    if found.min() == -math.inf:  # p_θ = 0 where data are
        return Estimate(math.inf, math.inf)
    return Estimate(float(difference.mean()), float(difference.std() / n**0.5))
