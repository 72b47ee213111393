"""How much a batch varies: numpy's standard deviations, and slopes where they have a corner."""

import numpy as np
import pytest
import torch

from gmcourse.nets.minibatch import MinibatchStd


@pytest.mark.parametrize("shape", [(12, 5), (12, 3, 4, 6)])
@pytest.mark.parametrize("group", [None, 12, 4, 3])
def test_what_is_appended_is_numpys_standard_deviation_of_each_group(shape, group):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    found = MinibatchStd(group)(x)
    assert found.shape == (12, shape[1] + 1, *shape[2:])
    assert torch.equal(found[:, :-1], x)
    parts = np.split(x.numpy(), 12 // (group or 12))
    wanted = np.repeat([np.std(part, axis=0).mean() for part in parts], group or 12)
    appended = found[:, -1].reshape(12, -1)
    assert torch.equal(appended, appended[:, :1].expand_as(appended))  # the same in all places
    assert np.allclose(appended[:, 0].numpy(), wanted, atol=2e-4)  # the smooth foot takes at most 1.3e-4


def test_a_row_alone_has_exactly_zero_and_copies_of_it_have_no_more_than_rounding():
    x = torch.randn(1, 3, 4, 4)
    assert MinibatchStd()(x)[:, -1].abs().max() == 0
    assert MinibatchStd()(x.expand(6, -1, -1, -1))[:, -1].abs().max() < 1e-9
    assert MinibatchStd()(x[:0]).shape == (0, 4, 4, 4)


@pytest.mark.parametrize("copies", [1, 6])
def test_slopes_of_slopes_are_finite_where_all_rows_agree(copies):
    x = torch.ones(copies, 3).requires_grad_()
    (slope,) = torch.autograd.grad(MinibatchStd()(x)[:, -1].sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), x)
    assert slope.isfinite().all() and curvature.isfinite().all()


def test_rows_depend_on_each_other_within_a_group_only():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[0] += 1.0
    changed = (MinibatchStd(4)(other)[:, -1] != MinibatchStd(4)(x)[:, -1]).tolist()
    assert changed == [True] * 4 + [False] * 4


def test_its_slope_is_the_one_of_differences():
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    assert torch.autograd.gradcheck(MinibatchStd(3), x)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: MinibatchStd(4)(torch.zeros(6, 2)), r"n a multiple of group=4; got \(6, 2\)"),
        (lambda: MinibatchStd()(torch.zeros(6)), r"x must have shape .*; got \(6,\)"),
        (lambda: MinibatchStd(0), "group must be a positive whole number; got 0"),
    ],
)
def test_what_does_not_fit_is_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
