"""Walking along scores: through falling noise (slides (25)), and towards a label (D&C 3.3)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Score = Callable[[Tensor, Tensor], Tensor]
Field = Callable[[Tensor], Tensor]


def annealed_langevin(score: Score, x: Tensor, sigmas: Tensor, step: float, z: Tensor) -> Tensor:
    """Where chains at x (n, d) are after m Langevin steps at each of the falling σ_i, with noise z (levels, m, n, d).

    x ← x + ε_i s(x, σ_i) + √(2ε_i) z, ε_i = step σ_i²/σ_L², σ_L the last; slides (25).
    """
    for sigma, noise in zip(sigmas, z, strict=True):
        length = step * torch.square(sigma / sigmas[-1])
        for omega in noise:
            law = Normal(x + length * score(x, sigma), torch.sqrt(length + length))
            x = law.loc + law.scale * omega
    return x


def _walk(score: Score, x: Tensor, sigmas: Tensor, lengths: Sequence[Tensor], widths: Sequence[Tensor], z: Tensor) -> Tensor:
    """Chains with other lengths and widths of the noise at each level; `sigmas` are what the score is told."""
    for sigma, length, width, noise in zip(sigmas, lengths, widths, z, strict=True):
        for omega in noise:
            x = x + length * score(x, sigma) + width * omega
    return x


def _annealed(student: Student, random: Random, levels: int) -> None:
    n, d, m = random.sizes(3)
    m += m == levels
    weights, step = random.normal(d, d), float(random.uniform(0.02, 0.04))
    sigmas = torch.linspace(2, 1, levels + 1, dtype=torch.float64)[1:] * random.uniform(0.4, 0.6)
    x, z = 1 + random.normal(n, d), random.normal(levels, m, n, d)

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        if isinstance(sigma, Tensor) and sigma.ndim:
            raise ValueError(f"score wants σ as a number here; got shape {tuple(sigma.shape)}")
        return (torch.tanh(x @ weights) - x) / (0.5 + sigma**2)

    first, last = sigmas[0], sigmas[-1]
    lengths = step * sigmas.square() / last.square()

    def walk(e: Tensor = lengths, w: Tensor | None = None, told: Tensor = sigmas, noise: Tensor = z) -> Tensor:
        return _walk(score, x, told, e, (2 * e).sqrt() if w is None else w, noise)

    silent = z.clone()
    silent[-1, -1] = 0
    from_start = _walk(score, x, sigmas[-1:], lengths[-1:], (2 * lengths[-1:]).sqrt(), z[-1:])
    turned = sigmas.flip(0)
    suspects = [
        ("the chains climb down: a score points to where data are", walk(-lengths, (2 * lengths).sqrt())),
        ("a 2 is missing under the root of the noise", walk(w=lengths.sqrt())),
        ("drift and noise are those of chapter 4's step: in (25) ε stands alone in front of the score",
         walk(lengths / 2, lengths.sqrt())),
        ("the root of the noise is missing: ε is half its variance", walk(w=2 * lengths)),
        ("the root of the noise is missing: ε is half its variance", walk(w=lengths)),
        ("the noise is not scaled: how wide is it after a step of length ε?", walk(w=torch.ones_like(lengths))),
        ("the 2 stands outside the root", walk(w=2 * lengths.sqrt())),
        ("there is no noise: that is climbing", walk(w=0 * lengths)),
        ("the step is as long at each level: where there is much noise long steps are safe", walk(step + 0 * lengths)),
        ("the step grows with σ, but it should with the square", walk(step * sigmas / last)),
        ("σ is compared with the first level: which one is `step` meant for?", walk(step * (sigmas / first) ** 2)),
        ("σ is not compared with the last one, for which `step` is meant", walk(step * sigmas**2)),
        ("the step is longest where σ is least: turn the fraction round", walk(step * (last / sigmas) ** 2)),
        ("the levels are walked the wrong way: the noise should fall", walk(lengths.flip(0), told=turned)),
        ("the levels are walked the wrong way: the noise should fall", walk(step * (turned / first) ** 2, told=turned)),
        ("the levels are walked the wrong way: the noise should fall", walk(lengths.flip(0), told=turned, noise=z.flip(0))),
        ("each level starts anew: it should start where the one before it ended", from_start),
        ("only one level is walked, of as many as there are σ",
         _walk(score, x, sigmas[:1], lengths[:1], (2 * lengths[:1]).sqrt(), z[:1])),
        ("one level is missing: count the σ", _walk(score, x, sigmas[:-1], lengths[:-1], (2 * lengths[:-1]).sqrt(), z[:-1])),
        ("one step is made at each level, of as many as there is noise for", walk(noise=z[:, :1])),
        ("one step is missing at each level: count the noise", walk(noise=z[:, :-1])),
        ("every step has noise of its own", walk(noise=z[:, :1].expand_as(z))),
        ("every level has noise of its own", walk(noise=z[:1].expand_as(z))),
        ("the last step has noise, too: (25) makes no exception", walk(noise=silent)),
        ("the score is told the last σ at all levels", walk(told=last.expand_as(sigmas))),
        ("the score is told the first σ at all levels", walk(told=first.expand_as(sigmas))),
        ("the score is told the variance: it wants σ", walk(told=sigmas.square())),
        ("x has come back as it was: no step was made", x),
    ]  # fmt: skip
    hint = "two loops: over the levels, and over the noise of each; how long is a step at σ_i, and how wide its noise?"
    want = annealed_langevin(score, x, sigmas, step, z)
    student(score=score, x=x, sigmas=sigmas, step=step, z=z).should_be(want, hint, suspects)


def at_one_level(student: Student, random: Random) -> None:
    _annealed(student, random, 1)


def through_falling_levels(student: Student, random: Random) -> None:
    _annealed(student, random, 4)


def guided_score(score: Field, log_p_y: Field, x: Tensor, scale: float) -> Tensor:
    """s(x) + scale ∇_x log p(y|x) at x (n, d) by the whole Jacobian of log_p_y; Dhariwal & Nichol 2021, D&C 3.3."""
    slopes = torch.autograd.functional.jacobian(log_p_y, x)
    return torch.add(score(x), torch.einsum("nnd->nd", slopes), alpha=scale)


def _guided(student: Student, random: Random, scale: float) -> None:
    n, d = random.sizes(2)
    x, to_score, to_class = random.normal(n, d), random.normal(d, d), random.normal(d, 3)

    def score(x: Tensor) -> Tensor:
        return torch.tanh(x @ to_score) - x

    def log_p_y(x: Tensor) -> Tensor:
        return (x @ to_class + torch.sin(x @ to_class)).log_softmax(1)[:, 0]

    at = x.clone().requires_grad_()
    log_p = log_p_y(at)
    (g,) = torch.autograd.grad(log_p.sum(), at)
    s, p = score(x), log_p.detach().exp()[:, None]
    suspects = [
        ("the gradient is that of the mean: each row has a probability of its own", s + scale * g / n),
        ("the slopes of all rows are mixed: each has its own", s + scale * g.sum(0)),
        ("the slopes of all rows are mixed: each has its own", s + scale * g.mean(0)),
        ("that is the slope of the probability: its logarithm's is wanted", s + scale * p * g),
        ("the label pushes away: look at the sign", s - scale * g),
        ("the score has the wrong sign: both slopes lead uphill", scale * g - s),
        ("the label alone knows nothing of the data: the score is missing", scale * g),
        ("the label is ignored: that is the score of p(x)", s),
        ("the scale is ignored: it makes the label count more or less", s + g),
        ("it is the label that is scaled, not the score", scale * s + g),
        ("it is the label alone that is scaled, not both", scale * (s + g)),
        ("by Bayes' rule the label's slope comes once at scale 1", s + (1 + scale) * g),
        ("that is the mixture of two scores, which is for guidance without a classifier", (1 - scale) * s + scale * g),
        ("that is the mixture of two scores, which is for guidance without a classifier", (1 + scale) * s - scale * g),
        ("the score is there twice: the label's slope has none in it", 2 * s + scale * g),
        ("the scale is there twice: it should multiply the slope once", s + scale**2 * g),
        ("the slope is divided by the scale: a larger scale should pull more", s + g / scale),
        ("that is log p(y|x) itself: its slope is wanted", s + scale * log_p.detach()[:, None]),
    ]
    hint = "by Bayes' rule the logarithms of p(x) and p(y|x) add up: what are their slopes for x, row by row?"
    student(score=score, log_p_y=log_p_y, x=x, scale=scale).should_be(guided_score(score, log_p_y, x, scale), hint, suspects)


def at_scale_one(student: Student, random: Random) -> None:
    """Bayes' rule: the score of p(x|y)."""
    _guided(student, random, 1.0)


def at_other_scales(student: Student, random: Random) -> None:
    _guided(student, random, float(random.uniform(2, 4)))
