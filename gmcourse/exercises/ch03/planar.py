"""Planar flows and the constraint that keeps them invertible, from the slides (7), (8)."""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def planar(x: Tensor, w: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """z = x + û tanh(wᵀx + b) (n, d) and log|det| (n,); slides (7), (8), Rezende & Mohamed 2015.

    û = u + (m(wᵀu) − wᵀu) w/‖w‖² with m(a) = −1 + log(1 + eᵃ), so that wᵀû > −1.
    """
    u_hat = _bent(w, u, softplus(w @ u) - 1)

    def push(x: Tensor) -> Tensor:
        return x + torch.outer(torch.tanh(x @ w + b), u_hat)

    jacobians = torch.autograd.functional.jacobian(lambda x: push(x).sum(0), x).transpose(0, 1)
    return push(x), torch.linalg.slogdet(jacobians).logabsdet


def _bent(w: Tensor, u: Tensor, product: Tensor) -> Tensor:
    """u, changed along w so that its product with w is the given one."""
    return u + (product - w @ u) * torch.linalg.pinv(w[:, None])[0]


def _planar(x: Tensor, w: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """z and log|det| for a u that is taken as it is."""
    h = torch.tanh(x @ w + b)
    return x + u * h[:, None], (1 + (w @ u) * (1 - h.square())).abs().log()


def _plane(random: Random, product: float) -> dict[str, Tensor]:
    """Points, w, b and a u with wᵀu as given."""
    n, d = random.sizes(2)
    x, w, b = random.normal(n, d), random.normal(d) / d**0.5, random.normal().squeeze()
    return {"x": x, "w": w, "u": _bent(w, random.normal(d), torch.tensor(product, dtype=x.dtype)), "b": b}


def _wrong_bends(w: Tensor, u: Tensor) -> list[tuple[str, Tensor]]:
    """Hints, and the û that those make who need them."""
    a, allowed, length = w @ u, softplus(w @ u) - 1, w.square().sum()
    return [
        ("û has come out as u, but m changes wᵀu almost everywhere, even if not by much", u),
        ("m lacks its −1: where does m(a) go for a → −∞?", u + (allowed + 1 - a) * w / length),
        ("w is divided by its length, not by the square of it", u + (allowed - a) * w / length.sqrt()),
        ("w is not divided by the square of its length", u + (allowed - a) * w),
        ("the correction goes along w, not along u", u + (allowed - a) * u / length),
        ("the correction goes along w, not along u", u + (allowed - a) * u / u.square().sum()),
        ("the correction is m(wᵀu) less wᵀu: the second is missing", u + allowed * w / length),
        ("the correction is what is left of û without u", (allowed - a) * w / length),
        ("the sign of the correction: wᵀû should come out as m(wᵀu)", u - (allowed - a) * w / length),
    ]


def unbent(student: Student, random: Random) -> None:
    """At wᵀu = −log(e − 1) m leaves it where it is, so û = u."""
    inputs = _plane(random, -math.log(math.e - 1))
    x, w, u, b = inputs.values()
    h, product = torch.tanh(x @ w + b), w @ u
    slope = 1 - h.square()
    of_z = [
        ("b is missing: the plane wᵀx + b = 0 need not go through the origin", _planar(x, w, u, 0 * b)[0]),
        ("u and w are swapped: which of them says along which direction points move?", _planar(x, u, w, b)[0]),
        ("x is missing: that is only the step that is added to it", u * h[:, None]),
        ("the tanh is missing: a plane is pushed by a bounded amount", x + u * (x @ w + b)[:, None]),
        ("the step has tanh, its slope belongs to the determinant", x + u * slope[:, None]),
        ("the step should be added, not taken off", x - u * h[:, None]),
    ]
    of_z += [(special, _planar(x, w, other, b)[0]) for special, other in _wrong_bends(w, u)]
    det = 1 + product * slope
    of_log_det = [
        ("the slope of the tanh is 1 less its square", (1 + product * (1 - h)).abs().log()),
        ("the determinant has the slope of the tanh, not the tanh", (1 + product * h).abs().log()),
        ("the slope of the tanh is missing", (1 + product).log().expand(len(x))),
        ("the slope of the tanh is 1 less its square", (1 + product * h.square()).abs().log()),
        ("that is the determinant itself: its logarithm is wanted", det),
        ("x stays in z with a derivative of its own: the 1 is missing", (product * slope).abs().log()),
        ("that is the inverse's: here x goes to z", -det.log()),
        ("that is the sum over all data: each has a determinant of its own", det.log().sum().expand(len(x))),
        ("a scalar product is wanted of w and u", (1 + u.square().sum() * slope).log()),
        ("a scalar product is wanted of w and u", (1 + w.square().sum() * slope).log()),
        ("is the sign in front of the product right?", (1 - product * slope).abs().log()),
    ]
    nonfinite = "the logarithm is taken of a number that is not positive: how small can 1 + wᵀû h′ be?"
    _answers(student, inputs, of_z, of_log_det, nonfinite)


def bent(student: Student, random: Random) -> None:
    """A moderate wᵀu, one that would fold the plane, and one at which eᵃ is too large a number."""
    for product in (0.7, -30.0, 800.0):
        inputs = _plane(random, product)
        x, w, u, b = inputs.values()
        of_z = [(special, _planar(x, w, other, b)[0]) for special, other in _wrong_bends(w, u)]
        of_log_det = [("the determinant is that of u, but û made z", _planar(x, w, u, b)[1])]
        of_log_det += [(special, _planar(x, w, other, b)[1]) for special, other in _wrong_bends(w, u)]
        large = "eᵃ leaves the range of numbers: how can log(1 + eᵃ) be had for a large a?"
        small = "the logarithm is taken of a number that is not positive: how small can 1 + wᵀû h′ be?"
        _answers(student, inputs, of_z, of_log_det, large if product > 100 else small)


def _answers(student: Student, inputs: dict, of_z: list, of_log_det: list, nonfinite: str) -> None:
    z, log_det = student(**inputs).parts("z", "log_det")
    want, want_log_det = planar(**inputs)
    z.should_be(want, "x moves along û, by the tanh of wᵀx + b; and û is u with its part along w replaced", of_z, nonfinite)
    hint = "the Jacobian is I plus a matrix of rank one: what is its determinant, and with which vector?"
    log_det.should_be(want_log_det, hint, of_log_det, nonfinite)
