"""Divergences against closed forms, scipy's quadrature, and one another."""

import math

import pytest
import torch
from scipy import integrate, stats
from torch.distributions import LogNormal, MultivariateNormal, Normal, Uniform, kl_divergence

from gmcourse import StandardNormal
from gmcourse.data import toy2d
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.metrics.divergences import (
    fisher,
    fisher_mc,
    js,
    js_mc,
    kl,
    kl_mc,
    total_variation,
    total_variation_mc,
)
from gmcourse.metrics.grid import Grid

ON_GRID = {"kl": kl, "js": js, "total_variation": total_variation, "fisher": fisher}
BY_SAMPLES = {"kl": kl_mc, "js": js_mc, "total_variation": total_variation_mc, "fisher": fisher_mc}
P, Q = Mixture1D([0.3, 0.7], [-1.5, 1.0], [0.4, 0.6]), Mixture1D([1.0], [0.2], 1.3)
LINE = Grid.around(P, Q)


def normal(mean, variance) -> MultivariateNormal:
    """In the plane, float64."""
    return MultivariateNormal(torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64))


TILTED, ROUND = normal([0.5, -1.0], [[1.0, 0.6], [0.6, 0.8]]), normal([0.0, 0.2], [[1.5, 0.0], [0.0, 1.5]])


def uniform(low: float, high: float):
    """Log-density of the uniform law."""
    return lambda x: torch.where((x > low) & (x < high), -math.log(high - low), -math.inf).to(x)


def pdf(p: Mixture1D, x: float) -> float:
    parts = zip(p.weights.tolist(), p.means.tolist(), p.sigmas.tolist(), strict=True)
    return sum(w * stats.norm.pdf(x, m, s) for w, m, s in parts)


@pytest.mark.parametrize(("p", "q"), [(TILTED, ROUND), (ROUND, TILTED)])
def test_kl_of_gaussians_in_the_plane_has_its_closed_form(p, q):
    assert kl(p, q, Grid.around(p, q)) == pytest.approx(float(kl_divergence(p, q)), abs=1e-8)


@pytest.mark.parametrize(("p", "q"), [(TILTED, ROUND), (ROUND, TILTED)])
def test_fisher_of_gaussians_has_its_closed_form_with_the_half(p, q):
    """The scores differ by A(x − m_p) + b: ½ (tr A S_p A + ‖b‖²), thesis (2.40)."""
    a = q.precision_matrix - p.precision_matrix
    b = q.precision_matrix @ (p.mean - q.mean)
    wanted = 0.5 * (torch.trace(a @ p.covariance_matrix @ a) + b @ b)
    assert fisher(p, q, Grid.around(p, q)) == pytest.approx(float(wanted), abs=1e-8)


def test_js_agrees_with_scipy():
    def integrand(x):
        a, b = pdf(P, x), pdf(Q, x)
        return 0.5 * (a * math.log(2 * a / (a + b)) + b * math.log(2 * b / (a + b)))

    wanted, _ = integrate.quad(integrand, -9, 9, points=[-1.5, 0.0, 1.0], limit=200, epsabs=1e-12)
    assert js(P, Q, LINE) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("shift", [0.1, 1.0, 4.0])
def test_total_variation_of_shifted_gaussians_has_its_closed_form(shift):
    p, q = Mixture1D([1.0], [0.0], 1.0), Mixture1D([1.0], [shift], 1.0)
    assert total_variation(p, q, Grid.around(p, q)) == pytest.approx(2 * stats.norm.cdf(shift / 2) - 1, abs=1e-5)


@pytest.mark.parametrize("name", ON_GRID)
def test_a_density_is_at_distance_zero_from_itself_only(name):
    divergence = ON_GRID[name]
    assert abs(divergence(P, P, LINE)) < 1e-12
    assert divergence(P, Q, LINE) > 0.01 and divergence(Q, P, LINE) > 0.01


def test_js_and_total_variation_are_symmetric_and_kl_is_not():
    for symmetric in (js, total_variation):
        assert symmetric(P, Q, LINE) == pytest.approx(symmetric(Q, P, LINE), abs=1e-14)
    assert abs(kl(P, Q, LINE) - kl(Q, P, LINE)) > 0.1


def test_far_apart_js_is_ln_2_and_total_variation_is_1():
    p, q = Mixture1D([1.0], [0.0], 0.1), Mixture1D([1.0], [30.0], 0.1)
    grid = Grid.around(p, q, points=20_000)
    assert js(p, q, grid) == pytest.approx(math.log(2), abs=1e-12) and js(p, q, grid) <= math.log(2)
    assert total_variation(p, q, grid) == pytest.approx(1.0, abs=1e-12) and total_variation(p, q, grid) <= 1


def test_the_inequalities_between_them_hold():
    """Pinsker TV² ≤ KL/2; Lin JS ≤ TV · ln 2; both sides hold with room on this pair, so a factor of 4 would show."""
    tv = total_variation(P, Q, LINE)
    assert tv**2 <= kl(P, Q, LINE) / 2 <= 4 * tv**2
    assert tv**2 / 2 <= js(P, Q, LINE) <= tv * math.log(2)


def test_they_do_not_see_a_change_of_coordinates_but_fisher_does():
    """x -> eˣ turns normal into log-normal: ratios of densities stay, scores do not."""
    normals = Normal(0.0, 0.5), Normal(0.4, 0.3)
    logs = [LogNormal(p.loc, p.scale) for p in normals]
    straight, bent = Grid([(-5.0, 5.0)]), Grid([(0.0, 40.0)], 200_000)
    for divergence in (kl, js, total_variation):
        assert divergence(*normals, straight) == pytest.approx(divergence(*logs, bent), abs=1e-4)
    assert abs(fisher(*normals, straight) - fisher(*logs, bent)) > 0.1


def test_kl_is_infinite_where_q_vanishes_and_finite_the_other_way():
    grid = Grid([(0.0, 2.0)], 400)
    wide, thin = uniform(0, 1), uniform(0, 0.5)
    assert kl(wide, thin, grid) == math.inf and kl(thin, wide, grid) == pytest.approx(math.log(2))
    assert js(wide, thin, grid) == pytest.approx(0.25 * (math.log(2 / 3) + 2 * math.log(4 / 3) + math.log(2)))
    assert total_variation(wide, thin, grid) == pytest.approx(0.5)


def test_densities_that_underflow_are_compared_by_their_logarithms():
    p, q = Mixture1D([1.0], [0.0], 0.01), Mixture1D([1.0], [1.0], 0.01)
    assert kl(p, q, Grid([(-1.0, 2.0)], 6000)) == pytest.approx(5000.0)


def test_q_may_lie_outside_the_grid():
    p, q = Mixture1D([1.0], [0.0], 1.0), Mixture1D([1.0], [100.0], 1.0)
    assert kl(p, q, Grid.around(p)) == pytest.approx(5000.0)


def test_a_model_in_float32_a_function_and_a_distribution_mean_the_same():
    data, model, grid = toy2d.get("two_moons"), StandardNormal(2), Grid([(-5.0, 6.0), (-5.0, 5.5)], 150)
    closed = normal([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    same = [model, model.log_prob, lambda x: -x.square().sum(1) / 2 - math.log(2 * math.pi), closed]
    for divergence in ON_GRID.values():
        values = [divergence(data, q, grid) for q in same]
        assert max(values) - min(values) < 1e-5 * max(values)


def test_models_of_columns_are_compared_with_densities_on_the_line():
    """event_shape (1,) and () are the same line."""
    p = Mixture1D([1.0], [0.5], 1.0)
    for divergence in ON_GRID.values():
        assert divergence(p, StandardNormal(1), Grid.around(p)) == pytest.approx(
            divergence(p, Normal(0.0, 1.0), Grid.around(p)), abs=1e-6
        )


def test_the_closed_score_and_autograd_give_one_fisher_divergence():
    rings, broad, grid = toy2d.get("rings"), normal([0.0, 0.0], [[2.0, 0.0], [0.0, 2.0]]), Grid([(-4.0, 4.0)] * 2, 100)
    assert fisher(rings, broad, grid) == pytest.approx(fisher(lambda x: rings.log_prob(x), broad, grid), rel=1e-9)


def test_fisher_does_not_need_a_normalised_q_and_does_not_see_weights_of_far_modes():
    even, uneven = (Mixture1D(w, [-8.0, 8.0], 0.5) for w in ([0.5, 0.5], [0.9, 0.1]))
    grid = Grid.around(even)
    assert fisher(even, uneven, grid) < 1e-9 < 0.1 < kl(even, uneven, grid)
    assert fisher(even, lambda x: 7 + uneven.log_prob(x), grid) < 1e-9


@pytest.mark.parametrize("name", ON_GRID)
def test_samples_agree_with_the_grid_within_the_standard_error(name):
    """The z-scores of 100 repetitions are standard: mean 0 ± 0.1, spread 1 ± 0.07."""
    truth = ON_GRID[name](P, Q, LINE)
    found = [BY_SAMPLES[name](P, Q, n=1000, seed=seed) for seed in range(100)]
    z = torch.tensor([(value - truth) / stderr for value, stderr in found])
    assert abs(z.mean()) < 0.45 and 0.7 < z.std() < 1.3


@pytest.mark.parametrize("name", ON_GRID)
def test_samples_agree_with_the_grid_in_the_plane(name):
    p, q = toy2d.get("gaussian_grid9"), normal([0.0, 0.3], [[1.4, 0.2], [0.2, 1.6]])
    value, stderr = BY_SAMPLES[name](p, q, n=4000, seed=1)
    assert abs(value - ON_GRID[name](p, q, Grid([(-10.0, 10.0)] * 2, 500))) < 4.5 * stderr


def test_bounded_estimates_stay_in_their_bounds_where_kl_is_infinite():
    p, q = (Uniform(low, low + 1, validate_args=False) for low in (0.0, 2.0))
    assert kl_mc(p, q) == (math.inf, math.inf)
    assert js_mc(p, q) == pytest.approx((math.log(2), 0.0)) and total_variation_mc(p, q) == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize("estimate", BY_SAMPLES.values())
@pytest.mark.parametrize("p", [P, Normal(0.3, 1.0), StandardNormal(1)])
def test_a_seed_fixes_the_estimate_and_leaves_the_callers_randomness_alone(estimate, p):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert estimate(p, Q, n=100, seed=5) == estimate(p, Q, n=100, seed=5) != estimate(p, Q, n=100, seed=6)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl(P, Q, Grid([(0.0, 5.0)])), "p must be a density whose mass the grid holds; its integral .* is 0.6"),
        (lambda: js(P, Q, Grid([(-4.0, 4.0)])), "q must be a density whose mass the grid holds; its integral .* is 0.99"),
        (lambda: total_variation(P, lambda x: Q.log_prob(x) + 1, LINE), "q must be .* is 2.71828"),
        (lambda: kl(P, lambda x: Q.log_prob(x) + 1, LINE), "q must be a normalised density .* is 2.71828"),
        (lambda: kl(lambda x: x * 0 + 1000, Q, LINE), "p must be a density .* is inf"),
        (lambda: kl(P, lambda x: 1 / (x * 0).abs(), LINE), "below .inf; got an overflow at 4000 of 4000"),
        (lambda: kl(P, lambda x: x * math.nan, LINE), "q must .*; got NaN at 4000 of 4000 points, the first is"),
        (lambda: kl(P, lambda x: x[:, None], LINE), r"q must return shape \(n,\); got"),
        (lambda: fisher(uniform(0, 1), uniform(0, 1), Grid([(0.0, 1.0)], 10)), "p must be differentiable in x"),
        (lambda: fisher(P, lambda x: (x - x).sqrt(), LINE), "scores of p and q must be finite"),
        (lambda: kl_mc(P, Q, n=1), "n must be at least 2"),
        (lambda: js_mc(P, Q.log_prob), "q must be able to sample"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_density_outside_of_its_support_counts_as_zero():
    """KL(U(0, 1) ‖ N(0, 1)) = ½ ln 2π + 1/6; the other way round it is infinite."""
    uniform, normal, grid = Uniform(0.0, 1.0), Normal(0.0, 1.0), Grid([(-10.0, 10.0)], 20_000)
    assert kl(uniform, normal, grid) == pytest.approx(0.5 * math.log(2 * math.pi) + 1 / 6, abs=1e-3)
    assert kl(normal, uniform, grid) == math.inf and kl_mc(normal, uniform).value == math.inf


def test_fisher_compares_densities_on_the_line_in_both_their_shapes():
    columns, numbers = GaussianMixture([1.0], [[1.0]], 1.0), Mixture1D([1.0], [0.0], 1.0)
    assert fisher(numbers, columns, Grid([(-9.0, 10.0)])) == pytest.approx(0.5, abs=1e-6)
