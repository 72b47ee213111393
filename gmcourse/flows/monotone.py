r"""Transformers that are small nets themselves: increasing by construction, inverted by search.

    integral   z = t + ∫₀ˣ f(u) du,  f ≈ softplus(c + Σ_j a_j tanh(b_j u + d_j)) > 0,  z′ = f(x)       (UMNN, Wehenkel 2019)
    sigmoids   z = logit( Σ_j w_j σ(a_j x + b_j) ),  w a softmax, a > 0                                (NAF, Huang 2018)

The net of the integral is asked at fixed knots u_k of [−B, B] and f runs straight between them, f(x) = Σ_k f(u_k) hat_k(x),
and on at ±B's height outside. The integral of that is a sum, z = t + Σ_k f(u_k) ∫₀ˣ hat_k, without error: z increases
whatever the net does, and z′ = f(x) to the last digit. (With a rule whose nodes move with x, as Gauss–Legendre on [0, x],
both hold only up to its error, which a steep net makes large.) The sum of sigmoids is computed as a difference of
logarithms, log Σ w σ(·) − log Σ w σ(−·), which neither over- nor underflows, and has straight tails of its own.

Neither is inverted by a formula. A bracket is doubled until it holds the root x* and then halved until it is as short as the
dtype resolves numbers of its size. The gradient is that of a Newton step from there, x* − (τ(x*; h) − z)/τ′(x*) with x* and
τ′ held constant.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gmcourse.flows.elementwise import Transformer
from gmcourse.flows.solve import bisect

ONE = 0.5413248546  # softplus(ONE) = 1
Map = Callable[[Tensor], tuple[Tensor, Tensor]]  # x -> τ(x) and log τ′(x)


class Searched(Transformer):
    """Base of the transformers that are inverted by search."""

    @abstractmethod
    def at(self, h: Tensor) -> Map:
        """τ(·; h) and log τ′(·; h), with what depends on h alone computed once for any number of calls."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x (*shape), h (k, *shape) -> z (*shape) and log τ′ (*shape)."""
        return self.at(h)(x)

    def invert(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z (*shape), h (k, *shape) -> x (*shape) and log τ′ (*shape) at that x."""
        tau = self.at(h)
        with torch.no_grad():
            x = bisect(lambda x: tau(x)[0] - z, *_bracket(tau, z))
        found, log_slope = tau(x)
        if not torch.is_grad_enabled():
            return x, log_slope
        off = found - z
        x = x - (off - off.detach()) * (-log_slope.detach()).clamp(max=30).exp()
        return x, tau(x)[1]


def _bracket(tau: Map, z: Tensor) -> tuple[Tensor, Tensor]:
    """Ends of intervals with the roots inside, each no longer than 1 or than its root is far from 0."""
    reach = torch.ones_like(z)
    sign = torch.where(tau(torch.zeros_like(z))[0] < z, 1.0, -1.0).to(z)
    for _ in range(100):
        short = (tau(sign * reach)[0] - z) * sign < 0
        if not short.any():
            break
        reach = torch.where(short, 2 * reach, reach)
    inner = torch.where(reach > 1, reach / 2, 0)
    return torch.minimum(sign * inner, sign * reach), torch.maximum(sign * inner, sign * reach)


class MonotoneIntegral(Searched):
    """z = t + ∫₀ˣ f, f a positive net with one hidden layer, straight between knots. h = 0 is the identity.

    Args:
        units: hidden units of the net.
        nodes: knots, evenly spaced from −bound to bound.
        bound: B, beyond which f stays what it is at ±B.
    """

    def __init__(self, units: int = 8, nodes: int = 33, bound: float = 5.0):
        super().__init__()
        if units < 1 or nodes < 2:
            raise ValueError(f"units must be at least 1 and nodes at least 2; got {units} and {nodes}")
        if not bound > 0:
            raise ValueError(f"bound must be positive; got {bound}")
        self.units, self.nodes, self.bound, self.numbers = units, nodes, bound, 2 + 3 * units

    def at(self, h: Tensor) -> Map:
        """The net at the knots, once; then a sum over knots for every x."""
        across = [-1, *[1] * (h.ndim - 1)]
        width = 2 * self.bound / (self.nodes - 1)
        places = torch.linspace(-self.bound, self.bound, self.nodes).to(h).view(across)
        heights = self.net(places, h)
        before = _below_hat(-places / width)

        def tau(x: Tensor) -> tuple[Tensor, Tensor]:
            v = x.clamp(-self.bound, self.bound)
            s = (v - places) / width
            slope = (heights * (1 - s.abs()).clamp_min(0)).sum(0)
            inside = width * (heights * (_below_hat(s) - before)).sum(0)
            return h[0] + inside + slope * (x - v), slope.log()

        return tau

    def net(self, u: Tensor, h: Tensor) -> Tensor:
        """The positive net at u (m, *shape or ones) by h (k, *shape): (m, *shape)."""
        a, b, d = h[2:].unflatten(0, (3, self.units)).unsqueeze(2)
        spread = torch.linspace(-self.bound, self.bound, self.units).to(h).view(-1, *[1] * h.ndim)
        hidden = torch.tanh((1 + b) * (u - spread) + d)
        return F.softplus(ONE + h[1] + (a * hidden).sum(0)) + 1e-4


def _below_hat(s: Tensor) -> Tensor:
    """∫ from −∞ to s of the hat 1 − |s| on [−1, 1]; it increases from 0 to 1."""
    s = s.clamp(-1, 1)
    return 0.5 + s - s * s.abs() / 2


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

    def at(self, h: Tensor) -> Map:
        """Logit of the weighted sum, in logarithms throughout."""
        w, a, b = h.unflatten(0, (3, self.units))
        shift = b + torch.linspace(-2, 2, self.units).to(h).view(-1, *[1] * (h.ndim - 1))
        steepness, log_w = F.softplus(a + ONE) + 1e-4, w.log_softmax(0)
        log_steep = log_w + steepness.log()

        def tau(x: Tensor) -> tuple[Tensor, Tensor]:
            inner = steepness * x + shift
            log_up, log_down = F.logsigmoid(inner), F.logsigmoid(-inner)
            up, down = torch.logsumexp(log_w + log_up, 0), torch.logsumexp(log_w + log_down, 0)
            return up - down, torch.logsumexp(log_steep + log_up + log_down, 0) - up - down

        return tau
