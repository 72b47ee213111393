"""One round of the power iteration behind spectral normalisation, slides (20)–(22) of the GAN section."""

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def power_iteration(w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """σ, a number, and the new u (out,) of length 1, from W (out, in) and any u (out,); slides (20)–(22).

    By the matrix WWᵀ, whose root of the largest eigenvalue σ tends to.
    """
    gram = w @ w.mT
    there = gram @ u
    return torch.linalg.vector_norm(there) / (u @ there).sqrt(), _unit(there)


def _unit(x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x)


def _round(student: Student, w: Tensor, u: Tensor) -> None:
    sigma, after = power_iteration(w, u)
    left, values, _ = torch.linalg.svd(w)
    back = w.mT @ u
    v = _unit(back)
    of_sigma = [
        ("σ is squared: what is the norm of W itself?", sigma.square()),
        ("the root is taken once too often", sigma.sqrt()),
        ("σ is found with the old u: (22) comes after both updates", _unit(u) @ w @ v),
        ("σ is found with the old u, which has not even length 1: (22) comes after both updates", u @ w @ v),
        ("v does not have length 1", after @ w @ back),
        ("that is the largest singular value itself: one round only comes near", values[0]),
        ("that is Frobenius' norm, which counts all singular values", w.norm()),
        ("that is the least singular value", values[-1]),
        ("neither u nor v has length 1", (w @ back) @ w @ back),
        ("u does not have length 1", (w @ v) @ w @ v),
        ("one round is wanted: those are two", power_iteration(w, after)[0]),
    ]
    of_u = [
        ("its length is not 1: (21) divides by it", w @ v),
        ("its length is not 1, and v's was not: (20) and (21) divide by it", w @ back),
        ("it has been divided by its squared length", after / sigma),
        ("u has come back as it was", u),
        ("u has only been made as long as 1", _unit(u)),
        ("the sign is turned round: W and Wᵀ together turn nothing", -after),
        ("that is the singular vector itself: one round only comes near", left[:, 0]),
        ("that is the singular vector itself: one round only comes near", -left[:, 0]),
        ("one round is wanted: those are two", power_iteration(w, after)[1]),
    ]
    if w.shape[0] == w.shape[1]:
        wrong_way = "W and Wᵀ are swapped: u has as many numbers as W has outputs"
        of_sigma.append((wrong_way, power_iteration(w.mT, u)[0]))
        of_u += [
            ("that is v, which has as many numbers as W has inputs", v),
            (wrong_way, power_iteration(w.mT, u)[1]),
            (wrong_way, _unit(w @ w @ u)),
        ]
    answers = student(w=w, u=u).parts("sigma", "u")
    answers[1].should_be(after, "(20) leads from u to v, (21) from v to the new u, each of length 1", of_u)
    answers[0].should_be(sigma, "how far does W stretch v, seen along the new u?", of_sigma)


def from_any_vector(student: Student, random: Random) -> None:
    """Square, where W for Wᵀ would show in no shape."""
    (n,) = random.sizes(1)
    _round(student, random.normal(n, n), random.normal(n))


def at_the_singular_vector(student: Student, random: Random) -> None:
    """u points along the first left singular vector: there it stays, and σ is the norm of W. Its length is not 1."""
    out, into = random.sizes(2)
    w = random.normal(out, into)
    _round(student, w, 2.5 * torch.linalg.svd(w).U[:, 0])
