"""Densities, from thesis 1.1.3–1.2.2: Bayes' rule, Jensen–Shannon, the ratio that a classifier knows."""

import math

import torch
from scipy.special import rel_entr
from torch import Tensor
from torch.distributions import Categorical, Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def bayes(log_lik: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """log p(y|x) (n, k) and log p(x) (n,) from log p(x|y) (n, k) and p(y) (k,); thesis 1.1.3."""
    joint = log_lik + prior.log()
    return Categorical(logits=joint).logits, joint.logsumexp(1)


def _classes(random: Random) -> tuple[Tensor, Tensor]:
    n, k = random.sizes(2)
    return 1.5 * random.normal(n, k) - 2, random.normal(k).softmax(0)


def near_the_classes(student: Student, random: Random) -> None:
    log_lik, prior = _classes(random)
    posterior, marginal = bayes(log_lik, prior)
    joint = log_lik + prior.log()
    of_posterior = [
        ("the prior is ignored: a rare class needs more evidence", log_lik.log_softmax(1)),
        ("the prior is added as it is: a product of what becomes this sum of logarithms?", (log_lik + prior).log_softmax(1)),
        ("that is the joint log p(x, y): over which variable must a posterior sum to 1?", joint),
        ("normalised over the data: over which variable must a posterior sum to 1?", joint.log_softmax(0)),
        ("that is the posterior itself: its logarithm is wanted", posterior.exp()),
    ]
    of_marginal = [
        ("the prior is ignored: p(x) is a mean over the classes, each as often as it occurs", log_lik.logsumexp(1)),
        ("the prior is ignored: not all classes are equally probable", log_lik.logsumexp(1) - math.log(len(prior))),
        ("logarithms are averaged, but marginalising averages densities", log_lik @ prior),
        ("logarithms are summed, but marginalising sums densities", joint.sum(1)),
        ("that is the largest term of the sum, not the sum", joint.amax(1)),
        ("that is p(x) itself: its logarithm is wanted", marginal.exp()),
    ]
    answers = student(log_lik=log_lik, prior=prior).parts("log posterior", "log marginal")
    answers[0].should_be(posterior, "what does Bayes' rule look like in logarithms?", of_posterior)
    answers[1].should_be(marginal, "what is left of p(x, y) when y is summed out?", of_marginal)


def far_from_all_classes(student: Student, random: Random) -> None:
    log_lik, prior = _classes(random)
    log_lik = log_lik - torch.linspace(1000, 3000, len(log_lik), dtype=log_lik.dtype)[:, None]
    parts = student(log_lik=log_lik, prior=prior).parts("log posterior", "log marginal")
    nonfinite = "numbers overflow or vanish in exp: which constant can be taken out of each row's exponents first?"
    hint = "an x that is improbable under every class still has a posterior, and a marginal: both must be right there"
    for answer, want in zip(parts, bayes(log_lik, prior), strict=True):
        answer.should_be(want, hint, nonfinite=nonfinite)


def js(log_p: Tensor, log_q: Tensor, cell: float) -> Tensor:
    """JS(p ‖ q) in nats of log-densities (m,) at the nodes of a grid whose cells have size `cell`."""
    p, q = log_p.exp(), log_q.exp()
    return (_kl(p, (p + q) / 2, cell) + _kl(q, (p + q) / 2, cell)) / 2


def _kl(p: Tensor, q: Tensor, cell: float) -> Tensor:
    return cell * torch.from_numpy(rel_entr(p.numpy(), q.numpy())).sum()


def overlapping(student: Student, random: Random) -> None:
    x = torch.linspace(-9, 9, 241, dtype=torch.float64)
    middle, shift, width = random.uniform(-0.5, 0.5), random.uniform(0.7, 1.2), random.uniform(1.3, 1.6)
    log_p, log_q = Normal(middle, 1.0).log_prob(x), Normal(middle + shift, width).log_prob(x)
    p, q, cell = log_p.exp(), log_q.exp(), float(x[1] - x[0])
    want, forward, reverse = js(log_p, log_q, cell), _kl(p, q, cell), _kl(q, p, cell)
    mixture, geometric = (p + q) / 2, cell * ((p - q) * (log_p - log_q)).sum() / 4
    suspects = [
        ("the two halves are added up, but their mean is wanted", 2 * want),
        ("a sum over nodes is no integral: what is missing?", want / cell),
        ("that is in bits: nats are wanted", want / math.log(2)),
        ("that is the root of the divergence, a distance", want.sqrt()),
        ("that is a KL divergence: both densities are compared with their mixture", forward),
        ("that is a KL divergence: both densities are compared with their mixture", reverse),
        ("p and q are compared with each other: who is in the middle?", (forward + reverse) / 2),
        ("p and q are compared with each other: who is in the middle?", forward + reverse),
        ("the middle is a mean of logarithms: it should be one of densities", geometric),
        ("the mixture lacks its half: its mass should be 1", want - math.log(2)),
        ("only one of the two halves is there", _kl(p, mixture, cell) / 2),
        ("the means are under p and under q, not under their mixture", (_kl(mixture, p, cell) + _kl(mixture, q, cell)) / 2),
    ]
    hint = "the mean of two KL divergences, each from the mixture in the middle"
    student(log_p=log_p, log_q=log_q, cell=cell).should_be(want, hint, suspects)


def apart(student: Student, random: Random) -> None:
    x = torch.linspace(-9, 9, 721, dtype=torch.float64)
    width = random.uniform(0.05, 0.07)
    log_p, log_q = Normal(random.uniform(-4, -3), width).log_prob(x), Normal(random.uniform(3, 4), width).log_prob(x)
    student(log_p=log_p, log_q=log_q, cell=float(x[1] - x[0])).should_be(
        js(log_p, log_q, float(x[1] - x[0])),
        hint="for densities that nowhere overlap JS has its largest value: which?",
        nonfinite="where both densities vanish the logarithm of their mean is lost: can it be had from log p and log q?",
    )


def log_ratio(logit: Tensor, n_p: int, n_q: int) -> Tensor:
    """log p/q (n,) from the logits of a classifier trained on n_p points of p and n_q of q; thesis (1.12)."""
    return logit - torch.logit(torch.tensor(n_p / (n_p + n_q), dtype=logit.dtype))


def _ratio(student: Student, random: Random, scale: float, **options) -> None:
    (n,) = random.sizes(1)
    logit, n_p, n_q = scale * random.normal(n), 100 + int(random.uniform(0, 100)), 400 + int(random.uniform(0, 100))
    want, d = log_ratio(logit, n_p, n_q), logit.sigmoid()
    suspects = [
        ("the classes had different sizes: what does a classifier say that has learned nothing else?", logit),
        ("the correction is turned round: a class seen more often has larger odds already", 2 * logit - want),
        ("that is the ratio itself: its logarithm is wanted", want.exp()),
        ("that is the log-probability of the class, not the log of the odds", d.log()),
        ("the logarithm of the correction is missing", logit + n_q / n_p),
        ("in logarithms a factor becomes a summand", logit * n_q / n_p),
        ("the correction is a ratio of class sizes, not a share of the total", logit + math.log(n_q / (n_p + n_q))),
        ("the correction is a ratio of class sizes, not a share of the total", logit - math.log(n_p / (n_p + n_q))),
    ]
    hint = "the logit is the log-odds of the classes: which part of it comes from how many points there were?"
    student(logit=logit, n_p=n_p, n_q=n_q).should_be(want, hint, suspects, **options)


def ratio_of_sizes(student: Student, random: Random) -> None:
    _ratio(student, random, 1.5)


def ratio_of_sure_classifiers(student: Student, random: Random) -> None:
    nonfinite = "a sure classifier's probability is 0 or 1 in floating point: does one have to go by way of it?"
    _ratio(student, random, 500.0, nonfinite=nonfinite)
