r"""Two-stage VAE: a second VAE learns what the first one's prior should have been (Dai & Wipf 2019; thesis 3.2).

    1.  a VAE on x, its σ learned; then it is held
    2.  a VAE on z, its data draws of q(z) = E_data[q(z|x)]:        p(z) = ∫ p(z|u) N(u; 0, I) du
    generate    u ~ N(0, I),    z ~ p(z|u),    x = E[x|z]

Data in many dimensions lie near a manifold of few. A VAE that learns its σ finds the manifold, σ → 0, and then has no reason
left to match q(z) and N(0, I). But q(z) fills all d dimensions, with noise where the data need fewer: no manifold is left to
find, and the second VAE can do what the first could not, learn the law.

The whole is a hierarchy with latents z and u, and log p(x) has the bound that such models have (thesis (2.8), 4.4.1):

    log p(x) ≥ E log 1/k Σ_i  p(x|z_i) p(z_i|u_i) p(u_i) / q(z_i|x) q(u_i|z_i)        z_i ~ q(z|x),  u_i ~ q(u|z_i)
"""

import torch
from torch import Tensor

from gmcourse.compositions.autoencoder import check_latent
from gmcourse.fit import fit
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal, check_count, evaluating
from gmcourse.training.history import History
from gmcourse.vae import VAE, aggregated_posterior, iwae_bound
from gmcourse.vae.bounds import Drawn


class TwoStageVAE(GenerativeModel):
    """Two VAEs, one on the latents of the other. `fit` trains the first; then `fit_prior` trains the second.

    Args:
        first: VAE of x with diagonal Gaussian q(z|x) on d dimensions; Dai & Wipf learn its σ, `Gaussian(1.0, "global")`.
        second: VAE on (d,), e.g. `mlp_vae((d,), latent=d)`.

    `log_prob` is a LOWER_BOUND with the second as prior; the first's own prior plays no part in it, or in samples. Raises
    ValueError for a second VAE on other than d dimensions.

    >>> from gmcourse.vae import mlp_vae
    >>> TwoStageVAE(mlp_vae((5,), latent=2), mlp_vae((2,), latent=2)).sample(3).shape
    torch.Size([3, 5])
    """

    likelihood = Likelihood.LOWER_BOUND

    def __init__(self, first: VAE, second: VAE):
        super().__init__(first.event_shape)
        check_latent(first.event_shape, first.encoder, second)
        self.first, self.second = first, second
        self.data_range, self.nfe = first.data_range, first.nfe + second.nfe

    @property
    def encoder(self):
        """q(z|x) is the first's."""
        return self.first.encoder

    @property
    def prior(self):
        """p(z) is the second."""
        return self.second

    @property
    def likelihood_of_x(self):
        """p(x|z) is the first's."""
        return self.first.likelihood_of_x

    def players(self):
        """Those of the first stage; the second is `fit_prior`'s."""
        return self.first.players()

    def loss(self, x: Tensor) -> Tensor:
        """The first's, (n,), in nats."""
        return self.first.loss(x)

    def fit_prior(self, x: Tensor, *, steps: int, **settings) -> History:
        """Train the second VAE on fresh draws of the first's aggregated posterior of x; `settings` go to `fit`."""
        return fit(self.second, aggregated_posterior(self.first, x), steps=steps, **settings)

    def infer(self, x: Tensor) -> tuple[list[Drawn], Tensor]:
        """Draw z ~ q(z|x) and u ~ q(u|z): both groups with what they are measured against, and the decoder's output."""
        q = self.first.encoder(x)
        z = q.rsample()
        above, out = self.second.infer(z)
        return [Drawn(z, q, self.second.likelihood_of_x(out), closed=False), *above], self.first.decoder(z)

    def log_prob(self, x: Tensor, *, k: int = 128) -> Tensor:
        """A lower bound on log p(x) in nats, (n,): importance-weighted, with k pairs (z, u). No gradient."""
        with torch.no_grad(), evaluating(self):
            return iwae_bound(self, self.check_data(x, "x"), k)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """E[x|z] at z ~ p(z|u), u ~ N(0, I), (n, *event_shape)."""
        with evaluating(self):
            return self.likelihood_of_x.mean(self.first.decoder(self.sample_latent(n, generator=generator)))

    def sample_latent(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw z of the second VAE, its noise included, (n, d)."""
        return self.second.sample(check_count(n), generator=generator, mean=False)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The first's E[x|z] at z = μ(x), shape of x."""
        return self.first.reconstruct(x)

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of ε_u, ε_z and ε_x in the flat noise vector."""
        above = self.second.noise_blocks
        return {"u": above["z"], "z": above["x"], "x": self.likelihood_of_x.noise_size(self.event_shape)}

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw flat noise ε ~ N(0, I) for `push`, (n, sum of the `noise_blocks`)."""
        like = next(self.parameters())
        return StandardNormal(sum(self.noise_blocks.values())).to(like).sample(n, generator=generator)

    def push(self, eps: Tensor) -> Tensor:
        """Carry noise to data, differentiably: z = second.push(ε_u, ε_z), x = E[x|z] + σ ε_x; call in evaluation mode."""
        u, z, x = self.noise_blocks.values()
        above, eps_x = eps.split([u + z, x], dim=1)
        return self.likelihood_of_x.push(self.first.decoder(self.second.push(above)), eps_x)
