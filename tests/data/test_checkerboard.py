"""The blurred checkerboard against scipy's normal distribution, near and far."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr
from scipy.stats import norm

from gmcourse.data.checkerboard import Checkerboard, log_interval, log_interval_slope

F64 = torch.float64


def by_hand(x: np.ndarray, side: float, sigma: float) -> np.ndarray:
    """The sum over the eight squares, written out."""
    total = 0.0
    for i in range(-2, 2):
        for j in range(-2, 2):
            if (i + j) % 2 == 0:
                edges = norm.cdf(np.stack([x - side * np.array([i, j]), x - side * np.array([i + 1, j + 1])]) / sigma)
                total = total + (edges[0] - edges[1]).prod(-1)
    return total / (8 * side**2)


@pytest.mark.parametrize(("side", "sigma"), [(1.0, 0.01), (1.0, 0.3), (0.5, 1.0), (0.05, 1.0)])
def test_density_is_a_sum_of_boxes_under_a_bell(side, sigma):
    p = Checkerboard(side, sigma)
    x = p.sample((500,), generator=torch.Generator().manual_seed(0)).double()
    assert np.allclose(p.log_prob(x).exp().numpy(), by_hand(x.numpy(), side, sigma), rtol=1e-9)


@pytest.mark.parametrize("side", [1.0, 0.3])
def test_sharp_samples_fill_the_eight_squares_evenly_and_never_leave_them(side):
    p = Checkerboard(side)
    x = p.sample((1_000_000,), generator=torch.Generator().manual_seed(0))
    assert (p.log_prob(x) == torch.tensor(-math.log(8 * side**2))).all()
    i, j = (x / side).floor().long().T + 2
    counts = torch.bincount(4 * i + j, minlength=16)
    assert (counts > 0).tolist() == [(i + j) % 2 == 0 for i in range(4) for j in range(4)]
    assert (counts[counts > 0] / 125_000 - 1).abs().max() < 0.015
    within = x / side - (x / side).floor()
    assert (within.double().mean(0) - 0.5).abs().max() < 2e-3
    assert (within.double().var(0) - 1 / 12).abs().max() < 1e-3


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24], ids=["lowest", "highest"])
@pytest.mark.parametrize("side", [1.0, 0.3])
def test_the_extreme_random_numbers_do_not_fall_off_the_edge(side, u, monkeypatch):
    """float32 has 2 − 1e-7 only just: 1 + u is 2 for the highest u, which is on the next square."""
    monkeypatch.setattr(torch, "rand", lambda *shape, generator, device: torch.full(shape, u))
    p = Checkerboard(side)
    assert p.log_prob(p.sample((200,), generator=torch.Generator().manual_seed(0))).isfinite().all()


def test_off_the_squares_there_is_nothing():
    p = Checkerboard()
    dark = torch.tensor([[-1.5, -0.5], [0.5, 1.5], [2.5, 0.5], [0.5, -2.5], [-2.0001, -1.5]])
    assert (p.log_prob(dark) == -math.inf).all()
    assert (p.score(dark) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("h", [0.001, 0.5, 5.0, 400.0])
def test_far_out_an_interval_is_its_nearer_edge(h, dtype):
    """log(Φ(z+h) − Φ(z−h)) = log Φ(z+h) + log(1 − e^−δ), where δ = log Φ(z+h) − log Φ(z−h) = −2zh + O(h/z)."""
    z = torch.tensor([-1e6, -1e4, -3e3], dtype=dtype) - h
    u = (z + h).double().numpy()
    delta = log_ndtr(u) - log_ndtr(u - 2 * h)
    assert np.allclose(log_interval(z, h).numpy(), log_ndtr(u) + np.log(-np.expm1(-delta)), rtol=1e-4)
    slope = log_interval_slope(z, h).double().numpy()
    assert np.allclose(slope, -u / -np.expm1(-delta) * -np.expm1(2 * u * h - 2 * h * h), rtol=1e-3)
    assert np.allclose(log_interval_slope(-z, h).double().numpy(), -slope)


@pytest.mark.parametrize("h", [0.01, 0.5, 5.0])
def test_interval_is_exact_near_the_centre(h):
    z = np.linspace(-6, 6, 241)
    interval = norm.cdf(-np.abs(z) + h) - norm.cdf(-np.abs(z) - h)
    assert np.allclose(log_interval(torch.from_numpy(z), h).numpy(), np.log(interval), rtol=1e-10, atol=1e-12)
    slope = (norm.pdf(z + h) - norm.pdf(z - h)) / interval
    assert np.allclose(log_interval_slope(torch.from_numpy(z), h).numpy(), slope, rtol=1e-8, atol=1e-10)
