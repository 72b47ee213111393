"""What a VAE with flow prior makes small, at one draw of z for each datum, thesis (3.4)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.exercises.ch08.flow import Affine, gradients, log_normal, well_conditioned
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Decoder = Callable[[Tensor], Tensor]


def objective(x: Tensor, mu: Tensor, log_sigma: Tensor, eps: Tensor, decoder: Decoder, flow: Affine, beta: float) -> Tensor:
    """−[β log N(x; G(z), I) + log p(z) − log q(z|x)], (n,) in nats, at z = μ + σε; thesis (3.4).

    x (n, D); μ, log σ, ε (n, d); decoder (n, d) -> (n, D); flow has log_prob.
    """
    z, sigma = torch.addcmul(mu, log_sigma.exp(), eps), log_sigma.exp()
    return log_normal(z, mu, sigma) - flow.log_prob(z) - beta * log_normal(x, decoder(z))


def _inputs(random: Random) -> dict:
    n, dim_x, d = random.sizes(3)
    weight = random.normal(d, dim_x)
    return {
        "x": random.normal(n, dim_x),
        "mu": random.normal(n, d),
        "log_sigma": 0.4 * random.normal(n, d) - 0.5,
        "eps": random.normal(n, d),
        "decoder": lambda z: torch.tanh(z) @ weight,
        "flow": Affine(well_conditioned(random.normal(d, d)), random.normal(d)),
        "beta": float(random.uniform(2, 6)),
    }


def _suspects(inputs: dict) -> list[tuple[str, Tensor]]:
    x, mu, log_sigma, eps, decoder, flow, beta = inputs.values()
    sigma = log_sigma.exp()
    z, each = mu + sigma * eps, math.log(2 * math.pi) / 2
    seen, log_p, log_q = log_normal(x, decoder(z)), flow.log_prob(z), log_normal(z, mu, sigma)
    want, dim_x, d = log_q - log_p - beta * seen, x.shape[1], z.shape[1]
    entropy = (log_sigma + each + 0.5).sum(1)
    kl = (mu.square() + sigma.square() - 1).sum(1) / 2 - log_sigma.sum(1)
    as_variance = objective(**inputs | {"log_sigma": log_sigma / 2})
    not_a_variance = "log_sigma is the logarithm of a standard deviation, not of a variance"
    return [
        ("that is the bound, which grows in training: the loss is what is to get small", -want),
        ("the constant of log N(x; G(z), I) is missing: β weighs all of it", want - beta * dim_x * each),
        ("β weighs all of log N(x; G(z), I), its constant too", want - (beta - 1) * dim_x * each),
        ("the constant of the posterior's density is missing", want + d * each),
        ("both constants are missing, that of x and that of the posterior", want - beta * dim_x * each + d * each),
        ("β does not weigh the reconstruction: where does it stand in (3.4)?", log_q - log_p - seen),
        ("β weighs the reconstruction here, not the divergence as in a β-VAE", beta * (log_q - log_p) - seen),
        ("β weighs everything: then it would change nothing but the step's length", beta * (log_q - log_p - seen)),
        ("β multiplies the reconstruction: does a larger β mean more noise, or less?", log_q - log_p - seen / beta),
        ("that is the closed form for a standard normal prior: here the prior is a flow", kl - beta * seen),
        ("the flow is not asked: a standard normal took its place", log_q - log_normal(z) - beta * seen),
        ("the posterior's entropy has the wrong sign: is a wide posterior to be wanted or shunned?",
         -log_q - log_p - beta * seen),
        ("the posterior's entropy is missing: without it (3.4) would let z shrink", -log_p - beta * seen),
        ("the prior has the wrong sign: z should lie where the flow finds it likely", log_q + log_p - beta * seen),
        ("the prior is missing: (3.4) has three terms", log_q - beta * seen),
        ("that is the entropy in closed form, right in the mean: (3.4) has log q at the z that was drawn",
         -entropy - log_p - beta * seen),
        ("that is a part of the entropy in closed form: (3.4) has log q at the z that was drawn, constant and all",
         -log_sigma.sum(1) - log_p - beta * seen),
        ("that is the density of ε: z = μ + σε is wider or narrower by σ", log_normal(eps) - log_p - beta * seen),
        ("that is the density of ε: which sign has the logarithm of σ?",
         log_normal(eps) + log_sigma.sum(1) - log_p - beta * seen),
        (not_a_variance, as_variance),
        (not_a_variance, log_normal(z, mu, sigma.sqrt()) - log_p - beta * seen),
        ("a Gaussian's scale is its standard deviation, not its variance",
         log_normal(z, mu, sigma.square()) - log_p - beta * seen),
        ("z is not as wide as the posterior, though log q is right", objective(**inputs | {"eps": eps / sigma.sqrt()})),
        ("the noise is scaled by a variance: what spread should z have?", objective(**inputs | {"eps": eps * sigma})),
        ("the noise is scaled by a logarithm: what spread should z have?",
         objective(**inputs | {"eps": eps * log_sigma / sigma})),
        ("the decoder was given μ: where does the noise come in?", log_q - log_p - beta * log_normal(x, decoder(mu))),
        ("the noise is not used: everything is taken at μ", objective(**inputs | {"eps": 0 * eps})),
        ("the flow was given μ: (3.4) asks it for z", log_q - flow.log_prob(mu) - beta * seen),
        ("the flow was given ε: its prior is one of z", log_q - flow.log_prob(eps) - beta * seen),
        ("the pixels are averaged: logarithms of independent densities add up", log_q - log_p - beta * seen / dim_x),
        ("log q is averaged over the dimensions: logarithms of independent densities add up",
         log_q / d - log_p - beta * seen),
        ("the prior is averaged over the dimensions: it is one number for each z already", log_q - log_p / d - beta * seen),
        ("the squares lack their half", want + beta * (x - decoder(z)).square().sum(1) / 2),
    ]  # fmt: skip


def where_q_is_the_prior(student: Student, random: Random) -> None:
    """q(z|x) = p(z), one Gaussian for all x: log p and log q cancel, and the reconstruction is left."""
    inputs = _inputs(random)
    mu, log_sigma = (inputs[name][:1] for name in ("mu", "log_sigma"))
    both = {"mu": mu.expand_as(inputs["mu"]), "log_sigma": log_sigma.expand_as(inputs["mu"])}
    inputs |= both | {"flow": Affine((-log_sigma[0]).exp().diag(), mu[0])}
    hint = "here the posterior is the prior: what is left is minus β times log N(x; G(z), I), constant and all"
    student(**inputs).should_be(objective(**inputs), hint, _suspects(inputs))


def elsewhere(student: Student, random: Random) -> None:
    inputs = _inputs(random)
    hint = "three log-densities at the same z, two of them wanted high and one low: which does β weigh?"
    student(**inputs).should_be(objective(**inputs), hint, _suspects(inputs))


def posterior_learns(student: Student, random: Random) -> None:
    """Gradients for μ and log σ: along z in all three terms, and directly in log q."""
    inputs = _inputs(random)
    mu, log_sigma = inputs["mu"].requires_grad_(), inputs["log_sigma"].requires_grad_()
    z = mu + log_sigma.exp() * inputs["eps"]
    nll = -inputs["flow"].log_prob(z).sum()
    want = torch.autograd.grad(objective(**inputs).sum(), (mu, log_sigma))
    of_prior = torch.autograd.grad(nll, (mu, log_sigma))
    found = gradients(student, (len(mu),), {"μ": mu, "log σ": log_sigma}, inputs)
    for answer, slope, missing in zip(found, want, of_prior, strict=True):
        stopped = "the flow's term does not arrive: is its z stopped? With the entropy there is no need"
        hint = "that of (3.4) is another: does z depend on μ and σ everywhere that it stands, or is it cut off somewhere?"
        answer.should_be(slope, hint, [(stopped, slope - missing)])
