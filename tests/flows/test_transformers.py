"""Transformers against formulas that share no code with them, autograd, and another library."""

import numpy as np
import pytest
import torch
from problems.flow_layers import TRANSFORMERS
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import expit, logit, softmax

from gmcourse.flows import Affine, Elementwise, MonotoneIntegral, RationalQuadratic, SigmoidSum

every_transformer = pytest.mark.parametrize("name", TRANSFORMERS)
BOUND, BINS, MINIMUM = 3.0, 6, 1e-4


def drawn(transformer, n=400, scale=1.0, spread=2.0):
    generator = torch.Generator().manual_seed(0)
    x = spread * torch.randn(n, generator=generator, dtype=torch.float64)
    return x, scale * torch.randn(transformer.numbers, n, generator=generator, dtype=torch.float64)


@every_transformer
def test_log_slope_is_the_logarithm_of_the_derivative(name):
    transformer = TRANSFORMERS[name]()
    x, h = drawn(transformer, scale=0.5)
    x.requires_grad_()
    z, log_slope = transformer(x, h)
    slope = torch.autograd.grad(z.sum(), x)[0]
    assert (slope > 0).all()
    assert torch.allclose(log_slope, slope.log(), rtol=0, atol=1e-9)


@every_transformer
def test_inverse_undoes_the_map_to_the_precision_that_its_slope_allows(name):
    transformer = TRANSFORMERS[name]()
    for dtype in (torch.float32, torch.float64):
        x, h = (value.to(dtype) for value in drawn(transformer))
        z, log_slope = transformer(x, h)
        back, found = transformer.invert(z, h)
        reachable = torch.finfo(dtype).eps * (1 + x.abs() + z.abs() * (-log_slope).exp() + (-log_slope).exp())
        assert ((back - x).abs() < 16 * reachable).all()
        assert ((found - log_slope).abs() < 1e-3)[reachable < 1e-6].all()


@every_transformer
def test_gradients_of_the_inverse_are_those_of_the_inverse_function(name):
    transformer = TRANSFORMERS[name]()
    x, h = drawn(transformer, scale=0.5)
    z, h = transformer(x, h)[0].detach().requires_grad_(), h.requires_grad_()
    found, by_h = torch.autograd.grad(transformer.invert(z, h)[0].sum(), [z, h])
    slope = transformer(x, h)[1].exp()
    assert torch.allclose(found, 1 / slope, rtol=1e-6, atol=1e-8)
    wanted = torch.autograd.grad((transformer(x, h)[0] / slope.detach()).sum(), h)[0]
    assert torch.allclose(by_h, -wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["additive", "affine", "spline", "integral"])
def test_zero_numbers_are_the_identity(name):
    transformer = TRANSFORMERS[name]()
    x, h = drawn(transformer, scale=0.0)
    z, log_slope = transformer(x, h)
    assert torch.allclose(z, x, rtol=0, atol=1e-3) and log_slope.abs().max() < 1e-3


def knots(h):
    """Of one spline, in float64 by numpy: places, values, slopes."""
    room = 1 - BINS * MINIMUM
    at = [2 * BOUND * np.cumsum([0, *(MINIMUM + room * softmax(part))]) - BOUND for part in (h[:BINS], h[BINS : 2 * BINS])]
    inner = np.log1p(np.exp(h[2 * BINS :] + np.log(np.expm1(1 - MINIMUM)))) + MINIMUM
    return *at, np.array([1, *inner, 1])


def gregory_delbourgo(x, h):
    """The interpolant of Gregory & Delbourgo (1982), eq. (2.4), by its Bernstein coefficients, one number at a time."""
    places, values, slopes = knots(h)
    if abs(x) >= BOUND:
        return x
    k = int(np.searchsorted(places, x)) - 1
    width, mean = places[k + 1] - places[k], (values[k + 1] - values[k]) / (places[k + 1] - places[k])
    t = (x - places[k]) / width
    bend = (slopes[k] + slopes[k + 1]) / mean
    left = values[k + 1] * t**2 + (values[k] * slopes[k + 1] + values[k + 1] * slopes[k]) / mean * t * (1 - t)
    return (left + values[k] * (1 - t) ** 2) / (t**2 + bend * t * (1 - t) + (1 - t) ** 2)


def test_spline_is_the_rational_quadratic_of_gregory_and_delbourgo():
    spline = RationalQuadratic(BINS, BOUND, MINIMUM)
    x, h = drawn(spline)
    wanted = [gregory_delbourgo(float(a), b.numpy()) for a, b in zip(x, h.T, strict=True)]
    assert torch.allclose(spline(x, h)[0], torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-9)


def test_spline_goes_through_its_knots_with_its_slopes():
    spline = RationalQuadratic(BINS, BOUND, MINIMUM)
    h = drawn(spline, n=1)[1]
    places, values, slopes = knots(h[:, 0].numpy())
    for side in (-1e-10, 1e-10):
        z, log_slope = spline(torch.tensor(places + side), h.expand(-1, BINS + 1))
        assert np.allclose(z, values, atol=1e-8)
        assert np.allclose(log_slope.exp(), slopes, rtol=1e-5)


def test_spline_agrees_with_nflows():
    reason = "nflows is not installed: pip install --no-deps nflows"
    peer = pytest.importorskip("nflows.transforms.splines.rational_quadratic", reason=reason)
    spline = RationalQuadratic(BINS, BOUND, MINIMUM)
    x, h = drawn(spline)
    shift = np.log(np.expm1(1 - MINIMUM))  # theirs is no identity at 0
    parts = [part.T.clone() for part in h.split([BINS, BINS, BINS - 1])]
    minima = dict(min_bin_width=MINIMUM, min_bin_height=MINIMUM, min_derivative=MINIMUM)
    theirs = peer.unconstrained_rational_quadratic_spline(x, *parts[:2], parts[2] + shift, tail_bound=BOUND, **minima)
    for a, b in zip(spline(x, h), theirs, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_spline_has_finite_values_and_gradients_for_any_numbers_anywhere(scale):
    spline = RationalQuadratic()
    x, h = (value.float() for value in drawn(spline, scale=scale))
    edges = torch.tensor([-1e4, 1e4, -BOUND, BOUND, 0.0, float(np.nextafter(np.float32(BOUND), np.float32(9)))])
    x = torch.cat([x[: -len(edges)], edges]).requires_grad_()
    h.requires_grad_()
    for function in (spline, spline.invert):
        found, log_slope = function(x, h)
        gradients = torch.autograd.grad((found + log_slope).sum(), [x, h])
        assert all(value.isfinite().all() for value in (found, log_slope, *gradients))
        outside = x.abs() > BOUND
        assert torch.equal(found[outside], x[outside]) and (log_slope[outside] == 0).all()


def net_of_numpy(u, h, units, bound):
    """softplus(1⁻ + c + Σ a tanh((1 + b)(u − s) + d)), for one number u and one column h, softplus(1⁻) = 1."""
    a, b, d = h[2:].reshape(3, units)
    hidden = np.tanh((1 + b) * (u - np.linspace(-bound, bound, units)) + d)
    return np.logaddexp(0, np.log(np.e - 1) + h[1] + a @ hidden) + 1e-4


def test_integral_is_that_of_the_net_and_its_error_falls_with_the_square_of_the_nodes():
    errors = []
    for nodes in (17, 65, 257):
        transformer = MonotoneIntegral(units=3, nodes=nodes)
        x, h = drawn(transformer, n=12)
        x = x.clamp(-5, 5)
        columns = h.numpy().T
        wanted = [c[0] + quad(net_of_numpy, 0, float(v), args=(c, 3, 5.0))[0] for v, c in zip(x, columns, strict=True)]
        errors.append(float((transformer(x, h)[0] - torch.tensor(wanted)).abs().max()))
    assert errors[0] / errors[1] > 8 and errors[1] / errors[2] > 8 and errors[2] < 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.5, 2.0, 10.0])
def test_integral_increases_whatever_its_numbers(dtype, scale):
    transformer = MonotoneIntegral()
    h = drawn(transformer, n=200, scale=scale)[1].to(dtype)
    x = torch.linspace(-6, 6, 301, dtype=dtype)[:, None].expand(-1, 200)
    z = transformer(x, h[:, None].expand(-1, 301, -1))[0]
    slack = 8 * torch.finfo(dtype).eps * (1 + z.abs().amax(0))
    assert (z.diff(dim=0) > -slack).all()


def test_integral_by_default_is_within_a_thousandth_of_the_net_and_straight_beyond_five():
    transformer = MonotoneIntegral()
    x, h = drawn(transformer, n=12, scale=0.3)
    x, columns = x.clamp(-5, 5), h.numpy().T
    wanted = [c[0] + quad(net_of_numpy, 0, float(v), args=(c, 8, 5.0))[0] for v, c in zip(x, columns, strict=True)]
    assert transformer.numbers == 26 and np.allclose(transformer(x, h)[0].numpy(), wanted, rtol=0, atol=5e-3)
    for side in (-1, 1):
        slopes = [transformer(torch.full_like(x, side * v), h)[1] for v in (4.8, 5.0, 7.0)]
        assert torch.equal(slopes[1], slopes[2]) and (slopes[0] - slopes[1]).abs().min() > 1e-6


def test_sum_of_sigmoids_is_the_logit_of_the_mixture():
    transformer = SigmoidSum(units=3)
    x, h = drawn(transformer)
    w, a, b = h.reshape(3, 3, -1).numpy()
    steepness = np.log1p(np.exp(a + np.log(np.e - 1))) + 1e-4
    mixture = (softmax(w, 0) * expit(steepness * x.numpy() + b + np.array([-2, 0, 2])[:, None])).sum(0)
    keep = (mixture > 1e-6) & (mixture < 1 - 1e-6)
    assert np.allclose(transformer(x, h)[0].numpy()[keep], logit(mixture[keep]), atol=1e-7)


@pytest.mark.parametrize("name", ["integral", "sigmoids"])
def test_search_finds_the_root_of_scipy(name):
    transformer = TRANSFORMERS[name]()
    z, h = drawn(transformer, n=12, spread=20.0)
    for i in range(len(z)):
        column = h[:, i : i + 1]
        wanted = brentq(
            lambda x, i=i, column=column: float(transformer(torch.tensor([x], dtype=torch.float64), column)[0] - z[i]),
            -1e6, 1e6, xtol=1e-12,
        )  # fmt: skip
        assert float(transformer.invert(z[i : i + 1], column)[0]) == pytest.approx(wanted, abs=1e-9 * (1 + abs(wanted)))


def test_affine_scale_never_exceeds_its_bound():
    h = torch.tensor([[0.0, 0.0], [1e6, -1e6]])
    assert Affine(bound=2.0)(torch.ones(2), h)[1].tolist() == [2.0, -2.0]


def test_elementwise_names_a_wrong_shape():
    with pytest.raises(ValueError, match=r"x must have shape \(n, \*\(2,\)\); got \(5, 3\)"):
        Elementwise((2,), Affine())(torch.zeros(5, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(bound=0.0), "bound must be positive; got 0.0"),
        (lambda: RationalQuadratic(bins=1), "bins must be at least 2; got 1"),
        (lambda: RationalQuadratic(bound=-1), "bound must be positive; got -1"),
        (lambda: RationalQuadratic(bins=10, minimum=0.1), "minimum must lie between 0 and 1/bins"),
        (lambda: MonotoneIntegral(units=0), "units must be at least 1"),
        (lambda: MonotoneIntegral(bound=0), "bound must be positive"),
        (lambda: SigmoidSum(units=0), "units must be at least 1; got 0"),
    ],
)
def test_impossible_settings_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
