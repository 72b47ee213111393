"""AUROC is the probability that a familiar datum outscores a foreign one."""

import math

import pytest
import torch
from torch import nn

from gmcourse.metrics.ood import AUROCTable, auroc, auroc_table, interpolations


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


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


class Sum(nn.Module):
    """The sum of the pixels; in training mode of the batch's, which is of no use."""

    def forward(self, x):
        return x.flatten(1).sum(1) * (0 if self.training else 1)


def test_a_table_holds_the_area_of_every_shift_for_every_score():
    """N(0, 1) against N(−Δ, 1) in each of 3 pixels: the sum has Φ(Δ √3/√2), the first pixel Φ(Δ/√2)."""
    n, net = 8000, Sum()
    inside, noise = torch.randn(n, 3, 1, generator=seeded()), torch.randn(n, 3, 1, generator=seeded(1))
    outside = {str(delta): noise - delta for delta in (0.0, 0.5, 2.0)}
    table = auroc_table({"sum": net, "first": lambda x: x[:, 0, 0]}, inside, outside, batch=999)
    assert list(table) == ["sum", "first"] and list(table["sum"]) == ["0.0", "0.5", "2.0"]
    for name, root in (("sum", 3**0.5), ("first", 1.0)):
        for delta, found in table[name].items():
            exact = 0.5 * (1 + math.erf(float(delta) * root / 2))
            assert abs(found - exact) < 4 * math.sqrt(exact * (1 - exact) / n), (name, delta)
    assert net.training


def test_a_table_is_the_same_in_batches_of_any_size_and_again_and_keeps_no_graph():
    inside, outside = torch.randn(50, 2, generator=seeded()), {"far": torch.randn(30, 2, generator=seeded(1)) + 1}
    weight = torch.ones(2, requires_grad=True)

    def asked(x):
        assert not torch.is_grad_enabled()
        return -(x @ weight)

    whole, parts = (auroc_table({"w": asked}, inside, outside, batch=batch) for batch in (500, 7))
    assert whole == parts and weight.grad is None
    noisy = {"noisy": lambda x: x[:, 0] + torch.randn(len(x))}  # as a VAE's bound is
    before = torch.get_rng_state()
    assert auroc_table(noisy, inside, outside) == auroc_table(noisy, inside, outside)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_table_reads_as_one():
    table = AUROCTable({"a VAE": {"digits": 0.25, "noise": 1.0}, "tilted": {"digits": 0.9, "noise": 0.9996}})
    assert str(table).splitlines() == ["AUROC   digits  noise", "a VAE    0.250  1.000", "tilted   0.900  1.000"]
    assert table._repr_markdown_().splitlines()[1:3] == ["| --- | --: | --: |", "| a VAE | 0.250 | 1.000 |"]


@pytest.mark.parametrize("weight", [0.5, 0.1, None])
def test_interpolations_lie_on_the_segment_between_two_different_data(weight):
    """x_k = e_k: a mixture of i and j has 1 − w at i, w at j and nothing elsewhere."""
    x, n = torch.eye(6).reshape(6, 1, 2, 3), 4000
    found = interpolations(x, n, weight=weight, generator=seeded()).flatten(1)
    assert torch.allclose(found.sum(1), torch.ones(n)) and ((found > 0).sum(1) == 2).all()
    ends = found.topk(2).values
    if weight is None:  # the smaller of w and 1 − w is uniform on [0, ½]
        assert abs(ends[:, 1].mean() - 0.25) < 4 * 0.5 / 12**0.5 / n**0.5
    else:
        assert torch.allclose(ends[:, 1], torch.full((n,), weight))
    assert (abs((found > 0).float().mean(0) - 1 / 3) < 4 * (2 / 9 / n) ** 0.5).all()  # each is met as often


def test_interpolations_are_as_many_as_the_data_and_the_generator_decides():
    x = torch.randn(20, 2, dtype=torch.float64, generator=seeded())
    once, again = (interpolations(x, generator=seeded(3)) for _ in range(2))
    assert once.shape == x.shape and once.dtype == x.dtype and torch.equal(once, again)


def test_bad_input_of_a_table_and_of_interpolations_is_named():
    x, score = torch.zeros(3, 2), {"s": lambda x: x.sum(1)}
    for arguments, message in [
        (({}, x, {"far": x}), "scores must hold at least one entry; got none"),
        ((score, x, {}), "outside must hold at least one entry; got none"),
        ((score, x[:0], {"far": x}), r"inside must hold data of shape \(2,\); got shape \(0, 2\)"),
        ((score, x, {"far": x[:, :1]}), r"outside\['far'\] must hold data of shape \(2,\); got shape \(3, 1\)"),
        (({"s": lambda x: x}, x, {"far": x}), r"scores\['s'\] must give one number for each datum of inside, shape \(3,\)"),
        (({"s": lambda x: x.sum(1) / 0}, x, {"far": x}), r"scores\['s'\] .* of inside; got 3 NaN of 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            auroc_table(*arguments)
    with pytest.raises(ValueError, match="batch must be a positive whole number; got 0"):
        auroc_table(score, x, {"far": x}, batch=0)
    with pytest.raises(ValueError, match=r"x must hold at least 2 data of floating-point numbers; got \(1, 2\)"):
        interpolations(x[:1])
    with pytest.raises(ValueError, match=r"weight must lie in \[0, 1\]; got 1.5"):
        interpolations(x, weight=1.5)
    with pytest.raises(ValueError, match="n must be a positive whole number; got 0"):
        interpolations(x, 0)
