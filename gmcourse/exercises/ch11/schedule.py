"""The β of a VP chain of few steps, thesis (6.15)."""

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student, Wrong


def betas(steps: int, beta_min: float, beta_max: float) -> Tensor:
    """β_1 … β_T, (T,) in float64, thesis (6.15): what is lost while β(u) rises in a straight line from (t − 1)/T to t/T."""
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    rate = torch.lerp(torch.full_like(u, beta_min), torch.full_like(u, beta_max), u)
    return 1 - torch.exp(-torch.trapezoid(rate.unfold(0, 2, 1), u.unfold(0, 2, 1)))


def _suspects(steps: int, low: float, high: float) -> list[tuple[str, Tensor]]:
    t, rise = torch.arange(1, steps + 1, dtype=torch.float64), high - low
    want, u = betas(steps, low, high), t / steps
    total = low * u + rise * u**2 / 2

    def of(integral: Tensor) -> Tensor:
        return 1 - torch.exp(-integral)

    def step(odd: Tensor) -> Tensor:
        return of(low / steps + rise * odd / steps**2 / 2)

    return [
        ("a step leads from (t − 1)/T to t/T: what is t² less the square before it?", step(2 * t + 1)),
        ("the rate is that of the step's end: it rises on the way from (t − 1)/T to t/T", step(2 * t)),
        ("t counts from 1 in (6.15): the first step would make less noise than none", step(2 * t - 3)),
        ("t² is that of all steps so far: (6.15) has the difference of two squares", step(t**2)),
        ("the half is missing: what is the integral of a straight line?", of(low / steps + rise * (2 * t - 1) / steps**2)),
        ("that is the noise of all steps so far, 1 − ᾱ_t: β_t is that of one", of(total)),
        ("that is ᾱ_t, what all steps so far have left: β_t is what one adds", 1 - of(total)),
        ("that is α_t, what is kept: β_t is what is lost", 1 - want),
        ("what rises is divided by T, but not by its square: one T is for the length of a step, one for where it lies",
         of(low / steps + rise * (2 * t - 1) / steps / 2)),
        ("what rises is not divided by T²: one T is for the length of a step, one for where it lies",
         of(low / steps + rise * (2 * t - 1) / 2)),
        ("β_min is not divided by T: a shorter step loses less", of(low + rise * (2 * t - 1) / steps**2 / 2)),
        ("neither part is divided by T: how long is a step?", of(low + rise * (2 * t - 1) / 2)),
        ("β rises from β_min, by the difference of the two", of(low / steps + high * (2 * t - 1) / steps**2 / 2)),
        ("β_min is missing: there is noise from the start", of(rise * (2 * t - 1) / steps**2 / 2)),
        ("that is the exponent: e to the minus of it is what is kept", -torch.log1p(-want)),
        ("that is the rate times the step, right only where steps are many: with few it is above 1",
         (low + rise * u) / steps),
        ("that is the rate at t/T, not what a step of length 1/T loses", low + rise * u),
        ("the rate is taken at the beginning of a step: it rises on the way", of((low + rise * (u - 1 / steps)) / steps)),
        ("the sign of the exponent: β is between 0 and 1", 1 - torch.exp(-torch.log1p(-want))),
        ("the sign of the exponent, and the other way round: β is between 0 and 1", torch.exp(-torch.log1p(-want)) - 1),
        ("that is of 0.1 and 20, the thesis' numbers: others were given", betas(steps, 0.1, 20.0)),
        ("half the exponent makes √α: a variance was asked for", 1 - (1 - want).sqrt()),
        ("that is the width of a step's noise: β is its variance", want.sqrt()),
        ("that is the wrong way round: the first step, next to the data, makes the least noise", want.flip(0)),
    ]  # fmt: skip


def _asked(student: Student, steps: int, low: float, high: float) -> Answer:
    answer = student(steps=steps, beta_min=low, beta_max=high)
    if isinstance(answer.value, Tensor) and answer.value.dtype == torch.float32:
        raise Wrong("the numbers are float32, too coarse for a product of many factors near 1: which dtype was asked for?")
    return answer


def _compare(answer: Answer, steps: int, low: float, high: float, hint: str) -> None:
    nonfinite = "inf or nan: what is divided by 0 at T = 1?"
    answer.should_be(betas(steps, low, high), hint, _suspects(steps, low, high), nonfinite)


def of_the_thesis(student: Student, random: Random) -> None:
    """β from 0.1 to 20, in a few steps and in one."""
    (few,) = random.sizes(1)
    for steps in (few, 1):
        hint = "minus the logarithm of what a step keeps is the integral of β(u) over the step: from where to where?"
        _compare(_asked(student, steps, 0.1, 20.0), steps, 0.1, 20.0, hint)


def whatever_the_number_of_steps(student: Student, random: Random) -> None:
    """Of other β, ᾱ at the end is the same for one step and a thousand."""
    low, high = float(random.uniform(0.2, 0.5)), float(random.uniform(3, 6))
    for steps in (2, 4, 1000):
        answer = _asked(student, steps, low, high)
        found = answer.tensor(torch.Size((steps,)))
        kept = (1 - found).prod()
        hint = "here β does not run from 0.1 to 20: are both its ends looked at?"
        if not torch.isclose(kept, 1 - betas(1, low, high)[0], rtol=1e-4):
            hint = "what all steps together keep is not what one step of the whole length keeps, as (6.14) wants it"
        if (found - betas(steps, low, high)).abs().max() < 2e-6:
            hint = "that is as much as float32 rounds: was a part of it computed in float32?"
        _compare(answer, steps, low, high, hint)
