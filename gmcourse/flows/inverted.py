r"""A layer the other way round: its cheap direction becomes the expensive one.

    forward = layer.invert,  invert = layer.forward,  and the contribution changes its sign

Maximum likelihood evaluates the density of given data, data → noise. Variational inference and the reverse KL draw x and ask
for its density, noise → data. A layer that is cheap one way only serves the one or, inverted, the other.
"""

from torch import Tensor

from gmcourse.flows.layer import Layer


class Inverted(Layer):
    """`layer` with its directions exchanged. It must be a bijection."""

    def __init__(self, layer: Layer):
        super().__init__()
        if not layer.bijective:
            raise ValueError(f"layer must be a bijection to be inverted; got {type(layer).__name__}")
        self.layer = layer

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The layer's `invert`."""
        z, contribution = self.layer.invert(x, context)
        return z, -contribution

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The layer's `forward`."""
        x, contribution = self.layer(z, context)
        return x, -contribution
