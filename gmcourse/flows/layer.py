r"""One layer of a flow: a map x → z, and what it contributes to the log-density.

    log p_X(x) = log p_Z(z) + contribution(x)                                         thesis (2.20), one factor of (2.27)

For a bijection the contribution is log|det ∂z/∂x|. Otherwise it is SurVAE's V(x, z). If z is drawn given x (dequantisation;
a generative surjection), the right side is random and, in the mean over z, a lower bound. If x → z is a function that
forgets something (an inference surjection; there is none here), the equation still holds exactly.

Data → noise is `forward`, noise → data is `inverse`. The contribution always belongs to `forward`: `invert` returns
log|det ∂z/∂x| at the x that it found, not the determinant of its own map, and a stochastic layer V(x, z) of the pair. The
mean of that over z given x as the model has it, not as `forward` draws it, makes an upper bound: see
`Flow.sample_and_log_prob`.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Layer(nn.Module, ABC):
    """Base of all layers. `context` (n, c) is what the flow is conditioned on; layers without nets ignore it."""

    bijective = True

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (n, *shape) -> z (n, *shape) and the contribution (n,) in nats."""

    @abstractmethod
    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z (n, *shape) -> x (n, *shape) and the contribution (n,) that `forward` has there."""

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """z (n, *shape) -> x (n, *shape)."""
        return self.invert(z, context)[0]


class Chain(Layer):
    """Layers one after the other, itself a layer: contributions add up, thesis (2.27)."""

    def __init__(self, *layers: Layer):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    @property
    def bijective(self) -> bool:
        """Whether all layers are."""
        return all(layer.bijective for layer in self.layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Through all layers, the first one first: T⁻¹ of thesis (2.26)."""
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, contribution = layer(x, context)
            total = total + contribution
        return x, total

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Back through all layers, the last one first: T."""
        total = z.new_zeros(len(z))
        for layer in reversed(self.layers):
            z, contribution = layer.invert(z, context)
            total = total + contribution
        return z, total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """As `invert`, without contributions where a layer can do without."""
        for layer in reversed(self.layers):
            z = layer.inverse(z, context)
        return z


def beside(x: Tensor, context: Tensor | None) -> Tensor:
    """What a net is asked: x (n, d, ...) with the context (n, c), if any, as further features, the same at every place."""
    if context is None:
        return x
    places = x.shape[2:]
    return torch.cat((x, context.reshape(*context.shape, *[1] * len(places)).expand(-1, -1, *places)), 1)
