"""What the explorers of chapter 9 measure and draw, against closed forms, the library's samplers and draws of the base."""

import importlib
import math

import numpy as np
import pytest
import torch
from problems.explorers import check_same_picture
from scipy.integrate import simpson
from scipy.stats import norm

from gmcourse.data import toy2d
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.gan.gan import GAN
from gmcourse.model import GenerativeModel, Likelihood, StandardNormal
from gmcourse.nets.mlp import MLP
from gmcourse.sampling import ULA
from gmcourse.viz.explorers import tilted_walk, tilting_line, tilting_plane
from gmcourse.viz.explorers.tilt_chains import CHAINS, LENGTH, STEPS, TILTS, Settings, Slopes, in_data, in_noise, walked
from gmcourse.viz.explorers.tilted_walk import COLUMNS, GAP, Walk, pairs, recorded
from gmcourse.viz.plane import grid, on_grid

line, plane = (importlib.import_module(f"gmcourse.viz.explorers.{name}") for name in ("tilting_line", "tilting_plane"))
EXTENT = (-6.0, 6.0, -6.0, 6.0)
SCALE, SHIFT = 0.8, torch.tensor([0.3, -0.2])
PULL, CENTRE = 1.5, torch.tensor([-0.4, 0.5])


class Affine(GenerativeModel):
    """N(SHIFT, SCALE² I), pushed there from N(0, I)."""

    likelihood = Likelihood.EXACT

    def noise(self, n, *, generator=None):
        return torch.randn(n, 2, generator=generator)

    def push(self, eps):
        return SCALE * eps + SHIFT

    def log_prob(self, x):
        return torch.distributions.Normal(SHIFT, SCALE).log_prob(x).sum(1)


def bowl(x):
    return 0.5 * PULL * (x - CENTRE).square().sum(1)


def tilted_mean():
    """Of Affine times e^{−bowl}, and its precision."""
    precision = 1 / SCALE**2 + PULL
    return (SHIFT / SCALE**2 + PULL * CENTRE) / precision, precision


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# The line


def measured(log_q, energies, tilt):
    return [float(value) for value in line.measured(log_q, energies, torch.tensor([tilt], dtype=torch.float64))]


@pytest.mark.parametrize("bells", [1, 2])
@pytest.mark.parametrize("width", [0.5, 1.0, 3.0])
def test_the_log_ratio_makes_the_data_of_any_base_with_z_one(bells, width):
    log_q = line.base(bells, 0.4, width).log_prob(line.LINE)
    log_z, kl, _ = measured(log_q, line.energy("ratio", 0.0, 1.0, log_q), 1.0)
    assert log_z == pytest.approx(0, abs=1e-9) and kl == pytest.approx(0, abs=1e-9)
    q, _, p, *_ = tilting_line()._compute(bells, 0.4, width, "ratio", 1.0, 0.0, 1.0)
    assert torch.allclose(p, line.LOG_DATA[line.VIEW].exp(), atol=1e-9) and not torch.allclose(q, p, atol=0.1)


@pytest.mark.parametrize("tilt", [0.0, 0.7, 2.0])
def test_a_parabola_times_a_bell_is_the_bell_of_summed_precisions(tilt):
    mean, width, place, reach = 0.5, 0.8, -1.0, 0.6
    log_q = line.base(1, mean, width).log_prob(line.LINE)
    wide = reach**2 + tilt * width**2
    log_z = -0.5 * math.log(wide / reach**2) - tilt * (mean - place) ** 2 / (2 * wide)
    found = measured(log_q, line.energy("parabola", place, reach, log_q), tilt)
    assert found[0] == pytest.approx(log_z, abs=1e-9)
    precision = 1 / width**2 + tilt / reach**2
    bell = norm((mean / width**2 + tilt * place / reach**2) / precision, precision**-0.5)
    p = tilting_line()._compute(1, mean, width, "parabola", tilt, place, reach)[2]
    assert np.allclose(p, bell.pdf(line.LINE[line.VIEW]), atol=1e-9)


@pytest.mark.parametrize("kind", ["ratio", "dip", "hill"])
def test_kl_grows_with_the_tilt_as_data_minus_negatives_say(kind):
    """Thesis (4.9), its means by Simpson's rule."""
    law, h = line.base(2, 0.2, 0.7), 1e-4
    log_q = law.log_prob(line.LINE)
    energies = line.energy(kind, 0.5, 0.8, log_q)
    log_p = log_q - 0.6 * energies
    log_p = log_p - measured(log_q, energies, 0.6)[0]
    phases = [simpson(energies * log_w.exp(), x=line.LINE) for log_w in (line.LOG_DATA, log_p)]
    slope = (measured(log_q, energies, 0.6 + h)[1] - measured(log_q, energies, 0.6 - h)[1]) / (2 * h)
    assert slope == pytest.approx(phases[0] - phases[1], abs=1e-4)


@pytest.mark.parametrize("kind", ["ratio", "dip", "hill", "parabola"])
def test_log_z_and_the_share_that_counts_are_those_of_draws(kind):
    n, tilt, law = 400_000, 0.8, line.base(2, -0.3, 1.0)
    log_q = law.log_prob(line.LINE)
    energies = line.energy(kind, -0.5, 0.7, log_q)
    x = law.sample((n,), generator=generator()).numpy()
    w = np.exp(-tilt * np.interp(x, line.LINE, energies))
    log_z, _, share = measured(log_q, energies, tilt)
    assert log_z == pytest.approx(math.log(w.mean()), abs=4.5 * w.std() / w.mean() / math.sqrt(n) + 1e-4)
    error = (w**2).std() / (w**2).mean() / math.sqrt(n) + 2 * w.std() / w.mean() / math.sqrt(n)
    assert share == pytest.approx(w.mean() ** 2 / (w**2).mean(), rel=4.5 * error + 1e-3)


def test_without_tilt_the_base_is_left_and_all_draws_count():
    q, factor, p, (_, weights), _, (_, here) = tilting_line()._compute(2, 0.0, 1.0, "hill", 0.0, 0.0, 0.5)
    assert torch.allclose(p, q) and (factor == 1).all() and torch.allclose(weights, weights[:1])
    assert float(here.share) == pytest.approx(1) and float(here.log_z) == pytest.approx(0, abs=1e-9)


# The plane


def law_of(tilt, base=None, energy=bowl, data=None, resolution=200):
    base, data = base or Affine((2,)), data or GaussianMixture([1.0], [[0.2, 0.1]], 0.5)
    fields = [on_grid(f, EXTENT, resolution) for f in (base.log_prob, energy, data.log_prob)]
    near = plane.Modes(data.modes, 0.5).nearest(grid(EXTENT, resolution))[1].reshape(resolution, -1)
    cell = (12 / resolution) ** 2
    return plane.tilted(tilt, *fields, near, cell), fields, cell


def test_without_tilt_the_density_is_the_bases_and_its_gap_the_kl_of_two_gaussians():
    law, (log_q, _, _), cell = law_of(0.0)
    assert torch.allclose(law.density, log_q.exp().double(), atol=1e-6)
    assert law.log_z == pytest.approx(0, abs=1e-5) and float(law.density.sum()) * cell == pytest.approx(1)
    away = float((torch.tensor([0.2, 0.1]) - SHIFT).square().sum())
    kl = (0.5 / SCALE) ** 2 - 1 - 2 * math.log(0.5 / SCALE) + away / (2 * SCALE**2)
    assert law.gap == pytest.approx(kl, abs=1e-4)


@pytest.mark.parametrize("tilt", [0.5, 1.0, 1.5])
def test_log_z_of_a_bowl_on_a_bell_is_the_closed_form(tilt):
    law, _, cell = law_of(tilt)
    wide = 1 + tilt * PULL * SCALE**2
    log_z = -math.log(wide) - tilt * PULL * float((SHIFT - CENTRE).square().sum()) / (2 * wide)
    assert law.log_z == pytest.approx(log_z, abs=1e-4) and float(law.density.sum()) * cell == pytest.approx(1)


def test_the_log_ratio_closes_the_gap_and_brings_all_mass_near_the_modes():
    data, base = GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.5]], 0.3), Affine((2,))
    law, _, _ = law_of(1.0, energy=lambda x: base.log_prob(x) - data.log_prob(x), data=data)
    assert law.log_z == pytest.approx(0, abs=1e-4) and law.gap == pytest.approx(0, abs=1e-4)
    assert law.near > 1 - math.exp(-0.5 * (4 * 0.5 / 0.3) ** 2) - 1e-4
    assert law_of(0.0, data=data)[0].near < 0.96


def test_slopes_are_exact_for_hills_and_stay_at_the_rim():
    x = torch.rand(200, 2, generator=generator()) * 11 - 5.5
    slopes = Slopes(torch.stack([on_grid(f, EXTENT, 48) for f in (Affine((2,)).log_prob, bowl)]), EXTENT)
    assert torch.allclose(slopes(x)[:, 0], (SHIFT - x) / SCALE**2, atol=1e-3)
    assert torch.allclose(slopes(x)[:, 1], PULL * (x - CENTRE), atol=1e-3)
    corner = torch.tensor([[1e9, 5.875], [9.0, 5.875], [math.inf, 5.875]])
    assert torch.allclose(slopes(corner)[:, 1], PULL * (torch.tensor([5.875, 5.875]) - CENTRE), atol=0.02)


def test_chains_in_the_noise_are_the_librarys_langevin_setting_by_setting():
    base, step = Affine((2,)), 0.1
    tilt = torch.tensor([0.5, 1.5]).repeat_interleave(50)[:, None]
    start = base.noise(50, generator=generator())
    path = walked(in_noise(base, bowl, tilt), start, torch.full_like(tilt, step), generator(7))
    for k, each in enumerate((0.5, 1.5)):
        sampler = ULA(lambda e, w=each: w * bowl(base.push(e)) + 0.5 * e.square().sum(1), step=step)
        ends = sampler.run(start, LENGTH, generator=generator(7))
        assert torch.allclose(path[-1, 50 * k : 50 * (k + 1)], base.push(ends), atol=1e-4)


def test_on_a_linear_base_both_spaces_tend_to_the_same_law():
    """Langevin of step η is wide by 1/(1 − ηκ/4), κ the curvature: with SCALE²η in x it is the same walk as with η in ε."""
    n, base, step = 20_000, Affine((2,)), 0.1
    tilt, noise = torch.ones(n, 1), base.noise(n, generator=generator())
    slopes = Slopes(torch.stack([on_grid(f, EXTENT, 48) for f in (base.log_prob, bowl)]), EXTENT)
    in_eps = walked(in_noise(base, bowl, tilt), noise, step * tilt, generator(1))
    in_x = walked(in_data(slopes, tilt), base.push(noise), step * SCALE**2 * tilt, generator(2))
    mean, precision = tilted_mean()
    variance = 1 / precision / (1 - step * SCALE**2 * precision / 4)
    for path in (in_eps, in_x):
        assert torch.allclose(path[-1].mean(0), mean, atol=4.5 * math.sqrt(variance / n))
        assert torch.allclose(path[-1].var(0), torch.tensor(variance), rtol=4.5 * math.sqrt(2 / n))


def test_every_chain_is_filed_under_its_tilt_and_its_step():
    path = torch.cat(Settings.all(), 1).expand(3, -1, 2)
    points = plane.arranged(path, plane.Modes(torch.zeros(1, 2), 0.1)).points
    assert points.shape == (len(TILTS), len(STEPS), 3, CHAINS, 2)
    assert np.allclose(points[..., 0], TILTS[:, None, None, None])
    assert np.allclose(points[..., 1], STEPS[:, None, None])


def test_shares_count_who_is_near_and_who_has_moved_and_those_that_ran_away_are_far():
    modes = plane.Modes(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.1)
    x = torch.tensor([[-0.9, 0.3], [0.7, 0.0], [0.5, 0.0], [math.nan, 0.0], [math.inf, 0.0]])
    mode, near = modes.nearest(x)
    assert mode[:3].tolist() == [0, 1, 1] and near.tolist() == [True, True, False, False, False]
    settings = len(TILTS) * len(STEPS) * CHAINS
    path = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.7]])[:, None].repeat(1, settings, 1)
    path[1, ::4] = torch.tensor([-1.0, 0.0])
    walk = plane.arranged(path, modes)
    assert np.allclose(walk.moved[..., 0], 0) and np.allclose(walk.moved[..., 1], 0.75)
    assert np.allclose(walk.near[..., :2], 1) and np.allclose(walk.near[..., 2], 0)


def eight(**options):
    base, data = StandardNormal(2), toy2d.get("gaussians8")
    return tilting_plane(base, lambda x: base.log_prob(x) - data.log_prob(x), data, **options)


@pytest.fixture(scope="module")
def explorer():
    return eight()


def test_the_explorer_knows_that_the_log_ratio_makes_the_data_and_its_chains_come_near(explorer):
    law, (start, end), (near, _), length, met = explorer._compute("data", 1.0, 0.00316, 100)
    assert law.gap == pytest.approx(0, abs=1e-3) and law.log_z == pytest.approx(0, abs=1e-3) and length == 100
    data = toy2d.get("gaussians8")
    distance = torch.cdist(torch.from_numpy(end), data.modes).min(1)
    within = distance.values <= 4 * data.sigma
    assert near[100] == pytest.approx(float(within.float().mean())) and near[100] > 0.9 > near[0]
    assert met == len(distance.indices[within].unique()) > 5
    assert torch.allclose(torch.from_numpy(start), StandardNormal(2).noise(CHAINS, generator=generator()))


def test_all_controls_of_the_plane_change_the_picture_and_any_step_is_the_nearest_walked(explorer):
    for control in explorer.controls:
        values = explorer.controls[control].sweep(3)
        assert len({explorer.picture(**{control: value}) for value in values}) == len(values), control
    assert explorer.picture(step=0.09) == explorer.picture(step=0.1) != explorer.picture(step=0.2)


def cheap(**options):
    return tilting_plane(Affine((2,)), bowl, toy2d.get("gaussians8"), **options)


def test_a_seed_settles_the_plane_and_another_changes_it():
    check_same_picture(cheap, {"space": "far", "tilt": 0.5})
    assert cheap(seed=1).picture() != cheap().picture()


@pytest.mark.parametrize(("base", "data", "complaint"), [
    (Likelihood, None, "base must be a transport, with noise and push; EnumType has no noise"),
    (GAN(MLP(2, 2, ()), MLP(2, (), ()), event_shape=(2,), latent=2), None, "log_q must be given: .* of GAN is none"),
    (StandardNormal(2), toy2d.get("two_moons"), "data must be a Gaussian mixture in the plane; got TwoMoons"),
    (StandardNormal(2), GaussianMixture([1.0], [[0.0]], 1.0), "data must be a Gaussian mixture in the plane; got Gauss"),
])  # fmt: skip
def test_what_the_plane_cannot_show_is_refused_by_name(base, data, complaint):
    with pytest.raises(ValueError, match=complaint):
        tilting_plane(base, bowl, data or toy2d.get("gaussians8"))


# Walks on images


def walk(steps=6, chains=5, channels=1, seed=0):
    images = torch.rand(steps + 1, chains, channels, 4, 3, generator=generator(seed)) * 2 - 1
    return Walk(images, torch.randn(steps + 1, chains, generator=generator(seed)))


@pytest.mark.parametrize("channels", [1, 3])
def test_in_each_pair_the_start_is_on_the_left_and_the_present_on_the_right(channels):
    began, now = torch.full((5, channels, 4, 3), -1.0), torch.zeros(5, channels, 4, 3)
    now[4] = 0.6
    page = pairs(began, now)
    wide = 3 + 1 + 3 + GAP + 1
    assert page.shape[:2] == (2 * 4 + 1, COLUMNS * wide - 1 - GAP) and page.ndim == 2 + (channels == 3)
    for k in range(5):
        row, column = 5 * (k // COLUMNS), wide * (k % COLUMNS)
        assert (page[row : row + 4, column : column + 3] == 0).all()
        assert (page[row : row + 4, column + 3] == 255).all()
        assert (page[row : row + 4, column + 4 : column + 7] == (204 if k == 4 else 128)).all()


def test_a_recorded_walk_is_the_samplers_with_its_start_before_it():
    sampler, eps = ULA(lambda e: 0.5 * e.square().sum(1), step=0.2), torch.randn(5, 12, generator=generator())
    found = recorded(
        sampler, eps, 10, lambda e: e.tanh().unflatten(1, (1, 4, 3)), lambda e: e.sum(1), every=2, generator=generator(3)
    )
    path = torch.cat((eps[None], sampler.trace(eps, 10, generator=generator(3)).x))[::2]
    assert found.images.shape == (6, 5, 1, 4, 3) and torch.allclose(found.images.flatten(2), path.tanh())
    assert torch.allclose(found.energies, path.sum(2))


def test_each_step_of_each_walk_is_shown_with_its_energies():
    walks = {0.0: walk(), 1.0: walk(seed=1)}
    explorer = tilted_walk(walks, label="tilt λ", every=5, data=torch.randn(100, generator=generator()))
    for setting, there in walks.items():
        for step in (0, 6):
            picture, lines, energies, at = explorer._compute(setting, step)
            assert (picture == pairs(there.images[0], there.images[step])).all() and at == step
            assert np.allclose(energies[step], there.energies[step])
            assert np.allclose(lines[2], np.column_stack((5 * np.arange(7), there.energies[:, 2])))
    assert len({explorer.picture(setting=s, step=k) for s in walks for k in range(7)}) == 14


def test_a_walk_that_ran_away_is_drawn_grey():
    images, energies = walk()
    images[3:], energies[3:] = math.nan, math.inf
    explorer = tilted_walk({1: Walk(images, energies), 0: walk()})
    assert explorer.picture(setting=1, step=5)[1:4] == b"PNG"
    assert (explorer._compute(1, 5)[0][:4, 4:7] == 128).all()


def test_one_walk_without_data_and_colour_images_are_drawn():
    assert tilted_walk({"only": walk(channels=3)}).picture(step=2)[1:4] == b"PNG"


@pytest.mark.parametrize(("walks", "complaint"), [
    ({}, "walks must hold at least one walk; got none"),
    ({1: Walk(torch.zeros(6, 5, 4, 3), torch.zeros(6, 5))}, r"images must have shape \(steps \+ 1, chains, 1 or 3, h, w\)"),
    ({1: walk(), 2: walk(steps=5)}, r"walks must all have images of shape \(7, 5, 1, 4, 3\); got \(6, 5, 1, 4, 3\) for 2"),
    ({1: Walk(walk().images, torch.zeros(7))}, r"energies must have shape \(7, 5\); got \(7,\) for 1"),
])  # fmt: skip
def test_what_is_no_walk_is_refused_by_name(walks, complaint):
    with pytest.raises(ValueError, match=complaint):
        tilted_walk(walks)
