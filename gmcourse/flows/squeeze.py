r"""Reshaping layers of image flows: volume-preserving, so they contribute 0.

Squeeze trades resolution for channels: every 2×2 block of pixels becomes four channels of one pixel,

    (c, h, w)  →  (4c, h/2, w/2)

so that masks and 1×1 convolutions over channels can mix neighbouring pixels. Flatten lays an image out as one vector, the
shape of the noise.
"""

from collections.abc import Sequence
from math import prod

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from gmcourse.flows.layer import Layer


class Squeeze(Layer):
    """(n, c, h, w) -> (n, 4c, h/2, w/2): a block's pixels become neighbouring channels.

    Args:
        shape: (c, h, w) of one image, h and w even.
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        c, h, w = image_shape(shape)
        if h % 2 or w % 2:
            raise ValueError(f"shape must have even height and width to be squeezed; got {h} × {w}")
        self.out_shape = (4 * c, h // 2, w // 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) -> (n, 4c, h/2, w/2), contribution 0."""
        return pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, 4c, h/2, w/2) -> (n, c, h, w)."""
        return pixel_shuffle(z, 2), z.new_zeros(len(z))


class Flatten(Layer):
    """(n, *shape) -> (n, d) with d the number of values; the shape () of single numbers has d = 1."""

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(shape)
        self.out_shape = (prod(self.shape),)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, *shape) -> (n, d), contribution 0."""
        return x.reshape(len(x), *self.out_shape), x.new_zeros(len(x))

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, d) -> (n, *shape)."""
        return z.reshape(len(z), *self.shape), z.new_zeros(len(z))


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return shape as (c, h, w), or raise ValueError."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be that of an image, (channels, height, width); got {tuple(shape)}")
    return tuple(int(size) for size in shape)
