"""One step back along the chain, given a prediction of the noise: with noise (thesis 2.4.2) and without (DDIM)."""

import math

import torch
from torch import Tensor

from gmcourse.exercises.ch05.chain import levels, posterior
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def ancestral_step(xt: Tensor, eps: Tensor, alpha_bar: float, before: float, z: Tensor) -> Tensor:
    """x_{t−1} (n, d) from x_t, the predicted ε and fresh noise z (n, d), with σ² = β_t; thesis (2.62).

    No noise at ᾱ_{t−1} = 1. By the posterior's mean at the datum that ε stands for.
    """
    x0 = (xt - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)
    width = math.sqrt(1 - alpha_bar / before) if before < 1 else 0.0
    return posterior(x0, xt, alpha_bar, before)[0] + width * z


def _ancestral(student: Student, random: Random, last: bool) -> None:
    n, d = random.sizes(2)
    xt, eps, z = random.normal(n, d), random.normal(n, d), random.normal(n, d)
    alpha_bar, before = levels(random, last)
    bar, then = torch.tensor([alpha_bar, before], dtype=xt.dtype)
    alpha = bar / then
    beta, total = 1 - alpha, 1 - bar
    mean = (xt - beta / total.sqrt() * eps) / alpha.sqrt()
    x0 = (xt - total.sqrt() * eps) / bar.sqrt()
    noise = torch.zeros_like(z) if last else beta.sqrt() * z
    small = (1 - then) / total * beta
    suspects = [
        ("there is noise at the last step: do the data have any?", mean + beta.sqrt() * z),
        ("there is noise at the last step: do the data have any?", mean + beta * z),
        ("there is noise at the last step: do the data have any?", mean + z),
        ("there is no noise: (2.62) draws from a Gaussian, it does not return its mean", mean),
        ("β_t is a variance: what width has the noise?", mean + beta * z),
        ("the noise has the smaller variance of (2.51): here it is to be that of the step forth", mean + small.sqrt() * z),
        ("the noise has the smaller variance of (2.51), and not even its root", mean + small * z),
        ("the noise is as strong as in x_t: one step back takes only one step's noise", mean + total.sqrt() * z),
        ("the noise is as strong as in x_{t−1}: one step back takes only one step's noise", mean + (1 - then).sqrt() * z),
        ("the noise is not scaled: a short step adds only a little of it", mean + z),
        ("what stands in front shrinks the datum as much as all steps up to t: only one of them is undone",
         (xt - beta / total.sqrt() * eps) / bar.sqrt() + noise),
        ("what stands in front has lost its root", (xt - beta / total.sqrt() * eps) / alpha + noise),
        ("the factor in front is missing: each step forth makes the datum smaller", mean * alpha.sqrt() + noise),
        ("the factor in front is upside down: each step forth makes the datum smaller", mean * alpha + noise),
        ("ε is divided by the variance of x_t, not by its width", (xt - beta / total * eps) / alpha.sqrt() + noise),
        ("ε is not divided by the width of the noise in x_t", (xt - beta * eps) / alpha.sqrt() + noise),
        ("β_t under the root? Look at the weight of ε again",
         (xt - (beta / total).sqrt() * eps) / alpha.sqrt() + noise),
        ("ε is taken off with its whole weight: that goes to the datum at once",
         (xt - total.sqrt() * eps) / alpha.sqrt() + noise),
        ("β_t is the variance of one step, not of all up to t", (xt - total.sqrt() * eps) / bar.sqrt() + total.sqrt() * z),
        ("the predicted noise is added: it has to be taken off", (xt + beta / total.sqrt() * eps) / alpha.sqrt() + noise),
        ("that is the datum itself, not x_{t−1}", x0),
        ("the datum is noised anew: that forgets x_t", then.sqrt() * x0 + (1 - then).sqrt() * z),
        ("that is the step of DDIM, which does without fresh noise", then.sqrt() * x0 + (1 - then).sqrt() * eps),
        ("the fresh noise is taken off, not added", mean - noise),
        ("ε is used twice: the fresh noise is z", mean + beta.sqrt() * eps),
    ]  # fmt: skip
    hint = "α_t and β_t follow from ᾱ_t and ᾱ_{t−1}; then (2.62), and when is its noise left out?"
    nonfinite = "inf or nan at ᾱ_{t−1} = 1: what is divided by the variance of the data, which is 0?"
    want = ancestral_step(xt, eps, alpha_bar, before, z)
    answer = student(xt=xt, eps=eps, alpha_bar=alpha_bar, before=before, z=z)
    answer.should_be(want, hint, suspects[0 if last else 3 :], nonfinite)


def with_noise(student: Student, random: Random) -> None:
    _ancestral(student, random, last=False)


def without_noise_at_the_end(student: Student, random: Random) -> None:
    _ancestral(student, random, last=True)


def ddim_step(xt: Tensor, eps: Tensor, alpha_bar: float, before: float) -> Tensor:
    """x_{t−1} (n, d) from x_t and the predicted ε (n, d), without noise; slides (30) at σ_t = 0, whose α are ᾱ here.

    With √ᾱ = cos φ, the pair of x and v = (ε − sin φ x)/cos φ is turned by the difference of the angles.
    """
    now, then = (math.acos(math.sqrt(a)) for a in (alpha_bar, before))
    v = (eps - math.sin(now) * xt) / math.cos(now)
    return math.cos(then - now) * xt + math.sin(then - now) * v


def _ddim(student: Student, random: Random, last: bool) -> None:
    n, d = random.sizes(2)
    xt, eps = random.normal(n, d), random.normal(n, d)
    alpha_bar, before = levels(random, last)
    bar, then = torch.tensor([alpha_bar, before], dtype=xt.dtype)
    alpha = bar / then
    x0 = (xt - (1 - bar).sqrt() * eps) / bar.sqrt()
    suspects = [
        ("the datum has come back: how much noise does x_{t−1} have?", x0),
        ("the noise is missing: x_{t−1} has some, and it is known which", then.sqrt() * x0),
        ("noise without a root: 1 − ᾱ is a variance", then.sqrt() * x0 + (1 - then) * eps),
        ("the datum keeps its whole weight", x0 + (1 - then).sqrt() * eps),
        ("the datum's weight has lost its root", then * x0 + (1 - then).sqrt() * eps),
        ("the noise is as strong as before the step", then.sqrt() * x0 + (1 - bar).sqrt() * eps),
        ("the data are no stronger than before the step", bar.sqrt() * x0 + (1 - then).sqrt() * eps),
        ("the step leads nowhere: which of the two ᾱ is where one comes from?", xt),
        ("data and noise are swapped: close to the data ᾱ is near 1", (1 - then).sqrt() * x0 + then.sqrt() * eps),
        ("the noise is taken off once more: x_{t−1} has some", then.sqrt() * x0 - (1 - then).sqrt() * eps),
        ("the datum is found by adding the noise: it has to be taken off",
         then.sqrt() * (xt + (1 - bar).sqrt() * eps) / bar.sqrt() + (1 - then).sqrt() * eps),
        ("the datum: the noise in x_t has the width, not the variance",
         then.sqrt() * (xt - (1 - bar) * eps) / bar.sqrt() + (1 - then).sqrt() * eps),
        ("the datum: a root is missing in what it is divided by",
         then.sqrt() * (xt - (1 - bar).sqrt() * eps) / bar + (1 - then).sqrt() * eps),
        ("the datum: x_t less its noise is still too small",
         then.sqrt() * (xt - (1 - bar).sqrt() * eps) + (1 - then).sqrt() * eps),
        ("α_t of a single step is no noise level: what the slides call α is the thesis' ᾱ",
         then.sqrt() * (xt - (1 - alpha).sqrt() * eps) / alpha.sqrt() + (1 - then).sqrt() * eps),
        ("ᾱ_t and ᾱ_{t−1} are swapped: that is a step towards the noise",
         ((xt - (1 - then).sqrt() * eps) / then.sqrt()) * bar.sqrt() + (1 - bar).sqrt() * eps),
        ("that is the mean of (2.62), which leaves room for noise that does not come",
         (xt - (1 - alpha) / (1 - bar).sqrt() * eps) / alpha.sqrt()),
    ]  # fmt: skip
    hint = "which datum does ε stand for? Then back to the noise level of the time before, with the same ε"
    want = ddim_step(xt, eps, alpha_bar, before)
    student(xt=xt, eps=eps, alpha_bar=alpha_bar, before=before).should_be(want, hint, suspects)


def between_two_times(student: Student, random: Random) -> None:
    _ddim(student, random, last=False)


def on_to_the_data(student: Student, random: Random) -> None:
    """ᾱ_{t−1} = 1: what comes out is the datum that ε stands for."""
    _ddim(student, random, last=True)
