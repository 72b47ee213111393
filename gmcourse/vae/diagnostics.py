r"""Where a VAE goes wrong, in numbers: the aggregated posterior and the latent units that are alive (thesis 2.1.4).

    q(z) = E_{p(x)}[q(z|x)]     the prior hole is wherever p(z) is large and q(z) small
    A_u = Var_x(E_{q(z_u|x)}[z_u])     a unit is active if A_u > 0.01            Burda et al. 2015
"""

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily

from gmcourse.vae.posterior import normal
from gmcourse.vae.vae import VAE


@torch.no_grad()
def aggregated_posterior(vae: VAE, x: Tensor) -> MixtureSameFamily:
    """q(z) over the rows of x (n, *event_shape): a mixture of n Gaussians with `log_prob` and `sample`."""
    q = vae.encoder(vae.check_batch(x)).base_dist
    uniform = Categorical(logits=torch.zeros(len(x), device=x.device))
    return MixtureSameFamily(uniform, normal(q.loc, q.scale), validate_args=False)


@torch.no_grad()
def active_units(vae: VAE, x: Tensor, *, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions carry information about x: shape (d,), True where Var_x(μ_u(x)) exceeds the threshold.

    Raises ValueError for fewer than two rows of x, which have no variance.
    """
    if len(x) < 2:
        raise ValueError(f"x must have at least 2 rows; got {len(x)}")
    return vae.encoder(vae.check_batch(x)).mean.var(0) > threshold
