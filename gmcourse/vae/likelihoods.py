r"""What the decoder's output means: p_θ(x|z) as an object (thesis (2.11)).

    Gaussian    N(x; G(z), σ²)   σ a fixed number, one learned number, or one per pixel read off the decoder
    Bernoulli   x ∈ [0, 1], the decoder gives logits

A likelihood maps the decoder's output to a distribution over x, and noise ε_x to x, so that a VAE is a transport of
ε = (ε_z, ε_x).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent
from torch.nn.functional import binary_cross_entropy_with_logits

from gmcourse.vae.posterior import at_least_single, normal, soft_clamp


class Gaussian(nn.Module):
    """Independent Gaussians around the decoder's output.

    Args:
        sigma: standard deviation: held fixed, or the initial value if it is learned.
        learned: None (fixed), "global" (one σ for all) or "pixel" (the decoder gives twice the channels, the second half
            being log σ of each value relative to `sigma`).
    """

    data_range = (-math.inf, math.inf)

    def __init__(self, sigma: float = 1.0, learned: str | None = None):
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma must be positive; got {sigma}")
        if learned not in (None, "global", "pixel"):
            raise ValueError(f"learned must be None, 'global' or 'pixel'; got {learned!r}")
        self.learned = learned
        log_sigma = torch.tensor(math.log(sigma))
        if learned == "global":
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def outputs(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape the decoder must give for data of this shape."""
        return (2 * event_shape[0], *event_shape[1:]) if self.learned == "pixel" else tuple(event_shape)

    def noise_size(self, event_shape: Sequence[int]) -> int:
        """Length of ε_x."""
        return math.prod(event_shape)

    def parameters_of(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x, broadcastable to its shape."""
        out = at_least_single(out)
        if self.learned == "pixel":
            mean, log_ratio = out.chunk(2, dim=1)
            return mean, (self.log_sigma + soft_clamp(log_ratio)).exp()
        return out, self.log_sigma.exp()

    def forward(self, out: Tensor) -> "Independent | IsotropicNormal":
        """p(x|z) with batch shape (n,) and a log_prob."""
        return normal(*self.parameters_of(out)) if self.learned == "pixel" else IsotropicNormal(out, self.log_sigma)

    def mean(self, out: Tensor) -> Tensor:
        """E[x|z]."""
        return self.parameters_of(out)[0]

    def push(self, out: Tensor, eps: Tensor) -> Tensor:
        """x = mean + σ ε with ε of shape (n, noise_size)."""
        mean, sigma = self.parameters_of(out)
        return mean + sigma * eps.reshape(mean.shape)

    def sample(self, out: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw x given the decoder's output."""
        mean, _ = self.parameters_of(out)
        return self.push(out, torch.randn(mean.shape, generator=generator, device=out.device, dtype=out.dtype))


class IsotropicNormal:
    """N(mean, σ²I) over everything but the batch dimension, with one σ: its constant is worked out once, not per pixel."""

    def __init__(self, mean: Tensor, log_sigma: Tensor):
        self.mean, self.log_sigma = at_least_single(mean), log_sigma

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mean, σ²I) in nats; the shape of `mean` and x broadcast, summed over the event."""
        rest, event = x - self.mean, self.mean.ndim - 1
        squares = rest.square().flatten(-event).sum(-1)
        size = math.prod(rest.shape[rest.ndim - event :])
        return -0.5 * squares * (-2 * self.log_sigma).exp() - size * (self.log_sigma + 0.5 * math.log(2 * math.pi))


class Bernoulli(nn.Module):
    """Independent Bernoulli variables with the decoder's output as logits; x in [0, 1].

    A grey value between 0 and 1 is scored by the cross entropy x log p + (1 − x) log(1 − p): the log-probability averaged
    over random binarisations of x.
    """

    data_range = (0.0, 1.0)

    def outputs(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape the decoder must give for data of this shape."""
        return tuple(event_shape)

    def noise_size(self, event_shape: Sequence[int]) -> int:
        """Length of ε_x: none, `push` gives the mean, since a coin's fall has no gradient."""
        return 0

    def forward(self, out: Tensor) -> "BernoulliImage":
        """p(x|z) with batch shape (n,)."""
        return BernoulliImage(at_least_single(out))

    def mean(self, out: Tensor) -> Tensor:
        """E[x|z], the probabilities of a 1."""
        return out.sigmoid()

    def push(self, out: Tensor, eps: Tensor) -> Tensor:
        """The mean, whatever the (empty) noise."""
        return self.mean(out)

    def sample(self, out: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw x in {0, 1} given the decoder's output."""
        return torch.bernoulli(out.sigmoid(), generator=generator)


class BernoulliImage:
    """Independent Bernoulli variables over everything but the batch dimension, for x anywhere in [0, 1]."""

    def __init__(self, logits: Tensor):
        self.logits = logits

    def log_prob(self, x: Tensor) -> Tensor:
        """Σ x log p + (1 − x) log(1 − p) in nats; the shape of `logits` and x broadcast, summed over the event."""
        logits, x = torch.broadcast_tensors(self.logits, x)
        return -binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(self._batch_dims(x)).sum(-1)

    def _batch_dims(self, x: Tensor) -> int:
        return 1 + x.ndim - self.logits.ndim
