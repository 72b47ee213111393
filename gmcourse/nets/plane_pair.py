r"""A generator and a discriminator of points, for denoising diffusion GANs: perceptrons of everything side by side.

    G(x_t, t, z)  = net(w(x_t), τ(t), z)                  D(x_{t−1}, x_t, t) = net(w(x_{t−1}), w(x_t), τ(t))

w are waves of the coordinates or nothing, τ those of t. The thesis' nets for 25 Gaussians have three hidden layers of 512
with LeakyReLU (6.4.7). Nets learn slow functions first: shown waves of lengths 4 and 2, where modes are 1 apart, layers of
128 learn in a minute.
"""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from gmcourse.nets.denoiser import check_context
from gmcourse.nets.embedding import AxisWaves, SinusoidalTime, times_for
from gmcourse.nets.mlp import MLP

LEAKY = partial(nn.LeakyReLU, 0.2)


class PointGenerator(nn.Module):
    """x_t (n, *event_shape), t (n,), z (n, latent) -> like x_t; without z if latent is 0.

    Args:
        event_shape: of x.
        latent: length of z; 0 for none.
        hidden: widths of the hidden layers.
        frequencies: of the waves of each coordinate; none unless given.
        time: embedding of t (n,) -> (n, time.outputs); `SinusoidalTime(16)` unless given.

    >>> PointGenerator((2,), 3)(torch.zeros(5, 2), torch.tensor(0), torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent: int,
        hidden: Sequence[int] = (512, 512, 512),
        *,
        frequencies: Sequence[float] = (),
        time: nn.Module | None = None,
    ):
        super().__init__()
        self.event_shape, self.latent = tuple(event_shape), latent
        self.waves = AxisWaves(prod(self.event_shape), frequencies)
        self.time = time or SinusoidalTime(16)
        inputs = self.waves.outputs + self.time.outputs + latent
        self.net = MLP(inputs, self.event_shape, hidden, activation=LEAKY)

    def forward(self, x: Tensor, t: Tensor, z: Tensor | None = None) -> Tensor:
        """ValueError for other shapes."""
        points = self.waves(_points(x, "x", self.event_shape))
        return self.net(torch.cat([points, self.time(times_for(t, x)), *check_context(z, x, self.latent)], 1))


class PointCritic(nn.Module):
    """x_{t−1}, x_t (n, *event_shape), t (n,) -> logits (n,); arguments as of `PointGenerator`.

    >>> PointCritic((2,))(torch.zeros(5, 2), torch.zeros(5, 2), torch.tensor(0)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        hidden: Sequence[int] = (512, 512, 512),
        *,
        frequencies: Sequence[float] = (),
        time: nn.Module | None = None,
    ):
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.waves = AxisWaves(prod(self.event_shape), frequencies)
        self.time = time or SinusoidalTime(16)
        self.net = MLP(2 * self.waves.outputs + self.time.outputs, (), hidden, activation=LEAKY)

    def forward(self, before: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """ValueError for other shapes."""
        points = [self.waves(_points(v, name, self.event_shape)) for v, name in ((before, "before"), (x, "x"))]
        return self.net(torch.cat([*points, self.time(times_for(t, x))], 1))


def _points(x: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    if x.shape[1:] != shape:
        raise ValueError(f"{name} must have shape ({', '.join(map(str, ('n', *shape)))}); got {tuple(x.shape)}")
    return x.reshape(len(x), -1)
