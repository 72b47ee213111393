"""Noise-contrastive estimation with log Z among the parameters, from thesis 2.3.3."""

import math

import torch
from torch import Tensor
from torch.distributions import Bernoulli
from torch.nn.functional import softplus

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def nce_loss(e_x: Tensor, log_q_x: Tensor, e_noise: Tensor, log_q_noise: Tensor, log_z: float) -> Tensor:
    """−log P(datum | x) − Σ_k log P(noise | x_k), (n,) in nats, of data (n,) and their ν noise draws (n, ν); thesis (2.43).

    Energies and log-densities of the noise come in; the odds of a datum are p_θ : ν q with log p_θ = −E − log Z.
    """
    ratio = e_noise.shape[1]
    datum, drawn = (Bernoulli(logits=-e - log_z - q - math.log(ratio)) for e, q in ((e_x, log_q_x), (e_noise, log_q_noise)))
    return -datum.log_prob(torch.ones_like(e_x)) - drawn.log_prob(torch.zeros_like(e_noise)).sum(1)


def _nce(student: Student, random: Random, ratio: int, scale: float, **options) -> None:
    (n,) = random.sizes(1)
    e_x, e_noise, log_z = scale * random.normal(n), scale * random.normal(n, ratio), float(random.uniform(0.5, 1.5))
    log_q_x, log_q_noise = random.normal(n) - 2, random.normal(n, ratio) - 2

    def loss(logit_x: Tensor, logit_noise: Tensor) -> Tensor:
        return softplus(-logit_x) + softplus(logit_noise).sum(1)

    def of(z: float = -1, e: float = -1, q: float = -1, nu: float = -1) -> Tensor:
        """The loss for other signs in front of log Z, E, log q and log ν."""
        constant = z * log_z + nu * math.log(ratio)
        return loss(e * e_x + q * log_q_x + constant, e * e_noise + q * log_q_noise + constant)

    logit_x, logit_noise = (-e - q - log_z - math.log(ratio) for e, q in ((e_x, log_q_x), (e_noise, log_q_noise)))
    suspects = [
        ("log Z enters with the wrong sign: p is e to the −E, divided by Z", of(z=1)),
        ("log Z is missing: without it −E is not a log-density, and cannot be compared with q", of(z=0)),
        ("log_z is the logarithm of Z already", of(z=-math.log(log_z) / log_z)),
        ("the energy has the wrong sign: low energy is probable", of(e=1)),
        ("the noise's density is missing: it is the ratio of p and q that tells", of(q=0)),
        ("the noise's density enters with the wrong sign: what is more probable as noise is less so as a datum", of(q=1)),
        ("the number of noise draws per datum is missing in the odds", of(nu=0)),
        ("the number of noise draws enters the odds the wrong way round", of(nu=1)),
        ("a datum comes with ν noise draws: their losses are summed up", softplus(-logit_x) + softplus(logit_noise).mean(1)),
        ("J is to be made large, a loss small: look at the sign", -loss(logit_x, logit_noise)),
        ("the labels are swapped: what should a datum's logit be, large or small?", loss(-logit_x, -logit_noise)),
        ("both terms ask for a datum: noise has to be told from it", loss(logit_x, -logit_noise)),
        ("both terms ask for noise: the data have to be told from it", loss(-logit_x, logit_noise)),
        ("the noise is missing: then every x is taken for a datum", softplus(-logit_x)),
        ("the data are missing: then every x is taken for noise", softplus(logit_noise).sum(1)),
        ("that is the mean of data and noise: (2.43) adds them up", loss(logit_x, logit_noise) / (1 + ratio)),
        ("that is the mean of data and noise: (2.43) adds them up", loss(logit_x, logit_noise) / 2),
        ("logarithms are missing: those are probabilities", -logit_x.sigmoid() - (-logit_noise).sigmoid().sum(1)),
        ("that is in bits: nats are wanted", loss(logit_x, logit_noise) / math.log(2)),
    ]  # fmt: skip
    hint = "the log-odds that x is a datum and not one of ν noise draws; then two logarithms of probabilities"
    want = nce_loss(e_x, log_q_x, e_noise, log_q_noise, log_z)
    student(e_x=e_x, log_q_x=log_q_x, e_noise=e_noise, log_q_noise=log_q_noise, log_z=log_z).should_be(
        want, hint, suspects, **options
    )


def with_as_much_noise(student: Student, random: Random) -> None:
    """ν = 1: the objective of the thesis."""
    _nce(student, random, 1, 1.0)


def with_much_noise_of_sure_models(student: Student, random: Random) -> None:
    """Several draws per datum, and then energies of hundreds of nats, where a probability is 0 or 1 in floating point."""
    for scale in (1.0, 900.0):
        nonfinite = "a sure model's probability is 0 or 1 in floating point: how can its logarithm be had from the log-odds?"
        _nce(student, random, 3 + int(random.uniform(0, 4)), scale, nonfinite=nonfinite)
