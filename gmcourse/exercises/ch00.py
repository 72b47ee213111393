"""Chapter 0: one exercise, to see how exercises work."""

import math

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from gmcourse.exercises.core import Exercise, Property, Random
from gmcourse.exercises.student import Student


def standard_normal_log_prob(x: Tensor) -> Tensor:
    """log N(x; 0, I) in nats, (n, d) -> (n,)."""
    return Independent(Normal(torch.zeros_like(x), torch.ones_like(x)), 1).log_prob(x)


def _at_the_origin(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    want = torch.full((n,), -0.5 * d * math.log(2 * math.pi), dtype=torch.float64)
    suspects = [
        ("the constant is there once, but each dimension brings its own", want / d),
        ("the constant is missing: does the density integrate to 1?", torch.zeros_like(want)),
        ("the constant has the wrong sign", -want),
        ("look at the factor in front of the logarithm of 2π", 2 * want),
    ]
    student(x=torch.zeros(n, d, dtype=torch.float64)).should_be(want, "at x = 0 only the constant is left", suspects)


def _away_from_it(student: Student, random: Random) -> None:
    x = random.normal(*random.sizes(2))
    want, square = standard_normal_log_prob(x), x.square().sum(1)
    suspects = [
        ("the square of the norm lacks its factor", want - square / 2),
        ("the density should fall with the distance from 0", want + square),
        ("the norm itself is taken, not its square", want + square / 2 - square.sqrt() / 2),
        ("that is a mean over the dimensions, but logs of independent densities add up", want / x.shape[1]),
    ]
    student(x=x).should_be(want, "how does the logarithm of a Gaussian fall with the distance from 0?", suspects)


EXERCISES = (
    Exercise(
        "start.standard_normal_log_prob",
        standard_normal_log_prob,
        (Property(1, _at_the_origin), Property(1, _away_from_it)),
    ),
)
