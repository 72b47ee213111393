r"""The multi-scale architecture: half the channels leave early (Dinh et al. 2017, Glow).

    x = (a, b)      e = (b − μ(a)) / σ(a)      z = (rest(a), e)

b is modelled as N(μ(a), σ²(a)) and leaves as standardised noise e, flattened; a goes on through the layers of the coarser
scales. So all of z is N(0, I), Split with everything below it is one bijection, and it contributes −Σ log σ(a) and what the
rest contributes. z begins with the coarsest scale and ends with the finest detail. Dinh et al. let b leave as it is (μ = 0,
σ = 1); to predict it from what stays is Glow's.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from gmcourse.flows.layer import Layer, beside
from gmcourse.flows.squeeze import image_shape
from gmcourse.nets.pixel import PixelNet

REACH = 4.0  # |log σ| stays below it, softly: finite for any input


class Split(Layer):
    """Half the channels leave as noise, the others go through `rest`: (n, c, h, w) -> (n, c h w).

    Args:
        shape: (c, h, w) of the image, c even.
        rest: layer from images (c/2, h, w) to vectors (c h w / 2).
        width: of the net for μ and log σ; 0 for no net, μ = 0 and σ = 1.
        context: numbers that the net is conditioned on; 0 for none.
    """

    def __init__(self, shape: Sequence[int], rest: Layer, *, width: int = 32, context: int = 0):
        super().__init__()
        c, h, w = image_shape(shape)
        if c % 2:
            raise ValueError(f"shape must have an even number of channels to be split; got {c}")
        self.half, self.rest = (c // 2, h, w), rest
        self.net = PixelNet(c // 2 + context, c, width=width) if width else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) -> (n, d): the rest's noise, then the noise that leaves here."""
        a, b = x.chunk(2, 1)
        mean, log_sigma = self._gaussian(a, context)
        z, contribution = self.rest(a, context)
        e = (b - mean) * (-log_sigma).exp()
        return torch.cat([z, e.flatten(1)], 1), contribution - log_sigma.flatten(1).sum(1)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, d) -> (n, c, h, w)."""
        size = prod(self.half)
        a, contribution = self.rest.invert(z[:, :-size], context)
        mean, log_sigma = self._gaussian(a, context)
        b = mean + z[:, -size:].unflatten(1, self.half) * log_sigma.exp()
        return torch.cat([a, b], 1), contribution - log_sigma.flatten(1).sum(1)

    def _gaussian(self, a: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """μ(a) and log σ(a)."""
        if self.net is None:
            return torch.zeros_like(a), torch.zeros_like(a)
        mean, raw = self.net(beside(a, context)).chunk(2, 1)
        return mean, REACH * (raw / REACH).tanh()
