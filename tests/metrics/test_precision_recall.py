"""Precision and recall against brute force, and on supports that are known."""

import math

import numpy as np
import pytest
import torch

from gmcourse.metrics.precision_recall import PRDCurve, improved_precision_recall, prd, prd_curve


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def brute_force(queries: np.ndarray, centres: np.ndarray, k: int) -> float:
    """Share of the queries in a ball around a centre that reaches to its k-th nearest other centre."""
    inside = 0
    radii = [sorted(np.linalg.norm(c - o) for j, o in enumerate(centres) if j != i)[k - 1] for i, c in enumerate(centres)]
    for query in queries:
        inside += any(np.linalg.norm(query - c) <= r for c, r in zip(centres, radii, strict=True))
    return inside / len(queries)


@pytest.mark.parametrize("k", [1, 3])
def test_balls_agree_with_a_loop_over_all_pairs(k):
    real, fake = normal(60, 3, 0).double(), 0.5 + 1.2 * normal(45, 3, 1).double()
    found = improved_precision_recall(real, fake, k=k)
    assert found.precision == pytest.approx(brute_force(fake.numpy(), real.numpy(), k), abs=1e-12)
    assert found.recall == pytest.approx(brute_force(real.numpy(), fake.numpy(), k), abs=1e-12)
    assert 0 < found.precision < 1 and 0 < found.recall < 1


def test_equal_sets_have_both_and_disjoint_sets_neither():
    x = normal(300, 2, 2)
    assert improved_precision_recall(x, x) == (1, 1)
    assert improved_precision_recall(x, x + 100) == (0, 0)


def test_a_point_on_the_rim_is_inside_and_one_beyond_is_not():
    """Centres 0, 1, 3 with k = 1 have radii 1, 1, 2."""
    real = torch.tensor([[0.0], [1.0], [3.0]])
    assert improved_precision_recall(real, torch.tensor([[-1.0], [5.0]]), k=1).precision == 1
    assert improved_precision_recall(real, torch.tensor([[-1.01], [5.01]]), k=1).precision == 0
    assert improved_precision_recall(real, torch.tensor([[-1.0], [5.01]]), k=1).precision == 0.5


def two_blobs(n: int, share: float, seed: int) -> torch.Tensor:
    """n points, a given share of them around (20, 0), the others around 0."""
    right = torch.arange(n) < share * n
    return normal(n, 2, seed) + 20 * torch.stack([right, torch.zeros(n)], 1)


def test_a_missing_mode_costs_recall_and_an_invented_one_precision():
    both, one = two_blobs(1000, 0.5, 3), two_blobs(1000, 0.0, 4)
    missing, invented = improved_precision_recall(both, one), improved_precision_recall(one, both)
    assert missing.precision > 0.97 and abs(missing.recall - 0.5) < 0.02
    assert invented == (missing.recall, missing.precision)


def test_repeated_samples_cover_only_themselves():
    real = normal(100, 4, 5)
    fake = real[:5].repeat(20, 1)
    assert improved_precision_recall(real, fake) == (1, 0.05)


def test_net_and_device_dtype_of_the_features_are_used():
    real, fake = normal(50, 2, 6), normal(50, 2, 7).double()
    first = lambda x: x[:, :1]  # noqa: E731
    assert improved_precision_recall(real, fake, net=first) == improved_precision_recall(real[:, :1], fake[:, :1].float())
    assert str(improved_precision_recall(real, real)) == "precision 1.000, recall 1.000"


def test_curve_of_discrete_laws_has_its_closed_form():
    """p = (½, ½), q = (1, 0): α(λ) = min(λ/2, 1), β = α/λ."""
    curve = prd_curve(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), angles=99)
    slope = np.tan(math.pi / 2 * np.arange(1, 100) / 100)
    assert np.allclose(curve.precision, np.minimum(slope / 2, 1), atol=1e-12)
    assert np.allclose(curve.recall, np.minimum(0.5, 1 / slope), atol=1e-12)


def test_the_curve_turns_over_when_data_and_model_change_places():
    p, q = torch.tensor([0.2, 0.5, 0.3, 0.0]), torch.tensor([0.4, 0.1, 0.2, 0.3])
    there, back = prd_curve(p, q), prd_curve(q, p)
    assert torch.allclose(there.precision, back.recall.flip(0)) and torch.allclose(there.recall, back.precision.flip(0))
    assert there.f8 == pytest.approx(back.f1_8)


def test_the_middle_of_the_curve_is_one_minus_total_variation():
    p, q = torch.tensor([0.2, 0.5, 0.3, 0.0]), torch.tensor([0.4, 0.1, 0.2, 0.3])
    curve = prd_curve(p, q, angles=1001)
    assert curve.precision[500] == pytest.approx(1 - 0.5 * float((p - q).abs().sum()), abs=1e-6)


def test_f_scores_of_half_the_modes_are_known():
    """On the curve above the maxima lie at the corner (1, ½): F_8 = 65·½/64½, F_1/8 = (65/64)·½/(½ + 1/64)."""
    curve = prd_curve(torch.full((10,), 0.1), torch.tensor([0.2] * 5 + [0.0] * 5), angles=20_001)
    assert curve.f8 == pytest.approx(32.5 / 64.5, abs=1e-3)
    assert curve.f1_8 == pytest.approx((65 / 64 * 0.5) / (0.5 + 1 / 64), abs=1e-3)


def test_clusters_find_what_the_histograms_say():
    """Ten far points: k-means into ten clusters is exact, so the curve is that of the frequencies."""
    centres = 100 * normal(10, 3, 8)
    real, fake = centres.repeat(20, 1), centres[:5].repeat(40, 1)
    found = prd(real, fake, clusters=10)
    wanted = prd_curve(torch.full((10,), 0.1), torch.tensor([0.2] * 5 + [0.0] * 5))
    assert torch.allclose(found.precision, wanted.precision) and torch.allclose(found.recall, wanted.recall)


def test_samples_of_one_law_score_high_and_far_ones_zero():
    x, y = normal(2000, 4, 9), normal(2000, 4, 10)
    same, apart = prd(x, y), prd(x, x + 1000)
    assert min(same.f8, same.f1_8) > 0.95 and max(apart.f8, apart.f1_8) < 1e-9
    assert prd(x, x).f8 == pytest.approx(1, abs=1e-6)
    assert "F_8 (recall)" in str(same)


def test_the_same_seed_gives_the_same_curve():
    x, y = normal(200, 2, 11), normal(200, 2, 12)
    assert torch.equal(prd(x, y, seed=5).precision, prd(x, y, seed=5).precision)


X = torch.ones(10, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: improved_precision_recall(X, X[:3]), "k must be less than the number of samples; got 3 for 10 real and 3"),
        (lambda: improved_precision_recall(X, X, k=0), "k must be a positive whole number"),
        (lambda: improved_precision_recall(X, X[:, :2]), "real and fake must have the same event shape"),
        (lambda: improved_precision_recall(X, X * math.nan), "fake must be finite"),
        (lambda: prd(X, X), "clusters must be at most the number of samples; got 20 for 10 and 10"),
        (lambda: prd(X, X, clusters=0), "clusters must be a positive whole number"),
        (lambda: prd(X, X / 0, clusters=2), "fake must be finite"),
        (lambda: prd_curve(torch.ones(2) / 2, torch.ones(3) / 3), r"p and q must have one shape \(k,\)"),
        (lambda: prd_curve(torch.ones(2), torch.ones(2) / 2), "p must be at least 0 and sum to 1"),
        (lambda: PRDCurve(X[0], X[0]).f(0), "beta must be positive and finite; got 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
