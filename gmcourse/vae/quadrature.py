r"""The integral no VAE is supposed to do: p(x) = ∫ p(x|z) p(z) dz on a grid, for latent spaces of one or two dimensions.

With it the true log-likelihood and the true posterior p(z|x) = p(x|z) p(z) / p(x) (thesis (2.1), (2.3)) stand beside their
variational approximations, and the gap of the bound, KL(q(z|x) ‖ p(z|x)) (thesis (2.10)), can be seen.
"""

import math

import torch
from torch import Tensor

from gmcourse.vae.vae import VAE


class LatentGrid:
    """A grid over latent space with the decoder evaluated once at every node.

    Args:
        vae: a VAE with 1 or 2 latent dimensions.
        resolution: nodes per axis. The spacing 2·extent/resolution times the decoder's slope must stay below the
            decoder's σ; `log_prob` at two resolutions tells.
        extent: the grid covers [−extent, extent]^d.
    """

    def __init__(self, vae: VAE, *, resolution: int = 300, extent: float = 5.0):
        d = vae.prior.event_shape.numel()
        if d > 2:
            raise ValueError(f"quadrature needs a latent space of 1 or 2 dimensions; got {d}")
        self.vae, self.shape = vae, (resolution,) * d
        self.step = 2 * extent / resolution
        like = next(vae.decoder.parameters())
        self.axis = (torch.arange(resolution, device=like.device, dtype=like.dtype) + 0.5) * self.step - extent
        self.nodes = torch.cartesian_prod(*[self.axis] * d).reshape(-1, d)
        with torch.no_grad():
            self.out = torch.cat([vae.decoder(z) for z in self.nodes.split(16384)])
            self.log_prior = vae.prior.log_prob(self.nodes) + d * math.log(self.step)

    @torch.no_grad()
    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z) dz at every node, shape (n, nodes)."""
        return self.vae.likelihood_of_x(self.out).log_prob(x.unsqueeze(1)) + self.log_prior

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats by the midpoint rule, shape (n,)."""
        return torch.cat([self.log_joint(part).logsumexp(1) for part in self._parts(x)])

    def posterior(self, x: Tensor) -> Tensor:
        """The true posterior density p(z|x) at every node, shape (n, *grid), indexed [z₁, z₂]."""
        each = [self.log_joint(part).softmax(1) / self.step ** len(self.shape) for part in self._parts(x)]
        return torch.cat(each).unflatten(1, self.shape)

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """x in parts small enough that x times nodes times pixels fits into memory, on the grid's device."""
        rows = max(1, 4_000_000 // (len(self.nodes) * self.vae.event_shape.numel()))
        return self.vae.check_batch(x).to(self.nodes.device).split(rows)
