"""Masked nets and the layers on them: triangularity, the two directions, and zuko's MAF with the same weights."""

import pytest
import torch
from torch import nn

from gmcourse.flows import Affine, InverseAutoregressive, MaskedAutoregressive, MaskedMLP, RationalQuadratic, Transformer


class SoftlyClipped(Transformer):
    """zuko's affine transformer: the log-scale a/(1 + |a|/6.9)."""

    numbers = 2

    def forward(self, x, h):
        log_scale = h[1] / (1 + h[1].abs() / 6.907755278982137)
        return x * log_scale.exp() + h[0], log_scale

    def invert(self, z, h):
        log_scale = h[1] / (1 + h[1].abs() / 6.907755278982137)
        return (z - h[0]) * (-log_scale).exp(), log_scale


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("hidden", [(16,), (16, 24), (9, 16, 8)])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_outputs_depend_on_exactly_the_inputs_before_them(order, hidden, context):
    net = MaskedMLP(5, 3, hidden, order=order, context=context, activation=nn.Tanh).double()
    x = torch.randn(5 + context, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x[None])[0], x).reshape(3, 5, 5 + context)
    place = torch.tensor(order).argsort()
    before = place[:, None] > place
    assert (jacobian[:, :, :5][:, ~before] == 0).all()
    assert (jacobian[:, :, :5][:, before] != 0).all()
    assert (jacobian[:, :, 5:] != 0).all()


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
@pytest.mark.parametrize("context", [0, 2])
def test_unrolled_inverse_is_the_one_of_d_full_passes(order, context):
    layer = MaskedAutoregressive(MaskedMLP(4, 11, (16, 7), order=order, context=context), RationalQuadratic(bins=4))
    layer, z = layer.double(), torch.randn(9, 4, dtype=torch.float64)
    c = torch.randn(9, context, dtype=torch.float64)
    x = torch.zeros_like(z)
    for _ in range(4):
        h = layer.net(torch.cat([x, c], 1)).T.unflatten(0, (11, 4))
        x = layer.transformer.invert(z.T, h)[0].T
    assert torch.allclose(layer.inverse(z, c if context else None), x, rtol=0, atol=1e-12)


def test_more_coordinates_than_hidden_units_still_is_a_bijection():
    layer = MaskedAutoregressive(MaskedMLP(12, 2, (5, 3)), Affine()).double()
    x = torch.randn(6, 12, dtype=torch.float64)
    assert torch.allclose(layer.inverse(layer(x)[0]), x, rtol=0, atol=1e-12)


def test_iaf_is_maf_the_other_way_round():
    net = MaskedMLP(4, 2, (8,))
    there, back = MaskedAutoregressive(net, Affine()).double(), InverseAutoregressive(net, Affine()).double()
    x = torch.randn(6, 4, dtype=torch.float64)
    z, contribution = there(x)
    y, found = back.invert(x)
    assert torch.equal(z, y) and torch.equal(contribution, -found)


def test_maf_agrees_with_zuko():
    zuko = pytest.importorskip("zuko", reason="zuko is not installed: pip install --no-deps zuko")
    d, width = 5, 16
    order = torch.tensor([4, 3, 2, 1, 0])
    theirs = zuko.flows.autoregressive.MaskedAutoregressiveTransform(d, order=order, hidden_features=(width, width))
    net = MaskedMLP(d, 2, (width, width), order=order, activation=nn.ReLU)
    units = (torch.arange(width) % (d - 1)).argsort(stable=True)  # zuko deals the degrees out in turn
    outputs = torch.arange(2 * d).view(d, 2).T.flatten()  # and keeps the numbers of a coordinate together
    rows, columns = [units, units, outputs], [torch.arange(d), units, units]
    linears = [layer for layer in theirs.hyper if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for ours, layer, row, column in zip(net.layers, linears, rows, columns, strict=True):
            ours.weight.copy_(layer.weight[row][:, column])
            ours.bias.copy_(layer.bias[row])
    x = torch.randn(50, d)
    z, contribution = MaskedAutoregressive(net, SoftlyClipped())(x)
    wanted, log_det = theirs().call_and_ladj(x)
    assert torch.allclose(z, wanted, atol=1e-6) and torch.allclose(contribution, log_det, atol=1e-5)
    assert torch.allclose(MaskedAutoregressive(net, SoftlyClipped()).inverse(z), theirs().inv(wanted), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedMLP(3, 2, order=[0, 1, 1]), r"order must be a permutation of 0 … 2; got \[0, 1, 1\]"),
        (lambda: MaskedMLP(3, 2, ()), "hidden must name the width of at least one hidden layer"),
        (lambda: MaskedAutoregressive(MaskedMLP(3, 3), Affine()), "net must give 2 numbers per coordinate"),
        (lambda: MaskedAutoregressive(MaskedMLP(3, 2), Affine())(torch.zeros(2, 4)), r"x must have shape \(n, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
