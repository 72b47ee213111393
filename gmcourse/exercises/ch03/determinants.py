"""Determinants and traces without the whole matrix, from the slides: the lemma before (8), and (17)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def determinant_lemma(a: Tensor, U: Tensor, V: Tensor) -> Tensor:
    """log|det(diag(a) + U Vᵀ)|, a scalar, by a k × k determinant, from a (d,), U and V (d, k); lemma before slides (8)."""
    return a.abs().log().sum() + (1 + torch.linalg.eigvals((U.mT / a) @ V)).abs().log().sum()


class _NoSquares(TorchFunctionMode):
    """Nobody inside makes a tensor of d × d numbers or more."""

    def __init__(self, d: int):
        super().__init__()
        self.d = d

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.numel() >= self.d**2:
            raise ValueError(f"a tensor of shape {tuple(out.shape)} is made, but this should need a k × k determinant only")
        return out


def _lemma(student: Student, a: Tensor, U: Tensor, V: Tensor, want: Tensor, nonfinite: str) -> None:
    inner, eye = V.mT @ (U / a[:, None]), torch.eye(U.shape[1], dtype=a.dtype)
    outer, of_k = a.abs().log().sum(), torch.linalg.slogdet(eye + inner).logabsdet
    suspects = [
        ("that is the k × k determinant alone: what if U were 0?", of_k),
        ("that is the determinant of diag(a) alone: what if U is not 0?", outer),
        ("diag(a) counts the wrong way round: what if U were 0?", of_k - outer),
        ("the I in the k × k determinant is missing: what if U were 0?", outer + torch.linalg.slogdet(inner).logabsdet),
        ("the sign in front of the small product: with k = d = 1 the determinant is a + uv",
         outer + torch.linalg.slogdet(eye - inner).logabsdet),
        ("the diagonal is missing in the k × k determinant: with k = d = 1 it is a + uv",
         outer + torch.linalg.slogdet(eye + V.mT @ U).logabsdet),
        ("the diagonal should divide in the k × k determinant: with k = d = 1 it is a + uv",
         outer + torch.linalg.slogdet(eye + V.mT @ (U * a[:, None])).logabsdet),
        ("the k × k determinant counts the wrong way round", outer - of_k),
        ("the logarithm of the k × k determinant is missing", outer + of_k.exp()),
        ("that is the determinant itself: its logarithm is wanted", want.exp()),
        ("only the diagonal of the small matrix is looked at", outer + (1 + inner.diagonal()).abs().log().sum()),
    ]  # fmt: skip
    hint = "det(diag(a) + U Vᵀ) is the product of the a and a k × k determinant: write out k = d = 1, a + uv, first"
    student(a=a, U=U, V=V).should_be(want, hint, suspects, nonfinite)


def of_small_matrices(student: Student, random: Random) -> None:
    """a of both signs, and determinants of both signs, against the determinant of the whole matrix."""
    for _ in range(4):
        k, d = sorted(random.sizes(2))
        a, U, V = random.uniform(0.5, 2, d) * random.normal(d).sign(), random.normal(d, k), random.normal(d, k)
        want = torch.linalg.slogdet(a.diag() + U @ V.mT).logabsdet
        _lemma(student, a, U, V, want, "a and the determinants may be negative: log|det| is wanted")


def of_a_huge_matrix(student: Student, random: Random) -> None:
    """Orthonormal columns Q: det(diag(a) (I + Q diag(c) Qᵀ)) = Π a Π(1 + c). The product of the a overflows."""
    d, k = 3000, 2
    a, c, scale = random.uniform(1, 5, d), random.uniform(0.5, 3, k), random.uniform(0.5, 3, k)
    columns = torch.linalg.qr(random.normal(d, k)).Q
    mixed = random.normal(k, k)
    U, V = a[:, None] * columns * scale @ mixed, columns * (c / scale) @ mixed.inverse().mT
    want = a.log().sum() + c.log1p().sum()
    with _NoSquares(d):
        _lemma(student, a, U, V, want, "a product of 3000 numbers leaves the range of numbers: what is its logarithm?")


def hutchinson(jacobian_product: Callable[[Tensor], Tensor], eps: Tensor) -> Tensor:
    """Estimates of tr J, (n,): the mean of εᵀJε over k probes eps (k, n, d), from v -> J v for v (n, d); slides (17)."""
    basis = torch.eye(eps.shape[2], dtype=eps.dtype)
    columns = torch.stack([jacobian_product(e.expand(eps.shape[1:])) for e in basis], 2)
    return torch.einsum("kni,nij,knj->n", eps, columns, eps) / len(eps)


def _product(jacobian: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> J v for v (n, d), or (k, n, d)."""

    def product(v: Tensor) -> Tensor:
        if v.shape[-2:] != jacobian.shape[:2]:
            raise ValueError(f"jacobian_product wants shape {tuple(jacobian.shape[:2])}; got {tuple(v.shape)}")
        return (jacobian @ v[..., None])[..., 0]

    return product


def _trace(student: Student, jacobian: Tensor, eps: Tensor, want: Tensor) -> None:
    each = torch.einsum("kni,nij,knj->kn", eps, jacobian, eps)
    moved, d = torch.einsum("nij,knj->kni", jacobian, eps), eps.shape[2]
    mean = eps.mean(0)
    suspects = [
        ("the probes are added up, but each of them estimates the whole trace", each.sum(0)),
        ("the probes are averaged before the product, but their mean says little",
         torch.einsum("ni,nij,nj->n", mean, jacobian, mean)),
        ("the mean is over dimensions, too: a trace is a sum over them", want / d),
        ("J ε has to be compared with ε: its entries alone average to 0", moved.mean(0).sum(1)),
        ("that is the length of J ε: compare J ε with ε", moved.square().sum(2).mean(0)),
        ("that is the length of J ε: compare J ε with ε", moved.norm(dim=2).mean(0)),
        ("the probes are divided by their length: then the estimate is of the mean eigenvalue",
         (each / eps.square().sum(2)).mean(0)),
        ("that is the length of ε: J is missing", eps.square().sum(2).mean(0)),
        ("that is the trace itself, at the price of d products: one product for each probe is to do",
         jacobian.diagonal(dim1=1, dim2=2).sum(1)),
        ("the estimates of different data are mixed: each has a Jacobian of its own", want.mean().expand_as(want)),
        ("the estimates of different data are mixed: each has a Jacobian of its own", want.sum().expand_as(want)),
        ("only the first of the probes is used", each[0]),
        ("the median is not the mean: only the mean has the trace as its expectation", each.median(0).values),
    ]  # fmt: skip
    hint = "for independent ε with mean 0 and variance 1, of which number made of ε and J ε is the trace the expectation?"
    student(jacobian_product=_product(jacobian), eps=eps).should_be(want, hint, suspects)


def with_one_probe(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    jacobian, eps = random.normal(n, d, d), random.normal(1, n, d)
    _trace(student, jacobian, eps, hutchinson(_product(jacobian), eps))


def with_many_probes(student: Student, random: Random) -> None:
    """Normal probes; then d probes at right angles, of length √d, whose mean estimate is the trace itself."""
    k, n, d = random.sizes(3)
    jacobian, eps = random.normal(n, d, d), random.normal(k, n, d)
    _trace(student, jacobian, eps, hutchinson(_product(jacobian), eps))
    eps = d**0.5 * torch.linalg.qr(random.normal(n, d, d)).Q.transpose(0, 1)
    _trace(student, jacobian, eps, jacobian.diagonal(dim1=1, dim2=2).sum(1))
