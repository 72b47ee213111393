"""The forward chain of thesis 2.4.1: noise at any time in one go, and the law of the step before."""

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def q_sample(x0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t (n, d) from x_0 and ε (n, d) and ᾱ of each row (n,), by the angle whose cosine is √ᾱ; thesis (2.46)."""
    angle = alpha_bar.sqrt().acos()
    return torch.einsum("n,nd->nd", angle.cos(), x0) + torch.einsum("n,nd->nd", angle.sin(), eps)


def _noisy(student: Student, random: Random, shared: bool) -> None:
    """As many rows as columns, where ᾱ spread along the wrong axis would show in no shape."""
    (n,) = random.sizes(1)
    x0, eps = random.normal(n, n), random.normal(n, n)
    alpha_bar = random.uniform(0.1, 0.7, 1).expand(n).clone() if shared else random.uniform(0.1, 0.7, n)
    a = alpha_bar[:, None]
    signal, noise, want = a.sqrt(), (1 - a).sqrt(), q_sample(x0, eps, alpha_bar)
    suspects = [
        ("ᾱ runs along the columns: it is the rows that have times of their own", signal.T * x0 + noise.T * eps),
        ("ᾱ of the data runs along the columns: it is the rows that have times of their own", signal.T * x0 + noise * eps),
        ("ᾱ of the noise runs along the columns: it is the rows that have times of their own", signal * x0 + noise.T * eps),
        ("are those weights squares already? What is the variance of x_t for data of variance 1?", a * x0 + (1 - a) * eps),
        ("1 − ᾱ is a variance: what width has the noise?", signal * x0 + (1 - a) * eps),
        ("the data's weight is not ᾱ itself: variances are what (2.46) writes down", a * x0 + noise * eps),
        ("signal and noise are swapped: ᾱ is near 1 close to the data", noise * x0 + signal * eps),
        ("weights of signal and noise should have squares that sum to 1", signal * x0 + (1 - signal) * eps),
        ("signal and noise have the same weight, but the one goes as the other comes", signal * (x0 + eps)),
        ("the data keep all their weight: then the variance explodes", x0 + noise * eps),
        ("the noise has all its weight from the start", signal * x0 + eps),
        ("the noise is taken off, not added", signal * x0 - noise * eps),
        ("the noise is missing: that is only the mean", signal * x0),
        ("the data are missing: that is only the noise", noise * eps),
    ]  # fmt: skip
    hint = "the mean of (2.46), and ε made as wide as its variance says, row by row"
    student(x0=x0, eps=eps, alpha_bar=alpha_bar).should_be(want, hint, suspects)


def at_one_time(student: Student, random: Random) -> None:
    _noisy(student, random, shared=True)


def at_a_time_for_each_row(student: Student, random: Random) -> None:
    _noisy(student, random, shared=False)


def posterior(x0: Tensor, xt: Tensor, alpha_bar: float, before: float) -> tuple[Tensor, Tensor]:
    """Mean (n, d) and variance () of q(x_{t−1} | x_t, x_0) from ᾱ_t and ᾱ_{t−1}; thesis (2.51), source has √ᾱ_t for √α_t.

    By conditioning the joint Gaussian of x_{t−1} and x_t, given x_0, on its second half.
    """
    ratio = torch.tensor(alpha_bar / before, dtype=x0.dtype).sqrt()
    spread, to_next = 1 - before, torch.stack((torch.ones_like(ratio), ratio))
    covariance = spread * torch.outer(to_next, to_next) + torch.diag(torch.stack((0 * ratio, 1 - ratio.square())))
    gain = covariance[0, 1] / covariance[1, 1]
    start = before**0.5 * x0
    return start + gain * (xt - ratio * start), covariance[0, 0] - gain * covariance[1, 0]


def levels(random: Random, last: bool) -> tuple[float, float]:
    """ᾱ_t and ᾱ_{t−1}: with `last` the latter is 1, that of the data."""
    alpha_bar, before = float(random.uniform(0.2, 0.45)), float(random.uniform(0.6, 0.85))
    return alpha_bar, 1.0 if last else before


def _posterior(student: Student, random: Random, last: bool) -> None:
    n, d = random.sizes(2)
    x0, xt = random.normal(n, d), random.normal(n, d)
    alpha_bar, before = levels(random, last)
    bar, then = torch.tensor([alpha_bar, before], dtype=x0.dtype)
    alpha = bar / then
    beta, total = 1 - alpha, 1 - bar
    of_x0, of_xt = then.sqrt() * beta / total, alpha.sqrt() * (1 - then) / total
    mean, variance = posterior(x0, xt, alpha_bar, before)
    of_mean = [
        ("the weight of x_t is the printed one, a slip: where should the mean be if x_t is √ᾱ_t x_0, without any noise?",
         of_x0 * x0 + bar.sqrt() * (1 - then) / total * xt),
        ("the weight of x_0 has the root of a wrong α: where should the mean be if x_t is √ᾱ_t x_0, without any noise?",
         alpha.sqrt() * beta / total * x0 + of_xt * xt),
        ("the weight of x_0 has the root of a wrong α: where should the mean be if x_t is √ᾱ_t x_0, without any noise?",
         bar.sqrt() * beta / total * x0 + of_xt * xt),
        ("the weights are swapped: near the data x_0 is what counts", of_x0 * xt + of_xt * x0),
        ("the roots are missing in the weights of x_0 and x_t", then * beta / total * x0 + alpha * (1 - then) / total * xt),
        ("nothing is divided by the variance of x_t", total * mean),
        ("divide by the variance of x_t: is that the one of one step, or of all?", total / beta * mean),
        ("the variance is that of x_t, not of the step before", total / (1 - then) * mean),
        ("β_t is the variance of one step, not of all up to t", then.sqrt() * x0 + of_xt * xt),
        ("x_0 is missing: x_{t−1} lies between the two", of_xt * xt),
        ("x_t is missing: x_{t−1} lies between the two", of_x0 * x0),
        ("that is the mean without knowing x_t", then.sqrt() * x0),
        ("that is the mean without knowing x_0", xt / alpha.sqrt()),
        ("ᾱ_t and ᾱ_{t−1} are swapped: which of them is nearer to 1?", posterior(x0, xt, before, alpha_bar)[0]),
    ]  # fmt: skip
    small = (1 - then) / total * beta
    of_variance = [
        ("that is β_t, the variance of the step forth: knowing x_0 makes the step back surer", beta),
        ("that is the standard deviation: the variance is wanted", small.sqrt()),
        ("β_t is missing: a step without noise can be undone without doubt", (1 - then) / total),
        ("the fraction is upside down: at the data nothing is uncertain any more", total / (1 - then) * beta),
        ("that is the variance of x_{t−1} without knowing x_t", 1 - then),
        ("that is the variance of x_t", total),
        ("that is the logarithm: the variance is wanted", small.log()),
    ]
    parts = student(x0=x0, xt=xt, alpha_bar=alpha_bar, before=before).parts("mean", "variance")
    hint = "a Gaussian times a Gaussian: each of x_0 and x_t counts the more, the surer it is of x_{t−1}"
    nonfinite = "inf or nan at ᾱ_{t−1} = 1: what is divided by the variance of the data, which is 0?"
    parts[0].should_be(mean, hint, of_mean, nonfinite)
    hint = "inverse variances of the two Gaussians add up: what is the sum's inverse?"
    parts[1].should_be(variance, hint, of_variance, nonfinite)


def on_the_way(student: Student, random: Random) -> None:
    _posterior(student, random, last=False)


def next_to_the_data(student: Student, random: Random) -> None:
    """ᾱ_{t−1} = 1: the step before is the datum itself."""
    _posterior(student, random, last=True)
