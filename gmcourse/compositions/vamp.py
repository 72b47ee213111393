r"""A VAE with the VampPrior: the prior is a mixture of the encoder's own posteriors (Tomczak & Welling 2018; thesis 3.2).

    E_data E_q(z|x)[log p(z)]  is largest, over all p, at the aggregated posterior   q(z) = 1/N Σ_i q(z|x_i)
    p(z) = 1/K Σ_k q(z|u_k)        K pseudo-inputs u_k, learned with the rest        one for each datum: p(z) = q(z)

That optimum costs N passes of the encoder at every step, and knows the training data by heart; K of them approximate it. To
draw z, the encoder and the u_k must be kept. The u_k are free: nothing holds them in the range of the data.

The prior is the encoder as it will be used: it passes the u_k through in evaluation mode. In training mode, batch norm would
normalise the u_k by one another, another law than the one that samples are drawn from, and its averages, which belong to the
data, would be half theirs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from gmcourse.compositions.flow_prior import flow_prior_vae
from gmcourse.model import evaluating
from gmcourse.vae import VAE, VampPrior
from gmcourse.vae.posterior import is_diagonal


class Settled(nn.Module):
    """`encoder`, always in evaluation mode; gradients pass."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Independent:
        """q(z|x); dropout is off, batch norm uses its averages and leaves them alone."""
        with evaluating(self.encoder):
            return self.encoder(x)


def vampprior_vae(
    event_shape: Sequence[int],
    encoder: nn.Module,
    decoder: nn.Module,
    pseudo_inputs: Tensor,
    **noise,
) -> VAE:
    """A VAE whose prior is p(z) = 1/K Σ_k q(z|u_k).

    Args:
        encoder: x -> q(z|x), a `GaussianEncoder`; the prior shares it.
        decoder: z (n, d) -> the mean of x, (n, *event_shape).
        pseudo_inputs: where the u_k start, (K, *event_shape), e.g. K of the training data.
        noise: beta, learned, sigma, of the noise of x, as in `flow_prior_vae`; its standard deviation is σ/√β.

    Its samples are E[x|z]. Raises ValueError for pseudo-inputs that are no data, an encoder that gives no diagonal
    Gaussians, β or σ ≤ 0.
    """
    if pseudo_inputs.ndim == 0 or not len(pseudo_inputs) or tuple(pseudo_inputs.shape[1:]) != tuple(event_shape):
        raise ValueError(f"pseudo_inputs must have shape (K, *{tuple(event_shape)}); got {tuple(pseudo_inputs.shape)}")
    settled = Settled(encoder)
    with torch.no_grad():
        q = settled(pseudo_inputs[:1])
    if not is_diagonal(q):
        raise ValueError(f"encoder must give diagonal Gaussians, as GaussianEncoder does; got {type(q).__name__}")
    prior = VampPrior(q.event_shape.numel(), settled, pseudo_inputs)
    return flow_prior_vae(event_shape, encoder, decoder, prior, **noise)
