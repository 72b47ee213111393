"""Training times against quadrature, the best variance there is, and the numbers of LSGM."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest

from gmcourse.diffusion.sde import VE, VP, GeometricVP, SubVP
from gmcourse.diffusion.times import ImportanceTimes, UniformTimes, best_times, weight

LAWS = [
    (VP(), "likelihood", 1e-3),
    (VP(), "reweighted", 0.0),
    (VP(), "unweighted", 0.0),
    (VP(1.0, 5.0), "likelihood", 0.01),
    (VP(1.0, 5.0), "unweighted", 0.1),
    (VP(2.0, 2.0), "reweighted", 0.0),
    (GeometricVP(), "likelihood", 0.0),
    (GeometricVP(0.02, 0.9), "reweighted", 0.0),
]
each_law = pytest.mark.parametrize(("sde", "weighting", "start"), LAWS, ids=str)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def at(t):
    return torch.tensor(t, dtype=torch.float64)


def integrand(sde, weighting, t):
    """½ w E‖ε − ε*‖² for data N(0, 1) and their exact score: E[ε | x] = σx/(α² + σ²), so the error is α²/(α² + σ²)."""
    alpha, sigma = sde.marginal(t)
    return 0.5 * weight(sde, weighting, t) * alpha.square() / (alpha.square() + sigma.square())


def all_times(start, end=1.0, low_discrepancy=True):
    uniform = UniformTimes(start, end, low_discrepancy=low_discrepancy)
    return uniform, lambda sde, w: ImportanceTimes(sde, w, start, end, low_discrepancy=low_discrepancy)


@each_law
def test_the_density_is_the_derivative_of_what_is_drawn(sde, weighting, start):
    """∫ r dt = ρ up to the time at(ρ), by scipy's quadrature."""
    times = ImportanceTimes(sde, weighting, start, 0.9)
    for rho in (0.0, 0.1, 0.5, 0.9, 1.0):
        t = float(times.at(at(rho)))
        mass = quad(lambda s: float(times.density(at(s))), start, t, epsabs=1e-12, limit=200)[0]
        assert mass == pytest.approx(rho, abs=1e-9)


@each_law
def test_draws_have_their_density(sde, weighting, start):
    """At single precision, with a Kolmogorov–Smirnov test; the distribution function by quadrature on a fine grid."""
    times = ImportanceTimes(sde, weighting, start, low_discrepancy=False)
    grid = torch.cat([at([start]), torch.logspace(math.log10(max(start, 1e-6)), 0, 40_001, dtype=torch.float64)]).unique()
    mass = torch.cumulative_trapezoid(times.density(grid), grid)
    t = times.draw(4000, generator=seeded())
    found = torch.searchsorted(grid[1:].contiguous(), t.double())
    assert t.dtype == torch.float32 and mass[-1] == pytest.approx(1, abs=1e-5)
    assert kstest(mass[found.clamp(max=len(mass) - 1)].numpy(), "uniform").pvalue > 1e-3


@each_law
def test_on_standard_normal_data_importance_sampling_leaves_no_variance(sde, weighting, start):
    """f/r is the same at all t. LSGM's geometric VP has α(0) = 1 here, which leaves σ²_min of the integrand."""
    times = ImportanceTimes(sde, weighting, start)
    t = times.draw(1000, generator=seeded(), dtype=torch.float64)
    ratio = integrand(sde, weighting, t) / times.density(t)
    left = getattr(sde, "variance_min", 0.0)
    assert float(ratio.std() / ratio.mean()) <= left + 1e-12
    truth = quad(lambda s: float(integrand(sde, weighting, at(s))), start, 1, epsabs=1e-10, limit=500)[0]
    assert float(ratio.mean()) == pytest.approx(truth, rel=1.01 * left + 1e-8)


@pytest.mark.parametrize("weighting", ["likelihood", "unweighted", "reweighted"])
def test_importance_sampling_has_the_mean_of_uniform_sampling_whatever_is_averaged(weighting):
    """On a function that has nothing to do with the one it was made for."""
    sde, n = VP(), 100_000

    def f(t):
        return weight(sde, weighting, t) * (1.5 + torch.sin(9 * t)) * t

    truth = quad(lambda s: float(f(at(s))), 0.01, 1, limit=200)[0]
    uniform, importance = all_times(0.01, low_discrepancy=False)
    for times in (uniform, importance(sde, weighting)):
        t = times.draw(n, generator=seeded(1), dtype=torch.float64)
        ratio = f(t) / times.density(t)
        assert float(ratio.mean()) == pytest.approx(truth, abs=4.5 * float(ratio.std()) / n**0.5)


def test_the_likelihood_weighting_of_linear_vp_is_ten_times_less_noisy_with_importance_sampling():
    """Noise of ε included, for data N(0, I) in two dimensions with the exact score, ‖ε − ε*‖² = α²‖αε − σz‖²."""
    sde, n = VP(), 200_000

    def variance(times):
        t = times.draw(n, generator=seeded(2), dtype=torch.float64)
        square = torch.randn(n, 2, generator=seeded(3), dtype=torch.float64).square().sum(1)
        return float((integrand(sde, "likelihood", t) / times.density(t) * square).var())

    uniform, importance = all_times(1e-3, low_discrepancy=False)
    assert variance(uniform) > 10 * variance(importance(sde, "likelihood"))
    uniform, importance = all_times(1e-5, low_discrepancy=False)
    assert variance(uniform) > 100 * variance(importance(sde, "likelihood"))


def test_the_variance_of_a_law_is_lsgms():
    """v₁^ρ v₀^{1−ρ} and (1 − ρ) v₀ + ρ v₁, LSGM 3.4."""
    sde, rho = VP(), at([0.2, 0.5, 0.9])
    v0, v1, start = *sde.marginal(at([1e-3, 1.0]))[1].square(), 1e-3
    v = [sde.marginal(ImportanceTimes(sde, w, start).at(rho))[1].square() for w in ("likelihood", "reweighted")]
    assert torch.allclose(v[0], v1**rho * v0 ** (1 - rho), rtol=1e-10)
    assert torch.allclose(v[1], (1 - rho) * v0 + rho * v1, rtol=1e-10)


def test_the_geometric_vp_needs_no_importance_sampling():
    times = ImportanceTimes(GeometricVP(), "likelihood", 0.0)
    rho = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(times.at(rho), rho) and torch.allclose(times.density(rho), torch.ones_like(rho))


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(), GeometricVP()], ids=str)
def test_the_likelihood_weight_is_how_fast_the_log_snr_falls(sde):
    t = torch.linspace(0.05, 0.95, 10, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(sde.log_snr(t).sum(), t)
    assert torch.allclose(weight(sde, "likelihood", t), -slope)
    assert torch.allclose(weight(sde, "reweighted", t), -slope * sde.marginal(t)[1].square())
    assert torch.equal(weight(sde, "unweighted", t), torch.ones_like(t))


@pytest.mark.parametrize("times", [UniformTimes(0.2, 0.8), ImportanceTimes(VP())], ids=["uniform", "importance"])
def test_low_discrepancy_puts_one_time_in_every_slice_and_leaves_each_row_free(times):
    edges = times.at(torch.linspace(0, 1, 65, dtype=torch.float64)).float()
    t = torch.stack([times.draw(64, generator=seeded(seed)) for seed in range(500)])
    first = torch.bucketize(t[:, 0].contiguous(), edges[1:-1])
    assert all((torch.bucketize(row, edges[1:-1]).bincount(minlength=64) - 1).abs().max() <= 1 for row in t[:50])
    assert kstest(first.numpy() / 64 + 1 / 128, "uniform").pvalue > 1e-3


def test_low_discrepancy_keeps_the_mean_and_cuts_its_variance():
    def means(low_discrepancy):
        times = ImportanceTimes(VP(), "likelihood", low_discrepancy=low_discrepancy)
        return torch.stack([times.draw(64, generator=seeded(seed), dtype=torch.float64).mean() for seed in range(400)])

    even, free = means(True), means(False)
    assert float(even.mean()) == pytest.approx(float(free.mean()), abs=4.5 * float(free.std()) / 20)
    assert even.var() < free.var() / 10


@each_law
def test_single_precision_stays_inside_and_finite(sde, weighting, start):
    times = ImportanceTimes(sde, weighting, start)
    t = times.at(torch.tensor([0.0, 1e-30, 1e-7, 0.5, 1 - 6e-8, 1.0]))
    assert ((t >= start) & (t <= 1)).all() and times.density(t).isfinite().all()


def test_steep_schedules_whose_variance_rounds_to_one_stay_finite():
    for weighting in ("likelihood", "reweighted"):
        times = ImportanceTimes(VP(0.1, 60.0), weighting)
        exact = times.at(torch.linspace(0, 1, 101, dtype=torch.float64))
        assert torch.allclose(times.at(torch.linspace(0, 1, 101)).double(), exact, atol=1e-4)


def test_the_best_times_are_uniform_where_no_closed_form_is_known():
    assert type(best_times(VP(), "likelihood")) is ImportanceTimes
    assert type(best_times(VE(), "likelihood")) is UniformTimes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformTimes(0.5, 0.5), "0 <= start < end <= 1; got 0.5, 0.5"),
        (lambda: UniformTimes(-0.1, 0.5), "got -0.1"),
        (lambda: ImportanceTimes(VP(), "likelihood", 0.0), "start must be positive where σ"),
        (lambda: best_times(VP(), "likelihood", 0.0), "start must be positive where σ"),
        (lambda: ImportanceTimes(VE()), "VP or GeometricVP"),
        (lambda: ImportanceTimes(GeometricVP(), "unweighted", 0.0), "must be VP"),
        (lambda: ImportanceTimes(VP(5.0, 5.1), "unweighted"), "rises"),
        (lambda: ImportanceTimes(VP(), "ll"), "weighting must be one of likelihood, unweighted, reweighted; got 'll'"),
        (lambda: weight(VP(), "ll", at(0.5)), "weighting must be one of"),
        (lambda: UniformTimes().draw(0), "n must be a positive whole number; got 0"),
    ],
)
def test_bad_times_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
