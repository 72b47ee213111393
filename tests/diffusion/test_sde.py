"""Diffusions in continuous time against moment equations, closed forms of Gaussians, and the mixture's density."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch.distributions import Normal

from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.sde import VE, VP, GeometricVP, SubVP
from gmcourse.sampling import odeint, sdeint

SDES = [VP(), SubVP(), VE(), GeometricVP(), VP(1.0, 5.0), SubVP(1.0, 5.0), VE(0.1, 4.0), GeometricVP(0.02, 0.9)]
GENTLE = SDES[4:]  # coefficients without extremes, for tests that solve equations by steps
each_sde = pytest.mark.parametrize("sde", SDES, ids=str)
each_gentle = pytest.mark.parametrize("sde", GENTLE, ids=str)
TIMES = torch.linspace(0, 1, 21, dtype=torch.float64)
MEAN, WIDTH = 1.3, 0.5  # of Gaussian data


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def at(t):
    return torch.tensor(t, dtype=torch.float64)


def gaussian_at(sde, t):
    """Mean and variance of p_t when the data are N(MEAN, WIDTH²)."""
    alpha, sigma = sde.marginal(t)
    return alpha * MEAN, (alpha * WIDTH).square() + sigma.square()


def gaussian_score(sde):
    """∇ log p_t in closed form; t (n,), as every score gets it."""

    def score(x, t):
        assert t.shape == x.shape[:1]
        mean, variance = (v.reshape(-1, *[1] * (x.ndim - 1)) for v in gaussian_at(sde, t))
        return (mean - x) / variance

    return score


@each_sde
def test_marginals_solve_the_moment_equations(sde):
    """α' = r α and (σ²)' = 2 r σ² + g², solved by scipy from their values at t = 0."""

    def rates(t, y):
        r, g = float(sde.rate(at(t))), float(sde.diffusion(at(t)))
        return [r * y[0], 2 * r * y[1] + g**2]

    alpha, sigma = sde.marginal(TIMES)
    start = [float(alpha[0]), float(sigma[0]) ** 2]
    solved = solve_ivp(rates, (0, 1), start, "DOP853", TIMES.numpy(), rtol=1e-11, atol=1e-13).y
    assert torch.allclose(alpha, torch.tensor(solved[0]), rtol=1e-8, atol=1e-11)
    assert torch.allclose(sigma.square(), torch.tensor(solved[1]), rtol=1e-8, atol=1e-11)


@each_sde
def test_data_come_unshrunk_and_the_noise_starts_where_it_is_said_to(sde):
    alpha, sigma = sde.marginal(at(0.0))
    start = {VE: lambda: sde.sigma_min, GeometricVP: lambda: sde.variance_min**0.5}.get(type(sde), lambda: 0.0)()
    assert float(alpha) == pytest.approx(1) and float(sigma) == pytest.approx(start)


def test_vp_seen_at_four_times_is_the_schedule_of_the_thesis():
    """thesis (6.15) at T = 4: β = 1 − ᾱ_t/ᾱ_{t−1}."""
    alpha_bar = VP().marginal(torch.linspace(0, 1, 5, dtype=torch.float64))[0].square()
    betas = 1 - alpha_bar[1:] / alpha_bar[:-1]
    assert betas.tolist() == pytest.approx([0.47632, 0.84902, 0.95647, 0.98745], abs=5e-6)


def test_vp_preserves_unit_variance_and_subvp_has_its_variance_for_deviation():
    (alpha, sigma), (sub_alpha, sub_sigma) = VP().marginal(TIMES), SubVP().marginal(TIMES)
    assert torch.allclose(alpha.square() + sigma.square(), torch.ones_like(TIMES))
    assert torch.equal(alpha, sub_alpha) and torch.allclose(sub_sigma, sigma.square())
    assert (SubVP().diffusion(TIMES) <= VP().diffusion(TIMES)).all()


@pytest.mark.parametrize("sde", [VE(), VE(0.1, 4.0), GeometricVP(), GeometricVP(0.02, 0.9)], ids=str)
def test_geometric_noise_is_a_straight_line_of_log_sigma(sde):
    log_sigma = sde.marginal(TIMES)[1].log()
    ends = (sde.sigma_min, sde.sigma_max) if isinstance(sde, VE) else (sde.variance_min**0.5, sde.variance_max**0.5)
    wanted = math.log(ends[0]) + TIMES * math.log(ends[1] / ends[0])
    assert torch.allclose(log_sigma, wanted, atol=1e-12)


@each_sde
def test_the_log_snr_falls_at_the_rate_of_g_squared_over_sigma_squared(sde):
    t = TIMES[1:].clone().requires_grad_()
    (slope,) = torch.autograd.grad(sde.log_snr(t).sum(), t)
    assert torch.allclose(slope, -(sde.diffusion(t) / sde.marginal(t)[1]).square(), rtol=1e-9)
    assert (slope < 0).all()


@each_sde
def test_snr_is_signal_power_over_noise_power(sde):
    alpha, sigma = sde.marginal(TIMES)
    assert torch.allclose(sde.snr(TIMES), alpha.square() / sigma.square())
    assert torch.allclose(sde.snr(TIMES[1:]).log(), sde.log_snr(TIMES[1:]))


def test_the_snr_of_vp_in_closed_form_down_to_tiny_times_in_float32():
    """1/(e^B − 1), B = ∫β: 1 − e^{−B} must not cancel."""
    t = torch.tensor([1e-6, 1e-4, 0.01, 0.5, 1.0])
    b = 0.1 * t.double() + 0.5 * 19.9 * t.double().square()
    assert torch.allclose(VP().snr(t).double(), 1 / b.expm1(), rtol=2e-5)


def simulate(sde, drift, x, times, steps=1):
    """Where Platen's scheme, of weak order 2, takes x; drift is called (x, t) as the SDE's own is."""
    f, g = lambda t, x: drift(x, t), lambda t, x: sde.diffusion(t)
    return sdeint(f, g, x, times, steps=steps, method="platen", generator=seeded(1)).end


def backwards_moments(sde):
    """Mean and variance at TIMES of the reverse SDE from p_1, by its moment equations; its drift is read off as a x + b."""
    drift = sde.reverse(gaussian_score(sde))

    def rates(t, y):
        b, end = drift(torch.tensor([[0.0], [1.0]], dtype=torch.float64), at(min(max(t, 0.0), 1.0))).flatten().tolist()
        g2 = float(sde.diffusion(at(min(max(t, 0.0), 1.0)))) ** 2
        return [(end - b) * y[0] + b, 2 * (end - b) * y[1] - g2]  # noise enters as time falls

    start = [float(v) for v in gaussian_at(sde, at(1.0))]
    return torch.tensor(solve_ivp(rates, (1, 0), start, "DOP853", TIMES.flip(0).numpy(), rtol=1e-10, atol=1e-12).y).flip(1)


@each_gentle
def test_andersons_reverse_sde_has_the_laws_of_the_forward_one(sde):
    mean, variance = backwards_moments(sde)
    wanted_mean, wanted_variance = gaussian_at(sde, TIMES)
    assert torch.allclose(mean, wanted_mean, atol=1e-7) and torch.allclose(variance, wanted_variance, atol=1e-7)


@each_gentle
def test_samples_of_the_reverse_sde_are_the_data(sde):
    """10 000 paths from p_1 to p_0: mean and variance within 4.5 standard errors."""
    n, drift = 10_000, sde.reverse(gaussian_score(sde))
    mean, variance = gaussian_at(sde, at(1.0))
    x = mean + variance.sqrt() * torch.randn(n, 1, generator=seeded(), dtype=torch.float64)
    end = simulate(sde, drift, x, (1, 0), 100)
    mean, variance = gaussian_at(sde, at(0.0))
    assert abs(end.mean() - mean) < 4.5 * (variance / n).sqrt()
    assert abs(end.var() - variance) < 4.5 * variance * (2 / n) ** 0.5


@each_gentle
def test_forward_simulation_reaches_the_marginal(sde):
    """10 000 paths from one point."""
    n, sigma = 10_000, sde.marginal(at(0.0))[1]
    x = 0.8 + sigma * torch.randn(n, 1, generator=seeded(), dtype=torch.float64)
    end = simulate(sde, sde.drift, x, (0, 0.7), 70)
    alpha, sigma = sde.marginal(at(0.7))
    assert abs(end.mean() - 0.8 * alpha) < 4.5 * sigma / n**0.5
    assert abs(end.var() - sigma.square()) < 4.5 * sigma.square() * (2 / n) ** 0.5


@each_gentle
def test_the_probability_flow_carries_gaussians_along_their_quantiles(sde):
    """(x − mean_t)/deviation_t stays what it is, from data to noise and back."""
    flow, z = sde.probability_flow(gaussian_score(sde)), torch.tensor([[-2.0], [0.0], [0.5], [3.0]], dtype=torch.float64)
    times = torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=torch.float64)
    mean, variance = (v[:, None, None] for v in gaussian_at(sde, times))
    wanted = mean + variance.sqrt() * z
    for order in (1, -1):
        t, points = (times, wanted) if order == 1 else (times.flip(0), wanted.flip(0))
        for method in ("rk4", "dopri5"):
            path = odeint(lambda t, x: flow(x, t), points[0], t, steps=60, method=method, tolerance=1e-7)
            assert torch.allclose(path.x, points, atol=1e-5)


@each_gentle
def test_on_a_mixture_the_density_is_carried_by_the_flow(sde):
    """The continuity equation ∂ log p/∂t + ∂v/∂x + v ∂ log p/∂x = 0 of the exact p_t with v from its exact score."""
    x, h = torch.linspace(-3, 3, 61, dtype=torch.float64), 1e-4

    def law(t):
        return Mixture1D().diffused(*sde.marginal(at(t)))

    for t in (0.05, 0.3, 0.9):
        y = x.clone().requires_grad_()
        v = sde.probability_flow(lambda x, t: law(float(t[0])).score(x))(y, at(t))
        (divergence,) = torch.autograd.grad(v.sum(), y)
        change = (law(t + h).log_prob(x) - law(t - h).log_prob(x)) / (2 * h)
        terms = change, divergence, v.detach() * law(t).score(x)
        scale = sum(term.abs() for term in terms)
        assert (sum(terms).abs() < 1e-4 * scale + 1e-5).all() and scale.mean() > 0.1


@pytest.mark.parametrize("sde", [VP(), VE(0.01, 5.0)], ids=str)
def test_the_reverse_sde_brings_back_the_mixture(sde):
    """From p_1 with the exact score: the distribution function at four points, 10 000 paths."""
    data, n = Mixture1D(), 10_000
    drift = sde.reverse(lambda x, t: data.diffused(*sde.marginal(t[0])).score(x))
    start = data.diffused(*sde.marginal(torch.tensor(1.0))).sample(n, generator=seeded())
    times = torch.linspace(1, 0, 201).square()
    end = simulate(sde, drift, start, times)
    law = data.diffused(*sde.marginal(torch.tensor(0.0)))
    for v in (-1.1, -0.5, 0.3, 1.5):
        p = float(law.cdf(torch.tensor(v)))
        assert abs(float((end <= v).float().mean()) - p) < 4.5 * (p * (1 - p) / n) ** 0.5


@each_sde
def test_the_prior_is_what_is_left_of_data_at_the_end(sde):
    """KL(p_1 ‖ prior) of one datum at 1 is small, and `sample` and `log_prob` are of the same Gaussian."""
    alpha, sigma = sde.marginal(torch.tensor(1.0))
    prior = sde.prior((2, 3))
    scale = sde.sigma_max if isinstance(sde, VE) else 1.0
    x = prior.sample(5000, generator=seeded())
    assert x.shape == (5000, 2, 3) and prior.event_shape == (2, 3)
    assert abs(x.var() / scale**2 - 1) < 4.5 * (2 / x.numel()) ** 0.5
    assert torch.allclose(prior.log_prob(x), Normal(0.0, scale).log_prob(x).sum((1, 2)), atol=1e-4)
    ratio = float(sigma.square()) / scale**2
    kl = 0.5 * (ratio + float(alpha) ** 2 / scale**2 - 1 - math.log(ratio))
    assert kl < (0.1 if sde in GENTLE else 1e-3)


@each_sde
def test_coefficients_are_vectorised_over_times(sde):
    t = TIMES.flip(0)
    for each in (sde.rate, sde.diffusion, sde.log_snr, lambda t: sde.marginal(t)[0], lambda t: sde.marginal(t)[1]):
        assert torch.allclose(each(t), torch.stack([each(u) for u in t]), rtol=1e-12) and each(t).shape == t.shape


@each_sde
@pytest.mark.parametrize("event_shape", [(), (2,), (3, 4, 4)])
def test_each_row_moves_at_its_own_time(sde, event_shape):
    x = torch.randn(4, *event_shape, generator=seeded())
    t = torch.tensor([0.1, 0.4, 0.7, 1.0])
    for field in (sde.drift, sde.reverse(gaussian_score(sde)), sde.probability_flow(gaussian_score(sde))):
        rows = torch.cat([field(x[i : i + 1], t[i]) for i in range(4)])
        assert torch.allclose(field(x, t), rows, rtol=1e-5, atol=1e-6) and field(x, t).shape == x.shape


@each_sde
def test_what_moves_keeps_the_dtype_of_x(sde):
    x = torch.randn(3, 2, generator=seeded())
    for time in (torch.float32, torch.float64):
        t = torch.full((3,), 0.4, dtype=time)
        assert sde.drift(x, t).dtype == torch.float32 and sde.diffusion(t).dtype == time
        assert sde.reverse(lambda x, t: -x)(x, t).dtype == torch.float32


@each_sde
def test_bad_times_are_named(sde):
    x = torch.zeros(3, 2)
    for call in (sde.rate, sde.diffusion, sde.marginal, sde.snr, sde.log_snr, lambda t: sde.drift(x, t)):
        with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]; got values from 0.2 to 1.5"):
            call(torch.tensor([0.2, 1.5, 0.3]))
        with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]; got values from -0.1"):
            call(torch.tensor([-0.1, 0.0, 0.3]))
        with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]; got values from nan"):
            call(torch.full((3,), math.nan))
        for bad, got in ((torch.tensor([0, 1, 1]), r"\(3,\), torch.int64"), (torch.zeros(3, 1), r"\(3, 1\), torch.float32")):
            with pytest.raises(ValueError, match=r"t must be a float tensor of shape \(n,\) or \(\); got " + got):
                call(bad)
    with pytest.raises(ValueError, match=r"t must have shape \(3,\), one time for each row of x, or \(\); got \(2,\)"):
        sde.drift(x, torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("method", ["reverse", "probability_flow"])
def test_a_score_of_the_wrong_shape_is_named(method):
    field = getattr(VP(), method)(lambda x, t: x.sum(1))
    with pytest.raises(ValueError, match=r"score must return the shape of x, \(3, 2\); got \(3,\)"):
        field(torch.zeros(3, 2), torch.tensor(0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP(3.0, 1.0), "beta_min 3.0, beta_max 1.0"),
        (lambda: SubVP(-0.1, 1.0), "beta_min -0.1, beta_max 1.0"),
        (lambda: VP(0.0, 0.0), "beta_min 0.0, beta_max 0.0"),
        (lambda: VP(0.1, math.inf), "beta_max inf"),
        (lambda: VE(0.0, 1.0), "sigmas must satisfy 0 < sigma_min < sigma_max; got 0.0, 1.0"),
        (lambda: VE(2.0, 1.0), "sigmas must satisfy 0 < sigma_min < sigma_max; got 2.0, 1.0"),
        (lambda: GeometricVP(0.1, 1.0), "variances must satisfy 0 < variance_min < variance_max < 1; got 0.1, 1.0"),
    ],
)
def test_impossible_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
