"""What every layer of a flow owes its callers, tried on all of them."""

import importlib
import inspect
import io
import pkgutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import flow_layers, flow_layers_free, flow_layers_images

import gmcourse.flows
from gmcourse.flows.layer import Layer

LAYERS = {**flow_layers.LAYERS, **flow_layers_free.LAYERS, **flow_layers_images.LAYERS}
ELSEWHERE = {**flow_layers_images.CONDITIONAL, **flow_layers_images.STOCHASTIC}  # not plain bijections: tests of their own
ON_AN_INTERVAL = {"logit"}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_contextual = pytest.mark.parametrize("name", flow_layers.CONTEXTUAL)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def log_det(function, x):
    """log|det ∂z/∂x| of every row, by autograd; rows do not see each other."""
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x).flatten(1).sum(0), x)
    return torch.linalg.slogdet(jacobian.transpose(0, 1).flatten(2)).logabsdet


def public_layers():
    """All concrete public subclasses of Layer in the package, found by importing every module of it."""
    found = {}
    for module in pkgutil.iter_modules(gmcourse.flows.__path__, "gmcourse.flows."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(value) and issubclass(value, Layer) and not inspect.isabstract(value):
                if not name.startswith("_"):
                    found[name] = value
    return found


def test_no_public_layer_is_missing_from_this_contract():
    built = [build()[0] for build in LAYERS.values()] + [make() for make in ELSEWHERE.values()]
    tried = {type(part) for layer in built for part in layer.modules()}
    assert {name for name, kind in public_layers().items() if kind not in tried} == set()


@every_layer
def test_inverse_undoes_forward_and_reports_the_contribution_of_forward(name):
    layer, sampler, tolerance = LAYERS[name]()
    x = sampler(50, seeded())
    z, contribution = layer(x)
    back, found = layer.invert(z)
    assert z.dtype == contribution.dtype == torch.float64
    assert len(z) == 50 and contribution.shape == found.shape == (50,)
    assert torch.allclose(back, x, rtol=0, atol=tolerance)
    assert torch.allclose(found, contribution, rtol=0, atol=tolerance)
    assert torch.equal(layer.inverse(z), back)


@every_layer
def test_inverse_undoes_forward_in_single_precision(name):
    layer, sampler, _ = LAYERS[name]()
    layer, x = layer.float(), sampler(50, seeded()).float()
    z, contribution = layer(x)
    back, _ = layer.invert(z)
    assert z.dtype == contribution.dtype == back.dtype == torch.float32
    error = (back - x).abs() / (1 + x.abs())
    assert error.median() < 1e-6 and error.max() < 2e-5  # single rows may sit where the map is steep


@every_layer
def test_contribution_is_the_log_determinant_of_the_autograd_jacobian(name):
    layer, sampler, tolerance = LAYERS[name]()
    x = sampler(6, seeded())
    assert torch.allclose(layer(x)[1], log_det(lambda x: layer(x)[0], x), rtol=0, atol=max(tolerance, 1e-8))


@every_layer
def test_every_parameter_gets_a_finite_gradient_that_is_not_all_zero(name):
    layer, sampler, _ = LAYERS[name]()
    x = sampler(50, seeded()).requires_grad_()
    z, contribution = layer(x)
    (z.square().flatten(1).sum(1) - contribution).mean().backward()
    for key, p in [*layer.named_parameters(), ("x", x)]:
        assert p.grad is not None and p.grad.isfinite().all(), key
        assert p.grad.abs().max() > 0, key


@every_layer
def test_inverse_is_differentiable(name):
    layer, sampler, tolerance = LAYERS[name]()
    x = sampler(4, seeded())
    z = layer(x)[0].detach()
    found = log_det(layer.inverse, z)
    assert torch.allclose(found, -layer(x)[1], rtol=0, atol=max(100 * tolerance, 1e-7))


@every_layer
def test_far_in_the_tails_everything_is_finite(name):
    if name in ON_AN_INTERVAL:
        pytest.skip("its data lie in an interval")
    layer, sampler, _ = LAYERS[name]()
    layer = layer.float()
    x = sampler(64, seeded()).float()
    x = torch.cat([x * 10.0**k for k in range(1, 5)]).clamp(-1e4, 1e4).requires_grad_()
    z, contribution = layer(x)
    back, found = layer.invert(z)
    for value in (z, contribution, back, found):
        assert value.isfinite().all()
    (z.flatten(1).mean(1) + contribution).mean().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@every_layer
def test_a_saved_layer_is_the_same_map_when_loaded(name):
    builders = LAYERS[name]
    layer, sampler, _ = builders()
    other = builders(seed=1)[0]  # of other buffers, too: what the map needs and does not save, shows
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn(p.shape, generator=seeded(), dtype=p.dtype))
    stored = io.BytesIO()
    torch.save(layer.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True))
    x = sampler(5, seeded())
    for a, b in zip((*layer(x), layer.inverse(layer(x)[0])), (*other(x), other.inverse(other(x)[0])), strict=True):
        assert torch.equal(a, b)


@every_layer
def test_a_batch_of_one_gives_what_the_row_gives_in_a_larger_batch(name):
    layer, sampler, tolerance = LAYERS[name]()
    x = sampler(5, seeded())
    for whole, one in zip(layer(x), layer(x[2:3]), strict=True):
        assert torch.allclose(whole[2:3], one, rtol=0, atol=tolerance)
    z = layer(x)[0]
    for whole, one in zip(layer.invert(z), layer.invert(z[2:3]), strict=True):
        assert torch.allclose(whole[2:3], one, rtol=0, atol=tolerance)


@pytest.mark.gpu
@every_layer
def test_a_cuda_device_gives_what_the_cpu_gives(name):
    layer, sampler, tolerance = LAYERS[name]()
    x = sampler(5, seeded())
    z, contribution = layer(x)
    layer = layer.cuda()
    found, there = layer(x.cuda())
    assert found.is_cuda and there.is_cuda
    assert torch.allclose(found.cpu(), z, rtol=0, atol=tolerance)
    assert torch.allclose(there.cpu(), contribution, rtol=0, atol=tolerance)
    assert torch.allclose(layer.inverse(found).cpu(), x, rtol=0, atol=10 * tolerance)


@every_contextual
def test_with_context_the_map_changes_and_stays_a_bijection(name):
    layer, sampler, tolerance = flow_layers.CONTEXTUAL[name]()
    x, contexts = sampler(6, seeded()) / 4, torch.randn(2, 6, flow_layers.CONTEXT, generator=seeded(), dtype=torch.float64)
    z, contribution = layer(x, contexts[0])
    assert torch.allclose(layer.inverse(z, contexts[0]), x, rtol=0, atol=tolerance)
    assert torch.allclose(layer.invert(z, contexts[0])[1], contribution, rtol=0, atol=tolerance)
    assert torch.allclose(contribution, log_det(lambda x: layer(x, contexts[0])[0], x), rtol=0, atol=1e-8)
    assert (layer(x, contexts[1])[0] - z).abs().amax(1).min() > 1e-4


SHAPED = {
    "coupling": lambda d: flow_layers.coupling(flow_layers.random(d), flow_layers.Affine()),
    "spline": lambda d: flow_layers.coupling(flow_layers.alternating(d), flow_layers.RationalQuadratic(bins=3)),
    "autoregressive": lambda d: flow_layers.autoregressive(flow_layers.Affine(), size=d),
    "inverse": lambda d: flow_layers.autoregressive(
        flow_layers.Affine(), size=d, layer=flow_layers.InverseAutoregressive
    ),
    "lu": lambda d: flow_layers.LULinear(d),
    "householder": lambda d: flow_layers.Householder(d),
}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(SHAPED)), st.integers(1, 12), st.integers(1, 9), st.integers(0, 99))
def test_layers_of_any_size_are_bijections_of_any_batch(name, size, n, seed):
    size += name in ("coupling", "spline")  # which want at least two coordinates
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer, x = SHAPED[name](size).double(), torch.randn(n, size, dtype=torch.float64)
    z, contribution = layer(x)
    back, found = layer.invert(z)
    assert z.shape == (n, size)
    assert torch.allclose(back, x, rtol=0, atol=1e-9) and torch.allclose(found, contribution, rtol=0, atol=1e-9)
    assert torch.allclose(contribution, log_det(lambda x: layer(x)[0], x), rtol=0, atol=1e-8)
