r"""Densities for data that take few values: dequantisation, the way to the real line, bits per dimension.

A grey value is one of B levels, x = −1 + k δ with δ = 2/(B − 1). A density can be made as large as one likes on such a set
of points, so a flow models y = x + δ(u − ½) instead, u in the unit cube of D values, and its mass on x's cell is the
probability of x:

    log P(x) = log ∫ p(x + δ(u − ½)) δᴰ du ≥ E_q(u|x)[ log p(y) + D log δ − log q(u|x) ]

As a layer x → y this is stochastic: its contribution is D log δ − log q(u|x), and log_prob becomes a lower bound on
log P(x), a probability, not a density. Uniform: q = 1. Variational (Ho et al. 2019): q is a conditional flow; the bound is
tight for q(u|x) ∝ p(y). Back, y is rounded to its cell; gradients go through as if it were not.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gmcourse.flows.layer import Chain, Layer
from gmcourse.model import StandardNormal


class Dequantise(Layer):
    """Uniform noise over the cell of each value.

    Args:
        event_shape: shape of one datum.
        bins: levels B of a value, evenly spaced from −1 to 1: 256 for photographs, 17 for the 8×8 digits.

    >>> y, contribution = Dequantise((1,), bins=3)(torch.tensor([[-1.0], [0.0], [1.0]]))
    >>> (y - torch.tensor([[-1.0], [0.0], [1.0]])).abs().max() <= 0.5
    tensor(True)
    """

    bijective = False

    def __init__(self, event_shape: Sequence[int], *, bins: int = 256):
        super().__init__()
        self.cells = Cells(event_shape, bins)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data on the grid -> y, and D log δ. Raises ValueError for data off the grid."""
        u = torch.rand_like(self.cells.check(x))
        return self.cells.spread(x, u), x.new_full((len(x),), self.cells.log_volume)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Any y -> the nearest point of the grid, and D log δ."""
        return self.cells.round(z), z.new_full((len(z),), self.cells.log_volume)


class VariationalDequantise(Layer):
    """Noise from a conditional flow q(u|x), trained together with what follows.

    Args:
        event_shape, bins: as for `Dequantise`.
        layers: bijections u → noise of N(0, I), u in (0, 1) of the data's shape (so a `Logit` comes first), built with
            a context of the data's shape. x is the context; that of the flow around it is not looked at.
    """

    bijective = False

    def __init__(self, event_shape: Sequence[int], layers: Sequence[Layer], *, bins: int = 256):
        super().__init__()
        self.cells, self.noise, self.chain = Cells(event_shape, bins), StandardNormal(event_shape), Chain(*layers)
        if not self.chain.bijective:
            raise ValueError("layers must be bijections, since log q(u|x) has to be exact")

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data on the grid -> y, and D log δ − log q(u|x). Raises ValueError for data off the grid."""
        eps = torch.randn_like(self.cells.check(x))
        u, log_det = self.chain.invert(eps, x)
        return self.cells.spread(x, u), self.cells.log_volume - self.noise.log_prob(eps) - log_det

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Any y -> the nearest point of the grid, and the contribution of y's place in its cell."""
        x = self.cells.round(z)
        inside = torch.finfo(z.dtype).eps
        u = self.cells.place(x, z).clamp(inside, 1 - inside)
        eps, log_det = self.chain(u, x)
        return x, self.cells.log_volume - self.noise.log_prob(eps) - log_det


class Cells:
    """The grid of B levels from −1 to 1, and the cells of width δ around its points."""

    def __init__(self, event_shape: Sequence[int], bins: int):
        if int(bins) != bins or bins < 2:
            raise ValueError(f"bins must be a whole number of at least 2; got {bins}")
        self.bins, self.width = int(bins), 2 / (bins - 1)
        self.log_volume = math.prod(event_shape) * math.log(self.width)

    def check(self, x: Tensor) -> Tensor:
        """Return x if its values lie on the grid, else raise ValueError."""
        with torch.no_grad():
            k = (x + 1) / self.width
            off = (k - k.round().clamp(0, self.bins - 1)).abs().max()
        if not off < 0.05:
            raise ValueError(f"x must take only the {self.bins} values evenly spaced from -1 to 1 (see bins); "
                             f"got one that is off by {float(off):.2g} of their distance")  # fmt: skip
        return x

    def spread(self, x: Tensor, u: Tensor) -> Tensor:
        """x and u in the unit cube -> the point u of x's cell."""
        return x + self.width * (u - 0.5)

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """The u at which y lies in x's cell."""
        return (y - x) / self.width + 0.5

    def round(self, y: Tensor) -> Tensor:
        """The nearest point of the grid; its gradient is that of the identity."""
        k = ((y.detach() + 1) / self.width).round().clamp(0, self.bins - 1)
        return y + (k * self.width - 1 - y.detach())


class Logit(Layer):
    r"""Interval (low, high) -> real line: z = logit p, p = α + (1 − 2α)(x − low)/(high − low).

    A margin α > 0 keeps the ends of the interval at a finite z; the inverse may then leave the interval by a little.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0, *, margin: float = 0.0):
        super().__init__()
        if not low < high:
            raise ValueError(f"low must be below high; got {low} and {high}")
        if not 0 <= margin < 0.5:
            raise ValueError(f"margin must lie in [0, 0.5); got {margin}")
        self.low, self.margin, self.slope = low, margin, (1 - 2 * margin) / (high - low)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x between low and high -> z on the real line."""
        z = torch.logit(self.margin + self.slope * (x - self.low))
        return z, self._log_det(z)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z -> x."""
        return self.low + (z.sigmoid() - self.margin) / self.slope, self._log_det(z)

    def _log_det(self, z: Tensor) -> Tensor:
        """Σ log dz/dx = Σ log(slope / (p(1 − p))), in terms of z."""
        return (softplus(z) + softplus(-z) + math.log(self.slope)).flatten(1).sum(1)


def bits_per_dim(log_prob: Tensor, event_shape: Sequence[int], *, bins: int | None = None) -> Tensor:
    r"""−log₂ P(x) / D from log_prob in nats, same shape: the bits that a value costs. Lower is better; log₂ B is a coin's.

    Args:
        log_prob: log-probability of grid data, as of a flow that begins with `Dequantise`, or with `bins` a log-density.
        bins: for the log-density of dequantised data in [−1, 1]: the B levels, whose distance 2/(B − 1) turns density to
            probability. A uniform density on B cells so gives log₂ B.

    >>> bits_per_dim(torch.tensor([-math.log(256.0)]), (1,))
    tensor([8.])
    """
    d = math.prod(event_shape)
    if bins is not None:
        log_prob = log_prob + Cells(event_shape, bins).log_volume
    return log_prob / (-d * math.log(2))
