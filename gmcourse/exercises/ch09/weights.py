"""What draws of the base are worth as negatives: self-normalised weights in thesis (4.9) and (4.17)."""

import math

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

OFFSETS = (1000.0, -1000.0)
LARGE = "inf or nan: e to the 1000 is no float, and an energy's constant is its own affair. Where does it cancel?"


def importance_loss(e_data: Tensor, e_base: Tensor) -> Tensor:
    """A number whose gradient is that of −log p(data): E_data[∇E] − Σ w ∇E, w ∝ e^{−E}; thesis (4.9), (4.17).

    Energies of data (n,) and of draws of the base (m,). This one's value is −log p(data) + log q(data), as estimated.
    """
    return e_data.mean() + torch.logsumexp(-e_base, 0) - math.log(len(e_base))


def _loss(student: Student, random: Random, offset: float, hint: str) -> None:
    """E = θ·φ(x) + c, whose gradient is a difference of two means of features φ."""
    n, m, p = random.sizes(3)
    theta, of_data, of_base = random.normal(p).requires_grad_(), random.normal(n, p), 0.5 + random.normal(m, p)
    inputs = {"e_data": of_data @ theta + offset, "e_base": of_base @ theta + offset}
    e_data, e_base = inputs.values()
    w, pull = (-e_base).softmax(0).detach(), of_data.mean(0)
    push, raw = w @ of_base, (-e_base).exp().detach()

    def gradient(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, theta, retain_graph=True)[0]

    def weighed(power: float) -> Tensor:
        return (power * e_base).softmax(0).detach() @ of_base

    even = "the draws have no weights: that is the base's mean, and the tilted law's is wanted"
    suspects = [
        ("pull and push are exchanged: whose energy should fall?", push - pull),
        ("pull and push are added: then all energies fall, and nothing keeps them apart", pull + push),
        ("the gradient goes through the weights, too: they say what a draw counts, and are no part of (4.9)",
         gradient(e_data.mean() - ((-e_base).softmax(0) * e_base).sum())),
        ("all draws weigh the same: are large energies clipped?" if offset else even, pull - of_base.mean(0)),
        ("the weights grow with the energy: whom does the tilt favour?", pull - weighed(1.0)),
        ("half an energy decides the weights: what is p over q?", pull - weighed(-0.5)),
        ("twice an energy decides the weights: what is p over q?", pull - weighed(-2.0)),
        ("the weights are not normalised: only sums of 1 make a mean", pull - raw @ of_base / m),
        ("the weights are not normalised: only sums of 1 make a mean", pull - raw @ of_base),
        ("the weights are divided by their number, too: they sum to 1 already", pull - push / m),
        ("the weights are divided by their largest: only sums of 1 make a mean", pull - push / w.max()),
        ("the weights are on the data: those come from where they should, and the draws from the base",
         (-e_data).softmax(0).detach() @ of_data - of_base.mean(0)),
        ("the weights are on the data, too: those come from where they should",
         (-e_data).softmax(0).detach() @ of_data - push),
        ("the draws are missing: the data's energy could fall for ever", pull),
        ("only the draws have a gradient: the data's energies must keep theirs", -push),
        ("the data's energies are summed up: what would a batch of another size give?", n * pull - push),
        ("both are summed up: what would a batch of another size give?", n * pull - m * push),
        ("half of it? The gradient has to be that of −log p", (pull - push) / 2),
        ("that is the gradient of squared energies: (4.9) has none", gradient(e_data.square().mean()) - push),
        ("only the heaviest draw counts: all of them do, by their weights", pull - of_base[w.argmax()]),
    ]  # fmt: skip
    student(**inputs).tensor(torch.Size(()), LARGE)
    student.gradient(theta, torch.Size(()), **inputs).should_be(pull - push, hint, suspects, LARGE)


def of_weighted_draws(student: Student, random: Random) -> None:
    hint = "the data's mean gradient of E less the weighted mean of the draws': what is a draw's weight?"
    _loss(student, random, 0.0, hint)


def whatever_the_constant(student: Student, random: Random) -> None:
    """An energy plus a constant is the same model."""
    for offset in OFFSETS:
        hint = "a constant was added to the energy, which is the same model: what else has changed?"
        _loss(student, random, offset, hint)
