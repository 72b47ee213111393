r"""Nets that contract: ‖g(x) − g(y)‖ ≤ c ‖x − y‖ with a chosen c < 1.

    Lip(W_L φ W_{L−1} … φ W_1) ≤ Π ‖W_l‖₂        for an activation with |φ′| ≤ 1
    W_l ← W_l / max(1, ‖W_l‖₂ / c^{1/L})         ⇒   Lip(g) ≤ c                       Gouk et al. 2018, Behrmann et al. 2019

The spectral norm comes from power iteration, v ← Wᵀu/‖·‖, u ← Wv/‖·‖, σ = uᵀWv, whose vectors are kept in buffers: one
round per training pass follows the slowly moving weights; in eval mode 20 rounds start from the buffers and leave them
alone, so that the net is one fixed function. σ is never above ‖W‖₂, so the bound holds as far as the iteration has come: in
training, one round behind weights that take large steps, Lip(g) has been seen at 1.08 c; check what matters in eval mode.

LipSwish(x) = x·sigmoid(bx)/1.1 is smooth and has |φ′| ≤ 1 for every b > 0 (Chen et al. 2019): a ReLU would do for the norm,
and give the log-determinant's gradient no second derivative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmcourse.flows.tangents import linearise


class LipSwish(nn.Module):
    """x·sigmoid(bx)/1.1 with b > 0 learned; its slope is at most 1."""

    def __init__(self):
        super().__init__()
        self.raw = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x * torch.sigmoid(x * F.softplus(self.raw)) / 1.1

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The value and the derivative, elementwise."""
        b = F.softplus(self.raw)
        s = torch.sigmoid(x * b)
        value = x * s / 1.1
        return value, torch.addcmul(s / 1.1, value * b, 1 - s)


class SpectralLinear(nn.Linear):
    """Linear map whose weight is scaled down to a spectral norm of at most `bound`."""

    def __init__(self, inputs: int, outputs: int, bound: float):
        super().__init__(inputs, outputs)
        nn.init.orthogonal_(self.weight)  # all singular values at the bound: random ones leave most of it unused
        nn.init.uniform_(self.bias, -1.0, 1.0)
        self.bound = bound
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(inputs), dim=0))
        self._keep(*self._iterate(200))

    def normalised(self) -> Tensor:
        """The weight that is used; in training mode it also moves the power iteration on by one round."""
        u, v = self._iterate(1 if self.training else 20)
        if self.training:
            self._keep(u, v)
        sigma = u @ (self.weight @ v)
        return self.weight / (sigma / self.bound).clamp_min(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs)."""
        return F.linear(x, self.normalised(), self.bias)

    @torch.no_grad()
    def _iterate(self, rounds: int) -> tuple[Tensor, Tensor]:
        u, v = self.u, self.v
        for _ in range(rounds):
            v = F.normalize(self.weight.mT @ u, dim=0)
            u = F.normalize(self.weight @ v, dim=0)
        return u, v

    @torch.no_grad()
    def _keep(self, u: Tensor, v: Tensor) -> None:
        self.u.copy_(u)
        self.v.copy_(v)


class LipschitzMLP(nn.Module):
    """Multilayer perceptron with LipSwish and a Lipschitz constant of at most `lipschitz` in its input.

    Args:
        event_shape: of input and output.
        hidden: widths of the hidden layers.
        lipschitz: c in (0, 1), for the net as a whole; each of its L layers gets c^{1/L}.
        context: numbers that the net sees beside its input.
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        hidden: Sequence[int] = (64, 64),
        *,
        lipschitz: float = 0.9,
        context: int = 0,
    ):
        super().__init__()
        if not 0 < lipschitz < 1:
            raise ValueError(f"lipschitz must lie in (0, 1), or x + g(x) need not be invertible; got {lipschitz}")
        self.lipschitz = lipschitz
        self.shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        dim = prod(self.shape)
        sizes = [dim + context, *hidden, dim]
        bound = lipschitz ** (1 / (len(sizes) - 1))
        pairs = zip(sizes, sizes[1:], strict=False)
        self.linears = nn.ModuleList(SpectralLinear(before, after, bound) for before, after in pairs)
        self.activations = nn.ModuleList(LipSwish() for _ in hidden)

    def function(self, context: Tensor | None = None) -> "Contraction":
        """g at this context, its weights normalised once for any number of calls."""
        weights = [linear.normalised() for linear in self.linears]
        return Contraction(weights, [linear.bias for linear in self.linears], list(self.activations), context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """g(x), same shape as x."""
        return self.function(context)(x)


@dataclass(frozen=True)
class Contraction:
    """g with its weights as they are now."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    activations: Sequence[LipSwish]
    context: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """(n, *shape) -> (n, *shape)."""
        h = F.linear(self._inputs(x), self.weights[0], self.biases[0])
        for activation, weight, bias in zip(self.activations, self.weights[1:], self.biases[1:], strict=True):
            h = F.linear(activation(h), weight, bias)
        return h.reshape(x.shape)

    def linearise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """g(x), and its Jacobian (n, d, d)."""
        slopes = [activation.with_slope for activation in self.activations]
        y, j = linearise(self._inputs(x), x.shape[1:].numel(), self.weights, self.biases, slopes)
        return y.reshape(x.shape), j

    def _inputs(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.context is None else torch.cat([x.flatten(1), self.context], 1)
