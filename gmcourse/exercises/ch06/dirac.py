"""One turn of the Dirac-GAN, slides (45): the data are the point 0, the generator's are θ, the critic is D(x) = ψx."""

from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def dirac_step(theta: Tensor, psi: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """(θ, ψ), numbers, after the critic's step of length h and then the generator's; slides (45), signs set right.

    Both descend their non-saturating loss, by autograd: −log(1 − σ(θψ)) the critic, −log σ(θψ) the generator.
    """

    def descend(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
        return at - h * torch.func.grad(loss)(at)

    psi = descend(lambda p: -torch.nn.functional.logsigmoid(-theta * p), psi)
    return descend(lambda t: -torch.nn.functional.logsigmoid(t * psi), theta), psi


def _step(student: Student, theta: Tensor, psi: Tensor, h: float) -> None:
    after_theta, after_psi = dirac_step(theta, psi, h)
    d, new = torch.sigmoid(theta * psi), torch.sigmoid(theta * after_psi)
    first = theta + h * (1 - d) * psi
    of_psi = [
        ("that is θ: which of both comes first?", after_theta),
        ("the critic climbs towards the fake: it should find it less real after its step", psi + h * d * theta),
        ("the critic has not moved", psi),
        ("the generator has moved first: the critic is to begin", psi - h * torch.sigmoid(first * psi) * first),
        ("that is the slope of the generator's loss: the critic's is about how real it finds a fake",
         psi - h * (1 - d) * theta),
        ("that is Wasserstein's critic: here the slope depends on how sure it is", psi - h * theta),
        ("by the chain rule: how does θψ change with ψ?", psi - h * d),
        ("by the chain rule: how does θψ change with ψ? Not by ψ itself", psi - h * d * psi),
        ("that is the slope of D, the logarithm is missing", psi - h * d * (1 - d) * theta),
        ("the step's length is missing", psi - d * theta),
        ("that is the change only: where does the critic get to?", after_psi - psi),
    ]  # fmt: skip
    of_theta = [
        ("that is ψ: which of both comes first?", after_psi),
        ("the generator answers to the old ψ: the critic has moved already", first),
        ("that is minimax: the non-saturating generator has the slope of another logarithm", theta + h * new * after_psi),
        ("that is minimax, and with the old ψ", theta + h * d * psi),
        ("the sign: the generator goes where the critic finds it more real", theta - h * (1 - new) * after_psi),
        ("the sign, and the old ψ: the generator goes where the critic finds it more real", theta - h * (1 - d) * psi),
        ("how sure the critic is, is that of before its step", theta + h * (1 - d) * after_psi),
        ("one of the two ψ is the old one: the critic has moved already", theta + h * (1 - new) * psi),
        ("that is Wasserstein's generator: here the slope depends on how sure the critic is", theta + h * after_psi),
        ("that is Wasserstein's generator, and with the old ψ", theta + h * psi),
        ("by the chain rule: how does θψ change with θ?", theta + h * (1 - new)),
        ("that is the slope of D, the logarithm is missing", theta + h * new * (1 - new) * after_psi),
        ("the generator has not moved", theta),
        ("the step's length is missing", theta + (1 - new) * after_psi),
        ("that is the change only: where does the generator get to?", after_theta - theta),
    ]
    answers = student(theta=theta, psi=psi, h=h).parts("theta", "psi")
    hint = "the critic descends minus the logarithm of how fake it finds θ: what is its slope for ψ?"
    answers[1].should_be(after_psi, hint, of_psi)
    hint = "the generator descends minus the logarithm of how real θ is found, by the critic as it is now"
    answers[0].should_be(after_theta, hint, of_theta)


def with_the_fake_on_the_datum(student: Student, random: Random) -> None:
    """θ = 0: the critic has nothing to learn, only the generator moves, away."""
    psi, h = random.uniform(0.5, 2), float(random.uniform(0.2, 0.6))
    _step(student, torch.zeros_like(psi), psi, h)


def with_the_fake_elsewhere(student: Student, random: Random) -> None:
    """All four signs of (θ, ψ)."""
    for sign in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        theta, psi = torch.tensor(sign, dtype=torch.float64) * random.uniform(0.5, 2, 2)
        _step(student, theta, psi, float(random.uniform(0.2, 0.6)))
