"""Gradients through inverses that are solved for: what the contract of all layers (test_contract.py) does not look at."""

import pytest
import torch
from problems.flow_layers_free import LAYERS

every_layer = pytest.mark.parametrize("name", LAYERS)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def autograd_jacobian(layer, x):
    """∂z/∂x of every row (n, d, d); rows do not see each other."""
    return torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum(0), x).transpose(0, 1)


@every_layer
def test_gradients_of_the_inverse_are_those_of_the_implicit_function(name):
    """∂x/∂z = (∂z/∂x)⁻¹, and with θ: 0 = ∂z/∂x dx + ∂z/∂θ dθ."""
    layer, sampler, tolerance = LAYERS[name]()
    x, weights = sampler(4, seeded()), sampler(4, seeded(2))
    z = layer(x)[0].detach().requires_grad_()
    parameters = list(layer.parameters())
    by_z, *found = torch.autograd.grad((layer.invert(z)[0] * weights).sum(), [z, *parameters], allow_unused=True)
    pulled = torch.linalg.solve(autograd_jacobian(layer, x).mT, weights[:, :, None])[:, :, 0]
    wanted = torch.autograd.grad(-(layer(x)[0] * pulled).sum(), parameters, allow_unused=True)
    slack = 100 * tolerance
    assert torch.allclose(by_z, pulled, rtol=slack, atol=slack)
    for a, b in zip(found, wanted, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=slack, atol=slack)


@every_layer
def test_gradients_of_the_contribution_at_the_inverse_take_the_moving_point_along(name):
    layer, sampler, tolerance = LAYERS[name]()
    z = sampler(3, seeded())
    parameter = next(layer.parameters())
    (found,) = torch.autograd.grad(layer.invert(z)[1].sum(), parameter)
    direction = torch.randn(parameter.shape, generator=seeded(4), dtype=torch.float64)
    ends = []
    with torch.no_grad():
        for h in (1e-5, -2e-5):
            parameter.add_(h * direction)
            ends.append(float(layer.invert(z)[1].sum()))
    assert float((found * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-5)


@every_layer
def test_no_gradients_are_kept_where_none_are_wanted_and_the_map_is_the_same(name):
    layer, sampler, _ = LAYERS[name]()
    x = sampler(5, seeded())
    wanted = [part.detach() for part in (*layer(x), *layer.invert(x))]
    with torch.no_grad():
        found = [*layer(x), *layer.invert(x)]
    assert not any(part.requires_grad for part in found)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(found, wanted, strict=True))
