"""How well draws of the base tell log Z of thesis (4.4): its value, its error, and how many draws count."""

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

from gmcourse.exercises.ch09.weights import LARGE, OFFSETS
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student


def log_z(energies: Tensor) -> tuple[float, float, float]:
    """log E_q[e^{−E}] in nats, its standard error and the effective sample size, from energies (n,) at draws of q.

    The error, to first order, is that of the mean weight over the mean weight, n − 1 in the variance; the size (Σ w)²/Σ w².
    """
    log_w = -energies.numpy()
    w = np.exp(log_w - log_w.max())
    error = np.std(w, ddof=1) / (w.mean() * math.sqrt(len(w)))
    size = np.exp(-special.logsumexp(2 * special.log_softmax(log_w)))
    return float(special.logsumexp(log_w, b=1 / len(w))), float(error), float(size)


def _value(answer: Answer, e: Tensor, hint: str) -> None:
    want, n = torch.tensor(log_z(e)[0], dtype=e.dtype), len(e)
    other = torch.logsumexp(e, 0) - math.log(n)
    suspects = [
        ("that is the mean of minus the energies: in which order do mean and logarithm come?", -e.mean()),
        ("what was taken off the energies has to come back: log Z is that of the energies that were given", want + e.min()),
        ("that is a sum of weights: a mean over the draws is wanted", want + math.log(n)),
        ("the number of draws is subtracted twice: a mean has it once", want - math.log(n)),
        ("the weights grow with the energy: whom does the tilt favour?", other),
        ("the weights grow with the energy: whom does the tilt favour?", -other),
        ("that is minus log Z", -want),
        ("that is Z itself: its logarithm is wanted", want.exp()),
        ("that is the lowest energy's weight: a mean over all draws is wanted", -e.min()),
        ("that is in bits: nats are wanted", want / math.log(2)),
        ("a mean divides by n, a variance by n − 1", want + math.log(n) - math.log(n - 1)),
        ("half an energy decides the weights: what is p over q, but for Z?", torch.logsumexp(-e / 2, 0) - math.log(n)),
    ]
    answer.should_be(want, hint, suspects, LARGE)


def _errors(error: Answer, size: Answer, e: Tensor) -> None:
    _, want, count = (torch.tensor(v, dtype=e.dtype) for v in log_z(e))
    n, z, w, up = len(e), (-e).exp().mean(), (-e).softmax(0), e.softmax(0)
    error.should_be(
        want,
        "how much does the mean weight vary, and what does that do to its logarithm?",
        [
            ("standard error and effective sample size are exchanged: which comes first?", count),
            ("that is the error of Z: what does a small change of Z do to its logarithm?", want * z),
            ("that is the error of Z, and of one draw", want * z * math.sqrt(n)),
            ("that is the spread of one weight: a mean of n varies less", want * math.sqrt(n)),
            ("a mean of n varies with the root of n", want / math.sqrt(n)),
            ("that is a variance: its root is in nats", want.square()),
            ("the spread about a mean of the same draws: n − 1", want * math.sqrt((n - 1) / n)),
            ("that is the error of the mean energy: log Z is the logarithm of a mean", e.std() / math.sqrt(n)),
            ("that is the spread of the energies: log Z is the logarithm of a mean", e.std()),
            ("if all weights were the same the error would be 0: is it so with yours?", count.rsqrt()),
            ("weights count here, not draws: an error needs their spread", torch.tensor(n**-0.5, dtype=e.dtype)),
            ("the weights grow with the energy: whom does the tilt favour?", up.std() * math.sqrt(n)),
        ],
        LARGE,
    )
    size.should_be(
        count,
        "how many draws of equal weight would be as good? n where all weights are equal, 1 where one has all",
        [
            ("that is a share of the draws: their number is wanted", count / n),
            ("that is what it divides by: n equal weights should give n", 1 / count),
            ("the weights are not normalised: the size may not hang on the energy's constant",
             1 / (-2 * e).exp().sum()),
            ("the sum of weights has to be squared, too", (-e).exp().sum() / (-2 * e).exp().sum()),
            ("that is the root of it: weights are squared, not rooted, where they are summed", count.sqrt()),
            ("that is the number of draws: how many of them have any weight?", torch.tensor(float(n), dtype=e.dtype)),
            ("the weights grow with the energy: whom does the tilt favour?", 1 / up.square().sum()),
            ("that is the perplexity of the weights, another count: their squares are asked for",
             torch.distributions.Categorical(w).entropy().exp()),
            ("that looks at the heaviest draw alone", 1 / w.max()),
            ("energies are taken for weights: a weight is e to the −E", e.sum().square() / e.square().sum()),
        ],
        LARGE,
    )  # fmt: skip


def _energies(random: Random, offset: float) -> Tensor:
    return 1.5 * random.normal(30 + random.sizes(1)[0]) + offset


def its_value(student: Student, random: Random) -> None:
    e = _energies(random, 0.4)
    value, *_ = student(energies=e).parts("log Z", "standard error", "effective sample size")
    _value(value, e, "Z is the base's mean of e to the −E: what is its estimate, and its logarithm?")


def its_errors(student: Student, random: Random) -> None:
    e = _energies(random, 0.4)
    _, error, size = student(energies=e).parts("log Z", "standard error", "effective sample size")
    _errors(error, size, e)


def of_large_energies(student: Student, random: Random) -> None:
    """A constant in the energy moves log Z by as much, and nothing else."""
    for offset in OFFSETS:
        e = _energies(random, offset)
        value, error, size = student(energies=e).parts("log Z", "standard error", "effective sample size")
        _value(value, e, "all energies are large here: by how much does a constant in E change log Z?")
        _errors(error, size, e)
