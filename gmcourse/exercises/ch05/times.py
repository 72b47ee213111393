"""Training times that all count the same, from LSGM 3.4: the variance rises geometrically."""

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def importance_times(rho: Tensor, beta_min: float, beta_max: float, start: float) -> Tensor:
    """t (n,) with σ²(t) = σ²(start)^{1−ρ} σ²(1)^ρ for ρ (n,) in [0, 1], of the VP diffusion with linear β; LSGM 3.4.

    By bisection.
    """
    first, last = (_variance(torch.tensor(t, dtype=rho.dtype), beta_min, beta_max).log() for t in (start, 1.0))
    wanted, t, half = torch.lerp(first, last, rho), torch.zeros_like(rho), 0.5
    while half > 1e-16:
        t, half = t + half * (_variance(t + half, beta_min, beta_max).log() < wanted), half / 2
    return t


def _integral(t: Tensor, low: float, high: float) -> Tensor:
    """∫β from 0 to t: a trapezium."""
    return t * (low + (1 - t) * low + t * high) / 2


def _variance(t: Tensor, low: float, high: float) -> Tensor:
    """σ²(t), shape of t."""
    return -torch.expm1(-_integral(t, low, high))


def _times(student: Student, random: Random, rho: Tensor) -> None:
    low, high = float(random.uniform(0.2, 0.6)), float(random.uniform(5, 9))
    start = float(random.uniform(0.02, 0.06))
    ends = torch.tensor([start, 1.0], dtype=rho.dtype)
    v0, v1 = _variance(ends, low, high)
    b0, b1 = _integral(ends, low, high)
    odds0, odds1 = ends.new_tensor([v0 / (1 - v0), v1 / (1 - v1)])
    wanted = v0 ** (1 - rho) * v1**rho
    odds = odds0 ** (1 - rho) * odds1**rho
    s0, s1 = -torch.expm1(-_integral(ends, low, high) / 2)
    slow = s0 ** (1 - rho) * s1**rho
    of_log = -torch.log1p(-wanted)
    suspects = [
        ("ρ runs the wrong way: at ρ = 0 is the start", _at(v0**rho * v1 ** (1 - rho), low, high)),
        ("the variance rises in a straight line: that is for the reweighted loss", _at(v0 + rho * (v1 - v0), low, high)),
        ("times are spread evenly: then most of them count for little", start + rho * (1 - start)),
        ("it is the variance that rises geometrically, not the time", start ** (1 - rho)),
        ("it is the variance that rises geometrically, not the integral of β",
         _inverse(b0 ** (1 - rho) * b1**rho, low, high)),
        ("it is the variance that rises geometrically, not its ratio to the signal's",
         _at(odds / (1 + odds), low, high)),
        ("it is the variance that rises geometrically, not the signal's", _inverse(b0 + rho * (b1 - b0), low, high)),
        ("that is the variance at the time wanted, not the time", wanted),
        ("that is the integral of β up to the time wanted, not the time", of_log),
        ("start is a time: which variance has it?", _at(start ** (1 - rho) * v1**rho, low, high)),
        ("σ² at t = 1 is taken for 1, which it is not quite", _at(v0 ** (1 - rho), low, high)),
        ("a half too many on the way back to ∫β: it belongs to α, not to the variance", _inverse(2 * of_log, low, high)),
        ("a half too many on the way to the variance: it belongs to α", _at(slow, low, high)),
        ("a half too many in the variance: it belongs to α", _inverse(-2 * torch.log1p(-slow), low, high)),
        ("widths have been taken for variances", _at(wanted.sqrt(), low, high)),
        ("the start has been forgotten: at ρ = 0 its variance is wanted", _at(v1 * rho, low, high)),
        ("the root of the quadratic equation is the wrong one: times are positive",
         (-low - (low**2 + 2 * (high - low) * of_log).sqrt()) / (high - low)),
        ("the part of β that rises: half of its square of t is its integral",
         (-low + (low**2 + 4 * (high - low) * of_log).sqrt()) / (2 * (high - low))),
        ("β is taken for constant: it rises from β_min to β_max", of_log / low),
        ("β is taken for constant: it rises from β_min to β_max", of_log / high),
    ]  # fmt: skip
    hint = "which variance belongs to ρ, which ∫β to that variance, and which t to that integral?"
    nonfinite = "inf or nan: does the logarithm see 0 or less, or the root less than 0?"
    want = importance_times(rho, low, high, start)
    student(rho=rho, beta_min=low, beta_max=high, start=start).should_be(want, hint, suspects, nonfinite)


def _inverse(integral: Tensor, low: float, high: float) -> Tensor:
    """The time at which ∫β has this value."""
    rise = high - low
    return ((low**2 + 2 * rise * integral).sqrt() - low) / rise


def _at(variance: Tensor, low: float, high: float) -> Tensor:
    """The time at which σ² has this value."""
    return _inverse(-torch.log1p(-variance), low, high)


def at_the_ends(student: Student, random: Random) -> None:
    """ρ of 0 and 1 in turn."""
    (n,) = random.sizes(1)
    _times(student, random, (torch.arange(n) % 2).double())


def in_between(student: Student, random: Random) -> None:
    (n,) = random.sizes(1)
    _times(student, random, random.uniform(0.1, 0.9, n))
