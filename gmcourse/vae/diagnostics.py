r"""Where a VAE goes wrong, in numbers: the aggregated posterior and the latent units that are alive (thesis 2.1.4).

    q(z) = E_{p(x)}[q(z|x)]     the prior hole is wherever p(z) is large and q(z) small
    A_u = Var_x(E_{q(z_u|x)}[z_u])     a unit is active if A_u > 0.01            Burda et al. 2015
"""

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily

from gmcourse.model import check_count, evaluating
from gmcourse.vae.posterior import is_diagonal, normal
from gmcourse.vae.vae import VAE


class AggregatedPosterior(MixtureSameFamily):
    """1/n Σ_i N(z; loc_i, diag scale_i²), both (n, d). A draw takes one component only, and so costs the same at any n."""

    def __init__(self, loc: Tensor, scale: Tensor):
        uniform = Categorical(logits=torch.zeros(len(loc), device=loc.device))
        super().__init__(uniform, normal(loc, scale), validate_args=False)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw z, (*sample_shape, d): a component first, then its Gaussian."""
        parts = self.component_distribution.base_dist
        k = torch.randint(len(parts.loc), tuple(sample_shape), device=parts.loc.device)
        return torch.normal(parts.loc[k], parts.scale[k])


@torch.no_grad()
def aggregated_posterior(vae: VAE, x: Tensor, *, batch: int = 500) -> AggregatedPosterior:
    """q(z) over the rows of x (n, *event_shape), by `batch` rows at a time, in evaluation mode: a mixture of n Gaussians.

    Raises ValueError for a posterior that is no diagonal Gaussian.
    """
    with evaluating(vae):
        found = [vae.encoder(part) for part in vae.check_data(x, "x").split(check_count(batch, "batch"))]
    if not is_diagonal(found[0]):
        wanted = "the VAE's posterior must be a diagonal Gaussian, as GaussianEncoder gives it"
        raise ValueError(f"{wanted}; got {type(found[0]).__name__}")
    return AggregatedPosterior(*(torch.cat([getattr(q.base_dist, part) for q in found]) for part in ("loc", "scale")))


@torch.no_grad()
def active_units(vae: VAE, x: Tensor, *, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions carry information about x: shape (d,), True where Var_x(μ_u(x)) exceeds the threshold.

    Raises ValueError for fewer than two rows of x, which have no variance.
    """
    if len(x) < 2:
        raise ValueError(f"x must have at least 2 rows; got {len(x)}")
    return vae.encoder(vae.check_batch(x)).mean.var(0) > threshold
