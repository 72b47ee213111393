r"""A multilayer perceptron and its Jacobian in the same pass.

The tangents ∂h/∂x_k of every hidden layer ride along with h itself:

    a = W h + b,  Ta = W T          h = φ(a),  T = φ′(a) Ta

That is D + 1 times the work of the net, in matrix products of one batch. Backward passes would have to be differentiated
once more in training; in the plane this way takes about half the time.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Slope = Callable[[Tensor], tuple[Tensor, Tensor]]  # a -> φ(a), φ′(a)


def linearise(
    inputs: Tensor, dim: int, weights: Sequence[Tensor], biases: Sequence[Tensor], activations: Sequence[Slope]
) -> tuple[Tensor, Tensor]:
    """Output (n, m) at inputs (n, dim + more), and its Jacobian by the first `dim` of them, (n, m, dim)."""
    a = torch.addmm(biases[0], inputs, weights[0].mT)
    tangents = weights[0].mT[:dim, None]  # (dim, 1 or n, width)
    for weight, bias, activation in zip(weights[1:], biases[1:], activations, strict=True):
        h, slope = activation(a)
        both = torch.cat([h[None], tangents * slope]) @ weight.mT
        a, tangents = both[0] + bias, both[1:]
    return a, tangents.expand(-1, len(inputs), -1).permute(1, 2, 0)


def silu(a: Tensor) -> tuple[Tensor, Tensor]:
    """φ(a) = a s and φ′ = s + φ (1 − s), s = sigmoid(a)."""
    s = torch.sigmoid(a)
    h = a * s
    return h, torch.addcmul(s, h, 1 - s)
