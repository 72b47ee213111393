r"""Flows for images: Glow (Kingma and Dhariwal 2018) and the RealNVP it came from (Dinh et al. 2017); thesis 2.2.2.

    Glow, at every level:     squeeze, (ActNorm, 1×1 convolution, channel coupling) × depth, split
    RealNVP, at every level:  squeeze, checkerboard coupling × depth, channel coupling × depth, split

A RealNVP can only swap which half is kept; Glow's 1×1 convolution W learns how the channels are mixed, at the price of
h w log|det W| (2.30), and Glow predicts the channels that leave at a split from those that stay. After the squeeze the
fields of one colour are two of the four channels of a 2×2 block: the net of a checkerboard coupling sees its own half only,
and no convolution works on masked zeros. Both flows begin with dequantisation and a logit, so log_prob is a lower bound on
the log-probability of an image on its grid of grey values; they end in flat noise, the coarsest level first.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

from gmcourse.flows.conditional import Conditional
from gmcourse.flows.coupling import Coupling, channels
from gmcourse.flows.dequantise import Dequantise, Logit, VariationalDequantise
from gmcourse.flows.elementwise import Affine, Transformer
from gmcourse.flows.flow import Flow
from gmcourse.flows.layer import Chain, Layer
from gmcourse.flows.linear import ActNorm, Conv1x1
from gmcourse.flows.split import Split
from gmcourse.flows.squeeze import Flatten, Squeeze, image_shape
from gmcourse.model import StandardNormal, check_count
from gmcourse.nets.pixel import PixelNet

Shape = tuple[int, int, int]


class SigmoidAffine(Transformer):
    """Glow's z = (x + t)·s with t = h[0] and s = sigmoid(h[1] + 2), which never expands; `floor` keeps s away from 0."""

    numbers = 2

    def __init__(self, floor: float = 1e-3):
        super().__init__()
        if not 0 <= floor < 1:
            raise ValueError(f"floor must lie in [0, 1); got {floor}")
        self.floor = floor

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Shift, then scale."""
        scale = self._scale(h)
        return (x + h[0]) * scale, scale.log()

    def invert(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Scale back, then shift back."""
        scale = self._scale(h)
        return z / scale - h[0], scale.log()

    def _scale(self, h: Tensor) -> Tensor:
        return self.floor + (1 - self.floor) * (h[1] + 2).sigmoid()


def glow(
    event_shape: Sequence[int] = (1, 28, 28),
    *,
    levels: int = 2,
    depth: int = 4,
    width: int = 32,
    bins: int = 256,
    margin: float = 1e-3,
    variational: bool = False,
    context: int = 0,
    transformer: Callable[[], Transformer] = SigmoidAffine,
) -> Flow:
    """Glow for images in [-1, 1] whose height and width are divisible by 2**levels.

    Args:
        levels: scales; between two of them half of the channels leave.
        depth: flow steps at each scale.
        width: channels within the nets.
        bins: grey values of the data: 256, or 17 for the 8×8 digits.
        margin: of the logit that takes pixels to the real line.
        variational: learn the dequantisation noise instead of drawing it uniformly.
        context: numbers that an image is conditioned on; 0 for none.
        transformer: makes what the couplings do to a number; `Affine` scales by an exponential, as the thesis writes it.

    >>> glow((1, 8, 8), bins=17, depth=1).sample(3).shape
    torch.Size([3, 1, 8, 8])
    """

    def steps(c: int) -> list[Layer]:
        stack: list[Layer] = []
        for _ in range(check_count(depth, "depth")):
            stack += [ActNorm(c), Conv1x1(c), _coupling(channels(c), transformer(), width, context)]
        return stack

    pixels = _pixels(image_shape(event_shape), bins, margin, variational, width)
    return _multi_scale(event_shape, pixels, steps, levels, width, context)


def image_real_nvp(
    event_shape: Sequence[int] = (1, 28, 28),
    *,
    levels: int = 2,
    depth: int = 2,
    width: int = 32,
    bins: int = 256,
    margin: float = 1e-3,
    variational: bool = False,
    context: int = 0,
) -> Flow:
    """RealNVP for images: `depth` checkerboard and `depth` channel couplings at each scale, otherwise as `glow`.

    Half the channels leave between two scales as they are, without a learned prediction.
    """

    def steps(c: int) -> list[Layer]:
        board = torch.tensor([True, False, False, True]).repeat(c // 4)
        masks = [board ^ bool(i % 2) for i in range(check_count(depth, "depth"))]
        masks += [channels(c, flip=bool(i % 2)) for i in range(depth)]
        return [_coupling(mask, Affine(), width, context) for mask in masks]

    pixels = _pixels(image_shape(event_shape), bins, margin, variational, width)
    return _multi_scale(event_shape, pixels, steps, levels, 0, context)


def _coupling(mask: Tensor, transformer: Transformer, width: int, context: int) -> Coupling:
    kept = int(mask.sum())
    net = PixelNet(kept + context, transformer.numbers * (len(mask) - kept), width=width)
    return Coupling(mask, net, transformer)


def _pixels(shape: Shape, bins: int, margin: float, variational: bool, width: int) -> list[Layer]:
    """From the grid of grey values to the real line."""
    if variational:
        net = PixelNet(shape[0], Affine.numbers * shape[0], width=width)
        noise: Layer = VariationalDequantise(shape, [Logit(), Conditional(net, Affine())], bins=bins)
    else:
        noise = Dequantise(shape, bins=bins)
    edge = bins / (bins - 1)  # half a cell beyond the last grey value
    return [noise, Logit(-edge, edge, margin=margin)]


def _multi_scale(
    event_shape: Sequence[int],
    pixels: list[Layer],
    steps: Callable[[int], list[Layer]],
    levels: int,
    split_width: int,
    context: int,
) -> Flow:
    """Pixels to the real line, then level within level: squeeze, the steps for so many channels, a split, the next level."""
    _, h, w = shape = image_shape(event_shape)
    if h % 2 ** check_count(levels, "levels") or w % 2**levels:
        wanted = f"height and width divisible by {2**levels} for levels={levels}"
        raise ValueError(f"event_shape must have {wanted}; got {h} × {w}")

    def level(shape: Shape, left: int) -> Chain:
        squeeze = Squeeze(shape)
        c, h, w = squeeze.out_shape
        if left == 1:
            return Chain(squeeze, *steps(c), Flatten((c, h, w)))
        rest = level((c // 2, h, w), left - 1)
        return Chain(squeeze, *steps(c), Split((c, h, w), rest, width=split_width, context=context))

    flow = Flow(StandardNormal(prod(shape)), [*pixels, level(shape, levels)], event_shape=shape, context=context)
    flow.data_range = (-1.0, 1.0)
    return flow
