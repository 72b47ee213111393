"""Drawing from a density that is known but for a constant, from thesis 1.2.2–1.2.3: resampling, Langevin, MALA."""

import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def sir(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (n,) that sum to 1 and the effective sample size (Σ w)² / Σ w²; thesis 1.2.2."""
    weights = Categorical(logits=log_w).probs
    return weights, weights.square().sum().reciprocal()


def _sir(student: Student, log_w: Tensor, **options) -> None:
    want, ess = sir(log_w)
    shares = [
        ("the weights are to sum to 1", log_w.exp()),
        ("the largest weight is 1 now, but their sum should be", (log_w - log_w.max()).exp()),
        ("that is a logarithm: the weights themselves are wanted", want.log()),
        ("the log-weights themselves are normalised: they are logarithms", log_w / log_w.sum()),
    ]
    sizes = [
        ("a size is wanted: n for equal weights, 1 if one has all", 1 / ess),
        ("a size as a number of draws, not as a fraction of them", ess / len(log_w)),
        ("that counts by the largest weight alone", 1 / want.max()),
        ("the sum of the squares is taken of weights that don't sum to 1", 1 / log_w.exp().square().sum()),
        ("that counts by the entropy: here the sum of squares is asked for", Categorical(want).entropy().exp()),
        ("these weights sum to 1: their sum says nothing", torch.ones_like(ess)),
    ]
    weights, size = student(log_w=log_w).parts("weights", "effective sample size")
    weights.should_be(want, "each weight as a share of all the weight", shares, **options)
    size.should_be(ess, "n equal weights are worth n draws; one weight that has all is worth 1", sizes, **options)


def sir_of_weights(student: Student, random: Random) -> None:
    _sir(student, random.normal(*random.sizes(1)))


def sir_of_huge_weights(student: Student, random: Random) -> None:
    for shift in (1e4, -1e4):
        nonfinite = "numbers overflow or vanish in exp: which constant can be taken out of all the exponents first?"
        _sir(student, shift + random.normal(*random.sizes(1)), nonfinite=nonfinite)


def langevin_step(x: Tensor, score: Tensor, step: float, temperature: float, omega: Tensor) -> Tensor:
    """x + η/2 s + √(ηT) ω of points, scores s = ∇log p(x) and noise (n, d); thesis (1.17), (1.18) with α = η/2."""
    return x + step / 2 * score + math.sqrt(step * temperature) * omega


def _langevin(student: Student, random: Random, temperature: float) -> None:
    n, d = random.sizes(2)
    x, drift, omega = random.normal(n, d), random.normal(n, d), random.normal(n, d)
    step, t = float(random.uniform(0.1, 0.4)), temperature
    want = langevin_step(x, drift, step, t, omega)
    kick = (step * t) ** 0.5 * omega
    suspects = [
        ("the drift is twice too large: thesis (1.18) has α = η/2", want + step / 2 * drift),
        ("the drift leads downhill: the score points to where p is larger", want - step * drift),
        ("the noise is too large: its variance is that of (1.18) with α = η/2", want - kick + 2**0.5 * kick),
        ("drift and noise are those of a step twice as long: here α = η/2", want + step / 2 * drift + (2**0.5 - 1) * kick),
        ("noise grows with the root of time, not with time", want - kick + step * t**0.5 * omega),
        ("noise grows with the root of time and of temperature", want - kick + step * t * omega),
        ("there is no noise: that is gradient ascent", x + step / 2 * drift),
        ("temperature is ignored: when it is 0 nothing may be random", want - kick + step**0.5 * omega),
        ("the temperature belongs under the root, with the step", want - kick + step**0.5 * t * omega),
        ("here the temperature scales the noise, not the drift", x + step / 2 * drift / t + step**0.5 * omega),
        ("here the temperature scales the noise, not the drift, too", x + step / 2 * drift / t + kick),
        ("that is the step alone: from where is it taken?", want - x),
    ]
    hint = "how far along the score, and what variance has the noise of one step at this temperature?"
    student(x=x, score=drift, step=step, temperature=t, omega=omega).should_be(want, hint, suspects)


def langevin_at_one(student: Student, random: Random) -> None:
    _langevin(student, random, 1.0)


def langevin_at_other_temperatures(student: Student, random: Random) -> None:
    _langevin(student, random, float(random.uniform(0.2, 0.5)))


def mala_log_accept(e_x: Tensor, e_y: Tensor, s_x: Tensor, s_y: Tensor, x: Tensor, y: Tensor, step: float) -> Tensor:
    """min(0, E(x) − E(y) + log q(x|y) − log q(y|x)), (n,), where q(y|x) = N(y; x + η/2 s(x), η I); thesis 1.2.3."""
    return (e_x - e_y + _proposal(x, y, s_y, step) - _proposal(y, x, s_x, step)).clamp(max=0)


def _proposal(to: Tensor, at: Tensor, score: Tensor, step: float, sd: float | None = None) -> Tensor:
    return Normal(at + score * step / 2, sd or step**0.5).log_prob(to).sum(1)


def _mala(student: Student, random: Random, climb: float) -> None:
    n, d = random.sizes(2)
    x, s_x, s_y, e_x = random.normal(n, d), random.normal(n, d), random.normal(n, d), random.normal(n)
    step = float(random.uniform(0.3, 0.6))
    y = x + s_x * step / 2 + step**0.5 * random.normal(n, d)
    forth, back = _proposal(y, x, s_x, step), _proposal(x, y, s_y, step)
    e_y = e_x + (back - forth) + climb + random.uniform(-0.5, 0.5, n)  # so that the log-ratio is about −climb
    fall = e_x - e_y
    wide = _proposal(x, y, s_y, step, step) - _proposal(y, x, s_x, step, step)
    twice = _proposal(x, y, 2 * s_y, step) - _proposal(y, x, 2 * s_x, step)
    distance_forth, distance_back = (((u - v - step / 2 * s).square().sum(1)) for u, v, s in ((y, x, s_x), (x, y, s_y)))
    others = [
        ("the proposal is ignored: it is not as easy to come back as to go", fall),
        ("the two proposals are swapped: which of them leads back to x?", fall - back + forth),
        ("the energies are swapped: a fall in energy should be welcome", -fall + back - forth),
        ("only one of the two proposals is there", fall - forth),
        ("only one of the two proposals is there", fall + distance_forth / (2 * step)),
        ("only one of the two proposals is there", fall + back),
        ("only one of the two proposals is there", fall - distance_back / (2 * step)),
        ("the variance of the proposal is the step, not its square", fall + wide),
        ("the proposal's drift is half the step times the score", fall + twice),
        ("look at the factor in front of the squares over the variance", fall + 2 * (back - forth)),
        ("look at the variance of the noise: here α = η/2", fall + (back - forth) / 2),
        ("the way back starts from y and follows the score there", fall + _proposal(x, y, s_x, step) - forth),
        ("the way back starts from y and follows the score there", fall + _proposal(x, y, -s_x, step) - forth),
        ("the way back follows the score at y uphill, as the way there did", fall + _proposal(x, y, -s_y, step) - forth),
    ]
    every = "every proposal is accepted: is it cut off on the wrong side, or one of the two proposal densities missing?"
    suspects = [(every, torch.zeros(n, dtype=x.dtype)), (every, (fall + back - forth).clamp(min=0))]
    suspects += [(special, wrong.clamp(max=0)) for special, wrong in others] + others
    suspects.append(("that is above 0 at times: how probable can acceptance be at most?", fall + back - forth))
    want = mala_log_accept(e_x, e_y, s_x, s_y, x, y, step)
    suspects.append(("that is the probability: its logarithm is wanted", want.exp()))
    hint = "detailed balance weighs going from x to y against coming back: energies and proposals"
    student(e_x=e_x, e_y=e_y, s_x=s_x, s_y=s_y, x=x, y=y, step=step).should_be(want, hint, suspects)


def mala_uphill(student: Student, random: Random) -> None:
    _mala(student, random, climb=1.0)


def mala_either_way(student: Student, random: Random) -> None:
    _mala(student, random, climb=0.0)
