"""A VAE that can be solved by hand: linear decoder, Gaussian everything (probabilistic PCA).

    x = W z + σ ε   ⇒   p(x) = N(0, WWᵀ + σ²I),   p(z|x) = N(M⁻¹Wᵀx, σ²M⁻¹),   M = WᵀW + σ²I
"""

import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gmcourse import StandardNormal
from gmcourse.vae import VAE, Gaussian, GaussianEncoder

SIGMA = 0.6
W = torch.tensor([[1.5, 0.0], [0.0, 0.7], [0.8, 0.0]], dtype=torch.float64)  # orthogonal columns: the posterior is diagonal
X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def evidence() -> MultivariateNormal:
    """The exact p(x)."""
    return MultivariateNormal(torch.zeros(3, dtype=torch.float64), W @ W.T + SIGMA**2 * torch.eye(3))


def posterior(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the exact p(z|x)."""
    m = torch.linalg.inv(W.T @ W + SIGMA**2 * torch.eye(2))
    return x @ W @ m, SIGMA**2 * m


def solved_vae(*, shift: float = 0.0, widen: float = 1.0) -> VAE:
    """The VAE of this model with the exact posterior as encoder, or one that is off by `shift` and `widen`."""
    m = torch.linalg.inv(W.T @ W + SIGMA**2 * torch.eye(2))
    net = nn.Linear(3, 4).double()
    log_sigma = (widen * SIGMA * m.diagonal().sqrt()).log()
    with torch.no_grad():
        net.weight.copy_(torch.cat([m @ W.T, torch.zeros(2, 3)]))
        net.bias.copy_(torch.cat([torch.full((2,), shift), 5 * torch.atanh(log_sigma / 5)]))  # undoes the soft clamp
    decoder = nn.Linear(2, 3).double()
    with torch.no_grad():
        decoder.weight.copy_(W)
        decoder.bias.zero_()
    vae = VAE((3,), GaussianEncoder(net), decoder, prior=StandardNormal(2), likelihood=Gaussian(SIGMA))
    return vae.double()
