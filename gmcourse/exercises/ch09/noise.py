"""One step of Langevin dynamics where the base is one round hill: in the space of its noise, thesis (4.10) and (4.19)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student, Wrong

Function = Callable[[Tensor], Tensor]


def noise_step(eps: Tensor, omega: Tensor, push: Function, energy: Function, step: float) -> Tensor:
    """ε − η/2 ∇(E(push(ε)) + ½‖ε‖²) + √η ω, (n, D) and without a graph; thesis (4.10), (4.19).

    eps, omega (n, D); push (n, D) -> x (n, d); energy (n, d) -> (n,).
    """
    return _moved(eps, omega, lambda e: energy(push(e)).sum() + torch.einsum("nd,nd->", e, e) / 2, step)


def _moved(eps: Tensor, omega: Tensor, total: Function, step: float, kick: float | None = None) -> Tensor:
    """The step on another energy `total`, summed over chains, or with another factor of the noise."""
    slope = jacobian(total, eps).detach()
    return eps - step * slope / 2 + (math.sqrt(step) if kick is None else kick) * omega


def _suspects(inputs: dict) -> list[tuple[str, Tensor]]:
    eps, omega, push, energy, step = inputs.values()

    def tilt(e: Tensor) -> Tensor:
        return energy(push(e)).sum()

    def both(e: Tensor) -> Tensor:
        return tilt(e) + prior(e)

    def prior(e: Tensor) -> Tensor:
        return e.square().sum() / 2

    def moved(total: Function = both, kick: float | None = None) -> Tensor:
        return _moved(eps, omega, total, step, kick)

    n, dims = eps.shape
    root, kicked = math.sqrt(step), eps + math.sqrt(step) * omega
    x = push(eps).detach().requires_grad_()
    (of_x,) = torch.autograd.grad(energy(x).sum(), x)
    listed = [
        ("the chain climbs: which sign has the score of e to the −U?", moved(lambda e: -both(e))),
        ("the drift is twice too long: it is half the step", moved(lambda e: 2 * both(e))),
        ("the drift is too short: η/2 once", moved(lambda e: both(e) / 2)),
        ("the noise is too large: drift and noise are of one step, η/2 and the root of η", moved(kick=math.sqrt(2) * root)),
        ("drift and noise are those of a step twice as long: (4.10) has η/2 and the root of η",
         moved(lambda e: 2 * both(e), math.sqrt(2) * root)),
        ("the noise grows with the root of the step", moved(kick=step)),
        ("the noise has the root of η, not of its half", moved(kick=root / math.sqrt(2))),
        ("the noise has no factor: how far does it carry in a short step?", moved(kick=1.0)),
        ("there is no noise: that is gradient descent", moved(kick=0.0)),
        ("the noise is subtracted: the law is the same, but ω is given with its sign", moved(kick=-root)),
        ("½‖ε‖² is missing: without it chains leave for where the base never is", moved(tilt)),
        ("E is missing: that chain draws from the base", moved(prior)),
        ("½‖ε‖² has the wrong sign: −log of the noise's density is to be added", moved(lambda e: tilt(e) - prior(e))),
        ("E has the wrong sign: where E is high the tilted law is low", moved(lambda e: prior(e) - tilt(e))),
        ("‖ε‖² lacks its half: minus the logarithm of a Gaussian has one", moved(lambda e: tilt(e) + 2 * prior(e))),
        ("the norm is that of x: it is the noise that is Gaussian", moved(lambda e: tilt(e) + prior(push(e)))),
        ("the norm is not squared: what is minus log of a Gaussian?", moved(lambda e: tilt(e) + e.norm(dim=1).sum() / 2)),
        ("the slope is that of the mean over the chains: each feels its own energy", moved(lambda e: both(e) / n)),
        ("the slope of E is that of the mean over the chains: each feels its own",
         moved(lambda e: tilt(e) / n + prior(e))),
        ("the squares are averaged over the dimensions, but they add up", moved(lambda e: tilt(e) + prior(e) / dims)),
        ("the squares are averaged over everything, but they add up",
         moved(lambda e: tilt(e) + prior(e) / eps.numel())),
        ("the squares are averaged over the chains: each has a norm of its own",
         moved(lambda e: tilt(e) + prior(e) / n)),
        ("the noise came first: the slope is that of where the step begins",
         kicked - step / 2 * jacobian(both, kicked).detach()),
        ("ε has come back as it was: neither drift nor noise moved it", eps),
        ("that is where the new ε leads: the chain itself stays in the space of the noise", push(moved()).detach()),
        ("that is the increment: where is the chain now?", moved() - eps),
    ]  # fmt: skip
    if of_x.shape == eps.shape:
        pulled = "the slope is ∇E at x: by the chain rule push has a part in the slope for ε"
        listed += [
            (pulled, eps - step / 2 * (of_x + eps) + root * omega),
            ("E is taken at ε: it is an energy of x", moved(lambda e: energy(e).sum() + prior(e))),
            (f"{pulled}; and ½‖ε‖² is missing", eps - step / 2 * of_x + root * omega),
            ("that step is one of x, where the base is no Gaussian", push(eps).detach() - step / 2 * of_x + root * omega),
        ]
    return listed


def _guarded(function: Function, columns: int, name: str) -> Function:
    """The function, particular about what it is given."""

    def guarded(a: Tensor) -> Tensor:
        if a.ndim != 2 or a.shape[1] != columns:
            raise ValueError(f"{name} wants shape (n, {columns}); got {tuple(a.shape)}")
        return function(a)

    return guarded


def _energy(theta: Tensor) -> Function:
    """An energy with weights, of some bends."""
    d = theta.shape[0]
    return _guarded(lambda x: 3 * torch.cos(x @ theta).sum(1) + x.square().sum(1) / 5, d, "energy")


def of_a_flow(student: Student, random: Random) -> None:
    """push is bijective: as many noises as coordinates."""
    n, d, h = random.sizes(3)
    matrix, shift, step = random.normal(d, d), random.normal(d), float(random.uniform(0.1, 0.6))
    push = _guarded(lambda e: torch.asinh(e @ matrix) + shift, d, "push")
    inputs = {"eps": random.normal(n, d), "omega": random.normal(n, d), "push": push, "energy": _energy(random.normal(d, h))}
    inputs |= {"step": step}
    hint = "the slope of two terms for ε, half a step down it, and the noise of a step: which of these is another?"
    student(**inputs).should_be(noise_step(**inputs), hint, _suspects(inputs))


def of_a_vae(student: Student, random: Random) -> None:
    """More noise than coordinates, ε = (ε_z, ε_x), and an energy with weights, which must be left alone."""
    n, latents, d, h = random.sizes(4)
    out, theta = random.normal(latents, d), random.normal(d, h).requires_grad_()

    def decode(e: Tensor) -> Tensor:
        return 2 * torch.tanh(e[:, :latents] @ out) + 0.3 * e[:, latents:]

    push, size = _guarded(decode, latents + d, "push"), (n, latents + d)
    inputs = {"eps": random.normal(*size), "omega": random.normal(*size), "push": push, "energy": _energy(theta)}
    inputs |= {"step": float(random.uniform(0.1, 0.6))}
    answer = student(**inputs)
    hint = "ε is a VAE's here, of z and of x: does each part feel E by way of push, and its own half square?"
    answer.should_be(noise_step(**inputs), hint, _suspects(inputs))
    if theta.grad is not None:
        raise Wrong("the energy's weights have got a gradient, which training would add to: which function gives ε's alone?")
    if answer.value.requires_grad:
        raise Wrong("the new ε drags its graph along: a chain of k steps would keep k of them. What cuts it off?")
