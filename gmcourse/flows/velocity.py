"""The velocity field of a continuous flow: any net of position and time will do; this one also gives its Jacobian."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.flows.tangents import linearise, silu
from gmcourse.nets.mlp import MLP


class Velocity(nn.Module):
    """f(x, t): a multilayer perceptron of position, time and context with SiLU.

    Args:
        event_shape: of x and f.
        input_scale: factor on the first layer's initial weights; 3 lets it see the detail of the toy densities.
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        hidden: Sequence[int] = (64, 64, 64),
        *,
        context: int = 0,
        input_scale: float = 3.0,
    ):
        super().__init__()
        dim = event_shape if isinstance(event_shape, int) else math.prod(event_shape)
        self.net = MLP(dim + 1 + context, event_shape, hidden, input_scale=input_scale)

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """x (n, *event_shape), t () -> same shape as x."""
        return self.net(self._inputs(x, t, context))

    def linearise(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f as above, and its Jacobian ∂f_i/∂x_k (n, i, k)."""
        layers = [layer for layer in self.net.layers if isinstance(layer, nn.Linear)]
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        inputs = self._inputs(x, t, context)
        f, j = linearise(inputs, x.shape[1:].numel(), weights, biases, [silu] * (len(layers) - 1))
        return f.unflatten(1, self.net.shape), j

    def _inputs(self, x: Tensor, t: Tensor, context: Tensor | None) -> Tensor:
        parts = [x.flatten(1), t.to(x).expand(len(x), 1)]
        return torch.cat(parts if context is None else [*parts, context], 1)
