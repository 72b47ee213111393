r"""A U-Net of an image and a time, as score models use it, in small (after NCSN++, Song et al. 2021).

Down the image's sizes and up again, every map on the way up beside the one of its size from the way down, so that detail
need not pass the bottom. The parts are residual blocks, (x + f(x))/√2, with attention between all places at chosen sizes.
What is the same for the whole image, the time t and perhaps a vector ζ (a label, a latent), enters each block where it is
normalised:

    h ↦ (1 + ζ_s) ∘ [(1 + t_s) ∘ GN(h) + t_b] + ζ_b          D&C 4, which has no ζ_b; thesis (6.13), where t_s = t_b = 0

with t_s, t_b linear in an embedding of t, and ζ_s, ζ_b in ζ. The last layer of every block starts at zero, and the last of
the net: its first output is 0.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmcourse.nets.denoiser import check_context
from gmcourse.nets.embedding import SinusoidalTime, times_for
from gmcourse.nets.resnet import zeroed


class UNet(nn.Module):
    """x (n, c, h, w), t (n,) -> (n, outputs, h, w).

    Args:
        image: shape (c, h, w), h and w divisible by `patch` and by 2 once for every level but the first.
        outputs: channels of the output; those of the image unless given.
        width: channels of the first level, divisible by 4.
        multipliers: channels of each level, as multiples of `width`; the size is halved from one to the next.
        blocks: residual blocks of each level on the way down; one more on the way up.
        attention: levels with attention, counted from 0, the full size. The bottom has it always.
        context: length of ζ; 0 for none.
        time: embedding of t (n,) -> (n, time.outputs); `SinusoidalTime(128)` unless given, for times of either kind.
        dropout: within the blocks.
        patch: 2 lays each 2 × 2 pixels into channels at the door and out again at the end: a quarter of the work on the
            first level, for as many channels (Hoogeboom et al. 2023). 1 leaves the image as it is.
        pyramid: at each halving the image, halved as well and brought to as many channels, is added to what the blocks have
            made of it, (h + image)/√2, and the sum goes on as both (NCSN++'s progressive input).
        places: a learned map is added at the door, and at the bottom one that is linear in ζ, (h + map)/√2. Convolutions are
            the same everywhere and learn where they are from the border only, which is not enough to draw from pure noise.
        fir: sizes change through the filter [1, 3, 3, 1] instead of by means of four pixels and by copies: what is too
            fine for the smaller size fades instead of coming back as something else (as NCSN++ has it).

    >>> UNet((1, 28, 28))(torch.zeros(2, 1, 28, 28), torch.rand(2)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        image: Sequence[int],
        *,
        outputs: int | None = None,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 1,
        attention: Sequence[int] = (1,),
        context: int = 0,
        time: nn.Module | None = None,
        dropout: float = 0.0,
        patch: int = 1,
        fir: bool = False,
        pyramid: bool = False,
        places: bool = False,
    ):
        super().__init__()
        _check(image, width, multipliers, blocks, attention, patch)
        self.image, self.context, self.patch, self.fir = tuple(image), context, patch, fir
        time = time or SinusoidalTime(128)
        vector = 4 * width
        self.time = nn.Sequential(time, nn.Linear(time.outputs, vector), nn.SiLU(), nn.Linear(vector, vector), nn.SiLU())

        def block(before, after, resize="", attend=False):
            return Block(before, after, vector, context, resize=resize, attend=attend, dropout=dropout, fir=fir)

        self.enter = nn.Conv2d(image[0] * patch**2, width, 3, padding=1)
        self.places = nn.Parameter(torch.zeros(width, *(side // patch for side in image[1:]))) if places else None
        self.pyramid = nn.ModuleList() if pyramid else None
        beside = image[0] * patch**2
        self.down, self.up, channels, kept = nn.ModuleList(), nn.ModuleList(), width, [width]
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.down.append(block(channels, multiplier * width, attend=level in attention))
                kept.append(channels := multiplier * width)
            if level < len(multipliers) - 1:
                self.down.append(block(channels, channels, "down"))
                kept.append(channels)
                if pyramid:
                    self.pyramid.append(nn.Conv2d(beside, channels, 3, padding=1))
                    beside = channels
        self.drawn = None
        if places and context:
            foot = [side // (patch * 2 ** (len(multipliers) - 1)) for side in image[1:]]
            self.drawn = nn.Sequential(nn.Linear(context, channels * math.prod(foot)), nn.Unflatten(1, (channels, *foot)))
        self.bottom = nn.ModuleList([block(channels, channels, attend=True), block(channels, channels)])
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(blocks + 1):
                self.up.append(block(channels + kept.pop(), multiplier * width, attend=level in attention))
                channels = multiplier * width
            if level > 0:
                channels = multipliers[level - 1] * width  # already here: few channels where the map is large
                self.up.append(block(multiplier * width, channels, "up"))
        outputs = image[0] if outputs is None else outputs
        last = zeroed(nn.Conv2d(channels, outputs * patch**2, 3, padding=1))
        self.leave = nn.Sequential(nn.GroupNorm(_groups(channels), channels), nn.SiLU(), last)

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """x (n, c, h, w), t (n,) or (), context (n, context) -> (n, outputs, h, w); ValueError for other shapes."""
        if x.shape[1:] != self.image:
            raise ValueError(f"x must have shape ({', '.join(map(str, ('n', *self.image)))}); got {tuple(x.shape)}")
        vectors = [self.time(times_for(t, x)), *check_context(context, x, self.context)]
        image = F.pixel_unshuffle(x, self.patch)
        h = self.enter(image)
        if self.places is not None:
            h = h + self.places
        kept, pyramid = [h], iter(self.pyramid or ())
        for block in self.down:
            h = block(h, *vectors)
            if block.resize and self.pyramid is not None:
                image = h = (h + next(pyramid)(resized(image, "down", self.fir))) * 0.5**0.5
            kept.append(h)
        if self.drawn is not None:
            h = (h + self.drawn(context)) * 0.5**0.5
        for block in self.bottom:
            h = block(h, *vectors)
        for block in self.up:
            h = block(h if block.resize else torch.cat([h, kept.pop()], 1), *vectors)
        return F.pixel_shuffle(self.leave(h), self.patch)


class Block(nn.Module):
    """(x + f(x))/√2, then attention where asked; f is adaptive GroupNorm, SiLU, convolution, twice, zero at first.

    Args:
        before, after: channels.
        vector, context: lengths of the time's embedding and of ζ.
        resize: "up" doubles the size, "down" halves it, before the first convolution; "" keeps it.
        fir: resize through [1, 3, 3, 1].
    """

    def __init__(
        self,
        before: int,
        after: int,
        vector: int,
        context: int = 0,
        *,
        resize: str = "",
        attend: bool = False,
        dropout: float = 0.0,
        fir: bool = False,
    ):
        super().__init__()
        self.resize, self.fir = resize, fir
        self.norms = nn.ModuleList([AdaptiveGroupNorm(c, vector, context) for c in (before, after)])
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.second = zeroed(nn.Conv2d(after, after, 3, padding=1))
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.attention = Attention(after) if attend else nn.Identity()

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        """x (n, before, h, w), time (n, vector), context (n, context) -> (n, after, h', w')."""
        h = self.first(resized(F.silu(self.norms[0](x, time, context)), self.resize, self.fir))
        h = self.second(self.dropout(F.silu(self.norms[1](h, time, context))))
        return self.attention((self.skip(resized(x, self.resize, self.fir)) + h) * 0.5**0.5)


class AdaptiveGroupNorm(nn.Module):
    """(1 + ζ_s) ∘ [(1 + t_s) ∘ GN(h) + t_b] + ζ_b; without ζ only what is in the brackets."""

    def __init__(self, channels: int, vector: int, context: int = 0):
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels, affine=False)
        self.of_time = nn.Linear(vector, 2 * channels)
        self.of_context = nn.Linear(context, 2 * channels) if context else None

    def forward(self, h: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        """h (n, channels, h, w), time (n, vector), context (n, context) -> like h."""
        scale, shift = self.of_time(time)[:, :, None, None].chunk(2, 1)
        if self.of_context is not None:
            s, b = self.of_context(context)[:, :, None, None].chunk(2, 1)
            scale, shift = scale + s + scale * s, shift * (1 + s) + b  # one pass over the map, not two
        return torch.addcmul(shift, 1 + scale, self.norm(h))


class Attention(nn.Module):
    """(x + a(x))/√2, where a lets every place look at every other: softmax(qᵀk/√c) v, one head; zero at first."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.look = nn.Conv2d(channels, 3 * channels, 1)
        self.leave = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        q, k, v = self.look(self.norm(x)).flatten(2).mT.chunk(3, 2)
        found = F.scaled_dot_product_attention(q, k, v)
        return (x + self.leave(found.mT.unflatten(2, x.shape[2:]))) * 0.5**0.5


def resized(x: Tensor, resize: str, fir: bool = False) -> Tensor:
    """x (n, c, h, w) at twice the size ("up"), at half of it ("down"), or as it is ("").

    With `fir` both go through [1, 3, 3, 1] in either direction, which is what bilinear interpolation does at these factors,
    with antialiasing on the way down; at the border the weights of pixels that are not there go to those that are.
    """
    if not resize:
        return x
    if fir:
        down = resize == "down"
        return F.interpolate(x, scale_factor=0.5 if down else 2.0, mode="bilinear", antialias=down)
    return F.interpolate(x, scale_factor=2) if resize == "up" else F.avg_pool2d(x, 2)


def _groups(channels: int) -> int:
    """How many groups to normalise: at least four channels in each, at most 32."""
    return max(g for g in (32, 16, 8, 4, 2, 1) if channels % (4 * g) == 0)


def _check(
    image: Sequence[int], width: int, multipliers: Sequence[int], blocks: int, attention: Sequence[int], patch: int
) -> None:
    levels = len(multipliers)
    if levels == 0 or min(multipliers) < 1:
        raise ValueError(f"multipliers must be positive, one for each level; got {tuple(multipliers)}")
    if width < 4 or width % 4:
        raise ValueError(f"width must be divisible by 4; got {width}")
    if blocks < 1:
        raise ValueError(f"blocks must be at least 1; got {blocks}")
    if not set(attention) <= set(range(levels)):
        raise ValueError(f"attention must name levels 0 … {levels - 1}; got {tuple(attention)}")
    if patch < 1:
        raise ValueError(f"patch must be at least 1; got {patch}")
    whole = patch * 2 ** (levels - 1)
    if len(image) != 3 or any(side % whole for side in image[1:]):
        wanted = f"(c, h, w), h and w divisible by {whole} for {levels} levels and patch = {patch}"
        raise ValueError(f"image must be {wanted}; got {tuple(image)}")
