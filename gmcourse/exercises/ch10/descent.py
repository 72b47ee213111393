"""The density of K steps of descent: a residual flow that is inverted step by step, thesis (5.8), (5.9)."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from gmcourse.exercises.ch10.energies import Function, Landscape, hessians, jacobians, slope, valley
from gmcourse.exercises.ch10.flow import standard_normal
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

ROUNDS = 60  # each nears the fixed point by a factor of 0.3, or 0.6 at a step of twice the length


def descent_density(energy: Function, x: Tensor, step: float, steps: int) -> Tensor:
    """log p(x) in nats, x (n, d) -> (n,), of K steps x − η/2 ∇E(x) from N(0, I); thesis (5.8), (5.9).

    x₀ by Newton's method, step by step, then the Jacobian of the whole way from there.
    """
    one = torch.eye(x.shape[1], dtype=x.dtype)

    def down(points: Tensor, times: int = 1) -> Tensor:
        for _ in range(times):
            points = points - step / 2 * slope(energy, points)
        return points

    start = x
    for _ in range(steps):
        end = start
        for _ in range(6):
            bend, missed = one - step / 2 * hessians(energy, start), down(start).detach() - end
            start = start - torch.linalg.solve(bend, missed[..., None])[..., 0]
    start = start.requires_grad_()
    whole = jacobians(down(start, steps), start)
    return standard_normal(start.detach()) - torch.linalg.slogdet(whole).logabsdet


def _way(energy: Function, x: Tensor, step: float, steps: int, rounds: int = ROUNDS) -> list[Tensor]:
    """x_K, x_{K−1}, …, x₀, each by a fixed point of y = x + η/2 ∇E(y)."""
    points = [x]
    with torch.no_grad():
        for _ in range(steps):
            y = points[-1]
            for _ in range(rounds):
                y = points[-1] + step / 2 * slope(energy, y)
            points.append(y)
    return points


def _determinants(energy: Function, points: list[Tensor], half: float) -> Tensor:
    """Σ log|det(I − half ∇²E)| over the points."""
    total = 0
    for y in points:
        one = torch.eye(y.shape[1], dtype=y.dtype)
        total = total + torch.linalg.slogdet(one - half * hessians(energy, y)).logabsdet
    return total


def _suspects(energy: Function, x: Tensor, step: float, steps: int) -> Iterator[tuple[str, Tensor]]:
    points, half, d = _way(energy, x, step, steps), step / 2, x.shape[1]
    dets = partial(_determinants, energy)
    x0, at_noise, change = points[-1], standard_normal(points[-1]), dets(points[1:], half)
    bends = [hessians(energy, y) for y in points]
    constant, linear = d / 2 * math.log(2 * math.pi), half * sum(b.diagonal(dim1=1, dim2=2).sum(1) for b in bends[1:])
    ends, climbs = dets(points[:-1], half), _way(energy, x, step, steps, rounds=1)
    doubled, onwards = _way(energy, x, 2 * step, steps), _way(lambda y: -energy(y), x, step, steps, rounds=1)
    diagonal = sum(torch.log1p(-half * b.diagonal(dim1=1, dim2=2)).sum(1) for b in bends[1:])
    yield from [
        ("the sign of the log-determinants: steps that squeeze make a density larger, and log|det| is below 0 there",
         at_noise + change),
        ("the determinants are taken where a step ends: its map's slope is that of where it begins", at_noise - ends),
        ("the determinants are taken where a step ends, and added: two things", at_noise + ends),
        ("that is the trace, as the flow (5.7) has it: a step of finite length has a determinant", at_noise + linear),
        ("that is the trace, with the wrong sign; and a step of finite length has a determinant", at_noise - linear),
        ("the determinants are missing", at_noise),
        ("the density of the noise is missing: how likely was the beginning?", -change),
        ("the noise's density is taken at the data: where did the way begin?", standard_normal(x) - change),
        ("one step up the energy from where a step ended is not where it began: the slope is that of the beginning",
         standard_normal(climbs[-1]) - dets(climbs[1:], half)),
        ("one step up the energy is no inverse: the slope is that of where the step began; and the determinants "
         "belong there, too", standard_normal(climbs[-1]) - dets(climbs[:-1], half)),
        ("the step is a whole one: (5.8) has its half", standard_normal(doubled[-1]) - dets(doubled[1:], step)),
        ("in the determinants the step is a whole one: (5.8) has its half", at_noise - dets(points[1:], step)),
        ("in the determinants the step is a quarter: (5.8) has its half", at_noise - dets(points[1:], half / 2)),
        ("in the inverse the step is a whole one: (5.8) has its half",
         standard_normal(doubled[-1]) - dets(doubled[1:], half)),
        ("the sign in I − η/2 H: the step goes down", at_noise - dets(points[1:], -half)),
        ("the signs in I − η/2 H and before the logarithm are both turned round; that is not the same",
         at_noise + dets(points[1:], -half)),
        ("the way leads on from the data, not back to the noise",
         standard_normal(onwards[-1]) - dets(onwards[:-1], half)),
        ("only the last step is undone: there are K", standard_normal(points[1]) - dets(points[1:2], half)),
        ("only one determinant is there: there are K", at_noise - dets(points[1:2], half)),
        ("only one determinant is there: there are K", at_noise - dets(points[-1:], half)),
        ("the determinant changes from step to step", at_noise - steps * dets(points[-1:], half)),
        ("the determinant changes from step to step", at_noise - steps * dets(points[1:2], half)),
        ("the determinant changes from step to step", at_noise - steps * dets(points[:1], half)),
        ("K − 1 steps are undone: there are K", standard_normal(points[-2]) - dets(points[1:-1], half)),
        ("there is a determinant too many: K steps begin at K points", at_noise - dets(points, half)),
        ("only the diagonal of the Hessian is used: the determinant is that of a whole matrix", at_noise - diagonal),
        ("that is a mean over the steps: the determinants add up", at_noise - change / steps),
        ("that is a mean over the dimensions: log p is of them all", at_noise - change / d),
        ("the logarithm is missing: determinants multiply",
         at_noise - sum(torch.linalg.det(torch.eye(d, dtype=x.dtype) - half * b) for b in bends[1:])),
        ("the identity is missing: a step of length 0 has determinant 1",
         at_noise - sum(torch.linalg.slogdet(half * b).logabsdet for b in bends[1:])),
        ("half of the log-determinants: that is a Gaussian's normaliser, here there is no half", at_noise - change / 2),
        ("the noise's density lacks its constant", at_noise + constant - change),
        ("the exponent of the noise's density lacks its half", at_noise - x0.square().sum(1) / 2 - change),
        ("the sign is turned round: log p, not −log p", change - at_noise),
        ("that is a density, its logarithm is wanted", (at_noise - change).exp()),
        ("that is in bits: nats are wanted", (at_noise - change) / math.log(2)),
        ("the determinants are summed over the batch: each point has its own", at_noise - change.sum()),
        ("the determinants are averaged over the batch: each point has its own", at_noise - change.mean()),
    ]  # fmt: skip


NONFINITE = "inf or nan: does the fixed point settle, and is the logarithm of a determinant had without the determinant?"
HINT = "log N at where the first step began, less the log-determinant of each step at where it began: are the rounds enough?"


def in_a_valley(student: Student, random: Random) -> None:
    """E = ½ xᵀ A x, where K steps are one matrix: another Gaussian. A has hills, too."""
    n, d, k = random.sizes(3)
    d, k, step = min(d, 4), min(k, 4), float(random.uniform(0.2, 0.6))
    turn = torch.linalg.qr(random.normal(d, d)).Q
    bends = torch.linspace(-0.15, 0.3, d, dtype=torch.float64) * 2 / step
    matrix = turn @ bends.diag() @ turn.mT
    down = turn @ (1 - step / 2 * bends).pow(2 * k).diag() @ turn.mT
    x = random.normal(n, d) @ (turn @ (1 - step / 2 * bends).pow(k).diag() @ turn.mT)
    want = MultivariateNormal(torch.zeros(d, dtype=torch.float64), (down + down.mT) / 2).log_prob(x)
    inputs = {"energy": valley((matrix + matrix.mT) / 2), "x": x, "step": step, "steps": k}
    student(**inputs).should_be(want, HINT, _suspects(**inputs), NONFINITE)


def in_a_landscape(student: Student, random: Random) -> None:
    """A small net, whose curvature is another at every point; a batch of one; one step."""
    n, h, k = random.sizes(3)
    energy = Landscape(random, (3,), h)
    step, k, x = 0.6 / energy.steepness(), min(k, 4), random.normal(n, 3)
    for rows, count in ((x, k), (x[:1], 2), (x, 1)):
        inputs = {"energy": energy, "x": rows, "step": step, "steps": count}
        student(**inputs).should_be(descent_density(**inputs), HINT, _suspects(**inputs), NONFINITE)
