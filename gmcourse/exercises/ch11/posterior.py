"""From a guess of the data to x_{t−1}: the posterior of the chain, a Gaussian whatever the step; thesis (2.50), (6.12)."""

import torch
from torch import Tensor

from gmcourse.exercises.ch11.pairs import beside, levels
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def posterior_step(x0: Tensor, xt: Tensor, t: Tensor, noise: Tensor, alpha_bars: Tensor) -> Tensor:
    """x_{t−1} from the guessed x_0, x_t and the noise, (n, *event_shape) all, t (n,) from 0, ᾱ (T,); thesis (2.50), (2.51).

    Without x_t it would be N(√ᾱ_{t−1} x_0, 1 − ᾱ_{t−1}); then it is corrected by how far x_t is from where it was expected.
    """
    now, then = levels(alpha_bars, t, x0)
    ratio, mean, variance = now / then, then.sqrt() * x0, 1 - then
    gain = ratio.sqrt() * variance / (1 - now)
    return mean + gain * (xt - ratio.sqrt() * mean) + (variance - gain * ratio.sqrt() * variance).clamp_min(0).sqrt() * noise


def misread(x0: Tensor, xt: Tensor, t: Tensor, noise: Tensor, alpha_bars: Tensor) -> dict[str, Tensor]:
    """What typical misreadings of (2.51) make of it, by name."""
    now, then = levels(alpha_bars, t, x0)
    ratio, last = now / then, beside(t == 0, x0)
    beta, total = 1 - ratio, 1 - now
    of_x0, of_xt, small = then.sqrt() * beta / total, ratio.sqrt() * (1 - then) / total, (1 - then) / total * beta
    mean = of_x0 * x0 + of_xt * xt
    kick, eps = small.sqrt() * noise, (xt - now.sqrt() * x0) / total.sqrt()
    return {
        "printed": of_x0 * x0 + now.sqrt() * (1 - then) / total * xt + kick,
        "variance": mean + small * noise,
        "forth": mean + beta.sqrt() * noise,
        "forth, none at the end": mean + torch.where(last, 0, beta.sqrt()) * noise,
        "forth, no root": mean + beta * noise,
        "whole": mean + noise,
        "whole, none at the end": mean + torch.where(last, 0, noise),
        "unmasked": mean + torch.where(last, beta.sqrt(), small.sqrt()) * noise,
        "unmasked, whole": mean + torch.where(last, 1, small.sqrt()) * noise,
        "mean": mean,
        "guess": x0,
        "guess with noise": x0 + kick,
        "anew": then.sqrt() * x0 + (1 - then).sqrt() * noise,
        "anew, too noisy": now.sqrt() * x0 + total.sqrt() * noise,
        "ddim": then.sqrt() * x0 + (1 - then).sqrt() * eps,
        "swapped": of_x0 * xt + of_xt * x0 + kick,
        "no roots": then * beta / total * x0 + ratio * (1 - then) / total * xt + kick,
        "not divided": total * mean + kick,
        "no root of x0": then * beta / total * x0 + of_xt * xt + kick,
        "subtracted": mean - kick,
        "x_t": xt,
    }


def _suspects(x0: Tensor, xt: Tensor, t: Tensor, noise: Tensor, alpha_bars: Tensor) -> list[tuple[str, Tensor]]:
    found, steps = misread(x0, xt, t, noise, alpha_bars), len(alpha_bars)
    of_data = "at t = 0 it has become something else than the guess: what is ᾱ of the data, and which index is before 0?"

    def before(then: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, and a width that is 0 at t = 0, with another ᾱ_{t−1}."""
        now = beside(alpha_bars[t], x0)
        then = beside(then, x0)
        ratio = now / then
        mean = then.sqrt() * (1 - ratio) / (1 - now) * x0 + ratio.sqrt() * (1 - then) / (1 - now) * xt
        return mean, torch.where(beside(t == 0, x0), 0, ((1 - then) / (1 - now) * (1 - ratio)).sqrt())

    wrapped, clamped = before(alpha_bars[t - 1]), before(alpha_bars[(t - 1).clamp(min=0)])
    later = posterior_step(x0, xt, (t + 1).clamp(max=steps - 1), noise, alpha_bars)
    return [
        ("at t = 0 there is noise: what comes out is the guess of the data, and nothing else", found["unmasked"]),
        ("at t = 0 there is noise: what comes out is the guess of the data, and nothing else", found["unmasked, whole"]),
        (of_data, wrapped[0] + wrapped[1] * noise),
        (of_data, clamped[0] + clamped[1] * noise),
        ("the weight of x_t is the printed one, a slip: where should the mean be if x_t is √ᾱ_t x_0, without any noise?",
         found["printed"]),
        ("β̃_t is a variance: what width has the noise?", found["variance"]),
        ("the noise is that of the step forth: (2.51) has a smaller variance, which vanishes at the end", found["forth"]),
        ("the noise is that of the step forth: (2.51) has a smaller variance, of itself 0 at the end",
         found["forth, none at the end"]),
        ("the noise has the variance of the step forth for its width: (2.51) has another variance, and a root is due",
         found["forth, no root"]),
        ("the noise is not scaled: how wide is the posterior?", found["whole"]),
        ("the noise is not scaled: how wide is the posterior?", found["whole, none at the end"]),
        ("there is no noise: (2.50) is a law to draw from, not its mean", found["mean"]),
        ("the guess itself has come back: only at t = 0 is that x_{t−1}", found["guess"]),
        ("the mean is not the guess: x_t has its share in it", found["guess with noise"]),
        ("the guess is noised anew, and x_t forgotten: the discriminator sees both", found["anew"]),
        ("the guess is noised to t, and x_t forgotten: one step back is asked for", found["anew, too noisy"]),
        ("that is the step of DDIM, without fresh noise", found["ddim"]),
        ("the weights are exchanged: near the data it is the guess that counts", found["swapped"]),
        ("the roots are missing in the weights of x_0 and x_t", found["no roots"]),
        ("a root is missing in the weight of x_0", found["no root of x0"]),
        ("nothing is divided by the variance of x_t", found["not divided"]),
        ("the noise is taken off: the law is the same, but the noise is given with its sign", found["subtracted"]),
        ("x_t has come back: no step was made", found["x_t"]),
        ("that is the posterior of the next time: in alpha_bars the first is of the first step, t = 0", later),
    ]  # fmt: skip


HINT = "α_t and β_t of each row follow from ᾱ_t and ᾱ_{t−1}; then (2.51), with the root of its variance for the noise"
NONFINITE = "inf or nan: a root of something below 0, or a division by 0? Which ᾱ stands before that of t = 0?"


def on_the_way(student: Student, random: Random) -> None:
    """As many rows as columns, where ᾱ spread along the wrong axis would show in no shape."""
    (n,) = random.sizes(1)
    alpha_bars, t = random.uniform(0.3, 0.8, 6).cumprod(0), random.uniform(1, 5, n).long()
    x0, xt, noise = (random.normal(n, n) for _ in range(3))
    want = posterior_step(x0, xt, t, noise, alpha_bars)
    columns = posterior_step(x0.T, xt.T, t, noise.T, alpha_bars).T
    across = ("ᾱ runs along the columns: it is the rows that have times of their own", columns)
    suspects = [*_suspects(x0, xt, t, noise, alpha_bars), across]
    student(x0=x0, xt=xt, t=t, noise=noise, alpha_bars=alpha_bars).should_be(want, HINT, suspects, NONFINITE)


def on_to_the_data(student: Student, random: Random) -> None:
    """Images, some at t = 0, all of them in a chain of one step; and the gradient that trains whoever made the guess."""
    n, c, h = random.sizes(3)
    for steps in (4, 1):
        t, alpha_bars = torch.arange(n) % steps, random.uniform(0.3, 0.8, steps).cumprod(0)
        x0, xt, noise = (random.normal(n, c, h, h + 1) for _ in range(3))
        inputs = {"x0": x0, "xt": xt, "t": t, "noise": noise, "alpha_bars": alpha_bars}
        student(**inputs).should_be(posterior_step(**inputs), HINT, _suspects(**inputs), NONFINITE)
        inputs["x0"] = x0.requires_grad_()
        (want,) = torch.autograd.grad(posterior_step(**inputs).sum(), x0)
        student.gradient(x0, x0.shape, **inputs).should_be(want, "the guess counts as much as its weight in the mean")
