r"""A discriminator of pairs of images and a time: is x_{t−1} a plausible denoised x_t? (thesis 6.3.2, Table 6.7)

    (x_{t−1}, x_t) side by side as channels -> 1×1 convolution -> residual blocks, halving -> how much the batch varies,
    3×3 convolution -> sum over all places -> linear -> logit

    block   (h + skip)/√2,   h = conv(↓ lrelu(conv(lrelu(x)) + τ(t))),   skip = conv 1×1 (↓x)

with leaky ReLUs of slope 0.2, τ linear in an embedding of t, and ↓ the filter [1, 3, 3, 1]. The last convolution is not in
the table: without it the batch's spread would only shift the logit (Karras et al. 2020 have it as well).

No layer normalises the batch, so that the gradient of the sum of all logits has in row i the gradient of logit i, which R1
needs. The one feature that tells of the batch (`MinibatchStd`) adds to it how x_i moves the other logits of its group.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmcourse.nets.embedding import SinusoidalTime, times_for
from gmcourse.nets.minibatch import MinibatchStd
from gmcourse.nets.unet import resized

SLOPE = 0.2  # of leaky ReLUs below 0


class TimeCritic(nn.Module):
    """x_{t−1}, x_t (n, c, h, w), t (n,) -> logits (n,).

    Args:
        image: shape (c, h, w), h and w divisible by 2 once for every block that halves.
        channels: after the first convolution, then after each block.
        down: whether each block halves the size; all but the last unless given.
        time: embedding of t (n,) -> (n, time.outputs); `SinusoidalTime(64)` unless given.
        minibatch_std: whether the features of the last block are shown how much the batch varies.
        minibatch_group: it is shown of each so many rows in turn, whose number must divide the batch; of the whole batch
            unless given.
        fir: halve through [1, 3, 3, 1]; by means of four pixels otherwise.

    >>> TimeCritic((1, 28, 28))(torch.zeros(2, 1, 28, 28), torch.zeros(2, 1, 28, 28), torch.tensor(0)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        image: Sequence[int],
        channels: Sequence[int] = (16, 32, 64, 64),
        *,
        down: Sequence[bool] | None = None,
        time: nn.Module | None = None,
        minibatch_std: bool = True,
        minibatch_group: int | None = None,
        fir: bool = True,
    ):
        super().__init__()
        blocks = len(channels) - 1
        down = [True] * (blocks - 1) + [False] if down is None else list(down)
        if blocks < 1 or len(down) != blocks:
            raise ValueError(f"down must say of each of {blocks} blocks, at least one, whether it halves; got {len(down)}")
        whole = 2 ** sum(down)
        if len(image) != 3 or any(side % whole for side in image[1:]):
            raise ValueError(f"image must be (c, h, w), h and w divisible by {whole}; got {tuple(image)}")
        self.image, time = tuple(image), time or SinusoidalTime(64)
        vector = 4 * channels[0]
        parts = [nn.Linear(time.outputs, vector), nn.LeakyReLU(SLOPE), nn.Linear(vector, vector), nn.LeakyReLU(SLOPE)]
        self.time = nn.Sequential(time, *parts)
        self.enter = nn.Conv2d(2 * image[0], channels[0], 1)
        sizes = zip(pairwise(channels), down, strict=True)
        self.blocks = nn.ModuleList([PairBlock(*pair, vector, down=halves, fir=fir) for pair, halves in sizes])
        last = channels[-1]
        spread = (MinibatchStd(minibatch_group), nn.Conv2d(last + 1, last, 3, padding=1)) if minibatch_std else ()
        self.spread = nn.Sequential(*spread)
        self.logit = nn.Linear(last, 1)

    def forward(self, before: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """ValueError for images of another size."""
        for name, image in (("before", before), ("x", x)):
            if image.shape[1:] != self.image:
                wanted = ", ".join(map(str, ("n", *self.image)))
                raise ValueError(f"{name} must have shape ({wanted}); got {tuple(image.shape)}")
        time = self.time(times_for(t, x))
        h = self.enter(torch.cat([before, x], 1))
        for block in self.blocks:
            h = block(h, time)
        h = F.leaky_relu(self.spread(F.leaky_relu(h, SLOPE)), SLOPE)
        return self.logit(h.sum((2, 3)))[:, 0]


class PairBlock(nn.Module):
    """(h + skip)/√2 of feature maps and a vector of time, at half the size if `down`."""

    def __init__(self, before: int, after: int, vector: int, *, down: bool, fir: bool = True):
        super().__init__()
        self.resize, self.fir = "down" if down else "", fir
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.of_time, self.skip = nn.Linear(vector, after), nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (n, before, h, w), time (n, vector) -> (n, after, h', w')."""
        h = self.first(F.leaky_relu(x, SLOPE)) + self.of_time(time)[:, :, None, None]
        h = self.second(resized(F.leaky_relu(h, SLOPE), self.resize, self.fir))
        return (h + self.skip(resized(x, self.resize, self.fir))) * 0.5**0.5
