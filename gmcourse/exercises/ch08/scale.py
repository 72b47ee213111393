"""Why codes shrink: what the scale of z does to both latent terms if the flow follows, thesis 3.3.2."""

import math

import torch
from torch import Tensor
from torch.distributions import AffineTransform, Independent, MultivariateNormal, Normal, TransformedDistribution

from gmcourse.exercises.ch08.flow import well_conditioned
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student

FORGOTTEN = "nothing has changed: what becomes of a density when all that it describes is stretched by s?"


def shrink(nll: Tensor, entropy: Tensor, d: int, s: float) -> tuple[Tensor, Tensor]:
    """(−log p, entropy of q(z|x)) after z -> sz, (n,) each in nats, from those before it (n,).

    z has d dimensions, s > 0, and the flow follows perfectly: p is the density of sz as it was that of z.
    """
    stretched = AffineTransform(0.0, s, event_dim=1).log_abs_det_jacobian(nll.new_zeros(d), nll.new_zeros(d))
    return nll + stretched, entropy + stretched


def _scaled(random: Random, s: float) -> tuple[dict, Tensor, Tensor]:
    """Arguments, and both terms after scaling: of Gaussian codes and Gaussian posteriors, by way of their densities."""
    n, d = random.sizes(2)
    z, sigma = random.normal(n, d), random.uniform(0.1, 1, n, d)
    codes = MultivariateNormal(random.normal(d), scale_tril=torch.linalg.cholesky(_covariance(random, d)))
    followed = TransformedDistribution(codes, AffineTransform(0.0, s, event_dim=1))
    inputs = {"nll": -codes.log_prob(z), "entropy": Independent(Normal(z, sigma), 1).entropy(), "d": d, "s": s}
    return inputs, -followed.log_prob(s * z), Independent(Normal(s * z, s * sigma), 1).entropy()


def _covariance(random: Random, d: int) -> Tensor:
    root = well_conditioned(random.normal(d, d))
    return root @ root.mT


def _part(answer: Answer, before: Tensor, want: Tensor, other: Tensor, d: int, s: float, sign: str, hint: str) -> None:
    log_s = math.log(s)
    suspects = [
        (FORGOTTEN, before),
        (f"the sign: {sign}", before - d * log_s),
        ("each dimension is scaled by s: what does that do to a volume?", before + log_s),
        (f"each dimension is scaled by s, and the sign: {sign}", before - log_s),
        ("that is what a density is multiplied by: what does it do to the logarithm?", before + s**d),
        ("that is what a density is divided by: what does it do to the logarithm?", before + s**-d),
        ("s multiplies codes, not logarithms of densities", before * s),
        ("s multiplies codes, not logarithms of densities", before * s**d),
        ("s multiplies codes, not logarithms of densities", before / s),
        ("s multiplies codes, not logarithms of densities", before / s**d),
        ("that is linear in s: how much does halving cost, and halving again?", before + d * s),
        ("that is linear in s: how much does halving cost, and halving again?", before + d * (s - 1)),
        ("s is a standard deviation's factor, not a variance's", before + 2 * d * log_s),
        ("s is a standard deviation's factor, not a variance's", before + d * log_s / 2),
        ("that is in bits: nats are wanted", before + d * math.log2(s)),
        ("that is a logarithm to the base 10: nats are wanted", before + d * math.log10(s)),
        ("that is the change only: what does the term become?", want - before),
        ("that is the other of the two: which comes first?", other),
        ("one logarithm for all dimensions together: what is a volume's factor?", before + math.log(d * s)),
    ]
    answer.should_be(want, hint, suspects)


def of_the_codes(student: Student, random: Random) -> None:
    """−log p(z), where codes shrink and where they grow."""
    for s in (float(random.uniform(0.05, 0.4)), float(random.uniform(2, 9))):
        inputs, want, other = _scaled(random, s)
        nll, _ = student(**inputs).parts("nll", "entropy")
        hint = "the mass in a small box stays, the box is s times as wide in each direction: what becomes of −log p?"
        sign = "do shrunken codes lie denser, or thinner?"
        _part(nll, inputs["nll"], want, other, inputs["d"], s, sign, hint)


def of_the_posterior(student: Student, random: Random) -> None:
    """The entropy of q(z|x): it is what VAEs have and auto-encoders lack."""
    for s in (float(random.uniform(0.05, 0.4)), float(random.uniform(2, 9))):
        inputs, other, want = _scaled(random, s)
        _, entropy = student(**inputs).parts("nll", "entropy")
        hint = "σ becomes sσ in each dimension: what becomes of a Gaussian's entropy? It is a mean of −log q"
        sign = "does a narrower posterior have more entropy, or less?"
        _part(entropy, inputs["entropy"], want, other, inputs["d"], s, sign, hint)
