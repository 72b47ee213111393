"""What the explorers of chapter 10 measure and draw: a quadratic energy, whose walks, flow and EBM are all Gaussian."""

import importlib
import math
import warnings

import numpy as np
import pytest
import torch
from problems.explorers import check_same_picture
from torch import nn
from torch.distributions import Normal, kl_divergence

from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.inversion import interpolate
from gmcourse.compositions.short_run import ShortRun
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.ebm import conv_energy
from gmcourse.viz.explorers import energy_or_flow, noise_interpolation, short_run_steps
from gmcourse.viz.explorers.stops import Stops
from gmcourse.viz.plane import grid

walks, readings, rows = (
    importlib.import_module(f"gmcourse.viz.explorers.{name}")
    for name in ("short_run_steps", "energy_or_flow", "noise_interpolation")
)
CURVE, CENTRE = 2.0, torch.tensor([0.5, -0.3])
DATA = GaussianMixture([1.0], [[0.2, 0.1]], 0.6)
EXTENT = (-4.0, 4.0, -4.0, 4.0)


class Bowl(nn.Module):
    """a/2 ‖x − c‖²."""

    def forward(self, x):
        return 0.5 * CURVE * (x - CENTRE).square().flatten(1).sum(1)


def bowl(dynamics):
    return ShortRun(Bowl(), dynamics, event_shape=(2,))


def kl(mean, width):
    """KL(DATA ‖ N(mean, width² I)) in nats."""
    return float(kl_divergence(Normal(torch.tensor([0.2, 0.1]), 0.6), Normal(mean, torch.tensor(width))).sum())


# K and noise


def test_without_noise_a_walk_down_a_bowl_shrinks_by_the_same_factor_at_every_step():
    z, lengths = torch.randn(50, 2), [0, 1, 7, 30]
    found = torch.from_numpy(walks.ways(bowl(GradientFlow(1.0)), 0.1, [0.0], lengths, z, seed=0))[0]
    for points, steps in zip(found, lengths, strict=True):
        assert torch.allclose(points, CENTRE + (1 - 0.05 * CURVE) ** steps * (z - CENTRE), atol=1e-5)


def test_the_noise_is_one_for_all_levels_so_that_points_move_in_proportion_to_it():
    found = walks.ways(bowl(Langevin(5, 0.1)), 0.1, [0.0, 0.4, 0.8], [0, 20], torch.randn(30, 2), seed=1)[:, 1]
    assert np.allclose(found[2] - found[0], 2 * (found[1] - found[0]), atol=1e-5)
    assert np.abs(found[1] - found[0]).max() > 0.1


def test_long_walks_have_the_temperature_of_their_noise():
    """Var of x' = (1 − ηa/2) x + σ u: σ²/(1 − (1 − ηa/2)²)."""
    n, step = 20_000, 0.1
    found = walks.ways(bowl(Langevin(5, step)), step, [0.5], [0, 60], torch.randn(n, 2), seed=2)[0, 1]
    variance = 0.25 * step / (1 - (1 - step * CURVE / 2) ** 2)
    assert found.var(0) == pytest.approx(variance, rel=4.5 * math.sqrt(2 / n))
    assert variance == pytest.approx(0.25 / CURVE, rel=0.06)


@pytest.mark.parametrize(("dynamics", "step", "expected"), [
    (Langevin(20, 0.1, noise=0.1), None, (20, 0.1, 0.1 / math.sqrt(0.1))),
    (Langevin(20, 0.1), 0.05, (40, 0.05, 1.0)),
    (GradientFlow(0.2), None, (40, 0.01, 0.0)),
    (GradientFlow(0.2), 0.04, (10, 0.04, 0.0)),
])  # fmt: skip
def test_the_training_is_found_as_steps_of_the_same_time(dynamics, step, expected):
    found = walks.trained(bowl(dynamics), step)
    assert found == pytest.approx(expected)
    time = dynamics.time if isinstance(dynamics, GradientFlow) else dynamics.steps * dynamics.step / 2
    assert found[0] * found[1] / 2 == pytest.approx(time)


@pytest.mark.parametrize("steps", [1, 3, 40, 137])
def test_stops_of_k_hold_the_start_one_step_the_training_and_ten_times_it(steps):
    found = walks.stops(steps)
    assert found == sorted(set(found)) and {0, 1, steps, 10 * steps} <= set(found) and found[-1] == 10 * steps
    assert all(b / a < 1.4 for a, b in zip(found, found[1:], strict=False) if a >= 10)


@pytest.fixture(scope="module")
def steps_explorer():
    return short_run_steps(bowl(Langevin(10, 0.1, noise=0.1)), DATA, chains=60, extent=EXTENT)


def test_it_opens_as_trained_and_every_control_changes_the_picture(steps_explorer):
    assert steps_explorer.values == {"steps": 10, "noise": 0.316, "under": "energy"}
    for control in steps_explorer.controls:
        values = steps_explorer.controls[control].sweep(3)
        assert len({steps_explorer.picture(**{control: value}) for value in values}) == len(values), control


def test_the_mark_says_that_a_flow_was_trained_for_its_time_and_steps_of_descent_as_they_are():
    for dynamics, mark in ((GradientFlow(0.2), "40, T as trained"), (Langevin(40, 0.01, noise=0), "40, as trained")):
        options = short_run_steps(bowl(dynamics), DATA, chains=20).controls["steps"].options
        assert [name for name, k in options.items() if k == 40] == [mark]


def test_the_law_of_long_walks_narrows_with_the_noise_as_e_to_the_minus_e_over_tau(steps_explorer):
    """Its variance is τ/a."""
    x = grid(EXTENT, walks.RESOLUTION)
    for noise in (0.4, 1.0):
        weights = steps_explorer._compute(10, noise, "law")[0].flatten()
        weights = weights / weights.sum()
        mean = weights @ x
        assert torch.allclose(mean, CENTRE, atol=1e-3)
        assert torch.allclose(weights @ (x - mean).square(), torch.tensor(noise**2 / CURVE), rtol=1e-2)


def test_distances_are_wasserstein_and_walks_that_ran_away_have_none():
    x = torch.randn(40, 2)
    points = torch.stack((x, x + torch.tensor([3.0, 4.0]), x / 0)).numpy()[None]
    found = walks.apart(points, x)
    assert found[0, :2] == pytest.approx([0, 5], abs=1e-3) and np.isnan(found[0, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wild = short_run_steps(bowl(Langevin(20, 50.0, noise=0)), DATA, chains=20, extent=EXTENT)
        assert wild.picture(steps=200)[1:4] == b"PNG"


# Energy or flow


def test_one_way_back_gives_the_flow_of_every_time():
    """x′ = −a (x − c): N(c (1 − e^{−aT}), e^{−2aT} I)."""
    x = torch.randn(200, 2)
    found = readings.flow_log_probs(bowl(GradientFlow(0.5, steps=20)), x)
    for share, log_p in zip(torch.arange(16) / 10, found, strict=True):
        decay = math.exp(-CURVE * 0.5 * float(share))
        assert torch.allclose(log_p, Normal(CENTRE * (1 - decay), decay).log_prob(x).sum(1), atol=1e-3)


def test_steps_of_descent_are_read_as_the_flow_of_their_time():
    x = torch.randn(50, 2)
    found = [readings.flow_log_probs(bowl(d), x) for d in (Langevin(20, 0.05, noise=0), GradientFlow(0.5))]
    assert torch.allclose(*found, atol=1e-3)


def test_both_gaps_are_the_kl_of_gaussians():
    found = readings.readings(bowl(GradientFlow(0.5)), DATA, EXTENT)
    decay = math.exp(-CURVE * 0.5)
    gaps = found.gap(found.flow)
    assert float(gaps[0]) == pytest.approx(kl(torch.zeros(2), 1.0), abs=2e-3)
    assert float(gaps[10]) == pytest.approx(kl(CENTRE * (1 - decay), decay), abs=2e-3)
    taus = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    for tau, gap in zip(taus.tolist(), found.gap(found.ebm(taus)).tolist(), strict=True):
        assert gap == pytest.approx(kl(CENTRE, math.sqrt(tau / CURVE)), abs=2e-3)


def test_the_picture_follows_the_model_the_time_the_temperature_and_the_scale():
    models = {"slow": bowl(GradientFlow(0.1)), "fast": bowl(GradientFlow(0.5))}
    explorer = energy_or_flow(models, {"slow": DATA, "fast": DATA}, extent=EXTENT)
    shades, (gaps, k), (ebm_gaps, tau, gap) = explorer._compute("fast", 1.0, 1.0, "plain")
    assert k == 10 and tau == 1 and gap == pytest.approx(float(np.interp(1.0, readings.LADDER, ebm_gaps)), abs=1e-3)
    assert gaps[10] == pytest.approx(kl(CENTRE * (1 - math.exp(-1)), math.exp(-1)), abs=2e-3)
    assert all(0 <= float(shade.min()) and float(shade.max()) <= 1 for shade in shades)
    best = float(readings.LADDER[int(ebm_gaps.argmin())])
    away = float((torch.tensor([0.2, 0.1]) - CENTRE).square().mean())
    assert best == pytest.approx(CURVE * (0.36 + away), rel=0.1)
    for control in explorer.controls:
        values = explorer.controls[control].sweep(3)
        assert len({explorer.picture(**{control: value}) for value in values}) == len(values), control


# Between two noises


IMAGE = (1, 8, 8)


def image_model(dynamics=None):
    torch.manual_seed(0)
    return ShortRun(conv_energy(IMAGE, (4, 4)), dynamics or Langevin(10, 0.1, noise=0.1), event_shape=IMAGE)


def test_noise_between_two_draws_is_as_long_as_they_are():
    first, second = torch.randn(2, 4, 20_000).unbind()
    z = interpolate(first, second, rows.RHO).transpose(0, 1)
    assert torch.allclose(z.square().mean(2), torch.ones(4, rows.PLACES), atol=4.5 * math.sqrt(2 / 20_000))
    assert torch.allclose(z[:, 0], first) and torch.allclose(z[:, -1], second, atol=1e-4)
    assert rows.RHO[0] == 1 and rows.RHO[-1] == 0 and (rows.RHO.diff() < 0).all()


def test_neighbouring_pairs_share_their_ends_and_the_way_is_the_models_own():
    model = image_model()
    images, lengths = rows.rows(model, 2, 2, seed=3)
    assert images.shape == (21, 2, 2, rows.PLACES, *IMAGE) and lengths == list(range(21))
    assert torch.allclose(images[:, 0, 0, 0], images[:, 0, 1, 0], atol=1e-5)
    assert torch.allclose(images[:, 0, 1, -1], images[:, 1, 1, -1], atol=1e-5)
    assert not torch.allclose(images[10, 0, 0, 0], images[10, 1, 0, 0], atol=0.1)
    generator = torch.Generator().manual_seed(3)
    z, u = torch.randn(2, 2, 64, generator=generator), torch.randn(1, 20 * 64, generator=generator)
    began = torch.cat((z[0, :1], u[:, : 10 * 64]), 1)
    assert torch.allclose(images[10, 0, 0, 0], model.push(began)[0].clamp(-1, 1), atol=1e-5)


def test_a_gradient_flow_of_images_is_prolonged_in_time():
    images, lengths = rows.rows(image_model(GradientFlow(0.5, steps=10)), 1, 2, seed=0)
    assert lengths[-1] == 20 and images.isfinite().all()
    longer = rows.prolonged(GradientFlow(0.5, steps=10), 3)
    assert longer.time == 1.5 and longer.steps == 30


def test_distances_of_a_row_are_none_at_its_own_end():
    images = torch.zeros(2, rows.PLACES, *IMAGE)
    images[..., -1, :, :, :] = 0.5
    found = rows.distances(images)
    assert found.shape == (2, 2, rows.PLACES)
    assert np.allclose(found[:, 0], [0] * (rows.PLACES - 1) + [0.5])
    assert np.allclose(found[:, 1], [0.5] * (rows.PLACES - 1) + [0])


def test_every_control_of_the_interpolation_changes_the_picture_and_colours_are_drawn():
    explorer = noise_interpolation(image_model(), draws=2)
    for control in explorer.controls:
        values = explorer.controls[control].sweep(3)
        assert len({explorer.picture(**{control: value}) for value in values}) == len(values), control
    colour = ShortRun(conv_energy((3, 8, 8), (4, 4)), Langevin(3, 0.1, noise=0), event_shape=(3, 8, 8))
    assert noise_interpolation(colour, draws=1, factor=1).picture()[1:4] == b"PNG"


# All


def test_a_seed_settles_the_pictures_whatever_the_global_one():
    check_same_picture(lambda: short_run_steps(bowl(Langevin(3, 0.1)), DATA, chains=20), {"noise": 0.4})
    check_same_picture(lambda: noise_interpolation(image_model(Langevin(3, 0.1)), draws=1), {"steps": 1})


@pytest.mark.parametrize(("make", "complaint"), [
    (lambda: short_run_steps(image_model(), DATA), r"must be a ShortRun of the plane; got ShortRun of shape \(1, 8, 8\)"),
    (lambda: short_run_steps(Bowl(), DATA), "model must be a ShortRun of the plane; got Bowl"),
    (lambda: short_run_steps(bowl(GradientFlow(1.0)), DATA, step=-1.0), "step must be positive"),
    (lambda: short_run_steps(bowl(GradientFlow(1.0)), DATA, chains=0), "chains must be"),
    (lambda: energy_or_flow({}, DATA), "models must hold at least one model; got none"),
    (lambda: energy_or_flow({"a": image_model()}, DATA), "models must be ShortRuns of the plane; got ShortRun for 'a'"),
    (lambda: energy_or_flow({"a": bowl(Langevin(3, 0.1))}, DATA), "models must have no noise on the way, .*; 'a' has"),
    (lambda: energy_or_flow({"a": bowl(GradientFlow(1.0))}, {"b": DATA}), "data must name the law .* got none for 'a'"),
    (lambda: noise_interpolation(bowl(GradientFlow(1.0))), "model must be a ShortRun of images .* got ShortRun of shape"),
    (lambda: noise_interpolation(image_model(), draws=0), "draws must be"),
    (lambda: noise_interpolation(image_model(), factor=0), "factor must be"),
    (lambda: Stops({"a": 1}), "options must hold at least two stops; got 1"),
    (lambda: Stops({"a": 1, "b": 2}, 3), "value must be one of 1, 2; got 3"),
    (lambda: noise_interpolation(image_model(), draws=1).picture(steps=11.5), "steps must be one of 0, 1, 2"),
])  # fmt: skip
def test_what_cannot_be_shown_is_refused_by_name(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_stops_are_a_slider_from_name_to_value_in_the_order_given():
    stops = Stops({"40, as trained": 40, "10": 10, "0": 0}, label="steps")
    widget = stops.widget("k")
    assert stops.value == widget.value == 40 and widget.description == "steps" and type(widget).__name__ == "SelectionSlider"
    widget.value = 10
    assert stops.read(widget.value) == 10 and stops.sweep(3) == [40, 10, 0] and stops.sweep(2) == [40, 0]
