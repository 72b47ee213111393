r"""Flows by name: layers stacked data → noise over a standard normal, with defaults that train on 2-D data.

    nice                  additive couplings, then one learned scaling (Dinh et al. 2014)
    real_nvp              affine couplings (Dinh et al. 2016; thesis 2.2.2)
    maf, iaf              affine autoregressive layers, cheap density or cheap samples (Papamakarios 2017; Kingma 2016)
    neural_spline_flow    rational-quadratic splines, coupling or autoregressive (Durkan et al. 2019)

Masks alternate and orders turn round from layer to layer, so that every coordinate is moved and sees every other.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import nn

from gmcourse.flows.autoregressive import InverseAutoregressive, MaskedAutoregressive
from gmcourse.flows.conditioner import conditioner
from gmcourse.flows.coupling import Coupling, alternating
from gmcourse.flows.elementwise import Additive, Affine, Elementwise, Transformer
from gmcourse.flows.flow import Flow
from gmcourse.flows.layer import Layer
from gmcourse.flows.masked import MaskedMLP
from gmcourse.flows.spline import RationalQuadratic
from gmcourse.flows.squeeze import Flatten
from gmcourse.model import StandardNormal, check_count

Widths = Sequence[int]
Activation = type[nn.Module]


def nice(
    event_shape: Widths = (2,), *, layers: int = 6, hidden: Widths = (64, 64), activation: Activation = nn.SiLU,
    context: int = 0,
) -> Flow:  # fmt: skip
    """Additive couplings, volume-preserving but for the scaling at the end."""
    stack = _couplings(event_shape, layers, hidden, activation, context, Additive)
    return _flow(event_shape, [*stack, Elementwise((prod(event_shape),), Affine())], context)


def real_nvp(
    event_shape: Widths = (2,), *, layers: int = 6, hidden: Widths = (64, 64), activation: Activation = nn.SiLU,
    bound: float = 5.0, context: int = 0,
) -> Flow:  # fmt: skip
    """Affine couplings; `bound` is that of the log-scales."""
    stack = _couplings(event_shape, layers, hidden, activation, context, lambda: Affine(bound))
    return _flow(event_shape, stack, context)


def maf(
    event_shape: Widths = (2,), *, layers: int = 6, hidden: Widths = (64, 64), activation: Activation = nn.SiLU,
    bound: float = 5.0, context: int = 0,
) -> Flow:  # fmt: skip
    """Masked autoregressive flow: density in one pass, samples in d steps per layer."""
    nets = _masked_nets(event_shape, layers, hidden, activation, context, Affine.numbers)
    return _flow(event_shape, [MaskedAutoregressive(net, Affine(bound)) for net in nets], context)


def iaf(
    event_shape: Widths = (2,), *, layers: int = 6, hidden: Widths = (64, 64), activation: Activation = nn.SiLU,
    bound: float = 5.0, context: int = 0,
) -> Flow:  # fmt: skip
    """Inverse autoregressive flow: samples and their density in one pass, density of given data in d steps per layer."""
    nets = _masked_nets(event_shape, layers, hidden, activation, context, Affine.numbers)
    return _flow(event_shape, [InverseAutoregressive(net, Affine(bound)) for net in nets], context)


def neural_spline_flow(
    event_shape: Widths = (2,), *, kind: str = "coupling", layers: int = 2, bins: int = 32, bound: float = 3.0,
    hidden: Widths = (64, 64), activation: Activation = nn.SiLU, context: int = 0,
) -> Flow:  # fmt: skip
    """Rational-quadratic splines on [−bound, bound] with `bins` bins; `kind` is "coupling" or "autoregressive".

    Outside of [−bound, bound] a spline is the identity, so the data should lie within.
    """
    if kind not in ("coupling", "autoregressive"):
        raise ValueError(f"kind must be 'coupling' or 'autoregressive'; got {kind!r}")
    if kind == "coupling":
        stack = _couplings(event_shape, layers, hidden, activation, context, lambda: RationalQuadratic(bins, bound))
    else:
        nets = _masked_nets(event_shape, layers, hidden, activation, context, 3 * bins - 1)
        stack = [MaskedAutoregressive(net, RationalQuadratic(bins, bound)) for net in nets]
    return _flow(event_shape, stack, context)


def _couplings(
    event_shape: Widths, layers: int, hidden: Widths, activation: Activation, context: int,
    transformer: Callable[[], Transformer],
) -> list[Layer]:  # fmt: skip
    """Couplings with alternating masks."""
    if (size := prod(event_shape)) < 2:
        raise ValueError(f"event_shape must have at least two values for couplings; got {tuple(event_shape)}")
    stack = []
    for k in range(check_count(layers, "layers")):
        mask, move = alternating(size, flip=k % 2 == 1), transformer()
        kept = int(mask.sum())
        net = conditioner(kept + context, (size - kept) * move.numbers, hidden, activation)
        stack.append(Coupling(mask, net, move))
    return stack


def _masked_nets(
    event_shape: Widths, layers: int, hidden: Widths, activation: Activation, context: int, numbers: int
) -> list[MaskedMLP]:
    """Masked nets with orders that turn round."""
    size = prod(event_shape)
    orders = [torch.arange(size), torch.arange(size).flip(0)]
    return [
        MaskedMLP(size, numbers, hidden, order=orders[k % 2], context=context, activation=activation)
        for k in range(check_count(layers, "layers"))
    ]


def _flow(event_shape: Widths, layers: list[Layer], context: int) -> Flow:
    """Over a standard normal; events that are not vectors are laid out as one first."""
    size = prod(event_shape)
    flatten = [] if tuple(event_shape) == (size,) else [Flatten(event_shape)]
    return Flow(StandardNormal(size), [*flatten, *layers], event_shape=event_shape, context=context)
