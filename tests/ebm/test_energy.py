"""Energy nets and what is asked of any energy: its shape, its score, the size of its layers."""

import numpy as np
import pytest
import torch
from problems.gaussian_energy import SIGMA, GaussianEnergy, double_well
from torch import nn

from gmcourse.ebm.energy import (
    mlp_energy,
    score,
    spectral_regularisation,
    values,
)
from gmcourse.nets.spectral import spectrally_normalised
from gmcourse.sampling.backprop import layers


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(), (1,), (2,), 3, (1, 4, 4)])
@pytest.mark.parametrize("features", [0, 5])
def test_an_mlp_energy_gives_one_number_for_each_point_of_any_shape(shape, features):
    event = (shape,) if isinstance(shape, int) else shape
    net = mlp_energy(shape, (8,), features=features).double()
    assert values(net, normal(7, *event)).shape == (7,)
    assert score(net, normal(7, *event)).shape == (7, *event)
    assert net(normal(0, *event)).shape == (0,)


def test_energies_on_vectors_keep_the_samplers_fast_path():
    assert layers(mlp_energy(2, features=8)) and layers(mlp_energy(2, activation=nn.Tanh))
    assert layers(mlp_energy((1, 4, 4))) is None


def test_the_score_of_a_gaussian_energy_is_minus_precision_times_x():
    precision = torch.linalg.inv(SIGMA)
    x = normal(50, 2)
    for found in (score(GaussianEnergy(precision), x), score(GaussianEnergy(precision), x, create_graph=True)):
        assert torch.allclose(found, -x @ precision)


def test_the_score_works_without_gradients_and_leaves_none():
    energy, x = GaussianEnergy(2.0), normal(5, 2)
    with torch.no_grad():
        found = score(energy, x)
    assert torch.allclose(found, -2 * x) and not found.requires_grad and not x.requires_grad
    assert energy.precision.grad is None


def test_the_score_works_in_inference_mode():
    energy, outside = GaussianEnergy(2.0), normal(5, 2)
    with torch.inference_mode():
        for x in (outside, normal(5, 2)):
            assert torch.allclose(score(energy, x), -2 * x)


def test_with_a_graph_the_score_is_differentiable_in_weights_and_points():
    """s = −λx, so that Σ ‖s‖² has the derivatives 2λ Σ‖x‖² and 2λ²x."""
    energy, x = GaussianEnergy(3.0), normal(5, 2).requires_grad_()
    score(energy, x, create_graph=True).square().sum().backward()
    assert torch.allclose(energy.precision.grad, 6 * x.detach().square().sum())
    assert torch.allclose(x.grad, 18 * x.detach())


def test_a_constant_energy_pushes_nowhere():
    bias = torch.ones((), requires_grad=True)
    assert torch.equal(score(lambda x: bias.expand(len(x)), normal(4, 2)), torch.zeros(4, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("energy", "came"),
    [
        (nn.Linear(2, 1), r"\(7, 1\)"),
        (lambda x: x.sum(), r"\(\)"),
        (lambda x: x, r"\(7, 2\)"),
        (lambda x: 0.0, "float"),
    ],
)
def test_an_energy_of_the_wrong_shape_is_refused_by_name(energy, came):
    for ask in (values, score):
        with pytest.raises(ValueError, match=rf"energy must return shape \(n,\); got {came} for x of shape \(7, 2\)"):
            ask(energy, torch.zeros(7, 2))


def test_an_energy_that_cannot_be_differentiated_is_refused():
    with pytest.raises(ValueError, match="energy must be differentiable"):
        score(lambda x: x.detach().sum(1), torch.zeros(7, 2))


def test_events_of_no_dimension_are_points_on_the_line():
    assert torch.allclose(score(double_well, torch.ones(3)), torch.full((3,), -0.25))


def test_spectral_regularisation_is_the_sum_of_largest_singular_values():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1), nn.Flatten(), nn.Linear(2, 40)).double()
    weights = [layer.weight.detach().flatten(1).numpy() for layer in (net[0], net[1], net[3])]
    sizes = [np.linalg.svd(w, compute_uv=False)[0] for w in weights]
    assert spectral_regularisation(net).item() == pytest.approx(sum(sizes[:2]))
    assert spectral_regularisation(net, (nn.Conv2d, nn.Linear)).item() == pytest.approx(sum(sizes))


def test_its_gradient_is_the_outer_product_of_the_singular_vectors():
    layer = nn.Linear(7, 5).double()
    spectral_regularisation(layer, (nn.Linear,)).backward()
    u, _, v = np.linalg.svd(layer.weight.detach().numpy())
    assert np.allclose(layer.weight.grad.numpy(), np.outer(u[:, 0], v[0]), atol=1e-9)


def test_a_penalty_on_layers_that_are_not_there_is_refused():
    with pytest.raises(ValueError, match="net must have layers of kind Conv2d"):
        spectral_regularisation(mlp_energy(2))


def test_spectrally_normalised_energies_have_slope_at_most_one():
    """|∇E| ≤ Π σ_max · 1 for Tanh; a net with large weights is far steeper before."""
    torch.manual_seed(0)
    net = mlp_energy(2, (32, 32), input_scale=20.0, activation=nn.Tanh)
    x = torch.randn(500, 2)
    assert score(net, x).norm(dim=1).max() > 1.5
    spectrally_normalised(net)
    for _ in range(100):
        net(x)
    assert score(net.eval(), x).norm(dim=1).max() < 1.01


def test_a_convolution_of_spectral_norm_one_may_stretch_by_up_to_the_root_of_its_places():
    """A kernel of equal weights nearly does; |∇E| ≤ Π σ_max would say 1. Random ones stay below √(kh·kw), too."""
    torch.manual_seed(0)
    for fill in (lambda w: nn.init.constant_(w, 1.0), nn.init.normal_):
        layer = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
        fill(layer.weight)
        spectrally_normalised(layer, (nn.Conv2d,))
        for _ in range(50):
            layer(normal(1, 1, 4, 4))
        columns = layer.eval()(torch.eye(400, dtype=torch.float64).reshape(400, 1, 20, 20)).flatten(1)
        size = torch.linalg.matrix_norm(columns.detach(), 2)
        assert spectral_regularisation(layer).item() == pytest.approx(1, abs=1e-6) and 1.05 < size <= 3
    x = torch.linspace(-5, 5, 10_001, dtype=torch.float64)
    assert score(lambda x: nn.functional.silu(x), x).neg().max().item() == pytest.approx(1.0998, abs=1e-4)
