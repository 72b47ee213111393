"""Energies that add, from thesis 2.3.1: a product of Gaussian experts, and the free energy of an RBM."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def product_of_experts(mu: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), standard deviation (d,) and log Z of Π_k N(x; μ_k, σ_k²), from μ and σ (k, d); thesis 2.3.1.

    Two at a time: N(x; a, s²) N(x; b, t²) = N(a; b, s² + t²) N(x; m, r²), which is normalised in x but for the first factor.
    """
    mean, width, log_z = mu[0], sigma[0], torch.zeros((), dtype=mu.dtype)
    for b, t in zip(mu[1:], sigma[1:], strict=True):
        both = torch.hypot(width, t)
        log_z = log_z + Normal(b, both).log_prob(mean).sum()
        mean, width = torch.lerp(mean, b, (width / both).square()), width * t / both
    return mean, width, log_z


def _product(student: Student, mu: Tensor, sigma: Tensor, **options) -> None:
    mean, width, log_z = product_of_experts(mu, sigma)
    k, d = mu.shape
    precision = sigma.square().reciprocal()
    constants = (-sigma.log() - math.log(2 * math.pi) / 2).sum()
    spread = -(precision * (mu - mean).square()).sum() / 2
    of_mean = [
        ("the experts are averaged as if all were equally sure: whom should a narrow one listen to?", mu.mean(0)),
        ("weights are the inverse widths: how do they enter the exponent?", (mu / sigma).sum(0) / (1 / sigma).sum(0)),
        ("the wide experts have the larger say: should they?", (mu * sigma.square()).sum(0) / sigma.square().sum(0)),
        ("the weights don't sum to 1", (mu * precision).sum(0)),
        ("the means are added: that is the mean of a sum, not of a product of densities", mu.sum(0)),
    ]
    of_width = [
        ("that is the variance: the standard deviation is wanted", width.square()),
        ("that is the precision: the standard deviation is wanted", precision.sum(0)),
        ("that is a mixture's idea: can a product be as wide as its experts are on average?", sigma.square().mean(0).sqrt()),
        ("variances are added: that is a sum of random numbers, not a product of densities", sigma.square().sum(0).sqrt()),
        ("the precisions are averaged, but experts who agree are surer together", precision.mean(0).rsqrt()),
        ("it is the inverse squares of the widths that add up", (1 / sigma).sum(0).reciprocal()),
        ("that is the root of the precision: how do they hang together?", precision.sum(0).sqrt()),
    ]
    of_log_z = [
        ("that is Z itself: its logarithm is wanted", log_z.exp()),
        ("the experts' own constants are missing: each of them is a normalised density", log_z - constants),
        ("the product's own width is missing: what is the integral of its exponential?", constants + spread),
        ("what the experts disagree on is missing: where they are far apart Z is small", log_z - spread),
        ("each dimension has its own factor of √(2π)", log_z + (1 - d) * math.log(2 * math.pi) / 2),
        ("each dimension has its own factor of √(2π)", log_z - d * math.log(2 * math.pi) / 2),
        ("Z is the integral, not what one has to multiply by", -log_z),
        ("a mean over the dimensions, but their integrals multiply", log_z / d),
        ("normalised experts make no normalised product", torch.zeros_like(log_z)),
    ]
    parts = student(mu=mu, sigma=sigma).parts("mean", "standard deviation", "log_z")
    parts[0].should_be(mean, "add up the exponents of the experts: where is the vertex of the parabola?", of_mean)
    parts[1].should_be(width, "add up the exponents of the experts: which is the coefficient of the square of x?", of_width)
    hint = "the integral of the product of normalised Gaussians: constants, the product's width, and how far apart they are"
    parts[2].should_be(log_z, hint, of_log_z, **options)


def of_two_experts(student: Student, random: Random) -> None:
    (d,) = random.sizes(1)
    _product(student, random.normal(2, d), random.uniform(0.5, 2, 2, d))


def of_many_experts(student: Student, random: Random) -> None:
    """Some of them hundreds of widths apart, where the product vanishes in exp."""
    k, d = random.sizes(2)
    nonfinite = "the product vanishes in exp where experts are far apart: can Z be had in logarithms all the way?"
    _product(student, 20 * random.normal(k, d), random.uniform(0.1, 2, k, d), nonfinite=nonfinite)


def free_energy(x: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """F(x) = −log Σ_z exp(xᵀWz + bᵀx + cᵀz), (n,), state by state, from x (n, d), W (d, m), b, c; thesis (2.35)."""
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=x.dtype)] * len(c)).reshape(-1, len(c))
    return -((x @ W + c) @ states.T + (x @ b)[:, None]).logsumexp(1)


def _free(student: Student, random: Random, scale: float, **options) -> None:
    n, d, m = random.sizes(3)
    x = random.uniform(0, 1, n, d).round()
    W, b, c = scale * random.normal(d, m), scale * random.normal(d), scale * random.normal(m)
    want, a = free_energy(x, W, b, c), x @ W + c
    hidden, visible = torch.nn.functional.softplus(a), x @ b
    suspects = [
        ("the more probable x, the lower its free energy: look at the sign", -want),
        ("b is missing: what is F without any hidden units?", -hidden.sum(1)),
        ("the hidden units are missing: that is only what b does", -visible),
        ("c is missing: what do hidden units do where x is 0?", -visible - torch.nn.functional.softplus(x @ W).sum(1)),
        ("b enters with the wrong sign", visible - hidden.sum(1)),
        ("the hidden units enter with the wrong sign: does a unit that can choose raise F?", -visible + hidden.sum(1)),
        ("hidden units are averaged, but independent experts add up", -visible - hidden.mean(1)),
        ("that is the energy with every hidden unit on, not with all its states summed up", -visible - a.sum(1)),
        ("that is the energy of the best hidden state, not the sum over all", -visible - a.clamp(min=0).sum(1)),
        ("that is the energy at the mean of the hidden units: their entropy is missing",
         -visible - (a * a.sigmoid()).sum(1)),
        ("that is the probability of each hidden unit, not the sum over its two states", -visible - a.sigmoid().sum(1)),
        ("the state in which a unit is off is missing: what does it weigh?", -visible - a.sum(1)),
        ("where is the logarithm? The experts are factors of p", -visible - (1 + a.exp()).sum(1)),
        ("is that log Σ of the units, instead of Σ of logs?", -visible - (1 + a.exp().sum(1)).log()),
    ]  # fmt: skip
    hint = "a hidden unit is on or off: sum the two over, unit by unit, and take the logarithm"
    student(x=x, W=W, b=b, c=c).should_be(want, hint, suspects, **options)


def of_small_weights(student: Student, random: Random) -> None:
    _free(student, random, 0.7)


def of_large_weights(student: Student, random: Random) -> None:
    nonfinite = "numbers overflow in exp: what is log(1 + eᵃ) for a large a, and which function knows?"
    _free(student, random, 800.0, nonfinite=nonfinite)
