"""Denoising diffusion GANs against oracles: generators that know the true p(x_0 | x_t) of a Gaussian mixture."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.compositions.diffused_critic import DiffusedCritic
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.edit import sdedit
from gmcourse.diffusion.schedule import DiscreteDiffusion, betas_of_levels, vp_betas
from gmcourse.fit import fit
from gmcourse.gan.gan import GAN
from gmcourse.gan.regularisers import R1, Lazy
from gmcourse.metrics.modes import mode_report
from gmcourse.nets.denoiser import Denoiser
from gmcourse.nets.mlp import MLP
from gmcourse.nets.plane_pair import PointCritic, PointGenerator
from gmcourse.nets.preconditioned import Preconditioned

DATA = Mixture1D()


class Oracle(nn.Module):
    """x_0 drawn from the true p(x_0 | x_t) of a mixture on the line, by Bayes' rule; z (n, 2) chooses the component and the
    place in it. `mean` gives E[x_0 | x_t] instead, `wanted` the noise or x_{t−1} that go with it."""

    def __init__(self, chain, data=DATA, wanted="x0"):
        super().__init__()
        self.chain, self.data, self.wanted = chain, data, wanted

    def forward(self, x, t, z=None):
        bars = self.chain.alpha_bars[t]
        alpha, variance = bars.sqrt()[:, None], (1 - bars)[:, None]
        x = x.double()[:, None]
        prior = self.data.sigmas.square()
        width = alpha**2 * prior + variance
        log_w = self.data.weights.log() - 0.5 * width.log() - 0.5 * (x - alpha * self.data.means).square() / width
        weights = log_w.softmax(1)
        gain = alpha * prior / width
        means = self.data.means + gain * (x - alpha * self.data.means)
        if z is None:
            return (weights * means).sum(1).float()
        u = torch.special.ndtr(z[:, 0].double())
        k = (u[:, None] > weights.cumsum(1)[:, :-1]).sum(1, keepdim=True)
        widths = (prior * variance / width).sqrt()
        x0 = (means.gather(1, k) + widths.gather(1, k) * z[:, 1:2])[:, 0]
        if self.wanted == "noise":
            return ((x[:, 0] - alpha[:, 0] * x0) / variance[:, 0].sqrt()).float()
        if self.wanted == "direct":
            mean, variance = self.chain.posterior(x0, x[:, 0], t)
            return (mean + variance.sqrt() * z[:, 2]).float()
        return x0.float()


class Judge(nn.Module):
    """a·x_{t−1} + b·x_t + t: a discriminator with a known slope."""

    def __init__(self, a=3.0, b=5.0):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), b

    def forward(self, before, x, t):
        return self.a * before.flatten(1).sum(1) + self.b * x.flatten(1).sum(1) + t


def oracle(steps, wanted="x0", latent=2):
    chain = DiscreteDiffusion(vp_betas(steps))
    net = Oracle(chain, wanted=wanted)
    return DenoisingDiffusionGAN(net, Judge(), chain, event_shape=(), latent=latent, parameterization=wanted)


def small(steps=4, **settings):
    chain = DiscreteDiffusion(vp_betas(steps))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Denoiser(2, (16,), context=settings.get("latent", 3))
        nn.init.normal_(generator.net.layers[-1].weight)
    settings = {"event_shape": (2,), "latent": 3, **settings}
    return DenoisingDiffusionGAN(generator, Judge(), chain, **settings)


def kolmogorov(x, data=DATA):
    """√n times the largest distance of the samples' cdf from the data's: above 1.95 once in a thousand times by chance."""
    u = data.cdf(x.double()).sort().values
    steps = torch.arange(len(u) + 1, dtype=torch.float64) / len(u)
    return float(torch.maximum((u - steps[:-1]).abs(), (steps[1:] - u).abs()).max()) * math.sqrt(len(u))


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("wanted", ["x0", "noise", "direct"])
def test_with_the_true_posterior_few_steps_give_the_data_exactly(steps, wanted):
    """The identity behind the method, thesis (6.12): nothing in the chain is approximate but the generator."""
    model = oracle(steps, wanted, latent=3 if wanted == "direct" else 2)
    x = model.sample(20_000, generator=torch.Generator().manual_seed(steps))
    assert kolmogorov(x) < 1.95


def test_without_latents_large_steps_are_wrong_and_small_ones_less():
    """x̂_0 = E[x_0 | x_t] is the best a generator without z can say in mean square: that is DDPM's step."""
    found = [
        kolmogorov(oracle(t, latent=0).sample(20_000, generator=torch.Generator().manual_seed(0))) for t in (1, 4, 32, 256)
    ]
    assert found[0] > found[1] > found[2] > found[3] and found[1] > 10


def test_one_step_forgets_where_it_began():
    """At T = 1 x_1 is noise, so that p(x_0 | x_1) is p(x_0): an unconditional GAN."""
    model = oracle(1)
    z = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    t = torch.zeros(4000, dtype=torch.long)
    near, far = (model.predict(torch.full((4000,), place), t, z) for place in (-1.0, 1.0))
    assert (near - far).abs().mean() < 0.02 * near.std()


@pytest.mark.parametrize("parameterization", ["x0", "noise", "direct"])
def test_the_last_step_returns_what_the_generator_says_to_the_last_bit(parameterization):
    model, x = small(parameterization=parameterization), torch.randn(50, 2)
    t, z = torch.zeros(50, dtype=torch.long), torch.randn(50, 3)
    said = model.say(x, t, z) if parameterization == "direct" else model.predict(x, t, z)
    assert model.reverse(x, t, z, torch.randn(50, 2)).equal(said)


def test_steps_before_the_last_have_the_variance_of_bayes_rule():
    """x_{t−1} given x_t and x_0, from the joint Gaussian of (x_{t−1}, x_t): no formula of the posterior is used."""
    model = small()
    chain, t = model.chain, 2
    before = chain.alpha_bars[t - 1]
    joint = torch.tensor([[1 - before, 0.0], [0.0, 0.0]])
    joint[0, 1] = joint[1, 0] = chain.alphas[t].sqrt() * (1 - before)
    joint[1, 1] = 1 - chain.alpha_bars[t]
    wanted = joint[0, 0] - joint[0, 1] ** 2 / joint[1, 1]
    n, z, x = 40_000, torch.zeros(1, 3), torch.tensor([[0.3, -0.2]])
    eps = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    drawn = model.reverse(x.expand(n, 2), torch.full((n,), t), z.expand(n, 3), eps).detach()
    assert drawn.var(0).sub(wanted).abs().max() < 0.03 * wanted


def test_pairs_of_the_chain_are_the_joint_law_of_neighbours():
    """Covariance of (x_{t−1}, x_t) for data N(2, 0.5²), t = 1 of 4, in closed form; x_t drawn afresh from x_0 would have
    less."""
    chain, n = DiscreteDiffusion(vp_betas(4)), 200_000
    noise = torch.randn(3, n, 1, generator=torch.Generator().manual_seed(0))
    before, after = chain.q_pair(2 + 0.5 * noise[0], 1, noise[1], noise[2])
    a0, a1, step = chain.alpha_bars[0], chain.alpha_bars[1], chain.alphas[1].sqrt()
    var = 0.25 * a0 + 1 - a0
    wanted = torch.tensor([[var, step * var], [step * var, 0.25 * a1 + 1 - a1]]).float()
    assert torch.cov(torch.cat([before, after], 1).T).sub(wanted).abs().max() < 0.01
    assert abs(float(before.mean() - 2 * a0.sqrt())) < 0.01 and abs(float(after.mean() - 2 * a1.sqrt())) < 0.01


def test_the_first_of_a_pair_at_time_0_is_the_datum():
    chain, x = DiscreteDiffusion(vp_betas(4)), torch.randn(6, 2)
    assert chain.q_pair(x, 0, torch.randn(6, 2), torch.randn(6, 2))[0].equal(x)
    assert chain.q_pair(x, torch.tensor([0, 1, 2, 3, 0, 1]), torch.randn(6, 2), torch.randn(6, 2))[0][[0, 4]].equal(
        x[[0, 4]]
    )


def test_r1_is_of_the_slope_in_the_first_argument_only():
    """(γ/2)‖∇‖² of a·x_{t−1} + b·x_t is γ/2 · 2a² in the plane, whatever b is; thesis (6.16)."""
    x = torch.randn(64, 2)
    torch.manual_seed(0)
    bare = small().discriminator_loss(x)
    torch.manual_seed(0)
    penalised = small(regularisers=R1(0.4)).discriminator_loss(x)
    assert (penalised - bare).detach().sub(0.4 / 2 * 2 * 3.0**2).abs().max() < 1e-4


def test_lazy_r1_has_the_same_mean():
    x, model = torch.randn(8, 2), small(regularisers=Lazy(R1(0.4), every=5))
    torch.manual_seed(0)
    bare = torch.stack([small().discriminator_loss(x).mean() for _ in range(4000)]).mean()
    torch.manual_seed(0)
    lazy = torch.stack([model.discriminator_loss(x).mean() for _ in range(4000)]).mean()
    assert abs(float((lazy - bare).detach()) / 3.6 - 1) < 0.12


def test_losses_are_cross_entropy_and_its_non_saturating_half():
    """At logits s and s' of a pair: −ln σ(s) − ln(1 − σ(s')) and −ln σ(s'); thesis (6.3), (6.5)."""
    model = small()
    x, t = torch.randn(5, 2), torch.full((5,), 1)
    torch.manual_seed(3)
    before, xt = model.chain.q_pair(x, t, torch.randn_like(x), torch.randn_like(x))
    fake = model.draw(xt, t)
    real, wrong = (model.judge(v, xt, t).double().sigmoid() for v in (before, fake))
    torch.manual_seed(3)
    assert model.discriminator_loss(x, t).sub(-real.log() - (1 - wrong).log()).abs().max() < 1e-4
    torch.manual_seed(3)
    assert model.generator_loss(x, t).sub(-wrong.log()).abs().max() < 1e-4


class Bent(nn.Module):
    """The oracle with an error: its answers shifted, and drawn away from their mean (0: true)."""

    def __init__(self, chain):
        super().__init__()
        self.draw, self.shift, self.spread = Oracle(chain), nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x, t, z):
        mean = self.draw(x, t)
        return mean + self.shift + (1 + self.spread) * (self.draw(x, t, z) - mean)


class Blind(nn.Module):
    """Cannot tell: logits 0."""

    def forward(self, before, x, t):
        return torch.zeros(len(x))


def denoising_part(model, x, t):
    """λ/d times the product, without the game: a blind discriminator makes (6.5) ln 2."""
    model.discriminator = Blind()
    return model.generator_loss(x, t) - math.log(2)


def test_the_denoising_loss_is_that_of_the_mean_whatever_the_spread():
    """E (x_0 − x'_0)(x_0 − x''_0) = E (x_0 − E_z x'_0)², which for the oracle is the width of p(x_0 | x_t); with a shift δ
    that plus δ², with twice the spread the same."""
    chain, x = DiscreteDiffusion(vp_betas(4)), DATA.sample((100_000,))
    model = DenoisingDiffusionGAN(Bent(chain), Judge(), chain, event_shape=(), latent=2, denoising=3.0)
    t = torch.full((len(x),), 1)
    xt = chain.q_sample(x, t, torch.randn_like(x))
    width = float((x - Oracle(chain)(xt, t)).square().mean())
    for shift, spread, wanted in ((0.0, 0.0, width), (0.7, 0.0, width + 0.49), (0.0, 1.0, width), (0.0, -1.0, width)):
        with torch.no_grad():
            model.generator.shift.fill_(shift)
            model.generator.spread.fill_(spread)
            found = denoising_part(model, x, t)
        assert abs(float(found.mean()) / 3 - wanted) < 4 * float(found.std()) / 3 / math.sqrt(len(x)) + 0.02 * width


def test_the_true_posterior_is_at_rest_in_the_denoising_loss():
    """Its slope in the shift and in the spread is 0 there, with all times mixed; a squared error pulls the spread."""
    torch.manual_seed(0)
    chain, x = DiscreteDiffusion(vp_betas(4)), DATA.sample((20_000,))
    model = DenoisingDiffusionGAN(Bent(chain), Judge(), chain, event_shape=(), latent=2, denoising=1.0)
    found = [
        torch.autograd.grad(denoising_part(model, part, None).mean(), [model.generator.shift, model.generator.spread])
        for part in x.split(400)
    ]
    slopes = torch.tensor(found)
    assert (slopes.mean(0).abs() < 4 * slopes.std(0) / math.sqrt(len(slopes))).all()
    _, xt, t = model._pairs(x, None)
    squared = (x - model.predict(xt, t, model.latents(x))).square().mean()
    assert float(torch.autograd.grad(squared, model.generator.spread)[0]) > 40 * float(slopes[:, 1].std()) / math.sqrt(
        len(slopes)
    )


@pytest.mark.parametrize("time", [0, 2])
def test_the_denoising_loss_is_per_dimension_and_leaves_the_game_as_it_is(time):
    """The mean of (6.5) over two draws of x_{t−1}, and λ/d times the inner product of the errors; the slope of both."""
    model, x, t = small(denoising=5.0), torch.randn(6, 2), torch.full((6,), time)
    torch.manual_seed(1)
    _, xt, _ = model._pairs(x, t)
    twice, times = torch.cat([xt, xt]), torch.cat([t, t])
    seen = model.predict(twice, times, model.latents(twice))
    mean, variance = model.chain.posterior(seen, twice, times)
    before = mean + variance.sqrt() * torch.randn_like(seen)
    one, other = seen.chunk(2)
    game = sum(nn.functional.softplus(-model.judge(part, xt, t)) for part in before.chunk(2)) / 2
    wanted = game + 5.0 * (x - one).mul(x - other).sum(1) / 2
    torch.manual_seed(1)
    found = model.generator_loss(x, t)
    assert found.sub(wanted).abs().max() < 1e-4
    weights = list(model.generator.parameters())
    slopes = (torch.autograd.grad(loss.mean(), weights, materialize_grads=True) for loss in (found, wanted))
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(*slopes, strict=True))


def test_without_latents_the_denoising_loss_is_the_squared_error():
    model, x, t = small(latent=0, denoising=1.0), torch.randn(6, 2), torch.zeros(6, dtype=torch.long)
    torch.manual_seed(1)
    _, xt, _ = model._pairs(x, t)
    wanted = (x - model.predict(xt, t, torch.empty(6, 0))).square().mean(1)
    torch.manual_seed(1)
    assert denoising_part(model, x, t).sub(wanted).abs().max() < 1e-5


def test_no_gradient_of_the_discriminators_loss_reaches_the_generator():
    model = small()
    model.discriminator_loss(torch.randn(8, 2)).mean().backward()
    assert all(p.grad is None for p in model.generator.parameters()) and model.discriminator.a.grad is not None


def test_times_are_drawn_evenly():
    seen = []

    class Watch(Judge):
        def forward(self, before, x, t):
            seen.append(t)
            return super().forward(before, x, t)

    model = small()
    model.discriminator = Watch()
    model.generator_loss(torch.randn(8000, 2))
    counts = seen[0].bincount(minlength=4)
    assert (counts - 2000).abs().max() < 4 * math.sqrt(8000 * 3 / 16)


@pytest.mark.parametrize("parameterization", ["x0", "noise", "direct"])
def test_push_is_the_chain_and_its_noise_has_no_idle_parts(parameterization):
    """push of independent noise has the law of `sample`, and each block of it has an effect."""
    model = small(parameterization=parameterization)
    eps = model.noise(4000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x = model.push(eps)
    (slope,) = torch.autograd.grad(x.sum(), eps)
    assert (slope.abs().amax(0) > 0).all()
    drawn = model.sample(4000, generator=torch.Generator().manual_seed(1))
    assert (drawn.mean(0) - x.mean(0)).abs().max() < 5 * float(drawn.std()) / math.sqrt(2000)
    assert abs(float(drawn.std() / x.std()) - 1) < 0.1


def test_sdedit_of_data_gives_data_that_remember_less_the_more_noise_they_got():
    """Noise to x_k and the true way back leave the law of the data as it is, for every k."""
    model, generator = oracle(4), torch.Generator().manual_seed(0)
    x = DATA.sample((20_000,))
    kept = []
    for k in range(4):
        found = sdedit(model.step, model.chain, x, list(range(k, -2, -1)), generator=generator)
        assert kolmogorov(found) < 1.95
        kept.append(float(torch.corrcoef(torch.stack([x, found]))[0, 1]))
    assert kept[0] > kept[1] + 0.2 > kept[2] + 0.2 and abs(kept[3]) < 0.04


def test_a_trained_model_has_both_modes_of_each_datum():
    """Four points at a noise that hides which: the generator must draw any of them, and does after seconds of training."""
    data = GaussianMixture([0.25] * 4, [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]], 0.1)
    chain = DiscreteDiffusion(betas_of_levels([0.5, 5.0]))
    torch.manual_seed(0)
    net, critic = PointGenerator((2,), 2, (64, 64), frequencies=[1.5]), PointCritic((2,), (64, 64), frequencies=[1.5])
    generator = Preconditioned(net, chain.alpha_bars, 1.0)
    model = DenoisingDiffusionGAN(generator, critic, chain, event_shape=(2,), latent=2, regularisers=R1(0.001))
    adam = partial(torch.optim.Adam, betas=(0.5, 0.9))
    settings = {"lr": 2e-3, "optimizer": adam, "ema": {"discriminator": None, "generator": 0.99}, "progress": False}
    fit(model, data, steps=500, batch_size=256, **settings)
    report = mode_report(model.sample(4000, generator=torch.Generator().manual_seed(0)), data)
    assert report.covered == 4 and report.within > 0.6 and report.kl < 0.05


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"parameterization": "v"}, "parameterization must be one of x0, direct, noise; got 'v'"),
        ({"latent": -1}, "latent must be a positive whole number; got -1"),
        ({"objective": "wasserstein"}, "needs a Lipschitz critic"),
        ({"denoising": -1.0}, "denoising must not be negative; got -1.0"),
        ({"denoising": 1.0, "parameterization": "direct"}, "denoising must be 0 for a generator of x_{t−1} itself"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    chain = DiscreteDiffusion(vp_betas(2))
    with pytest.raises(ValueError, match=message):
        DenoisingDiffusionGAN(Denoiser(2, context=3), Judge(), chain, **{"event_shape": (2,), "latent": 3, **settings})


def test_bad_calls_are_refused_by_name():
    model, x, t = small(), torch.randn(4, 2), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2\); got \(4, 3\)"):
        model.discriminator_loss(torch.randn(4, 3))
    with pytest.raises(ValueError, match=r"z must have shape \(4, 3\); got \(4, 2\)"):
        model.predict(x, t, torch.randn(4, 2))
    with pytest.raises(ValueError, match="t = 2, s = 0"):
        model.step(x, 2, 0)
    with pytest.raises(ValueError, match=r"eps must have shape \(n, 20\)"):
        model.push(torch.randn(2, 3))
    with pytest.raises(ValueError, match="direct"):
        small(parameterization="direct").predict(x, t, torch.randn(4, 3))
    model = DenoisingDiffusionGAN(model.generator, lambda before, x, t: x, model.chain, event_shape=(2,), latent=3)
    with pytest.raises(ValueError, match=r"discriminator must return shape \(n,\); got \(4, 2\)"):
        model.generator_loss(x)
    with pytest.raises(ValueError, match="steps must be a positive whole number; got 0"):
        vp_betas(0)


def test_a_diffused_critic_sees_every_step_but_the_last():
    """Of data at a place c the critic sees √ᾱ c plus noise: a mixture over 0 … T−1 steps, its moments in closed form."""
    chain = DiscreteDiffusion(vp_betas(4))
    torch.manual_seed(0)
    seen = DiffusedCritic(nn.Flatten(0), chain)(torch.full((100_000, 1), 2.0))
    bars = torch.cat([torch.ones(1, dtype=torch.float64), chain.alpha_bars[:-1]])
    mean, second = (2 * bars.sqrt()).mean(), (4 * bars + 1 - bars).mean()
    assert abs(float(seen.mean() - mean)) < 0.02 and abs(float(seen.square().mean() - second)) < 0.05
    assert abs(float((seen == 2).float().mean()) - 0.25) < 0.01


def test_a_one_shot_gan_learns_through_the_noise():
    chain = DiscreteDiffusion(vp_betas(4))
    gan = GAN(MLP(2, 2, ()), DiffusedCritic(MLP(2, (), ()), chain), event_shape=(2,), latent=2)
    gan.generator_loss(torch.randn(16, 2)).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in gan.generator.parameters())
