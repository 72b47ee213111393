"""MMD against double loops, its closed form between Gaussians, and its own scatter over repetitions."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from gmcourse.metrics import mmd
from gmcourse.metrics.mmd import median_bandwidth, mmd2


def cloud(n: int, d: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_loops(x: np.ndarray, y: np.ndarray, h: float) -> float:
    """The definition, pair by pair."""

    def k(a, b):
        return math.exp(-sum((s - t) ** 2 for s, t in zip(a, b, strict=True)) / (2 * h**2))

    within = [np.mean([k(a, b) for i, a in enumerate(v) for j, b in enumerate(v) if i != j]) for v in (x, y)]
    return sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])


def closed_form(mean: float, sigma: float, d: int, h: float) -> float:
    """MMD² between N(0, I) and N(mean · e, sigma² I), e a unit vector: E k is a Gaussian integral."""

    def expected(distance, variance):
        return (h**2 / (h**2 + variance)) ** (d / 2) * math.exp(-(distance**2) / (2 * (h**2 + variance)))

    return expected(0, 2) + expected(0, 2 * sigma**2) - 2 * expected(mean, 1 + sigma**2)


def repeated(mean: float, sigma: float, *, n: int, m: int, d: int, h: float, times: int) -> tuple[torch.Tensor, ...]:
    """Values and standard errors over fresh samples of the two Gaussians."""
    shift = mean * torch.eye(d, dtype=torch.float64)[0]
    found = [mmd2(cloud(n, d, s), shift + sigma * cloud(m, d, s + 10**6), bandwidth=h) for s in range(times)]
    return tuple(torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True))


@pytest.mark.parametrize(("n", "m", "d"), [(7, 7, 2), (4, 12, 3), (9, 5, 1)])
def test_it_is_the_mean_over_all_pairs_of_different_points(n, m, d):
    x, y = cloud(n, d, 0), cloud(m, d, 1) + 0.3
    assert mmd2(x, y, bandwidth=0.8).value == pytest.approx(by_loops(x.numpy(), y.numpy(), 0.8), abs=1e-12)


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 1.0), (0.7, 1.0), (0.0, 1.5)])
def test_its_mean_is_the_closed_form_between_gaussians(mean, sigma):
    """Unbiased at every n: also under p = q, where it is 0 and the estimate is often negative."""
    values, _ = repeated(mean, sigma, n=15, m=10, d=2, h=1.0, times=400)
    assert abs(values.mean() - closed_form(mean, sigma, 2, 1.0)) < 4 * values.std() / 400**0.5
    assert (values < 0).double().mean() > 0.5 or mean != 0 or sigma != 1


@pytest.mark.parametrize(("mean", "sigma", "n", "m"), [(1.0, 1.0, 40, 60), (0.5, 1.6, 40, 25)])
def test_the_standard_error_is_the_scatter_over_repetitions(mean, sigma, n, m):
    values, stderrs = repeated(mean, sigma, n=n, m=m, d=2, h=1.0, times=400)
    assert float(stderrs.square().mean().sqrt() / values.std()) == pytest.approx(1.0, abs=0.16)


@pytest.mark.parametrize(("n", "m"), [(60, 60), (30, 90)])
def test_under_equal_laws_the_standard_error_is_a_little_too_large_never_too_small(n, m):
    """There the first-order variance vanishes. Left out, all else would be 0; a plain plug-in would be √2 too large."""
    values, stderrs = repeated(0.0, 1.0, n=n, m=m, d=2, h=1.0, times=400)
    assert 0.95 < float(stderrs.mean() / values.std()) < 1.3 and stderrs.min() > 0.8 * values.std()


def test_neither_order_nor_place_of_the_sets_matters():
    x, y = cloud(30, 2, 0), cloud(40, 2, 1) + 0.5
    there, back, moved = mmd2(x, y), mmd2(y, x), mmd2(x + 1e5, y + 1e5)
    assert there == pytest.approx(back, rel=1e-9) and there == pytest.approx(moved, rel=1e-6)


def test_scaling_the_data_and_the_bandwidth_changes_nothing():
    x, y = cloud(30, 2, 0), cloud(40, 2, 1) + 0.5
    assert mmd2(10 * x, 10 * y) == pytest.approx(mmd2(x, y), rel=1e-9)
    assert mmd2(x, y) == mmd2(x, y, bandwidth=median_bandwidth(x, y))


def test_blocks_change_memory_not_the_estimate(monkeypatch):
    x, y = cloud(37, 3, 0), cloud(23, 3, 1)
    whole = mmd2(x, y)
    monkeypatch.setattr(mmd, "ROWS", 5)
    assert mmd2(x, y) == pytest.approx(whole, rel=1e-10)


def test_single_precision_is_enough():
    x, y = cloud(300, 8, 0), cloud(200, 8, 1) + 0.2
    assert mmd2(x.float(), y.float()) == pytest.approx(mmd2(x, y), abs=1e-5)


def test_the_bandwidth_is_the_median_distance_of_the_pooled_points():
    x, y = cloud(20, 3, 0), 2 * cloud(31, 3, 1) + 1
    distances = np.sort(pdist(torch.cat([x, y]).numpy()))
    assert median_bandwidth(x, y) == pytest.approx(distances[(len(distances) - 1) // 2], rel=1e-12)


def test_the_bandwidth_of_a_large_set_is_near_that_of_all_its_points():
    x, y = cloud(3000, 2, 0), cloud(2500, 2, 1)
    assert median_bandwidth(x, y) == pytest.approx(2 * math.sqrt(math.log(2)), rel=0.03)  # ‖x − x′‖²/2 ~ χ²₂


@pytest.mark.parametrize(
    ("x", "y", "h", "message"),
    [
        (torch.zeros(5, 2), torch.zeros(5, 3), 1.0, r"got \(5, 2\) and \(5, 3\)"),
        (torch.zeros(3, 2), torch.zeros(5, 2), 1.0, "x must have at least 4 rows; got 3"),
        (torch.zeros(5, 2), torch.full((5, 2), math.inf), 1.0, "y must be finite"),
        (torch.zeros(5, 2), torch.zeros(5, 2), 0.0, "bandwidth must be positive and finite; got 0.0"),
        (torch.zeros(5, 2), torch.zeros(5, 2), None, "median distance must be positive"),
    ],
)
def test_bad_input_is_named(x, y, h, message):
    with pytest.raises(ValueError, match=message):
        mmd2(x, y, bandwidth=h)


def test_what_is_left_of_a_kernel_matrix_is_counted_by_its_degrees_of_freedom():
    """With x ~ N(0, I₁), h = 1: E r² = E k² − 2 E (k̄_i)² + (E k)², all three in closed form; over many small samples."""
    draws = torch.randn(4000, 5, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = torch.tensor([mmd._within(x).residual for x in draws])
    truth = 5**-0.5 - 2 * 8**-0.5 + 1 / 3
    assert abs(found.mean() - truth) < 4.5 * found.std() / len(found) ** 0.5
