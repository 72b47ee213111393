"""DDPM: one function in four outputs, losses against the bound, who learns from which term, samples, labels, transport."""

import math

import pytest
import torch
from problems.exact_noise import ExactNoise
from scipy.stats import kstest
from torch import nn

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.bound import term
from gmcourse.diffusion.ddpm import DDPM, HYBRID
from gmcourse.diffusion.samplers import DDIM, Ancestral, run
from gmcourse.diffusion.schedule import KINDS, DiscreteDiffusion, linear_betas, vp_betas
from gmcourse.nets.denoiser import Denoiser
from gmcourse.nets.unet import UNet

CHAIN = DiscreteDiffusion(vp_betas(8))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=99):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


class Says(nn.Module):
    """x̂_0 = tanh(x + t/T), said in one of the four ways."""

    def __init__(self, chain, kind):
        super().__init__()
        self.chain, self.kind = chain, kind

    def forward(self, x, t):
        alpha, sigma = self.chain.marginal(x, t)
        x0 = torch.tanh(x + t.reshape(-1, *[1] * (x.ndim - 1)) / len(self.chain))
        eps = (x - alpha * x0) / sigma
        return {"x0": x0, "eps": eps, "v": alpha * eps - sigma * x0, "score": -eps / sigma}[self.kind]


class Scaled(nn.Module):
    """a_t x: with N(0, I) data and ε, a = √(1 − ᾱ) is exact."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(a.clone())

    def forward(self, x, t):
        return self.a[t].reshape(-1, *[1] * (x.ndim - 1)) * x


class TwoHeads(nn.Module):
    """A mean that is linear in x, and v, with parameters of their own."""

    def __init__(self, learned=True):
        super().__init__()
        self.mean, self.share, self.learned = nn.Linear(2, 2), nn.Linear(2, 2), learned
        for k, p in enumerate(self.parameters()):
            p.data.copy_(0.3 * normal(*p.shape, seed=k))

    def forward(self, x, t):
        found = self.mean(x)
        return torch.cat([found, torch.tanh(self.share(x))], 1) if self.learned else found


class Records(nn.Module):
    """Keeps the labels it is told; the noise it sees is 0."""

    def forward(self, x, t, labels):
        self.labels = labels
        return torch.zeros_like(x)


def loss_and_gradients(model, x, seed=0):
    torch.manual_seed(seed)
    loss = model.loss(x).mean()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return loss.detach(), dict(zip(parameters, found, strict=True))


def test_four_ways_to_say_the_same_give_the_same_reverse_step_and_samples():
    x, t = normal(8, 2), torch.arange(8)
    models = [DDPM(Says(CHAIN, kind), CHAIN, event_shape=(2,), parameterization=kind) for kind in KINDS]
    first = models[0]
    for model in models[1:]:
        torch.testing.assert_close(model.reverse(x, t), first.reverse(x, t))
        torch.testing.assert_close(model.eps(x, t), first.eps(x, t))
        torch.testing.assert_close(model.sample(5, generator=seeded()), first.sample(5, generator=seeded()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_simple_loss_is_0_for_a_net_that_knows_the_only_datum(kind):
    """And with another it is the squared error of what the net says, summed over the dimensions."""
    chain = DiscreteDiffusion(linear_betas(50, 1e-3, 0.2))
    c = torch.tensor([0.3, -0.7], dtype=torch.float64)

    class Point(nn.Module):
        off = 0.0

        def forward(self, x, t):
            alpha, sigma = chain.marginal(x, t)
            eps = (x - alpha * c) / sigma
            return {"x0": c.expand_as(x), "eps": eps, "v": alpha * eps - sigma * c, "score": -eps / sigma}[kind] + self.off

    model = DDPM(Point(), chain, event_shape=(2,), parameterization=kind)
    assert model.loss(c.expand(100, 2)).abs().max() < 1e-15
    model.net.off = 0.5
    torch.testing.assert_close(model.loss(c.expand(100, 2)), torch.full((100,), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_on_normal_data_the_loss_is_least_at_the_linear_net_that_is_exact(spread):
    """Data N(0, s²), so x_t has variance v = α²s² + σ²: at a = σ/v ε − a x ignores x; dL/da = 2(a − σ/v) v/T."""
    bars, n = CHAIN.alpha_bars, 40_000
    variance = bars * spread**2 + 1 - bars
    model = DDPM(Scaled((1 - bars).sqrt() / variance), CHAIN, event_shape=(1,))
    error = 2 * bars.sqrt() * spread / (8 * n) ** 0.5  # of the mean of 2(ε − a x) x over the n/8 data of a time, times 1/8
    _, best = loss_and_gradients(model, x := spread * normal(n, 1))
    assert (best["net.a"].abs() < 4.5 * error).all()
    model.net.a.data += 0.5
    _, beside = loss_and_gradients(model, x)
    torch.testing.assert_close(beside["net.a"], variance / 8, rtol=0.1, atol=0)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_vlb_loss_is_an_unbiased_estimate_of_the_terms_of_the_bound(variance):
    """Its mean is L − L_T = Σ_t L_t, each of these averaged over draws of its own."""
    model = DDPM(Scaled(0.5 * torch.ones(8).double()), CHAIN, event_shape=(2,), variance=variance, weighting="vlb")
    x = normal(1, 2).expand(50_000, 2)
    torch.manual_seed(0)
    with torch.no_grad():
        loss = model.loss(x)
        terms = [term(model, x, torch.full((50_000,), t), normal(50_000, 2, seed=t)) for t in range(8)]
    wanted, spread = sum(v.mean() for v in terms), sum(v.var() for v in terms) + loss.var()
    assert abs(loss.mean() - wanted) < 5 * (spread / 50_000) ** 0.5


def test_the_learned_variance_learns_from_the_bound_and_the_mean_from_the_noise_alone():
    """Mean: the gradient of L_simple with a fixed variance. Variance: λ times that of the bound. Same draws."""
    x = normal(64, 2)
    options = {"event_shape": (2,)}
    hybrid, grads = loss_and_gradients(DDPM(TwoHeads(), CHAIN, variance="learned", **options).double(), x)
    simple, of_simple = loss_and_gradients(DDPM(TwoHeads(False), CHAIN, **options).double(), x)
    bound, of_bound = loss_and_gradients(DDPM(TwoHeads(), CHAIN, variance="learned", weighting="vlb", **options).double(), x)
    for name in ("net.mean.weight", "net.mean.bias"):
        torch.testing.assert_close(grads[name], of_simple[name], rtol=1e-12, atol=0)
        assert of_bound[name].abs().min() > 0
    for name in ("net.share.weight", "net.share.bias"):
        torch.testing.assert_close(grads[name], HYBRID * of_bound[name], rtol=1e-9, atol=0)
        assert grads[name].abs().min() > 0
    torch.testing.assert_close(hybrid, simple + HYBRID * bound)


@pytest.mark.parametrize(("v", "name"), [(-1.0, "small"), (1.0, "large")])
def test_the_learned_variance_reaches_from_small_to_large(v, name):
    class Constant(nn.Module):
        def forward(self, x, t):
            return torch.cat([x / 2, torch.full_like(x, v)], 1)

    class Half(nn.Module):
        def forward(self, x, t):
            return x / 2

    learned = DDPM(Constant(), CHAIN, event_shape=(2,), variance="learned")
    fixed = DDPM(Half(), CHAIN, event_shape=(2,), variance=name)
    x, t = normal(8, 2), torch.arange(8)
    for found, wanted in zip(learned.reverse(x, t), fixed.reverse(x, t), strict=True):
        torch.testing.assert_close(found, wanted.expand(8, 2))
    torch.testing.assert_close(learned.sample(5, generator=seeded()), fixed.sample(5, generator=seeded()))


def test_between_small_and_large_the_variance_is_their_geometric_mean():
    class Middle(nn.Module):
        def forward(self, x, t):
            return torch.zeros(len(x), 2 * x.shape[1], dtype=x.dtype)

    t = torch.arange(1, 8)
    _, found = DDPM(Middle(), CHAIN, event_shape=(2,), variance="learned").reverse(normal(7, 2), t)
    bars, betas = CHAIN.alpha_bars, CHAIN.betas
    small = (1 - bars[t - 1]) / (1 - bars[t]) * betas[t]
    torch.testing.assert_close(found, (small * betas[t]).sqrt()[:, None].expand(7, 2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("options", [{}, {"variance": "small"}, {"eta": 0.0}, {"eta": 0.5, "steps": 60}])
def test_with_the_exact_noise_samples_have_the_law_of_the_data(options):
    """Both modes in proportion, each as wide as it is."""
    data = GaussianMixture([0.7, 0.3], [[-2.0, 0.0], [2.0, 1.0]], 0.3)
    chain = DiscreteDiffusion(vp_betas(150))
    found = DDPM(ExactNoise(data, chain), chain, event_shape=(2,), **options).sample(3000, generator=seeded())
    left = found[found[:, 0] < 0]
    assert abs(len(left) / 3000 - 0.7) < 4.5 * (0.21 / 3000) ** 0.5
    assert ((left.mean(0) - data.modes[0]).abs() < 4.5 * 0.3 / len(left) ** 0.5 + 0.01).all()
    assert ((left.std(0) / 0.3 - 1).abs() < 0.1).all()


@pytest.mark.parametrize("levels", [None, 256])
@pytest.mark.parametrize("steps", [None, 3])
def test_samples_are_those_of_the_samplers(levels, steps):
    """Strides and clipping, too."""
    net, clip = Says(CHAIN, "eps"), 1.0 if levels else None
    x = torch.randn(6, 2, generator=seeded())
    cases = (
        ({"variance": "small"}, Ancestral(CHAIN, net, variance="small", clip=clip)),
        ({"variance": "large"}, Ancestral(CHAIN, net, variance="large", clip=clip)),
        ({"eta": 0.7}, DDIM(CHAIN, net, eta=0.7, clip=clip)),
    )
    for options, sampler in cases:
        model = DDPM(net, CHAIN, event_shape=(2,), levels=levels, steps=steps, **options)
        generator = seeded()
        torch.randn(6, 2, generator=generator)  # x_T
        torch.testing.assert_close(
            model.sample(6, generator=seeded()), run(sampler.step, x, CHAIN.times(steps), generator=generator)
        )
        assert model.nfe == (steps or 8)


def test_pictures_step_with_the_same_mean_in_the_bound_as_in_samples():
    """x̂_0 within [−1, 1] in both: `log_prob` is about the law that `sample` draws from. The loss sees what the net says."""

    class Wild(nn.Module):
        def forward(self, x, t):
            return 3 * x

    model = DDPM(Wild(), CHAIN, event_shape=(1, 2, 2), parameterization="x0", levels=256, variance="small")
    x = normal(5, 1, 2, 2)
    for t in (0, 4):
        mean, _ = model.reverse(x, torch.full((5,), t))
        z = torch.randn(x.shape, generator=seeded(), dtype=x.dtype)
        _, small = CHAIN.posterior(x, x, t)
        torch.testing.assert_close(model.sampler().step(x, t, t - 1, seeded()), mean + small.sqrt() * z)
    torch.testing.assert_close(model.reverse_of(3 * x, None, x, torch.zeros(5).long())[0], 3 * x)


def test_the_log_probability_is_a_lower_bound_that_costs_all_steps():
    data, chain, calls = Mixture1D(), DiscreteDiffusion(vp_betas(50)), []

    class Counted(ExactNoise):
        def forward(self, x, t):
            calls.append(int(t[0]))
            return super().forward(x, t)

    model = DDPM(Counted(data, chain), chain, event_shape=())
    torch.manual_seed(0)
    x = data.sample(4000, generator=seeded(1))
    gap = data.log_prob(x) - model.log_prob(x)
    assert calls == list(range(50))
    assert 0 < gap.mean() - 5 * gap.std() / 4000**0.5


def test_data_that_are_any_of_256_values_need_eight_bits_and_a_little_more():
    """Σ e^{−L(x)} ≤ Σ p_θ(x) = 1, so the mean of L over all values is at least log 256, whatever the model."""
    x = torch.linspace(-1, 1, 256)
    chain = DiscreteDiffusion(torch.logspace(-6.5, -1, 250))

    class Uniform(nn.Module):
        def forward(self, xt, t):
            alpha, sigma = (v.flatten()[:1] for v in chain.marginal(xt, t))
            weights = (-0.5 * ((xt - alpha * x) / sigma).square()).softmax(1)
            return (xt - alpha * (weights @ x)[:, None]) / sigma

    model = DDPM(Uniform(), chain, event_shape=(1,), levels=256, variance="small")
    bits = model.bits_per_dim(x.repeat(4)[:, None], generator=seeded())
    error = float(bits.std()) / (4 * 256) ** 0.5
    assert 8 < bits.mean() + 4.5 * error and bits.mean() - 4.5 * error < 8.4
    with pytest.raises(ValueError, match="bits per dimension need probabilities: make the model with levels=256"):
        DDPM(Uniform(), chain, event_shape=(1,)).bits_per_dim(x[:, None])


@pytest.mark.parametrize("drop", [0.0, 0.3, 1.0])
def test_labels_are_dropped_at_the_rate_asked_for(drop):
    model = DDPM(net := Records(), CHAIN, event_shape=(2,), classes=3, drop=drop)
    y = torch.arange(6000) % 3
    torch.manual_seed(0)
    model.loss((torch.zeros(6000, 2), y))
    told = net.labels.sum(1)
    assert abs((told == 0).float().mean() - drop) <= 4.5 * (drop * (1 - drop) / 6000) ** 0.5
    assert torch.equal(net.labels.argmax(1)[told == 1], y[told == 1]) and ((told == 0) | (told == 1)).all()


def test_samples_are_told_their_labels_and_none_unless_asked_for():
    model = DDPM(net := Records(), CHAIN, event_shape=(2,), classes=3)
    model.sample(4, labels=torch.tensor([2, 0, -1, 1]))
    assert net.labels.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
    model.log_prob(torch.zeros(2, 2))
    assert net.labels.tolist() == [[0, 0, 0]] * 2
    model.loss((torch.zeros(2, 2), torch.tensor([1, 2], dtype=torch.uint8)))  # as image files have them
    assert net.labels.shape == (2, 3)


def test_pushing_noise_is_sampling_with_eta_0_and_differentiable():
    """A linear net's map is linear: its slope is the product of the slopes of the steps, slides (30)."""
    a, times = 0.7 * (1 - CHAIN.alpha_bars).sqrt(), CHAIN.times(4)
    model = DDPM(Scaled(a), CHAIN, event_shape=(1, 2), steps=4, eta=0.0)
    eps = model.noise(5, generator=seeded())
    torch.testing.assert_close(model.push(eps), model.sample(5, generator=seeded()))
    assert model.noise_blocks == {"x": 2} and eps.shape == (5, 2) and model.push(eps).shape == (5, 1, 2)
    slope, bars = 1.0, [*CHAIN.alpha_bars.tolist(), 1.0]
    for t, s in zip(times, times[1:], strict=False):
        scale = math.sqrt(bars[s] / bars[t])
        slope *= scale + a[t].item() * (math.sqrt(1 - bars[s]) - scale * math.sqrt(1 - bars[t]))
    eps = eps.double().requires_grad_()
    found = model.push(eps)
    torch.testing.assert_close(found.flatten(1), slope * eps)
    inside, through = torch.autograd.grad(found.sum(), (eps, model.net.a))
    torch.testing.assert_close(inside, torch.full_like(eps, slope))
    assert (through[times[:-1]] != 0).all()


def test_the_pushed_noise_has_the_law_of_the_data():
    data, chain = Mixture1D(), DiscreteDiffusion(vp_betas(300))
    model = DDPM(ExactNoise(data, chain), chain, event_shape=(), eta=0.0)
    found = model.push(model.noise(2000, generator=seeded()).double())
    assert kstest(found.numpy(), lambda v: data.cdf(torch.from_numpy(v)).numpy()).pvalue > 1e-4


def test_dropout_is_off_when_sampling_and_as_it_was_afterwards():
    net = UNet((1, 8, 8), width=8, multipliers=(1,), attention=(), dropout=0.5)
    for k, p in enumerate(net.parameters()):
        p.data.copy_(0.1 * normal(*p.shape, seed=k))
    model = DDPM(net, CHAIN, event_shape=(1, 8, 8), eta=0.0, steps=2).train()
    assert torch.equal(model.sample(2, generator=seeded()), model.sample(2, generator=seeded()))
    eps = model.noise(2, generator=seeded())
    assert torch.equal(model.push(eps), model.push(eps)) and net.training


@pytest.mark.parametrize("options", [{}, {"variance": "learned", "levels": 256}, {"weighting": "vlb", "levels": 256}])
def test_pictures_train_and_come_out_in_range(options):
    outputs = 2 if options.get("variance") == "learned" else 1
    net = UNet((1, 8, 8), width=8, multipliers=(1, 2), outputs=outputs, context=3)
    model = DDPM(net, CHAIN, event_shape=(1, 8, 8), classes=3, **options)
    x = torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8)
    loss = model.loss((x, torch.tensor([0, 1, 2, 0])))
    loss.mean().backward()
    assert loss.shape == (4,) and all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)
    if model.levels:
        assert model.sample(2, labels=torch.tensor([0, 1])).abs().max() <= 1


def test_the_buffers_are_no_part_of_the_state():
    model = DDPM(Denoiser(2), CHAIN, event_shape=(2,))
    assert set(model.state_dict()) == {f"net.{name}" for name in model.net.state_dict()}


def made(**options):
    return DDPM(Denoiser(2), CHAIN, event_shape=(2,), **options)


MODEL, TOLD, X = made(), DDPM(Records(), CHAIN, event_shape=(2,), classes=3), torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: made(parameterization="noise"), "parameterization must be one of x0, eps, v, score; got 'noise'"),
        (lambda: made(variance="tiny"), "variance must be one of small, large, learned; got 'tiny'"),
        (lambda: made(weighting="likelihood"), "weighting must be one of simple, vlb; got 'likelihood'"),
        (lambda: made(drop=1.5), r"drop must lie in \[0, 1\]; got 1.5"),
        (lambda: made(levels=1), "levels must be at least 2; got 1"),
        (lambda: made(steps=9), "steps must be at most T = 8; got 9"),
        (lambda: made(steps=0), "steps must be a positive whole number; got 0"),
        (lambda: DDPM(Denoiser(()), CHAIN, event_shape=(), variance="learned"), "event_shape must have channels"),
        (lambda: made(variance="learned").loss(X), r"net must return shape \(4, 4\); got \(4, 2\) for x of shape \(4, 2\)"),
        (lambda: DDPM(TwoHeads(), CHAIN, event_shape=(2,)).double().loss(X.double()), r"net must return shape \(4, 2\)"),
        (lambda: made(variance="learned").weight(torch.tensor([1])), "weight needs a fixed variance"),
        (lambda: MODEL.loss(X[:, :1]), r"x must have shape \(n, 2\); got \(4, 1\)"),
        (lambda: MODEL.loss((X, torch.zeros(4).long())), "labels must be None: this model was made without classes"),
        (lambda: MODEL.eps(X, torch.full((4,), 0.5)), "t must hold whole numbers, torch.int64; got torch.float32"),
        (lambda: MODEL.eps(X, torch.full((4,), 8)), "t must lie in 0 … 7; got values from 8 to 8"),
        (lambda: MODEL.sample(0), "n must be a positive whole number; got 0"),
        (lambda: made(eta=2.0).sample(1), r"eta must lie in \[0, 1\]; got 2.0"),
        (lambda: TOLD.loss((X, torch.zeros(3).long())), r"labels must be whole numbers of shape \(4,\); got torch.int64"),
        (lambda: TOLD.loss((X, torch.zeros(4))), r"labels must be whole numbers of shape \(4,\); got torch.float32"),
        (lambda: TOLD.sample(4, labels=torch.tensor([0, 1, 2, 3])), r"labels must lie in 0 … 2, or be −1; got 0 to 3"),
        (lambda: TOLD.sample(4, labels=torch.zeros(5).long()), r"labels must be whole numbers of shape \(4,\)"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
