"""Small convolutional nets that halve or double the size of an image at every level."""

from collections.abc import Sequence

from torch import Tensor, nn


class ConvEncoder(nn.Module):
    """Image -> vector: 3×3 convolutions that halve the size at each level while the width doubles, then a linear layer.

    Args:
        image: shape (c, h, w), h and w divisible by 2**levels.
        outputs: length of the vector.
        width: channels of the first level.
        levels: how often the size is halved.
    """

    def __init__(self, image: Sequence[int], outputs: int, *, width: int = 32, levels: int = 2):
        super().__init__()
        channels, size = pyramid(image, width, levels)
        layers: list[nn.Module] = []
        for before, after in zip([image[0], *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * size[0] * size[1], outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, outputs)."""
        return self.layers(x)


class ConvDecoder(nn.Module):
    """Vector -> image, the mirror of ConvEncoder: a linear layer, then 3×3 convolutions and doublings of the size.

    The last doubling is a PixelShuffle: four values per place become a 2×2 block, so no convolution runs at full size.

    Args:
        inputs: length of the vector.
        image: shape (c, h, w), h and w divisible by 2**levels.
        width: channels of the last level.
        levels: how often the size is doubled.
    """

    def __init__(self, inputs: int, image: Sequence[int], *, width: int = 32, levels: int = 2):
        super().__init__()
        channels, size = pyramid(image, width, levels)
        layers: list[nn.Module] = [nn.Linear(inputs, channels[-1] * size[0] * size[1]), nn.SiLU()]
        layers += [nn.Unflatten(1, (channels[-1], *size))]
        for before, after in zip(channels[::-1], channels[-2::-1], strict=False):
            layers += [nn.Conv2d(before, before, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2)]
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.SiLU()]
        layers += [nn.Conv2d(channels[0], channels[0], 3, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers, *unfold(channels[0], image[0]))

    def forward(self, z: Tensor) -> Tensor:
        """(n, inputs) -> (n, c, h, w)."""
        return self.layers(z)


def unfold(channels: int, outputs: int) -> list[nn.Module]:
    """Feature map -> image of twice its size: a 3×3 convolution to four values per place, laid out as 2×2 blocks."""
    return [nn.Conv2d(channels, 4 * outputs, 3, padding=1), nn.PixelShuffle(2)]


def pyramid(image: Sequence[int], width: int, levels: int) -> tuple[list[int], tuple[int, int]]:
    """Channels of every level and the size at the top of the pyramid."""
    _, h, w = image
    if levels < 1:
        raise ValueError(f"levels must be at least 1; got {levels}")
    if h % 2**levels or w % 2**levels:
        raise ValueError(f"image height and width must be divisible by {2**levels} for levels={levels}; got {h} × {w}")
    return [width * 2**k for k in range(levels)], (h // 2**levels, w // 2**levels)
