r"""The approximate posterior q_φ(z|x) = N(z; μ, diag σ²) with (μ, log σ) = E_φ(x), thesis 2.1.3.

The thesis writes N(z; μ, diag(σ)) and z = μ + σ ⊙ ε in one breath; with the second, the covariance is diag(σ²), and so it
is here. One net serves all x: that is amortised inference.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

LIMIT = 5.0


class GaussianEncoder(nn.Module):
    """Turns a net x -> (n, 2d) into x -> q(z|x), a diagonal Gaussian over z of shape (d,)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Independent:
        """(n, *event_shape) -> distribution with batch shape (n,) and event shape (d,)."""
        return diagonal_normal(*self.net(x).chunk(2, dim=1))


def diagonal_normal(mu: Tensor, log_sigma: Tensor) -> Independent:
    """N(μ, diag σ²) over everything but the batch dimension; log σ is softly clamped to (−5, 5)."""
    return normal(at_least_single(mu), soft_clamp(at_least_single(log_sigma)).exp())


def normal(mean: Tensor, sigma: Tensor) -> Independent:
    """N(mean, diag sigma²) over everything but the batch dimension."""
    return Independent(Normal(mean, sigma, validate_args=False), mean.ndim - 1, validate_args=False)


def is_diagonal(distribution) -> bool:
    """Whether a distribution is one of independent Gaussians, for which `gaussian_kl` is right."""
    return isinstance(distribution, Independent) and type(distribution.base_dist) is Normal


def at_least_single(x: Tensor) -> Tensor:
    """float16 and bfloat16 as float32: nets may run in half precision, log-densities may not."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def soft_clamp(x: Tensor, limit: float = LIMIT) -> Tensor:
    """limit · tanh(x / limit): the identity near 0, never beyond ±limit, with a gradient everywhere."""
    return limit * torch.tanh(x / limit)


def gaussian_kl(q: Independent, p: Independent | None = None) -> Tensor:
    r"""KL(q ‖ p) of diagonal Gaussians in nats, shape (n,); p = N(0, I) if None. Thesis (2.7) in closed form.

    Σ_d  log σ_p/σ_q + (σ_q² + (μ_q − μ_p)²) / 2σ_p² − ½
    """
    mu, var = q.base_dist.loc, q.base_dist.scale.square()
    if p is None:
        terms = 0.5 * (mu.square() + var - 1) - q.base_dist.scale.log()
    else:
        width = p.base_dist.scale
        terms = 0.5 * ((mu - p.base_dist.loc).square() + var) / width.square() - 0.5 + (width / q.base_dist.scale).log()
    return terms.flatten(1).sum(1)
