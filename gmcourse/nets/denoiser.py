"""A small net of a point and a time: the score, or the noise, of 2-D data at every noise level."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from gmcourse.nets.embedding import FourierFeatures, SinusoidalTime, times_for
from gmcourse.nets.mlp import MLP
from gmcourse.nets.resnet import zeroed


class Denoiser(nn.Module):
    """A multilayer perceptron of x, the waves of t and a context; its last layer starts at zero, so the first output is 0.

    Args:
        event_shape: of x and of the output; a whole number d stands for (d,), and () for points on the line.
        hidden: widths of the hidden layers.
        time: embedding of t (n,) -> (n, time.outputs); `SinusoidalTime(64)` unless given, for times of either kind.
        features: random Fourier frequencies of x; 0 for none. In 2-D 32 of them are the main lever.
        feature_scale: their standard deviation, see `FourierFeatures`.
        context: length of a further vector, such as a label or a latent.

    >>> Denoiser(2)(torch.zeros(5, 2), torch.rand(5)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        hidden: Sequence[int] = (128, 128, 128),
        *,
        time: nn.Module | None = None,
        features: int = 0,
        feature_scale: float = 4.0,
        context: int = 0,
    ):
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.context = context
        d = prod(self.event_shape)
        self.time = time or SinusoidalTime(64)
        self.waves = FourierFeatures(d, features, feature_scale) if features else nn.Identity()
        self.net = MLP(d + 2 * features + self.time.outputs + context, d, hidden)
        zeroed(self.net.layers[-1])

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """x (n, *event_shape), t (n,) or (), context (n, context) -> like x; ValueError for other shapes."""
        if x.shape[1:] != self.event_shape:
            raise ValueError(f"x must have shape ({', '.join(map(str, ('n', *self.event_shape)))}); got {tuple(x.shape)}")
        point = x.reshape(len(x), prod(self.event_shape))
        parts = [self.waves(point), self.time(times_for(t, x)), *check_context(context, x, self.context)]
        return self.net(torch.cat(parts, 1)).reshape(x.shape)


def check_context(context: Tensor | None, x: Tensor, length: int) -> list[Tensor]:
    """The context (n, length) that goes with x (n, ...), in a list, empty for length 0. ValueError if it does not fit."""
    if context is None and not length:
        return []
    if context is None or context.shape != (len(x), length):
        wanted = f"have shape ({len(x)}, {length})" if length else "be left out: this net was made with context=0"
        raise ValueError(f"context must {wanted}; got {None if context is None else tuple(context.shape)}")
    return [context]
