r"""Transformers: increasing maps of one number, z = τ(x; h), the τ of coupling and autoregressive flows (slides, eq. (11)).

    log|det ∂z/∂x| = Σ_i log τ′(x_i; h_i)                                             slides, eq. (13); thesis (2.29)

A transformer has no memory of its own: what it does to a number x_i is decided by k numbers h_i, and who computes those
makes the flow: a net that sees the other half (coupling), a net that sees x_1 … x_{i−1} (autoregressive), or nobody.
Two transformers come here, the simplest ones:

    additive  z = x + t,    τ′ = 1 (NICE)             affine  z = x·eˢ + t,    τ′ = eˢ (RealNVP, MAF; thesis 2.2.2)

All transformers are made such that h = 0 is the identity, or near it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.flows.layer import Layer


class Transformer(nn.Module, ABC):
    """Base of all transformers; `numbers` is k, how many numbers h steer one x. They come first: h is (k, *x.shape)."""

    numbers: int

    @abstractmethod
    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x (*shape), h (k, *shape) -> z (*shape) and log τ′(x) (*shape)."""

    @abstractmethod
    def invert(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z (*shape), h (k, *shape) -> x (*shape) and log τ′ (*shape) at that x."""


class Additive(Transformer):
    """z = x + t."""

    numbers = 1

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Shift by t = h[0]."""
        return x + h[0], torch.zeros_like(x)

    def invert(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back."""
        return z - h[0], torch.zeros_like(z)


class Affine(Transformer):
    """z = x·eˢ + t with t = h[0] and s = bound·tanh(h[1]/bound).

    Args:
        bound: |s| stays below it, so that no scale explodes.
    """

    numbers = 2

    def __init__(self, bound: float = 5.0):
        super().__init__()
        if not bound > 0:
            raise ValueError(f"bound must be positive; got {bound}")
        self.bound = bound

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, then shift."""
        shift, log_scale = self._unpacked(h)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale

    def invert(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back, then scale back."""
        shift, log_scale = self._unpacked(h)
        return (z - shift) / log_scale.exp(), log_scale

    def _unpacked(self, h: Tensor) -> tuple[Tensor, Tensor]:
        shift, a = h.unbind()
        return shift, self.bound * torch.tanh(a / self.bound)


class Elementwise(Layer):
    """A transformer without a conditioner: the same map for every datum, one for each coordinate, with learned h.

    Args:
        event_shape: shape of one datum.
        transformer: applied to every coordinate.

    >>> z, contribution = Elementwise((2,), Affine())(torch.ones(5, 2))
    >>> contribution.shape
    torch.Size([5])
    """

    def __init__(self, event_shape: Sequence[int], transformer: Transformer):
        super().__init__()
        self.transformer = transformer
        self.h = nn.Parameter(torch.zeros(transformer.numbers, *event_shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, *event_shape) -> (n, *event_shape) and Σ_i log τ′."""
        z, log_slope = self.transformer(x, self._expanded(x))
        return z, log_slope.reshape(len(x), x.shape[1:].numel()).sum(1)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, *event_shape) -> (n, *event_shape) and Σ_i log τ′."""
        x, log_slope = self.transformer.invert(z, self._expanded(z))
        return x, log_slope.reshape(len(z), z.shape[1:].numel()).sum(1)

    def _expanded(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.h.shape[1:]:
            raise ValueError(f"x must have shape (n, *{tuple(self.h.shape[1:])}); got {tuple(x.shape)}")
        return self.h.unsqueeze(1).expand(-1, *x.shape)
