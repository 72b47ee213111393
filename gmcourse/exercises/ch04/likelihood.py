"""Maximum likelihood of an energy, from thesis 2.3.2: push and pull, and the chains that it needs."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Energy = Callable[[Tensor], Tensor]


def contrastive_loss(energy: Energy, x: Tensor, negatives: Tensor) -> Tensor:
    """A number whose gradient for the energy's weights is that of −log-likelihood; thesis (2.38)."""
    with torch.no_grad():
        fixed = negatives.clone()
    return energy(x).mean() - energy(fixed).mean()


def _features(x: Tensor) -> Tensor:
    return torch.stack([x.square().sum(1), torch.tanh(x).sum(1), torch.sin(x[:, 0])], 1)


def its_value(student: Student, random: Random) -> None:
    n, m, d = random.sizes(3)
    theta, x, negatives = random.normal(3), random.normal(n, d), 0.5 + 1.5 * random.normal(m, d)

    def energy(x: Tensor) -> Tensor:
        return _features(x) @ theta

    e_x, e_negatives = energy(x), energy(negatives)
    suspects = [
        ("data and samples are swapped: whose energy should fall?", e_negatives.mean() - e_x.mean()),
        ("energies are summed up: what would a batch of another size give?", e_x.sum() - e_negatives.sum()),
        ("pull and push are added: then all energies fall, and nothing keeps them apart", e_x.mean() + e_negatives.mean()),
        ("the samples are missing: the data's energy could fall for ever", e_x.mean()),
        ("the data are missing: what keeps their energy down?", -e_negatives.mean()),
        ("here the gradients of E are wanted, not those of e to the −E", (-e_negatives).exp().mean() - (-e_x).exp().mean()),
        ("log Z cannot be had from a few samples; the loss is only there for its gradient",
         e_x.mean() + (-e_negatives).logsumexp(0) - math.log(m)),
        ("squares are no part of (2.38)", e_x.square().mean() - e_negatives.square().mean()),
        ("half of it? The gradient has to be that of the log-likelihood", (e_x.mean() - e_negatives.mean()) / 2),
    ]  # fmt: skip
    hint = "two means of energies: which of them is pulled down, which is pushed up?"
    student(energy=energy, x=x, negatives=negatives).should_be(e_x.mean() - e_negatives.mean(), hint, suspects)


def its_gradient(student: Student, random: Random) -> None:
    """E = θ·φ(x), whose gradient is a difference of mean features; the samples came of a chain that knows θ."""
    n, m, d = random.sizes(3)
    theta, x = random.normal(3).requires_grad_(), random.normal(n, d)
    negatives = 0.5 + random.normal(m, d) + theta.sum() * random.normal(m, d)

    def energy(x: Tensor) -> Tensor:
        return _features(x) @ theta

    want = _features(x).mean(0) - _features(negatives.detach()).mean(0)
    (through,) = torch.autograd.grad(-energy(negatives).mean(), theta, retain_graph=True)
    suspects = [
        ("the gradient goes through the samples, into the chain that made them: (2.38) holds them still",
         _features(x).mean(0) + through),
        ("only the data have a gradient: the samples' energies must keep theirs", _features(x).mean(0)),
        ("only the samples have a gradient: the data's energies must keep theirs", want - _features(x).mean(0)),
    ]  # fmt: skip
    hint = "the gradient for the weights is the data's mean gradient of E less the samples'"
    found = student.gradient(theta, torch.Size(()), energy=energy, x=x, negatives=negatives)
    found.should_be(want, hint, suspects)


def langevin(energy: Energy, x: Tensor, step: float, temperature: float, omega: Tensor) -> Tensor:
    """Where chains at x (n, d) are after k steps x' = x − η/2 ∇E(x) + √(ηT) ω_k, omega (k, n, d); thesis (2.39), α = η/2."""
    slope = torch.func.vmap(torch.func.grad(lambda point: energy(point[None])[0]))
    for noise in omega:
        x = x - slope(x) * step / 2 + math.sqrt(step * temperature) * noise
    return x


def _run(energy: Energy, x: Tensor, noise: Tensor, drift: float, *, fresh: bool = True, piled: bool = False) -> Tensor:
    """Chains with another drift or noise; with the slope of the start all along; with slopes that pile up."""
    total = torch.zeros_like(x)
    for k, kick in enumerate(noise):
        if fresh or k == 0:
            at = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(energy(at).sum(), at)
        total = total + slope
        x = x - drift * (total if piled else slope) + kick
    return x


def _langevin(student: Student, random: Random, steps: int, t: float) -> None:
    n, d = random.sizes(2)
    weights, step = random.normal(d, 3), float(random.uniform(0.1, 0.4))
    x, omega = 1 + random.normal(n, d), random.normal(steps, n, d)

    def energy(x: Tensor) -> Tensor:
        return x.square().sum(1) / 2 + torch.tanh(x @ weights).sum(1)

    want, root = langevin(energy, x, step, t, omega), math.sqrt(step * t)
    silent_end = torch.cat([omega[:-1], torch.zeros_like(omega[:1])])
    suspects = [
        ("the chains climb: the score is −∇E", _run(energy, x, root * omega, -step / 2)),
        ("the drift is twice too large: α = η/2", _run(energy, x, root * omega, step)),
        ("the noise is too large: its variance follows from α = η/2", _run(energy, x, 2**0.5 * root * omega, step / 2)),
        ("drift and noise are those of a step twice as long: here α = η/2", _run(energy, x, 2**0.5 * root * omega, step)),
        ("noise grows with the root of time, not with time", _run(energy, x, step * math.sqrt(t) * omega, step / 2)),
        ("noise grows with the root of time and of temperature", _run(energy, x, step * t * omega, step / 2)),
        ("there is no noise: that is gradient descent", _run(energy, x, 0 * omega, step / 2)),
        ("temperature is ignored: when it is 0 nothing may be random", _run(energy, x, math.sqrt(step) * omega, step / 2)),
        ("the temperature belongs under the root, with the step", _run(energy, x, math.sqrt(step) * t * omega, step / 2)),
        ("here the temperature scales the noise, not the drift", _run(energy, x, math.sqrt(step) * omega, step / (2 * t))),
        ("here the temperature scales the noise, not the drift, too", _run(energy, x, root * omega, step / (2 * t))),
        ("the slope is that of the mean energy: each chain feels its own", _run(energy, x, root * omega, step / (2 * n))),
        ("every step has noise of its own", _run(energy, x, root * omega[:1].expand_as(omega), step / 2)),
        ("the last step has noise, too: without it the chains' law is not p", _run(energy, x, root * silent_end, step / 2)),
        ("the slope is that of the start: it changes on the way", _run(energy, x, root * omega, step / 2, fresh=False)),
        ("slopes pile up: is the gradient set back to zero?", _run(energy, x, root * omega, step / 2, piled=True)),
        ("only one step is made, of as many as there is noise for", _run(energy, x, root * omega[:1], step / 2)),
        ("the last step is missing: count the noise", _run(energy, x, root * omega[:-1], step / 2)),
        ("x has come back as it was", x),
    ]  # fmt: skip
    hint = "how far down the slope of E, and what variance has the noise of one step at this temperature?"
    student(energy=energy, x=x, step=step, temperature=t, omega=omega).should_be(want, hint, suspects)


def one_step(student: Student, random: Random) -> None:
    _langevin(student, random, 1, 1.0)


def many_steps(student: Student, random: Random) -> None:
    _langevin(student, random, *random.sizes(1), float(random.uniform(0.2, 0.5)))
