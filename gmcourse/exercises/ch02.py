"""Chapter 2, variational auto-encoders: eight exercises from thesis 2.1.

The references know nothing of `gmcourse.vae`: densities and divergences come from `torch.distributions`,
gradients from autograd, and the score-function estimator is also held against the closed form of the gradient
that it estimates. Tolerance is 1e-6 relative, but for that estimator's mean over 501 quantiles of ε: 5 %
there.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from gmcourse.exercises.core import Exercise, Property, Random
from gmcourse.exercises.student import ATOL, RTOL, Student, Wrong

ADD_UP = "that is a mean over the dimensions, but KLs of independent dimensions add up"
NOT_A_VARIANCE = "log_sigma is the log of a standard deviation, not of a variance"
MEAN_OF_LOGS = "that is the mean of the logarithms, the ELBO: in which order do mean and log come?"
OTHER_Z = "the decoder was not given the z that came in"


def _normal(mean: Tensor, sd: Tensor | float) -> Independent:
    return Independent(Normal(mean, sd), 1)


def gaussian_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(μ, diag σ²) ‖ N(0, I)) in nats, (n, d) -> (n,); thesis (2.7)."""
    return topdown_kl(mu, log_sigma, torch.zeros_like(mu), torch.zeros_like(mu))


def _kl_of_means(student: Student, random: Random) -> None:
    mu = 1.5 * random.normal(*random.sizes(2))
    want = gaussian_kl(mu, torch.zeros_like(mu))
    suspects = [
        (ADD_UP, want / mu.shape[1]),
        ("at σ = 1 all is twice too large: look at the factor in front of the bracket", 2 * want),
    ]
    hint = "with σ = 1 the KL depends on μ alone: write the mean of log q − log p out for one dimension"
    student(mu=mu, log_sigma=torch.zeros_like(mu)).should_be(want, hint, suspects)


def _kl_of_widths(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    mu, log_sigma, zero = (
        random.normal(n, d),
        0.7 * random.normal(n, d),
        torch.zeros(n, d, dtype=torch.float64),
    )
    want, as_variance = gaussian_kl(mu, log_sigma), gaussian_kl(mu, log_sigma / 2)
    suspects = [
        (ADD_UP, want / d),
        (NOT_A_VARIANCE, as_variance),
        ("the input is log σ: which power of σ enters the KL?", as_variance - log_sigma.sum(1) / 2),
        ("the widths are ignored: a narrow posterior costs something, too", mu.square().sum(1) / 2),
        ("the KL is taken the other way round: the mean is under q", topdown_kl(zero, zero, mu, log_sigma)),
    ]
    hint = "a KL is a mean of log q − log p under q: which terms does the width σ bring in?"
    student(mu=mu, log_sigma=log_sigma).should_be(want, hint, suspects)


def reparameterise(mu: Tensor, log_sigma: Tensor, eps: Tensor) -> Tensor:
    """z = μ + σ ⊙ ε, thesis 2.1.3."""
    return torch.addcmul(mu, log_sigma.exp(), eps)


def _z_is_mean_plus_noise(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    mu, log_sigma, eps = random.normal(n, d), random.normal(n, d) - 0.5, random.normal(n, d)
    suspects = [
        ("the noise is scaled by log σ: what comes out of the encoder is a logarithm", mu + log_sigma * eps),
        (NOT_A_VARIANCE, reparameterise(mu, log_sigma / 2, eps)),
        (
            "the noise is scaled by a variance: what spread should σε have?",
            reparameterise(mu, 2 * log_sigma, eps),
        ),
        ("the noise is turned round: a positive ε should raise z", reparameterise(mu, log_sigma, -eps)),
    ]
    hint = "z must have mean μ and standard deviation σ when ε is standard normal"
    want = reparameterise(mu, log_sigma, eps)
    student(mu=mu, log_sigma=log_sigma, eps=eps).should_be(want, hint, suspects)


def _z_carries_gradients(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    inputs = random.normal(n, d).requires_grad_(), (0.5 * random.normal(n, d)).requires_grad_()
    eps, weight = random.normal(n, d), random.normal(n, d)
    z = student(mu=inputs[0], log_sigma=inputs[1], eps=eps).tensor(eps.shape)
    want = torch.autograd.grad((weight * reparameterise(*inputs, eps)).sum(), inputs)
    loss = (weight * z).sum()
    got = torch.autograd.grad(loss, inputs, allow_unused=True) if z.requires_grad else (None, None)
    for name, g, w in zip(("μ", "log σ"), got, want, strict=True):
        if g is None:
            raise Wrong(f"no gradient reaches {name}: what cuts it off (detach, no_grad, a new tensor)?")
        if not torch.allclose(g, w, rtol=RTOL, atol=ATOL):
            raise Wrong(f"the gradient that reaches {name} is not that of a sample with mean μ and width σ")


def elbo(x: Tensor, z: Tensor, mu: Tensor, log_sigma: Tensor, decoder: Callable, sigma: float) -> Tensor:
    """log N(x; G(z), σ² I) − KL(q ‖ N(0, I)) at one z per row, (n,) in nats; thesis (2.8), (2.11)."""
    return _normal(decoder(z), sigma).log_prob(x) - gaussian_kl(mu, log_sigma)


def _elbo_inputs(random: Random) -> dict:
    n, dim_x, dim_z = random.sizes(3)
    weight = random.normal(dim_z, dim_x)
    return {
        "x": random.normal(n, dim_x),
        "z": random.normal(n, dim_z),
        "mu": random.normal(n, dim_z),
        "log_sigma": 0.6 * random.normal(n, dim_z),
        "decoder": lambda z: torch.tanh(z @ weight),
        "sigma": float(random.uniform(0.3, 0.8)),
    }


def _elbo_reconstruction(student: Student, random: Random) -> None:
    inputs = _elbo_inputs(random)
    inputs |= {name: torch.zeros_like(inputs["z"]) for name in ("mu", "log_sigma")}
    want, mean, sigma = elbo(**inputs), inputs["decoder"](inputs["z"]), inputs["sigma"]
    d = mean.shape[1]
    constant = -d * math.log(2 * math.pi) / 2
    squares = want - constant + d * math.log(sigma)
    suspects = [
        ("the density's normalising constant is missing: it depends on σ and on the dimension of x", squares),
        (
            "half of the density's constant is missing: what does σ do to a Gaussian's height?",
            squares + constant,
        ),
        ("the log-density is averaged over the dimensions of x, but logs of factors add up", want / d),
        ("sigma is a standard deviation, not a variance", _normal(mean, sigma**0.5).log_prob(inputs["x"])),
        (OTHER_Z, elbo(**inputs | {"z": inputs["mu"]})),
    ]
    hint = "where q is the prior only log N(x; G(z), σ² I) is left: write that density out"
    student(**inputs).should_be(want, hint, suspects)


def _elbo_divergence(student: Student, random: Random) -> None:
    inputs = _elbo_inputs(random)
    want, z, kl = elbo(**inputs), inputs["z"], gaussian_kl(inputs["mu"], inputs["log_sigma"])
    q, p = _normal(inputs["mu"], inputs["log_sigma"].exp()), _normal(torch.zeros_like(z), 1.0)
    suspects = [
        ("the KL has the wrong sign: does it raise the bound or lower it?", want + 2 * kl),
        ("the KL is missing: a posterior that differs from the prior has its price", want + kl),
        (ADD_UP, want + kl - kl / z.shape[1]),
        (
            "the KL is estimated at z: here the closed form is asked for",
            want + kl - q.log_prob(z) + p.log_prob(z),
        ),
        (OTHER_Z, elbo(**inputs | {"z": inputs["mu"]})),
    ]
    student(**inputs).should_be(want, "what is paid for a posterior that differs from the prior?", suspects)


def iwae(log_w: Tensor) -> Tensor:
    """log 1/k Σ_i w_i of log-weights (n, k), shape (n,); thesis 4.4.1."""
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


def _iwae_of_weights(student: Student, random: Random) -> None:
    log_w = 2 * random.normal(*random.sizes(2))
    suspects = [
        ("the weights are summed: what is the bound when all of them are equal?", log_w.logsumexp(1)),
        (MEAN_OF_LOGS, log_w.mean(1)),
    ]
    hint = "the bound is the logarithm of the mean weight of each row"
    student(log_w=log_w).should_be(iwae(log_w), hint, suspects)


def _iwae_of_huge_weights(student: Student, random: Random) -> None:
    log_w = random.normal(*random.sizes(2))
    log_w = log_w + torch.linspace(-2000, 2000, len(log_w), dtype=log_w.dtype)[:, None]
    student(log_w=log_w).should_be(
        iwae(log_w),
        hint="a constant added to a row of log-weights must come out again, however large",
        nonfinite="large weights overflow or small ones vanish in exp: what can be taken out of the sum?",
    )


def aggregated_posterior(z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """log 1/N Σ_i N(z; μ_i, diag σ_i²) at z (m, d) for μ, log σ (N, d), shape (m,); thesis 2.1.4."""
    weights = Categorical(torch.ones(len(mu), dtype=mu.dtype))
    return MixtureSameFamily(weights, _normal(mu, log_sigma.exp())).log_prob(z)


def _posterior_of_one(student: Student, random: Random) -> None:
    m, d = random.sizes(2)
    z, mu, log_sigma = random.normal(m, d), random.normal(1, d), 0.6 * random.normal(1, d)
    want = aggregated_posterior(z, mu, log_sigma)
    suspects = [
        (NOT_A_VARIANCE, aggregated_posterior(z, mu, log_sigma / 2)),
        (
            "a Gaussian's scale is its standard deviation, not its variance",
            aggregated_posterior(z, mu, 2 * log_sigma),
        ),
        ("that is a mean over the dimensions, but log-densities of independent dimensions add up", want / d),
    ]
    student(z=z, mu=mu, log_sigma=log_sigma).should_be(
        want, "with a single datum q(z) is that datum's Gaussian", suspects
    )


def _posterior_of_many(student: Student, random: Random) -> None:
    m, n, d = random.sizes(3)
    z, mu, log_sigma = random.normal(m, d), 1.5 * random.normal(n, d), 0.4 * random.normal(n, d)
    want = aggregated_posterior(z, mu, log_sigma)
    each = torch.stack([aggregated_posterior(z, mu[i : i + 1], log_sigma[i : i + 1]) for i in range(n)])
    middle, sigma = mu.mean(0, keepdim=True), log_sigma.exp()
    widths = (
        log_sigma.mean(0, keepdim=True),
        sigma.mean(0, keepdim=True).log(),
        sigma.square().mean(0, keepdim=True).log() / 2,
    )
    averaged = "one Gaussian with averaged parameters is not the mixture of N Gaussians"
    suspects = [
        ("the logarithms are averaged: a mixture averages densities", each.mean(0)),
        ("the mixture does not integrate to 1: how much does each datum weigh?", want + math.log(n)),
        *((averaged, aggregated_posterior(z, middle, log_width)) for log_width in widths),
    ]
    hint = "q(z) is the mean of N densities, one per datum, and its logarithm is wanted"
    student(z=z, mu=mu, log_sigma=log_sigma).should_be(want, hint, suspects)


def _posterior_far_out(student: Student, random: Random) -> None:
    m, n, d = random.sizes(3)
    z, mu, log_sigma = random.normal(m, d) + 60, random.normal(n, d), 0.3 * random.normal(n, d)
    student(z=z, mu=mu, log_sigma=log_sigma).should_be(
        aggregated_posterior(z, mu, log_sigma),
        hint="far from all data the values must still be right, and there the widest posteriors count most",
        nonfinite="far from all data densities vanish before their logarithm is taken: can exp be put off?",
    )


def kl_annealing(step: int, warmup: int) -> float:
    """β at a step: linear from 0 to 1 during the warm-up, then 1; thesis 2.1.4."""
    return min(max(step / warmup, 0.0), 1.0)


def _annealing(student: Student, warmup: int, last: int) -> None:
    for step in sorted({0, 1, warmup // 2, warmup - 1, warmup, min(warmup + 1, last), last}):
        beta = student(step=step, warmup=warmup).number()
        if abs(beta - kl_annealing(step, warmup)) > 1e-6:
            place = f"step {step}, {'after' if step > warmup else 'in'} a warm-up of {warmup} steps"
            raise Wrong(f"β is {beta:.3g} at {place}: plot it against the step")


def _annealing_ramp(student: Student, random: Random) -> None:
    warmup = 2 * int(random.uniform(5, 20))
    _annealing(student, warmup, last=warmup)


def _annealing_ends(student: Student, random: Random) -> None:
    warmup = 2 * int(random.uniform(5, 20))
    _annealing(student, warmup, last=5 * warmup)


def score_function_gradient(f: Callable, mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """f(z) ∂/∂μ log N(z; μ, σ²) at z = μ + σε, one estimate per ε, (n,)."""
    z = mu + sigma * eps
    means = mu.expand_as(z).clone().requires_grad_()
    (score,) = torch.autograd.grad(Normal(means, sigma).log_prob(z).sum(), means)
    return f(z) * score


def _scores(student: Student, random: Random) -> None:
    (n,) = random.sizes(1)
    mu, sigma, eps = random.normal(), random.uniform(0.3, 0.7), random.normal(n)

    def f(z: Tensor) -> Tensor:
        return z.square() + torch.sin(3 * z) + 1

    z = mu + sigma * eps
    want = score_function_gradient(f, mu, sigma, eps)
    slope = 2 * z + 3 * torch.cos(3 * z)
    suspects = [
        ("the scale is wrong: how fast does log N(z; μ, σ²) change with μ when σ is small?", f(z) * eps),
        ("the scale is wrong: write z − μ in terms of ε once more", want / sigma),
        ("f is differentiated: that is the other estimator, and here f may have no derivative", slope),
        ("f is taken at the noise instead of the sample", f(eps) * eps / sigma),
    ]
    hint = "the estimate is f(z) times the derivative of a log-density by μ"
    student(f=f, mu=mu, sigma=sigma, eps=eps).should_be(want, hint, suspects)


def _scores_of_a_step(student: Student, random: Random) -> None:
    mu, sigma = 0.3 * random.normal(), random.uniform(0.5, 0.9)
    eps = Normal(0.0, 1.0).icdf((torch.arange(501, dtype=torch.float64) + 0.5) / 501)

    def f(z: Tensor) -> Tensor:
        return (z > 0).double()

    estimates = student(f=f, mu=mu, sigma=sigma, eps=eps).tensor(eps.shape).detach()
    truth = Normal(0.0, 1.0).log_prob(mu / sigma).exp() / sigma  # the derivative of E f = Φ(μ/σ)
    ratio = float(estimates.mean() / truth)
    if abs(ratio - 1) > 0.05:
        raise Wrong(f"for f a step at 0 the mean is {ratio:.3g} times the gradient of E f: is it unbiased?")


def topdown_kl(mu_q: Tensor, log_sigma_q: Tensor, mu_p: Tensor, log_sigma_p: Tensor) -> Tensor:
    """KL(q ‖ p) of diagonal Gaussians in nats, (n, d) -> (n,), as hierarchical VAEs need it, thesis 2.1.5."""
    return kl_divergence(_normal(mu_q, log_sigma_q.exp()), _normal(mu_p, log_sigma_p.exp()))


def _topdown_means(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    mu_q, mu_p, width = random.normal(n, d), random.normal(n, d), 0.5 * random.normal(n, d)
    want = topdown_kl(mu_q, width, mu_p, width)
    distance = (mu_q - mu_p).square().sum(1)
    suspects = [
        (ADD_UP, want / d),
        ("the distance of the means has no unit: a narrow prior punishes it more", distance / 2),
        ("with equal widths the KL vanishes where the means agree: a term is missing", want + d / 2),
    ]
    hint = "with equal widths only the distance of the means counts: measured in what unit?"
    student(mu_q=mu_q, log_sigma_q=width, mu_p=mu_p, log_sigma_p=width).should_be(want, hint, suspects)


def _topdown_widths(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    (mu_q, log_q), (mu_p, log_p) = ((random.normal(n, d), 0.6 * random.normal(n, d)) for _ in range(2))
    want, ratio = topdown_kl(mu_q, log_q, mu_p, log_p), (log_p - log_q).sum(1)
    suspects = [
        (ADD_UP, want / d),
        (NOT_A_VARIANCE, topdown_kl(mu_q, log_q / 2, mu_p, log_p / 2)),
        ("the arguments are swapped: the mean is under q", topdown_kl(mu_p, log_p, mu_q, log_q)),
        ("the term that comes from the two normalising constants is missing", want - ratio),
        ("the term that comes from the two normalising constants has the wrong sign", want - 2 * ratio),
    ]
    hint = "the mean of log q − log p under q: which terms does each of the two widths bring in?"
    student(mu_q=mu_q, log_sigma_q=log_q, mu_p=mu_p, log_sigma_p=log_p).should_be(want, hint, suspects)


def _exercise(reference: Callable, *properties: Callable) -> Exercise:
    """An exercise of this chapter, named after its reference; each property is worth one point."""
    return Exercise(f"vae.{reference.__name__}", reference, tuple(Property(1, p) for p in properties))


EXERCISES = (
    _exercise(gaussian_kl, _kl_of_means, _kl_of_widths),
    _exercise(reparameterise, _z_is_mean_plus_noise, _z_carries_gradients),
    _exercise(elbo, _elbo_reconstruction, _elbo_divergence),
    _exercise(iwae, _iwae_of_weights, _iwae_of_huge_weights),
    _exercise(aggregated_posterior, _posterior_of_one, _posterior_of_many, _posterior_far_out),
    _exercise(kl_annealing, _annealing_ramp, _annealing_ends),
    _exercise(score_function_gradient, _scores, _scores_of_a_step),
    _exercise(topdown_kl, _topdown_means, _topdown_widths),
)
