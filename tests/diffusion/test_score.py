"""Score models with a perfect net, whose losses, densities and samples are known, and the numbers of LSGM."""

import math
from functools import partial

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from gmcourse import Likelihood, fit
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.diffusion.reverse import EulerMaruyama
from gmcourse.diffusion.schedule import convert
from gmcourse.diffusion.score import ScoreModel, cross_entropy_bound
from gmcourse.diffusion.sde import VE, VP, GeometricVP, SubVP
from gmcourse.diffusion.times import UniformTimes
from gmcourse.nets.denoiser import Denoiser
from gmcourse.nets.embedding import SinusoidalTime

SDES = [VP(), SubVP(), VE(0.01, 100.0), GeometricVP()]
each_sde = pytest.mark.parametrize("sde", SDES, ids=str)
SAYS = ["eps", "x0", "v", "score", "edm"]
each_way = pytest.mark.parametrize("says", SAYS)
DATA_SCALE = 0.7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Perfect(nn.Module):
    """What an ideal net says of data N(mean, width²) in each coordinate, in any parameterization."""

    def __init__(self, sde, says="eps", mean=0.0, width=1.0):
        super().__init__()
        self.sde, self.says, self.mean, self.width = sde, says, mean, width

    def eps(self, x, alpha, sigma):
        return sigma * (x - alpha * self.mean) / ((alpha * self.width) ** 2 + sigma**2)

    def forward(self, x, t):
        alpha, sigma = (c.to(x).reshape(-1, *[1] * (x.ndim - 1)) for c in self.sde.marginal(t))
        if self.says != "edm":
            return convert(self.eps(x, alpha, sigma), x, alpha, sigma, "eps", self.says)
        noise, scale = sigma / alpha, DATA_SCALE  # Karras et al. 2022, Table 1: F = (D − c_skip x̃)/c_out
        skip, out = scale**2 / (noise**2 + scale**2), noise * scale / (noise**2 + scale**2) ** 0.5
        clean = x * (noise**2 + scale**2) ** 0.5  # x̃, of c_in x̃
        at = alpha * clean
        return (convert(self.eps(at, alpha, sigma), at, alpha, sigma, "eps", "x0") - skip * clean) / out


class Zero(nn.Module):
    def forward(self, x, t):
        return torch.zeros_like(x)


def model_of(sde, says="eps", mean=0.0, width=1.0, event_shape=(2,), **how):
    net = Perfect(sde, says, mean, width)
    return ScoreModel(net, sde, event_shape=event_shape, parameterization=says, data_scale=DATA_SCALE, **how)


@each_sde
@each_way
def test_all_parameterizations_say_the_same(sde, says):
    x, t = torch.randn(20, 2, generator=seeded()).double(), torch.linspace(0.01, 1, 20).double()
    alpha, sigma = (c[:, None] for c in sde.marginal(t))
    model, variance = model_of(sde, says, mean=1.3, width=0.5), (0.5 * alpha) ** 2 + sigma**2
    assert torch.allclose(model.score(x, t), (1.3 * alpha - x) / variance)
    assert torch.allclose(model.eps(x, t), sigma * (x - 1.3 * alpha) / variance)
    posterior_mean = (1.3 * sigma**2 + 0.25 * alpha * x) / variance
    assert torch.allclose(model.denoise(x, t), posterior_mean, atol=1e-7)


@each_sde
def test_an_edm_net_that_says_nothing_is_right_for_gaussian_data(sde):
    """F = 0 is the perfect denoiser of N(0, σ_d² I), at all times."""
    x, t = torch.randn(20, 2, generator=seeded()).double(), torch.linspace(0.01, 1, 20).double()
    model = ScoreModel(Zero(), sde, event_shape=(2,), parameterization="edm", data_scale=DATA_SCALE)
    alpha, sigma = (c[:, None] for c in sde.marginal(t))
    assert torch.allclose(model.score(x, t), -x / ((DATA_SCALE * alpha) ** 2 + sigma**2))


def test_edm_shows_its_net_inputs_and_targets_of_unit_variance_at_all_times():
    sde, seen, n = VP(), {}, 100_000

    class Spy(Zero):
        def forward(self, x, t):
            seen[float(t[0])] = float(x.var())
            return super().forward(x, t)

    model = ScoreModel(Spy(), sde, event_shape=(1,), parameterization="edm", data_scale=DATA_SCALE)
    x0, eps = (torch.randn(n, 1, generator=seeded(k)).double() for k in (1, 2))
    for t in (0.001, 0.1, 0.5, 1.0):
        at = torch.full((n,), t).double()
        alpha, sigma = (float(c[0]) for c in sde.marginal(at))
        x = alpha * DATA_SCALE * x0 + sigma * eps
        wrong = DATA_SCALE * x0 - model.denoise(x, at)  # = c_out F*
        ratio = sigma / alpha
        target = wrong / (ratio * DATA_SCALE / math.hypot(ratio, DATA_SCALE))
        assert float(target.var()) == pytest.approx(1, abs=4.5 * (2 / n) ** 0.5)
    assert list(seen.values()) == pytest.approx([1] * 4, abs=4.5 * (2 / n) ** 0.5)


def test_scores_are_exact_near_the_data_in_single_precision():
    """Where σ is small, x − αx̂_0 would lose what is wanted."""
    sde, t = VE(0.001, 20.0), torch.zeros(50)
    x = torch.randn(50, 2, generator=seeded())
    model = ScoreModel(Zero(), sde, event_shape=(2,), parameterization="edm", t_min=0.0)
    assert torch.allclose(model.score(x, t), -x / (1 + 1e-6), rtol=1e-5)


@each_way
def test_the_loss_of_a_perfect_net_is_the_integral_of_its_posterior_variance(says):
    """½ w α² width²/(α² width² + σ²) a dimension; with w = g²/σ² that is −½ d log(1 + width² SNR)/dt."""
    sde, n = VP(), 40_000
    model = model_of(sde, says, mean=1.3, width=0.5).double()
    x = 1.3 + 0.5 * torch.randn(n, 2, generator=seeded(), dtype=torch.float64)
    ends = torch.tensor([1e-3, 1.0], dtype=torch.float64)
    truth = -float((0.25 * sde.snr(ends)).log1p().diff())
    loss = model.loss(x, generator=seeded(1))
    assert loss.shape == (n,) and float(loss.mean()) == pytest.approx(truth, abs=4.5 * float(loss.std()) / n**0.5)


@pytest.mark.parametrize("weighting", ["likelihood", "unweighted", "reweighted"])
def test_the_loss_is_least_at_the_true_score(weighting):
    """Along any of a few functions it is a parabola, and its slope at the true score is zero; at another one it is not."""
    sde, n = VP(), 20_000
    x = torch.randn(n, 2, generator=seeded(), dtype=torch.float64)

    class Moved(Perfect):
        def forward(self, x, t):
            return super().forward(x, t) + self.by * self.along(x, t[:, None])

    def slope(width, along):
        """Mean and standard error of the change of the loss along a function, with the same times and noise."""
        net = Moved(sde, width=width)
        model, losses, net.along = ScoreModel(net, sde, event_shape=(2,), weighting=weighting).double(), [], along
        for net.by in (-0.1, 0.0, 0.1):
            losses.append(model.loss(x, generator=seeded(2)))
        assert (losses[0] + losses[2] - 2 * losses[1]).min() > 0
        rise = losses[2] - losses[0]
        return float(rise.mean()), float(rise.std()) / n**0.5

    for along in (lambda x, t: x, lambda x, t: torch.ones_like(x), lambda x, t: torch.sin(3 * x) * t):
        rise, error = slope(1.0, along)
        assert abs(rise) < 4.5 * error
    rise, error = slope(0.6, lambda x, t: x)
    assert abs(rise) > 10 * error


def test_the_mean_of_the_loss_does_not_depend_on_how_times_are_drawn():
    sde, n = VP(), 100_000
    x = torch.randn(n, 2, generator=seeded(), dtype=torch.float64)
    models = [model_of(sde, mean=0.5), model_of(sde, mean=0.5, times=UniformTimes(1e-3, 1.0))]
    losses = [model.loss(x, generator=seeded(3)) for model in models]
    error = sum(float(loss.var()) / n for loss in losses) ** 0.5
    assert float(losses[0].mean()) == pytest.approx(float(losses[1].mean()), abs=4.5 * error)
    assert losses[1].var() > 10 * losses[0].var()


def test_the_cross_entropy_of_standard_normal_data_is_lsgms_number():
    """LSGM (7), which leaves out what is left of the data at t = 1, gives 1.418917 a dimension; the truth is ½ log 2πe."""
    sde, n = VP(), 200_000
    model = model_of(sde, event_shape=(1,), t_min=1e-5)
    x = torch.randn(n, 1, generator=seeded(), dtype=torch.float64)
    found = cross_entropy_bound(model, x, generator=seeded(1))
    error = float(found.std()) / n**0.5
    left = 0.5 * (1 - float(sde.marginal(torch.tensor(1.0).double())[1].square().log()) - 1)
    assert float(found.mean()) == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=4.5 * error)
    assert float(found.mean()) - left == pytest.approx(1.418917, abs=4.5 * error)
    assert error < 0.03


def test_averaged_over_the_noise_the_cross_entropy_has_no_variance_over_time():
    """The same number from every time alone, to six digits: LSGM's 1.418917, by importance sampling with one t."""
    sde, t_min = VP(), 1e-5
    model = model_of(sde, event_shape=(1,), t_min=t_min)
    t = model.times.draw(1000, generator=seeded(), dtype=torch.float64)
    alpha, sigma = sde.marginal(t)
    ratio = 0.5 * (sde.diffusion(t) / sigma).square() * alpha.square() / model.times.density(t)
    sigma0 = float(sde.marginal(torch.tensor(t_min).double())[1])
    each = ratio + 0.5 * math.log(2 * math.pi * math.e * sigma0**2)
    assert each.tolist() == pytest.approx([1.418917] * 1000, abs=1e-6)


@each_sde
def test_the_bound_is_the_cross_entropy_if_the_score_is_exact(sde):
    """q = N(1.3, .25): .725791 in the limit of no noise at the start (BENCHMARKS' number of LSGM); here, with its noise."""
    n, t_min = 100_000, 1e-4
    model = model_of(sde, mean=1.3, width=0.5, event_shape=(1,), t_min=t_min)
    x = 1.3 + 0.5 * torch.randn(n, 1, generator=seeded(), dtype=torch.float64)
    found = cross_entropy_bound(model, x, generator=seeded(1))
    alpha, sigma = (float(c) for c in sde.marginal(torch.tensor(t_min).double()))
    entropy = 0.5 * math.log(2 * math.pi * math.e * ((0.5 * alpha) ** 2 + sigma**2))
    at_the_end = -float(sde.log_snr(torch.tensor(1.0).double())) / 2  # the prior's excess is at most of this order
    slack = 1.3**2 * math.exp(-2 * at_the_end)
    error = 4.5 * float(found.std()) / n**0.5
    assert -error <= float(found.mean()) - entropy <= slack + error
    assert entropy == pytest.approx(0.725791, abs=2e-3)


def test_the_bound_lies_above_the_cross_entropy_of_a_wrong_model():
    """The reverse SDE of a Gaussian score that is too narrow ends in a Gaussian whose moments its equations give."""
    sde, steps = VP(0.1, 8.0), 20_000
    model = model_of(sde, width=0.6, event_shape=(1,), t_min=1e-2)
    x = torch.randn(50_000, 1, generator=seeded(), dtype=torch.float64)
    grid = torch.linspace(1, 1e-2, steps + 1, dtype=torch.float64)
    beta, (alpha, sigma) = sde.beta(grid), sde.marginal(grid)
    slope = -1 / ((0.6 * alpha) ** 2 + sigma**2)  # score = slope·x, so d v/dτ = (β + 2 β slope) v + β, τ = 1 − t
    variance, h = 1.0, 0.99 / steps
    for b, s in zip(beta[:-1].tolist(), slope[:-1].tolist(), strict=True):
        variance += h * ((b + 2 * b * s) * variance + b)
    second = float(alpha[-1] ** 2 + sigma[-1] ** 2)
    truth = 0.5 * math.log(2 * math.pi * variance) + 0.5 * second / variance
    found = cross_entropy_bound(model, x, generator=seeded(1))
    assert float(found.mean()) + 4.5 * float(found.std()) / len(x) ** 0.5 > truth > 1.5


@each_sde
def test_samples_have_the_law_of_the_data(sde):
    """Kolmogorov–Smirnov, with the perfect score of N(1.3, .25), through noise and push."""
    model = model_of(sde, mean=1.3, width=0.5)
    x = model.sample(1500, generator=seeded())
    variance = 0.25 + float(sde.marginal(torch.tensor(model.t_min))[1]) ** 2
    assert x.shape == (1500, 2) and not x.requires_grad
    for column in x.T:
        assert kstest(column.numpy(), "norm", (1.3, variance**0.5)).pvalue > 1e-3
    assert torch.equal(x, model.push(model.noise(1500, generator=seeded())))


@pytest.mark.parametrize("sde", [VP(), VE(0.01, 20.0)], ids=str)
def test_transport_is_the_increasing_map_of_a_gaussian_and_differentiable(sde):
    """In one dimension the flow keeps quantiles: x = mean + width ε, whose derivative is the width."""
    model = model_of(sde, mean=1.3, width=0.5, steps=200, event_shape=(3,)).double()
    eps = torch.randn(5, 3, generator=seeded(), dtype=torch.float64).requires_grad_()
    x = model.push(eps)
    (slope,) = torch.autograd.grad(x.sum(), eps)
    width = math.hypot(0.5, float(sde.marginal(torch.tensor(1e-3).double())[1]))
    assert torch.allclose(slope, torch.full_like(slope, width), rtol=1e-2)
    assert torch.allclose(x, 1.3 + width * eps, atol=0.06)
    assert sum(model.noise_blocks.values()) == 3 and model.noise(4).shape == (4, 3)


def test_the_density_is_the_datas_and_carries_the_samples():
    """EXACT: log p at x is that of N(1.3, .25) with the noise of t_min."""
    model = model_of(VP(), mean=1.3, width=0.5, event_shape=(1, 2)).double()
    x = 1.3 + 0.5 * torch.randn(20, 1, 2, generator=seeded(), dtype=torch.float64)
    width = (0.25 + float(VP().marginal(torch.tensor(1e-3).double())[1]) ** 2) ** 0.5
    truth = torch.distributions.Normal(1.3, width).log_prob(x).sum((1, 2))
    assert model.likelihood is Likelihood.EXACT
    assert torch.allclose(model.log_prob(x), truth, atol=0.03)
    noisy = ScoreModel(model.net, VP(), event_shape=(1, 2), trace="hutchinson", method="heun").log_prob
    assert torch.equal(noisy(x, generator=seeded()), noisy(x, generator=seeded()))


def test_another_sampler_takes_the_place_of_the_flow():
    model = model_of(VP(), mean=1.3, width=0.5, sampler=EulerMaruyama, steps=100, spacing="uniform")
    x = model.sample(4000, generator=seeded())
    assert model.nfe == 100 and torch.equal(x, model.sample(4000, generator=seeded()))
    assert torch.allclose(x.mean(0), torch.tensor(1.3), atol=0.1) and torch.allclose(x.std(0), torch.tensor(0.5), atol=0.1)
    assert model_of(VP(), steps=30).nfe == 60


def test_a_context_reaches_the_net_everywhere():
    class Shifted(nn.Module):
        def forward(self, x, t, context):
            alpha, sigma = (c[:, None] for c in VP().marginal(t))
            return sigma * (x - alpha * context) / (alpha**2 + sigma**2)

    model = ScoreModel(Shifted(), VP(), event_shape=(2,))
    context = torch.tensor([[3.0, -3.0]]).expand(2000, 2)
    x = model.sample(2000, context=context, generator=seeded())
    assert torch.allclose(x.mean(0), context[0], atol=0.12)
    assert model.log_prob(x, context).mean() > model.log_prob(x, -context).mean() + 5
    assert model.loss((x, context)).mean() < model.loss((x, -context)).mean()


def test_training_finds_the_score_of_a_mixture():
    """Against the truth, at several times; and evaluation leaves the mode of the net alone."""
    data = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], 0.4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Denoiser(2, (64, 64), time=SinusoidalTime(16, scale=20.0), features=16, feature_scale=2.0)
        model = ScoreModel(net, VE(0.05, 8.0), event_shape=(2,), parameterization="edm", t_min=0.0)
    x = data.sample(1000, generator=seeded())

    def error():
        wrong = []
        for t in (0.2, 0.5, 0.8):
            alpha, sigma = (float(c) for c in VE(0.05, 8.0).marginal(torch.tensor(t)))
            noisy = alpha * x + sigma * torch.randn(1000, 2, generator=seeded(1))
            eps = model.eps(noisy, torch.full((1000,), t)) + sigma * data.diffused(alpha, sigma).score(noisy)
            wrong.append(eps.detach().square().mean())
        return float(sum(wrong))

    before = error()
    fit(model, data, steps=300, batch_size=256, lr=3e-3, progress=False)
    assert error() < 0.25 * before
    model.train()
    model.sample(2)
    assert model.training and model.net.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameterization": "noise"}, "parameterization must be one of x0, eps, v, score, edm; got 'noise'"),
        ({"trace": "full"}, "trace must be one of exact, hutchinson"),
        ({"weighting": "ll"}, "weighting must be one of"),
        ({"data_scale": 0.0}, "data_scale must be positive; got 0.0"),
        ({"steps": 0}, "steps must be a positive whole number; got 0"),
        ({"t_min": 0.0}, "start must be positive where σ"),
        ({"t_min": 1.0}, "start < end"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ScoreModel(Zero(), VP(), **{"event_shape": (2,), **change})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.score(torch.zeros(3, 2), torch.full((3,), 1.5)), "t must lie in"),
        (lambda m: m.score(torch.zeros(3, 2), torch.ones(3, dtype=torch.int64)), "t must be a float tensor"),
        (lambda m: m.score(torch.zeros(3, 2), torch.tensor(0.5)), r"t must have shape \(3,\)"),
        (lambda m: m.eps(torch.zeros(3, 4), torch.ones(3)), r"x must have shape \(n, 2\)"),
        (lambda m: m.loss(torch.zeros(3, 4)), r"x must have shape \(n, 2\)"),
        (lambda m: m.log_prob(torch.zeros(3, 2, dtype=torch.int64)), "x must hold floating-point"),
        (lambda m: m.sample(0), "n must be a positive whole number; got 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(model_of(VP()))


@each_way
def test_a_net_of_the_wrong_shape_is_named(says):
    class Short(nn.Module):
        def forward(self, x, t):
            return x[:, :1]

    model = ScoreModel(Short(), VP(), event_shape=(2,), parameterization=says)
    for call in (model.loss, partial(model.eps, t=torch.ones(3))):
        with pytest.raises(ValueError, match=r"net must return the shape of x, \(3, 2\); got \(3, 1\)"):
            call(torch.zeros(3, 2))
