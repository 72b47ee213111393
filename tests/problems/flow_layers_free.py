"""The layers without a closed-form inverse, by name: builder -> (layer, sampler, tolerance).

Layers come in float64 and in eval mode; sampler(n, generator) draws inputs; the tolerance is that of log-determinant and
inverse.
"""

import torch

from gmcourse.flows.continuous import Continuous
from gmcourse.flows.inverted import Inverted
from gmcourse.flows.lipschitz import LipschitzMLP
from gmcourse.flows.planar import Planar
from gmcourse.flows.radial import Radial
from gmcourse.flows.residual import Residual
from gmcourse.flows.sylvester import Sylvester
from gmcourse.flows.velocity import Velocity


def _normal(dim):
    return lambda n, generator=None: 2 * torch.randn(n, dim, generator=generator, dtype=torch.float64)


def _entry(make, dim=3, tolerance=1e-8):
    def build(seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make(dim).double().eval(), _normal(dim), tolerance

    return build


def residual(dim, **options):
    net = LipschitzMLP(dim, (8, 8), lipschitz=0.6)
    with torch.no_grad():
        for linear in net.linears:  # away from orthogonal weights, whose norm any power iteration finds at once
            linear.weight.add_(0.2 * torch.randn_like(linear.weight))
    return Residual(net, **options)


LAYERS = {
    "planar": _entry(Planar),
    "planar_inverted": _entry(lambda dim: Inverted(Planar(dim))),
    "radial": _entry(Radial),
    "sylvester_orthogonal": _entry(lambda dim: Sylvester(dim, 2)),
    "sylvester_householder": _entry(lambda dim: Sylvester(dim, kind="householder")),
    "sylvester_triangular": _entry(lambda dim: Sylvester(dim, kind="triangular", flip=True)),
    "residual": _entry(residual),
    "residual_series": _entry(lambda dim: residual(dim, log_det="series", terms=40)),
    "continuous": _entry(lambda dim: Continuous(Velocity(dim, (8, 8), input_scale=1.0), steps=8)),
}
