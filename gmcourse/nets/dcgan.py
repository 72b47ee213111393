r"""A generator and a critic of images: convolutions of stride 2, up in the one and down in the other (Radford et al. 2016).

    generator   ε -> linear -> (2^{L−1}·width, h/2^L, w/2^L) -> 4×4 transposed convolutions, ×2 each -> tanh -> x
    critic      x -> 4×4 convolutions, ÷2 each -> features φ(x) -> v·φ(x), a logit

Radford et al. normalise the batch in both. Here neither does. Penalties on the critic's slope take each logit to depend on
its own row only; and the running statistics of batch normalisation are no parameters, so those that go with the generator's
moving average, which is what samples come from, are never taken. GroupNorm asks for no statistics but those of the row.

With labels y, as rows of an identity: the generator sees (ε, y), and the critic's logit becomes

    v·φ(x) + yᵀV φ(x)                                                                         Miyato & Koyama 2018, eq. (4)

one v for each class, on features that all classes share.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gmcourse.nets.conv import pyramid
from gmcourse.nets.denoiser import check_context
from gmcourse.nets.minibatch import MinibatchStd

SLOPE = 0.2  # of leaky ReLUs below 0


def group_norm(channels: int) -> nn.Module:
    """GroupNorm in at most 8 groups."""
    return nn.GroupNorm(max(g for g in (8, 4, 2, 1) if channels % g == 0), channels)


class DCGenerator(nn.Module):
    """ε (n, latent) -> images (n, c, h, w) in [−1, 1].

    Args:
        latent: length of ε.
        image: shape (c, h, w), h and w divisible by 2**levels.
        width: channels at half the size of the image; twice as many at each level below.
        levels: how often the size is doubled.
        norm: channels -> layer; `torch.nn.BatchNorm2d` is Radford et al.'s, `torch.nn.Identity` none.
        context: number of classes.

    >>> DCGenerator(16, (1, 28, 28))(torch.zeros(5, 16)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self,
        latent: int,
        image: Sequence[int],
        *,
        width: int = 32,
        levels: int = 2,
        norm: Callable[[int], nn.Module] = group_norm,
        context: int = 0,
    ):
        super().__init__()
        self.latent, self.context = latent, context
        channels, foot = pyramid(image, width, levels)
        first = channels[-1]
        layers = [nn.Linear(latent + context, first * foot[0] * foot[1]), nn.Unflatten(1, (first, *foot))]
        for before, after in zip(channels[::-1], [*channels[-2::-1], image[0]], strict=True):
            layers += [norm(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers, nn.Tanh())

    def forward(self, eps: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, latent), and (n, classes) if there are any -> (n, c, h, w); ValueError for other shapes."""
        if eps.ndim != 2 or eps.shape[1] != self.latent:
            raise ValueError(f"eps must have shape (n, {self.latent}); got {tuple(eps.shape)}")
        return self.layers(torch.cat([eps, *check_context(context, eps, self.context)], 1))


class DCCritic(nn.Module):
    """Images (n, c, h, w) -> logits (n,), without batch normalisation.

    Args:
        image: shape (c, h, w), h and w divisible by 2**levels.
        width: channels at half the size of the image; twice as many at each level below.
        levels: how often the size is halved.
        minibatch_std: show the last features how much the batch varies (`MinibatchStd`), with a 3×3 convolution to use it.
        context: number of classes.

    >>> DCCritic((1, 28, 28))(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5])
    """

    def __init__(
        self, image: Sequence[int], *, width: int = 32, levels: int = 2, minibatch_std: bool = False, context: int = 0
    ):
        super().__init__()
        self.image, self.context = torch.Size(image), context
        channels, foot = pyramid(image, width, levels)
        last = channels[-1]
        layers: list[nn.Module] = []
        for before, after in zip([image[0], *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        if minibatch_std:
            layers += [MinibatchStd(), nn.Conv2d(last + 1, last, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.features = nn.Sequential(*layers, nn.Flatten())
        linear = partial(nn.Linear, last * foot[0] * foot[1])
        self.logit, self.logits_of_classes = linear(1), linear(context, bias=False) if context else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, c, h, w), and (n, classes) if there are any -> (n,); ValueError for other shapes."""
        if x.shape[1:] != self.image:
            raise ValueError(f"x must have shape ({', '.join(map(str, ('n', *self.image)))}); got {tuple(x.shape)}")
        features = self.features(x)
        logit = self.logit(features)[:, 0]
        for y in check_context(context, x, self.context):
            logit = logit + (y * self.logits_of_classes(features)).sum(1)
        return logit
