"""Planar and radial layers: their formulas, their constraints, and a context per row."""

import pytest
import torch

from gmcourse.flows.inverted import Inverted
from gmcourse.flows.planar import Planar, above_minus_one
from gmcourse.flows.radial import Radial
from gmcourse.flows.reverse import reverse_kl


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [0.1, 3.0, 100.0])
def test_planar_layers_with_any_parameters_are_bijections(size):
    """uᵀw < −1 is bent to the lawful side: the slope along w stays positive."""
    layer = Planar(2).double()
    with torch.no_grad():
        layer.parts.values.copy_(torch.tensor([size, 0.0, -size, 0.3 * size, 0.1]))  # wᵀu = −size²
    w, u, _, product = (part.detach() for part in layer.bent())
    assert float((w * u).sum()) == pytest.approx(float(product)) and float(product) > -1
    x = torch.stack([torch.linspace(-3, 3, 2001), torch.zeros(2001)], 1).double()
    z, contribution = layer(x)
    assert (z[1:, 0] > z[:-1, 0]).all() and contribution.isfinite().all()
    assert torch.allclose(layer.inverse(z), x, atol=1e-8)


def test_planar_layers_are_lawful_in_single_precision_when_wu_is_large():
    layer = Planar(3)
    w = torch.tensor([120.0, -180.0, 210.0])
    with torch.no_grad():
        layer.parts.values.copy_(torch.cat([w, -w * 0.9 + torch.tensor([0.3, 0.2, 0.1]), torch.tensor([0.1])]))
    w, u, _, product = (part.detach().double() for part in layer.bent())
    assert float((w * u).sum()) == pytest.approx(float(product), abs=1e-4) and float(product) > -1  # wᵀu = −8e4


def test_planar_parameters_above_zero_are_left_alone():
    a = torch.tensor([0.0, 0.5, 40.0])
    assert torch.equal(above_minus_one(a), a)
    assert (above_minus_one(torch.linspace(-50, 50, 1001)).diff() >= 0).all()


def test_radial_layer_scales_around_its_centre_as_the_formula_says():
    layer = Radial(3).double()
    centre, alpha, beta = (part[0] for part in layer.shape())
    direction = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
    r, h = 1.7, 1 / (alpha + 1.7)
    z, contribution = layer((centre + r * direction)[None])
    slope = -h.square()  # h′
    assert torch.allclose(z[0], centre + r * (1 + beta * h) * direction)
    assert torch.allclose(contribution, ((1 + beta * h) ** 2 * (1 + beta * h + beta * slope * r)).log())


def test_radial_layers_are_smooth_at_the_centre_and_bijections_with_any_parameters():
    layer = Radial(2).double()
    with torch.no_grad():
        layer.parts.values.copy_(torch.tensor([1.0, -1.0, -2.0, -50.0]))
    x = torch.tensor([[1.0, -1.0], [1.0, -0.99], [4.0, 2.0]], dtype=torch.float64, requires_grad=True)
    z, contribution = layer(x)
    assert torch.allclose(z[0], x[0]) and torch.allclose(layer.inverse(z), x, atol=1e-10)
    assert torch.autograd.grad(z.sum() + contribution.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("make", [Planar, Radial])
def test_a_context_gives_every_row_its_own_map(make):
    layer = make(2, context=3).double()
    x, context = torch.randn(2, 2, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    z, contribution = layer(x, context)
    for i in range(2):
        alone, part = layer(x[i : i + 1], context[i : i + 1])
        assert torch.allclose(z[i], alone[0]) and torch.allclose(contribution[i], part[0])
    assert torch.allclose(layer.inverse(z, context), x, atol=1e-8)
    assert not torch.allclose(layer(x, context + 1)[0], z)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2\); got \(4, 3\)"):
        Planar(2)(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"context must have shape \(n, 3\); got None"):
        Planar(2, context=3)(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"context must have shape \(n, 3\); got \(4, 2\)"):
        Radial(2, context=3).invert(torch.zeros(4, 2), torch.zeros(4, 2))


def test_builders_exchange_directions_and_refuse_images():
    from gmcourse.flows.builders_free import planar_flow, sylvester_flow

    flow = planar_flow(layers=3, cheap="sampling")
    assert all(isinstance(layer, Inverted) for layer in flow.chain.layers)
    x, log_prob = flow.sample_and_log_prob(20, generator=seeded())
    assert torch.allclose(flow.log_prob(x), log_prob, atol=1e-4)
    reverse_kl(flow, lambda x: x.square().sum(1), flow.base.sample(16)).mean().backward()
    assert all(p.grad.isfinite().all() for p in flow.parameters())
    with pytest.raises(ValueError, match=r"event_shape must be \(d,\).*; got \(1, 4, 4\)"):
        sylvester_flow((1, 4, 4))
    with pytest.raises(ValueError, match="cheap must be 'density' or 'sampling'; got 'both'"):
        planar_flow(cheap="both")
