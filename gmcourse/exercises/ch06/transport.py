"""What it costs to carry one sample over to another on the line, thesis (2.80)."""

import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def wasserstein_line(x: Tensor, y: Tensor) -> Tensor:
    """W₁ of two equally large samples (n,) of the line, in units of x; thesis (2.80)."""
    return torch.tensor(wasserstein_distance(x.numpy(), y.numpy()), dtype=x.dtype)


def _distance(student: Student, x: Tensor, y: Tensor) -> None:
    want, ranked_x, ranked_y = wasserstein_line(x, y), x.sort().values, y.sort().values
    steps, pairs = (ranked_x - ranked_y).abs(), (x[:, None] - y).abs()
    suspects = [
        ("points are paired by their places in the list: is there no cheaper way to carry them?", (x - y).abs().mean()),
        ("one of both is in order, the other as it came", (ranked_x - y).abs().mean()),
        ("one of both is in order, the other as it came", (x - ranked_y).abs().mean()),
        ("that is the dearest plan: the two run in opposite order", (ranked_x - ranked_y.flip(0)).abs().mean()),
        ("squared distances: the cost of W₁ is the way itself", steps.square().mean()),
        ("that is W₂: the cost of W₁ is the way itself", steps.square().mean().sqrt()),
        ("that is a sum: each point carries 1/n of the mass", steps.sum()),
        ("ways to the left and to the right cancel: a way is never negative", x.mean() - y.mean()),
        ("ways to the left and to the right cancel: a way is never negative", y.mean() - x.mean()),
        ("that is how far the means are apart: two samples with the same mean may differ", (x.mean() - y.mean()).abs()),
        ("that is the longest way only", steps.max()),
        ("that is the middle way, not their mean", steps.median()),
        ("every x is sent to every y: the infimum has one plan, the cheapest", pairs.mean()),
        ("every point goes to its nearest: then some y get too much and others nothing", pairs.amin(1).mean()),
        ("every point goes to its nearest: then some y get too much and others nothing", pairs.amin(0).mean()),
        ("a half is there that (2.80) has not", want / 2),
    ]
    hint = "each x carries 1/n to one y: on the line, can it be cheaper if two ways cross?"
    student(x=x, y=y).should_be(want, hint, suspects)


def in_order(student: Student, random: Random) -> None:
    """Samples that come sorted; y is wider than x, so that ways lead both left and right."""
    x, y = random.normal(9), 0.3 + 2.5 * random.normal(9)
    _distance(student, x.sort().values, y.sort().values)


def in_disorder(student: Student, random: Random) -> None:
    """Any order; then a sample that is carried over to itself, moved by a constant."""
    (n,) = random.sizes(1)
    x, y = random.normal(n), 0.3 + 2.5 * random.normal(n)
    _distance(student, x, y)
    _distance(student, x, x.roll(1) + random.uniform(0.1, 0.3))
