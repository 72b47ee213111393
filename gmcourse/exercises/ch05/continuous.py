"""The variance-preserving diffusion, from thesis 2.4.3: what it makes of a datum, and one step back in time."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Score = Callable[[Tensor, float], Tensor]


def vp_marginal(t: Tensor, beta_min: float, beta_max: float) -> tuple[Tensor, Tensor]:
    """α and σ at t (n,), (n,) each, of dx = −½βx dt + √β dw with β from β_min at 0 to β_max at 1; thesis (2.67).

    α solves dα/dt = −½βα; σ² collects the noise β(s) ds of all times s, each shrunk by what comes after it: quadratures.
    """
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(60))
    s, end = t[:, None] * (1 + nodes) / 2, t[:, None]
    ds = end * weights / 2

    def beta(t: Tensor) -> Tensor:
        return torch.lerp(torch.full_like(t, beta_min), torch.full_like(t, beta_max), t)

    alpha = (-0.5 * (beta(s) * ds).sum(1)).exp()
    shrunk = (-(end - s) * (beta(s) + beta(end)) / 2).exp()
    return alpha, (beta(s) * shrunk * ds).sum(1).sqrt()


def _marginal(student: Student, random: Random, low: float, high: float) -> None:
    (n,) = random.sizes(1)
    t = random.uniform(0.05, 1, n)
    rise, beta = high - low, low + (high - low) * t
    b = low * t + rise * t.square() / 2
    alpha, sigma = vp_marginal(t, low, high)
    of_alpha = [
        ("the drift has a half in front of β", (-b).exp()),
        ("β at the end times t is no integral of β", (-beta * t / 2).exp()),
        ("β at the end times t is no integral of β, and the drift has a half", (-beta * t).exp()),
        ("that is β, not its integral over time", (-beta / 2).exp()),
        ("the part of β that rises: what is its integral?", (-(low * t + rise * t.square()) / 2).exp()),
        ("the part of β that rises starts at β_min: by how much does it rise?",
         (-(low * t + high * t.square() / 2) / 2).exp()),
        ("β_min is missing: β does not start from 0", (-rise * t.square() / 4).exp()),
        ("only β_min is there, but β rises with t", (-low * t / 2).exp()),
        ("β has reached β_max only at t = 1", (-high * t / 2).exp()),
        ("data fade away, they do not grow: look at the sign", (b / 2).exp()),
        ("α and σ are swapped: which of them falls with time?", sigma),
        ("that is the exponent of α, not α itself", -b / 2),
    ]  # fmt: skip
    of_sigma = [
        ("that is the variance: σ is its root", sigma.square()),
        ("data of variance 1 should keep it: what do α and σ sum up to?", 1 - alpha),
        ("data of variance 1 should keep it: what do α and σ sum up to?", (1 - alpha).sqrt()),
        ("that is the noise without the drift, which would explode", b.sqrt()),
        ("that is the noise of one moment: all of it adds up", beta.sqrt()),
        ("α and σ are swapped: which of them falls with time?", alpha),
    ]
    parts = student(t=t, beta_min=low, beta_max=high).parts("alpha", "sigma")
    parts[0].should_be(alpha, "the mean follows dm = −½ β m dt: what is the integral of a straight line β?", of_alpha)
    parts[1].should_be(sigma, "variance 1 stays 1: what is left for the noise beside α?", of_sigma)


def of_constant_beta(student: Student, random: Random) -> None:
    beta = float(random.uniform(1, 3))
    _marginal(student, random, beta, beta)


def of_rising_beta(student: Student, random: Random) -> None:
    _marginal(student, random, float(random.uniform(0.1, 0.5)), float(random.uniform(4, 8)))


def reverse_step(x: Tensor, t: float, h: float, score: Score, beta: Callable[[float], float], z: Tensor) -> Tensor:
    """x (n, d) at t taken to t − h by one Euler–Maruyama step with noise z (n, d); thesis (2.64) with (2.67)."""
    g = math.sqrt(beta(t))
    drift = torch.add(-0.5 * g**2 * x, score(x, t), alpha=-(g**2))
    return x - h * drift + g * math.sqrt(h) * z


def _reverse(student: Student, random: Random, changing: float) -> None:
    n, d = random.sizes(2)
    x, z, weights = random.normal(n, d), random.normal(n, d), random.normal(d, d)
    t, h, low = float(random.uniform(0.6, 0.9)), float(random.uniform(0.1, 0.2)), float(random.uniform(2, 3))

    def beta(t: float) -> float:
        return low + changing * t

    def score(x: Tensor, t: float) -> Tensor:
        if isinstance(t, Tensor) and t.ndim:
            raise ValueError(f"score wants t as a number here; got shape {tuple(t.shape)}")
        return torch.tanh(x @ weights + changing * t) - x / 2

    b, s, later, earlier = beta(t), score(x, t), beta(t - h), score(x, t - h)

    def step(drift: Tensor, width: float = math.sqrt(b * h)) -> Tensor:
        return x + h * drift + width * z

    right = b * (x / 2 + s)
    suspects = [
        ("that runs on into the noise: on the way back time falls", step(-right)),
        ("that is the forward diffusion: the score is missing, and time does not fall", step(-b * x / 2)),
        ("the score is missing: without it nothing leads back", step(b * x / 2)),
        ("the drift of the forward diffusion has to be walked back: look at its sign", step(b * (s - x / 2))),
        ("the drift of the forward diffusion is missing", step(b * s)),
        ("the score has the wrong sign: it should pull towards the data", step(b * (x / 2 - s))),
        ("half the score belongs to the probability flow, which has no noise", step(b * (x + s) / 2)),
        ("that is the probability flow: (2.64) has noise", step(b * (x + s) / 2, 0.0)),
        ("the noise is missing: (2.64) has some at every step", step(right, 0.0)),
        ("noise grows with the root of the time, and g is the root of β", step(right, b * h)),
        ("noise grows with the root of the time", step(right, math.sqrt(b) * h)),
        ("g is the root of β: it is that which widens the noise", step(right, b * math.sqrt(h))),
        ("g is missing in front of the noise", step(right, math.sqrt(h))),
        ("the noise of a step that short is small: h is missing", step(right, math.sqrt(b))),
        ("there is no 2 in front of this noise: that was Langevin's", step(right, math.sqrt(2 * b * h))),
        ("the half is missing in the drift of (2.67)", step(b * (x + s))),
        ("the score is not weighted: what stands in front of it in (2.64)?", step(b * x / 2 + s)),
        ("the score's weight is the square of g, and g is a root", step(b * x / 2 + math.sqrt(b) * s)),
        ("the score's weight is the square of g, and g is a root", step(b * x / 2 + b**2 * s)),
        ("the step's length is missing in the drift", x + right + math.sqrt(b * h) * z),
        ("the noise is taken off: z is added", step(right, -math.sqrt(b * h))),
        ("β and score are those of the end of the step: Euler takes its start",
         x + h * later * (x / 2 + earlier) + math.sqrt(later * h) * z),
        ("β is that of the end of the step: Euler takes its start", x + h * later * (x / 2 + s) + math.sqrt(later * h) * z),
        ("the score is that of the end of the step: Euler takes its start", step(b * (x / 2 + earlier))),
        ("only the change is there: where does it start from?", step(right) - x),
    ]  # fmt: skip
    hint = "f and g of (2.67) into (2.64), a step of −h in time, and noise as wide as √h makes it"
    want = reverse_step(x, t, h, score, beta, z)
    student(x=x, t=t, h=h, score=score, beta=beta, z=z).should_be(want, hint, suspects)


def of_constant_coefficients(student: Student, random: Random) -> None:
    """β and score are the same at all times."""
    _reverse(student, random, 0.0)


def of_changing_coefficients(student: Student, random: Random) -> None:
    _reverse(student, random, 4.0)
