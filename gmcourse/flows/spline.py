r"""Rational-quadratic splines with linear tails (Durkan et al. 2019): flexible, and inverted in closed form.

K bins cut the square [−B, B]² at the knots (x_k, y_k); δ_k > 0 is the slope at knot k. Within a bin of width w and height h,
with the mean slope s = h/w and ξ = (x − x_k)/w in [0, 1],

    z  = y_k + h (s ξ² + δ_k ξ(1−ξ)) / d,      d = s + (δ_k + δ_{k+1} − 2s) ξ(1−ξ)
    z′ = s² (δ_k (1−ξ)² + 2s ξ(1−ξ) + δ_{k+1} ξ²) / d²

The inverse solves a quadratic. With η = (z − y_k)/h, g = δ_k (1−η) − δ_{k+1} η and q = |g| + √(g² + 4s² η(1−η)), all of it
free of cancellation,

    ξ : (1−ξ)  =  2sη : q  if g ≥ 0,  else  q : 2s(1−η)

Outside of [−B, B] the map is the identity, and so the slopes at both ends are 1. Widths and heights are softmaxes of the
first 2K numbers of h, the K − 1 inner slopes softpluses of the rest.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gmcourse.flows.elementwise import Transformer


class RationalQuadratic(Transformer):
    """Monotone rational-quadratic spline on [−bound, bound], the identity elsewhere. h = 0 is the identity.

    Args:
        bins: K, the number of bins.
        bound: B, half the side of the square in which the spline lives.
        minimum: smallest width and height of a bin, in parts of the whole, and smallest slope at a knot.
    """

    def __init__(self, bins: int = 8, bound: float = 3.0, minimum: float = 1e-4):
        super().__init__()
        if bins < 2:
            raise ValueError(f"bins must be at least 2; got {bins}")
        if not bound > 0:
            raise ValueError(f"bound must be positive; got {bound}")
        if not 0 < minimum * bins < 1:
            raise ValueError(f"minimum must lie between 0 and 1/bins = {1 / bins:g}; got {minimum}")
        self.bins, self.bound, self.minimum, self.numbers = bins, bound, minimum, 3 * bins - 1

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x (*shape), h (3K−1, *shape) -> z and log z′."""
        return self._map(x, h, inverse=False)

    def invert(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z (*shape), h (3K−1, *shape) -> x and log z′ at that x."""
        return self._map(z, h, inverse=True)

    def _map(self, v: Tensor, h: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Both directions, in units where the square is [0, 1]²; v is clipped before, so no gradient is NaN outside."""
        shape, v = v.shape, v.reshape(-1)
        clipped = v.clamp(-self.bound, self.bound)
        u = clipped * (0.5 / self.bound) + 0.5
        x0, y0, width, height, slope0, slope1 = self._bin(u, h.reshape(self.numbers, -1), inverse)
        s = height / width
        if inverse:
            eta = ((u - y0) / height).clamp(0, 1)
            left, right = 2 * s * eta, 2 * s * (1 - eta)
            g = torch.addcmul(slope0 * (1 - eta), slope1, eta, value=-1)
            q = g.abs() + torch.addcmul(g * g, left, right).sqrt()
            near, far = torch.where(g >= 0, left, q), torch.where(g >= 0, q, right)
            xi = near / (near + far)
        else:
            xi = ((u - x0) / width).clamp(0, 1)
        rest = 1 - xi
        bump = xi * rest
        over = torch.addcmul(s, torch.add(slope0 + slope1, s, alpha=-2), bump).reciprocal()
        s_over = s * over
        slopes = torch.addcmul(torch.addcmul(2 * s * bump, slope0 * rest, rest), slope1 * xi, xi)
        log_slope = (s_over * s_over * slopes).log()
        if inverse:
            there = torch.addcmul(x0, width, xi)
        else:
            there = torch.addcmul(y0, height * over, torch.addcmul(slope0 * bump, s, xi * xi))
        inside = clipped == v
        there = torch.where(inside, 2 * self.bound * there - self.bound, v)
        return there.view(shape), torch.where(inside, log_slope, 0).view(shape)

    def _bin(self, u: Tensor, h: Tensor, inverse: bool) -> tuple[Tensor, ...]:
        """The bin that u (m,) falls into, by h (3K−1, m): x_k, y_k, width, height, δ_k, δ_{k+1}, each (m,)."""
        bins, minimum = self.bins, self.minimum
        room = 1 - bins * minimum
        sizes, slopes = h.split([2 * bins, bins - 1])
        sizes = sizes.unflatten(0, (2, bins)).softmax(1)  # of the room that the minima leave: widths, heights
        with torch.no_grad():
            ends = sizes[int(inverse)].cumsum(0).mul_(room)
            ends += minimum * torch.arange(1, bins + 1, dtype=u.dtype, device=u.device).unsqueeze(1)
            ends[-1] = math.inf
            below = (ends <= u).to(u.dtype)  # 1 for the bins left of u
            count = below.sum(0, keepdim=True)
            k = count.long()
            edges = torch.cat((k == 0, k == bins - 1))
            knots = torch.cat((k - 1, k)).clamp_(0, bins - 2)
        start = torch.add(minimum * count, (sizes * below).sum(1), alpha=room)
        size = sizes.gather(1, k.expand(2, 1, -1)).squeeze(1) * room + minimum
        slope = F.softplus(slopes.gather(0, knots) + math.log(math.expm1(1 - minimum))) + minimum
        return *start.unbind(), *size.unbind(), *torch.where(edges, 1, slope).unbind()
