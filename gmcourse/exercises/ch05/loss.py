"""What a net that predicts noise is trained on, from thesis 2.4.2: L_simple of Ho et al. 2020."""

from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.exercises.ch05.chain import q_sample
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Net = Callable[[Tensor, Tensor], Tensor]


def simple_loss(net: Net, x0: Tensor, t: Tensor, eps: Tensor, alpha_bars: Tensor) -> Tensor:
    """‖ε − net(x_t, t)‖², (n,), from x_0, ε (n, d), t (n,) long and ᾱ (T,); thesis (2.61) less its factor."""
    return torch.cdist(net(q_sample(x0, eps, alpha_bars[t]), t)[:, None], eps[:, None]).square()[:, 0, 0]


def _net(weights: Tensor) -> Net:
    """A smooth map that minds its time and what shapes it is given."""

    def net(x: Tensor, t: Tensor) -> Tensor:
        if x.ndim != 2 or not isinstance(t, Tensor) or t.shape != x.shape[:1]:
            raise ValueError(f"net wants x (n, d) and t (n,); got {tuple(x.shape)} and {tuple(getattr(t, 'shape', ()))}")
        return torch.tanh(x @ weights + t.sin()[:, None])

    return net


def its_value(student: Student, random: Random) -> None:
    """As many rows as columns, where ᾱ spread along the wrong axis would show in no shape."""
    (n,), steps = random.sizes(1), 20
    net, x0, eps = _net(random.normal(n, n)), random.normal(n, n), random.normal(n, n)
    t = random.uniform(0, steps, n).long()
    alpha_bars = random.uniform(0.7, 0.95, steps).cumprod(0)
    a = alpha_bars[t][:, None]
    xt = a.sqrt() * x0 + (1 - a).sqrt() * eps
    seen = net(xt, t)

    def of(at: Tensor, time: Tensor = t) -> Tensor:
        return (eps - net(at, time)).square().sum(1)

    want = simple_loss(net, x0, t, eps, alpha_bars)
    across = of(a.T.sqrt() * x0 + (1 - a.T).sqrt() * eps)
    suspects = [
        ("ᾱ runs along the columns of x_0: it is the rows that have times of their own", across),
        ("that is a mean over the dimensions: a squared length is a sum", want / n),
        ("a half is there that L_simple has not", want / 2),
        ("the length of the difference is not squared", want.sqrt()),
        ("absolute values are no squares", (eps - seen).abs().sum(1)),
        ("that is the mean over all data: each has its own loss", want.mean().expand(n)),
        ("that is the sum over all data: each has its own loss", want.sum().expand(n)),
        ("the net sees the clean x_0: is there noise to be found in it?", of(x0)),
        ("the net sees the noise itself: it has only x_t to go by", of(eps)),
        ("the net is to predict the noise, not the datum", (x0 - seen).square().sum(1)),
        ("the net is to predict the noise, not x_t", (xt - seen).square().sum(1)),
        ("the net is to predict the noise itself, not what is left of it after its weight",
         ((1 - a).sqrt() * eps - seen).square().sum(1)),
        ("the sign: net and ε should be equal, not opposite", (eps + seen).square().sum(1)),
        ("the noise is missing from the difference: that only makes the net small", seen.square().sum(1)),
        ("the roots are missing in x_t: 1 − ᾱ is a variance", of(a * x0 + (1 - a) * eps)),
        ("a root is missing in x_t: 1 − ᾱ is a variance", of(a.sqrt() * x0 + (1 - a) * eps)),
        ("a root is missing in x_t: that is not the mean of (2.46)", of(a * x0 + (1 - a).sqrt() * eps)),
        ("in x_t signal and noise are swapped", of((1 - a).sqrt() * x0 + a.sqrt() * eps)),
        ("the net is told t as a share of T: it wants the number of the step", of(xt, t / steps)),
        ("the net is told t as a share of T: it wants the number of the step", of(xt, t / (steps - 1))),
        ("the net is told ᾱ: it wants the number of the step", of(xt, alpha_bars[t])),
        ("the net is told time 0 for all rows, but each has its own", of(xt, torch.zeros_like(t))),
        ("the net is told one more than t: times count from 0 here, in the net as in alpha_bars", of(xt, t + 1)),
        ("that is weighted: L_simple leaves the factor of (2.61) away", want / (1 - a[:, 0])),
        ("that is weighted: L_simple leaves the factor of (2.61) away", want * (1 - a[:, 0])),
        ("ᾱ of each row is found at its own time, not at its place in the batch",
         of(alpha_bars[:n, None].sqrt() * x0 + (1 - alpha_bars[:n, None]).sqrt() * eps)),
    ]  # fmt: skip
    hint = "x_t by (2.46), each row at its time; then the squared distance of the net's answer from ε"
    student(net=net, x0=x0, t=t, eps=eps, alpha_bars=alpha_bars).should_be(want, hint, suspects)


def its_gradient(student: Student, random: Random) -> None:
    """All rows at one time: what counts here is that the net can learn."""
    n, d = random.sizes(2)
    weights, x0, eps = random.normal(d, d).requires_grad_(), random.normal(n, d), random.normal(n, d)
    t, alpha_bars = torch.full((n,), 5), random.uniform(0.7, 0.95, 20).cumprod(0)

    inputs = {"net": _net(weights), "x0": x0, "t": t, "eps": eps, "alpha_bars": alpha_bars}
    (want,) = torch.autograd.grad(simple_loss(**inputs).sum(), weights)
    suspects = [
        ("that is a mean over the dimensions: a squared length is a sum", want / d),
        ("a half is there that L_simple has not", want / 2),
    ]
    hint = "it differs from that of the squared distance between ε and the net at x_t"
    student.gradient(weights, t.shape, **inputs).should_be(want, hint, suspects)
