"""Density ratios against pairs of Gaussians, where the ratio, the best loss and the effective sample size are known."""

import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from gmcourse import Likelihood, StandardNormal, fit
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.density_ratio import (
    NoiseContrastive,
    importance_resample,
    log_ratio_from_logit,
)
from gmcourse.fit import cosine

P, Q = Normal(0.6, 0.7), Normal(0.0, 1.0)
# log P/Q = c + b x + a x², in closed form
TRUE = torch.tensor([-math.log(0.7) - 0.36 / 0.98, 0.6 / 0.49, 0.5 - 0.5 / 0.49], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quantiles(law, n):
    """The midpoints of n slices of equal mass: an average over them is a quadrature for E[f(x)]."""
    return law.icdf((torch.arange(n, dtype=torch.float64) + 0.5) / n)


class Quantiles(Normal):
    """A normal law that is 'sampled' without chance, so that the expected loss can be had from the library's own `loss`."""

    def sample(self, shape=()):
        return quantiles(Normal(self.loc, self.scale), shape[0])


class Quadratic(nn.Module):
    """h(x) = c + b x + a x², where log P/Q is."""

    def __init__(self, start):
        super().__init__()
        self.coefficients = nn.Parameter(start.clone())

    def forward(self, x):
        return torch.cat([torch.ones_like(x), x, x**2], 1) @ self.coefficients


def expected(ratio, start=TRUE):
    """A model whose loss is no longer random, and data for it."""
    return NoiseContrastive(Quadratic(start), Quantiles(0.0, 1.0), ratio=ratio), quantiles(P, 20_000)


def best_loss(ratio):
    """Of a classifier between P and `ratio` times as much Q that knows both densities, by scipy's quadrature."""

    def integrand(x):
        p, q = (law.log_prob(torch.tensor(x, dtype=torch.float64)).exp().item() for law in (P, Q))
        d = p / (p + ratio * q)
        return -p * math.log(d) - ratio * q * math.log1p(-d)

    return quad(integrand, -8, 8, epsabs=1e-10)[0]


@pytest.mark.parametrize("ratio", [1, 4])
def test_the_true_ratio_is_a_stationary_point_of_the_expected_loss(ratio):
    model, x = expected(ratio)
    model.loss(x).mean().backward()
    assert model.net.coefficients.grad.abs().max() < 1e-3
    model, x = expected(ratio, TRUE + 0.2)
    model.loss(x).mean().backward()
    assert model.net.coefficients.grad.abs().max() > 0.05


@pytest.mark.parametrize("ratio", [1, 4])
def test_the_least_expected_loss_is_that_of_a_classifier_that_knows_both_densities(ratio):
    model, x = expected(ratio)
    assert model.loss(x).mean().item() == pytest.approx(best_loss(ratio), abs=1e-4)


def test_the_least_expected_loss_is_2_ln_2_minus_twice_the_js_divergence():
    def integrand(x):
        p, q = (law.log_prob(torch.tensor(x, dtype=torch.float64)).exp().item() for law in (P, Q))
        m = (p + q) / 2
        return 0.5 * (p * math.log(p / m) + q * math.log(q / m))

    js = quad(integrand, -8, 8, epsabs=1e-10)[0]
    model, x = expected(1)
    assert js > 0.05
    assert model.loss(x).mean().item() == pytest.approx(2 * math.log(2) - 2 * js, abs=1e-4)


@pytest.mark.parametrize("ratio", [1, 4])
def test_minimising_the_expected_loss_gives_the_closed_form_of_the_ratio(ratio):
    model, x = expected(ratio, torch.zeros(3, dtype=torch.float64))
    search = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        loss = model.loss(x).mean()
        loss.backward()
        return loss

    search.step(closure)
    assert torch.allclose(model.net.coefficients.detach(), TRUE, atol=5e-3)


def test_training_by_fit_finds_the_ratio_and_the_density():
    p = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], 0.5)
    q = Independent(Normal(torch.zeros(2), 1.5 * torch.ones(2)), 1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1))
    model = NoiseContrastive(net, q, ratio=2)
    fit(model, p, steps=400, batch_size=512, lr=5e-3, schedule=cosine(), progress=False)
    x = p.sample(5000, generator=seeded())
    with torch.no_grad():
        errors = model.log_prob(x) - p.log_prob(x)
    assert errors.square().mean().sqrt() < 0.2
    log_z, _, ess = model.log_normaliser(20_000, generator=seeded())
    assert abs(log_z) < 0.1 and ess > 1000


def test_discriminator_and_ratio_belong_together():
    """Thesis (1.12): D = p/(p + q), and p/q = D/(1 − D)."""
    model = NoiseContrastive(Quadratic(TRUE), Q)
    x = torch.linspace(-2, 3, 50, dtype=torch.float64)
    p, q = P.log_prob(x).exp(), Q.log_prob(x).exp()
    assert torch.allclose(model.discriminator(x), p / (p + q))
    assert torch.allclose(model.log_ratio(x), model.discriminator(x).logit())
    assert torch.allclose(model.log_prob(x), P.log_prob(x))


def test_the_classifiers_logit_holds_the_class_sizes_and_the_correction_takes_them_out():
    x = torch.linspace(-2, 3, 50, dtype=torch.float64)
    p, q = P.log_prob(x).exp(), Q.log_prob(x).exp()
    frequency = 300 * p / (300 * p + 700 * q)
    assert torch.allclose(log_ratio_from_logit(frequency.logit(), n_p=300, n_q=700), P.log_prob(x) - Q.log_prob(x))
    assert log_ratio_from_logit(torch.tensor([500.0, -500.0])).tolist() == [500.0, -500.0]


def test_resampling_turns_draws_of_the_noise_into_draws_of_the_data():
    """Mean, variance and median of SIR samples against those of P; the pool is large enough not to count."""
    model = NoiseContrastive(Quadratic(TRUE), Q, pool=50)
    n = 20_000
    x = model.sample(n, generator=seeded())
    assert x.shape == (n,) and x.dtype == torch.float64
    assert abs(x.mean() - 0.6) < 5 * 0.7 / n**0.5
    assert abs(x.var() - 0.49) < 5 * 0.49 * (2 / n) ** 0.5
    assert abs((x < 0.6).double().mean() - 0.5) < 5 * 0.5 / n**0.5


def test_indices_come_as_often_as_their_weights_say():
    log_weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    n = 100_000
    for shift in (0.0, 1e4, -1e4):
        found = importance_resample(log_weights + shift, n, generator=seeded()).bincount(minlength=4) / n
        wanted = log_weights.exp()
        assert ((found - wanted).abs() < 5 * (wanted * (1 - wanted) / n).sqrt()).all()
    assert importance_resample(torch.tensor([-math.inf, 0.0]), 100, generator=seeded()).unique().tolist() == [1]


class Shift(nn.Module):
    """The exact log-ratio of N(m, 1) to N(0, 1)."""

    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x):
        return self.m * x - self.m**2 / 2


@pytest.mark.parametrize("m", [0.5, 1.0])
def test_effective_sample_size_falls_exponentially_with_the_squared_distance(m):
    """E_q[w] = 1 and E_q[w²] = e^{m²}, so the ESS of n draws tends to n e^{−m²}; 5 standard errors of the mean of w²."""
    n = 400_000
    log_z, _, ess = NoiseContrastive(Shift(m), Normal(0.0, 1.0)).log_normaliser(n, generator=seeded())
    assert log_z == pytest.approx(0.0, abs=5 * (math.expm1(m**2) / n) ** 0.5)
    assert ess / n == pytest.approx(math.exp(-(m**2)), rel=5 * (math.expm1(4 * m**2) / n) ** 0.5)


def test_far_noise_leaves_nothing_to_resample_and_the_normaliser_is_wrong():
    """At m = 6 a handful of 100 000 draws carries everything, and log Z, which is 0, is missed from below."""
    log_z, _, ess = NoiseContrastive(Shift(6.0), Normal(0.0, 1.0)).log_normaliser(100_000, generator=seeded())
    assert ess < 20 and log_z < -0.5


@pytest.mark.parametrize(
    "noise",
    [
        StandardNormal(3),
        MultivariateNormal(torch.zeros(3), torch.eye(3)),
        GaussianMixture([1.0], torch.zeros(1, 3), 1.0),
    ],
    ids=lambda noise: type(noise).__name__,
)
def test_any_noise_will_do_and_the_seed_decides(noise):
    model = NoiseContrastive(nn.Linear(3, 1), noise)
    state = torch.get_rng_state()
    x = model.sample(7, generator=seeded(1))
    assert x.shape == (7, 3) and torch.equal(x, model.sample(7, generator=seeded(1)))
    assert not torch.equal(x, model.sample(7, generator=seeded(2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.loss(x).shape == model.log_prob(x).shape == (7,)


def test_only_the_net_is_trained():
    noise = StandardNormal(2)
    noise.weight = nn.Parameter(torch.zeros(()))
    model = NoiseContrastive(nn.Linear(2, 1), noise, pool=8)
    (player,) = model.players()
    assert {id(p) for p in player.parameters()} == {id(p) for p in model.net.parameters()}
    assert model.nfe == 8 and model.likelihood is Likelihood.UNNORMALIZED


def test_densities_on_the_line_come_to_the_net_as_columns():
    model = NoiseContrastive(nn.Linear(1, 1), Mixture1D(), ratio=3)
    assert model.loss(torch.zeros(5)).shape == model.log_ratio(torch.zeros(5)).shape == (5,)
    assert model.sample(4).shape == (4,)


def plain(outputs=1, noise=None, **settings):
    return NoiseContrastive(nn.Linear(2, outputs), noise or StandardNormal(2), **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plain(noise="normal"), "noise must be a Distribution or a GenerativeModel; got str"),
        (lambda: plain(noise=Normal(torch.zeros(2), 1.0)), r"without batch shape; got \(2,\)"),
        (lambda: plain(ratio=0), "ratio must be a positive whole number; got 0"),
        (lambda: plain(pool=0.5), "pool must be a positive whole number"),
        (lambda: plain(outputs=2).loss(torch.zeros(3, 2)), r"net must give shape \(n,\)"),
        (lambda: plain().loss(torch.zeros(3, 4)), r"x must have shape \(n, 2\)"),
        (lambda: plain().sample(0), "n must be a positive whole number; got 0"),
        (lambda: importance_resample(torch.zeros(0), 1), r"log_weights must have shape \(m,\) and not be empty; got \(0,\)"),
        (lambda: importance_resample(torch.full((3,), -math.inf), 1), "finite largest value; got -inf"),
        (lambda: importance_resample(torch.tensor([0.0, math.nan]), 1), "finite largest value; got nan"),
        (lambda: importance_resample(torch.tensor([0.0, math.inf]), 1), "finite largest value; got inf"),
        (lambda: log_ratio_from_logit(torch.zeros(1), n_p=0), "n_p and n_q must be positive; got 0 and 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
