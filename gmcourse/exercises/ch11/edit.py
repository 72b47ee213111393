"""Strokes to pictures in a few steps: noise hides the strokes, the chain paints what could have been there; thesis 6.4.6."""

from collections.abc import Callable, Iterable, Iterator
from functools import reduce

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Step = Callable[[Tensor, int], Tensor]


def stroke_edit(step: Step, drawing: Tensor, k: int, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    """Where steps x, t -> x_{t−1} lead from a drawing (n, *event_shape) noised to x_k, down to the data; ᾱ (T,)."""
    angle = torch.acos(alpha_bars[k].sqrt())
    return reduce(step, range(k, -1, -1), torch.cos(angle) * drawing + torch.sin(angle) * eps)


def _suspects(step: Step, drawing: Tensor, k: int, eps: Tensor, alpha_bars: Tensor) -> Iterator[tuple[str, Tensor]]:
    a, down = alpha_bars[k], list(range(k, -1, -1))
    signal, noise = a.sqrt(), (1 - a).sqrt()
    start = signal * drawing + noise * eps

    def walk(x: Tensor, times: Iterable[int] = down) -> Tensor:
        return reduce(step, times, x)

    def noised(level: Tensor) -> Tensor:
        return level.sqrt() * drawing + (1 - level).sqrt() * eps

    before = alpha_bars[k - 1] if k else torch.ones_like(a)
    further = "the chain begins where all is noise, at T − 1: what is left of the drawing there?"
    yield from [
        ("the drawing is not noised: its strokes are nothing that the chain has seen at time k", walk(drawing)),
        ("the drawing has shrunk, but has no noise", walk(signal * drawing)),
        ("the drawing has kept its whole weight: x_k has only √ᾱ_k of it", walk(drawing + noise * eps)),
        ("drawing and noise have their whole weight, both", walk(drawing + eps)),
        ("that is a fresh sample: the drawing is not in it", walk(eps)),
        ("that is a fresh sample: the drawing is not in it", walk(noise * eps)),
        ("the noise has its whole weight", walk(signal * drawing + eps)),
        ("1 − ᾱ_k is a variance: what width has the noise?", walk(signal * drawing + (1 - a) * eps)),
        ("the roots are missing in x_k", walk(a * drawing + (1 - a) * eps)),
        ("a root is missing: the drawing is multiplied by √ᾱ_k", walk(a * drawing + noise * eps)),
        ("drawing and noise are exchanged in x_k", walk(noise * drawing + signal * eps)),
        ("the noise is taken off: it is given with its sign", walk(signal * drawing - noise * eps)),
        ("it has the noise of time k − 1, but begins at k", walk(noised(before))),
        ("one step too few: the step at time k, from x_k to x_{k−1}, is missing", walk(start, down[1:])),
        ("one step too few: it begins at k − 1, with the noise of k − 1", walk(noised(before), down[1:])),
        ("the last step, at time 0, is missing: what has come out has noise still", walk(start, down[:-1])),
        ("there is a step at k + 1: x_k is where one begins", walk(start, [k + 1, *down])),
        (further, walk(noised(alpha_bars[-1]), reversed(range(len(alpha_bars))))),
        (further, walk(start, reversed(range(len(alpha_bars))))),
        ("there is a step too many at the end: after the one at time 0 there are data", walk(start, [*down, -1])),
        ("it has the noise of T − 1, but begins at k", walk(noised(alpha_bars[-1]))),
        ("t goes up: the way leads from noise to data", walk(start, down[::-1])),
        ("only one step is made: from k down to 0 there are more", walk(start, down[:1])),
        ("every step is told time k: t goes down", walk(start, [k] * len(down))),
        ("each step is told one less than its time", walk(start, [t - 1 for t in down])),
        ("each step is told one more than its time", walk(start, [t + 1 for t in down])),
        ("each step begins at x_k: it should begin where the one before it ended", step(start, 0)),
        ("that is the noisy drawing: no step was made", start),
        ("the drawing has come back as it was", drawing),
    ]
    x = start
    for t in down:
        level = alpha_bars[t]
        x = step(level.sqrt() * (drawing if t == k else x) + (1 - level).sqrt() * eps, t)
    yield ("what a step has made is noised again: it has the noise of its time already", x)


def _edits(student: Student, random: Random, k: int, *shape: int) -> None:
    alpha_bars, slopes = random.uniform(0.5, 0.8, 5).cumprod(0), random.normal(shape[-1])

    def step(x: Tensor, t: int) -> Tensor:
        if x.shape[1:] != shape[1:] or (isinstance(t, Tensor) and t.ndim):
            raise ValueError(f"step wants x of shape (n, {', '.join(map(str, shape[1:]))}) and t, a whole number")
        return torch.tanh(0.7 * x + slopes) + 0.2 * x.flip(-1) + torch.sin(torch.tensor(3.0 * t + 1, dtype=x.dtype))

    inputs = {
        "step": step,
        "drawing": random.normal(*shape),
        "k": k,
        "eps": random.normal(*shape),
        "alpha_bars": alpha_bars,
    }
    hint = "noise the drawing as the chain noises data, to time k; then from k on every step that is left"
    student(**inputs).should_be(stroke_edit(**inputs), hint, _suspects(**inputs))


def from_the_middle(student: Student, random: Random) -> None:
    """Times between the ends, on vectors and images."""
    n, d, c, h = random.sizes(4)
    _edits(student, random, 2, n, d)
    _edits(student, random, 1, n, c, h, h + 1)


def from_both_ends(student: Student, random: Random) -> None:
    """One step from k = 0, all of them from k = T − 1."""
    n, c, h = random.sizes(3)
    for k in (0, 4):
        _edits(student, random, k, n, c, h, h + 1)
