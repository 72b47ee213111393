"""Functions that give one number for each row of a batch, and their gradient in x: of energies, critics, log-densities.

Rows must not look at each other; then the gradient of the sum over the batch holds each row's own.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def one_per_row(function: Callable[[Tensor], Tensor], x: Tensor, name: str) -> Tensor:
    """function(x), x (n, *event_shape) -> (n,); ValueError, which calls the function `name`, for another shape."""
    found = function(x)
    if not isinstance(found, Tensor) or found.shape != (len(x),):
        came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{name} must return shape (n,); got {came} for x of shape {tuple(x.shape)}")
    return found


def value_and_gradient(
    function: Callable[[Tensor], Tensor], x: Tensor, name: str, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """f(x), (n,), and ∇f(x), like x; 0 where f, for all its graph, does not look at x.

    Works where gradients are switched off, in `torch.inference_mode`, too. An x with a graph of its own keeps it, and
    `create_graph` lets the gradient be differentiated, in the weights of f and in x. Raises ValueError if f gives another
    shape than (n,), or nothing that can be differentiated.
    """
    with torch.inference_mode(False), torch.enable_grad():
        at = x if x.requires_grad else (x.clone() if x.is_inference() else x.detach()).requires_grad_()
        found = one_per_row(function, at, name)
        if not found.requires_grad:
            raise ValueError(f"{name} must be differentiable in x; its result has no gradient")
        (gradient,) = torch.autograd.grad(found.sum(), at, create_graph=create_graph, materialize_grads=True)
    return found, gradient
