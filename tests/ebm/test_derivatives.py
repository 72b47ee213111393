"""Scores and slopes of energies against torch.func's Hessian, on the fast way through plain nets and on autograd's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gmcourse.ebm.derivatives import axes, score_and_divergence, score_and_slope, signs, slope_along, trainable_score
from gmcourse.ebm.energy import mlp_energy
from gmcourse.nets.confined import Confined

D = 3


def net(name):
    torch.manual_seed(0)
    made = {
        "silu": lambda: mlp_energy(D, (8, 8)),
        "tanh": lambda: mlp_energy(D, (8, 8), activation=nn.Tanh),
        "features": lambda: mlp_energy(D, (8, 8), features=5, feature_scale=1.5),
        "only features": lambda: mlp_energy(D, (), features=5),
        "linear": lambda: mlp_energy(D, ()),
    }
    return made[name]().double()


NETS = ["silu", "tanh", "features", "only features", "linear"]


def inputs(k=4, n=6):
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((n, D), (k, n, D)))


def through_func(energy, x, v):
    """s and vᵀ∇s v by torch.func, one point at a time."""

    def one(point):
        return energy(point[None])[0]

    gradient, hessian = torch.func.vmap(torch.func.grad(one))(x), torch.func.vmap(torch.func.hessian(one))(x)
    return -gradient, -torch.einsum("kni,nij,knj->kn", v, hessian, v)


@pytest.mark.parametrize("way", ["plain net", "any function"])
@pytest.mark.parametrize("name", NETS)
def test_score_and_slopes_are_those_of_the_hessian(name, way):
    energy, (x, v) = net(name), inputs()
    asked = energy if way == "plain net" else lambda x: energy(x)
    s, slopes = score_and_slope(asked, x, v)
    want, want_slopes = through_func(energy, x, v)
    assert torch.allclose(s, want) and torch.allclose(slopes, want_slopes)
    assert torch.allclose(trainable_score(asked, x), want)


@pytest.mark.parametrize("name", NETS)
def test_both_ways_give_the_weights_the_same_gradient(name):
    """Of a loss that is neither linear in the score nor in the slopes."""
    energy, (x, v) = net(name), inputs()

    def gradients(asked, directions):
        s, slopes = score_and_slope(asked, x, directions)
        loss = (s.square().sum() + slopes.square().sum() + s.prod(1).sum()) / len(x)
        found = torch.autograd.grad(loss, list(energy.parameters()), materialize_grads=True)
        return torch.cat([g.flatten() for g in found])

    for directions in (v, v[:1], axes(x)):
        plain = gradients(energy, directions)
        assert plain.abs().max() > 0.01
        assert torch.allclose(plain, gradients(lambda x: energy(x), directions))


def test_the_trace_is_the_sum_over_the_axes_and_for_signs_the_mean():
    energy, (x, _) = net("silu"), inputs()
    hessian = torch.func.vmap(torch.func.hessian(lambda point: energy(point[None])[0]))(x)
    trace = -hessian.diagonal(dim1=1, dim2=2).sum(1)
    assert torch.allclose(score_and_slope(energy, x, axes(x))[1].sum(0), trace)
    torch.manual_seed(0)
    with torch.no_grad():
        slopes = score_and_slope(energy, x, signs(4000, x))[1]
    assert ((slopes.mean(0) - trace).abs() < 4.5 * slopes.std(0) / 4000**0.5).all()


def test_signs_are_plus_or_minus_one_with_covariance_one():
    torch.manual_seed(0)
    v = signs(20_000, torch.zeros(1, 3, dtype=torch.float64))[:, 0]
    assert v.unique().tolist() == [-1.0, 1.0]
    assert v.mean(0).abs().max() < 4.5 / 20_000**0.5
    assert (v.T @ v / 20_000 - torch.eye(3)).abs().max() < 4.5 / 20_000**0.5


@pytest.mark.parametrize("name", ["silu", "features"])
def test_numbers_come_out_where_no_gradient_is_wanted(name):
    energy, (x, v) = net(name), inputs()
    want = through_func(energy, x, v)
    for asked in (energy, lambda x: energy(x)):
        with torch.no_grad():
            found = score_and_slope(asked, x, v)
            s = trainable_score(asked, x)
        assert not any(t.requires_grad for t in (*found, s))
        assert all(torch.allclose(a, b.detach()) for a, b in zip((*found, s), (*want, want[0]), strict=True))


def test_images_and_points_on_the_line_are_events_too():
    """For E = Σ x⁴/4 the score is −x³, and the trace of its slope −3 Σ x²."""
    for shape in ((), (1,), (2, 3)):
        x = torch.linspace(-1, 1, 4 * max(1, torch.Size(shape).numel()), dtype=torch.float64).reshape(4, *shape)
        s, slopes = score_and_slope(lambda x: x.pow(4).reshape(len(x), -1).sum(1) / 4, x, axes(x))
        assert torch.allclose(s, -(x**3))
        assert torch.allclose(slopes.sum(0), -3 * x.square().reshape(4, -1).sum(1))


def test_an_energy_without_curvature_has_slope_zero():
    x, v = inputs()
    w = torch.ones(D, dtype=torch.float64, requires_grad=True)
    for energy in (lambda x: x @ w, lambda x: x.sum(1)):
        s, slopes = score_and_slope(energy, x, v)
        assert torch.equal(s, -torch.ones_like(x)) and torch.equal(slopes, torch.zeros_like(v[..., 0]))


def test_the_slope_of_any_field_is_its_jacobian_along_directions():
    x, v = inputs()
    weight = torch.arange(9.0, dtype=torch.float64).reshape(D, D)
    at = x.requires_grad_()
    field = torch.tanh(at @ weight)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda point: torch.tanh(point @ weight)))(x)
    assert torch.allclose(slope_along(field, at, v), torch.einsum("kni,nij,knj->kn", v, jacobian, v))


class Leaky(nn.Module):
    def forward(self, x):
        return F.leaky_relu(x) + x.square()


KINKED = {
    "ReLU": nn.ReLU,
    "LeakyReLU": Leaky,
    "PReLU": nn.PReLU,
    "ReLU6": nn.ReLU6,
    "Hardtanh": nn.Hardtanh,
    "Hardswish": nn.Hardswish,
    "Hardsigmoid": nn.Hardsigmoid,
    "Softshrink": nn.Softshrink,
    "Hardshrink": nn.Hardshrink,
    "Threshold": lambda: nn.Threshold(0.1, 0.0),
    "RReLU": nn.RReLU,
    "ELU with alpha other than 1": lambda: nn.ELU(0.5),
    "SELU": nn.SELU,
}


@pytest.mark.parametrize("name", KINKED)
def test_kinks_are_refused_by_name(name):
    energy = mlp_energy(2, (8,), activation=KINKED[name])
    with pytest.raises(ValueError, match=rf"energy must have a continuous gradient .*; got .*{name}"):
        score_and_slope(energy, torch.randn(4, 2), torch.ones(1, 4, 2))
    assert trainable_score(energy, torch.randn(4, 2)).shape == (4, 2)  # of which score matching by denoising needs no more


def test_max_pooling_is_refused():
    energy = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1), nn.Flatten(0))
    x = torch.randn(3, 1, 4, 4)
    with pytest.raises(ValueError, match="got max-pooling"):
        score_and_slope(energy, x, signs(1, x))


FUNCTIONS = {
    "clamp": lambda a: a.clamp(min=0),
    "clamp ": lambda a: torch.clamp_max(a, 0.1),
    "clamp  ": lambda a: torch.clamp(a, min=torch.zeros(8)),
    "maximum": lambda a: torch.maximum(a, 0.1 * a),
    "minimum": lambda a: torch.minimum(a, torch.zeros_like(a)),
    "abs": torch.abs,
    "amax": lambda a: a.amax(1, keepdim=True).expand_as(a),
    "max": lambda a: a.max(1, keepdim=True)[0].expand_as(a),
    "topk": lambda a: a.topk(1)[0].expand_as(a),
    "the norm of order 1": lambda a: a.norm(1, dim=1, keepdim=True).expand_as(a),
    "max-pooling": lambda a: F.adaptive_max_pool1d(a[:, None], 8)[:, 0],
}


def kinked(function, smooth=1.0):
    """A net with `function` in the middle, beside something smooth, so that no slope is 0."""
    torch.manual_seed(0)
    below, above = nn.Linear(2, 8), nn.Linear(8, 1)
    return lambda x: above(function(below(x)))[:, 0] + smooth * x.square().sum(1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_with_kinks_are_refused_by_name_too(name):
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=rf"energy must have a continuous gradient .*; got {name.strip()}, whose"):
        score_and_slope(kinked(FUNCTIONS[name]), x, axes(x))


UNNAMED = {
    "where": lambda a: torch.where(a > 0, a, 0.1 * a),
    "mask": lambda a: a * (a > 0),
    "fill": lambda a: a.masked_fill(a < 0, 0.0),
    "gather": lambda a: a.gather(1, a.argmax(1, keepdim=True)).expand_as(a),
}


@pytest.mark.parametrize("name", UNNAMED)
@pytest.mark.parametrize("directions", [axes, lambda x: signs(1, x)])
def test_a_score_that_varies_without_any_slope_is_refused(name, directions):
    x, energy = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), kinked(UNNAMED[name], smooth=0.0)
    with pytest.raises(ValueError, match="differs among the 6 points of x, but whose second derivative is 0 at all of them"):
        score_and_slope(energy, x, directions(x))
    one = x[:1]
    assert torch.equal(score_and_slope(energy, one, axes(one))[1], torch.zeros(2, 1))  # of one point nobody can tell


def test_no_slope_is_no_fault_where_the_score_is_constant_or_turns_only_across_the_axes():
    """Of E = x₁x₂ the Hessian's diagonal is 0; of a net without activations all of it, up to rounding in its score."""
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(score_and_slope(lambda x: x[:, 0] * x[:, 1], x, axes(x))[1], torch.zeros(2, 50))
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(2, 37), nn.Linear(37, 11), nn.Linear(11, 1), nn.Flatten(0))
    assert torch.equal(score_and_slope(lambda x: linear(x), x, axes(x))[1], torch.zeros(2, 50))


def test_clamps_that_keep_a_logarithm_finite_or_cut_off_nothing_are_welcome():
    """As in a density of Gaussians: E = ‖x‖²/2, so that every slope is −1."""
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for energy in (
        lambda x: x.square().sum(1).clamp(min=1e-12) / 2,
        lambda x: -(-x.square().sum(1) / 2).exp().clamp(1e-300, 30.0).log(),
        lambda x: -torch.stack([-x.square().sum(1) / 2, -1e3 - x[:, 0] ** 2], 1).clamp(min=-80.0).logsumexp(1),
    ):
        assert torch.allclose(score_and_slope(energy, x, axes(x))[1], torch.full((2, 6), -1.0, dtype=torch.float64))


def test_the_modulus_of_a_complex_number_is_smooth():
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slopes = score_and_slope(lambda x: torch.complex(x[:, 0], x[:, 1]).abs(), x, axes(x))[1]
    assert torch.allclose(slopes.sum(0), -1 / x.norm(dim=1))


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Tanh, nn.Softplus, nn.GELU, nn.ELU, nn.CELU, nn.Mish, nn.Sigmoid])
def test_smooth_activations_are_welcome(activation):
    x = torch.randn(4, 2)
    assert score_and_slope(mlp_energy(2, (8,), activation=activation), x, axes(x))[1].shape == (2, 4)


def test_kinks_that_x_does_not_meet_are_no_hindrance():
    """ReLU applied to a weight, to keep it positive, say."""
    weight, x = torch.ones(2, requires_grad=True), torch.randn(4, 2)
    _, slopes = score_and_slope(lambda x: x.square() @ weight.relu(), x, axes(x))
    assert torch.allclose(slopes, torch.full((2, 4), -2.0))


@pytest.mark.parametrize("build", ["plain", "confined", "any"])
@pytest.mark.parametrize("d", [1, 3])
def test_score_and_divergence_are_autograds_with_gradients_in_x_and_weights(build, d):
    torch.manual_seed(0)
    net = mlp_energy(d, (16, 16), features=3).double()
    energy = {"plain": net, "confined": Confined(net, 0.7), "any": lambda x: net(x)}[build]

    def value(x):
        return net(x) + (0.7 * x.square().sum(1) if build == "confined" else 0)

    x = torch.randn(5, d, dtype=torch.float64, requires_grad=True)
    s, trace = score_and_divergence(energy, x)
    hessians = [torch.autograd.functional.hessian(lambda y: value(y[None]).sum(), row) for row in x.detach()]
    wanted = -torch.autograd.functional.jacobian(lambda y: value(y).sum(), x)
    assert torch.allclose(s, wanted) and torch.allclose(trace, -torch.stack([h.trace() for h in hessians]))

    def total(y):
        (slope,) = torch.autograd.grad(value(y).sum(), y, create_graph=True)
        own = [torch.autograd.grad(slope[:, i].sum(), y, create_graph=True)[0][:, i] for i in range(d)]
        return -sum(own).square().sum() - slope.pow(3).sum()

    mine = torch.autograd.grad(s.pow(3).sum() - trace.square().sum(), [x, net[-2].layers[0].weight])
    theirs = torch.autograd.grad(total(x), [x, net[-2].layers[0].weight])
    assert all(torch.allclose(a, b) for a, b in zip(mine, theirs, strict=True))
