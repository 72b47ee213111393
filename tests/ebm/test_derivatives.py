"""Scores and slopes of energies against torch.func's Hessian, on the fast way through plain nets and on autograd's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gmcourse.ebm.derivatives import axes, score_and_slope, signs, slope_along, trainable_score
from gmcourse.ebm.energy import mlp_energy

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


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Tanh, nn.Softplus, nn.GELU, nn.ELU, nn.CELU, nn.Mish, nn.Sigmoid])
def test_smooth_activations_are_welcome(activation):
    x = torch.randn(4, 2)
    assert score_and_slope(mlp_energy(2, (8,), activation=activation), x, axes(x))[1].shape == (2, 4)


def test_kinks_that_x_does_not_meet_are_no_hindrance():
    """ReLU applied to a weight, to keep it positive, say."""
    weight, x = torch.ones(2, requires_grad=True), torch.randn(4, 2)
    _, slopes = score_and_slope(lambda x: x.square() @ weight.relu(), x, axes(x))
    assert torch.allclose(slopes, torch.full((2, 4), -2.0))
