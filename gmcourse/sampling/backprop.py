r"""∇E of a plain feed-forward energy, layer by layer: backpropagation without the bookkeeping of autograd.

    h₀ = x,  h_l = f_l(h_{l−1}),  E = w·h_L + b
    ∇_{h_L} E = w,   ∇_{h_{l−1}} E = J_l(h_{l−1})ᵀ ∇_{h_l} E                    the chain rule, from the top down

A sampler needs this product at every step and nothing else: neither gradients of the weights nor a graph that could give
them. Where an energy is an `nn.Sequential` of the layers in `RULES` with one linear output, `layers` finds them, and a step
on a small net takes about two thirds of the time it takes through autograd. Every other energy goes through autograd.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmcourse.nets.embedding import FourierFeatures
from gmcourse.nets.mlp import MLP

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
NARROW = 16  # inputs; BLAS is slow on products with so few columns, and fast on their transpose
Pull = Callable[[Tensor], Tensor]  # d ↦ Jᵀd, to be called once
Rule = Callable[[nn.Module, Tensor], tuple[Tensor, Pull]]


def _linear(layer: nn.Linear, x: Tensor):
    weight = layer.weight
    narrow = weight.shape[1] < NARROW
    pull = (lambda d: (weight.t().contiguous() @ d.t()).t()) if narrow else (lambda d: d @ weight)
    return F.linear(x, weight, layer.bias), pull


def _silu(_, x: Tensor):
    sigma = x.sigmoid()
    y = x * sigma
    slope = sigma.lerp_(sigma.new_ones(()), y)  # σ + y(1 − σ); in place, like the pull: fresh memory is what takes the time
    return y, slope.mul_


def _tanh(_, x: Tensor):
    y = x.tanh()
    return y, lambda d: torch.ops.aten.tanh_backward(d, y)


def _relu(_, x: Tensor):
    y = x.relu()
    return y, lambda d: torch.ops.aten.threshold_backward(d, y, 0)


def _fourier(layer: FourierFeatures, x: Tensor):
    inputs, columns = layer.frequencies.shape
    phase = x @ layer.frequencies
    sin, cos = phase.sin(), phase.cos()

    def pull(d):
        direct, at_sin, at_cos = d.split((inputs, columns, columns), 1)
        return direct + (layer.frequencies @ (at_sin * cos - at_cos * sin).t()).t()

    return torch.cat([x, sin, cos], 1), pull


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.SiLU: _silu,
    nn.Tanh: _tanh,
    nn.ReLU: _relu,
    FourierFeatures: _fourier,
}


def layers(energy: Callable) -> list[nn.Module] | None:
    """The layers of an energy that `energy_and_score` can differentiate, or None if it is anything else.

    It must end in a linear layer with one output and `nn.Flatten(0)`, which makes (n, 1) to (n,). Modules with hooks or
    parametrizations do more than their rule says, and are left to autograd.

    >>> len(layers(nn.Sequential(MLP(2, 1), nn.Flatten(0))))
    5
    """
    *body, last = _leaves(energy) or [None]
    if type(last) is not nn.Flatten or (last.start_dim, last.end_dim) != (0, -1) or not body:
        return None
    known = all(type(layer) in RULES for layer in body)
    return body if known and type(body[-1]) is nn.Linear and body[-1].out_features == 1 else None


def _leaves(module: Callable) -> list[nn.Module] | None:
    """What nested `nn.Sequential`s and `MLP`s apply, in order; None if there are hooks or it is no module."""
    if not isinstance(module, nn.Module) or any(getattr(module, hooks) for hooks in HOOKS):
        return None
    if type(module) not in (nn.Sequential, MLP):
        return [module]
    leaves = [_leaves(child) for child in module._modules.values()]  # children() would skip a layer that comes twice
    return None if None in leaves else [leaf for group in leaves for leaf in group]


@torch.no_grad()
def energy_and_score(found: list[nn.Module], x: Tensor, *, energy: bool = True) -> tuple[Tensor | None, Tensor]:
    """E(x), shape (n,), or None if it is not wanted, and s(x) = −∇E(x), shape (n, d), for x (n, d)."""
    *body, head = found
    pulls, h = [], x
    for layer in body:
        h, pull = RULES[type(layer)](layer, h)
        pulls.append(pull)
    value = F.linear(h, head.weight, head.bias).flatten() if energy else None
    d = (-head.weight).expand(len(x), -1)
    for pull in reversed(pulls):
        d = pull(d)
    return value, d
