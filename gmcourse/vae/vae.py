r"""The variational auto-encoder, thesis 2.1: p_θ(x, z) = p_θ(x|z) p(z), trained with an encoder q_φ(z|x).

    generate    z ~ p(z),  x ~ p_θ(x|z)
    infer       z ~ q_φ(z|x) = N(μ, diag σ²),  (μ, log σ) = E_φ(x),  z = μ + σ ⊙ ε
    train       min −E_q[log p_θ(x|z)] + β KL(q_φ(z|x) ‖ p(z))                          thesis (2.12), there β = 1

Encoder, decoder, prior and likelihood are objects; any prior with `log_prob` and `sample` will do.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gmcourse.model import check_count, evaluating
from gmcourse.vae.base import LatentVariableModel
from gmcourse.vae.bounds import Drawn


class VAE(LatentVariableModel):
    """Variational auto-encoder.

    Args:
        event_shape: shape of one datum.
        encoder: module x -> q(z|x), a distribution with batch shape (n,) and reparameterised samples.
        decoder: module z -> what the likelihood wants, `likelihood.outputs(event_shape)`.
        prior: model of z with `log_prob(z)` and `sample(n)`; with `noise` and `push` too, the VAE is a transport.
        likelihood: `Gaussian(…)` or `Bernoulli()`.
        beta: weight of the KL term in the loss, or a function of the training step, e.g. `linear_beta(1000)`.
        kl: "analytic" or "monte_carlo", see `elbo`.
        show_mean: samples are E[x|z] unless they are asked for otherwise, as papers show them.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        prior: nn.Module,
        likelihood: nn.Module,
        beta: float | Callable[[Tensor], Tensor] = 1.0,
        kl: str = "analytic",
        show_mean: bool = False,
    ):
        super().__init__(event_shape, likelihood, beta, kl)
        self.encoder, self.decoder, self.prior, self.show_mean = encoder, decoder, prior, show_mean

    def infer(self, x: Tensor) -> tuple[list[Drawn], Tensor]:
        """Draw z ~ q(z|x): the one latent group (z, q(z|x), prior), and the decoder's output."""
        q = self.encoder(x)
        z = q.rsample()
        return [Drawn(z, q, self.prior)], self.decoder(z)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, mean: bool | None = None) -> Tensor:
        """Draw x ~ p(x), shape (n, *event_shape); with `mean` show E[x|z] instead, `show_mean` unless it is given."""
        with evaluating(self):
            out = self.decoder(self.prior.sample(check_count(n), generator=generator))
        mean = self.show_mean if mean is None else mean
        return self.likelihood_of_x.mean(out) if mean else self.likelihood_of_x.sample(out, generator=generator)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """E[x|z] at the posterior mean z = μ(x), shape of x."""
        with evaluating(self):
            return self.likelihood_of_x.mean(self.decoder(self.encoder(self.check_batch(x)).mean))

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of ε_z and ε_x in the flat noise vector."""
        if not hasattr(self.prior, "push"):
            raise NotImplementedError(f"prior {type(self.prior).__name__} has no push, so this VAE is not a transport")
        return {"z": self.prior.event_shape.numel(), "x": self.likelihood_of_x.noise_size(self.event_shape)}

    def push(self, eps: Tensor) -> Tensor:
        """Carry noise (n, d_z + d_x) to data, differentiably: z = prior.push(ε_z), x = mean + σ ε_x."""
        eps_z, eps_x = eps.split(list(self.noise_blocks.values()), dim=1)
        return self.likelihood_of_x.push(self.decoder(self.prior.push(eps_z)), eps_x)
