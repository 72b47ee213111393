"""What the explorers of diffusion draw, against the library's samplers, closed forms and scipy."""

import math

import numpy as np
import pytest
import torch
from problems.explorers import check_same_picture
from scipy import integrate, stats

from gmcourse.data import toy2d
from gmcourse.diffusion.cld import CLD, exact_score
from gmcourse.diffusion.cld_samplers import SSCS
from gmcourse.diffusion.flow_samplers import FlowHeun
from gmcourse.diffusion.reverse import falling_times
from gmcourse.diffusion.samplers import DDIM, Ancestral, run
from gmcourse.diffusion.schedule import DiscreteDiffusion
from gmcourse.diffusion.sde import VP
from gmcourse.viz.explorers import film, race
from gmcourse.viz.explorers import phase_space as cld
from gmcourse.viz.explorers import schedules as designer
from gmcourse.viz.explorers.spots import SETS, spots

POINTS = 1.5 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))


def compute(explorer, **values):
    return explorer._compute(**(explorer.values | values))


# Spots


@pytest.mark.parametrize("name", SETS.values())
def test_spots_have_the_density_of_the_toy_and_the_score_of_their_own(name):
    law, toy = spots(name), toy2d.get(name)
    for alpha, sigma in ((1.0, 0.0), (0.6, 0.8)):
        x = POINTS.clone().requires_grad_()
        log_p = law.noised(alpha, sigma).log_prob(x)
        (slope,) = torch.autograd.grad(log_p.sum(), x)
        assert torch.allclose(law.noised(alpha, sigma).score(POINTS), slope, rtol=1e-3, atol=1e-3)
        truth = toy.diffused(alpha, sigma).log_prob(POINTS).exp()
        assert torch.allclose(log_p.detach().exp(), truth, rtol=0.02, atol=0.02 * float(truth.max()))


# The film


@pytest.fixture(scope="module")
def reel():
    return film.diffusion_film()


@pytest.mark.parametrize("process", film.PROCESSES)
def test_the_film_shows_the_law_of_the_process_in_its_own_units(reel, process):
    t = 0.4
    _, density, score, _, _ = compute(reel, process=process, t=t)
    alpha, sigma, _ = film.moment(film.PROCESSES[process], t)
    unit, law = math.hypot(alpha, sigma), toy2d.get("gaussians8").diffused(alpha, sigma)
    cells, places = (film.grid(film.EXTENT, n).double() * unit for n in (film.RESOLUTION, film.ARROWS))
    assert torch.allclose(density.flatten().double(), law.log_prob(cells).exp() * unit**2, rtol=1e-3, atol=1e-6)
    assert torch.allclose(score.double(), law.score(places) * unit, rtol=1e-3, atol=1e-4)


def test_particles_of_any_two_processes_are_at_the_same_place_at_the_same_log_snr(reel):
    for log_snr in (-3.0, 0.5, 4.0):
        at = {name: np.interp(-log_snr, -p.log_snr(film.CURVE).numpy(), film.CURVE) for name, p in film.PROCESSES.items()}
        seen = [film.level(film.moment(film.PROCESSES[name], float(t))[2]) for name, t in at.items()]
        assert max(seen) - min(seen) <= 1


def test_levels_count_from_noise_to_data():
    levels = [film.level(v) for v in (film.LOWEST, film.HIGHEST, math.inf)]
    assert levels == [0, film.LEVELS - 1, film.LEVELS]
    assert torch.allclose(torch.logit(film.ladder().alpha_bars), film.LADDER)


@pytest.mark.parametrize("back", film.BACK)
@pytest.mark.parametrize("name", SETS.values())
def test_particles_have_the_law_that_is_drawn_beside_them(name, back):
    path, law = film.paths(spots(name), film.BACK[back]), spots(name)
    for log_snr in (-4.0, 0.0, 3.0, math.inf):
        share = 1 / (1 + math.exp(-log_snr))
        x = path[film.level(log_snr)]
        wanted = share * (law.centres.square().mean(0) + law.width**2) + 1 - share
        error = x.square().std(0) / film.PARTICLES**0.5
        assert ((x.square().mean(0) - wanted).abs() < 4.5 * error + 0.02).all(), log_snr


def test_the_probability_flow_leads_where_heuns_rule_leads():
    law, vp = spots("gaussians8"), VP()
    path = film.paths(law, film.BACK["probability flow"])
    flow = FlowHeun(vp, race.score_of(vp, [law]))
    ends = run(flow.step, path[0][:, None], falling_times(vp, 300, spacing="log_snr"))[:, 0]
    assert float((ends - path[-1]).norm(dim=1).median()) < 0.02


# Schedules


@pytest.mark.parametrize("ddim", [False, True])
@pytest.mark.parametrize(("kind", "steps"), [("linear", 4), ("(6.15)", 30), ("cosine", 12), ("sigmoid", 50)])
def test_samples_are_the_librarys_draw_for_draw(kind, steps, ddim):
    chain = DiscreteDiffusion(designer.betas(kind, steps, 20.0, 0.008, 1.0))

    def eps(x, t):
        alpha, sigma = chain.marginal(x, t)
        return -sigma * designer.LAW.diffused(float(alpha[0]), float(sigma[0])).score(x)

    sampler = (DDIM if ddim else Ancestral)(chain, eps)
    start = torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = run(sampler.step, start, chain.times(), generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    noise = np.stack([torch.randn(50, generator=generator, dtype=torch.float64).numpy() for _ in range(steps)])
    found = designer.sample(designer.way_back(chain, ddim), start.float().numpy(), noise.astype(np.float32))
    assert np.quantile(np.abs(found - wanted.numpy()), 0.9) < 2e-3  # those at a fork may part in float32


def test_quantiles_and_what_chance_does_are_those_of_true_draws():
    n, generator = 400, torch.Generator().manual_seed(0)
    q = designer.quantiles(n)
    assert np.allclose(designer.LAW.cdf(torch.from_numpy(q)), (np.arange(n) + 0.5) / n, atol=1e-4)
    draws = designer.LAW.sample((300, n), generator=generator).numpy()
    distances = [stats.wasserstein_distance(x, designer.quantiles(4000)) for x in draws]
    error = np.std(distances) / len(draws) ** 0.5
    assert abs(np.mean(distances) - designer.by_chance(n)) < 4.5 * error + 0.02 * designer.by_chance(n)


def test_many_small_steps_find_the_data_unless_signal_is_left_over():
    explorer = designer.schedule_designer()

    def distance(**values):
        return float(compute(explorer, ddim=True, **values)[-1][1].split()[1])

    assert distance(kind="(6.15)", steps=1000) < 0.01 < 0.1 < distance(kind="(6.15)", steps=4)
    assert distance(kind="linear", steps=1000, end=1.0) > 0.05
    assert distance(kind="cosine", steps=1000) < 0.01


def test_linear_schedules_of_few_steps_are_cut_and_those_of_6_15_leave_the_same_signal():
    cut = designer.betas("linear", 4, 20.0, 0.008, 1.0)
    assert cut.max() == 0.999 and (cut > 0).all()
    left = {round(float((1 - designer.betas("(6.15)", n, 20.0, 0.008, 1.0)).prod().log()), 6) for n in (4, 50, 1000)}
    assert left == {-10.05}


# The race


def test_all_racers_pay_the_same():
    calls, law = [], spots("gaussians8")
    score = race.score_of(VP(), [law])
    for name, make in race.RACERS.items():
        sampler = make(VP(), lambda x, t: calls.append(1) or score(x, t))
        calls.clear()
        run(sampler.step, torch.randn(4, 1, 2), falling_times(VP(), 16 // sampler.evaluations))
        assert len(calls) == 16, name


def test_three_racers_meet_at_the_same_points_and_euler_maruyama_does_not():
    ends = race.races([spots(name) for name in SETS.values()], race.even(128, 2))
    one, *others = (ends["log_snr", name, 64] for name in race.RACERS)
    apart = [float((x - others[-1]).norm(dim=-1).median()) for x in (one, *others)]
    assert apart[0] > 0.5 and max(apart[1:]) < 0.05
    assert apart[2] < apart[1]  # of order 2, as the one it is compared with


def test_the_energy_distance_is_scipys_on_a_line():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 1, generator=generator) * torch.tensor([[1.0, 0.0]]) for n in (60, 80))
    found = race.energy_distance(x, y, race.mean_distance(y, y))
    assert found == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2, abs=1e-5)


def test_even_draws_have_the_law_but_less_chance():
    law = spots("gaussians25")
    x = race.evenly_drawn(law, 1024)
    nearest = torch.cdist(x, law.centres).argmin(1)
    assert (nearest.bincount(minlength=25) - 1024 / 25).abs().max() <= 2
    assert torch.allclose((x - law.centres[nearest]).std(0), torch.tensor(law.width), rtol=0.05)
    assert race.near(x, law) == pytest.approx(1 - math.exp(-8), abs=3e-3)
    z = race.even(512, 2)
    assert z.mean(0).abs().max() < 0.02 and (z.std(0) - 1).abs().max() < 0.03


def test_with_more_evaluations_every_racer_comes_nearer():
    explorer = race.sampler_race()
    for data in SETS.values():
        _, chance, _, _, curves, _ = compute(explorer, data=data, spacing="log_snr")
        assert curves[0][-1] < 3 * chance and curves[0][-1] < curves[0][0]  # Euler–Maruyama
        assert all(last < min(first / 20, 2e-3) for first, *_, last in curves[1:])


# Phase space


@pytest.mark.parametrize("friction", [0.2, 1.0, 5.0])
def test_modes_move_as_the_moment_equations_say(friction):
    a = np.array([[0.0, 1 / cld.MASS], [-1.0, -friction / cld.MASS]])
    noise = np.diag([0.0, 2 * friction])

    def slope(b, y):
        mean, cov = y[:2], y[2:].reshape(2, 2)
        return np.concatenate((a @ mean, (a @ cov + cov @ a.T + noise).ravel()))

    modes = cld.Modes(np.array([0.3]), friction)
    for k, (m, s) in enumerate(zip(cld.LAW.means.tolist(), cld.LAW.sigmas.tolist(), strict=True)):
        start = [m, 0, s**2, 0, 0, cld.GAMMA0 * cld.MASS]
        end = integrate.solve_ivp(slope, (0, 0.3 * cld.BETA), start, rtol=1e-10, atol=1e-12).y[:, -1]
        assert np.allclose(modes.means[0, k], end[:2], atol=1e-8)
        assert np.allclose(modes.covariances[0, k], end[2:].reshape(2, 2), atol=1e-8)


def test_at_critical_damping_law_and_score_are_those_of_cld():
    process, u = CLD(), torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (process.beta, 1 / process.mass_inverse, process.gamma, process.gamma0) == (cld.BETA, cld.MASS, 1.0, cld.GAMMA0)
    assert cld.CRITICAL == process.gamma
    t = torch.tensor(0.2, dtype=torch.float64)
    modes = cld.Modes(np.array([0.2]), 1.0)
    first = process.covariance(t, (cld.LAW.sigmas[0] ** 2, 0.0, cld.GAMMA0 * cld.MASS))
    assert np.allclose(modes.covariances[0, 0][[0, 0, 1], [0, 1, 1]], [float(v) for v in first[:3]])
    assert modes.left[0] == pytest.approx(float(process.mean_matrix(t)[0, 0]))
    wanted = exact_score(process, cld.LAW)(u, t.expand(50))
    assert np.allclose(modes.score(0, u.T.numpy()), wanted, rtol=1e-6)


def test_density_score_and_marginal_belong_together():
    modes = cld.Modes(np.array([0.1]), 2.0)
    gaussians = [stats.multivariate_normal(m, c) for m, c in zip(modes.means[0], modes.covariances[0], strict=True)]
    u = np.random.default_rng(0).normal(size=(2, 40))
    wanted = sum(w * g.pdf(u.T) for w, g in zip(modes.weights, gaussians, strict=True))
    assert np.allclose(modes.density(0, u), wanted)
    up = modes.density(0, u + [[0], [1e-5]]), modes.density(0, u - [[0], [1e-5]])
    assert np.allclose(modes.score(0, u), np.log(up[0] / up[1]) / 2e-5, rtol=1e-5, atol=1e-5)
    v = np.linspace(-4, 4, 2001)
    line = modes.density(0, np.stack((np.full_like(v, 0.7), v)))
    assert modes.marginal(0, np.array([0.7]))[0] == pytest.approx(integrate.trapezoid(line, v), rel=1e-6)


@pytest.mark.parametrize("friction", [0.2, 1.0, 5.0])
def test_particles_forward_have_the_mean_and_the_spread_of_the_law(friction):
    path, modes = cld.forward(friction, cld.Noise(seed=1)), cld.Modes(cld.TIMES, friction)
    for at in (20, 60, 100):
        mean = modes.weights @ modes.means[at]
        centred = modes.means[at] - mean
        cov = np.einsum("k,kij->ij", modes.weights, modes.covariances[at] + centred[:, :, None] * centred[:, None])
        u = path[at] - mean[:, None]
        for i, j in ((0, 0), (0, 1), (1, 1)):
            product = u[i] * u[j]
            assert abs(product.mean() - cov[i, j]) < 4.5 * product.std() / cld.PARTICLES**0.5, (at, i, j)


def test_the_way_back_is_the_librarys_splitting_sampler_draw_for_draw():
    process, noise = CLD(), cld.Noise()
    generator = torch.Generator().manual_seed(3)
    for k in reversed(range(cld.STEPS)):
        for half in range(2):
            z = torch.randn(cld.PARTICLES, 2, generator=generator, dtype=torch.float64).numpy().T
            noise.back[k, half] = z * [[-1], [1]]  # the library turns v, here x is turned
    sampler = SSCS(process, exact_score(process, cld.LAW))
    start = torch.from_numpy(noise.rest.T.copy())
    wanted = run(sampler.step, start, cld.TIMES[::-1].tolist(), generator=torch.Generator().manual_seed(3))
    assert np.allclose(cld.back(1.0, noise)[0].T, wanted, atol=1e-4)


@pytest.mark.parametrize("friction", [0.2, 1.0, 5.0])
def test_the_way_back_finds_the_data_and_their_velocities(friction, monkeypatch):
    monkeypatch.setattr(cld, "PARTICLES", 2000)
    x, v = cld.back(friction, cld.Noise())[0]
    assert stats.wasserstein_distance(x, designer.quantiles(2000)) < 2.5 * designer.by_chance(2000)
    assert v.std() == pytest.approx((cld.GAMMA0 * cld.MASS) ** 0.5, rel=0.15)  # steps are as wide as v at the end


# All


@pytest.mark.parametrize(("make", "values"), [
    (film.diffusion_film, {"t": 0.1, "process": "VE", "back": "probability flow"}),
    (designer.schedule_designer, {"kind": "cosine", "steps": 10}),
    (race.sampler_race, {"data": "two_moons", "price": 32}),
    (cld.cld_phase_space, {"way": "back", "friction": 0.5}),
])  # fmt: skip
def test_the_same_values_give_the_same_picture(make, values):
    check_same_picture(make, values)
