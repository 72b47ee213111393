"""The one tilt that can be written down: a Gaussian base under a quadratic energy."""

import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

SINGULAR = "C is singular here, as a generator's is: some directions have no spread at all. Can it be had without 1/C?"


def gaussian(covariance: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """log Z in nats, a number, and the covariance (d, d) of N(0, C) e^{−E}/Z, E(x) = λ/2 ‖x‖²; thesis (4.4).

    e^{−E} is (2π/λ)^{d/2} N(0; x, I/λ), so that Z is a density of the sum of two Gaussians, at 0. C may be singular.
    """
    d = len(covariance)
    both = covariance + torch.eye(d, dtype=covariance.dtype) / strength
    density = MultivariateNormal(covariance.new_zeros(d), both).log_prob(covariance.new_zeros(d))
    return density + d / 2 * math.log(2 * math.pi / strength), covariance - covariance @ both.inverse() @ covariance


def _covariance(random: Random, d: int, rank: int) -> Tensor:
    """C = WWᵀ, W (d, rank); with rank < d the last coordinate never moves, so that C is singular to the last bit."""
    w = random.normal(d, rank) / math.sqrt(rank) * random.uniform(0.5, 1.5, d)[:, None]
    if rank < d:
        w[-1] = 0
    return w @ w.mT


def its_normaliser(student: Student, random: Random) -> None:
    """In some dimensions, and in 120, where a determinant is too large for a float."""
    (d,) = random.sizes(1)
    for size, strength in ((d, float(random.uniform(0.5, 3))), (120, 1e6)):
        c, one = _covariance(random, size, 2 * size), torch.eye(size, dtype=torch.float64)
        want, _ = gaussian(c, strength)
        spread = torch.linalg.slogdet(one + strength * c).logabsdet
        own, precision = (torch.linalg.slogdet(a).logabsdet for a in (c, c.inverse() + strength * one))
        suspects = [
            ("the sign: E is never negative, so is Z above 1 or below?", spread / 2),
            ("the half is missing: how many powers of the determinant has a Gaussian's normaliser?", -spread),
            ("the half is missing, and the sign: E is never negative, so is Z above 1 or below?", spread),
            ("that is minus the mean energy: which comes first in log Z, the mean or the logarithm?",
             -strength / 2 * c.trace()),
            ("that is the mean energy: log Z is minus the logarithm of a mean of another thing", strength / 2 * c.trace()),
            ("C's own normaliser is forgotten: at strength 0 nothing is tilted, and log Z is 0", -precision / 2),
            ("what is left at strength 0? Then nothing is tilted, and log Z is 0",
             -torch.linalg.slogdet(c + strength * one).logabsdet / 2),
            ("that is the base's determinant alone: the tilt is missing", -own / 2),
            ("that is the base's determinant alone: the tilt is missing", own / 2),
            ("the constants 2π are there twice, or once too often: base and tilted law have the same ones",
             -spread / 2 + size / 2 * math.log(2 * math.pi)),
            ("the constants 2π are there twice, or once too often: base and tilted law have the same ones",
             -spread / 2 - size / 2 * math.log(2 * math.pi)),
            ("only the diagonal of C is used: its coordinates are not independent",
             -torch.log1p(strength * c.diagonal()).sum() / 2),
            ("λ is halved twice: E's half is the Gaussian's", -torch.linalg.slogdet(one + strength / 2 * c).logabsdet / 2),
            ("λ is doubled: E has a half, as a Gaussian's exponent has",
             -torch.linalg.slogdet(one + 2 * strength * c).logabsdet / 2),
            ("λ divides: is more of it a stronger tilt, or a weaker one?",
             -torch.linalg.slogdet(one + c / strength).logabsdet / 2),
            ("λ goes to every entry of the matrix: the energy's curvature is a multiple of which matrix?",
             -torch.linalg.slogdet(1 + strength * c).logabsdet / 2),
            ("that is Z itself: its logarithm is wanted", (-spread / 2).exp()),
            ("that is in bits: nats are wanted", -spread / (2 * math.log(2))),
            ("that is a mean over the dimensions: log Z is of them all", -spread / (2 * size)),
        ]  # fmt: skip
        log_z, _ = student(covariance=c, strength=strength).parts("log Z", "covariance")
        hint = "Z is an integral over a Gaussian and a Gaussian's shape: which determinant does completing the square leave?"
        nonfinite = "inf or nan: a large matrix's determinant is no float. Can its logarithm be had without it?"
        log_z.should_be(want, hint, suspects, nonfinite)


def its_covariance(student: Student, random: Random) -> None:
    """C of full rank, then C of a generator that has less noise than pixels, one of them black in all pictures."""
    d, strength = random.sizes(1)[0], float(random.uniform(0.5, 3))
    for rank in (2 * d, d - 2):
        c, one = _covariance(random, d, rank), torch.eye(d, dtype=torch.float64)
        _, want = gaussian(c, strength)
        more = torch.linalg.inv(one + strength * c)
        suspects = [
            ("that is the base's: the tilt is missing", c),
            ("the tilt adds to the precision, not to the covariance: is the tilted law wider, or narrower?",
             c + strength * one),
            ("the tilt adds to the precision, not to the covariance: is the tilted law wider, or narrower?",
             c + one / strength),
            ("one C is missing: at strength 0 it is to be C", more),
            ("that is the inverse of a sum of covariances: precisions add up", torch.linalg.inv(c + strength * one)),
            ("that is the inverse of a sum of covariances: precisions add up", torch.linalg.inv(c + one / strength)),
            ("every entry is divided: only in one dimension is that the tilted variance", c / (1 + strength)),
            ("every entry is divided by its own: is that a matrix's inverse?", c / (1 + strength * c)),
            ("λ is halved: E has a half, as a Gaussian's exponent has", torch.linalg.inv(one + strength / 2 * c) @ c),
            ("λ is doubled: E has a half, as a Gaussian's exponent has", torch.linalg.inv(one + 2 * strength * c) @ c),
            ("λ divides: is more of it a stronger tilt, or a weaker one?", torch.linalg.inv(one + c / strength) @ c),
            ("λ goes to every entry of the matrix: the energy's curvature is a multiple of which matrix?",
             torch.linalg.solve(one + strength * c @ torch.ones_like(c), c)),
            ("only the diagonal is left: the tilt does not make coordinates independent", want.diagonal().diag()),
            ("that is the tilted law's variances: all of its covariance is wanted", want.diagonal()),
            ("in directions without any spread the pseudo-inverse leaves a variance: no tilt can put mass there",
             torch.linalg.inv(torch.linalg.pinv(c) + strength * one)),
        ]  # fmt: skip
        if rank >= d:
            inverse = c.inverse()
            suspects += [
                ("that is the precision: its inverse is wanted", inverse + strength * one),
                ("the tilt has the wrong sign: is the tilted law wider, or narrower?",
                 torch.linalg.inv(inverse - strength * one)),
            ]  # fmt: skip
        _, found = student(covariance=c, strength=strength).parts("log Z", "covariance")
        hint = "two exponents add up, the base's and the energy's: which precision has their sum?"
        found.should_be(want, hint if rank >= d else SINGULAR, suspects, SINGULAR)
