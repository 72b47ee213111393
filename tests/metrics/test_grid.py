"""Quadrature on a grid: what the midpoint rule gets right, and when it says that it cannot."""

import math

import pytest
import torch
from scipy import integrate

from gmcourse import StandardNormal
from gmcourse.data import toy2d
from gmcourse.data.checkerboard import Checkerboard
from gmcourse.data.toy1d import Mixture1D
from gmcourse.metrics.grid import Grid


def test_a_step_of_one_width_integrates_a_gaussian_to_eight_digits():
    """The rule's error on a Gaussian is 2 exp(−2π²σ²/step²)."""
    for sigma, dims in ((1.0, 1), (0.5, 1), (1.0, 2)):
        grid = Grid([(-8.0, 8.0)] * dims, round(16 / sigma))
        values = torch.exp(-grid.nodes.reshape(-1, dims).square().sum(1) / (2 * sigma**2))
        error = grid.integrate(values) / (2 * math.pi * sigma**2) ** (dims / 2) - 1
        assert abs(error) < 2.1 * dims * math.exp(-2 * math.pi**2)


def test_an_integral_in_the_plane_agrees_with_scipy():
    grid = Grid([(0.0, 1.0), (-1.0, 2.0)], 300)
    found = grid.integrate(torch.sin(3 * grid.nodes[:, 0]) * torch.exp(grid.nodes[:, 1]))
    wanted, _ = integrate.dblquad(lambda y, x: math.sin(3 * x) * math.exp(y), 0, 1, -1, 2)
    assert found == pytest.approx(wanted, rel=1e-4)


def test_cells_fill_the_box():
    grid = Grid([(-1.0, 3.0), (2.0, 4.5)], 7)
    assert grid.integrate(torch.ones(49)) == pytest.approx(10.0)
    assert grid.nodes.shape == (49, 2) and grid.nodes.dtype == torch.float64 and grid.shape == (7, 7)
    assert Grid([(0.0, 1.0)], 5).nodes.shape == (5,)


def test_values_reshaped_are_indexed_by_the_axes_in_order():
    grid = Grid([(0.0, 1.0), (5.0, 6.0)], 3)
    first = grid.nodes[:, 0].reshape(grid.shape)
    assert torch.equal(first[:, 0], grid.axes[0]) and torch.equal(first[:, 0], first[:, 2])


@pytest.mark.parametrize("shift", [-5000.0, 5000.0])
def test_log_integrals_survive_what_floats_cannot_hold(shift):
    grid = Grid([(-8.0, 8.0)], 200)
    found = grid.log_integrate(shift - grid.nodes.square() / 2)
    assert found == pytest.approx(shift + 0.5 * math.log(2 * math.pi), abs=1e-8)


@pytest.mark.parametrize("name", [name for name in toy2d.NAMES if name != "checkerboard"])
def test_the_grid_around_a_smooth_toy_holds_its_mass(name):
    data = toy2d.get(name)
    grid = Grid.around(data, points=300)
    assert abs(grid.integrate(data.log_prob(grid.nodes).exp()) - 1) < 1e-6


def test_jumps_on_borders_of_cells_cost_nothing():
    grid = Grid([(-2.0, 2.0)] * 2, 100)
    assert grid.integrate(Checkerboard().log_prob(grid.nodes).exp()) == pytest.approx(1.0, abs=1e-12)


def test_the_grid_around_several_densities_holds_them_all():
    near, far = Mixture1D([1.0], [-30.0], 0.5), Mixture1D([0.5, 0.5], [2.0, 9.0], 1.0)
    grid = Grid.around(near, far)
    (low, high), = grid.box
    ends = torch.tensor([low, high], dtype=torch.float64)
    for density in (near, far):
        assert float(density.cdf(ends)[0]) < 1e-8 and float(density.cdf(ends)[1]) > 1 - 1e-8


def test_a_density_of_torch_is_held_by_its_mean_and_width():
    normal = torch.distributions.MultivariateNormal(torch.tensor([5.0, -3.0]), torch.diag(torch.tensor([0.01, 4.0])))
    grid = Grid.around(normal)
    assert abs(grid.integrate(normal.log_prob(grid.nodes.float()).exp()) - 1) < 1e-5
    assert Grid.around(torch.distributions.Normal(0.0, 1.0)).nodes.shape == (4000,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Grid([(0.0, 1.0)] * 3), "box must have 1 or 2 axes; got 3"),
        (lambda: Grid([(1.0, 0.0)]), "low < high"),
        (lambda: Grid([(0.0, math.inf)]), "finite"),
        (lambda: Grid([(0.0, 1.0)], 0), "points must be a positive whole number; got 0"),
        (lambda: Grid([(0.0, 1.0)] * 2, 10_000), "at most 10,000,000 nodes; got 100,000,000"),
        (lambda: Grid([(0.0, 1.0)], 5).integrate(torch.ones(4)), r"values must have shape \(5,\).*got \(4,\)"),
        (lambda: Grid.around(), "at least one density"),
        (lambda: Grid.around(StandardNormal(2)), "give Grid a box"),
        (lambda: Grid.around(Mixture1D(), toy2d.get("rings")), r"same space; got \[1, 2\] dimensions"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
