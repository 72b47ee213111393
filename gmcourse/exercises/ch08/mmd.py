"""How far the codes are from the prior, in a number that gradients can make small: WAE-MMD's, thesis 3.2."""

from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.exercises.ch08.flow import gradients
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Kernel = Callable[[Tensor], Tensor]


def mmd(codes: Tensor, draws: Tensor) -> Tensor:
    """MMD² without bias of codes (n, d) and draws (m, d) of the prior, a number, kernel C/(C + ‖a − b‖²) with C = 2d."""

    def kernel(squares: Tensor) -> Tensor:
        return 1 / (1 + squares / (2 * codes.shape[1]))

    cross = (codes[:, None] - draws).square().sum(2)
    return kernel(_pairs(codes)).mean() + kernel(_pairs(draws)).mean() - 2 * kernel(cross).mean()


def _pairs(z: Tensor) -> Tensor:
    """‖a − b‖² of each pair of different points once, (n (n − 1)/2,)."""
    i, j = torch.triu_indices(len(z), len(z), 1)
    return (z[i] - z[j]).square().sum(1)


def _multiquadric(c: float, top: float | None = None) -> Kernel:
    """The kernel of differences (…, d), with another C or another numerator."""
    return lambda a: (c if top is None else top) / (c + a.square().sum(-1))


def _estimate(codes: Tensor, draws: Tensor, kernel: Kernel, cross: float = 2.0) -> Tensor:
    """MMD² with another kernel of the differences, or another factor of the cross term."""

    def within(z: Tensor) -> Tensor:
        k = kernel(z[:, None] - z)
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    return within(codes) + within(draws) - cross * kernel(codes[:, None] - draws).mean()


def _mmd(student: Student, codes: Tensor, draws: Tensor) -> None:
    (n, d), m = codes.shape, len(draws)
    want, kernel = mmd(codes, draws), _multiquadric(2 * d)

    def value(kernel: Kernel = kernel, cross: float = 2.0) -> Tensor:
        return _estimate(codes, draws, kernel, cross)

    between = kernel(codes[:, None] - draws).mean()
    of_codes, of_draws = kernel(codes[:, None] - codes), kernel(draws[:, None] - draws)
    no_diagonal = of_codes.mean() - 1 / n + of_draws.mean() - 1 / m
    wide, tail = "C grows with the dimension: how far are two draws of N(0, I) apart, squared?", "has heavier tails"
    size = "the dimension of a code decides C: is that a number of rows or of columns?"
    suspects = [
        ("that is the biased estimate: a point's kernel with itself says nothing",
         of_codes.mean() + of_draws.mean() - 2 * between),
        ("how many pairs of different points are there?", no_diagonal - 2 * between),
        (wide, value(_multiquadric(2))),
        (wide, value(_multiquadric(1))),
        ("C is larger: in each dimension two draws of N(0, 1) differ by twice a variance", value(_multiquadric(d))),
        (size, value(_multiquadric(2 * n))),
        (size, value(_multiquadric(2 * m))),
        ("too wide by a factor d: do the squares add up over the dimensions, and does d enter C as it is?",
         value(_multiquadric(2 * d**2))),
        ("the kernel of a point with itself is 1: what stands in the numerator?", value(_multiquadric(2 * d, 1))),
        ("how often does the cross term count? The square of a difference has it twice", value(cross=1)),
        ("what is the sign of the cross term in the square of a difference?", value(cross=-2)),
        ("the cross term is missing: it alone compares codes with draws", value(cross=0)),
        ("only the cross term is there: MMD² compares it with what is found within", -2 * between),
        ("the distance in the kernel is not squared", value(lambda a: 2 * d / (2 * d + a.norm(dim=-1)))),
        ("the distance in the kernel is squared twice", value(lambda a: 2 * d / (2 * d + a.square().sum(-1).square()))),
        ("the squared Euclidean distance is wanted, not absolute differences",
         value(lambda a: 2 * d / (2 * d + a.abs().sum(-1)))),
        (f"that is a Gaussian kernel: the one asked for {tail}", value(lambda a: torch.exp(-a.square().sum(-1) / (4 * d)))),
        (f"that is a Gaussian kernel: the one asked for {tail}", value(lambda a: torch.exp(-a.square().sum(-1) / 2))),
        ("an estimate without bias may be negative: is something cut off?", want.clamp(min=0)),
        ("an estimate without bias may be negative: is the sign taken away?", want.abs()),
        ("there are as many pairs in both orders, and a mean over either is the mean of all",
         (of_codes.sum() - n) / (2 * n * (n - 1)) + (of_draws.sum() - m) / (2 * m * (m - 1)) - 2 * between),
        ("that is its root: MMD² is wanted, and its estimate may be negative", want.clamp(min=0).sqrt()),
    ]  # fmt: skip
    hint = "the mean kernel within the codes, within the draws, and between them; within, only pairs of different points"
    student(codes=codes, draws=draws).should_be(want, hint, suspects)


def of_clouds(student: Student, random: Random) -> None:
    """Clouds that overlap, then a cloud and most of itself, where the estimate is negative."""
    m, n, d = sorted(random.sizes(3), reverse=True)
    draws = random.normal(m, d)
    for codes in (0.8 + 1.5 * random.normal(n, d), draws[:n] + 0.01 * random.normal(n, d)):
        _mmd(student, codes, draws)


def codes_learn(student: Student, random: Random) -> None:
    """The gradient for the codes, on which the encoder's hangs."""
    n, m, d = random.sizes(3)
    codes, draws = (0.8 + 1.5 * random.normal(n, d)).requires_grad_(), random.normal(m, d)
    (want,) = torch.autograd.grad(mmd(codes, draws), codes)
    (of_cross,) = torch.autograd.grad(-2 * _multiquadric(2 * d)(codes[:, None] - draws).mean(), codes)
    (answer,) = gradients(student, (), {"the codes": codes}, {"codes": codes, "draws": draws})
    suspects = [
        ("the codes are drawn to the draws, but do not push each other away", of_cross),
        ("the codes push each other away, but are not drawn to the draws", want - of_cross),
    ]
    hint = "that of MMD² is another: is part of the way to the codes cut off, or is the value wrong?"
    nonfinite = "inf or nan: how steep is a root where a point meets itself? The kernel wants no root"
    answer.should_be(want, hint, suspects, nonfinite)
