"""The particles walk as `gmcourse.sampling` says, and end up where closed forms say."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.sampling import MALA, ULA
from gmcourse.viz.explorers.langevin import (
    LIMIT,
    PARTICLES,
    SIGMA,
    STEPS,
    WEIGHT,
    Noise,
    TwoModes,
    langevin_particles,
    tempered,
    walk,
)

NOISE = Noise()
LATE = slice(STEPS // 4, None)


def truth(distance):
    return GaussianMixture([WEIGHT, 1 - WEIGHT], [[-distance / 2, 0.0], [distance / 2, 0.0]], SIGMA)


@pytest.mark.parametrize("distance", [0.8, 2.0, 4.0])
def test_energy_and_score_are_those_of_the_mixture(distance):
    x = 3 * torch.randn(2, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    energy, score = TwoModes(distance)(x.numpy())
    shift = energy + truth(distance).log_prob(x.T).numpy()
    assert np.allclose(shift, shift[0])
    assert np.allclose(score.T, truth(distance).score(x.T))


@pytest.mark.parametrize(("step", "temperature"), [(0.1, 1.0), (0.3, 2.0)])
def test_mala_is_the_librarys_walk_draw_for_draw(step, temperature):
    p, modes = truth(2.0), TwoModes(2.0)
    points, accepted = walk(modes, NOISE, step, temperature, mala=True)
    sampler = MALA(lambda x: -p.log_prob(x), score=p.score, step=step, temperature=temperature)
    start = torch.from_numpy(points[0].T.copy())
    trace = sampler.trace(start, STEPS, generator=torch.Generator().manual_seed(0))
    assert np.allclose(points[1:].transpose(0, 2, 1), trace.x, atol=1e-6)
    assert accepted.mean() == pytest.approx(float(trace.acceptance.mean()))


def test_a_step_of_ula_is_the_librarys():
    p = truth(2.0)
    points, _ = walk(TwoModes(2.0), NOISE, 0.2, 1.5, mala=False)
    start = torch.from_numpy(points[0].T.copy())
    after = ULA(score=p.score, step=0.2, temperature=1.5).run(start, 1, generator=torch.Generator().manual_seed(0))
    assert np.allclose(points[1].T, after)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("mala", "inflation"), [(False, 1 / (1 - 0.3 / LIMIT)), (True, 1.0)])
def test_across_the_modes_ula_is_too_wide_by_its_closed_form_and_mala_is_right(mala, inflation, temperature):
    points, _ = walk(TwoModes(1.0), NOISE, 0.3, temperature, mala)
    squares = points[LATE, 1] ** 2
    error = squares.mean(0).std() / math.sqrt(PARTICLES)  # particles are independent, steps are not
    assert abs(squares.mean() - inflation * SIGMA**2 * temperature) < 4.5 * error


def test_above_four_over_the_curvature_ula_runs_away_and_mala_stands_still():
    with np.errstate(over="ignore", invalid="ignore"):
        away, still = (walk(TwoModes(2.0), NOISE, 1.1 * LIMIT, 1.0, mala)[0] for mala in (False, True))
    held, _ = walk(TwoModes(2.0), NOISE, 0.9 * LIMIT, 1.0, False)
    assert np.abs(away[-1]).max() > 1e6
    assert np.abs(held).max() < 15 and np.abs(still).max() < 5


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_marginal_is_that_of_the_tempered_density(temperature):
    p, x1 = truth(1.6), np.linspace(-6, 6, 1201)
    x2 = np.linspace(-6, 6, 601)
    plane = torch.cartesian_prod(torch.from_numpy(x1[::40]), torch.from_numpy(x2))
    rows = integrate.trapezoid((p.log_prob(plane) / temperature).exp().numpy().reshape(-1, len(x2)), x2)
    wanted = rows / rows.max()
    found = tempered(TwoModes(1.6), temperature, x1)
    assert np.allclose(found[::40] / found[::40].max(), wanted, atol=1e-9)
    assert integrate.trapezoid(found, x1) == pytest.approx(1, abs=1e-3)


def test_at_temperature_one_the_right_mode_holds_what_normal_tails_say():
    x1, modes = np.linspace(-6, 6, 12001), TwoModes(1.6)
    marginal = tempered(modes, 1.0, x1)
    found = marginal[x1 > modes.border].sum() * (x1[1] - x1[0])
    left, right = (stats.norm(m, SIGMA).sf(modes.border) for m in (-0.8, 0.8))
    assert found == pytest.approx(WEIGHT * left + (1 - WEIGHT) * right, abs=1e-3)


def test_a_wide_gap_is_crossed_by_hot_particles_only():
    cold, hot = (walk(TwoModes(3.5), NOISE, 0.1, t, False)[0][-1, 0] for t in (1.0, 4.0))
    assert (cold > 0).mean() < 0.05 and (hot > 0).mean() > 0.4


def test_steps_that_are_too_large_are_drawn_without_warnings():
    explorer = langevin_particles()
    with warnings.catch_warnings(action="error"):
        pictures = {explorer.picture(step=2.0, temperature=4.0, distance=4.0, steps=steps) for steps in (0, 5, STEPS)}
    assert len(pictures) == 3


def test_the_same_values_give_the_same_picture():
    first, second = langevin_particles(), langevin_particles()
    for step in np.geomspace(0.01, 0.5, 12):
        first.picture(step=float(step))  # more walks than are kept
    assert first.picture(step=0.2, mala=True) == second.picture(step=0.2, mala=True)
