"""What keeps a critic from being too steep: the gradient penalty of slides (44), and R1 of thesis (6.16)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student, Wrong

Critic = Callable[[Tensor], Tensor]
CUT_OFF = "no gradient reaches the weights: detach, a float for a tensor, or does autograd throw the slope's graph away?"


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, u: Tensor, weight: float) -> Tensor:
    """λ (‖∇D(x̂)‖ − 1)², (n,), at x̂ between real and fake (n, d), u (n,) the share of real; slides (44)."""
    between = torch.einsum("n,nd->nd", u, real) + torch.einsum("n,nd->nd", 1 - u, fake)
    return weight * (_slope(critic, between).square().sum(1).sqrt() - 1).square()


def r1(critic: Critic, real: Tensor, gamma: float) -> Tensor:
    """γ/2 ‖∇D(x)‖², (n,), at the data x (n, d); thesis (6.16)."""
    slope = _slope(critic, real)
    return gamma * torch.einsum("nd,nd->n", slope, slope) / 2


def _slope(critic: Critic, x: Tensor) -> Tensor:
    """∇D at each row of x (n, d), same shape, out of the whole Jacobian; it leads to the weights."""
    return torch.einsum("nnd->nd", jacobian(critic, x, create_graph=True))


def _critic(weights: Tensor, out: Tensor) -> Critic:
    """A smooth critic with logits (n,) that minds what shape it is given."""

    def critic(x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] != len(weights):
            raise ValueError(f"critic wants x of shape (n, {len(weights)}); got {tuple(x.shape)}")
        return torch.tanh(x @ weights) @ out

    return critic


def on_the_lines(student: Student, random: Random) -> None:
    """As many rows as columns, where u spread along the wrong axis would show in no shape."""
    (n,) = random.sizes(1)
    critic = _critic(random.normal(n, n), 2 * random.normal(n))
    real, fake, u = random.normal(n, n), 1 + random.normal(n, n), random.uniform(0, 1, n)
    weight = float(random.uniform(3, 9))
    want = gradient_penalty(critic, real, fake, u, weight).detach()

    def at(x: Tensor) -> Tensor:
        return _slope(critic, x).detach()

    share = u[:, None]
    slope = at(share * real + (1 - share) * fake)
    norm = slope.norm(dim=1)

    def of(length: Tensor) -> Tensor:
        return weight * (length - 1).square()

    suspects = [
        ("u weighs the fakes: which of both should be left at u = 1?",
         of(at(share * fake + (1 - share) * real).norm(dim=1))),
        ("u runs along the columns: it is the rows that have weights of their own",
         of(at(u * real + (1 - u) * fake).norm(dim=1))),
        ("the square stands outside of the mean: each x̂ has a penalty of its own", of(norm.mean()).expand(n)),
        ("that is the mean over all x̂: each has a penalty of its own", want.mean().expand(n)),
        ("the gradient is that of the mean: each row has a slope of its own", of(norm / n)),
        ("the slope is to be 1, not 0", weight * norm.square()),
        ("the norm is squared before 1 is taken off", of(norm.square())),
        ("the difference from 1 is not squared", weight * (norm - 1).abs()),
        ("the difference from 1 is not squared", weight * (norm - 1)),
        ("too flat a slope is wrong, too: (44) has no one-sided penalty", weight * (norm - 1).relu().square()),
        ("the weight is missing: how much does the penalty count?", (norm - 1).square()),
        ("a half is there that (44) has not", want / 2),
        ("the weight is squared with the rest: it stands in front", weight * want),
        ("the slope is taken at the data: (44) asks for it between data and fakes", of(at(real).norm(dim=1))),
        ("the slope is taken at the fakes: (44) asks for it between data and fakes", of(at(fake).norm(dim=1))),
        ("the slope is taken half-way, whatever u says", of(at((real + fake) / 2).norm(dim=1))),
        ("real and fake are added: where is u = 0?", of(at(real + share * fake).norm(dim=1))),
        ("fake minus real: at u = 1 one should be at the data", of(at(real + share * (fake - real)).norm(dim=1))),
        ("the norm runs over the rows: each x̂ has a slope of its own", of(slope.norm(dim=0))),
        ("that is the sum of absolute slopes: a Euclidean norm is wanted", of(slope.abs().sum(1))),
        ("that is the largest slope of all dimensions: a Euclidean norm is wanted", of(slope.abs().amax(1))),
        ("the slopes are averaged over the dimensions: a norm is wanted", of(slope.square().mean(1).sqrt())),
        ("the slopes are added up with their signs: a norm is wanted", of(slope.sum(1))),
        ("that is the critic's value, not its slope", of(critic(share * real + (1 - share) * fake))),
    ]  # fmt: skip
    hint = "x̂ row by row with u, the slope of each logit at its own x̂, its length: how far is that from 1?"
    answer = student(critic=critic, real=real, fake=fake, u=u, weight=weight)
    answer.should_be(want, hint, suspects)


def penalty_trains(student: Student, random: Random) -> None:
    n, d, h = random.sizes(3)
    inputs = {"real": random.normal(n, d), "fake": 1 + random.normal(n, d), "u": random.uniform(0, 1, n), "weight": 5.0}
    _trains(student, gradient_penalty, random.normal(d, h), random.normal(h), n, inputs)


def on_the_data(student: Student, random: Random) -> None:
    """As many rows as columns, where a norm along the wrong axis would show in no shape."""
    (n,) = random.sizes(1)
    critic, real, gamma = _critic(random.normal(n, n), random.normal(n)), random.normal(n, n), float(random.uniform(3, 9))
    want, slope = r1(critic, real, gamma).detach(), _slope(critic, real).detach()
    norm, d = slope.norm(dim=1), torch.sigmoid(critic(real))
    suspects = [
        ("the half of (6.16) is missing", 2 * want),
        ("that is the length of the slope: its square is wanted", gamma / 2 * norm),
        ("that is the length of the slope: its square is wanted, and half of it", gamma * norm),
        ("γ is missing: how much does the penalty count?", norm.square() / 2),
        ("γ is missing, and the half", norm.square()),
        ("γ is squared with the rest: it stands in front", gamma * want),
        ("γ is squared with the rest: it stands in front", gamma * want / 2),
        ("γ is squared with the rest: it stands in front", gamma**2 * norm.square()),
        ("a slope of 1 is (44)'s aim: R1 wants none at the data", gamma / 2 * (norm - 1).square()),
        ("the gradient is that of the mean: each row has a slope of its own", want / n**2),
        ("that is a mean over the dimensions: a squared length is a sum", want / n),
        ("the sum runs over the rows: each datum has a slope of its own", gamma / 2 * slope.square().sum(0)),
        ("the slopes are added up before they are squared", gamma / 2 * slope.sum(1).square()),
        ("the slopes are added up, not squared", gamma / 2 * slope.sum(1)),
        ("that is the sum of absolute slopes: their squares are wanted", gamma / 2 * slope.abs().sum(1)),
        ("that is the mean over all data: each has a penalty of its own", want.mean().expand(n)),
        ("that is the sum over all data: each has a penalty of its own", want.sum().expand(n)),
        ("that is the slope of the probability: D in (6.16) is the logit", want * (d * (1 - d)).square()),
        ("that is the slope of the loss: D in (6.16) is the logit", want * (1 - d).square()),
        ("that is the critic's value, not its slope", gamma / 2 * critic(real).square()),
    ]
    hint = "the slope of each datum's logit for that datum, squared and summed over its dimensions"
    student(critic=critic, real=real, gamma=gamma).should_be(want, hint, suspects)


def r1_trains(student: Student, random: Random) -> None:
    n, d, h = random.sizes(3)
    _trains(student, r1, random.normal(d, h), random.normal(h), n, {"real": random.normal(n, d), "gamma": 4.0})


def _trains(
    student: Student, reference: Callable[..., Tensor], weights: Tensor, out: Tensor, n: int, inputs: dict
) -> None:
    """The penalty's own gradient arrives at the critic's weights."""
    inputs, shape = {"critic": _critic(weights.requires_grad_(), out), **inputs}, torch.Size((n,))
    if not student(**inputs).tensor(shape).requires_grad:
        raise Wrong(CUT_OFF)
    (want,) = torch.autograd.grad(reference(**inputs).sum(), weights)
    suspects = [
        ("that is twice as much: is there a half in the formula?", 2 * want),
        ("that is half as much: a half too many, or is one of two ways to the weights cut off?", want / 2),
    ]
    hint = "it differs from that of the penalty: does part of the way to the weights get lost, or is the value wrong?"
    student.gradient(weights, shape, **inputs).should_be(want, hint, suspects)
