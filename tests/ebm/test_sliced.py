"""Sliced score matching is implicit score matching in expectation; its variance against the closed form."""

from functools import partial

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
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.score_matching import implicit_score_matching
from gmcourse.ebm.sliced import sliced_score_matching
from gmcourse.randomness import seeded

BOTH = pytest.mark.parametrize("variance_reduced", [False, True])


def net(d=3):
    torch.manual_seed(0)
    return mlp_energy(d, (16, 16), features=4, feature_scale=1.0).double()


@BOTH
@pytest.mark.parametrize("projections", [1, 3])
def test_the_mean_over_projections_is_implicit_score_matching(variance_reduced, projections):
    """At each of some points, seen 5000 times."""
    energy, points = net(), torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    objective = partial(sliced_score_matching, projections=projections, variance_reduced=variance_reduced)
    with torch.no_grad(), seeded(0):
        losses = objective(energy, points.repeat(5000, 1)).unflatten(0, (5000, 8))
        truth = implicit_score_matching(energy, points)
    assert losses.std(0).min() > 1e-3
    assert ((losses.mean(0) - truth).abs() < 4.5 * losses.std(0) / 5000**0.5).all()


@BOTH
def test_the_gradient_for_the_weights_is_unbiased_too(variance_reduced):
    energy, x = net(2), gaussian(20, seed=0)
    parameters = list(energy.parameters())

    def flat(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss.mean(), parameters, materialize_grads=True)])

    truth = flat(implicit_score_matching(energy, x))
    with seeded(0):
        found = torch.stack([flat(sliced_score_matching(energy, x, variance_reduced=variance_reduced)) for _ in range(300)])
    z = (found.mean(0) - truth) / (found.std(0) / 300**0.5 + 1e-12)
    assert truth.abs().max() > 0.1
    assert z.abs().max() < 5.2  # of some 400 numbers


@BOTH
@pytest.mark.parametrize("projections", [1, 4])
def test_the_variance_is_that_of_a_quadratic_form_in_signs(variance_reduced, projections):
    """Var[vᵀAv] = 2 Σ_{i≠j} A_ij², with A = −P for a Gaussian energy, and ½ ssᵀ − P without variance reduction."""
    n, precision = 40_000, COVARIANCE.inverse()
    x = torch.tensor([[2.0, 1.0]], dtype=torch.float64).expand(n, 2)
    s = -(x[0] - MEAN) @ precision
    form = -precision + (0.0 if variance_reduced else 0.5) * torch.outer(s, s)
    want = 4 * form[0, 1] ** 2 / projections
    with torch.no_grad(), seeded(0):
        energy = Quadratic(Quadratic.of(MEAN, COVARIANCE))
        loss = sliced_score_matching(energy, x, projections=projections, variance_reduced=variance_reduced)
    error = ((loss - loss.mean()).square().std() / n**0.5).clamp(min=1e-9)
    assert (loss.var() - want).abs() < 4.5 * error + 2e-4 * want


@pytest.mark.parametrize(("scale", "factor"), [(1.0, 0.85), (2.0, 0.1)])
def test_variance_reduction_reduces_the_variance_over_projections_at_a_mixture_and_most_away_from_its_modes(scale, factor):
    mixture = plane_mixture()
    points = scale * mixture.sample(100, generator=torch.Generator().manual_seed(0)).double()
    spread = []

    def negative_log_prob(x):
        return -mixture.log_prob(x)

    for reduced in (False, True):
        with torch.no_grad(), seeded(0):
            losses = sliced_score_matching(negative_log_prob, points.repeat(300, 1), variance_reduced=reduced)
        spread.append(losses.unflatten(0, (300, 100)).var(0).mean())
    assert 0 < spread[1] < factor * spread[0]


@BOTH
def test_in_one_dimension_it_is_implicit_score_matching_itself(variance_reduced):
    for shape in ((), (1,)):
        energy, x = mlp_energy(shape).double(), torch.randn(7, *shape, dtype=torch.float64)
        sliced = sliced_score_matching(energy, x, variance_reduced=variance_reduced)
        assert torch.allclose(sliced, implicit_score_matching(energy, x))


@BOTH
def test_gaussian_parameters_are_recovered_with_error_bars(variance_reduced):
    objective = partial(sliced_score_matching, projections=2, variance_reduced=variance_reduced)
    mean, error = estimates(lambda seed: minimise(objective, Quadratic(), gaussian(8000, seed), seed))
    assert error.max() < 0.05
    assert ((mean - Quadratic.of(MEAN, COVARIANCE)).abs() < 4.5 * error).all()


@BOTH
def test_the_gradient_vanishes_at_the_mixture_that_made_the_data_and_not_beside_it(variance_reduced):
    two = GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.0]], 0.7)
    x = two.sample(50_000, generator=torch.Generator().manual_seed(0)).double()

    class InThePlane(Pair):
        def forward(self, x):
            return super().forward(x[:, :1]) + x[:, 1].square() / (2 * (2 * self.theta[2]).exp()) + self.theta[2]

    truth = Pair.of(GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], 0.7))
    objective = partial(sliced_score_matching, variance_reduced=variance_reduced)
    mean, error = expected_gradient(objective, InThePlane(truth), x)
    assert (mean.abs() < 4.5 * error).all()
    mean, error = expected_gradient(objective, InThePlane(truth + 0.2), x)
    assert (mean.abs() > 10 * error).any()


def test_images_will_do_and_the_global_seed_decides():
    energy, x = mlp_energy((1, 4, 4)), torch.randn(5, 1, 4, 4)
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(sliced_score_matching(energy, x, projections=2))
    assert losses[0].shape == (5,) and torch.equal(*losses)
    assert not torch.equal(losses[0], sliced_score_matching(energy, x, projections=2))
    with torch.no_grad():
        assert not sliced_score_matching(energy, x).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: sliced_score_matching(mlp_energy(2), x, projections=0), "projections must be a positive whole number"),
        (lambda x: sliced_score_matching(mlp_energy(2, activation=torch.nn.ReLU), x), "continuous gradient .* got ReLU"),
        (lambda x: sliced_score_matching(torch.nn.Linear(2, 1), x), r"energy must return shape \(n,\); got \(5, 1\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(5, 2))
