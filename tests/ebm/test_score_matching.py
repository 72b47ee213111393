"""Explicit and implicit score matching on Gaussians and mixtures, where the truth and all integrals can be had."""

import pytest
import torch
from problems.energy_families import (
    COVARIANCE,
    MEAN,
    Pair,
    Quadratic,
    estimates,
    expected_gradient,
    gaussian,
    minimise,
    plane_mixture,
)

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.score_matching import explicit_score_matching, implicit_score_matching
from gmcourse.metrics.grid import Grid

TWO = GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], 0.7)


@pytest.mark.parametrize(("p", "points"), [(Mixture1D(), 2000), (plane_mixture(), 150)], ids=["line", "plane"])
def test_implicit_is_explicit_less_half_the_squared_score_of_the_data(p, points):
    """Integrating by parts, thesis (2.40) to (2.41), measured by quadrature for nets that know nothing of p."""
    grid = Grid.around(p, points=points, margin=0.4)
    weights = p.log_prob(grid.nodes).exp() * grid.cell
    constant = 0.5 * (weights * p.score(grid.nodes).square().reshape(len(weights), -1).sum(1)).sum()
    for seed in range(3):
        torch.manual_seed(seed)
        energy = mlp_energy(tuple(p.event_shape), (16, 16), features=4, feature_scale=1.0).double()
        with torch.no_grad():
            explicit = weights @ explicit_score_matching(energy, grid.nodes, p.score)
            implicit = weights @ implicit_score_matching(energy, grid.nodes)
        assert explicit > 0.1
        assert implicit == pytest.approx(float(explicit - constant), abs=1e-6)


def test_explicit_is_zero_at_the_truth_and_the_fisher_divergence_elsewhere():
    """Between N(0, 1) and N(m, 1) that is m²/2, thesis (2.40)."""
    x, p = torch.randn(50, 1, dtype=torch.float64), GaussianMixture([1.0], [[0.0]], 1.0)
    elsewhere = explicit_score_matching(lambda x: (x[:, 0] - 1.5).square() / 2, x, p.score)
    assert torch.allclose(elsewhere, torch.full_like(elsewhere, 1.125))
    assert explicit_score_matching(lambda x: x[:, 0].square() / 2, x, p.score).abs().max() < 1e-20


def test_on_gaussian_energies_the_minimiser_is_sample_mean_and_covariance():
    """Hyvärinen 2005: there score matching is maximum likelihood."""
    x = gaussian(500, seed=3)
    found = minimise(implicit_score_matching, Quadratic(), x)
    assert torch.allclose(found, Quadratic.of(x.mean(0), torch.cov(x.T, correction=0)), atol=1e-4)


def test_gaussian_parameters_are_recovered_with_error_bars():
    mean, error = estimates(lambda seed: minimise(implicit_score_matching, Quadratic(), gaussian(2000, seed)))
    assert error.max() < 0.05
    assert ((mean - Quadratic.of(MEAN, COVARIANCE)).abs() < 4.5 * error).all()


@pytest.mark.parametrize("objective", [implicit_score_matching, lambda e, x: explicit_score_matching(e, x, TWO.score)])
def test_the_minimiser_of_the_expectation_is_the_mixture_that_made_the_data(objective):
    """Means, width and weight of overlapping modes, the expectation by quadrature."""
    grid = Grid([(-6.0, 6.0)], 300)
    weights = TWO.log_prob(grid.nodes[:, None]).exp() * grid.cell

    def expected(energy, x):
        return 300 * weights * objective(energy, x)

    found = minimise(expected, Pair([-0.6, 1.3, -0.1, 0.2]), grid.nodes[:, None])
    assert torch.allclose(found, Pair.of(TWO), atol=1e-3)


def test_the_gradient_vanishes_at_the_mixture_that_made_the_data_and_not_beside_it():
    x = TWO.sample(50_000, generator=torch.Generator().manual_seed(0)).double()
    mean, error = expected_gradient(implicit_score_matching, Pair(Pair.of(TWO)), x)
    assert (mean.abs() < 4.5 * error).all()
    mean, error = expected_gradient(implicit_score_matching, Pair(Pair.of(TWO) + 0.2), x)
    assert (mean.abs() > 10 * error).any()


def test_the_weights_of_modes_far_apart_leave_no_trace():
    """The gradient for the weight of two modes 20 widths apart is 0 at any weight: slopes see one mode at a time."""
    far = GaussianMixture([0.5, 0.5], [[-5.0], [5.0]], 0.5)
    x = far.sample(2000, generator=torch.Generator().manual_seed(0)).double()
    energy = Pair(torch.cat([Pair.of(far)[:3], torch.tensor([3.0])]))
    implicit_score_matching(energy, x).mean().backward()
    assert energy.theta.grad[3].abs() < 1e-6


def test_the_loss_of_each_datum_is_its_own():
    torch.manual_seed(0)
    energy, x = mlp_energy(3, (8,)).double(), torch.randn(5, 3, dtype=torch.float64)
    for objective in (implicit_score_matching, lambda e, x: explicit_score_matching(e, x, torch.neg)):
        whole = objective(energy, x)
        assert whole.shape == (5,)
        assert torch.allclose(whole, torch.cat([objective(energy, row) for row in x.split(1)]))


def test_no_gradient_reaches_the_score_of_the_data():
    """Say that of a teacher, which is to be followed, not moved."""
    slope, energy = torch.tensor(-2.0, requires_grad=True), mlp_energy(2, (8,))
    explicit_score_matching(energy, torch.randn(5, 2), lambda x: slope * x).mean().backward()
    assert slope.grad is None and any(p.grad is not None for p in energy.parameters())


def test_the_result_is_a_plain_number_where_no_gradient_is_wanted():
    energy, x = mlp_energy(2), torch.randn(5, 2)
    for objective in (implicit_score_matching, lambda e, x: explicit_score_matching(e, x, torch.neg)):
        with torch.no_grad():
            plain = objective(lambda x: energy(x), x)
        assert not plain.requires_grad and torch.allclose(plain, objective(energy, x), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: implicit_score_matching(torch.nn.Linear(2, 1), x), r"energy must return shape \(n,\); got \(5, 1\)"),
        (lambda x: implicit_score_matching(mlp_energy(2, activation=torch.nn.ReLU), x), "got ReLU, whose second"),
        (lambda x: explicit_score_matching(mlp_energy(2), x, lambda x: x[:, 0]), "score must have the shape of x"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(5, 2))
