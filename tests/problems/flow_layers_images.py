"""The layers of image flows, by name: builder -> (layer, sampler, tolerance).

Layers come in float64, in eval mode and away from their first weights; sampler(n, generator) draws inputs; the tolerance is
that of log-determinant and inverse. Dequantisation is no bijection: its tests are in tests/flows/test_dequantise.py.
"""

import torch
from problems.flow_layers import built
from torch import nn

from gmcourse.flows.conditional import Conditional
from gmcourse.flows.coupling import Coupling, channels
from gmcourse.flows.dequantise import Dequantise, Logit, VariationalDequantise
from gmcourse.flows.elementwise import Affine
from gmcourse.flows.glow import SigmoidAffine, glow, image_real_nvp
from gmcourse.flows.layer import Chain
from gmcourse.flows.split import Split
from gmcourse.flows.squeeze import Flatten, Squeeze
from gmcourse.nets.pixel import PixelNet

SHAPE = (4, 2, 2)


def _normal(shape):
    return lambda n, generator=None: torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def _uniform(shape):
    return lambda n, generator=None: torch.rand(n, *shape, generator=generator, dtype=torch.float64)


def _entry(make, shape=SHAPE, sampler=_normal, tolerance=1e-8):
    return built(make, sampler(shape), tolerance)


def bijection(flow):
    """A flow's layers without dequantisation and logit."""
    return Chain(*flow.chain.layers[2:])


LAYERS = {
    "squeeze": _entry(lambda: Squeeze((1, 4, 4)), (1, 4, 4)),
    "flatten": _entry(lambda: Flatten(SHAPE)),
    "split": _entry(lambda: Split(SHAPE, Flatten((2, 2, 2)), width=8)),
    "glow_coupling": _entry(lambda: Coupling(channels(4), PixelNet(2, 4, width=8), SigmoidAffine())),
    "logit": _entry(lambda: Logit(margin=0.05), (3,), _uniform),
    "glow": _entry(lambda: bijection(glow((1, 4, 4), depth=2, width=8)), (1, 4, 4)),
    "image_real_nvp": _entry(lambda: bijection(image_real_nvp((1, 4, 4), depth=2, width=8)), (1, 4, 4)),
}

CONDITIONAL = {"conditional": lambda: Conditional(nn.Linear(2, 6), Affine())}  # (n, 3), given a context (n, 2)

STOCHASTIC = {
    "dequantise": lambda: Dequantise((3,), bins=17),
    "variational_dequantise": lambda: VariationalDequantise((3,), [Logit()], bins=17),
}
