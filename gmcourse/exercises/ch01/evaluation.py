"""How far two clouds of features are apart, from thesis 1.2.4: Fréchet distance and MMD."""

from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def frechet(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), thesis (1.20)."""
    return (mean1 - mean2).square().sum() + (cov1 + cov2 - 2 * _root_of_product(cov1, cov2)).trace()


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.mT


def _root_of_product(a: Tensor, b: Tensor) -> Tensor:
    """(AB)^½ = A^½ (A^½ B A^½)^½ A^−½ of symmetric positive definite A and B, through eigenvalues."""
    root = _root(a)
    return root @ _root(root @ b @ root) @ root.inverse()


def _frechet(student: Student, random: Random, covariance: Callable[[int], Tensor]) -> None:
    (d,) = random.sizes(1)
    mean1, mean2, cov1, cov2 = random.normal(d), random.normal(d), covariance(d), covariance(d)
    want, distance, product = frechet(mean1, cov1, mean2, cov2), (mean1 - mean2).square().sum(), cov1 @ cov2

    def with_root(root: Tensor) -> Tensor:
        return distance + (cov1 + cov2 - 2 * root).trace()

    suspects = [
        ("the distance of the means is to be squared", want - distance + distance.sqrt()),
        ("the squared distance is averaged over the dimensions, but it is a sum", want - distance + distance / d),
        ("that is the root of the distance: (1.20) has no root over all", want.sqrt()),
        ("the root is taken of each entry: a matrix root is one whose square is the matrix", with_root(product.sqrt())),
        ("roots taken one by one: with matrices that is not the root of the product", with_root(_root(cov1) @ _root(cov2))),
        ("the matrix root is missing: the product has the unit of a variance squared", with_root(product)),
        ("the factor in front of the matrix root is missing", with_root(_root_of_product(cov1, cov2) / 2)),
        ("the matrix root should be taken off, not added", with_root(-_root_of_product(cov1, cov2))),
        ("the means are ignored: two clouds far apart are not the same", want - distance),
        ("the covariances are ignored: two clouds of different width are not the same", distance),
        ("all entries are summed: (1.20) has a trace", distance + (cov1 + cov2 - 2 * _root_of_product(cov1, cov2)).sum()),
    ]
    for half in (product, product.T):
        roots = torch.linalg.eigvalsh(half).clamp(min=0).sqrt().sum()
        one_triangle = "eigvalsh reads one triangle of a matrix, but Σ₁Σ₂ is not symmetric"
        suspects.append((one_triangle, distance + (cov1 + cov2).trace() - 2 * roots))
    hint = "for one dimension (1.20) is (μ₁ − μ₂)² + (σ₁ − σ₂)²: then with a trace and a matrix root"
    student(mean1=mean1, cov1=cov1, mean2=mean2, cov2=cov2).should_be(want, hint, suspects)


def frechet_of_diagonals(student: Student, random: Random) -> None:
    _frechet(student, random, lambda d: random.uniform(0.3, 3, d).diag())


def frechet_of_full_covariances(student: Student, random: Random) -> None:
    def covariance(d: int) -> Tensor:
        root = random.normal(d, d)
        return root @ root.mT / d + 0.1 * torch.eye(d, dtype=root.dtype)

    _frechet(student, random, covariance)


def mmd2(k_xx: Tensor, k_yy: Tensor, k_xy: Tensor) -> Tensor:
    """MMD² without bias from kernel matrices (n, n), (m, m), (n, m): means over pairs of different points."""
    return _pairs(k_xx).mean() + _pairs(k_yy).mean() - 2 * k_xy.mean()


def _pairs(k: Tensor) -> Tensor:
    """The entries above the diagonal: each pair of different points once."""
    return k[tuple(torch.triu_indices(len(k), len(k), 1))]


def _kernels(x: Tensor, y: Tensor) -> dict:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / 2)

    return {"k_xx": kernel(x, x), "k_yy": kernel(y, y), "k_xy": kernel(x, y)}


def _mmd(student: Student, inputs: dict) -> None:
    k_xx, k_yy, k_xy = inputs.values()
    want, cross, within = mmd2(**inputs), k_xy.mean(), mmd2(k_xx, k_yy, 0 * k_xy)
    sums = 2 * (_pairs(k_xx).sum() + _pairs(k_yy).sum() - k_xy.sum())
    few = (1 - 1 / len(k_xx)) * _pairs(k_xx).mean() + (1 - 1 / len(k_yy)) * _pairs(k_yy).mean()
    suspects = [
        ("that is the biased estimate: a point's kernel with itself says nothing", k_xx.mean() + k_yy.mean() - 2 * cross),
        ("how many pairs of different points are there?", few - 2 * cross),
        ("how many pairs of different points are there?", within / 2 - 2 * cross),
        ("an estimate without bias may be negative: is something cut off?", want.clamp(min=0)),
        ("that is its root: MMD² is wanted, and its estimate may be negative", want.clamp(min=0).sqrt()),
        ("an estimate without bias may be negative: is the sign taken away?", want.abs()),
        ("‖a − b‖² = ‖a‖² + ‖b‖² − …: how often does the cross term count?", within - cross),
        ("‖a − b‖² = ‖a‖² + ‖b‖² − …: what is the sign of the cross term?", within + 2 * cross),
        ("the cross term is missing: it alone compares x with y", within),
        ("sums are no means: double the points and MMD² should stay", sums),
    ]
    hint = "the mean kernel within x, within y, and between them, each over pairs of different points"
    student(**inputs).should_be(want, hint, suspects)


def mmd_within(student: Student, random: Random) -> None:
    """With the clouds far apart only the pairs within each count."""
    n, m, d = random.sizes(3)
    _mmd(student, _kernels(random.normal(n, d), 100 + random.normal(m, d)))


def mmd_between(student: Student, random: Random) -> None:
    """Clouds that overlap, then a cloud and most of itself, where the estimate is negative."""
    n, m, d = sorted(random.sizes(3), reverse=True)
    x = random.normal(n, d)
    for y in (0.8 + random.normal(m, d), x[:m] + 0.01 * random.normal(m, d)):
        _mmd(student, _kernels(x, y))
