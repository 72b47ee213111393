"""The inverse of one bin of a rational-quadratic spline (Durkan et al. 2019, eqs 4 to 8)."""

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

INSIDE = "the root of a negative number is taken, or something divided by 0: check the three coefficients and their signs"
ENDS = "at the ends of a bin something is divided by 0: which form of the root is safe at y = y_k?"


def spline_inverse(y: Tensor, xk: Tensor, xk1: Tensor, yk: Tensor, yk1: Tensor, dk: Tensor, dk1: Tensor) -> Tensor:
    """The x in the bin from (x_k, y_k) to (x_k+1, y_k+1), slopes d_k and d_k+1 at its ends, that is mapped to y; all (n,).

    By bisection of the rising map ξ -> (y − y_k)/h, to the last digit.
    """
    low, high = torch.zeros_like(y), torch.ones_like(y)
    for _ in range(80):
        middle = (low + high) / 2
        below = _height(middle, (yk1 - yk) / (xk1 - xk), dk, dk1) < (y - yk) / (yk1 - yk)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return xk + (xk1 - xk) * (low + high) / 2


def _height(xi: Tensor, s: Tensor, dk: Tensor, dk1: Tensor) -> Tensor:
    """(y − y_k)/h at ξ = (x − x_k)/w, eq. (4)."""
    bump = xi * (1 - xi)
    return (s * xi**2 + dk * bump) / (s + (dk + dk1 - 2 * s) * bump)


def _roots(eta: Tensor, s: Tensor, dk: Tensor, dk1: Tensor) -> tuple[Tensor, Tensor]:
    """Both roots of the quadratic in ξ at height η, by the two forms of its solution that are not stable in general."""
    a, b, c = s - dk + eta * (dk + dk1 - 2 * s), dk - eta * (dk + dk1 - 2 * s), -s * eta
    root = (b**2 - 4 * a * c).clamp(min=0).sqrt()
    return 2 * c / (-b - root), 2 * c / (-b + root)


def _inverse(student: Student, inputs: dict[str, Tensor], nonfinite: str) -> None:
    y, xk, xk1, yk, yk1, dk, dk1 = inputs.values()
    want, w, h = spline_inverse(**inputs), xk1 - xk, yk1 - yk
    s, eta = h / w, (y - yk) / h
    xi = (want - xk) / w
    back = _height((y - xk) / w, s, dk, dk1)
    suspects = [
        ("that is ξ, the share of the bin that is passed: x is wanted", xi),
        ("ξ is a share of the bin: where does the bin begin?", w * xi),
        ("ξ is a share of the bin: how wide is the bin?", xk + xi),
        ("that places ξ in the bin of the y: x is wanted", yk + h * xi),
        ("that is a straight line between the ends: where do the slopes come in?", xk + w * eta),
        ("the two slopes are swapped: the first is that of the left end", spline_inverse(y, xk, xk1, yk, yk1, dk1, dk)),
        ("that is the other root: which lies between 0 and 1?", xk + w * _roots(eta, s, dk, dk1)[1]),
        ("the mean slope is turned round: is it height over width?", xk + w * _roots(eta, 1 / s, dk, dk1)[0]),
        ("look at the heights: y counts from the foot of the bin", xk + w * _roots(y / h, s, dk, dk1)[0]),
        ("is y − y_k measured by the height of its bin in each coefficient?", xk + w * _roots(y - yk, s, dk, dk1)[0]),
        ("that is the spline itself, taken at y: its inverse is wanted", yk + h * back),
    ]
    hint = "with ξ in [0, 1] eq. (4) becomes a quadratic in ξ: check its three coefficients, one at a time"
    student(**inputs).should_be(want, hint, suspects, nonfinite)


def _bin(random: Random, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left ends x_k, widths and feet y_k of n bins, in eighths so that float64 holds them to the last digit."""
    return tuple(v.round() / 8 for v in (8 * random.normal(n), random.uniform(1, 20, n), 8 * random.normal(n)))


def of_bent_bins(student: Student, random: Random) -> None:
    """Inside of the bins, then at both ends of two of them."""
    inside = random.uniform(0, 1, *random.sizes(1))
    for eta, nonfinite in ((inside, INSIDE), (torch.tensor([0.0, 1.0], dtype=torch.float64), ENDS)):
        n = len(eta)
        xk, w, yk = _bin(random, n)
        h, dk, dk1 = random.uniform(0.3, 2, n), random.uniform(-1.5, 1.5, n).exp(), random.uniform(-1.5, 1.5, n).exp()
        inputs = {"y": yk + h * eta, "xk": xk, "xk1": xk + w, "yk": yk, "yk1": yk + h, "dk": dk, "dk1": dk1}
        _inverse(student, inputs, nonfinite)


def of_straight_bins(student: Student, random: Random) -> None:
    """All slopes equal, exactly and then but for 1e-12 of them: the coefficient of ξ² is 0, or nearly."""
    for bend in (0.0, 1e-12):
        (n,) = random.sizes(1)
        xk, w, yk = _bin(random, n)
        s = 2.0 ** random.uniform(-2, 3, n).floor()
        dk, dk1 = s * (1 + bend * random.normal(n)), s * (1 + bend * random.normal(n))
        y = yk + s * w * random.uniform(0, 1, n)
        inputs = {"y": y, "xk": xk, "xk1": xk + w, "yk": yk, "yk1": yk + s * w, "dk": dk, "dk1": dk1}
        hint = "in an almost straight bin the coefficient of ξ² is almost 0: which form of the root does not divide by it?"
        nonfinite = "in a straight bin the coefficient of ξ² is 0: which form of the root does not divide by it?"
        student(**inputs).should_be(spline_inverse(**inputs), hint, nonfinite=nonfinite)
