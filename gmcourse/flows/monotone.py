r"""Transformers that are small nets themselves: increasing by construction, inverted by search.

    integral   z = t + ∫₀ˣ f(u) du,  f = softplus(c + Σ_j a_j tanh(b_j u + d_j)) > 0,  z′ = f(x)       (UMNN, Wehenkel 2019)
    sigmoids   z = logit( Σ_j w_j σ(a_j x + b_j) ),  w a softmax, a > 0                                (NAF, Huang 2018)

The integral is taken by Gauss–Legendre quadrature on [−B, B] and goes on as a straight line outside; z′ = f(x) holds as far
as the quadrature does. The sum of sigmoids is computed as a difference of logarithms, log Σ w σ(·) − log Σ w σ(−·), which
neither over- nor underflows, and has straight tails of its own.

Neither has a closed-form inverse. A bracket is doubled until it holds the root x* and then halved to the last digit. The
gradient is that of a Newton step from there, x* − (τ(x*; h) − z)/τ′(x*) with x* and τ′ held constant.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gmcourse.flows.elementwise import Transformer
from gmcourse.flows.solve import bisect

ONE = 0.5413248546  # softplus(ONE) = 1


class Searched(Transformer):
    """Base of the transformers that are inverted by search."""

    def invert(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z (*shape), h (k, *shape) -> x (*shape) and log τ′ (*shape) at that x."""
        with torch.no_grad():
            low, high = self._bracket(z, h)
            x = bisect(lambda x: self(x, h)[0] - z, low, high)
        found, log_slope = self(x, h)
        if not torch.is_grad_enabled():
            return x, log_slope
        off = found - z
        x = x - (off - off.detach()) * (-log_slope.detach()).clamp(max=30).exp()
        return x, self(x, h)[1]

    def _bracket(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of intervals with the roots inside, at most three times as wide as the roots are far from 0."""
        reach = torch.ones_like(z)
        sign = torch.where(self(torch.zeros_like(z), h)[0] < z, 1.0, -1.0).to(z)
        for _ in range(100):
            short = (self(sign * reach, h)[0] - z) * sign < 0
            if not short.any():
                break
            reach = torch.where(short, 2 * reach, reach)
        inner = torch.where(reach > 1, reach / 2, 0)
        return torch.minimum(sign * inner, sign * reach), torch.maximum(sign * inner, sign * reach)


class MonotoneIntegral(Searched):
    """z = t + ∫₀ˣ f, f a positive net with one hidden layer. h = 0 is the identity.

    Args:
        units: hidden units of the integrand.
        nodes: of the Gauss–Legendre rule.
        bound: B, beyond which f stays what it is at ±B.
    """

    def __init__(self, units: int = 8, nodes: int = 24, bound: float = 5.0):
        super().__init__()
        if units < 1 or nodes < 2:
            raise ValueError(f"units must be at least 1 and nodes at least 2; got {units} and {nodes}")
        if not bound > 0:
            raise ValueError(f"bound must be positive; got {bound}")
        self.units, self.bound, self.numbers = units, bound, 2 + 3 * units
        places, weights = np.polynomial.legendre.leggauss(nodes)
        self.rule = [(float(p + 1) / 2, float(w) / 2) for p, w in zip(places, weights, strict=True)]  # on [0, 1]

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Integrate from 0 to x."""
        places, weights = x.new_tensor(self.rule).unbind(1)
        v = x.clamp(-self.bound, self.bound)
        inside = torch.tensordot(weights, self._integrand(places.view(-1, *[1] * x.ndim) * v, h), 1)
        slope = self._integrand(v, h)
        return h[0] + v * inside + slope * (x - v), slope.log()

    def _integrand(self, u: Tensor, h: Tensor) -> Tensor:
        """f at u (..., *shape) by h (k, *shape)."""
        a, b, d = h[2:].unflatten(0, (3, self.units))
        spread = torch.linspace(-self.bound, self.bound, self.units).to(h).view(-1, *[1] * (h.ndim - 1))
        hidden = torch.tanh((1 + b) * (u.unsqueeze(-h.ndim) - spread) + d)
        return F.softplus(ONE + h[1] + (a * hidden).sum(-h.ndim)) + 1e-4


class SigmoidSum(Searched):
    """z = logit Σ_j w_j σ(a_j x + b_j): the deep sigmoidal transformer of neural autoregressive flows.

    Args:
        units: how many sigmoids.
    """

    def __init__(self, units: int = 8):
        super().__init__()
        if units < 1:
            raise ValueError(f"units must be at least 1; got {units}")
        self.units, self.numbers = units, 3 * units

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of the weighted sum, in logarithms throughout."""
        w, a, b = h.unflatten(0, (3, self.units))
        spread = torch.linspace(-2, 2, self.units).to(h).view(-1, *[1] * x.ndim)
        steepness = F.softplus(a + ONE) + 1e-4
        inner, log_w = steepness * x + b + spread, w.log_softmax(0)
        log_up, log_down = F.logsigmoid(inner), F.logsigmoid(-inner)
        up, down = torch.logsumexp(log_w + log_up, 0), torch.logsumexp(log_w + log_down, 0)
        log_slope = torch.logsumexp(log_w + steepness.log() + log_up + log_down, 0) - up - down
        return up - down, log_slope
