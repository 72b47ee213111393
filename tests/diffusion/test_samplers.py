"""Samplers with a perfect ε: exact laws where they are known, convergence where not, and diffusers' steps."""

import math
from itertools import pairwise

import pytest
import torch
from problems.exact_noise import ExactNoise
from scipy.stats import kstest, wasserstein_distance

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.samplers import DDIM, Ancestral, run, walk
from gmcourse.diffusion.schedule import DiscreteDiffusion, cosine_betas, linear_betas, vp_betas

N = 20_000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=99):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def some_net(x, t):
    return torch.sin(3 * x) + 0.001 * t[:, None]


@pytest.mark.parametrize("stride", [1, 50])
def test_with_the_small_variance_and_a_single_datum_every_law_on_the_way_is_exact(stride):
    """q(x_s | x_t, x_0) is then the truth: x_s is N(√ᾱ_s c, 1 − ᾱ_s), and the last step finds c."""
    chain, c = DiscreteDiffusion(linear_betas()), 0.8

    def eps(x, t):
        bar = chain.alpha_bars[t[0]]
        return (x - bar.sqrt() * c) / (1 - bar).sqrt()

    times = chain.times(1000 // stride)[-7:]  # from x_t that has the right law
    bar = chain.alpha_bars[times[0]]
    start = bar.sqrt() * c + (1 - bar).sqrt() * normal(N)
    states = list(walk(Ancestral(chain, eps).step, start, times, generator=seeded()))
    for x, s in zip(states[1:-1], times[1:-1], strict=True):
        bar = chain.alpha_bars[s].item()
        assert kstest(x.numpy(), "norm", (math.sqrt(bar) * c, math.sqrt(1 - bar))).pvalue > 1e-4
    assert (states[-1] - c).abs().max() < 1e-10


@pytest.mark.parametrize("steps", [3, 20])
def test_with_the_large_variance_and_normal_data_every_law_on_the_way_is_exact(steps):
    """Score −x: all x_s are N(0, I), whatever the stride, but the last, the mean of x_0, of variance ᾱ_t."""
    chain = DiscreteDiffusion(linear_betas())
    sampler = Ancestral(chain, lambda x, t: chain.marginal(x, t)[1] * x, variance="large")
    *states, last = walk(sampler.step, normal(N), chain.times(steps), generator=seeded())
    for x in states:
        assert kstest(x.numpy(), "norm").pvalue > 1e-4
    bar = chain.alpha_bars[chain.times(steps)[-2]].item()
    assert abs(last.var() / bar - 1) < 5 * (2 / N) ** 0.5


def test_the_ancestral_step_is_that_of_the_thesis():
    """(2.62): (x − β/√(1 − ᾱ) ε)/√α + σ z; where (2.60) has √ᾱ, √α_t is meant."""
    betas = linear_betas(10, 0.01, 0.3)
    chain, x, t = DiscreteDiffusion(betas), normal(5, 2), 6
    eps = some_net(x, torch.full((5,), t))
    mean = (x - betas[t] / (1 - chain.alpha_bars[t]).sqrt() * eps) / (1 - betas[t]).sqrt()
    z = torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    small = (1 - chain.alpha_bars[t - 1]) / (1 - chain.alpha_bars[t]) * betas[t]
    for variance, square in (("small", small), ("large", betas[t])):
        found = Ancestral(chain, some_net, variance=variance).step(x, t, t - 1, seeded())
        torch.testing.assert_close(found, mean + square.sqrt() * z)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("steps", [7, 100])
def test_ddim_at_eta_one_is_ancestral_sampling(steps, clip):
    chain = DiscreteDiffusion(vp_betas(100))
    samplers = (DDIM(chain, some_net, eta=1.0, clip=clip), Ancestral(chain, some_net, clip=clip))
    ddim, ancestral = (run(s.step, normal(50, 2), chain.times(steps), generator=seeded()) for s in samplers)
    torch.testing.assert_close(ddim, ancestral, rtol=1e-9, atol=1e-9)


def test_ddim_converges_at_first_order_to_the_map_that_keeps_quantiles():
    """N(m, c²): the probability flow takes x_T to the same quantile of the data. Half the steps, twice the error."""
    m, c, x = 0.7, 0.3, normal(200)
    errors = []
    for steps in (50, 100, 200, 400):
        chain = DiscreteDiffusion(vp_betas(steps))
        bar = chain.alpha_bars[-1].item()
        truth = m + c * (x - math.sqrt(bar) * m) / math.sqrt(bar * c**2 + 1 - bar)
        found = run(DDIM(chain, ExactNoise(Mixture1D([1.0], [m], c), chain)).step, x, chain.times())
        errors.append((found - truth).abs().mean().item())
    ratios = [a / b for a, b in zip(errors, errors[1:], strict=False)]
    assert all(1.8 < ratio < 2.2 for ratio in ratios) and errors[-1] < 5e-3


@pytest.mark.parametrize(
    "make", [Ancestral, lambda *a: Ancestral(*a, variance="large"), DDIM, lambda *a: DDIM(*a, eta=0.5)],
    ids=["small", "large", "ddim", "eta .5"],
)  # fmt: skip
def test_with_the_exact_noise_the_mixture_is_reproduced_as_the_steps_grow(make):
    """Distance to the data falls from T to 4 T, and ends at what two true samples of that size are apart."""
    data, x = Mixture1D(), normal(4000).float()
    truth = data.sample(4000, generator=seeded(1)).numpy()
    floor = [wasserstein_distance(data.sample(4000, generator=seeded(k)).numpy(), truth) for k in range(2, 12)]
    distances = []
    for steps in (4, 16, 64, 256):
        chain = DiscreteDiffusion(vp_betas(steps))
        found = run(make(chain, ExactNoise(data, chain)).step, x, chain.times(), generator=seeded())
        distances.append(wasserstein_distance(found.numpy(), truth))
    assert distances[0] > 2 * distances[1] > 3 * distances[2]
    assert distances[3] < 2 * max(floor)


def test_in_the_plane_the_weights_and_widths_of_the_modes_come_out():
    data = GaussianMixture([0.7, 0.3], [[-2.0, 0.0], [2.0, 1.0]], 0.2)
    chain = DiscreteDiffusion(vp_betas(300))
    found = run(Ancestral(chain, ExactNoise(data, chain)).step, normal(4000, 2).float(), chain.times(), generator=seeded())
    left = found[found[:, 0] < 0]
    assert abs(len(left) / 4000 - 0.7) < 4.5 * (0.21 / 4000) ** 0.5
    assert ((left.mean(0) - data.modes[0]).abs() < 4.5 * 0.2 / len(left) ** 0.5 + 0.005).all()
    assert ((left.std(0) / 0.2 - 1).abs() < 0.1).all()


@pytest.mark.parametrize("sampler", [Ancestral, DDIM])
def test_no_noise_is_added_at_the_last_step(sampler):
    chain = DiscreteDiffusion(vp_betas(4))
    options = {"variance": "large"} if sampler is Ancestral else {"eta": 1.0}
    step = sampler(chain, some_net, **options).step
    assert torch.equal(step(normal(5, 2), 0, -1, seeded(0)), step(normal(5, 2), 0, -1, seeded(1)))
    assert not torch.equal(step(normal(5, 2), 1, 0, seeded(0)), step(normal(5, 2), 1, 0, seeded(1)))


def test_clipping_keeps_the_guess_at_the_data_in_range():
    chain = DiscreteDiffusion(vp_betas(20))
    for sampler in (Ancestral(chain, some_net, clip=0.3), DDIM(chain, some_net, clip=0.3)):
        assert run(sampler.step, 5 * normal(50, 2), chain.times(), generator=seeded()).abs().max() <= 0.3


def test_the_loop_shows_every_time_and_the_net_sees_the_times_of_the_chain():
    chain, seen = DiscreteDiffusion(vp_betas(10)), []

    def net(x, t):
        assert t.shape == (5,) and t.dtype == torch.int64 and not torch.is_grad_enabled()
        seen.append(t[0].item())
        return torch.zeros_like(x, requires_grad=True)

    x = normal(5, 3, 2, 2)
    states = list(walk(Ancestral(chain, net).step, x, chain.times(4), generator=seeded()))
    assert torch.is_grad_enabled() and not states[-1].requires_grad
    assert seen == chain.times(4)[:-1] and len(states) == 5 and torch.equal(states[0], x)
    assert torch.equal(states[-1], run(Ancestral(chain, net).step, x, chain.times(4), generator=seeded()))


def test_samples_stay_in_the_dtype_of_the_noise():
    chain = DiscreteDiffusion(vp_betas(10))
    assert run(DDIM(chain, some_net).step, normal(5, 2).float(), chain.times()).dtype == torch.float32


REASON = "diffusers is not installed: pip install diffusers"


def peer(kind, chain, steps, **options):
    """diffusers' scheduler of the same chain, with its ᾱ in float64 so that formulas are compared and not roundings."""
    module = pytest.importorskip(f"diffusers.schedulers.scheduling_{kind.lower()}", reason=REASON)
    scheduler = getattr(module, f"{kind}Scheduler")(
        num_train_timesteps=len(chain), trained_betas=chain.betas.numpy(), timestep_spacing="trailing", **options
    )
    scheduler.alphas_cumprod = chain.alpha_bars
    scheduler.set_timesteps(steps)
    return scheduler


def compare(scheduler, sampler, times, **options):
    ours = theirs = normal(6, 2)
    generators = seeded(), seeded()
    for t, s in pairwise(times):
        assert t in scheduler.timesteps
        ours = sampler.step(ours, t, s, generators[0])
        eps = some_net(theirs, torch.full((6,), t))
        theirs = scheduler.step(eps, t, theirs, generator=generators[1], **options).prev_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("steps", [10, 100])
def test_ancestral_steps_are_those_of_diffusers(steps, variance, clip):
    """But for the last of few steps with the large variance: theirs adds noise to the sample, as its time is not 0."""
    chain = DiscreteDiffusion(linear_betas(100, 1e-3, 0.2))
    clipping = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}
    scheduler = peer("DDPM", chain, steps, variance_type=f"fixed_{variance}", **clipping)
    times = chain.times(steps)[: -1 if steps < 100 and variance == "large" else None]
    compare(scheduler, Ancestral(chain, some_net, variance=variance, clip=clip), times)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [10, 100])
def test_ddim_steps_are_those_of_diffusers(steps, eta, clip):
    chain = DiscreteDiffusion(linear_betas(100, 1e-3, 0.2))
    scheduler = peer("DDIM", chain, steps, clip_sample=clip is not None, clip_sample_range=clip or 1.0)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    sampler = DDIM(chain, some_net, eta=eta, clip=clip)
    compare(scheduler, sampler, chain.times(steps), eta=eta, use_clipped_model_output=True)


def test_the_cosine_schedule_is_that_of_diffusers():
    module = pytest.importorskip("diffusers.schedulers.scheduling_ddpm", reason=REASON)
    theirs = module.DDPMScheduler(num_train_timesteps=200, beta_schedule="squaredcos_cap_v2").betas
    torch.testing.assert_close(cosine_betas(200).float(), theirs, rtol=1e-4, atol=1e-7)


CHAIN, X = DiscreteDiffusion(vp_betas(4)), torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: DDIM(CHAIN, some_net, eta=1.5), r"eta must lie in \[0, 1\]; got 1.5"),
        (lambda: DDIM(CHAIN, some_net, clip=0.0), "clip must be positive"),
        (lambda: Ancestral(CHAIN, some_net, variance="tiny"), "variance must be small, large or learned; got 'tiny'"),
        (lambda: Ancestral(CHAIN, some_net).step(X, 4, 3), "3 ≥ t > s ≥ -1; got t = 4, s = 3"),
        (lambda: DDIM(CHAIN, some_net).step(X, 1, 1), "got t = 1, s = 1"),
        (lambda: DDIM(CHAIN, some_net).step(X, 1, -2), "got t = 1, s = -2"),
        (lambda: DDIM(CHAIN, lambda x, t: x[:, :1]).step(X, 1, 0), r"eps must return the shape of x, \(3, 2\); got \(3, 1"),
        (lambda: run(DDIM(CHAIN, some_net).step, X, [3]), "times must be at least two, falling"),
        (lambda: run(DDIM(CHAIN, some_net).step, X, [0, 1, 2]), "times must be at least two, falling; got 3: 0, 1, 2"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
