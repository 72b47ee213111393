r"""Two tools of the layers without a closed-form inverse: roots by bisection, and small Jacobians by autograd.

A root that was found without gradients gets them from one Newton step: with f(a*, θ) = 0 and a* held constant,

    a = a* − f(a*, θ) / f′(a*)      has the value a* and the derivative −(∂f/∂θ)/f′ of the implicit function theorem.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


class SolverError(RuntimeError, FloatingPointError):
    """An equation was not solved: a training that meets it has diverged."""


@torch.no_grad()
def bisect(f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Root of an elementwise increasing f in [low, high], all of shape (n,), without gradients.

    The interval is halved until what is left of it is below the precision of its dtype.

    >>> bisect(lambda a: a**3 - 8, torch.zeros(1), torch.full((1,), 5.0))
    tensor([2.])
    """
    for _ in range(3 + math.ceil(-math.log2(torch.finfo(low.dtype).eps))):
        middle = (low + high) / 2
        below = f(middle) < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def jacobian(y: Tensor, x: Tensor, *, create_graph: bool) -> Tensor:
    """∂y/∂x of every row: y (n, *shape) computed from x (n, *shape) -> (n, d, d), by d backward passes.

    A loop on purpose: up to about ten dimensions it is faster than vmap.
    """
    columns = y.flatten(1).sum(0).unbind()
    rows = [torch.autograd.grad(c, x, create_graph=create_graph, retain_graph=True)[0].flatten(1) for c in columns]
    return torch.stack(rows, 1)


def input_of(x: Tensor) -> Tensor:
    """x itself where a gradient flows through it, else a copy that can be differentiated by."""
    return x if torch.is_grad_enabled() and x.requires_grad else x.detach().requires_grad_()


def fixed_point(f: Callable[[Tensor], Tensor], x: Tensor, tolerance: float, max_iterations: int) -> Tensor:
    """x with f(x) = x, by x ← f(x), until no entry moves by more than tolerance·(1 + |x|).

    A quantity whose size is arbitrary, as a gradient's is, should be brought to the size of 1 before. An empty x is its own.

    Raises:
        SolverError: no convergence, naming iterations and the last move.
    """
    if not x.numel():
        return x
    done = 0
    while done < max_iterations:
        for _ in range(min(10, max_iterations - done)):  # a look at the numbers only now and then
            before, x, done = x, f(x), done + 1
        moved = ((x - before).abs() / (1 + x.abs())).max()
        if moved <= tolerance:
            return x
    raise SolverError(f"no fixed point after {done} iterations: residual {float(moved):.2g}, tolerance {tolerance:.2g}")
