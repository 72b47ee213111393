"""What the explorers of chapter 11 measure and draw, against closed forms and adaptive quadrature."""

import importlib
import math

import numpy as np
import pytest
import torch
from problems.explorers import check_same_picture
from scipy import stats
from scipy.integrate import quad

from gmcourse.viz.explorers import denoising_posterior

step_back = importlib.import_module("gmcourse.viz.explorers.denoising_posterior")


@pytest.fixture(scope="module")
def explorer():
    return denoising_posterior()


def level(u):
    """α and σ of VP with β from 0.1 to 20."""
    b = 0.1 * u + 9.95 * u**2
    return math.exp(-b / 2), math.sqrt(-math.expm1(-b))


def mixture(name, u, s, x):
    """q(x_s | x_t = x) as (weights, means, widths): conjugate Gaussians."""
    data, (alpha, sigma), (alpha_s, sigma_s) = step_back.DATA[name], level(u), level(s)
    a = alpha / alpha_s
    b = sigma**2 - a**2 * sigma_s**2
    means, prior = alpha_s * data.means.numpy(), alpha_s**2 * data.sigmas.numpy() ** 2 + sigma_s**2
    weights = data.weights.numpy() * stats.norm(a * means, np.sqrt(a**2 * prior + b)).pdf(x)
    precision = 1 / prior + a**2 / b
    return weights / weights.sum(), (means / prior + a * x / b) / precision, precision**-0.5


@pytest.mark.parametrize("name", step_back.DATA)
@pytest.mark.parametrize(
    ("u", "step", "quantile"), [(0.5, 1.0, 0.5), (0.3, 0.62, 0.11), (0.1, 0.04, 0.91), (1.0, 0.87, 0.7)]
)
def test_law_gaussian_and_loss_are_those_of_the_mixture_in_closed_form(explorer, name, u, step, quantile):
    _, (t, s, x), (law, gaussian), (gaps, _, humps, k) = explorer._compute(name, u, step, quantile)
    assert t == u and s == pytest.approx(u * (1 - step)) and step_back.STEPS[k] == step
    w, means, widths = mixture(name, u, s, x)
    parts = stats.norm(means, widths)
    assert np.allclose(law, [w @ parts.pdf(y) for y in step_back.LINE.tolist()], atol=1e-6)
    mean = w @ means
    near = stats.norm(mean, math.sqrt(w @ (widths**2 + (means - mean) ** 2)))
    assert np.allclose(gaussian, near.pdf(step_back.LINE), atol=1e-6)

    def integrand(y):
        q = w @ parts.pdf(y)
        return q * (math.log(q) - near.logpdf(y)) if q > 1e-300 else 0.0

    assert float(gaps[k]) == pytest.approx(quad(integrand, -6, 6, points=list(means), limit=400)[0], abs=1e-6)
    y = np.linspace(-4, 4, 20_001)
    q = (w * parts.pdf(y[:, None])).sum(1)
    peaks = (q[1:-1] > q[:-2]) & (q[1:-1] >= q[2:]) & (q[1:-1] > 1e-3 * q.max())
    assert int(humps[k]) == peaks.sum()


@pytest.mark.parametrize("name", step_back.DATA)
def test_x_t_is_at_its_quantile(explorer, name):
    for quantile in (0.01, 0.33, 0.99):
        x = explorer._compute(name, 0.4, 0.52, quantile)[1][2]
        alpha, sigma = level(0.4)
        data = step_back.DATA[name]
        widths = np.sqrt(alpha**2 * data.sigmas.numpy() ** 2 + sigma**2)
        assert data.weights.numpy() @ stats.norm(alpha * data.means.numpy(), widths).cdf(x) == pytest.approx(
            quantile, abs=1e-3
        )


def test_the_dashed_line_is_the_mean_over_draws_of_x_t(explorer):
    mean = explorer._compute("three", 0.3, 1.0, 0.5)[3][1]
    x = step_back.DATA["three"].diffused(*level(0.3)).sample(4000, generator=torch.Generator().manual_seed(0))
    gaps = step_back.law_of("three", 0.3, 1.0, x).gaussian_gap()
    assert float(mean[-1]) == pytest.approx(float(gaps.mean()), abs=4.5 * float(gaps.std()) / math.sqrt(4000) + 2e-3)


def test_longer_steps_lose_more_and_gaussian_data_nothing(explorer):
    for name in ("three", "two"):
        gaps, mean, humps, _ = explorer._compute(name, 0.5, 1.0, 0.51)[3]
        assert (mean[1:] >= mean[:-1] - 1e-9).all() and float(gaps[-1]) > 0.9 and humps[0] == 1
        assert int(humps[-1]) == len(step_back.DATA[name].weights)
    gaps, mean, humps, _ = explorer._compute("bell", 0.5, 1.0, 0.51)[3]
    assert float(gaps.max()) < 1e-8 and float(mean.max()) < 1e-8 and (humps == 1).all()


def test_all_controls_change_the_picture(explorer):
    for control in explorer.controls:
        values = explorer.controls[control].sweep(3)
        assert len({explorer.picture(**{control: value}) for value in values}) == len(values), control


def test_no_draw_of_chance_is_in_it():
    check_same_picture(denoising_posterior, {"data": "two", "u": 0.2})


@pytest.mark.parametrize(("value", "words"), [(0.0, "0"), (3e-7, "0"), (2.4e-5, "2e−5"), (0.0123, "0.012"), (1.237, "1.24")])
def test_nats_are_said_in_few_letters(value, words):
    assert step_back._short(value) == words
