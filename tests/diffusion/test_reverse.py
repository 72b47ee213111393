"""Samplers in continuous time with exact scores: their orders, their laws, and the steps of Song et al. and diffusers."""

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from scipy.stats import wasserstein_distance

from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion import reverse
from gmcourse.diffusion.flow_samplers import DPMSolver2, DPMSolverPP, FlowEuler, FlowHeun
from gmcourse.diffusion.reverse import EulerMaruyama, PredictorCorrector, ReverseDiffusion, falling_times
from gmcourse.diffusion.samplers import DDIM, run
from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
from gmcourse.diffusion.sde import VE, VP, GeometricVP, SubVP

MEAN, WIDTH, END = 0.7, 0.5, 0.01
SDES = [VP(1.0, 5.0), SubVP(1.0, 5.0), VE(0.3, 3.0), GeometricVP(0.02, 0.9)]
FLOWS = [FlowEuler, FlowHeun, DPMSolver2, DPMSolverPP]
each_sde = pytest.mark.parametrize("sde", SDES, ids=str)
first_order = lambda sde, score: DPMSolverPP(sde, score, order=1)  # noqa: E731
corrected = lambda sde, score: PredictorCorrector(ReverseDiffusion(sde, score), snr=0.1)  # noqa: E731


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=99):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@cache
def gaussian_at(sde, t):
    """Mean and standard deviation of p_t when the data are N(MEAN, WIDTH²)."""
    alpha, sigma = (float(v) for v in sde.marginal(torch.tensor(t, dtype=torch.float64)))
    return alpha * MEAN, math.hypot(alpha * WIDTH, sigma)


def gaussian_score(sde):
    def score(x, t):
        assert t.shape == x.shape[:1] and t.dtype == x.dtype
        mean, width = gaussian_at(sde, float(t[0]))
        return (mean - x) / width**2

    return score


def score_of(data, sde):
    def score(x, t):
        return data.diffused(*(float(v) for v in sde.marginal(t[0].double()))).score(x)

    return score


@each_sde
@pytest.mark.parametrize(
    ("make", "order", "spacing"),
    [
        (FlowEuler, 1, "uniform"),
        (FlowHeun, 2, "uniform"),
        (first_order, 1, "log_snr"),
        (DPMSolver2, 2, "log_snr"),
        (DPMSolverPP, 2, "log_snr"),
    ],
    ids=["euler", "heun", "ddim", "dpm-2", "dpm++"],
)
def test_flow_samplers_reach_the_same_quantile_at_their_order(make, order, spacing, sde):
    """The flow of Gaussians is affine: x at the quantile z of p_1 comes to the quantile z of p_END."""
    z, errors = normal(50), []
    (mean, width), (mean_end, width_end) = (gaussian_at(sde, t) for t in (1.0, END))
    for steps in (16, 32, 64):
        sampler = make(sde, gaussian_score(sde))
        found = run(sampler.step, mean + width * z, falling_times(sde, steps, end=END, spacing=spacing))
        errors.append((found - mean_end - width_end * z).abs().max().item())
    for coarse, fine in pairwise(errors):
        assert abs(math.log2(coarse / fine) - order) < 0.35
    assert errors[-1] < (0.1 if order == 1 else 5e-3)


def law_of(sampler, mean, variance, grid, monkeypatch):
    """Mean and variance that a sampler of a Gaussian ends with: its steps are A x + B + C z, which is read off."""
    basis = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for t, s in pairwise(grid):
        monkeypatch.setattr(reverse, "normal_like", lambda x, generator: torch.zeros_like(x))
        b, a = sampler.step(basis, t, s).tolist()
        monkeypatch.setattr(reverse, "normal_like", lambda x, generator: torch.ones_like(x))
        c = sampler.step(basis, t, s)[0].item() - b
        mean, variance = (a - b) * mean + b, (a - b) ** 2 * variance + c**2
    return mean, variance


@each_sde
@pytest.mark.parametrize("make", [EulerMaruyama, ReverseDiffusion])
def test_samplers_with_noise_have_weak_order_one(make, sde, monkeypatch):
    """Means and variances are known without a single draw, so that the order shows without noise."""
    mean, width = gaussian_at(sde, 1.0)
    mean_end, width_end = gaussian_at(sde, END)
    errors = []
    for steps in (50, 100):
        sampler = make(sde, gaussian_score(sde))
        found = law_of(sampler, mean, width**2, falling_times(sde, steps, end=END), monkeypatch)
        errors.append(abs(found[0] - mean_end) + abs(found[1] - width_end**2))
    assert 0.75 < math.log2(errors[0] / errors[1]) < 1.3 and errors[1] < 0.05


@pytest.mark.parametrize("snr", [0.1, 0.3])
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_the_corrector_keeps_a_gaussian_but_for_the_bias_of_langevin(snr, width):
    """In N(0, v): ε = 2 snr² v²/w where the chains have variance w, and Langevin's w = v/(1 − ε/2v): w = (1 + snr²) v."""
    sde, n = VE(0.05, 4.0), 4000
    sampler = PredictorCorrector(EulerMaruyama(sde, lambda x, t: -x / width**2), snr=snr)
    x, generator = 3 * width * normal(n, 2), seeded()
    for _ in range(int(5 / snr**2)):
        x = sampler.correct(x, 0.5, generator=generator)
    assert (x.var(0) / ((1 + snr**2) * width**2) - 1).abs().max() < 4.5 * (2 / n) ** 0.5
    assert x.mean(0).abs().max() < 4.5 * width * (1 + snr**2) ** 0.5 / n**0.5


def test_the_corrector_takes_the_step_of_song_et_al():
    """Algorithm 5: ε = 2 α (snr ‖z‖/‖s‖)², α = (α_t/α_s)² of the step, after the predictor's; lengths are batch means."""
    sde, x = VP(), normal(6, 3)
    predictor = ReverseDiffusion(sde, gaussian_score(sde))
    ours = PredictorCorrector(predictor, corrections=2, snr=0.2).step(x, 0.6, 0.5, seeded())
    generator = seeded()
    theirs = predictor.step(x, 0.6, 0.5, generator)
    share = 1 - vp_betas(10)[5]  # α_t/α_s squared from 0.5 to 0.6, thesis (6.15)
    for _ in range(2):
        z = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        s = gaussian_score(sde)(theirs, torch.full((6,), 0.5, dtype=torch.float64))
        eps = 2 * share * (0.2 * z.norm(dim=1).mean() / s.norm(dim=1).mean()) ** 2
        theirs = theirs + eps * s + (2 * eps) ** 0.5 * z
    torch.testing.assert_close(ours, theirs)


def test_reverse_diffusion_for_vp_is_song_et_al_s_algorithm_three():
    sde, x = VP(), normal(6, 2)
    beta = vp_betas(10)[5].item()
    z = torch.randn(6, 2, generator=seeded(), dtype=torch.float64)
    s = gaussian_score(sde)(x, torch.full((6,), 0.6, dtype=torch.float64))
    wanted = (2 - math.sqrt(1 - beta)) * x + beta * s + math.sqrt(beta) * z
    torch.testing.assert_close(ReverseDiffusion(sde, gaussian_score(sde)).step(x, 0.6, 0.5, seeded()), wanted)


@pytest.mark.parametrize(
    "make", [EulerMaruyama, ReverseDiffusion, corrected, *FLOWS], ids=lambda make: getattr(make, "__name__", "")
)
@pytest.mark.parametrize("sde", [VP(), VE(0.01, 10.0)], ids=str)
def test_with_the_exact_score_the_mixture_is_reproduced_as_the_steps_grow(make, sde):
    """Distance to the data falls from few to many steps, and ends at what two true samples of that size are apart."""
    data, n = Mixture1D(), 2000
    x = sde.prior(()).sample(n, generator=seeded(99))
    truth = data.sample(n, generator=seeded(1)).numpy()
    floor = max(wasserstein_distance(data.sample(n, generator=seeded(k)).numpy(), truth) for k in range(2, 12))
    distances = []
    for steps in (2, 100):
        sampler = make(sde, score_of(data, sde))
        found = run(sampler.step, x, falling_times(sde, steps, spacing="edm"), generator=seeded())
        distances.append(wasserstein_distance(found.numpy(), truth))
    assert distances[1] < floor and distances[1] < distances[0] / 3


def test_correctors_mend_what_coarse_steps_break():
    """Five steps, the same for both: twice the variance without, and at most a fifth too much with 20 corrections each."""
    sde, x, errors = VP(1.0, 5.0), normal(4000), []
    predictor, (_, width) = ReverseDiffusion(sde, gaussian_score(sde)), gaussian_at(sde, END)
    for sampler in (predictor, PredictorCorrector(predictor, corrections=20, snr=0.2)):
        found = run(sampler.step, x, falling_times(sde, 5, end=END), generator=seeded())
        errors.append(abs(found.var().item() / width**2 - 1))
    assert errors[0] > 0.9 and errors[1] < 0.2


@pytest.mark.parametrize("stride", [1, 5])
def test_ddim_without_noise_is_the_first_order_solver_in_log_snr(stride):
    """The chain of thesis (6.15) has VP's ᾱ at t/T, and −1 stands for time 0."""
    sde, chain, x = VP(), DiscreteDiffusion(vp_betas(50)), normal(20, 2)
    net = lambda x, t: torch.sin(3 * x) + t[:, None]  # noqa: E731, ε

    def score(x, t):
        return -net(x, t) / sde.marginal(t)[1][:, None]

    grid = chain.times(50 // stride)
    ddim = run(DDIM(chain, lambda x, i: net(x, (i + 1) / 50.0)).step, x, grid)
    found = run(first_order(sde, score).step, x, [(i + 1) / 50 for i in grid])
    torch.testing.assert_close(found, ddim, rtol=1e-6, atol=1e-6)


def test_the_second_order_solver_remembers_only_what_it_made():
    """A second run is like the first; a tensor it did not make, though at the right time, gets a step of order one."""
    sde, x = VP(), normal(10, 2)
    score, grid = gaussian_score(sde), falling_times(VP(), 4, end=0.2)
    sampler = DPMSolverPP(sde, score)
    first = run(sampler.step, x, grid)
    assert torch.equal(run(sampler.step, x, grid), first)
    midway = sampler.step(x, *grid[:2])
    plain = first_order(sde, score).step(midway, *grid[1:3])
    assert torch.equal(sampler.step(midway.clone(), *grid[1:3]), plain)
    midway = sampler.step(x, *grid[:2])
    assert not torch.allclose(sampler.step(midway, *grid[1:3]), plain)


def test_a_step_to_no_noise_gives_the_guess_at_the_data():
    sde, x = VP(), normal(10, 2)
    sampler = DPMSolverPP(sde, gaussian_score(sde), clip=0.3)
    wanted = DPMSolverPP(sde, gaussian_score(sde)).denoise(x, 0.2).clamp(-0.3, 0.3)
    torch.testing.assert_close(sampler.step(x, 0.2, 0.0), wanted)
    assert run(sampler.step, 5 * x, [*falling_times(sde, 5), 0.0]).abs().max() <= 0.3


@each_sde
def test_denoising_gives_the_mean_of_the_data(sde):
    """E[x_0 | x_t] of jointly Gaussian x_0, x_t: MEAN + cov/var (x_t − its mean)."""
    x, (mean, width) = normal(20), gaussian_at(sde, 0.4)
    alpha = float(sde.marginal(torch.tensor(0.4, dtype=torch.float64))[0])
    wanted = MEAN + alpha * WIDTH**2 / width**2 * (x - mean)
    torch.testing.assert_close(EulerMaruyama(sde, gaussian_score(sde)).denoise(x, 0.4), wanted, rtol=1e-6, atol=1e-6)


@each_sde
def test_times_are_even_in_what_they_say(sde):
    def at(spacing, steps=7):
        found = falling_times(sde, steps, start=0.9, end=0.05, spacing=spacing)
        assert found[0] == 0.9 and found[-1] == 0.05 and len(found) == steps + 1
        return torch.tensor(found, dtype=torch.float64)

    assert torch.allclose(at("uniform").diff(), torch.tensor(-0.85 / 7, dtype=torch.float64))
    steps = sde.log_snr(at("log_snr")).diff()
    assert torch.allclose(steps, steps.mean(), rtol=1e-6)
    alpha, sigma = sde.marginal(at("edm"))
    ratio = sigma / alpha
    k = torch.arange(8, dtype=torch.float64)  # Karras et al. 2022 (5), N = 8
    wanted = (ratio[0] ** (1 / 7) + k / 7 * (ratio[-1] ** (1 / 7) - ratio[0] ** (1 / 7))) ** 7
    assert torch.allclose(ratio, wanted, rtol=1e-8)


@pytest.mark.parametrize("make", [EulerMaruyama, ReverseDiffusion, corrected, *FLOWS])
def test_evaluations_are_counted_and_dtype_seed_and_shape_are_kept(make):
    calls, sde = [], VP()

    def score(x, t):
        assert t.shape == (3,) and t.dtype == torch.float32 and not torch.is_grad_enabled()
        calls.append(t)
        return -x

    sampler, x = make(sde, score), normal(3, 2, 4).float()
    first, second = (run(sampler.step, x, falling_times(sde, 5), generator=seeded()) for _ in range(2))
    assert len(calls) == 2 * 5 * sampler.evaluations
    assert torch.equal(first, second) and first.shape == x.shape and first.dtype == torch.float32
    other = run(sampler.step, x, falling_times(sde, 5), generator=seeded(1))
    assert torch.equal(first, other) == isinstance(sampler, tuple(FLOWS))


REASON = "diffusers is not installed: pip install diffusers"
EDM_GRID = falling_times(VP(), 12, start=0.6, end=0.02, spacing="edm")


def schedule_of(module, name, sde, grid, **options):
    """diffusers' solver, told σ/α of our times in float64."""
    pytest.importorskip("diffusers", reason=REASON)
    module = pytest.importorskip(f"diffusers.schedulers.{module}", reason=REASON)
    scheduler = getattr(module, name)(
        num_train_timesteps=1000, lower_order_final=False, final_sigmas_type="sigma_min", **options
    )
    scheduler.set_timesteps(len(grid) - 1)
    alpha, sigma = sde.marginal(torch.tensor(grid, dtype=torch.float64))
    scheduler.sigmas, scheduler.timesteps = sigma / alpha, torch.arange(len(grid) - 1)
    return scheduler


def some_eps(x):
    return torch.sin(3 * x) + 0.1 * x


def some_score(sde):
    return lambda x, t: -some_eps(x) / sde.marginal(t)[1][:, None]


@pytest.mark.parametrize("order", [1, 2])
def test_multistep_solver_steps_are_those_of_diffusers(order):
    sde, x = VP(), normal(6, 2)
    name = "scheduling_dpmsolver_multistep", "DPMSolverMultistepScheduler"
    scheduler = schedule_of(*name, sde, EDM_GRID, solver_order=order, algorithm_type="dpmsolver++", solver_type="midpoint")
    sampler, theirs = DPMSolverPP(sde, some_score(sde), order=order), x
    for k, (t, s) in enumerate(pairwise(EDM_GRID)):
        x = sampler.step(x, t, s)
        theirs = scheduler.step(some_eps(theirs), k, theirs).prev_sample  # through float32
        torch.testing.assert_close(x, theirs.double(), rtol=1e-5, atol=1e-5)


def test_singlestep_solver_steps_are_those_of_diffusers():
    """Their grid holds the halfway times, too, and two steps of theirs are one of ours."""
    sde, x = VP(), normal(6, 2)
    sampler = DPMSolver2(sde, some_score(sde))
    grid = [v for t, s in pairwise(EDM_GRID) for v in (t, sampler.halfway(t, s))] + [EDM_GRID[-1]]
    options = {"solver_order": 2, "algorithm_type": "dpmsolver", "solver_type": "midpoint"}
    name = "scheduling_dpmsolver_singlestep", "DPMSolverSinglestepScheduler"
    scheduler, theirs = schedule_of(*name, sde, grid, **options), x
    for k, (t, s) in enumerate(pairwise(EDM_GRID)):
        x = sampler.step(x, t, s)
        for j in (2 * k, 2 * k + 1):
            theirs = scheduler.step(some_eps(theirs), j, theirs).prev_sample
        torch.testing.assert_close(x, theirs, rtol=1e-6, atol=1e-6)


def test_predictor_and_corrector_of_ve_are_those_of_diffusers():
    """At their times k/(N − 1); they correct before they predict, so the two are compared one by one."""
    module = pytest.importorskip("diffusers.schedulers.scheduling_sde_ve", reason=REASON)
    scheduler = module.ScoreSdeVeScheduler(num_train_timesteps=11, snr=0.2, sigma_min=0.01, sigma_max=50.0)
    scheduler.set_timesteps(11)
    scheduler.set_sigmas(11, 0.01, 50.0)
    sde, x = VE(0.01, 50.0), normal(6, 2, 1, 1).float()
    predictor = ReverseDiffusion(sde, gaussian_score(sde))
    score = gaussian_score(sde)(x, torch.full((6,), 0.5))
    theirs = scheduler.step_pred(score, torch.tensor(0.5), x, generator=seeded()).prev_sample
    torch.testing.assert_close(predictor.step(x, 0.5, 0.4, seeded()), theirs, rtol=1e-4, atol=1e-4)
    theirs = scheduler.step_correct(score, x, generator=seeded()).prev_sample
    ours = PredictorCorrector(predictor, snr=0.2).correct(x, 0.5, generator=seeded())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


X, SDE = torch.zeros(3, 2), VP()
SCORE = gaussian_score(SDE)
PREDICTOR = EulerMaruyama(SDE, SCORE)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: falling_times(SDE, 0), "steps must be a positive whole number; got 0"),
        (lambda: falling_times(SDE, 2.5), "steps must be a positive whole number; got 2.5"),
        (lambda: falling_times(SDE, 5, start=1.5), "1 ≥ start > end ≥ 0; got 1.5 and 0.001"),
        (lambda: falling_times(SDE, 5, start=0.1, end=0.2), "1 ≥ start > end ≥ 0; got 0.1 and 0.2"),
        (lambda: falling_times(SDE, 5, end=0.0, spacing="edm"), "choose end > 0 where σ > 0; got σ = 0 at t = 0"),
        (lambda: falling_times(SDE, 5, spacing="cosine"), "spacing must be uniform, log_snr or edm; got 'cosine'"),
        *[
            (lambda make=make: make(SDE, SCORE).step(X, 0.4, 0.5), "1 ≥ t > s ≥ 0; got 0.4 and 0.5")
            for make in (EulerMaruyama, ReverseDiffusion, corrected, *FLOWS)
        ],
        (lambda: PREDICTOR.step(X, 1.01, 0.5), "got 1.01 and 0.5"),
        (lambda: PREDICTOR.step(X, 0.5, float("nan")), "got 0.5 and nan"),
        (lambda: DPMSolver2(SDE, SCORE).step(X, 0.5, 0.0), "log-SNR must be finite"),
        (lambda: DPMSolverPP(SDE, SCORE, order=3), "order must be 1 or 2; got 3"),
        (lambda: DPMSolverPP(SDE, SCORE, clip=0.0), "clip must be positive"),
        (lambda: PredictorCorrector(PREDICTOR, corrections=0), "corrections must be a positive whole number; got 0"),
        (lambda: PredictorCorrector(PREDICTOR, snr=-1.0), "snr must be positive; got -1.0"),
        (lambda: EulerMaruyama(SDE, lambda x, t: x[:, :1]).step(X, 0.5, 0.4), r"score must return the shape of x, \(3, 2\)"),
        (lambda: run(PREDICTOR.step, X, [0.5, 0.7]), "times must be at least two, falling"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
