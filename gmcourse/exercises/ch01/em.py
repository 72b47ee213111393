"""Expectation-maximisation for isotropic Gaussians, from thesis 1.2.1."""

import torch
from torch import Tensor
from torch.distributions import Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def em_step(x: Tensor, weights: Tensor, means: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One EM step of a mixture of k isotropic Gaussians: new (k,), (k, d), (k,) from x (n, d); thesis 1.2.1.

    Responsibilities are the derivatives of log Σ_k e^{t_k} by t_k = log w_k N(x; m_k, σ_k²).
    """
    terms = (weights.log() + _log_normal(x, means, sigmas)).requires_grad_()
    (r,) = torch.autograd.grad(terms.logsumexp(1).sum(), terms)
    return _from_responsibilities(x, r)


def _log_normal(x: Tensor, means: Tensor, sigmas: Tensor) -> Tensor:
    return Normal(means, sigmas[:, None]).log_prob(x[:, None]).sum(2)


def _from_responsibilities(x: Tensor, r: Tensor, about: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    share = r / r.sum(0)
    means = share.mT @ x
    squares = (x[:, None] - (means if about is None else about)).square().mean(2)
    return r.mean(0), means, (share * squares).sum(0).sqrt()


def _answers(student: Student, inputs: dict, suspects: list[tuple[str, tuple]], hint: str, **options) -> None:
    parts = student(**inputs).parts("weights", "means", "sigmas")
    for k, (answer, want) in enumerate(zip(parts, em_step(**inputs), strict=True)):
        answer.should_be(want, hint, [(special, wrong[k]) for special, wrong in suspects], **options)


def _mixture(random: Random, k: int, n: int, d: int) -> dict:
    weights, means, sigmas = random.normal(k).softmax(0), random.normal(k, d), random.uniform(0.6, 1.3, k)
    return {"x": 1.5 * random.normal(n, d), "weights": weights, "means": means, "sigmas": sigmas}


def of_one(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    inputs = _mixture(random, 1, n, d)
    weights, means, sigmas = em_step(**inputs)
    old = _from_responsibilities(inputs["x"], torch.ones(n, 1, dtype=torch.float64), about=inputs["means"])
    suspects = [
        ("weights must sum to 1: the sum of responsibilities is divided by what?", (n * weights, means, sigmas)),
        ("responsibilities sum to 1 over the points: over what should they?", (weights / n, means, sigmas)),
        ("a mean is a sum divided by what?", (weights, n * means, sigmas)),
        ("squared distances are summed, but σ² is the variance of one dimension", (weights, means, d**0.5 * sigmas)),
        ("that is a variance: sigmas are standard deviations", (weights, means, sigmas.square())),
        ("that is a variance, summed over the dimensions", (weights, means, d * sigmas.square())),
        ("distances are taken from the old means: which come first?", old),
        ("maximum likelihood divides by n, not by n − 1", (weights, means, (n / (n - 1)) ** 0.5 * sigmas)),
    ]
    hint = "with a single component all points are its own: what is the likeliest Gaussian?"
    _answers(student, inputs, suspects, hint)


def of_many(student: Student, random: Random) -> None:
    k, d = random.sizes(2)
    inputs = _mixture(random, k, 40, d)
    x, weights, means, sigmas = inputs.values()
    terms, as_variances = _log_normal(x, means, sigmas), _log_normal(x, means, sigmas.sqrt())
    joint = weights.log() + terms
    hard = torch.nn.functional.one_hot(joint.argmax(1), k).double()
    doubled = joint - (x[:, None] - means).square().sum(2) / (2 * sigmas.square())
    r = [
        ("the old weights take no part in the responsibilities: what does Bayes' rule say?", terms.softmax(1)),
        ("responsibilities sum to 1 over the points: over what should they?", joint.softmax(0)),
        ("each point is given to one component whole: how sure is it?", hard),
        ("a density lacks its constant: it depends on σ and on the dimension", (joint + d * sigmas.log()).softmax(1)),
        ("a density has its constant once for every dimension", (joint + (d - 1) * sigmas.log()).softmax(1)),
        ("the exponent of a Gaussian is −‖x − m‖²/2σ²: is the half there?", doubled.softmax(1)),
        ("the sigmas are standard deviations, not variances", (weights.log() + as_variances).softmax(1)),
    ]
    suspects = [(special, _from_responsibilities(x, wrong)) for special, wrong in r]
    suspects.append(("that is the old value, not the new one", (weights, means, sigmas)))
    hint = "E-step: whose is each point, by Bayes' rule? M-step: averages with these shares"
    _answers(student, inputs, suspects, hint)


def far_out(student: Student, random: Random) -> None:
    """Five points around each of some narrow components, fifty widths and more away from it."""
    k, d = random.sizes(2)
    means, sigmas = 3 * random.normal(k, d), random.uniform(0.004, 0.006, k)
    x = means.repeat(5, 1) + 0.3 * random.normal(5 * k, d)
    inputs = {"x": x, "weights": random.normal(k).softmax(0), "means": means, "sigmas": sigmas}
    nonfinite = "far from all components every density vanishes in exp: can the division be done on logarithms?"
    _answers(student, inputs, [], "far from all components responsibilities must be right, too", nonfinite=nonfinite)
