r"""What all VAEs share: latent groups drawn from a posterior, a decoder's output, and the bound that trains them.

    −L(x) = −E_q[log p_θ(x|z)] + β KL(q_φ(z|x) ‖ p(z))                                  thesis (2.12), there β = 1

How z is drawn (`infer`), and what noise it takes to go the other way (`noise_blocks`), is each model's own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gmcourse.model import GenerativeModel, Likelihood, StandardNormal
from gmcourse.vae.bounds import Drawn, elbo, iwae_bound

NUMBERS = 4_000_000  # of decoded images that are held at once


class LatentVariableModel(GenerativeModel, ABC):
    """Base of the VAEs.

    Args:
        event_shape: shape of one datum.
        likelihood: `Gaussian(…)` or `Bernoulli()`, kept as `likelihood_of_x`.
        beta: weight of the KL term in the loss, or a function of the training step, e.g. `linear_beta(1000)`.
        kl: "analytic" or "monte_carlo", see `elbo`.
    """

    likelihood = Likelihood.LOWER_BOUND

    def __init__(
        self,
        event_shape: Sequence[int],
        likelihood: nn.Module,
        beta: float | Callable[[Tensor], Tensor] = 1.0,
        kl: str = "analytic",
    ):
        super().__init__(event_shape)
        self.likelihood_of_x, self.beta, self.kl = likelihood, beta, kl
        self.data_range = likelihood.data_range
        self.register_buffer("step", torch.zeros((), dtype=torch.long))  # training steps seen, for a β that depends on it

    @abstractmethod
    def infer(self, x: Tensor) -> tuple[list[Drawn], Tensor]:
        """Draw z ~ q(z|x): the latent groups, each with posterior and prior, and the decoder's output."""

    @property
    @abstractmethod
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the named parts of the flat noise vector: the latents' first, ε_x last."""

    def loss(self, x: Tensor) -> Tensor:
        """−L(x) with the KL term weighted by β, shape (n,), in nats: thesis (2.12)."""
        terms = elbo(self, x, kl=self.kl)
        beta = self.beta(self.step) if callable(self.beta) else self.beta
        if self.training:
            self.step += 1
        return beta * terms.kl - terms.reconstruction

    def log_prob(self, x: Tensor, *, k: int = 128) -> Tensor:
        """A lower bound on log p(x) in nats, shape (n,): the importance-weighted bound with k samples. No gradient."""
        chunk = max(1, min(100_000, NUMBERS // self.event_shape.numel()))
        with torch.no_grad():
            return iwae_bound(self, self.check_data(x, "x"), k, chunk=chunk)

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw flat noise ε ~ N(0, I) for `push`, shape (n, sum of the `noise_blocks`)."""
        like = next(self.parameters())
        return StandardNormal(sum(self.noise_blocks.values())).to(like).sample(n, generator=generator)
