"""The variational bound against dense Gaussians, quadrature, scipy, torch's KL divergences: none shares its code."""

import math
from itertools import pairwise

import pytest
import torch
from problems.exact_noise import ExactNoise
from scipy.stats import norm
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.bound import decoder_log_prob, kl_normals, prior_term, term, variational_bound
from gmcourse.diffusion.ddpm import DDPM
from gmcourse.diffusion.schedule import DiscreteDiffusion, linear_betas, vp_betas

N = 20_000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=99):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


class Linear(nn.Module):
    """ε_θ(x, t) = a_t x + b_t: then p_θ is a Gaussian."""

    def __init__(self, chain, seed=0):
        super().__init__()
        self.a = nn.Parameter(0.6 * chain.marginal(normal(1), 0)[1] + 0.3 * normal(len(chain), seed=seed).abs())
        self.b = nn.Parameter(0.3 * normal(len(chain), seed=seed + 1))

    def forward(self, x, t):
        return self.a[t].reshape(-1, *[1] * (x.ndim - 1)) * x + self.b[t].reshape(-1, *[1] * (x.ndim - 1))


def linear_model(steps=5, seed=0, event_shape=(1,), **options):
    chain = DiscreteDiffusion(vp_betas(steps, 0.1, 8.0))
    return DDPM(Linear(chain, seed), chain, event_shape=event_shape, **options).double()


@torch.no_grad()
def affine(model):
    """A, B, σ² of p_θ(x_{t−1} | x_t) = N(A x_t + B, σ²), t = 0 … T−1, of a linear net; thesis (2.60) written out."""
    chain, net = model.chain, model.net
    betas, bars = chain.betas, chain.alpha_bars
    share = betas / (1 - bars).sqrt()
    before = torch.cat([torch.ones(1, dtype=torch.float64), bars[:-1]])
    small = (1 - before) / (1 - bars) * betas
    small[0] = small[1] if len(betas) > 1 else betas[0]
    variance = small if model.variance == "small" else betas
    return (1 - share * net.a) / (1 - betas).sqrt(), -share * net.b / (1 - betas).sqrt(), variance


def joint_reverse(model):
    """Mean and covariance of (x_0, x_1, …, x_T) under p_θ, the last ~ N(0, 1)."""
    a, b, variance = affine(model)
    last = len(a)
    mean, factor = torch.zeros(last + 1, dtype=torch.float64), torch.zeros(last + 1, last + 1, dtype=torch.float64)
    factor[last, last] = 1.0
    for t in reversed(range(last)):
        mean[t] = a[t] * mean[t + 1] + b[t]
        factor[t] = a[t] * factor[t + 1]
        factor[t, t] += variance[t].sqrt()
    return mean, factor @ factor.T


def joint_forward(chain, x0):
    """The law of (x_1, …, x_T) given x_0, a dense Gaussian from thesis (2.44) alone."""
    last = len(chain)
    mean, factor = torch.zeros(last, dtype=torch.float64), torch.zeros(last, last, dtype=torch.float64)
    for t, beta in enumerate(chain.betas):
        mean[t] = (1 - beta).sqrt() * (mean[t - 1] if t else x0)
        factor[t] = (1 - beta).sqrt() * (factor[t - 1] if t else 0)
        factor[t, t] += beta.sqrt()
    return MultivariateNormal(mean, factor @ factor.T)


def exact_bound(model, x0):
    """−log p_θ(x_0), and the looseness of the bound: KL(q(x_{1:T} | x_0) ‖ p_θ(x_{1:T} | x_0)), between dense Gaussians."""
    mean, covariance = joint_reverse(model)
    nll = -Normal(mean[0], covariance[0, 0].sqrt()).log_prob(torch.as_tensor(x0, dtype=torch.float64))
    gain = covariance[1:, 0] / covariance[0, 0]
    given = mean[1:] + gain * (x0 - mean[0])
    left = covariance[1:, 1:] - torch.outer(gain, covariance[0, 1:])
    return nll, kl_divergence(joint_forward(model.chain, x0), MultivariateNormal(given, left))


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("x0", [-1.3, 0.4])
def test_the_bound_is_above_the_negative_log_likelihood_by_the_divergence_of_the_latents(steps, variance, x0):
    """A linear net makes p_θ a Gaussian of all T + 1 variables: L = −log p_θ(x_0) + KL, thesis (2.52)."""
    model = linear_model(steps, variance=variance)
    nll, gap = exact_bound(model, x0)
    with torch.no_grad():
        found = variational_bound(model, torch.full((N, 1), x0, dtype=torch.float64), generator=seeded()).total
    assert gap > 0.005
    assert abs(found.mean() - nll - gap) < 5 * found.std() / N**0.5 + 1e-5


def test_events_of_many_numbers_add_up():
    model = linear_model(event_shape=(2, 1, 2))
    x0 = normal(2, 1, 2)
    with torch.no_grad():
        found = variational_bound(model, x0.expand(N, 2, 1, 2), generator=seeded()).total
    wanted = sum(sum(exact_bound(model, v)) for v in x0.flatten().tolist())
    assert abs(found.mean() - wanted) < 5 * found.std() / N**0.5


def test_with_one_step_the_bound_is_a_prior_and_a_decoder():
    """T = 1: L = KL(q(x_1 | x_0) ‖ N(0, 1)) + E‖x_0 − A x_1 − B‖²/(2σ²) + ½ log 2πσ²."""
    model, x0 = linear_model(1), 0.7
    a, b, variance = (float(v) for v in affine(model))
    beta = float(model.chain.betas)
    alpha = math.sqrt(1 - beta)
    wrong = (x0 - a * alpha * x0 - b) ** 2 + a**2 * beta
    prior = -0.5 * math.log(beta) + (beta + (alpha * x0) ** 2 - 1) / 2
    with torch.no_grad():
        found = variational_bound(model, torch.full((N, 1), x0, dtype=torch.float64), generator=seeded())
    assert found.steps.shape == (1, N) and found.prior[0].item() == pytest.approx(prior)
    wanted = prior + wrong / (2 * variance) + 0.5 * math.log(2 * math.pi * variance)
    assert abs(found.total.mean() - wanted) < 5 * found.total.std() / N**0.5


@pytest.mark.parametrize("steps", [3, 6])
def test_the_bound_holds_for_a_net_that_is_not_linear(steps):
    """−log p_θ(x_0) by quadrature over all latents, one after the other; every L_t by quadrature over x_t."""
    data, chain = Mixture1D(), DiscreteDiffusion(vp_betas(steps))
    model = DDPM(ExactNoise(data, chain), chain, event_shape=())
    x0 = torch.tensor([-1.0, -0.3, 1.4], dtype=torch.float64)
    grid = torch.linspace(-6, 6, 1501, dtype=torch.float64)
    cell = grid[1] - grid[0]
    p, total = Normal(0.0, 1.0).log_prob(grid).exp(), prior_term(chain, x0)
    for t in reversed(range(steps)):
        mean, variance = model.reverse(grid, torch.full((1501,), t))
        ends = grid if t else x0
        p = cell * Normal(mean, variance.sqrt()).log_prob(ends[:, None]).exp() @ p
        bar, step = chain.alpha_bars[t], Normal(mean, variance.sqrt())
        weights = cell * Normal(bar.sqrt() * x0[:, None], (1 - bar).sqrt()).log_prob(grid).exp()  # q(x_t | x_0)
        if t == 0:
            values = -step.log_prob(x0[:, None])
        else:
            true_mean, true_variance = chain.posterior(x0[:, None].expand(3, 1501), grid.expand(3, 1501), t)
            values = kl_divergence(Normal(true_mean, true_variance.sqrt()), step)
        total = total + (weights * values).sum(1)
    found = variational_bound(model, x0.repeat_interleave(N), generator=seeded()).total.reshape(3, N)
    assert ((found.mean(1) - total).abs() < 5 * found.std(1) / N**0.5).all()
    assert (total > -p.log()).all()


def test_the_prior_term_is_torchs_divergence():
    chain, x = DiscreteDiffusion(linear_betas(20, 0.01, 0.2)), normal(4, 2, 3)
    alpha, sigma = chain.marginal(x, 19)
    wanted = kl_divergence(Normal(alpha * x, sigma.expand(4, 2, 3)), Normal(0.0, 1.0)).sum((1, 2))
    torch.testing.assert_close(prior_term(chain, x), wanted)


def test_the_divergence_of_normals_is_torchs():
    m1, m2, v1, v2 = normal(50, seed=1), normal(50, seed=2), normal(50, seed=3).exp(), normal(50, seed=4).exp()
    torch.testing.assert_close(kl_normals(m1, v1, m2, v2), kl_divergence(Normal(m1, v1.sqrt()), Normal(m2, v2.sqrt())))


@pytest.mark.parametrize("variance", ["small", "large"])
def test_a_term_is_the_weighted_error_of_the_noise_plus_a_constant(variance):
    """Thesis (2.57), (2.61): the constant knows neither x nor net, and is 0 where σ² = β̃."""
    model, x, eps = linear_model(6, event_shape=(2,), variance=variance), normal(500, 2), normal(500, 2, seed=1)
    t = torch.arange(500) % 5 + 1
    with torch.no_grad():
        wrong = (eps - model.eps(model.chain.q_sample(x, t, eps), t)).square().sum(1)
        left = term(model, x, t, eps) - model.weight(t) * wrong
    bars, betas = model.chain.alpha_bars, model.chain.betas
    small = (1 - bars[t - 1]) / (1 - bars[t]) * betas[t]
    ratio = small / betas[t] if variance == "large" else torch.ones(500, dtype=torch.float64)
    torch.testing.assert_close(left, ratio - 1 - ratio.log(), rtol=1e-4, atol=1e-5)  # d/2 of it, and d = 2


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_weight_is_the_ratio_of_errors_of_mean_and_noise(variance):
    """‖μ̃ − μ_θ‖²/(2σ²) = weight · ‖ε − ε_θ‖², thesis (2.57) and (2.61), at every time."""
    model = linear_model(40, variance=variance)
    t = torch.arange(1, 40)
    x, eps = normal(39, 1), normal(39, 1, seed=1)
    xt = model.chain.q_sample(x, t, eps)
    with torch.no_grad():
        mean, sigma2 = model.reverse(xt, t)
        true_mean, _ = model.chain.posterior(x, xt, t)
        ratio = (true_mean - mean).square() / (2 * sigma2) / (eps - model.eps(xt, t)).square()
    torch.testing.assert_close(ratio[:, 0], model.weight(t), rtol=1e-6, atol=0)


def test_some_of_the_times_stand_for_all():
    """One random time beside the decoder: unbiased."""
    model, x0 = linear_model(5), 0.4
    x = torch.full((N // 4, 1), x0, dtype=torch.float64)
    with torch.no_grad():
        found = torch.cat([variational_bound(model, x, times=[0, t], generator=seeded(t)).total for t in (1, 2, 3, 4)])
    assert abs(found.mean() - sum(exact_bound(model, x0))) < 5 * found.std() / N**0.5


@pytest.mark.parametrize("levels", [2, 256])
@pytest.mark.parametrize("width", [1e-3, 0.05, 3.0])
@pytest.mark.parametrize("mean", [-1.2, -1.0, 0.003, 0.7, 4.0])
def test_the_bins_have_probabilities_that_sum_to_one(levels, width, mean):
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)
    found = decoder_log_prob(x, torch.tensor(mean).double(), torch.tensor(width**2).double(), levels)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_probability_of_a_bin_is_scipys(dtype):
    """In the tails, too, where the difference of two probabilities near 1 would be 0."""
    x = torch.linspace(-1, 1, 256, dtype=dtype)
    found = decoder_log_prob(x, torch.full((256,), 0.2, dtype=dtype), torch.tensor(0.1**2, dtype=dtype), 256)
    edges = (torch.linspace(-1, 1, 256, dtype=torch.float64)[:-1] + 1 / 255 - 0.2).numpy() / 0.1
    bins = pairwise([-math.inf, *edges, math.inf])
    wanted = [(norm.sf(a) - norm.sf(b)) if a > 0 else (norm.cdf(b) - norm.cdf(a)) for a, b in bins]
    wanted = torch.tensor(wanted, dtype=torch.float64).log()
    assert wanted.min() < -60
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4 if dtype == torch.float32 else 1e-8, atol=1e-3)


def test_the_decoder_has_finite_gradients_everywhere():
    x = torch.linspace(-1, 1, 256).repeat(4, 1)
    mean = torch.tensor([-30.0, 0.0, 1.0, 30.0])[:, None].expand(4, 256).clone().requires_grad_()
    log_variance = torch.full((4, 256), -9.0, requires_grad=True)
    found = decoder_log_prob(x, mean, log_variance.exp(), 256)
    slopes = torch.autograd.grad(found.sum(), (mean, log_variance))
    assert found.isfinite().all() and all(slope.isfinite().all() for slope in slopes)
    assert (slopes[0][3, :-1] < 0).all() and (slopes[0][0, 1:] > 0).all()


def test_a_model_that_knows_the_only_datum_needs_the_bits_of_its_decoder_alone():
    """ε exact for one value: all L_t = 0; L_0 is scipy's probability of its bin, L_T almost 0; bits are L/(d ln 2)."""
    chain, c = DiscreteDiffusion(linear_betas(1000)), 51 / 255
    model = DDPM(Point(chain, c), chain, event_shape=(3,), variance="small", levels=256)
    found = variational_bound(model, torch.full((2, 3), c, dtype=torch.float64), times=[0, 1, 500, 999], generator=seeded())
    assert found.steps[1:].abs().max() < 1e-9 and found.prior.max() < 1e-4
    beta = (1 - chain.alpha_bars[0]) / (1 - chain.alpha_bars[1]) * chain.betas[1]
    inside = 2 * norm.cdf(1 / 255 / math.sqrt(beta)) - 1
    bits = found.total / (3 * math.log(2))
    torch.testing.assert_close(bits, torch.full_like(bits, -math.log2(inside)), rtol=1e-3, atol=1e-4)


class Point(nn.Module):
    def __init__(self, chain, c):
        super().__init__()
        self.chain, self.c = chain, c

    def forward(self, x, t):
        alpha, sigma = self.chain.marginal(x, t)
        return (x - alpha * self.c) / sigma


MODEL, X = linear_model(5), torch.zeros(3, 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: variational_bound(MODEL, X, times=[]), r"times must lie in 0 … 4; got \[\]"),
        (lambda: variational_bound(MODEL, X, times=[0, 5]), r"times must lie in 0 … 4; got \[0, 5\]"),
        (lambda: variational_bound(MODEL, X, times=[1, 2]), r"times must hold 0, the decoder, and one that is not; got \[1"),
        (lambda: variational_bound(MODEL, X, times=[0]), r"times must hold 0, the decoder, and one that is not; got \[0\]"),
        (lambda: decoder_log_prob(X, X, X + 1, 0), "levels must be a positive whole number; got 0"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
