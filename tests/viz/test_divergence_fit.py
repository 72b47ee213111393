"""The nearest Gaussian by each divergence: against moments, scipy's quadrature and optimiser, and POT."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy import optimize, stats

from gmcourse.viz.explorers.divergences import (
    DIVERGENCES,
    LOG_SIGMAS,
    MEANS,
    Bells,
    Landscape,
    Target,
    divergence_fit,
    two_modes,
)

X = np.linspace(-40, 40, 8_001)
STEP = X[1] - X[0]
TARGETS = [(0.0, 0.5, 1.0), (2.5, 0.3, 0.5), (6.0, 0.4, 1.0), (8.0, 0.15, 2.0)]  # distance, weight, width


@pytest.fixture(scope="module")
def landscape():
    return Landscape()


def fits(landscape, name, *target):
    function, p = DIVERGENCES[name][0], Target(two_modes(*target))
    return landscape.fits(function, p, landscape.values(function, p))


def oracle(name, target, mean, sigma):
    """The definition, by a fine Riemann sum over scipy's densities."""
    distance, weight, width = target
    left, right = stats.norm(-distance / 2, 1), stats.norm(distance / 2, width)
    log_p = np.logaddexp(math.log(weight) + left.logpdf(X), math.log(1 - weight) + right.logpdf(X))
    log_q = stats.norm(mean, sigma).logpdf(X)
    p, q = np.exp(log_p), np.exp(log_q)
    log_m = np.logaddexp(log_p, log_q) - math.log(2)
    integrands = {
        "forward KL": p * (log_p - log_q),
        "reverse KL": q * (log_q - log_p),
        "Jensen–Shannon": 0.5 * p * (log_p - log_m) + 0.5 * q * (log_q - log_m),
        "total variation": 0.5 * np.abs(p - q),
        "Fisher": 0.5 * p * (np.gradient(log_p, X) + (X - mean) / sigma**2) ** 2,
    }
    if name == "Wasserstein-2":
        few = slice(None, None, 4)
        return math.sqrt(ot.wasserstein_1d(X[few], X[few], p[few] / p[few].sum(), q[few] / q[few].sum(), p=2))
    return integrands[name].sum() * STEP


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("target", TARGETS)
def test_every_divergence_is_what_its_definition_says(name, target):
    mean, sigma = torch.tensor([0.7, -2.0, 3.0]).double(), torch.tensor([1.3, 0.6, 3.0]).double()
    values = DIVERGENCES[name][0](Target(two_modes(*target)), Bells(mean, sigma.log()))
    wanted = [oracle(name, target, m, s) for m, s in zip(mean.tolist(), sigma.tolist(), strict=True)]
    tolerance = {"total variation": 2e-3, "Wasserstein-2": 5e-3}.get(name, 1e-4)  # kinks; a discrete oracle
    assert np.allclose(values, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["forward KL", "Fisher"])
@pytest.mark.parametrize("target", TARGETS)
def test_forward_kl_and_fisher_are_least_at_the_mean_and_standard_deviation_of_the_target(landscape, name, target):
    (fit,) = fits(landscape, name, *target)
    distance, w, width = target
    mean = (1 - 2 * w) * distance / 2
    variance = w + (1 - w) * width**2 + w * (1 - w) * distance**2
    assert (fit.mean, fit.sigma) == pytest.approx((mean, math.sqrt(variance)), abs=2e-3)


@pytest.mark.parametrize("name", ["reverse KL", "Jensen–Shannon", "total variation", "Wasserstein-2"])
@pytest.mark.parametrize("target", [(2.5, 0.3, 0.5), (6.0, 0.4, 1.0), (5.0, 0.5, 1.5)])
def test_each_fit_is_where_an_optimiser_ends_up(landscape, name, target):
    how = {"method": "Nelder-Mead", "options": {"xatol": 1e-3, "fatol": 1e-7}}
    for fit in fits(landscape, name, *target):
        start = (fit.mean + 0.1, math.log(fit.sigma) - 0.05)
        found = optimize.minimize(lambda v: oracle(name, target, v[0], math.exp(v[1])), start, **how)
        assert (fit.mean, math.log(fit.sigma)) == pytest.approx(tuple(found.x), abs=0.03)
        assert fit.value == pytest.approx(found.fun, abs=2e-3)


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("width", [0.5, 1.0])
def test_reverse_kl_takes_one_mode_whole_and_pays_minus_the_log_of_its_weight(landscape, weight, width):
    best = fits(landscape, "reverse KL", 8.0, weight, width)
    left, right = (-4.0, 1.0, -math.log(weight)), (4.0, width, -math.log(1 - weight))
    for mean, sigma, value in (left, right):
        (fit,) = [f for f in best if f.mean * mean > 0 and abs(f.mean) > 3]
        assert (fit.mean, fit.sigma, fit.value) == pytest.approx((mean, sigma, value), abs=3e-3)
    assert best[0].value == pytest.approx(min(left[2], right[2]), abs=3e-3)


def test_a_symmetric_target_has_two_equally_good_modes_for_reverse_kl(landscape):
    first, second = fits(landscape, "reverse KL", 8.0, 0.5)[:2]
    assert first.value == pytest.approx(second.value, abs=1e-6)
    assert (first.mean, first.sigma) == pytest.approx((-second.mean, second.sigma), abs=1e-4)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_modes_that_coincide_are_fitted_exactly(landscape, name):
    (fit,) = fits(landscape, name, 0.0, 0.3)
    assert fit == pytest.approx((0.0, 0.0, 1.0), abs=2e-3)


@pytest.mark.parametrize("distance", [2.0, 3.0, 4.0])
def test_jensen_shannon_lies_between_the_two_kl(landscape, distance):
    forward, js, reverse = (fits(landscape, n, distance, 0.5)[0] for n in ("forward KL", "Jensen–Shannon", "reverse KL"))
    assert reverse.sigma < js.sigma < forward.sigma
    assert js.value < min(forward.value, reverse.value, math.log(2))


def test_with_distance_jensen_shannon_goes_from_covering_both_modes_to_taking_one(landscape):
    near, far = (fits(landscape, "Jensen–Shannon", distance, 0.35)[0] for distance in (4.0, 8.0))
    assert near.sigma > 1.8 and far.sigma == pytest.approx(1.0, abs=0.02) and far.mean == pytest.approx(4.0, abs=0.02)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_no_fit_is_invented_at_the_edge_or_missed(landscape, name):
    for target in [(0.3, 0.05, 0.5), (4.7, 0.95, 2.0), (7.0, 0.4, 1.0), (8.0, 0.5, 0.75), (6.0, 0.05, 0.5)]:
        found = fits(landscape, name, *target)
        function, p = DIVERGENCES[name][0], Target(two_modes(*target))
        lowest = landscape.values(function, p).min()
        assert 1 <= len(found) <= 3 and found[0].value <= lowest + 1e-5
        for fit in found:
            assert MEANS[1] < fit.mean < MEANS[-2] and LOG_SIGMAS[1] < math.log(fit.sigma) < LOG_SIGMAS[-2]


def test_the_same_values_give_the_same_picture():
    first, second = divergence_fit(), divergence_fit()
    first.picture(distance=2.0)
    assert first.picture(divergence="Jensen–Shannon") == second.picture(divergence="Jensen–Shannon")
