"""Gradients of functions of rows, against derivatives taken by hand."""

import pytest
import torch
from torch import nn

from gmcourse.sampling.gradient import one_per_row, value_and_gradient

X = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def cubic(x: torch.Tensor) -> torch.Tensor:
    return x.pow(3).flatten(1).sum(1)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_value_and_gradient_are_those_taken_by_hand_where_gradients_are_on_and_off(off):
    with off():
        value, gradient = value_and_gradient(cubic, X.clone(), "f")
    assert torch.allclose(value, cubic(X)) and torch.allclose(gradient, 3 * X.square())
    assert not gradient.requires_grad and not X.requires_grad


def test_a_gradient_with_a_graph_has_the_second_derivative_in_x_and_in_the_weights():
    x, a = X.clone().requires_grad_(), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    _, gradient = value_and_gradient(lambda x: a * cubic(x), x, "f", create_graph=True)
    in_x, in_a = torch.autograd.grad(gradient.sum(), (x, a))
    assert torch.allclose(in_x, 12 * X) and torch.allclose(in_a, 3 * X.square().sum())


def test_a_function_that_does_not_look_at_x_is_flat():
    a = torch.zeros(5, requires_grad=True)
    assert torch.equal(value_and_gradient(lambda x: a, X, "f")[1], torch.zeros_like(X))


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (nn.Flatten(1), r"f must return shape \(n,\); got \(5, 6\) for x of shape \(5, 2, 3\)"),
        (lambda x: 1.0, r"f must return shape \(n,\); got float"),
        (lambda x: torch.zeros(5), "f must be differentiable in x; its result has no gradient"),
    ],
)
def test_a_function_of_another_kind_is_refused_by_its_name(function, complaint):
    with pytest.raises(ValueError, match=complaint):
        value_and_gradient(function, X, "f")


def test_one_number_a_row_is_handed_on_as_it_is():
    assert torch.equal(one_per_row(cubic, X, "f"), cubic(X))
