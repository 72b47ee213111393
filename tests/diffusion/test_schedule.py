"""The forward chain against one-step recursions, Bayes' rule by quadrature, autograd, and published numbers."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from gmcourse.diffusion.schedule import (
    KINDS,
    DiscreteDiffusion,
    bridge,
    convert,
    cosine_betas,
    linear_betas,
    sigmoid_betas,
    vp_betas,
)

SCHEDULES = {
    "linear": linear_betas(100, 1e-3, 0.2),
    "cosine": cosine_betas(50),
    "sigmoid": sigmoid_betas(50),
    "thesis": vp_betas(4),
}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments_step_by_step(betas):
    """Factor of x0 and variance of x_t after every step of (2.44), in plain numbers."""
    alpha, variance = 1.0, 0.0
    for beta in betas.tolist():
        alpha, variance = math.sqrt(1 - beta) * alpha, (1 - beta) * variance + beta
        yield alpha, variance


def bayes(x0, xt, start, then):
    """Mean and variance of x_s given x_t and x_0, on a grid; (factor, variance) of the steps 0 to s, s to t."""
    grid = np.linspace(-12, 12, 40_001)
    log_p = norm.logpdf(grid, start[0] * x0, math.sqrt(start[1])) + norm.logpdf(xt, then[0] * grid, math.sqrt(then[1]))
    p = np.exp(log_p - log_p.max())
    mean = (p * grid).sum() / p.sum()
    return mean, (p * (grid - mean) ** 2).sum() / p.sum()


@pytest.mark.parametrize("betas", SCHEDULES.values(), ids=SCHEDULES)
def test_the_law_of_x_t_is_that_of_t_single_steps(betas):
    found = DiscreteDiffusion(betas).marginal(torch.zeros(len(betas), dtype=torch.float64), torch.arange(len(betas)))
    alpha, variance = torch.tensor(list(moments_step_by_step(betas)), dtype=torch.float64).T
    torch.testing.assert_close(found[0], alpha, rtol=1e-10, atol=0)
    torch.testing.assert_close(found[1].square(), variance, rtol=1e-10, atol=0)


@pytest.mark.parametrize("betas", SCHEDULES.values(), ids=SCHEDULES)
def test_the_posterior_is_bayes_rule(betas):
    """q(x_t | x_{t−1}) q(x_{t−1} | x_0), normalised on a grid; a batch with a different time for each datum."""
    t = torch.tensor([1, 2, len(betas) - 1])
    x0, xt = normal(3), normal(3, seed=1)
    mean, variance = DiscreteDiffusion(betas).posterior(x0, xt, t)
    past = list(moments_step_by_step(betas))
    for i, k in enumerate(t.tolist()):
        beta = betas[k].item()
        truth = bayes(x0[i].item(), xt[i].item(), past[k - 1], (math.sqrt(1 - beta), beta))
        assert (mean[i].item(), variance[i].item()) == pytest.approx(truth, rel=1e-7, abs=1e-9)


def test_the_bridge_between_distant_times_is_bayes_rule():
    """From t = 9 to s = 3 of a chain: x_9 given x_3 by six steps of (2.44)."""
    betas = linear_betas(10, 0.01, 0.3)
    *_, six_steps = moments_step_by_step(betas[4:])
    bars = DiscreteDiffusion(betas).alpha_bars
    a, b, variance = bridge(bars[9].item(), bars[3].item())
    truth = bayes(0.7, -0.4, list(moments_step_by_step(betas))[3], six_steps)
    assert (a * 0.7 + b * -0.4, variance) == pytest.approx(truth, rel=1e-7)


def test_the_square_root_that_the_source_prints_in_the_posterior_is_not_bayes_rule():
    """(2.51) with √ᾱ_t instead of √α_t misses the mean by several per cent."""
    betas = vp_betas(4)
    chain = DiscreteDiffusion(betas)
    then, now = chain.alpha_bars[1].item(), chain.alpha_bars[2].item()
    slip = math.sqrt(now) * (1 - then) / (1 - now)
    truth, _ = bayes(0.0, 1.0, list(moments_step_by_step(betas))[1], (math.sqrt(1 - betas[2].item()), betas[2].item()))
    assert bridge(now, then)[1] == pytest.approx(truth, rel=1e-7)
    assert abs(slip - truth) > 0.05 * truth


def test_the_first_posterior_returns_the_data():
    x0 = normal(5, 2).float()
    mean, variance = DiscreteDiffusion(vp_betas(4)).posterior(x0, normal(5, 2, seed=1).float(), 0)
    assert torch.equal(mean, x0) and variance == 0


def test_published_numbers():
    assert DiscreteDiffusion(linear_betas()).alpha_bars[-1].item() == pytest.approx(4.0358e-5, rel=2e-5)
    assert vp_betas(4).tolist() == pytest.approx([0.47632, 0.84902, 0.95647, 0.98745], abs=6e-6)
    shifted = DiscreteDiffusion(torch.tensor([0.47826, 0.84921, 0.95642, 0.98740]))  # what the authors of DDGAN used
    _, variances = shifted.posterior(torch.zeros(4), torch.zeros(4), torch.arange(4))
    assert variances.tolist() == pytest.approx([0, 0.44082, 0.88420, 0.98406], abs=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 1000])
def test_the_vp_chain_meets_the_continuous_diffusion_at_every_number_of_steps(steps):
    bars = DiscreteDiffusion(vp_betas(steps)).alpha_bars
    for k in {0, steps // 2, steps - 1}:
        integral, _ = quad(lambda u: 0.1 + 19.9 * u, 0, (k + 1) / steps)
        assert bars[k].item() == pytest.approx(math.exp(-integral), rel=1e-9)


def test_the_cosine_and_the_sigmoid_are_curves_of_alpha_bar():
    """But for the last steps, whose β is capped. Written out again with scipy, from the papers."""
    u = np.arange(1, 41) / 50
    cosine = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    sigmoid = (expit(3 / 0.7) - expit((6 * u - 3) / 0.7)) / (expit(3 / 0.7) - expit(-3 / 0.7))
    for betas, curve in ((cosine_betas(50), cosine), (sigmoid_betas(50, temperature=0.7), sigmoid)):
        assert DiscreteDiffusion(betas).alpha_bars[:40].numpy() == pytest.approx(curve, rel=1e-10)
        assert betas[-1] == 0.999


def test_v_is_the_velocity_on_the_circle_of_alpha_and_sigma_and_the_score_a_slope():
    x0, eps, angle = normal(6, 3), normal(6, 3, seed=1), 0.6

    def x_at(phi):
        return phi.cos() * x0 + phi.sin() * eps

    alpha, sigma = math.cos(angle), math.sin(angle)
    phi = torch.tensor(angle, dtype=torch.float64)
    x, velocity = torch.func.jvp(x_at, (phi,), (torch.ones_like(phi),))
    torch.testing.assert_close(convert(eps, x, alpha, sigma, "eps", "v"), velocity)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(torch.distributions.Normal(alpha * x0, sigma).log_prob(x).sum(), x)
    torch.testing.assert_close(convert(x0, x, alpha, sigma, "x0", "score"), slope)


@pytest.mark.parametrize("given", KINDS)
def test_from_each_of_the_four_quantities_the_others_follow(given):
    chain, t = DiscreteDiffusion(cosine_betas(20)), torch.tensor([0, 7, 18])
    x0, eps = normal(3, 1, 4, 4), normal(3, 1, 4, 4, seed=1)
    alpha, sigma = (v.reshape(3, 1, 1, 1) for v in (chain.alpha_bars[t].sqrt(), (1 - chain.alpha_bars[t]).sqrt()))
    xt = chain.q_sample(x0, t, eps)
    torch.testing.assert_close(xt, alpha * x0 + sigma * eps)
    truth = {"x0": x0, "eps": eps, "v": alpha * eps - sigma * x0, "score": -eps / sigma}
    for wanted in KINDS:
        torch.testing.assert_close(chain.convert(truth[given], xt, t, given, wanted), truth[wanted])


def test_conversions_do_not_need_alpha_and_sigma_on_the_circle():
    """Variance exploding: α = 1, σ = 5."""
    x0, eps = normal(6, 2), normal(6, 2, seed=1)
    truth = {"x0": x0, "eps": eps, "v": eps - 5 * x0, "score": -eps / 5}
    for given in KINDS:
        for wanted in KINDS:
            torch.testing.assert_close(convert(truth[given], x0 + 5 * eps, 1.0, 5.0, given, wanted), truth[wanted])


def test_coefficients_are_as_exact_as_the_dtype_of_x():
    """1 − ᾱ_0 = 1e-4, worked out in float32, would be wrong in the fourth digit."""
    chain = DiscreteDiffusion(linear_betas())
    _, sigma = chain.marginal(torch.zeros(3), 0)
    assert sigma.dtype == torch.float32 and sigma.item() == pytest.approx(0.01, rel=1e-7)


def test_what_is_kept_from_inference_serves_training():
    chain = DiscreteDiffusion(vp_betas(4))
    with torch.inference_mode():
        chain.q_sample(torch.zeros(2, 2), 1, torch.ones(2, 2))
    x0 = torch.zeros(2, 2, requires_grad=True)
    chain.q_sample(x0, 1, torch.ones(2, 2)).sum().backward()
    assert x0.grad[0, 0].item() == pytest.approx(chain.alpha_bars[1].sqrt().item())


@pytest.mark.parametrize(("steps", "visited"), [(10, [*range(9, -2, -1)]), (5, [9, 7, 5, 3, 1, -1]), (1, [9, -1])])
def test_strided_times_run_from_the_noise_to_the_data(steps, visited):
    assert DiscreteDiffusion(vp_betas(10)).times(steps) == visited


@pytest.mark.parametrize("steps", [3, 7, 9])
def test_uneven_strides_differ_by_one_at_most_and_visit_no_time_twice(steps):
    times = np.array(DiscreteDiffusion(vp_betas(10)).times(steps))
    assert len(times) == steps + 1 and np.ptp(-np.diff(times)) <= 1 and np.diff(times).max() < 0


CHAIN, ZERO = DiscreteDiffusion(vp_betas(4)), torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: DiscreteDiffusion(torch.tensor([0.1, 1.3])), r"betas must lie in \(0, 1\); got values from 0.1 to 1.3"),
        (lambda: DiscreteDiffusion(torch.tensor([0.0, 0.5])), r"betas must lie in \(0, 1\)"),
        (lambda: DiscreteDiffusion(torch.tensor([0.1, math.nan])), r"betas must lie in \(0, 1\)"),
        (lambda: DiscreteDiffusion(torch.tensor(0.1)), r"betas must have shape \(T,\)"),
        (lambda: linear_betas(10, 0.001, 2.0), r"betas must lie in \(0, 1\)"),
        (lambda: cosine_betas(0), "steps must be"),
        (lambda: cosine_betas(5, offset=0.0), "offset must be positive"),
        (lambda: sigmoid_betas(5, start=1.0, end=1.0), "end must be above start"),
        (lambda: sigmoid_betas(5, temperature=0.0), "temperature must be positive"),
        (lambda: vp_betas(4, beta_min=-1.0), "beta_min must be positive"),
        (lambda: CHAIN.q_sample(ZERO, torch.tensor([0, 1, 4]), ZERO), r"t must lie in 0 … 3; got values from 0 to 4"),
        (lambda: CHAIN.q_sample(ZERO, -1, ZERO), "t must lie in 0 … 3"),
        (lambda: CHAIN.q_sample(ZERO, torch.rand(3), ZERO), "t must hold whole numbers, torch.int64; got torch.float32"),
        (lambda: CHAIN.q_sample(ZERO, torch.tensor([0, 1]), ZERO), r"t must have shape \(3,\)"),
        (lambda: CHAIN.q_sample(ZERO, 0, torch.zeros(3)), r"eps must have the shape of x0, \(3, 2\); got \(3,\)"),
        (lambda: CHAIN.q_sample(ZERO.long(), 0, ZERO), "x must hold floating-point numbers"),
        (lambda: CHAIN.posterior(ZERO[:, :1], ZERO, 0), "x0 must have the shape of xt"),
        (lambda: CHAIN.convert(ZERO, ZERO, 0, "noise", "x0"), "given must be one of x0, eps, v, score; got 'noise'"),
        (lambda: CHAIN.convert(ZERO, ZERO, 0, "x0", "mean"), "wanted must be one of"),
        (lambda: CHAIN.convert(ZERO[:1], ZERO, 0, "x0", "eps"), "value must have the shape of x"),
        (lambda: CHAIN.times(5), "steps must be at most T = 4; got 5"),
        (lambda: CHAIN.times(0), "steps must be"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
