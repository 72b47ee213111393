"""The density of a gradient flow: back to the noise, and how volumes changed on the way, thesis (5.5)-(5.7)."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from gmcourse.exercises.ch10.energies import Function, Landscape, hessians, jacobians, slope, valley
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student, Wrong

TABLEAU = {"rk4": ((0.5, 0.5, 1.0), (1, 2, 2, 1)), "midpoint": ((0.5,), (0, 1)), "euler": ((), (1,))}


def flow_density(energy: Function, x: Tensor, time: float, steps: int) -> Tensor:
    """log p(x) in nats, x (n, d) -> (n,), of x' = −∇E from N(0, I) at 0 to x at T; thesis (5.7).

    By the other formula: x₀ as a function of x, and the determinant of its Jacobian. No trace is taken.
    """
    x = x.clone().requires_grad_()
    x0 = _origin(energy, x, time / steps, steps)
    return standard_normal(x0) + torch.linalg.slogdet(jacobians(x0, x, create_graph=True)).logabsdet


def _origin(energy: Function, x: Tensor, h: float, steps: int) -> Tensor:
    """Up the energy by RK4, with the graph."""
    for _ in range(steps):
        k1 = slope(energy, x)
        k2 = slope(energy, x + h / 2 * k1)
        k3 = slope(energy, x + h / 2 * k2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(energy, x + h * k3))
    return x


def standard_normal(x: Tensor) -> Tensor:
    """log N(x; 0, I), (n, d) -> (n,)."""
    return Independent(Normal(torch.zeros_like(x), 1.0), 1).log_prob(x)


def _back(energy: Function, x: Tensor, time: float, steps: int, solver: str = "rk4") -> tuple[Tensor, Tensor, Tensor]:
    """Where the flow came from, and along its way the integral of the Hessian and of the squared slope."""

    def field(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at = x.detach().requires_grad_()
        uphill = slope(energy, at)
        return uphill.detach(), jacobians(uphill, at), uphill.detach().square().sum(1)

    state, h = (x, x.new_zeros(*x.shape, x.shape[1]), x.new_zeros(len(x))), time / steps
    nodes, weights = TABLEAU[solver]
    for _ in range(steps):
        slopes = [field(state[0])]
        for node in nodes:
            slopes.append(field(state[0] + node * h * slopes[-1][0]))
        means = [sum(w * s for w, s in zip(weights, part, strict=True)) / sum(weights) for part in zip(*slopes, strict=True)]
        state = tuple(old + h * mean for old, mean in zip(state, means, strict=True))
    return state


def _traces(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def _on_the_way(energy: Function, x: Tensor, time: float, steps: int) -> Iterator[tuple[str, Tensor]]:
    """What comes of looking at the curvature elsewhere."""
    x0, _, _ = _back(energy, x, time, steps)
    at_noise = standard_normal(x0)
    first, last = (time * _traces(hessians(energy, points)) for points in (x, x0))
    yield "the trace is that of where x is, all along: it changes on the way", at_noise + first
    yield "the trace is that of where the noise was, all along: it changes on the way", at_noise + last
    yield "the trace is taken at both ends only: the integral wants it on the way", at_noise + (first + last) / 2


def _suspects(energy: Function, x: Tensor, time: float, steps: int) -> Iterator[tuple[str, Tensor]]:
    x0, hessian, squares = _back(energy, x, time, steps)
    beyond, ahead, _ = _back(lambda x: -energy(x), x, time, steps)
    doubled, twice, _ = _back(energy, x, 2 * time, steps)
    halved, half, _ = _back(energy, x, time / 2, steps)
    trace, at_noise, d = _traces(hessian), standard_normal(x0), x.shape[1]
    constant, whole = d / 2 * math.log(2 * math.pi), hessian.sum((1, 2))
    by = {solver: _back(energy, x, time, steps, solver) for solver in ("euler", "midpoint")}
    yield from [
        ("the sign of the trace: downhill into a valley, do points crowd, or spread?", at_noise - trace),
        ("the trace is missing: points crowd where the energy curves upwards", at_noise),
        ("the density of the noise is missing: how likely was the beginning?", trace),
        ("the noise's density is taken at the data: back along the flow is where?", standard_normal(x) + trace),
        ("the noise's density is taken at the data, and the trace is subtracted", standard_normal(x) - trace),
        ("the way leads on from the data, not back to the noise: which sign has the slope in reverse?",
         standard_normal(beyond) - _traces(ahead)),
        ("the way leads on from the data, not back to the noise; and the trace is subtracted",
         standard_normal(beyond) + _traces(ahead)),
        ("time runs twice as far: (5.5) has no half, nor a two", standard_normal(doubled) + _traces(twice)),
        ("time runs half as far: the flow (5.5) has no half, a step of (5.8) has", standard_normal(halved) + _traces(half)),
        ("the trace is halved: (5.7) has no half", at_noise + trace / 2),
        ("the trace is doubled: (5.7) has it once", at_noise + 2 * trace),
        ("that is a mean over the dimensions: a trace is a sum", at_noise + trace / d),
        ("that is the sum of all entries of the Hessian: of one gradient's sum, one derivative sees whole columns",
         at_noise + whole),
        ("that is the squared slope, not the trace of the second derivatives", at_noise + squares),
        ("the trace is added up without the length of a step", at_noise + trace * steps / time),
        ("the trace is averaged over the time: an integral is wanted", at_noise + trace / time),
        ("these are Euler's steps: their error shows. With RK4 it would not",
         standard_normal(by["euler"][0]) + _traces(by["euler"][1])),
        ("the way is RK4's, the trace Euler's: let the same solver carry both", at_noise + _traces(by["euler"][1])),
        ("these are the midpoint's steps: their error shows. With RK4 it would not",
         standard_normal(by["midpoint"][0]) + _traces(by["midpoint"][1])),
        ("the noise's density lacks its constant", at_noise + constant + trace),
        ("the constant of the noise's density is there once: it has one for each dimension",
         at_noise + constant * (1 - 1 / d) + trace),
        ("the exponent of the noise's density lacks its half", at_noise - x0.square().sum(1) / 2 + trace),
        ("the squares in the noise's density are averaged: over the dimensions they add up",
         at_noise + x0.square().sum(1) * (1 - 1 / d) / 2 + trace),
        ("that is a density, its logarithm is wanted", (at_noise + trace).exp()),
        ("the sign is turned round: log p, not −log p", -at_noise - trace),
        ("that is in bits: nats are wanted", (at_noise + trace) / math.log(2)),
        ("the trace is summed over the batch: each point has its own", at_noise + trace.sum()),
        ("the trace is averaged over the batch: each point has its own", at_noise + trace.mean()),
        ("that is the energy's own density, unnormalised: here the flow's is wanted", -energy(x).detach()),
    ]  # fmt: skip


NONFINITE = "inf or nan: does the way lead back up the energy, and with short steps?"


def in_a_valley(student: Student, random: Random) -> None:
    """E = ½ xᵀ A x, whose flow is e^{−At}: log N(e^{AT} x; 0, I) + T tr A, another Gaussian."""
    n, d, _ = random.sizes(3)
    d = min(d, 4)
    root, time = random.normal(d, d), float(random.uniform(0.1, 0.14))
    a = root @ root.mT / d - 0.5 * torch.eye(d, dtype=torch.float64)
    x, energy = random.normal(n, d) / 2, valley(a)
    narrow = torch.linalg.matrix_exp(-2 * time * a)
    want = MultivariateNormal(torch.zeros(d, dtype=torch.float64), (narrow + narrow.mT) / 2).log_prob(x)
    inputs = {"energy": energy, "x": x, "time": time, "steps": 6}
    hint = "log N at where the flow began, and the trace of the Hessian, summed up along the way: which of them differs?"
    student(**inputs).should_be(want, hint, _suspects(**inputs), NONFINITE)


def in_a_landscape(student: Student, random: Random) -> None:
    """A small net, whose curvature changes on the way."""
    n, h, _ = random.sizes(3)
    energy, x = Landscape(random, (3,), h, scale=1.0).requires_grad_(False), 1.2 * random.normal(n, 3)
    want = flow_density(energy, x, 0.12, 6)
    for rows in (x, x[:1]):
        inputs = {"energy": energy, "x": rows, "time": 0.12, "steps": 6}
        hint = "the curvature changes on the way: is it that of the point where the solver is?"
        student(**inputs).should_be(want[: len(rows)], hint, _on_the_way(**inputs), NONFINITE)


def its_gradient(student: Student, random: Random) -> None:
    """Of the sum of log p for the weights, which reach it by way of x₀ and by way of the trace."""
    n, h, _ = random.sizes(3)
    energy = Landscape(random, (2,), h, scale=1.0)
    inputs = {"energy": energy, "x": random.normal(n, 2), "time": 0.12, "steps": 6}

    def gradient(value: Tensor) -> Tensor:
        return torch.autograd.grad(value.sum(), energy.weight)[0]

    want = gradient(flow_density(**inputs))
    by_noise = gradient(standard_normal(_origin(energy, inputs["x"], 0.02, 6)))
    suspects = [
        ("the gradient comes by way of the noise alone: what cuts off the trace's?", by_noise),
        ("the gradient comes by way of the trace alone: what cuts off that of the noise?", want - by_noise),
    ]
    hint = "the weights act on where the way began and on the traces; along the way, too: is anything cut off on it?"
    student.gradient(energy.weight, torch.Size((n,)), **inputs).should_be(want, hint, suspects, NONFINITE)
    if energy.weight.grad is not None:
        raise Wrong("the weights have got a gradient already: log p only has to carry its graph")
