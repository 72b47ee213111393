"""Denoising score matching finds the slope of the blurred data; checked against mixtures, whose blur is a mixture."""

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
from gmcourse.ebm.denoising import denoising_score_matching, multi_scale
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.score_matching import explicit_score_matching

TWO = GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], 0.7)
SIGMAS = (0.2, 0.5, 1.5)


def draws(p, n, seed=0):
    return p.sample(n, generator=torch.Generator().manual_seed(seed)).double()


def blurred_energy(x, sigma):
    """E of TWO blurred by sigma (n,), in closed form."""
    variance = TWO.sigmas[0] ** 2 + sigma[:, None] ** 2
    return -(TWO.weights.log() - 0.5 * ((x - TWO.means[:, 0]).square() / variance + variance.log())).logsumexp(1)


def test_the_loss_at_an_energy_less_that_at_another_is_the_same_as_that_of_explicit_matching_of_blurred_data():
    """Thesis (2.42): equal up to a constant. Both sides by Monte Carlo on the same noisy points, so that chance is small."""
    p, sigma, n = plane_mixture(), 0.4, 100_000
    x = draws(p, n)
    torch.manual_seed(0)
    energies = [mlp_energy(2, (16,)).double(), lambda x: x.square().sum(1) / 2]
    with torch.no_grad():
        losses = []
        for energy in energies:
            torch.manual_seed(1)
            losses.append(denoising_score_matching(energy, x, sigma=sigma))
        torch.manual_seed(1)
        noisy = x + sigma * torch.randn_like(x)
        truth = [explicit_score_matching(energy, noisy, p.diffused(1, sigma).score) for energy in energies]
    difference = (losses[0] - losses[1]) - (truth[0] - truth[1])
    assert (truth[0] - truth[1]).mean().abs() > 0.2
    assert difference.mean().abs() < 4.5 * difference.std() / n**0.5


def test_the_gradient_vanishes_at_the_blurred_mixture_and_not_at_the_mixture():
    x, sigma = draws(TWO, 100_000), 0.5
    objective = partial(denoising_score_matching, sigma=sigma)
    mean, error = expected_gradient(objective, Pair(Pair.of(TWO.diffused(1, sigma))), x)
    assert (mean.abs() < 4.5 * error).all()
    mean, error = expected_gradient(objective, Pair(Pair.of(TWO)), x)
    assert (mean.abs() > 10 * error).any()


def test_gaussian_parameters_are_recovered_with_the_blur_added_to_the_covariance():
    sigma = 0.5
    objective = partial(denoising_score_matching, sigma=sigma)
    mean, error = estimates(lambda seed: minimise(objective, Quadratic(), gaussian(4000, seed), seed))
    truth = Quadratic.of(MEAN, COVARIANCE + sigma**2 * torch.eye(2))
    assert error.max() < 0.03
    assert ((mean - truth).abs() < 4.5 * error).all()
    assert ((mean - Quadratic.of(MEAN, COVARIANCE)).abs() > 10 * error).any()


def test_the_best_guess_at_the_datum_is_the_noisy_point_moved_along_the_score():
    """E[x | x̃] = x̃ + σ² s(x̃): regression of x on x̃ in narrow bins against the score of the blurred mixture."""
    sigma, x = 0.5, draws(TWO, 400_000)
    noisy = x + sigma * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    for centre in (-1.5, 0.0, 0.8):
        near = (noisy - centre).abs()[:, 0] < 0.02
        guess = (noisy + sigma**2 * TWO.diffused(1, sigma).score(noisy))[near]
        difference = x[near] - guess
        assert difference.mean().abs() < 4.5 * difference.std() / near.sum() ** 0.5


def test_the_constant_grows_as_the_inverse_square_of_sigma():
    """At a flat energy the loss is ½‖ε‖²/σ², with mean d/(2σ²)."""
    for sigma in (0.01, 0.1, 1.0):
        torch.manual_seed(0)
        loss = denoising_score_matching(lambda x: 0 * x.sum(1), torch.zeros(10_000, 3), sigma=sigma) * sigma**2
        assert (loss.mean() - 1.5).abs() < 4.5 * loss.std() / 100


def test_the_truth_at_every_scale_is_a_stationary_point_of_the_multi_scale_loss():
    """Energies of the mixture with a factor: the derivative at factor 1 is 0 on average for each weighting."""
    x = draws(TWO, 100_000)

    class Scaled(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(factor, dtype=torch.float64))

        def forward(self, x, sigma):
            return self.factor * blurred_energy(x, sigma)

    for weight in (torch.square, torch.ones_like):
        objective = partial(multi_scale, sigmas=SIGMAS, weight=weight)
        mean, error = expected_gradient(objective, Scaled(1.0), x)
        assert (mean.abs() < 4.5 * error).all()
        mean, error = expected_gradient(objective, Scaled(1.3), x)
        assert (mean.abs() > 5 * error).all()


def test_with_one_scale_it_is_denoising_score_matching_times_its_weight():
    x = torch.randn(100_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    many = multi_scale(lambda x, sigma: x.square().sum(1) / 2, x, sigmas=[0.3])
    one = 0.3**2 * denoising_score_matching(lambda x: x.square().sum(1) / 2, x, sigma=0.3)
    assert (many.mean() - one.mean()).abs() < 4.5 * (many.var() + one.var()).sqrt() / len(x) ** 0.5


def test_weights_by_the_square_make_all_scales_equally_large():
    """At a flat energy the mean loss is d/2 whatever the scales; and each scale is drawn as often as the others."""
    seen = []

    def flat(x, sigma):
        seen.append(sigma)
        return 0 * x.sum(1)

    torch.manual_seed(0)
    loss = multi_scale(flat, torch.zeros(30_000, 2), sigmas=SIGMAS)
    assert (loss.mean() - 1.0).abs() < 4.5 * loss.std() / 30_000**0.5
    counts = torch.stack([(seen[0] == sigma).sum() for sigma in SIGMAS])
    assert counts.sum() == 30_000
    assert (counts / 30_000 - 1 / 3).abs().max() < 4.5 * (2 / 9 / 30_000) ** 0.5


def test_any_activation_and_any_event_shape_will_do():
    x = torch.randn(5, 2)
    assert denoising_score_matching(mlp_energy(2, activation=torch.nn.ReLU), x, sigma=0.1).shape == (5,)
    for shape in ((), (1,), (1, 4, 4)):
        x = torch.randn(5, *shape)
        assert denoising_score_matching(mlp_energy(shape), x, sigma=0.1).shape == (5,)
        assert multi_scale(lambda x, sigma: x.reshape(5, -1).sum(1) / sigma, x, sigmas=[1, 2]).shape == (5,)


def test_the_global_seed_decides_and_no_gradient_is_made_where_none_is_wanted():
    energy, x = mlp_energy(2), torch.randn(5, 2)
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        with torch.no_grad():
            losses.append(denoising_score_matching(energy, x, sigma=0.1))
    assert torch.equal(*losses) and not losses[0].requires_grad
    assert not torch.equal(losses[0], denoising_score_matching(energy, x, sigma=0.1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: denoising_score_matching(mlp_energy(2), x, sigma=0.0), "sigma must be positive; got 0.0"),
        (lambda x: denoising_score_matching(torch.nn.Linear(2, 1), x, sigma=0.1), r"energy must return shape \(n,\)"),
        (lambda x: multi_scale(lambda x, s: x.sum(1), x, sigmas=[0.1, -1]), "sigmas must be positive; got -1"),
        (lambda x: multi_scale(lambda x, s: x.sum(1), x, sigmas=[]), "sigmas must hold at least one scale; got none"),
        (lambda x: multi_scale(lambda x, s: x, x, sigmas=[1.0]), r"energy must return shape \(n,\); got \(5, 2\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(5, 2))
