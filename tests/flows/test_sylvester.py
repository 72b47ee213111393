"""Sylvester layers: the matrix determinant lemma, orthonormal Q of three kinds, and the constraint on the diagonals."""

import pytest
import torch

from gmcourse.flows.planar import Planar
from gmcourse.flows.sylvester import Sylvester, reflections

KINDS = {"orthogonal": 3, "householder": 5, "triangular": 5}
every_kind = pytest.mark.parametrize(("kind", "rank"), KINDS.items())


def made(kind, rank, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Sylvester(5, rank, kind=kind, **options).double()


def points(n=20, dim=5):
    return 2 * torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@every_kind
def test_q_is_orthonormal_and_both_r_are_upper_triangular(kind, rank):
    q, r, r_tilde, _, products = made(kind, rank, flip=kind == "triangular").matrices()
    assert torch.allclose(q.mT @ q, torch.eye(rank).double(), atol=1e-12) and q.shape == (1, 5, rank)
    for matrix in (r, r_tilde):
        assert torch.equal(matrix, matrix.triu()) and matrix.triu(1).abs().sum() > 0
    assert torch.allclose(r.diagonal(dim1=1, dim2=2) * r_tilde.diagonal(dim1=1, dim2=2), products)


@every_kind
def test_small_determinant_equals_the_large_one(kind, rank):
    """det(I_D + AB) = det(I_M + BA), both sides written out with full matrices: slides (8), (9)."""
    layer, x = made(kind, rank), points()
    q, r, r_tilde, b, _ = layer.matrices()
    slopes = 1 - torch.tanh(x @ (r_tilde @ q.mT)[0].mT + b).square()
    a, back = q @ r @ torch.diag_embed(slopes), r_tilde @ q.mT
    large = torch.linalg.slogdet(torch.eye(5).double() + a @ back).logabsdet
    small = torch.linalg.slogdet(torch.eye(rank).double() + back @ a).logabsdet
    assert torch.allclose(large, small, atol=1e-12) and torch.allclose(layer(x)[1], large, atol=1e-12)


@every_kind
@pytest.mark.parametrize("value", [-30.0, 0.0, 30.0])
def test_any_parameters_give_a_bijection(kind, rank, value):
    layer, x = made(kind, rank), points()
    with torch.no_grad():
        layer.parts.values[: rank * rank].add_(value * torch.eye(rank).double().flatten())
    z, contribution = layer(x)
    assert contribution.isfinite().all() and (layer.matrices()[4] > -1).all()
    assert torch.allclose(layer.inverse(z), x, atol=1e-7)


def test_rank_one_is_a_planar_layer():
    """Q = w/‖w‖ and R̃ = ‖w‖ turn z + Q R h(R̃ Qᵀz + b) into z + u h(wᵀz + b), u along w: slides (7)."""
    layer, x = made("orthogonal", 1), points()
    q, r, r_tilde, b, _ = (part.detach() for part in layer.matrices())
    planar = Planar(5).double()
    w, u = (r_tilde * q.mT)[0, 0], (r * q.mT)[0, 0]
    if float(w @ u) < 0:  # `Planar` bends what is below zero: ask for what comes out as wᵀu
        product = float(w @ u)
        u = u + (torch.log1p(torch.tensor(product / (1 - 1e-3)).double()) - product) / w.square().sum() * w
    with torch.no_grad():
        planar.parts.values.copy_(torch.cat([w, u, b[0]]))
    for found, wanted in zip(layer(x), planar(x), strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)


def test_reflections_multiply_to_an_orthogonal_matrix_of_the_right_sign():
    v = points(1, 4)[:, None].expand(-1, 3, -1) + torch.eye(4)[:3].double()
    assert torch.linalg.det(reflections(v)).item() == pytest.approx(-1)  # three reflections
    mirrored = reflections(v[:, :1])[0] @ v[0, 0]
    assert torch.allclose(mirrored, -v[0, 0])


@every_kind
def test_a_context_gives_every_row_its_own_map(kind, rank):
    layer, x = made(kind, rank, context=2), points(3)
    context = points(3, 2)
    z, contribution = layer(x, context)
    for i in range(3):
        alone, part = layer(x[i : i + 1], context[i : i + 1])
        assert torch.allclose(z[i], alone[0]) and torch.allclose(contribution[i], part[0])
    assert torch.allclose(layer.inverse(z, context), x, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "qr"}, "kind must be 'orthogonal', 'householder' or 'triangular'; got 'qr'"),
        ({"rank": 6}, "rank must be between 1 and 5; got 6"),
        ({"rank": 2, "kind": "householder"}, "rank must be 5 for kind 'householder'; got 2"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Sylvester(5, **options)
