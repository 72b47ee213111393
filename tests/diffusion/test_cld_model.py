"""Score models on critically damped Langevin diffusion: what perfect scores give, and that the loss finds them."""

import math

import pytest
import torch
from torch import nn

from gmcourse import fit
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.cld import CLD, exact_score
from gmcourse.diffusion.cld_model import SAMPLERS, CLDModel
from gmcourse.fit import cosine
from gmcourse.nets.denoiser import Denoiser
from gmcourse.nets.unet import UNet
from gmcourse.randomness import seeded as seeded_globally

PLAIN, RISING, HEAVY = CLD(), CLD(2.0, slope=4.0), CLD(6.0, mass_inverse=0.25, gamma=4.0, gamma0=0.3, slope=-5.0)
EYE = torch.eye(2, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Perfect(CLDModel):
    """A model whose score is exact."""

    def __init__(self, data, cld=PLAIN, **options):
        super().__init__(nn.Identity(), cld, event_shape=data.event_shape, **options)
        self.exact = exact_score(cld, data)

    def score_v(self, u, t):
        return self.exact(u, t.expand(len(u)))


@pytest.mark.parametrize(("sampler", "steps"), [("em", 150), ("sscs", 150), ("sscs2", 60), ("flow", 40)])
def test_samples_with_the_exact_score_are_the_data(sampler, steps):
    data, n = Mixture1D(), 5_000
    x = Perfect(data, sampler=sampler, steps=steps).sample(n, generator=seeded())
    assert x.shape == (n,)
    for v in (-1.1, -0.5, 0.3, 1.5):
        p = float(data.cdf(torch.tensor(v)))
        assert abs(float((x <= v).float().mean()) - p) < 4.5 * (p * (1 - p) / n) ** 0.5 + 0.01


@pytest.mark.parametrize("data", [Mixture1D(), GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.4]], [0.2, 0.6])])
@pytest.mark.parametrize("cld", [PLAIN, RISING], ids=["plain", "rising"])
def test_with_the_exact_score_the_bound_is_the_likelihood(cld, data):
    x = data.sample(30, generator=seeded())
    found = Perfect(data, cld, steps=60).log_prob(x, generator=seeded())
    assert (found - data.log_prob(x)).abs().max() < 0.01 and (found - data.log_prob(x)).mean().abs() < 1e-3


class Bent(Perfect):
    """A model whose score is wrong by a wave, and the gradient of no density."""

    def score_v(self, u, t):
        return super().score_v(u, t) + 0.5 * (u[:, 0] + u[:, 1]).cos()


class DenoiserOf(nn.Module):
    """F of the edm form for which x̂_0 is E[x_0 | y], by Tweedie's formula on the mixture blurred by the noise of y."""

    def __init__(self, data, scale, noise_of):
        super().__init__()
        self.data, self.scale, self.noise_of = data, scale, noise_of

    def forward(self, y, t):
        noise = self.noise_of(float(t[0]))
        q = (self.scale**2 + noise**2) ** 0.5
        y = y * q
        x0 = y + noise**2 * self.data.diffused(1.0, noise).score(y)
        return (x0 - (self.scale / q) ** 2 * y) * q / (self.scale * noise)


def noise_in_y(cld):
    """1/√(mᵀΣ⁻¹m) by a dense solve."""

    def noise(t):
        t = torch.tensor(t, dtype=torch.float64)
        xx, xv, vv = cld.covariance(t)
        m, covariance = cld.mean_matrix(t)[:, 0], torch.stack([torch.stack([xx, xv]), torch.stack([xv, vv])])
        return float((m @ torch.linalg.solve(covariance, m)) ** -0.5)

    return noise


@pytest.mark.parametrize("cld", [PLAIN, RISING, HEAVY], ids=["plain", "rising", "heavy"])
@pytest.mark.parametrize("t", [0.01, 0.2, 0.9])
def test_all_that_position_and_velocity_say_of_the_data_is_in_one_number(cld, t):
    """A denoiser of y alone gives the exact score of the velocity, which is a function of both."""
    data = GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.4]], [0.2, 0.2])
    net = DenoiserOf(data, 0.9, noise_in_y(cld))
    model = CLDModel(net, cld, event_shape=(2,), parameterization="edm", data_scale=0.9)
    x, eps = data.sample(50, generator=seeded()).double(), torch.randn(50, 2, 2, generator=seeded(), dtype=torch.float64)
    times = torch.full((50,), t, dtype=torch.float64)
    u = model.perturb(x, times, eps)
    exact = exact_score(cld, data)(u, times)
    assert (model.score_v(u, times) - exact).abs().max() < 1e-6 * exact.abs().max()


def test_the_edm_form_learns_in_eight_hundred_steps_what_the_mixed_form_does_not():
    data = GaussianMixture([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.0]], [0.1, 0.1])
    gaps = {}
    for form in ("mixed", "edm"):
        with seeded_globally(0):
            net = Denoiser(2 if form == "edm" else 4, (64, 64), features=16)
            model = CLDModel(net, PLAIN, event_shape=(2,), parameterization=form, steps=40)
            fit(model, data, steps=800, batch_size=256, lr=3e-3, schedule=cosine(0.05), ema=0.98, progress=False)
        x = data.sample(200, generator=seeded())
        gaps[form] = float((data.log_prob(x) - model.log_prob(x, generator=seeded())).mean())
    assert gaps["edm"] < 0.3 < gaps["mixed"]


def awake(event_shape, **options):
    """A model of a random net."""
    torch.manual_seed(3)
    net = Denoiser(2 * math.prod(event_shape), (16,))
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    return CLDModel(net, PLAIN, event_shape=event_shape, **options)


def test_the_bound_is_on_a_density_that_integrates_to_one_and_is_that_of_the_samples():
    """For any score E_v exp(log_prob) is the density of the flow's samples, so by Jensen log_prob is below its logarithm."""
    model = Bent(Mixture1D([1.0], [0.3], 0.5), steps=30, sampler="flow")
    x, draws = torch.linspace(-3, 4, 71), 60
    terms = model.log_prob(x.repeat_interleave(draws, 0), generator=seeded()).reshape(-1, draws).double()
    total = 0.1 * terms.exp().sum(0)  # one estimate of the integral for each draw
    assert abs(total.mean() - 1) < 4.5 * total.std() / draws**0.5 < 0.1
    density = terms.exp().mean(1) / terms.exp().mean(1).sum()
    samples = Bent(Mixture1D([1.0], [0.3], 0.5), steps=100, sampler="flow").sample(8_000, generator=seeded())
    mean = (density * x).sum()
    assert abs(samples.mean() - mean) < 0.04 < abs(mean - 0.3)  # not the data's
    assert float((density * (x - mean).square()).sum()) == pytest.approx(float(samples.var()), rel=0.08)


def test_hutchinsons_bound_is_unbiased():
    model, copies = awake((2,), steps=10), 400
    x = torch.tensor([[0.4, -0.7]]).expand(copies, 2)
    exact, random = (model.log_prob(x, trace=trace, generator=seeded()) for trace in ("exact", "hutchinson"))
    gap = random - exact  # the same velocities
    assert gap.std() > 0.01 and abs(gap.mean()) < 4.5 * gap.std() / copies**0.5


def test_draws_of_the_velocity_are_averaged():
    model, x = awake((2,), steps=10), torch.randn(3, 2, generator=seeded())
    alone = model.log_prob(x.repeat_interleave(4, 0), generator=seeded()).reshape(3, 4).mean(1)
    assert torch.allclose(model.log_prob(x, draws=4, generator=seeded()), alone, atol=1e-4)


@pytest.mark.parametrize("cld", [PLAIN, RISING, HEAVY], ids=["plain", "rising", "heavy"])
def test_perturbed_data_have_the_mean_and_the_covariance_of_the_kernel(cld):
    """x_0 = 1 without noise is the mean; the answers to unit noises are a factor of the covariance."""
    t = torch.full((3,), 0.1, dtype=torch.float64)
    x, eps = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), torch.cat([torch.zeros(1, 2, dtype=torch.float64), EYE])
    found, parts = CLDModel(nn.Identity(), cld, event_shape=()).perturb(x, t, eps), cld.covariance(t[0])
    assert torch.allclose(found[0], cld.mean_matrix(t[0])[:, 0])
    wanted = torch.stack([parts.xx, parts.xv, parts.xv, parts.vv]).reshape(2, 2)
    assert torch.allclose(found[1:].mT @ found[1:], wanted)


class Nudged(nn.Module):
    """The net of the exact score, plus θ times a feature of u."""

    def __init__(self, cld, data, feature):
        super().__init__()
        self.cld, self.exact, self.feature, self.theta = cld, exact_score(cld, data), feature, 0.0

    def forward(self, u, t):
        _, _, c = self.cld.covariance(t).factor()
        net = -c * (self.exact(u, t) + u[:, 1] / self.cld.covariance(t).vv)
        return net + self.theta * self.feature(u, t)


@pytest.mark.parametrize("weighting", ["simple", "likelihood"])
@pytest.mark.parametrize("feature", [lambda u, t: u[:, 0], lambda u, t: u[:, 1].sin(), lambda u, t: t.cos()])
def test_hybrid_score_matching_is_least_at_the_true_score(weighting, feature):
    """The loss is a parabola of θ, and its slope at 0, by differences exact, has mean 0."""
    net = Nudged(RISING, Mixture1D(), feature)
    model = CLDModel(net, RISING, event_shape=(), weighting=weighting, t_min=0.02)
    x, losses = Mixture1D().sample(40_000, generator=seeded()), []
    for net.theta in (-0.5, 0.0, 0.5):
        torch.manual_seed(1)
        losses.append(model.loss(x).double())
    slope = losses[2] - losses[0]
    assert slope.shape == (40_000,) and abs(slope.mean()) < 4.5 * slope.std() / 200
    assert min(losses[0].mean(), losses[2].mean()) > losses[1].mean()


def test_the_likelihood_weight_is_the_rate_of_the_kl():
    """Γβ‖s_θ − target‖² where "simple" has ‖·‖²/ℓ²; times fill [t_min, 1] evenly."""
    seen = []
    net = nn.Module()
    net.forward = lambda u, t: seen.append(t) or torch.zeros_like(u[:, :1])
    losses = []
    for weighting in ("simple", "likelihood"):
        torch.manual_seed(0)
        model = CLDModel(net, RISING, event_shape=(1,), weighting=weighting)
        losses.append(model.loss(torch.ones(500, 1, dtype=torch.float64)))
    t = seen[0]
    parts = RISING.covariance(t)
    ell2 = parts.xx / (parts.xx * parts.vv - parts.xv.square())
    assert torch.allclose(losses[1] / losses[0], RISING.gamma * (2 + 4 * t) * ell2)
    assert torch.equal(((t - 1e-3) / 0.999 * 500).long(), torch.arange(500))


def test_a_net_of_zeros_takes_the_velocity_for_noise():
    model, u = CLDModel(Denoiser(6), PLAIN, event_shape=(3,)), torch.randn(5, 2, 3, generator=seeded())
    t = torch.linspace(0.1, 0.9, 5)
    assert torch.allclose(model.score_v(u, t), -u[:, 1] / PLAIN.covariance(t).vv[:, None])
    assert torch.allclose(model.score_v(u, torch.tensor(0.3)), -u[:, 1] / PLAIN.covariance(torch.tensor(0.3)).vv)


def test_images_have_their_velocities_as_further_channels():
    net = UNet((4, 8, 8), outputs=2, width=8, multipliers=(1, 2))
    model = CLDModel(net, PLAIN, event_shape=(2, 8, 8), steps=2)
    x = torch.rand(3, 2, 8, 8, generator=seeded())
    assert model.loss(x).shape == (3,) and model.sample(2, generator=seeded()).shape == (2, 2, 8, 8)
    assert model.log_prob(x[:1], trace="hutchinson", generator=seeded()).shape == (1,)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_the_same_seed_gives_the_same_samples_and_evaluations_are_counted(sampler):
    model, calls = awake((2,), steps=7, sampler=sampler), []
    first = model.sample(4, generator=seeded(5))
    model.net.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(first, model.sample(4, generator=seeded(5))) and len(calls) == model.nfe
    assert not torch.equal(first, model.sample(4, generator=seeded(6))) and not first.requires_grad


BAD = CLDModel(nn.Linear(4, 3), PLAIN, event_shape=(2,))
BAD.net.forward = lambda u, t: u[:, :3]
U, T = torch.zeros(3, 2, 2), torch.full((3,), 0.5)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: CLDModel(nn.Identity(), PLAIN, event_shape=(2,), sampler="ddim"), "sampler must be one of em, .*'ddim'"),
        (lambda: CLDModel(nn.Identity(), PLAIN, event_shape=(2,), weighting="un"), "weighting must be one of simple"),
        (lambda: CLDModel(nn.Identity(), PLAIN, event_shape=(2,), t_min=0.0), r"t_min must lie in \(0, 1\); got 0.0"),
        (lambda: CLDModel(nn.Identity(), PLAIN, event_shape=(2,), steps=0), "steps must be a positive whole number"),
        (lambda: BAD.score_v(U, T), r"net must return shape \(3, 2\) or \(3, 4\); got \(3, 3\)"),
        (lambda: BAD.log_prob(torch.zeros(3, 2), trace="full"), "trace must be exact or hutchinson; got 'full'"),
        (lambda: BAD.loss(torch.zeros(3, 4)), r"x must have shape \(n, 2\); got \(3, 4\)"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
