"""AUROC is the probability that a familiar datum outscores a foreign one."""

import math

import pytest
import torch

from gmcourse.metrics.ood import auroc


def test_auroc_counts_the_pairs_in_the_right_order_and_ties_half():
    generator = torch.Generator().manual_seed(0)
    inside = torch.randint(2, 8, (40,), generator=generator).float()
    outside = torch.randint(0, 6, (70,), generator=generator).float()
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside]
    assert auroc(inside, outside) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert auroc(outside, inside) == pytest.approx(1 - auroc(inside, outside), abs=1e-12)


def test_gaussian_scores_have_the_area_of_their_difference():
    """N(1, 1) against N(0, 1): Φ(1/√2)."""
    n, generator = 20_000, torch.Generator().manual_seed(1)
    found = auroc(1 + torch.randn(n, generator=generator), torch.randn(n, generator=generator))
    assert abs(found - 0.5 * (1 + math.erf(0.5))) < 4 * math.sqrt(1 / (3 * n))  # σ² of a U-statistic is below 1/3n here


def test_infinite_scores_are_ranked_and_neighbouring_floats_kept_apart():
    assert auroc(torch.tensor([0.0, math.inf]), torch.tensor([-math.inf, -math.inf])) == 1
    assert auroc(torch.tensor([-math.inf]), torch.tensor([-math.inf])) == 0.5
    close = torch.tensor([1e4], dtype=torch.float64)
    assert auroc(close + 1e-11, close) == 1


def test_scores_with_gradients_are_taken():
    assert auroc(torch.ones(2, requires_grad=True), torch.zeros(3)) == 1


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        (torch.zeros(0), torch.zeros(3), r"inside must hold at least one score, shape \(n,\); got shape \(0,\)"),
        (torch.zeros(3), torch.zeros(3, 1), r"outside must hold at least one score, shape \(n,\); got shape \(3, 1\)"),
        (torch.tensor([0.0, math.nan]), torch.zeros(3), "inside must not hold NaN; got 1 of 2"),
    ],
)
def test_bad_input_is_named(inside, outside, message):
    with pytest.raises(ValueError, match=message):
        auroc(inside, outside)
