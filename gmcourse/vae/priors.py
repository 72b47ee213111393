r"""Priors beyond N(0, I): a Gaussian mixture and the VampPrior (thesis 3.2; here to see what a better prior buys).

    mixture     p(z) = Σ_k π_k N(z; m_k, diag s_k²)
    VampPrior   p(z) = 1/K Σ_k q(z | u_k)     pseudo-inputs u_k learned       Tomczak & Welling 2018

Both have `log_prob` and `sample`, which is all that a VAE asks of a prior.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily

from gmcourse.model import GenerativeModel, Likelihood, check_count
from gmcourse.vae.posterior import diagonal_normal


def sample_mixture(weights: Tensor, components: Independent, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw n points from Σ_k weights_k · components_k, shape (n, d)."""
    n, loc, scale = check_count(n), components.base_dist.loc, components.base_dist.scale
    k = torch.multinomial(weights, n, replacement=True, generator=generator)
    return loc[k] + scale[k] * torch.randn(n, loc.shape[1], generator=generator, device=loc.device, dtype=loc.dtype)


class MixturePrior(GenerativeModel):
    """Mixture of `components` diagonal Gaussians in d dimensions with learned weights, means and widths."""

    likelihood = Likelihood.EXACT
    nfe = 0

    def __init__(self, d: int, components: int = 10):
        super().__init__((d,))
        check_count(components, "components")
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, d))
        self.log_sigmas = nn.Parameter(torch.zeros(components, d))

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, z (n, d), shape (n,)."""
        components, weights = diagonal_normal(self.means, self.log_sigmas), Categorical(logits=self.logits)
        return MixtureSameFamily(weights, components, validate_args=False).log_prob(self.check_batch(z, "z"))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw z, shape (n, d)."""
        return sample_mixture(self.logits.softmax(0), diagonal_normal(self.means, self.log_sigmas), n, generator)


class VampPrior(GenerativeModel):
    """Mixture of the encoder's own posteriors at learned pseudo-inputs.

    Args:
        d: dimension of z.
        encoder: the VAE's encoder, shared, so that the prior moves with it.
        pseudo_inputs: initial u_k, shape (K, *event_shape of x), e.g. some training data.
    """

    likelihood = Likelihood.EXACT
    nfe = 0

    def __init__(self, d: int, encoder: nn.Module, pseudo_inputs: Tensor):
        super().__init__((d,))
        self.encoder = encoder
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.clone())

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, z (n, d), shape (n,)."""
        components = self.encoder(self.pseudo_inputs)
        uniform = Categorical(logits=torch.zeros(len(self.pseudo_inputs), device=z.device))
        return MixtureSameFamily(uniform, components, validate_args=False).log_prob(self.check_batch(z, "z"))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw z, shape (n, d)."""
        components = self.encoder(self.pseudo_inputs)
        weights = torch.ones(len(self.pseudo_inputs), device=self.pseudo_inputs.device)
        return sample_mixture(weights, components, n, generator)
