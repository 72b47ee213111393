"""Real pairs for the discriminator: x_{t−1} from the data, and x_t from x_{t−1}; thesis (6.4)."""

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def levels(alpha_bars: Tensor, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """ᾱ_t and ᾱ_{t−1} of each row at times t (n,), beside `like`; 1 for the data."""
    known = torch.cat([alpha_bars.new_ones(1), alpha_bars])
    return tuple(beside(known[k], like) for k in (t + 1, t))


def beside(values: Tensor, like: Tensor) -> Tensor:
    """One value for each row, (n,), with as many axes as `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def pair(x0: Tensor, t: Tensor, alpha_bars: Tensor, eps: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """x_{t−1} and x_t, both (n, *event_shape), from x_0, ε in x_{t−1} and u in the step; t (n,) from 0; thesis (6.4).

    By two angles: that of x_{t−1}, whose cosine is √ᾱ_{t−1}, and that of the step.
    """
    now, then = levels(alpha_bars, t, x0)
    first, turn = torch.acos(then.sqrt()), torch.acos((now / then).sqrt())
    before = torch.cos(first) * x0 + torch.sin(first) * eps
    return before, torch.cos(turn) * before + torch.sin(turn) * step


def _of_before(
    x0: Tensor, eps: Tensor, step: Tensor, now: Tensor, then: Tensor, wrapped: Tensor
) -> list[tuple[str, Tensor]]:
    def noised(a: Tensor, noise: Tensor = eps) -> Tensor:
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    ratio = now / then
    return [
        ("at t = 0 the index before it has wrapped round to the end: x_{t−1} of the first step is the data themselves",
         noised(wrapped)),
        ("this has the noise of time t: the first of the pair is one step nearer to the data", noised(now)),
        ("this is one step from the data, at every t: x_{t−1} has gone all steps but the last", noised(ratio)),
        ("the first of the pair are the data, at every t: which pairs will the generator make?", x0),
        ("x_{t−1} has the noise u, which is for the step after it", noised(then, step)),
        ("1 − ᾱ is a variance: what width has the noise?", then.sqrt() * x0 + (1 - then) * eps),
        ("the roots are missing in x_{t−1}", then * x0 + (1 - then) * eps),
        ("a root is missing: x_{t−1} has the mean √ᾱ x_0", then * x0 + (1 - then).sqrt() * eps),
        ("data and noise are swapped in x_{t−1}", (1 - then).sqrt() * x0 + then.sqrt() * eps),
        ("the data have not shrunk in x_{t−1}", x0 + (1 - then).sqrt() * eps),
        ("the noise is missing in x_{t−1}", then.sqrt() * x0),
        ("x_{t−1} and x_t are exchanged: which comes first in D?", ratio.sqrt() * noised(then) + (1 - ratio).sqrt() * step),
    ]  # fmt: skip


def _of_after(x0: Tensor, eps: Tensor, step: Tensor, now: Tensor, then: Tensor, wrapped: Tensor) -> list[tuple[str, Tensor]]:
    before, ratio = then.sqrt() * x0 + (1 - then).sqrt() * eps, now / then
    beta, circle = 1 - ratio, now / wrapped
    return [
        ("x_t is made of x_0 by noise of its own: each law is right, but the two know too little of each other. "
         "Where does the chain go from x_{t−1}?", now.sqrt() * x0 + (1 - now).sqrt() * step),
        ("x_t has the noise of x_{t−1} again: each law is right, but the two know too much of each other. Where is u?",
         now.sqrt() * x0 + (1 - now).sqrt() * eps),
        ("x_{t−1} is taken for data and noised to t all over again: this is one step, of β_t",
         now.sqrt() * before + (1 - now).sqrt() * step),
        ("the noise is that of all steps, on top of x_{t−1} which has its own: this is one step, of β_t",
         ratio.sqrt() * before + (1 - now).sqrt() * step),
        ("β_t is a variance: what width has the noise of the step?", ratio.sqrt() * before + beta * step),
        ("√(1 − β_t) is for x_{t−1}, √β_t for u: here they are exchanged", beta.sqrt() * before + ratio.sqrt() * step),
        ("x_{t−1} shrinks by a root: (2.44) has the mean √(1 − β_t) x_{t−1}", ratio * before + beta.sqrt() * step),
        ("the roots are missing in the step", ratio * before + beta * step),
        ("x_{t−1} shrinks in the step: else the variance grows", before + beta.sqrt() * step),
        ("the step's noise has no width of its own", ratio.sqrt() * before + step),
        ("the noise of the step is that of x_{t−1}: it is to be new", ratio.sqrt() * before + beta.sqrt() * eps),
        ("there is no noise in the step", ratio.sqrt() * before),
        ("β_t is 1 − ᾱ_t/ᾱ_{t−1}: here it has become another", then.sqrt() * before + (1 - then).sqrt() * step),
        ("at t = 0 the index before it has wrapped round to the end: what is ᾱ of the data?",
         circle.sqrt() * before + (1 - circle).abs().sqrt() * step),
        ("x_{t−1} and x_t are exchanged: which comes first in D?", before),
        ("x_t starts from x_0: (2.44) starts from x_{t−1}", ratio.sqrt() * x0 + beta.sqrt() * step),
    ]  # fmt: skip


def _pairs(student: Student, x0: Tensor, t: Tensor, alpha_bars: Tensor, random: Random) -> None:
    eps, step = random.normal(*x0.shape), random.normal(*x0.shape)
    now, then = levels(alpha_bars, t, x0)
    wrapped = beside(alpha_bars[t - 1], x0)
    want = pair(x0, t, alpha_bars, eps, step)
    answer = student(x0=x0, t=t, alpha_bars=alpha_bars, eps=eps, step=step)
    before, after = answer.parts("x_{t−1}", "x_t")
    across = [
        (
            "ᾱ runs along the columns: it is the rows that have times of their own",
            then.T.sqrt() * x0 + (1 - then.T).sqrt() * eps,
        )
        for _ in range(int(x0.ndim == 2 and len(x0) == x0.shape[1]))
    ]
    nonfinite = "inf or nan: is a root taken of something below 0? Which ᾱ stands before that of t = 0?"
    clamped = beside(alpha_bars[(t - 1).clamp(min=0)], x0)
    noisy = ("at t = 0 there is noise: what is ᾱ of the data?", clamped.sqrt() * x0 + (1 - clamped).sqrt() * eps)
    hint = "noise of one step fewer than t has, so of ᾱ_{t−1}; and where t = 0?"
    before.should_be(want[0], hint, [*_of_before(x0, eps, step, now, then, wrapped), *across, noisy], nonfinite)
    hint = "one step (2.44) from x_{t−1}, of the row's own β_t, with the noise u"
    after.should_be(want[1], hint, _of_after(x0, eps, step, now, then, wrapped), nonfinite)


def on_the_way(student: Student, random: Random) -> None:
    """As many rows as columns, where ᾱ spread along the wrong axis would show in no shape."""
    (n,) = random.sizes(1)
    alpha_bars = random.uniform(0.3, 0.8, 6).cumprod(0)
    _pairs(student, random.normal(n, n), random.uniform(1, 5, n).long(), alpha_bars, random)


def next_to_the_data(student: Student, random: Random) -> None:
    """Images, some of them at t = 0, where x_{t−1} is the datum; and a chain of one step."""
    n, c, h = random.sizes(3)
    for steps in (4, 1):
        t = torch.arange(n) % steps
        alpha_bars = random.uniform(0.3, 0.8, steps).cumprod(0)
        _pairs(student, random.normal(n, c, h, h + 1), t, alpha_bars, random)
