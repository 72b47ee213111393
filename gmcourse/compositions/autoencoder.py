r"""Deterministic auto-encoders that generate: an encoder, a decoder, and a law of the codes to draw from (thesis 3.1, 3.2).

    z = E_φ(x),   x̂ = G_θ(z)                     train       min β L_recon(x, G(E(x))) + a term on the codes
    z ~ p(z),     x = G_θ(z)                     generate    good only where p(z) is like q(z), the law of E(x)

Two things make the samples good: (a) the decoder reconstructs, (b) q(z) and p(z) agree. What the term on the codes does for
(b) is all that the auto-encoders of this chapter differ in: it pulls q to a fixed p (`AdversarialAutoencoder`,
`WassersteinAutoencoder`), it trains p on q (`GenerativeLatentFlow`), or it only keeps the codes small
(`RegularisedAutoencoder`) until p is fitted to them, afterwards.

x̂ is a point, q(z|x) too: there is no density of x. `L_recon` is −log N(x; x̂, σ²I) without its constant, ‖x − x̂‖²/2σ².
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.metrics.density import home
from gmcourse.model import GenerativeModel, Likelihood, check_count, check_positive, evaluating
from gmcourse.vae.posterior import at_least_single


class SquaredError(nn.Module):
    """‖x − x̂‖²/2σ² in nats, (n,): −log N(x; x̂, σ²I) but for a constant. σ is in the units of x.

    >>> SquaredError(sigma=2.0)(torch.ones(1, 3), torch.zeros(1, 3))
    tensor([0.3750])
    """

    def __init__(self, sigma: float = 1.0):
        super().__init__()
        self.sigma = check_positive(sigma, "sigma")

    def forward(self, x: Tensor, found: Tensor) -> Tensor:
        """x and its reconstruction, both (n, *event_shape) -> (n,)."""
        return (x - found).flatten(1).square().sum(1) / (2 * self.sigma**2)


class Autoencoder(GenerativeModel, ABC):
    """Base of the deterministic ones: loss = β · distortion + `latent_term`.

    Args:
        event_shape: shape of one datum.
        encoder: x (n, *event_shape) -> z (n, d).
        decoder: z (n, d) -> x̂ (n, *event_shape).
        prior: model of z with `sample`; with `noise` and `push` the auto-encoder is a transport.
        beta: weight of the distortion, thesis (3.5).
        distortion: (x, x̂) -> (n,); `SquaredError()` unless given.

    Raises ValueError for β ≤ 0 and for an encoder, a prior and a decoder that don't fit one another.
    """

    likelihood = Likelihood.NONE

    def __init__(
        self,
        event_shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        prior: GenerativeModel,
        *,
        beta: float = 1.0,
        distortion: nn.Module | None = None,
    ):
        super().__init__(event_shape)
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.beta = check_positive(beta, "beta")
        self.distortion = SquaredError() if distortion is None else distortion
        check_decoder(event_shape, decoder, check_latent(event_shape, encoder, prior))

    @abstractmethod
    def latent_term(self, z: Tensor) -> Tensor:
        """What is asked of the codes z (n, d) of a batch, (n,) or a scalar."""

    def loss(self, x: Tensor) -> Tensor:
        """β L_recon(x, G(E(x))) + the term on the codes, (n,), in nats."""
        z = at_least_single(self.encoder(self.check_batch(x)))
        return self.beta * self.distortion(x, self.decoder(z)) + self.latent_term(z)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """z = E(x), (n, *event_shape) -> (n, d), in evaluation mode, without a graph."""
        with evaluating(self):
            return at_least_single(self.encoder(self.check_batch(x)))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """G(z), (n, d) -> (n, *event_shape), in evaluation mode, without a graph."""
        with evaluating(self):
            return self.decoder(self.prior.check_batch(z, "z"))

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(E(x)), shape of x."""
        return self.decode(self.encode(x))

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """G(z) at z ~ p(z), (n, *event_shape)."""
        return self.decode(self.prior.sample(check_count(n), generator=generator))

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the named parts of the flat noise vector: the prior's."""
        if not hasattr(self.prior, "push"):
            kind = type(self.prior).__name__
            raise NotImplementedError(f"prior {kind} has no push, so this auto-encoder is not a transport")
        return self.prior.noise_blocks

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw flat noise ε ~ N(0, I) for `push`."""
        return self.prior.noise(n, generator=generator)

    def push(self, eps: Tensor) -> Tensor:
        """Carry noise to data, differentiably: G(prior.push(ε)); call in evaluation mode."""
        return self.decoder(self.prior.push(eps))


def check_latent(event_shape: Sequence[int], encoder: nn.Module, prior: GenerativeModel) -> int:
    """The dimension d of the codes, or of the draws of q(z|x); ValueError if the prior's is another."""
    with torch.no_grad(), evaluating(encoder):
        found = encoder(_zeros(encoder, *event_shape))
    shape = tuple(found.shape[1:] if isinstance(found, Tensor) else found.event_shape)
    if len(shape) != 1 or shape != tuple(prior.event_shape):
        wanted = f"the prior of z must be of the encoder's dimension, {shape}"
        raise ValueError(f"{wanted}; got a {type(prior).__name__} on {tuple(prior.event_shape)}")
    return shape[0]


def check_decoder(event_shape: Sequence[int], decoder: nn.Module, d: int) -> None:
    """Raise ValueError unless the decoder makes (n, *event_shape) of (n, d)."""
    with torch.no_grad(), evaluating(decoder):
        shape = tuple(decoder(_zeros(decoder, d)).shape)
    if shape != (2, *event_shape):
        wanted = ", ".join(["n", *map(str, event_shape)])
        raise ValueError(f"the decoder's x must have shape ({wanted}); got {shape} for n = 2")


def _zeros(module: nn.Module, *shape: int) -> Tensor:
    """Two rows of zeros, where and as the module computes."""
    like = home(module)
    return torch.zeros(2, *shape) if like is None else like.new_zeros(2, *shape)
