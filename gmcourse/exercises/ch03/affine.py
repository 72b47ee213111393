"""Affine coupling and its triangular Jacobian, from thesis 2.2.2."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import AffineTransform

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def coupling(x: Tensor, s: Callable[[Tensor], Tensor], t: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """z (n, d) and log|det| (n,): the first d//2 columns of x stay, the rest becomes x₂ eˢ + t; thesis (2.28), (2.29)."""
    first, second = x.tensor_split([x.shape[1] // 2], dim=1)
    affine = AffineTransform(t(first), s(first).exp(), event_dim=1)
    z = affine(second)
    return torch.cat((first, z), 1), affine.log_abs_det_jacobian(second, z)


def _net(name: str, weights: Tensor, low: float, high: float) -> Callable[[Tensor], Tensor]:
    """A smooth map of the first half (..., d//2) to numbers between low and high that minds what it is given."""

    def net(h: Tensor) -> Tensor:
        if h.shape[-1:] != weights.shape[:1]:
            raise ValueError(f"{name} wants the first half of x, (n, {len(weights)}); got shape {tuple(h.shape)}")
        return low + (high - low) * (h @ weights).sigmoid()

    return net


def _coupling(student: Student, random: Random, d: int, *scales: float, **options) -> None:
    (n,), half = random.sizes(1), d // 2
    n += n == d
    x = random.normal(n, d)
    reach = 2 * math.exp(sum(scales) / 2)  # as large as what the scales make of x, so that neither hides the other
    s, t = _net("s", random.normal(half, d - half), *scales), _net("t", random.normal(half, d - half), -reach, reach)
    x1, x2 = x[:, :half], x[:, half:]
    log_scale, shift = s(x1), t(x1)
    scale, total = log_scale.exp(), log_scale.sum(1)
    y2 = x2 * scale + shift

    def joined(second: Tensor) -> Tensor:
        return torch.cat((x1, second), 1)

    of_z = [
        ("s is the logarithm of the scale: a scale is positive whatever the net says", joined(x2 * log_scale + shift)),
        ("that is the inverse: here x goes to z", joined((x2 - shift) / scale)),
        ("the shift is scaled, too: which of the two comes first in the thesis?", joined((x2 + shift) * scale)),
        ("the scale is turned round: what is the sign of s?", joined(x2 / scale + shift)),
        ("the shift is missing: t moves the second half, too", joined(x2 * scale)),
        ("the shift is taken off: what is its sign?", joined(x2 * scale - shift)),
        ("the scale is missing: that is the additive coupling of NICE", joined(x2 + shift)),
        ("z holds the two halves in another order than x", torch.cat((y2, x1), 1)),
        ("x has come back as it was: which half is transformed?", x),
    ]
    if 2 * half == d:
        z1 = x1 * s(x2).exp() + t(x2)
        of_z += [("the first half should stay, and the second be transformed", torch.cat((z1, x2), 1))]
        of_z += [("s and t look at the half that they transform: can that be inverted?", joined(x2 * s(x2).exp() + t(x2)))]
    of_log_det = [
        ("that is the mean of s, but logarithms of a product add up", log_scale.mean(1)),
        ("that is the determinant itself: its logarithm is wanted", scale.prod(1)),
        ("scales are added up: the determinant is their product", scale.sum(1)),
        ("scales are added up: the determinant is their product", scale.sum(1).log()),
        ("what belongs to the inverse? Here x goes to z", -total),
        ("a shift changes no volume: what are the derivatives of z by x₂?", (log_scale + shift).sum(1)),
        ("a shift changes no volume: what are the derivatives of z by x₂?", total + shift.sum(1)),
        ("that is the sum over all data: each has a determinant of its own", total.sum().expand(n)),
        ("is the volume unchanged? Only without a scale", torch.zeros_like(total)),
    ]
    z, log_det = student(x=x, s=s, t=t).parts("z", "log_det")
    want, want_log_det = coupling(x, s, t)
    z.should_be(want, "the first d//2 columns of x stay; what becomes of the others, by the thesis?", of_z)
    hint = "the Jacobian is triangular: which entries stand on its diagonal?"
    log_det.should_be(want_log_det, hint, of_log_det, **options)


def of_even_size(student: Student, random: Random) -> None:
    _coupling(student, random, 6, -1.0, 1.0)


def of_odd_size(student: Student, random: Random) -> None:
    nonfinite = "a product of scales leaves the range of numbers: what is its logarithm without the product?"
    _coupling(student, random, 7, 200.0, 203.0, nonfinite=nonfinite)
