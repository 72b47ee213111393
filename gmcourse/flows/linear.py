r"""Linear layers: they mix coordinates, so that the next coupling keeps and moves other things (thesis 2.2.2, Glow).

    permutation    |det| = 1                         Householder   Π_k (I − 2 v_k v_kᵀ/‖v_k‖²), orthogonal, |det| = 1
    LU             z = W x + b, log|det W| read off its factors (plu.py)
    1×1 convolution on images h × w                  log|det| = h·w·log|det W|                               thesis (2.30)
    ActNorm        z = (x − b)·eˢ per channel        log|det| = h·w·Σ s

The first batch in training mode sets ActNorm's b to its mean and eˢ to 1 over its standard deviation; from then on both are
ordinary parameters. Unlike batch normalisation nothing depends on the batch afterwards, and a batch of one works: where
there is no deviation to measure, the scale stays 1.
"""

import torch
from torch import Tensor, nn

from gmcourse.flows.layer import Layer
from gmcourse.flows.plu import PLU


class Permutation(Layer):
    """z[:, i] = x[:, order[i]]; coordinates of vectors, channels of images. The order is saved with the weights."""

    def __init__(self, order: Tensor):
        super().__init__()
        order = torch.as_tensor(order)
        if order.ndim != 1 or order.sort().values.tolist() != list(range(len(order))):
            raise ValueError(f"order must be a permutation of 0 … d − 1; got {order.tolist()}")
        self.register_buffer("order", order)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, d, ...) -> (n, d, ...), contribution 0."""
        return check_channels(x, len(self.order)).index_select(1, self.order), x.new_zeros(len(x))

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, d, ...) -> (n, d, ...)."""
        return check_channels(z, len(self.order)).index_select(1, self.order.argsort()), z.new_zeros(len(z))


class Reverse(Permutation):
    """The last coordinate first."""

    def __init__(self, features: int):
        super().__init__(torch.arange(features).flip(0))


class Householder(Layer):
    """A learned rotation or reflection of vectors (n, features): `reflections` Householder matrices in a row."""

    def __init__(self, features: int, reflections: int | None = None):
        super().__init__()
        self.normals = nn.Parameter(torch.randn(features if reflections is None else reflections, features))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, features) -> (n, features), contribution 0."""
        return x @ self.matrix().T, x.new_zeros(len(x))

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, features) -> (n, features)."""
        return z @ self.matrix(), z.new_zeros(len(z))

    def matrix(self) -> Tensor:
        """The orthogonal matrix (features, features)."""
        product = torch.eye(self.normals.shape[1], dtype=self.normals.dtype, device=self.normals.device)
        for v in nn.functional.normalize(self.normals, dim=1):
            product = product - 2 * torch.outer(product @ v, v)
        return product


class LULinear(Layer):
    """z = W x + b on vectors (n, features), W by its LU factors."""

    def __init__(self, features: int):
        super().__init__()
        self.weight, self.bias = PLU(features), nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, features) -> (n, features) and log|det W|."""
        return self.weight.times(x.T).T + self.bias, self.weight.log_det().expand(len(x))

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, features) -> (n, features) and log|det W|."""
        return self.weight.solve((z - self.bias).T).T, self.weight.log_det().expand(len(z))


class Conv1x1(Layer):
    """Invertible 1×1 convolution of images (n, channels, h, w): the same W at every pixel, thesis (2.30)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = PLU(channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) -> (n, c, h, w) and h·w·log|det W|."""
        z = self.weight.times(x.flatten(2)).reshape(x.shape)
        return z, (x.shape[2:].numel() * self.weight.log_det()).expand(len(x))

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, c, h, w) -> (n, c, h, w) and h·w·log|det W|."""
        x = self.weight.solve(z.flatten(2)).reshape(z.shape)
        return x, (z.shape[2:].numel() * self.weight.log_det()).expand(len(z))


class ActNorm(Layer):
    """Shift and scale per coordinate of vectors (n, channels) or per channel of images (n, channels, h, w)."""

    def __init__(self, channels: int):
        super().__init__()
        self.shift, self.log_scale = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))  # saved with the weights: reloaded, it stays as it is

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, channels, ...) -> the same shape, and places·Σ s."""
        check_channels(x, len(self.shift))
        if self.training and len(x) and not self.initialised:
            self._initialise(x)
        return (x - self._like(self.shift, x)) * self._like(self.log_scale, x).exp(), self._contribution(x)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, channels, ...) -> the same shape, and places·Σ s."""
        check_channels(z, len(self.shift))
        return z * (-self._like(self.log_scale, z)).exp() + self._like(self.shift, z), self._contribution(z)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        values = x.transpose(0, 1).flatten(1)
        first = values[:, 0]
        offset = values - first[:, None]  # of a constant channel exactly 0, while the mean of its values is rounded
        mean, deviation = first + offset.mean(1), offset.std(1, correction=0)
        least = 1e-6 + 4 * torch.finfo(x.dtype).eps * mean.abs()  # below it there is nothing but rounding
        self.shift.copy_(mean)
        self.log_scale.copy_(torch.where(deviation > least, -deviation.clamp(min=1e-6).log(), 0))
        self.initialised.fill_(True)

    def _contribution(self, x: Tensor) -> Tensor:
        return (x.shape[2:].numel() * self.log_scale.sum()).expand(len(x))

    @staticmethod
    def _like(v: Tensor, x: Tensor) -> Tensor:
        return v.view(-1, *[1] * (x.ndim - 2))


def check_channels(x: Tensor, size: int) -> Tensor:
    """Return x (n, size, ...), or raise ValueError saying what came."""
    if x.ndim < 2 or x.shape[1] != size:
        raise ValueError(f"x must have shape (n, {size}, ...); got {tuple(x.shape)}")
    return x
