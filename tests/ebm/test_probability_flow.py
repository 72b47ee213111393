"""Minimum probability flow against Gaussians, mixtures, and binary machines small enough to be summed over."""

import math
from functools import partial

import pytest
import torch
from problems.energy_families import COVARIANCE, MEAN, Pair, Quadratic, estimates, expected_gradient, gaussian, minimise
from torch import nn

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.probability_flow import binary_probability_flow, minimum_probability_flow
from gmcourse.ebm.rbm import RBM
from gmcourse.ebm.score_matching import implicit_score_matching

TWO = GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], 0.7)
BITS = 4
STATES = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * BITS)


class Ising(nn.Module):
    """E = −bᵀx − Σ_{i<j} J_ij x_i x_j."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(theta.clone())

    def forward(self, x):
        i, j = torch.triu_indices(BITS, BITS, 1)
        return -torch.cat([x, x[:, i] * x[:, j]], 1) @ self.theta


def ising_theta():
    return torch.randn(BITS + BITS * (BITS - 1) // 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_at_the_rates_of_the_flow_the_model_is_at_rest():
    """Detailed balance: e^{−E(x)} e^{½(E(x) − E(x'))} is the same both ways, so inflow equals outflow in every state."""
    energy = Ising(ising_theta())
    with torch.no_grad():
        e = energy(STATES)
        p = (-e).softmax(0)
        outflow = p * binary_probability_flow(energy, STATES)
        neighbours = (STATES[:, None] != STATES).sum(2) == 1
        inflow = (neighbours * (0.5 * (e - e[:, None])).exp()) @ p
    assert torch.allclose(inflow, outflow)


def test_binary_flow_is_the_sum_over_the_states_one_flip_away():
    energy = Ising(ising_theta())
    with torch.no_grad():
        e = energy(STATES)
        neighbours = (STATES[:, None] != STATES).sum(2) == 1
        want = (neighbours * (0.5 * (e[:, None] - e)).exp()).sum(1)
        assert torch.allclose(binary_probability_flow(energy, STATES), want)


def test_the_minimiser_of_the_expected_binary_flow_is_the_machine_that_made_the_data():
    """The expectation by summing over all states."""
    p = (-Ising(ising_theta())(STATES)).softmax(0).detach()
    found = minimise(lambda e, x: 2**BITS * p * binary_probability_flow(e, x), Ising(torch.zeros(10)).double(), STATES)
    assert torch.allclose(found, ising_theta(), atol=1e-4)


def test_an_rbm_is_at_rest_under_its_own_law():
    """The expected flow out of its own states, by summing over them, has gradient 0 for W, b and c."""
    torch.manual_seed(0)
    rbm = RBM(BITS, hidden=3).double()
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.normal_()
        p = (-rbm.free_energy(STATES)).softmax(0)
    for weights, low, high in ((p, 0.0, 1e-9), (torch.full_like(p, 1 / len(p)), 0.01, math.inf)):
        rbm.zero_grad()
        (weights @ binary_probability_flow(rbm.free_energy, STATES)).backward()
        assert low <= max(parameter.grad.abs().max() for parameter in rbm.parameters()) <= high


def test_binary_parameters_are_recovered_from_data_with_error_bars():
    truth = ising_theta()
    p = (-Ising(truth)(STATES)).softmax(0).detach()

    def fit_one(seed):
        picked = torch.multinomial(p, 4000, replacement=True, generator=torch.Generator().manual_seed(seed))
        return minimise(binary_probability_flow, Ising(torch.zeros(10).double()), STATES[picked])

    mean, error = estimates(fit_one)
    assert error.max() < 0.1
    assert ((mean - truth).abs() < 4.5 * error).all()


@pytest.mark.parametrize("sigma", [0.3, 0.8])
def test_gaussian_parameters_are_recovered_with_error_bars(sigma):
    objective = partial(minimum_probability_flow, sigma=sigma, neighbours=2)
    mean, error = estimates(lambda seed: minimise(objective, Quadratic(), gaussian(8000, seed), seed))
    assert error.max() < 0.06
    assert ((mean - Quadratic.of(MEAN, COVARIANCE)).abs() < 4.5 * error).all()


def test_the_gradient_vanishes_at_the_mixture_that_made_the_data_and_not_beside_it():
    x = TWO.sample(100_000, generator=torch.Generator().manual_seed(0)).double()
    objective = partial(minimum_probability_flow, sigma=0.5)
    mean, error = expected_gradient(objective, Pair(Pair.of(TWO)), x)
    assert (mean.abs() < 4.5 * error).all()
    mean, error = expected_gradient(objective, Pair(Pair.of(TWO) + 0.3), x)
    assert (mean.abs() > 8 * error).any()


@pytest.mark.parametrize("precision", [0.5, 2.0])
def test_the_flow_of_a_gaussian_is_a_gaussian_integral(precision):
    """E[e^{−½(λσxε + ½λσ²ε²)}] = e^{λ²σ²x²/(8(1 + λσ²/2))}/√(1 + λσ²/2) for E = ½λx², at each x."""
    sigma, n = 0.7, 200_000
    for point in (0.0, 1.0):
        torch.manual_seed(0)
        x = torch.full((n, 1), point, dtype=torch.float64)
        flow = minimum_probability_flow(lambda x: precision * x[:, 0].square() / 2, x, sigma=sigma)
        wide = torch.tensor(1 + precision * sigma**2 / 2)
        want = torch.exp(precision**2 * sigma**2 * point**2 / (8 * wide)) / wide.sqrt()
        assert (flow.mean() - want).abs() < 4.5 * flow.std() / n**0.5


def test_the_flow_in_a_narrow_neighbourhood_is_implicit_score_matching():
    """(K − 1)/(σ²/4) → tr ∇s + ½‖s‖² at each point."""
    torch.manual_seed(0)
    energy, points, sigma = mlp_energy(2, (8,), input_scale=3.0).double(), torch.randn(5, 2, dtype=torch.float64), 0.05
    with torch.no_grad():
        flow = minimum_probability_flow(energy, points.repeat(2000, 1), sigma=sigma, neighbours=100).unflatten(0, (2000, 5))
        found, error = (flow.mean(0) - 1) * 4 / sigma**2, flow.std(0) * 4 / sigma**2 / 2000**0.5
        want = implicit_score_matching(energy, points)
    assert error.max() < 0.2
    assert ((found - want).abs() < 4.5 * error + 0.01).all()


def test_more_neighbours_make_less_noise_of_the_same_mean():
    x, energy = gaussian(20_000, 0), lambda x: x.square().sum(1) / 2
    torch.manual_seed(1)
    one, many = (minimum_probability_flow(energy, x, sigma=0.5, neighbours=k) for k in (1, 8))
    assert many.std() < 0.7 * one.std()
    assert (one.mean() - many.mean()).abs() < 4.5 * ((one.var() + many.var()) / len(x)) ** 0.5


def test_images_of_bits_and_points_on_the_line_will_do():
    x = torch.bernoulli(torch.full((3, 1, 2, 2), 0.5))
    assert binary_probability_flow(lambda x: x.flatten(1).sum(1), x).shape == (3,)
    assert minimum_probability_flow(mlp_energy(()), torch.randn(3), sigma=0.5).shape == (3,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: minimum_probability_flow(mlp_energy(2), x, sigma=-1.0), "sigma must be positive; got -1.0"),
        (lambda x: minimum_probability_flow(mlp_energy(2), x, sigma=1.0, neighbours=0), "neighbours must be a positive"),
        (lambda x: minimum_probability_flow(nn.Linear(2, 1), x, sigma=1.0), r"energy must return shape \(n,\)"),
        (lambda x: binary_probability_flow(mlp_energy(2), x), "x must hold zeros and ones only"),
        (lambda x: binary_probability_flow(nn.Linear(2, 1), (x > 0).float()), r"energy must return shape \(n,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(5, 2))
