"""Coupling, autoregressive, linear and elementwise layers, by name: builder -> (layer, sampler, tolerance).

Layers come in float64, in eval mode and away from their first weights; sampler(n, generator) draws inputs; the tolerance is
that of log-determinant and inverse. CONTEXTUAL has layers of three coordinates that want a context of two numbers.
"""

import torch
from torch import nn

from gmcourse.flows.autoregressive import InverseAutoregressive, MaskedAutoregressive
from gmcourse.flows.conditioner import conditioner
from gmcourse.flows.coupling import Coupling, alternating, channels, checkerboard, random
from gmcourse.flows.elementwise import Additive, Affine, Elementwise
from gmcourse.flows.inverted import Inverted
from gmcourse.flows.layer import Chain
from gmcourse.flows.linear import ActNorm, Conv1x1, Householder, LULinear, Permutation, Reverse
from gmcourse.flows.masked import MaskedMLP
from gmcourse.flows.monotone import MonotoneIntegral, SigmoidSum
from gmcourse.flows.spline import RationalQuadratic

D, CONTEXT = 3, 2
IMAGE = (4, 2, 2)
TRANSFORMERS = {
    "additive": Additive,
    "affine": Affine,
    "spline": lambda: RationalQuadratic(bins=4),
    "integral": lambda: MonotoneIntegral(units=2, nodes=64, bound=3.0),
    "sigmoids": lambda: SigmoidSum(units=3),
}


def normal(*shape):
    return lambda n, generator=None: 2 * torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def built(make, sampler, tolerance):
    """A function of a seed: the layer, moved off its start, in float64, with what draws its inputs."""

    def build(seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer = make()
            with torch.no_grad():
                for p in layer.parameters():
                    p.add_(0.1 * torch.randn_like(p))
            return layer.double().eval(), sampler, tolerance

    return build


def entry(make, *shape, tolerance=1e-9):
    return built(make, normal(*(shape or (D,))), tolerance)


def coupling(mask, transformer, context=0):
    kept = int(mask.sum())
    net = conditioner(kept + context, (mask.numel() - kept) * transformer.numbers, (8, 8))
    return Coupling(mask, net, transformer)


def autoregressive(transformer, context=0, layer=MaskedAutoregressive, size=D):
    net = MaskedMLP(size, transformer.numbers, (8, 8), order=torch.randperm(size), context=context)
    return layer(net, transformer)


def image_coupling():
    return Coupling(channels(IMAGE[0]), nn.Conv2d(2, 4, 3, padding=1), Affine())


LAYERS = {
    "coupling_random": entry(lambda: coupling(random(5, seed=int(torch.randint(99, ()))), Affine()), 5),
    "coupling_checkerboard": entry(lambda: coupling(checkerboard((1, 2, 4)), Affine()), 1, 2, 4),
    "coupling_channels": entry(image_coupling, *IMAGE),
    "inverse_autoregressive": entry(lambda: autoregressive(Affine(), layer=InverseAutoregressive)),
    "inverted": entry(lambda: Inverted(coupling(alternating(D), Affine()))),
    "permutation": entry(lambda: Permutation(torch.randperm(5)), 5),
    "permutation_of_channels": entry(lambda: Permutation(torch.randperm(4)), *IMAGE),
    "reverse": entry(lambda: Reverse(D)),
    "householder": entry(lambda: Householder(D)),
    "lu": entry(lambda: LULinear(D)),
    "conv1x1": entry(lambda: Conv1x1(IMAGE[0]), *IMAGE),
    "actnorm": entry(lambda: ActNorm(D)),
    "actnorm_of_channels": entry(lambda: ActNorm(IMAGE[0]), *IMAGE),
    "chain": entry(lambda: Chain(LULinear(D), coupling(alternating(D), Affine()), Reverse(D), ActNorm(D))),
}
for name, make in TRANSFORMERS.items():
    LAYERS[f"elementwise_{name}"] = entry(lambda make=make: Elementwise((2, 2), make()), 2, 2)
    LAYERS[f"coupling_{name}"] = entry(lambda make=make: coupling(alternating(D), make()))
    LAYERS[f"autoregressive_{name}"] = entry(lambda make=make: autoregressive(make()))

CONTEXTUAL = {
    "coupling": entry(lambda: coupling(alternating(D), RationalQuadratic(bins=4), CONTEXT)),
    "autoregressive": entry(lambda: autoregressive(Affine(), CONTEXT)),
    "inverse_autoregressive": entry(lambda: autoregressive(Affine(), CONTEXT, InverseAutoregressive)),
    "chain": entry(lambda: Chain(LULinear(D), coupling(alternating(D), Affine(), CONTEXT), Reverse(D))),
}
