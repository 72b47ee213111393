"""What noise does to a chain's law: a temperature, and in a valley a variance that K steps may not reach; thesis (5.3)."""

import math

import torch

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Numbers = tuple[float, float, float]


def temperature(step: float, noise: float, curvature: float, start: float, steps: int) -> Numbers:
    """T of x' = x − η/2 ∇E(x) + σ u, and for E = a/2 x² the variance after K steps from N(0, v₀), and after infinitely many.

    Written out, the end is r^K x₀ + σ Σ_j r^j u_{K−1−j}, r = 1 − ηa/2: a sum of independent numbers. η < 4/a.
    """
    shares = torch.tensor(1 - step * curvature / 2, dtype=torch.float64) ** torch.arange(steps + 1)
    after = start * shares[-1].square() + noise**2 * shares[:-1].square().sum()
    t = (noise / math.sqrt(step)) ** 2
    return t, float(after), t / (curvature * (1 - step * curvature / 4))


def _after(rate: float, kick: float, start: float, steps: int) -> float:
    """The variance v after K times v ← rate v + kick."""
    for _ in range(steps):
        start = rate * start + kick
    return start


def _number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def its_temperature(student: Student, random: Random) -> None:
    """At little noise, at Langevin's own, T = 1, and at none, T = 0."""
    for share in (float(random.uniform(0.2, 0.6)), 1.0, 0.0, 1.7):
        eta = float(random.uniform(0.05, 0.5))
        noise = math.sqrt(eta) * share
        inputs = {"step": eta, "noise": noise, "curvature": 1.5, "start": 1.0, "steps": 4}
        suspects = [
            ("that is the temperature of a drift of the whole step: (5.3) has half of it", noise**2 / (2 * eta)),
            ("twice that of (5.3): with the noise of (5.3) itself the temperature is 1", 2 * noise**2 / eta),
            ("the noise is not squared: temperature is a variance of the kicks over a step", noise / eta),
            ("the root of the temperature: with which power does noise enter a variance?", noise / math.sqrt(eta)),
            ("the root of the step is taken: a variance is wanted over a step", noise**2 / math.sqrt(eta)),
            ("that is the variance of a kick: a longer step bears more noise", noise**2),
            ("that is the scale of the noise: how much of it makes the temperature 1?", noise),
            ("the step is squared: it stands once in the temperature", noise**2 / eta**2),
            ("the step multiplies: at the same noise, is a chain of longer steps hotter?", noise**2 * eta),
            ("that is the step: with no noise the temperature is 0", eta),
            ("that is one over the temperature, or nearly: with more noise it rises", eta / noise**2 if noise else 0.0),
            ("noise is not looked at: only Langevin's own has the temperature 1", 1.0),
            ("the energy's curvature is in it: a temperature is the chain's, whatever the energy", noise**2 / (eta * 1.5)),
            ("that is half a temperature, or a quarter of it: at noise √η it is to be 1", noise**2 / (4 * eta)),
        ]  # fmt: skip
        found, *_ = student(**inputs).parts("temperature", "variance after K steps", "variance in the end")
        hint = "with the noise of (5.3), √η, it is 1; how does it grow with the noise?"
        found.should_be(_number(noise**2 / eta), hint, [(special, _number(wrong)) for special, wrong in suspects])


def _variances(student: Student, eta: float, noise: float, a: float, start: float, k: int) -> None:
    r, t = 1 - eta * a / 2, noise**2 / eta
    rate, kick = r**2, noise**2
    _, want_after, want_last = temperature(eta, noise, a, start, k)

    def ends(limit: float, rate: float = rate) -> float:
        return limit + rate**k * (start - limit)

    after = [
        ("variances shrink with the square of what lengths shrink with", _after(r, kick, start, k)),
        ("the drift is half the step: what is x multiplied by?", _after((1 - eta * a) ** 2, kick, start, k)),
        ("a quarter of the step? The drift is half of it", _after((1 - eta * a / 4) ** 2, kick, start, k)),
        ("the drift leads to 0, not away from it", _after((1 + eta * a / 2) ** 2, kick, start, k)),
        ("the curvature is missing: the slope of E is a times x", _after((1 - eta / 2) ** 2, kick, start, k)),
        ("the slope of a/2 x² is a x: the half is gone", _after((1 - eta * a / 4) ** 2, kick, start, k)),
        ("the noise is no variance: σ u has which?", _after(rate, noise, start, k)),
        ("the noise of a step is σ, not the root of η", _after(rate, eta, start, k)),
        ("the noise is multiplied by the step: σ is the scale of all of it", _after(rate, kick * eta, start, k)),
        ("there is no noise in it", _after(rate, 0.0, start, k)),
        ("the start is forgotten: it shrinks, but is there", _after(rate, kick, 0.0, k)),
        ("the noise of early steps shrinks, too, in later ones", rate**k * start + k * kick),
        ("the start shrinks: it does not stay as it was", start + k * kick),
        ("only the noise shrinks: does the start stay?", start + _after(rate, kick, 0.0, k)),
        ("the noise came before the drift: (5.3) has it behind", _after(rate, rate * kick, start, k)),
        ("v₀ is a variance, not a standard deviation", _after(rate, kick, start**2, k)),
        ("v₀ is a variance: no root is to be taken", _after(rate, kick, math.sqrt(start), k)),
        ("that is a standard deviation: the variance is wanted", math.sqrt(want_after)),
        ("that is of one step fewer", _after(rate, kick, start, max(k - 1, 0))),
        ("that is of one step more", _after(rate, kick, start, k + 1)),
        ("that is where it leads in the end, not after K steps", want_last),
        ("that is the law of small steps, T/a, not that after K steps", t / a),
        ("that is of infinitely small steps, which shrink by e to the −ηa/2: these are of finite length",
         ends(t / a, math.exp(-eta * a))),
        ("the end that it nears is that of small steps; these are of finite length", ends(t / a)),
        ("of the start's way to the end only a factor per step is wanted, twice, for a variance", ends(want_last, r)),
    ]  # fmt: skip
    last = [
        ("that is T/a, the law at small steps: at which v does a step of this length leave it?", t / a),
        ("that is T, whatever the valley: a narrow one has less", t),
        ("that is T times the curvature: a narrow valley has less variance", t * a),
        ("that is 1/a, the variance at temperature 1: at which temperature is this chain?", 1 / a),
        ("variances shrink with the square of what lengths shrink with", kick / (1 - r)),
        ("the noise is no variance: σ u has which?", noise / (1 - rate)),
        ("that is a standard deviation: the variance is wanted", math.sqrt(want_last)),
        ("that is the variance after K steps, which depends on where it began", want_after),
        ("long steps widen the law: which sign has their correction?", t / (a * (1 + eta * a / 4))),
        ("the correction for the step's length is twice too large: r has a half, its square a quarter",
         t / (a * (1 - eta * a / 2)) if eta * a != 2 else 0.0),
        ("the drift is half the step: what is x multiplied by?",
         kick / (1 - (1 - eta * a) ** 2) if eta * a != 2 else 0.0),
        ("the noise of one step is all that is counted", kick),
        ("the start is still there: after infinitely many steps it is forgotten", start),
        ("the start is still there: after infinitely many steps it is forgotten", start + want_last),
        ("the noise came before the drift: (5.3) has it behind", rate * want_last),
        ("with noise the chain never comes to rest", 0.0),
    ]  # fmt: skip
    inputs = {"step": eta, "noise": noise, "curvature": a, "start": start, "steps": k}
    _, found_after, found_last = student(**inputs).parts("temperature", "variance after K steps", "variance in the end")
    hint = "what is left of v after a drift that multiplies x by 1 − ηa/2, and what does a kick add?"
    nonfinite = "inf or nan: at some step length, noise or K something is divided by 0"
    found_after.should_be(_number(want_after), hint, [(s, _number(v)) for s, v in after], nonfinite)
    hint = "the variance that a step leaves as it is: what does a step make of v?"
    found_last.should_be(_number(want_last), hint, [(s, _number(v)) for s, v in last], nonfinite)


def its_variances(student: Student, random: Random) -> None:
    """Short steps, one, none, many; steps that overshoot; no noise."""
    (k,) = random.sizes(1)
    a, start = float(random.uniform(1.5, 4)), float(random.uniform(1.5, 3))
    for share, noise, count in ((0.6, 0.3, k), (0.3, 0.7, 1), (0.6, 0.3, 0), (0.5, 0.2, 1000), (2.7, 0.4, k), (0.4, 0.0, k)):
        _variances(student, share / a, noise, a, start, count)
