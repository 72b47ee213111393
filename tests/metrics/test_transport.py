"""Wasserstein distances against brute force over all plans, scipy, and the closed form between Gaussians."""

import itertools
import math

import pytest
import torch
from scipy import stats

from gmcourse.metrics import transport
from gmcourse.metrics.transport import sliced_wasserstein, wasserstein


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(n: int, d: int) -> torch.Tensor:
    """Points whose mean is exactly 0 and whose covariance is exactly I."""
    x = cloud(n, d)
    x = x - x.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / n), x.T, upper=False).T


def quantiles(mean: float, sigma: float, n: int) -> torch.Tensor:
    middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return mean + sigma * torch.special.ndtri(middle)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_exact_distance_is_the_best_of_all_matchings(order, d):
    """Of equally many points the best plan is a permutation (Birkhoff); here are all 720."""
    x, y = cloud(6, d), cloud(6, d, seed=1) + 0.5
    best = min((x - y[list(p)]).norm(dim=1).pow(order).mean() for p in itertools.permutations(range(6)))
    assert wasserstein(x, y, order=order) == pytest.approx(float(best) ** (1 / order), rel=1e-12)


def test_on_the_line_w1_agrees_with_scipy_for_different_numbers_of_points():
    x, y = cloud(50, 1)[:, 0], 2 * cloud(83, 1, seed=1)[:, 0] + 1
    assert wasserstein(x, y, order=1) == pytest.approx(stats.wasserstein_distance(x, y), rel=1e-12)
    assert wasserstein(x[:, None], y[:, None], order=1) == wasserstein(x, y, order=1)


def test_w2_between_gaussians_on_the_line_has_its_closed_form():
    """W₂² = (μ₁ − μ₂)² + (σ₁ − σ₂)², here by 20 000 quantiles of each."""
    found = wasserstein(quantiles(0.0, 1.0, 20_000), quantiles(1.0, 3.0, 20_000))
    assert found == pytest.approx(math.sqrt(1 + 4), abs=1e-3)


@pytest.mark.parametrize("d", [2, 4])
def test_w2_between_images_of_a_linear_map_is_the_bures_distance(d):
    """x -> Ax + b with symmetric positive A is the best plan; W₂² = ‖b‖² + tr(I + A² − 2A) if x has exact moments."""
    x, root = whitened(300, d), cloud(d, d, seed=3)
    a, b = root @ root.T + 0.2 * torch.eye(d), cloud(1, d, seed=4)[0]
    wanted = b.square().sum() + torch.trace(torch.eye(d) + a @ a - 2 * a)
    assert wasserstein(x, x @ a + b) == pytest.approx(float(wanted.sqrt()), rel=1e-9)


@pytest.mark.parametrize("distance", [wasserstein, sliced_wasserstein])
def test_it_is_a_distance_between_laws_not_between_lists(distance):
    x, y, z = cloud(20, 2), cloud(30, 2, seed=1) + 1, 2 * cloud(25, 2, seed=2)
    shuffled, doubled = x[torch.randperm(20, generator=torch.Generator().manual_seed(0))], torch.cat([x, x])
    assert distance(x, shuffled) == pytest.approx(0, abs=1e-7) and distance(doubled, y) == pytest.approx(distance(x, y))
    assert distance(x, y) == pytest.approx(distance(y, x)) and distance(x, y) < distance(x, z) + distance(z, y)


def test_a_tiny_move_far_from_the_origin_is_seen():
    x = cloud(20, 2) + 1e4
    assert wasserstein(x, x + torch.tensor([1e-6, 0.0], dtype=torch.float64)) == pytest.approx(1e-6, rel=1e-4)


@pytest.mark.parametrize("d", [2, 10])
def test_a_shift_has_sliced_w2_of_its_length_by_the_root_of_d(d):
    """W₂² along θ is (θᵀμ)², with mean ‖μ‖²/d and variance ‖μ‖⁴ · 2(d − 1)/(d²(d + 2))."""
    x, shift = cloud(40, d), 3 * torch.eye(d, dtype=torch.float64)[0]
    squared, lines = sliced_wasserstein(x, x + shift, projections=4000) ** 2, 4000
    assert abs(squared - 9 / d) < 4.5 * 9 * math.sqrt(2 * (d - 1) / (d**2 * (d + 2)) / lines)


def test_sliced_is_at_most_exact_and_on_the_line_the_same():
    x, y = cloud(60, 3), cloud(70, 3, seed=1) * 2 + 1
    for order in (1, 2):
        assert 0.3 * wasserstein(x, y, order=order) < sliced_wasserstein(x, y, order=order) < wasserstein(x, y, order=order)
        on_line = sliced_wasserstein(x[:, 0], y[:, 0], order=order, projections=5)
        assert on_line == pytest.approx(wasserstein(x[:, 0], y[:, 0], order=order), rel=1e-9)


def test_a_seed_fixes_the_lines():
    x, y = cloud(60, 3), cloud(70, 3, seed=1) + 1
    assert sliced_wasserstein(x, y, seed=1) == sliced_wasserstein(x, y, seed=1) != sliced_wasserstein(x, y, seed=2)


@pytest.mark.parametrize("distance", [wasserstein, sliced_wasserstein])
@pytest.mark.parametrize(
    ("x", "y", "order", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 3), 2, r"shapes \(n, d\) and \(m, d\); got \(3, 2\) and \(3, 3\)"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(3, 1, 8, 8), 2, r"got \(3, 1, 8, 8\)"),
        (torch.zeros(0, 2), torch.zeros(3, 2), 2, "x must have at least 1 row"),
        (torch.zeros(3, 2), torch.full((3, 2), math.nan), 2, "y must be finite"),
        (torch.zeros(3, 2), torch.zeros(3, 2), 0.5, "order must be at least 1 and finite; got 0.5"),
    ],
)
def test_bad_input_is_named(distance, x, y, order, message):
    with pytest.raises(ValueError, match=message):
        distance(x, y, order=order)


def test_too_many_points_for_the_exact_distance_are_refused(monkeypatch):
    monkeypatch.setattr(transport, "MAX_COSTS", 100)
    with pytest.raises(ValueError, match=r"n·m at most 100 for the exact distance; got 11 · 10"):
        wasserstein(cloud(11, 2), cloud(10, 2))
    assert wasserstein(cloud(10, 2), cloud(10, 2)) == 0.0
