r"""Energies of images: the thesis' convolutional net (Table 5.2) and residual net (Table 4.9).

    conv      3×3, then 4×4 convolutions that halve the size, swish after each; flatten; linear → E
    resnet    3×3; residual blocks, ↓ where they halve the size; sum over the places; linear → E

Swish (SiLU) throughout: chains follow ∇E, so that a kink in E is a jump in their drift. The residual net has weight
normalisation with data-dependent start (Salimans & Kingma 2016), w = g v/‖v‖ per output channel: the first batch in training
mode sets g and the bias so that each channel has mean 0 and variance 1 on it. VAEBM adds `spectral_regularisation` to the
loss; Du & Mordatch's energies, and the thesis' ablation, take spectral normalisation instead.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from gmcourse.nets.spectral import spectrally_normalised

TABLE_5_2 = {"mnist": (32, 64, 64, 64), "cifar10": (64, 128, 256, 512), "celeba": (32, 64, 128, 256, 512)}
TABLE_4_9 = {
    "cifar10": "128 128↓ 128 256↓ 256 256↓ 256",
    "celeba64": "64 64↓ 64 128↓ 128 128↓ 256 256↓ 256",
    "lsun64": "64 64↓ 64 128↓ 128 128↓ 256 256 256↓ 256",
    "celebahq256": "64 64↓ 64 128↓ 128 128↓ 128 256↓ 256 256↓ 256 512↓ 512",
}
NORMALISATIONS = ("weight", "spectral", None)


def conv_energy(
    image: Sequence[int], widths: str | Sequence[int] = "mnist", *, activation: type[nn.Module] = nn.SiLU
) -> nn.Sequential:
    """Convolutional energy, (n, c, h, w) -> (n,), thesis Table 5.2, which leaves out the padding; here it is 1.

    Args:
        image: shape (c, h, w); the thesis brings MNIST and Fashion-MNIST to 32 × 32.
        widths: a column of the table ("mnist", "cifar10", "celeba"), or channels of every level, of half the size each.

    >>> conv_energy((1, 8, 8), (16, 32))(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5])
    """
    channels, height, width = image
    widths = _column(TABLE_5_2, widths, "widths") if isinstance(widths, str) else widths
    height, width = _after(image, len(widths) - 1)
    layers = [nn.Conv2d(channels, widths[0], 3, padding=1), activation()]
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), activation()]
    net = nn.Sequential(*layers, nn.Flatten(1), nn.Linear(widths[-1] * height * width, 1), nn.Flatten(0))
    return net.to(memory_format=torch.channels_last)  # faster on the CPU by a quarter


def resnet_energy(
    image: Sequence[int],
    blocks: str = "cifar10",
    *,
    normalise: str | None = "weight",
    activation: type[nn.Module] = nn.SiLU,
) -> nn.Sequential:
    """Residual energy, (n, c, h, w) -> (n,), thesis Table 4.9.

    Args:
        image: shape (c, h, w).
        blocks: a column of the table ("cifar10", "celeba64", "lsun64", "celebahq256"), or widths like "32 32↓ 32 64↓ 64":
            first the plain convolution's, then one for each block.
        normalise: "weight" (with data-dependent start: call the new net once on data, or its first training batch, which
            holds negatives too, will do), "spectral" or None.

    >>> resnet_energy((1, 8, 8), "16 16↓ 32")(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5])
    """
    if normalise not in NORMALISATIONS:
        raise ValueError(f"normalise must be one of {NORMALISATIONS}; got {normalise!r}")
    first, *rest = (blocks if blocks[:1].isdigit() else _column(TABLE_4_9, blocks, "blocks")).split()
    widths, down = [int(first), *(int(b.rstrip("↓")) for b in rest)], [b.endswith("↓") for b in rest]
    _after(image, sum(down))
    conv = WeightNormConv2d if normalise == "weight" else nn.Conv2d
    block = partial(Block, conv=conv, activation=activation)
    body = [block(a, b, halve=d) for (a, b), d in zip(pairwise(widths), down, strict=True)]
    stem = [conv(image[0], widths[0], 3, padding=1), activation()]
    net = nn.Sequential(*stem, *body, SumPool(), nn.Linear(widths[-1], 1), nn.Flatten(0))
    net = net.to(memory_format=torch.channels_last)
    return spectrally_normalised(net) if normalise == "spectral" else net


class Block(nn.Module):
    """activation(x' + f(x)), f two 3×3 convolutions, halved by averaging if wanted; x' is x, or 1×1 where widths differ."""

    def __init__(self, before: int, after: int, *, halve: bool, conv: type[nn.Conv2d], activation: type[nn.Module]):
        super().__init__()
        self.body = nn.Sequential(conv(before, after, 3, padding=1), activation(), conv(after, after, 3, padding=1))
        self.skip = nn.Identity() if before == after else conv(before, after, 1)
        self.end = nn.Sequential(nn.AvgPool2d(2), activation()) if halve else activation()

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, after, h, w), or half of h and w."""
        return self.end(self.skip(x) + self.body(x))


class SumPool(nn.Module):
    """Sum over all places."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c)."""
        return x.sum((2, 3))


class WeightNormConv2d(nn.Conv2d):
    """A convolution with w = g v/‖v‖ for every output channel, whose first batch in training mode sets g and the bias.

    Whether that has happened is saved with the weights.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, padding: int = 0):
        super().__init__(inputs, outputs, kernel, padding=padding)
        self.started = False
        weight_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h', w')."""
        if self.training and not self.started:
            self._start(x)
        return super().forward(x)

    def get_extra_state(self) -> Tensor:
        """A plain flag would not be saved, and one in a buffer would make every forward wait for the device."""
        return torch.tensor(self.started)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the flag back from a state dict."""
        self.started = bool(state)

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        places = super().forward(x).transpose(0, 1).flatten(1)
        mean, deviation = places.mean(1), places.std(1, correction=0)
        scale = torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 1)
        self.parametrizations.weight.original0.mul_(scale.reshape(-1, 1, 1, 1))  # g
        self.bias.sub_(mean).mul_(scale)
        self.started = True


def _column(table: dict, name: str, argument: str):
    """A named column of a table."""
    if name not in table:
        raise ValueError(f"{argument} must be one of {', '.join(table)}, or be given in numbers; got {name!r}")
    return table[name]


def _after(image: Sequence[int], halvings: int) -> tuple[int, int]:
    """Height and width after so many halvings, rounded down."""
    height, width = (size // 2**halvings for size in image[1:])
    if not (height and width):
        raise ValueError(f"image must be at least {2**halvings} wide and high for {halvings} halvings; got {tuple(image)}")
    return height, width
