r"""Log-likelihood against the truth: on data whose density is known, the gap of a model is an estimate of a KL divergence.

    gap = E_p[log p(x)] − E_p[log p_θ(x)] = KL(p ‖ p_θ) ≥ 0

Both averages use the same samples, so most of the noise cancels. For a model with a lower bound the gap also holds the
looseness of the bound.
"""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.model import GenerativeModel, check_count


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

    `model` is a model with `log_prob`, or a function x (n, *event_shape) -> log-density (n,).
    """
    if check_count(n) < 2:
        raise ValueError(f"n must be at least 2 for a standard error; got {n}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = data.sample((n,))
    log_prob, there = model, x
    if isinstance(model, GenerativeModel):
        log_prob, there = model.log_prob, x.to(next(chain(model.parameters(), model.buffers())).device)
    found = log_prob(there).to(x.device)
    if found.shape != (n,):
        raise ValueError(f"model must give log-densities of shape ({n},); got {tuple(found.shape)}")
    difference = data.log_prob(x) - found
    return Estimate(float(difference.mean()), float(difference.std() / n**0.5))
