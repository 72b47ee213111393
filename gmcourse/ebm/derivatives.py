r"""The score of an energy, and how it changes along directions: what score matching is made of.

    s(x) = −∇E(x),        vᵀ∇s v = −vᵀ(∇²E) v

By autograd the second is a derivative of a derivative. A plain feed-forward net a_l = W_l h_{l−1} + b_l, h_l = φ(a_l) has it
in one pass up, on which the tangents ȧ_l = ∂a_l/∂x v ride along, and one pass down that gives ∂E/∂h_l and ends in ∇E:

    vᵀ(∇²E) v = Σ_l Σ_j (∂E/∂h_lj) φ″(a_lj) (ȧ_lj)²                        only what bends has a second derivative

These passes are ordinary operations, so one backward pass through them gives the gradient for the weights: a step of
sliced score matching takes about 0.6 of the time of two nested derivatives. Every other energy goes through autograd.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmcourse.ebm.energy import Energy, score, values
from gmcourse.nets.confined import Confined
from gmcourse.nets.embedding import FourierFeatures
from gmcourse.sampling import backprop

KINKS = {  # names of autograd's nodes, without the number at their end
    "ReluBackward": "ReLU",
    "LeakyReluBackward": "LeakyReLU",
    "PreluKernelBackward": "PReLU",
    "RreluWithNoiseBackward": "RReLU",
    "HardtanhBackward": "Hardtanh or ReLU6",
    "HardswishBackward": "Hardswish",
    "HardsigmoidBackward": "Hardsigmoid",
    "HardshrinkBackward": "Hardshrink",
    "SoftshrinkBackward": "Softshrink",
    "ThresholdBackward": "Threshold",
    "MaxPool2DBackward": "max-pooling",
    "MaxPool2DWithIndicesBackward": "max-pooling",
    "MaxPool3DWithIndicesBackward": "max-pooling",
    "AdaptiveMaxPool2DBackward": "max-pooling",
    "AdaptiveMaxPool3DBackward": "max-pooling",
    "FractionalMaxPool2DBackward": "max-pooling",
    "FractionalMaxPool3DBackward": "max-pooling",
    "MaximumBackward": "maximum",
    "MinimumBackward": "minimum",
    "FmaxBackward": "fmax",
    "FminBackward": "fmin",
    "MaxBackward": "max",
    "MinBackward": "min",
    "AmaxBackward": "amax",
    "AminBackward": "amin",
    "AminmaxBackward": "aminmax",
    "CummaxBackward": "cummax",
    "CumminBackward": "cummin",
    "TopkBackward": "topk",
    "KthvalueBackward": "kthvalue",
    "MedianBackward": "median",
}
GUARD = 20.0  # clamps at larger numbers keep logarithms and exponentials finite, and bend nothing that counts
ADVICE = "Take a smooth activation (SiLU, Softplus, Tanh), or denoising score matching"


def trainable_score(energy: Energy, x: Tensor) -> Tensor:
    """s = −∇E at x (n, *event_shape), same shape, with a graph that leads to the weights of the energy, not to x."""
    if found := _plain(energy, x):
        return _passes(found, x.detach(), None)[0]
    return score(energy, x.detach(), create_graph=torch.is_grad_enabled())


def score_and_divergence(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """s at x (n, *event_shape), same shape, and tr ∇s = −tr ∇²E, (n,), with a graph that leads to the weights and to x.

    For low dimensions: a plain net takes a tangent for each, any other energy a backward pass.
    """
    if type(energy) is Confined:
        s, trace = score_and_divergence(energy.net, x)
        return s - 2 * energy.weight * x, trace - 2 * energy.weight * x.shape[1:].numel()
    if found := _plain(energy, x):
        s, along = _passes(found, x, axes(x))
        return s, along.sum(0)
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        at = x if graph and x.requires_grad else x.detach().requires_grad_()
        # 0·: the score of a plane, which is constant, has a graph, too
        s = score(lambda y: values(energy, y) + 0 * y.square().flatten(1).sum(1), at, create_graph=True)
        columns = enumerate(s.flatten(1).sum(0))
        own = [
            torch.autograd.grad(c, at, create_graph=graph, retain_graph=True)[0].flatten(1)[:, i] for i, c in columns
        ]
        trace = torch.stack(own).sum(0)
    return (s, trace) if graph else (s.detach(), trace)


def score_and_slope(energy: Energy, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """s as `trainable_score` gives it, and vᵀ∇s v, (k, n), for directions v (k, n or 1, *event_shape).

    Raises ValueError for an energy whose gradient jumps, since no second derivative tells of a jump: by name, where autograd
    has one for what jumps, and where all slopes are 0 though the score is not the same for all x (`where`, masks, gathers).
    By name means that a kink is refused, too, where what follows smooths it, or takes it off again: detach the maximum
    in a logarithm of sums of your own. A clamp is refused only where it cuts off, at less than 20.
    """
    if found := _plain(energy, x):
        return _passes(found, x.detach(), v)
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        s = score(lambda y: _smooth(values(energy, y), y), at, create_graph=True)
    pulled = _pulled(s, at, v)
    if len(x) > 1 and not pulled.any() and _varies(s.detach()):
        raise ValueError(
            "energy must have a continuous gradient to be differentiated twice; got one whose score differs among the "
            f"{len(x)} points of x, but whose second derivative is 0 at all of them. {ADVICE}"
        )
    return (s if torch.is_grad_enabled() else s.detach()), _dot(v, pulled)


def slope_along(field: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """vᵀ∇f v, (k, n), of a field f (n, *event_shape) that was computed of x, for v (k, n or 1, *event_shape)."""
    return _dot(v, _pulled(field, x, v))


def _pulled(field: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """(∇f)ᵀv, (k, n, *event_shape)."""
    v = v.expand(len(v), *x.shape)
    if not field.requires_grad:
        return torch.zeros_like(v)
    many = len(v) > 1
    (pulled,) = torch.autograd.grad(
        field, x, v if many else v[0], is_grads_batched=many, create_graph=torch.is_grad_enabled(), materialize_grads=True
    )
    return pulled.expand_as(v)


def _dot(v: Tensor, pulled: Tensor) -> Tensor:
    """vᵀ(∇f)ᵀv, (k, n)."""
    return (v * pulled).reshape(*pulled.shape[:2], -1).sum(2)


def _varies(s: Tensor) -> bool:
    """Whether s (n, *event_shape) differs among its rows by more than rounding does."""
    return bool((s - s[:1]).abs().max() > torch.finfo(s.dtype).eps ** 0.5 * s.abs().max())


def axes(x: Tensor) -> Tensor:
    """The d unit vectors of the events in x (n, *event_shape), as directions (d, 1, *event_shape)."""
    d = x[0].numel()
    return torch.eye(d, dtype=x.dtype, device=x.device).reshape(d, 1, *x.shape[1:])


def signs(k: int, x: Tensor) -> Tensor:
    """Random directions of ±1, (k, n, *event_shape), with mean 0 and covariance I."""
    return torch.empty(k, *x.shape, dtype=x.dtype, device=x.device).bernoulli_().mul_(2).sub_(1)


def _smooth(value: Tensor, x: Tensor) -> Tensor:
    """The energies `value` (n,) of x, or ValueError if there is an activation with a kink on the way from x to them.

    The way is read off autograd's record, so that functions are found as well as modules.
    """
    users, todo, found = defaultdict(list), [value.grad_fn] if value.grad_fn else [], []
    while todo:
        node = todo.pop()
        for source, _ in node.next_functions:
            if source is not None:
                if source not in users:
                    todo.append(source)
                users[source].append(node)
                if getattr(source, "variable", None) is x:
                    found.append(source)
    seen = set(found)
    while found:
        node = found.pop()
        if kink := KINKS.get(node.name().rstrip("0123456789")) or _sometimes(node):
            raise ValueError(
                f"energy must have a continuous gradient to be differentiated twice; got {kink}, whose second derivative "
                f"is 0 but for its kinks. {ADVICE}"
            )
        fresh = [user for user in users[node] if user not in seen]
        seen.update(fresh)
        found += fresh
    return value


def _sometimes(node) -> str | None:
    """What has a kink with some settings only: ELU unless α = 1; |x| for real x; a clamp that cuts off."""
    name = node.name().rstrip("0123456789")
    if name == "EluBackward" and abs(node._saved_alpha * node._saved_input_scale - 1) > 1e-6:
        return "ELU with alpha other than 1, or SELU"
    if name == "AbsBackward" and not node._saved_self.is_complex():
        return "abs"
    if name == "LinalgVectorNormBackward" and node._saved_ord in (1, math.inf, -math.inf):
        return f"the norm of order {node._saved_ord:g}"
    if name in ("ClampBackward", "ClampMinBackward", "ClampMaxBackward") and _binds(node):
        return "clamp"
    return None


def _binds(node) -> bool:
    """Whether a clamp at numbers of ordinary size cuts off some of what comes to it."""
    came = node._saved_self
    low, high = (getattr(node, f"_saved_{side}", None) for side in ("min", "max"))
    bounds = [(torch.as_tensor(bound).to(came), sign) for bound, sign in ((low, 1), (high, -1)) if bound is not None]
    return any(bool(((sign * came < sign * bound) & (bound.abs() < GUARD)).any()) for bound, sign in bounds)


def _plain(energy: Energy, x: Tensor) -> list[nn.Module] | None:
    """The layers of an energy that `_passes` can differentiate, else None."""
    if x.ndim != 2 or torch.is_autocast_enabled(x.device.type):
        return None
    found = backprop.layers(energy)
    return found if found and all(type(layer) in RULES for layer in found) else None


def _passes(found: Sequence[nn.Module], x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """s (n, d) and, for directions v (k, n or 1, d), vᵀ∇s v (k, n): up with h and the tangents t, down with d = −∂E/∂h."""
    *body, head = found
    h, t, way_down = x, v, []
    for layer in body:
        h, t, pull, bend = RULES[type(layer)](layer, h, t)
        way_down.append((pull, bend))
    d, slope = (-head.weight).expand(len(x), -1), None if v is None else x.new_zeros(len(v), len(x))
    for pull, bend in reversed(way_down):
        if bend is not None:
            slope = slope + bend(d)
        d = pull(d)
    return d, slope


def _linear(layer: nn.Linear, h: Tensor, t: Tensor | None):
    weight = layer.weight
    return F.linear(h, weight, layer.bias), None if t is None else t @ weight.mT, lambda d: d @ weight, None


def _silu(_, a: Tensor, t: Tensor | None):
    sigma = a.sigmoid()
    h, rest = a * sigma, 1 - sigma
    slope = torch.addcmul(sigma, h, rest)  # φ′ = σ + φ(1 − σ), φ″ = (1 − σ)(φ′ + σ(1 − φ))
    return _bent(h, slope, lambda: rest * torch.addcmul(slope, sigma, 1 - h), t)


def _tanh(_, a: Tensor, t: Tensor | None):
    h = a.tanh()
    slope = 1 - h.square()
    return _bent(h, slope, lambda: -2 * h * slope, t)


def _bent(h: Tensor, slope: Tensor, curvature: Callable[[], Tensor], t: Tensor | None):
    """What an activation that works on each number alone does to h, tangents, and the pass down."""
    if t is None:
        return h, None, lambda d: d * slope, None
    return h, t * slope, lambda d: d * slope, lambda d: (d * curvature() * t.square()).sum(2)


def _fourier(layer: FourierFeatures, x: Tensor, t: Tensor | None):
    inputs, columns = layer.frequencies.shape
    phase = x @ layer.frequencies
    sin, cos = phase.sin(), phase.cos()
    h = torch.cat([x, sin, cos], 1)

    def pull(d: Tensor) -> Tensor:
        direct, at_sin, at_cos = d.split((inputs, columns, columns), 1)
        return direct + (at_sin * cos - at_cos * sin) @ layer.frequencies.mT

    if t is None:
        return h, None, pull, None
    speed = t @ layer.frequencies

    def bend(d: Tensor) -> Tensor:
        _, at_sin, at_cos = d.split((inputs, columns, columns), 1)
        return ((at_sin * sin + at_cos * cos) * speed.square()).sum(2).neg()

    return h, torch.cat([t.expand(-1, len(x), -1), cos * speed, -sin * speed], 2), pull, bend


RULES = {nn.Linear: _linear, nn.SiLU: _silu, nn.Tanh: _tanh, FourierFeatures: _fourier}
