"""Diagnostics against chains whose correlation is known: AR(1), x' = ρ x + √(1 − ρ²) ω."""

import math

import numpy as np
import pytest
import torch

from gmcourse.sampling import HMC, ULA, autocorrelation, bias_against_step, chain_ess, integrated_time, r_hat


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ar1(rho, t=4000, n=64, seed=0):
    """n stationary chains (t, n)."""
    noise = torch.randn(t, n, generator=seeded(seed), dtype=torch.float64)
    rows = [noise[0]]
    for w in noise[1:]:
        rows.append(rho * rows[-1] + math.sqrt(1 - rho**2) * w)
    return torch.stack(rows)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_autocorrelation_of_ar1_is_a_geometric_series(rho):
    found = autocorrelation(ar1(rho))
    lags = torch.arange(12)
    error = 4.5 * math.sqrt((1 + rho**2) / (1 - rho**2) / (4000 * 64))  # Bartlett's formula, at its largest
    assert found.shape == (4000,) and torch.allclose(found[:12], rho**lags.double(), atol=error)


def test_the_fast_transform_gives_the_plain_sums():
    x = ar1(0.7, t=50, n=3)
    centred = (x - x.mean()).numpy()
    plain = [np.mean([np.dot(c[: 50 - k], c[k:]) / (50 - k) for c in centred.T]) for k in range(50)]
    assert np.allclose(autocorrelation(x), np.array(plain) / plain[0])


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_integrated_time_and_ess_of_ar1(rho):
    """τ = (1 + ρ)/(1 − ρ)."""
    x = ar1(rho)
    tau = (1 + rho) / (1 - rho)
    assert integrated_time(x) == pytest.approx(tau, rel=0.06, abs=0.02)
    assert chain_ess(x) == pytest.approx(4000 * 64 / tau, rel=0.06)


def test_ess_foretells_the_error_of_the_mean():
    """Var(mean) = variance/ESS: over 400 independent chains of 500 steps."""
    x = ar1(0.8, t=500, n=400)
    spread = x.mean(0).var()
    assert float(spread * chain_ess(x) / 400) == pytest.approx(1.0, abs=4.5 * math.sqrt(2 / 400))


def test_scale_and_shift_do_not_matter():
    x = ar1(0.5, t=500, n=4)
    assert integrated_time(3 - 7 * x) == pytest.approx(integrated_time(x)) and r_hat(3 - 7 * x) == pytest.approx(r_hat(x))


def test_one_chain_may_come_without_its_dimension():
    x = ar1(0.5, t=500, n=1)
    assert torch.equal(autocorrelation(x[:, 0]), autocorrelation(x)) and r_hat(x[:, 0]) == r_hat(x)


def test_chains_in_different_modes_are_worth_little_and_show_in_r_hat():
    x = ar1(0.0, t=500, n=4)
    apart = x + torch.tensor([-5.0, -5.0, 5.0, 5.0])
    assert r_hat(x) < 1.01 and r_hat(apart) > 3
    assert chain_ess(x) > 1500 and chain_ess(apart) < 20


def test_r_hat_of_a_drifting_chain_is_large_though_the_chains_agree():
    """The halves differ: that is what splitting is for."""
    x = ar1(0.0, t=500, n=4) + torch.linspace(-4, 4, 500)[:, None]
    assert r_hat(x) > 1.5


def test_r_hat_is_the_formula_of_bda3():
    x = ar1(0.6, t=41, n=3)
    halves = [half for chain in x.T.numpy() for half in (chain[:20], chain[-20:])]
    within = np.mean([np.var(half, ddof=1) for half in halves])
    between = 20 * np.var([half.mean() for half in halves], ddof=1)
    assert r_hat(x) == pytest.approx(math.sqrt((19 / 20 * within + between / 20) / within))


def test_ula_on_a_gaussian_is_an_ar1_chain():
    """x' = (1 − η/2) x + …, so τ = (2 − η/2)/(η/2)."""
    x0 = torch.randn(200, generator=seeded(), dtype=torch.float64)
    trace = ULA(score=lambda x: -x, step=0.4).trace(x0, 2000, generator=seeded(1))
    assert integrated_time(trace.x) == pytest.approx(1.8 / 0.2, rel=0.06)


def test_bias_is_reported_with_the_error_of_independent_chains():
    """Chains that never move: the bias is that of the start, the error that of its mean."""
    x0 = torch.randn(400, generator=seeded(), dtype=torch.float64)

    def make(step):
        return ULA(score=torch.zeros_like, step=step, temperature=0.0)

    found = bias_against_step(make, x0, torch.square, 1.0, [0.1, 0.2], steps=10, skip=0)
    assert torch.allclose(found.value, (x0.square().mean() - 1).expand(2))
    assert torch.allclose(found.stderr, (x0.square().std() / 20).expand(2))
    assert found.step_sizes.tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: autocorrelation(torch.zeros(10, 2)), "values must vary; got 0 throughout"),
        (lambda: autocorrelation(torch.full((1000, 3), 0.1)), "values must vary"),
        (lambda: integrated_time(torch.zeros(1, 2)), r"at least 2 steps; got \(1, 2\)"),
        (lambda: autocorrelation(torch.zeros(4, 2, 2)), r"values must be floats \(t, n\).*; got \(4, 2, 2\)"),
        (lambda: autocorrelation(torch.tensor([0.0, math.nan])), "values must be finite"),
        (lambda: r_hat(torch.rand(3, 2)), "at least 4 steps"),
        (lambda: r_hat(torch.ones(6, 1) * torch.arange(3.0)), "values must vary within chains"),
        (lambda: bias_against_step(ULA, torch.zeros(1), torch.square, 1.0, [0.1]), "at least 2 chains .*; got 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_chains_that_swing_about_their_mean_are_worth_more_than_independent_draws():
    """Antithetic chains have τ < 1; whatever the noise says, it stays positive, and the ESS with it."""
    swinging = torch.tensor([1.0, -1.0]).repeat(50)
    assert 0 < integrated_time(swinging) < 1 and chain_ess(swinging) > 100
    g = torch.Generator().manual_seed(0)
    x = HMC(lambda x: x.square().sum(1) / 2, step=0.3).trace(torch.randn(4, 1, generator=g), 100, generator=g).x[..., 0]
    assert 400 <= chain_ess(x) <= 400 * math.log10(400) + 1
