"""Linear layers against the matrices that they stand for."""

import numpy as np
import pytest
import torch

from gmcourse.flows import ActNorm, Conv1x1, Householder, LULinear, Permutation, Reverse
from gmcourse.flows.plu import PLU


def shaken(layer):
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer.double()


def test_plu_starts_orthogonal_and_its_determinant_is_that_of_the_matrix():
    plu = PLU(5).double()
    eye = torch.eye(5, dtype=torch.float64)
    assert torch.allclose(plu.times(eye) @ plu.times(eye).T, eye, atol=1e-5)
    plu = shaken(plu)
    assert torch.allclose(plu.log_det(), torch.linalg.slogdet(plu.times(eye)).logabsdet, atol=1e-12)
    assert torch.allclose(plu.solve(plu.times(eye)), eye, atol=1e-12)


def test_lu_layer_is_a_matrix_and_a_shift():
    layer, x = shaken(LULinear(4)), torch.randn(6, 4, dtype=torch.float64)
    matrix = layer.weight.times(torch.eye(4, dtype=torch.float64))
    assert torch.allclose(layer(x)[0], x @ matrix.T + layer.bias, atol=1e-12)


def test_no_parameter_makes_the_matrix_singular():
    layer = LULinear(3).double()
    with torch.no_grad():
        layer.weight.log_diagonal.copy_(torch.tensor([-20.0, 0.0, 3.0]))
    x = torch.randn(5, 3, dtype=torch.float64)
    assert torch.allclose(layer.inverse(layer(x)[0]), x, atol=1e-5)


def test_convolution_is_that_of_torch_at_every_pixel():
    layer, x = shaken(Conv1x1(3)), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    matrix = layer.weight.times(torch.eye(3, dtype=torch.float64))
    z, contribution = layer(x)
    assert torch.allclose(z, torch.nn.functional.conv2d(x, matrix[:, :, None, None]), atol=1e-12)
    assert torch.allclose(contribution, 20 * torch.linalg.slogdet(matrix).logabsdet.expand(2), atol=1e-10)


@pytest.mark.parametrize("reflections", [1, 2, 7])
def test_householder_is_orthogonal_and_its_sign_counts_the_reflections(reflections):
    matrix = Householder(4, reflections).double().matrix().detach()
    assert torch.allclose(matrix @ matrix.T, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert float(torch.linalg.det(matrix)) == pytest.approx((-1) ** reflections)


def test_permutations_move_coordinates_and_live_in_the_state():
    x = torch.arange(6.0).view(2, 3)
    assert Permutation(torch.tensor([2, 0, 1]))(x)[0].tolist() == [[2, 0, 1], [5, 3, 4]]
    assert Reverse(3)(x)[0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert list(Permutation(torch.tensor([1, 0])).state_dict()) == ["order"]


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4)])
def test_actnorm_standardises_the_first_batch_and_no_other(shape):
    layer, x = ActNorm(3), 5 + 3 * torch.randn(64, *shape)
    z, _ = layer(x)
    values = z.transpose(0, 1).flatten(1)
    assert torch.allclose(values.mean(1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(values.std(1, correction=0), torch.ones(3), atol=1e-5)
    again, _ = layer(x + 7)
    assert torch.allclose(again.transpose(0, 1).flatten(1).std(1, correction=0), torch.ones(3), atol=1e-5)
    assert (again.transpose(0, 1).flatten(1).mean(1) > 1).all()


def test_actnorm_works_from_a_batch_of_one():
    layer, x = ActNorm(3), torch.randn(1, 3)
    z, contribution = layer(x)
    assert torch.allclose(z, torch.zeros(1, 3)) and contribution.tolist() == [0.0]
    assert torch.allclose(layer.inverse(z), x)


@pytest.mark.parametrize("value", [57.3, -1e4, 0.1])
def test_actnorm_does_not_take_rounding_for_a_deviation(value):
    layer, x = ActNorm(3), value + 0.02 * abs(value) * torch.randn(512, 3)
    x[:, 0] = value  # the mean of equal numbers is rounded
    x[:, 1] = value
    x[::3, 1] = float(np.nextafter(np.float32(value), np.float32(1e9)))
    z, _ = layer(x)
    assert layer.log_scale[:2].tolist() == [0.0, 0.0] and layer.shift[0] == x[0, 0] and (z[:, 0] == 0).all()
    assert z[:, 2].std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_actnorm_waits_for_training_and_stays_initialised_when_reloaded():
    layer, x = ActNorm(2).eval(), 4 + torch.randn(8, 2)
    assert torch.equal(layer(x)[0], x)
    layer.train()(x)
    other = ActNorm(2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(100 * x)[0], layer(100 * x)[0])


@pytest.mark.parametrize("layer", [Permutation(torch.arange(3)), ActNorm(3)])
def test_a_wrong_dimension_is_named(layer):
    with pytest.raises(ValueError, match=r"x must have shape \(n, 3, ...\); got \(5, 4\)"):
        layer(torch.zeros(5, 4))


def test_an_order_that_is_no_permutation_is_refused():
    with pytest.raises(ValueError, match=r"order must be a permutation of 0 … d − 1; got \[0, 2\]"):
        Permutation(torch.tensor([0, 2]))
