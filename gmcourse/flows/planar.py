r"""Planar flows: push the plane along one direction, as much as another direction says.

    z = x + u h(wᵀx + b),  h = tanh                                                   slides (7); Rezende & Mohamed 2015
    |det ∂z/∂x| = |1 + uᵀw h′(wᵀx + b)|                                               slides (8) with M = 1

It is a bijection if uᵀw > −1, since 0 < h′ ≤ 1. Any u is bent into one that obeys, along w alone:

    û = u + (m(wᵀu) − wᵀu) w/‖w‖²,      m(a) = a for a ≥ 0,  (1 − δ)(eᵃ − 1) for a < 0     ⇒     wᵀû = m(wᵀu) > −1 + δ

So u stays as it is where wᵀu ≥ 0; below 0 it is bent, even where it obeys already. There is no formula for the inverse, but
along w the map is one increasing function of one number, a + wᵀû h(a + b) = wᵀz, which bisection inverts safely. So one
direction is cheap. Here it is data → noise, which maximum likelihood needs at every step; sampling has to solve. Variational
inference needs it the other way round: see `Inverted`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gmcourse.flows.amortised import Amortised, check_vectors
from gmcourse.flows.layer import Layer
from gmcourse.flows.solve import bisect

DELTA = 1e-3  # least slope of a layer, so that float32 can invert it


def above_minus_one(a: Tensor) -> Tensor:
    """m(a) > −1 + δ: the identity for a ≥ 0, an exponential below; keeps m(0) = 0.

    >>> above_minus_one(torch.tensor([-100.0, 0.0, 3.0]))
    tensor([-0.9990,  0.0000,  3.0000])
    """
    return F.elu(a, 1 - DELTA)


class Planar(Layer):
    """z = x + û tanh(wᵀx + b) on vectors of size `dim`, slides (7)."""

    def __init__(self, dim: int, *, context: int = 0):
        super().__init__()
        self.dim = dim
        w, u, b = torch.randn(dim) / dim**0.5, 0.3 * torch.randn(dim) / dim**0.5, torch.randn(())
        self.parts = Amortised({"w": w, "u": u, "b": b}, context)

    def bent(self, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w and û (1 or n, dim), b and wᵀû (1 or n,)."""
        w, u, b = self.parts(context).values()
        product = (w * u).sum(1)
        allowed = above_minus_one(product)
        length = w.square().sum(1).clamp_min(torch.finfo(w.dtype).tiny)
        for _ in range(2):  # the second time mends what the first one lost: wᵀu may be large, and wᵀû is small
            u = u + ((allowed - (w * u).sum(1)) / length)[:, None] * w
        return w, u, b, allowed

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The cheap direction."""
        w, u, b, product = self.bent(context)
        h = torch.tanh((check_vectors(x, self.dim) * w).sum(1) + b)
        return x + u * h[:, None], torch.log1p(product * (1 - h.square()))

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solves a + wᵀû h(a + b) = wᵀz for a = wᵀx; gradients by the implicit function theorem, to first order."""
        w, u, b, product = self.bent(context)
        goal = (check_vectors(z, self.dim) * w).sum(1)
        with torch.no_grad():
            reach = product.abs()
            a = bisect(lambda a: a + product * torch.tanh(a + b) - goal, goal - reach, goal + reach)
        h = torch.tanh(a + b)
        slope = 1 + product * (1 - h.square())
        a = a - (a + product * h - goal) / slope
        h = torch.tanh(a + b)
        return z - u * h[:, None], torch.log1p(product * (1 - h.square()))
