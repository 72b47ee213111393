"""A draw in T steps: guess the data, put noise back, again and again; thesis, Algorithm 2."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gmcourse.exercises.ch11.posterior import misread, posterior_step
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student

Generator = Callable[[Tensor, Tensor, Tensor], Tensor]
Back = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def sample(generator: Generator, x: Tensor, z: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    """The draw (n, *event_shape) from x_T by thesis, Algorithm 2; at time t with z[t] and eps[t], ᾱ (T,)."""
    return _walk(generator, x, z, eps, alpha_bars)


def _walk(
    generator: Generator,
    x: Tensor,
    z: Tensor,
    eps: Tensor,
    alpha_bars: Tensor,
    *,
    back: Back = posterior_step,
    times: Sequence[int] | None = None,
    told: int = 0,
) -> Tensor:
    """The chain with another step back, at other times, or with a generator that is told another time."""
    for k in reversed(range(len(alpha_bars))) if times is None else times:
        t = torch.full((len(x),), k)
        x = back(generator(x, t + told, z[k]), x, t, eps[k], alpha_bars)
    return x


def _read_as(name: str) -> Back:
    return lambda *inputs: misread(*inputs)[name]


def _suspects(generator: Generator, x: Tensor, z: Tensor, eps: Tensor, alpha_bars: Tensor) -> Iterator[tuple[str, Tensor]]:
    steps = len(alpha_bars)
    inputs = generator, x, z, eps, alpha_bars
    last = "there is noise at the last step: the draw is the generator's last guess, and nothing else"
    yield (last, _walk(*inputs, back=_read_as("forth")))
    yield (last, _walk(*inputs, back=_read_as("unmasked")))
    yield (last, _walk(*inputs, back=_read_as("unmasked, whole")))
    yield (last, _walk(*inputs, back=_read_as("whole")))
    yield ("x_T has come back: no step was made", x)
    frozen = "every step has a z of its own: with one for all of them the guesses hang together"
    for k in (0, steps - 1):
        yield (frozen, _walk(generator, x, z[k].expand_as(z), eps, alpha_bars))
    for k in (0, steps - 1):
        hint = "every step has noise ε of its own: here one is used in all"
        yield (hint, _walk(generator, x, z, eps[k].expand_as(eps), alpha_bars))
    names = [
        ("the guess is handed on as x_{t−1}: the next step expects something noisier", "guess"),
        ("only the mean is handed on: (2.50) is a law to draw from", "mean"),
        ("β̃_t is a variance: what width has the noise?", "variance"),
        ("the noise is that of the step forth: (2.51) has a smaller variance", "forth, none at the end"),
        ("the noise is not scaled: how wide is the posterior?", "whole, none at the end"),
        ("the weight of x_t is the printed one, a slip: it has √α_t, of one step", "printed"),
        ("the guess is noised anew, without x_t: laws at each time are right, but (2.50) knows x_t, too", "anew"),
        ("the guess is noised to t again: no step was made", "anew, too noisy"),
        ("that is the step of DDIM: Algorithm 2 draws from (2.50)", "ddim"),
        ("the weights of x_0 and x_t are exchanged in (2.51)", "swapped"),
        ("the noise is taken off: the law is the same, but it is given with its sign", "subtracted"),
    ]
    for hint, name in names:
        yield (hint, _walk(*inputs, back=_read_as(name)))
    down = list(reversed(range(steps)))
    ways = [
        ("that is the first guess: one step was made of as many as there are ᾱ", [steps - 1], posterior_step),
        ("that is the first guess: one step was made of as many as there are ᾱ", [steps - 1], _read_as("guess")),
        ("the last step is missing: t goes down to 0", down[:-1], posterior_step),
        ("the first step is missing: t begins at T − 1", down[1:], posterior_step),
        ("t goes up: the way leads from noise to data", down[::-1], posterior_step),
    ]
    for hint, times, back in ways:
        yield (hint, _walk(*inputs, times=times, back=back))
    yield (
        "z and ε are used in reverse: those of time t stand at t",
        _walk(generator, x, z.flip(0), eps.flip(0), alpha_bars),
    )
    yield ("z is used in reverse: that of time t stands at t", _walk(generator, x, z.flip(0), eps, alpha_bars))
    yield ("ε is used in reverse: that of time t stands at t", _walk(generator, x, z, eps.flip(0), alpha_bars))


def with_an_oracle(student: Student, random: Random) -> None:
    """A generator that draws from p(x_0 | x_t) of Gaussian data gives them back, in 4, 2 and 1 steps.

    The draw is an affine map of all noise: one row without any says the mean, one row for each of them its share.
    So the law alone is judged here, whichever noise is used where.
    """
    (d,) = random.sizes(1)
    for steps in (4, 2, 1):
        alpha_bars = random.uniform(0.3, 0.7, steps).cumprod(0)
        mean, width = 1 + random.uniform(0, 1, d), random.uniform(0.5, 2, d)
        rows = 2 + 2 * steps
        end = alpha_bars[-1]
        x = (end.sqrt() * mean).repeat(rows, 1)
        x[1] += (end * width.square() + 1 - end).sqrt()
        z, eps = torch.zeros(2, steps, rows, d, dtype=torch.float64)
        for t in range(steps):
            z[t, 2 + t], eps[t, 2 + steps + t] = 1, 1
        inputs = {
            "generator": _oracle(mean, width, alpha_bars), "x": x, "z": z, "eps": eps, "alpha_bars": alpha_bars
        }  # fmt: skip
        found = _as_law(student(**inputs), x.shape)
        want = torch.stack([mean, width.square()])
        hint = f"the generator draws from the true p(x_0 | x_t) here, so with T = {steps} the draws should be the data's own"
        found.should_be(want, hint, [(s, _law(value)) for s, value in _suspects(**inputs)])


def _oracle(mean: Tensor, width: Tensor, alpha_bars: Tensor) -> Generator:
    """Draws of p(x_0 | x_t) for data N(mean, width²) in each dimension; z has as many."""

    def generator(xt: Tensor, t: Tensor, z: Tensor) -> Tensor:
        _check(xt, t, z, len(mean))
        if int(t.min()) < 0 or int(t.max()) >= len(alpha_bars):
            raise ValueError(f"generator wants t in 0 … T − 1, like alpha_bars; got {int(t[0])} for T = {len(alpha_bars)}")
        a = alpha_bars.index_select(0, t)[:, None]
        total = a * width.square() + 1 - a
        guess = mean + a.sqrt() * width.square() / total * (xt - a.sqrt() * mean)
        return guess + width * ((1 - a) / total).sqrt() * z

    return generator


def _check(xt: Tensor, t: Tensor, z: Tensor, latent: int) -> None:
    if not isinstance(t, Tensor) or t.dtype != torch.int64 or t.shape != xt.shape[:1]:
        raise ValueError(f"generator wants t (n,) in torch.int64; got {tuple(t.shape) if isinstance(t, Tensor) else t}")
    if z.shape != (len(xt), latent):
        raise ValueError(f"generator wants z ({len(xt)}, {latent}); got {tuple(z.shape)}")


def _law(x: Tensor) -> Tensor:
    """Mean and variance (2, d) of an affine map of noise, from its values at no noise, and at one of each."""
    return torch.stack([x[0], (x[1:] - x[0]).square().sum(0)])


def _as_law(answer: Answer, shape: torch.Size) -> Answer:
    return replace(
        answer,
        value=_law(answer.tensor(shape)),
        again=lambda: _as_law(answer.again(), shape),
        part="mean and variance of the draws",
    )


def with_a_net(student: Student, random: Random) -> None:
    """Images, and a generator that minds what it is told."""
    n, c, h, latent = random.sizes(4)
    shape, steps = (c, h, h + 1), 4
    mix, of_z = random.normal(c * h * (h + 1)) / 4, random.normal(latent, c * h * (h + 1))

    def generator(xt: Tensor, t: Tensor, z: Tensor) -> Tensor:
        _check(xt, t, z, latent)
        return torch.tanh(xt.flatten(1).flip(1) * mix + z @ of_z + t.sin()[:, None]).reshape(xt.shape)

    inputs = {
        "generator": generator,
        "x": random.normal(n, *shape),
        "z": random.normal(steps, n, latent),
        "eps": random.normal(steps, n, *shape),
        "alpha_bars": random.uniform(0.3, 0.8, steps).cumprod(0),
    }
    hint = "the law is right or nearly: is it z[t] and eps[t] at time t, and (2.50) between two guesses?"
    suspects = [
        *_suspects(**inputs),
        ("the generator is told t + 1: times count from 0 here, in Algorithm 2 as in alpha_bars", _walk(**inputs, told=1)),
        ("the generator is told t − 1: it sees x_t", _walk(**inputs, told=-1)),
    ]
    student(**inputs).should_be(sample(**inputs), hint, suspects)
