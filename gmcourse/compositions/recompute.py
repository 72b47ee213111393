r"""Memory for time: a step that keeps where it began, and is taken again on the way back.

K steps y = f_θ(x) on top of one another store all that f has computed, K times over, until gradients have come back. Stored
instead are the K points alone; on the way back f is taken again at each of them, and what it computes is needed once:

    (∂y/∂x, ∂y/∂θ)ᵀ ḡ     from x, f and θ, when ḡ arrives

`torch.utils.checkpoint` does it for any function. Where f is itself a gradient, as in a step down an energy, it takes f
three times: twice on the way out, since what the inner derivative needs was not kept either, and on the way back. Here it is
two, and the first without a graph.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


def recomputed(step: Callable[[Tensor], Tensor], x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """step(x), whose graph keeps x and the weights alone; derivatives of any order, in x and in `weights`.

    `step` must give the same whenever it is called, and a graph where gradients are enabled.

    >>> x = torch.ones(3, requires_grad=True)
    >>> torch.autograd.grad(recomputed(torch.exp, x, []).sum(), x)[0]
    tensor([2.7183, 2.7183, 2.7183])
    """
    return _Recomputed.apply(step, x, *weights)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, step, x: Tensor, *weights: Tensor) -> Tensor:
        ctx.step = step
        ctx.save_for_backward(x, *weights)
        return step(x)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        further = torch.is_grad_enabled()  # a second derivative will be taken
        with torch.enable_grad():
            at = x.view_as(x) if further and x.requires_grad else x.detach().requires_grad_()
            y, asked = ctx.step(at), ctx.needs_input_grad[1:]
            wanted = [t for t, needed in zip([at, *weights], asked, strict=True) if needed]
            found = torch.autograd.grad(y, wanted, grad, create_graph=further, allow_unused=True)
        if any(asked[1:]) and all(g is None for g in found[int(asked[0]) :]):
            raise RuntimeError("step no longer uses the weights it was given; store the steps where weights are swapped")
        given = iter(found)
        return None, *(next(given) if needed else None for needed in asked)
