"""A short chain from beginning to end, with noise or without, thesis (5.3) and (5.8)."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from gmcourse.exercises.ch10.energies import Function, Landscape, valley
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student, Wrong


def steps(energy: Function, x: Tensor, u: Tensor, step: float, noise: float) -> Tensor:
    """Where x (n, *event_shape) ends after K steps x − η/2 ∇E(x) + σ u_k, (5.3), without a graph; u (n, K, *event_shape)."""
    for kick in u.unbind(1):
        x = x - jacobian(lambda points: step / 2 * energy(points).sum(), x).detach() + noise * kick
    return x


def _run(
    energy: Function,
    x: Tensor,
    u: Tensor,
    drift: float,
    kick: float,
    *,
    fresh: bool = True,
    piled: bool = False,
    first: bool = False,
) -> Tensor:
    """Chains with another drift or noise; with the slope of the start all along; with slopes that pile up; noise first."""
    total = torch.zeros_like(x)
    for k in range(u.shape[1]):
        x = x + kick * u[:, k] if first else x
        if fresh or k == 0:
            at = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(energy(at).sum(), at)
        total = total + slope
        x = x - drift * (total if piled else slope) + (0 if first else kick * u[:, k])
    return x


def _suspects(energy: Function, x: Tensor, u: Tensor, step: float, noise: float) -> Iterator[tuple[str, Tensor]]:
    run, root, n = partial(_run, energy, x), math.sqrt(step), len(x)
    silent_end = torch.cat([u[:, :-1], torch.zeros_like(u[:, :1])], 1)
    yield from [
        ("the chain climbs: noise is to be led down the energy", run(u, -step / 2, noise)),
        ("the drift is twice too long: it is half the step, as in (5.3)", run(u, step, noise)),
        ("the drift is too short: it is half the step, once", run(u, step / 4, noise)),
        ("the drift is the slope itself: where is the step?", run(u, 1.0, noise)),
        ("the noise is Langevin's own: here its scale is given, and the root of η is only one of its values",
         run(u, step / 2, root)),
        ("the scale of the noise is multiplied by the root of the step: it is a factor of u, and the only one",
         run(u, step / 2, noise * root)),
        ("the scale of the noise is multiplied by the step: it is a factor of u, and the only one",
         run(u, step / 2, noise * step)),
        ("the scale of the noise is squared: it is a standard deviation, no variance", run(u, step / 2, noise**2)),
        ("a root is taken of the scale of the noise: it is a standard deviation, no variance",
         run(u, step / 2, math.sqrt(noise))),
        ("the scale of the noise is multiplied by the root of twice the step: it is a factor of u, and the only one",
         run(u, step / 2, noise * math.sqrt(2 * step))),
        ("the noise has no scale: u has variance 1", run(u, step / 2, 1.0)),
        ("there is no noise: that is (5.8), and (5.3) was asked for", run(u, step / 2, 0.0)),
        ("the noise is subtracted: the law is the same, but u is given with its sign", run(u, step / 2, -noise)),
        ("the noise has come first: the slope is that of where a step begins", run(u, step / 2, noise, first=True)),
        ("every step has noise of its own: this was the first one's", run(u[:, :1].expand_as(u), step / 2, noise)),
        ("the noise is used in reverse: the first of u is for the first step", run(u.flip(1), step / 2, noise)),
        ("the last step has noise, too: (5.3) knows no exception", run(silent_end, step / 2, noise)),
        ("the slope is that of the mean energy: each chain feels its own", run(u, step / (2 * n), noise)),
        ("the slope is that of the mean energy, and of the whole step: each chain feels its own", run(u, step / n, noise)),
        ("the slope is that of the start: it changes on the way", run(u, step / 2, noise, fresh=False)),
        ("slopes pile up: is the gradient set back to zero?", run(u, step / 2, noise, piled=True)),
        ("only one step is made: how many are there noises for?", run(u[:, :1], step / 2, noise)),
        ("the last step is missing: how many are there noises for?", run(u[:, :-1], step / 2, noise)),
        ("there is a step too many: how many are there noises for?",
         _run(energy, run(u, step / 2, noise), torch.zeros_like(u[:, :1]), step / 2, noise)),
        ("x has come back as it was: where is the chain after K steps?", x),
        ("that is the way gone: where does it lead from x?", run(u, step / 2, noise) - x),
    ]  # fmt: skip


def at_any_noise(student: Student, random: Random) -> None:
    """A noise scale of any size, Langevin's own, and none."""
    n, d, k = random.sizes(3)
    root = random.normal(d, d)
    energy, step = valley(root @ root.mT / d), float(random.uniform(0.1, 0.4))
    for noise in (float(random.uniform(1.5, 2.0)) * math.sqrt(step), math.sqrt(step), 0.0):
        inputs = {"energy": energy, "x": random.normal(n, d), "u": random.normal(n, k, d), "step": step, "noise": noise}
        hint = "half a step down the slope of where the chain is, and the scale times the next noise: how often?"
        if not noise:
            hint = "at noise 0 this is (5.8), descent: what is left that moves?"
        student(**inputs).should_be(steps(**inputs), hint, _suspects(**inputs))


def of_images(student: Student, random: Random) -> None:
    """Images, a batch of one among them, and an energy whose weights and gradients must be left alone."""
    n, k, c, h = random.sizes(4)
    energy = Landscape(random, (c, h, h - 1), 4)
    before = random.normal(*energy.weight.shape)
    energy.weight.grad = before.clone()
    weights = energy.weight.detach().clone()
    for size in (n, 1):
        x, u = random.normal(size, c, h, h - 1), random.normal(size, k, c, h, h - 1)
        inputs = {"energy": energy, "x": x, "u": u, "step": 0.3, "noise": 0.1}
        answer = student(**inputs)
        if energy.weight.grad is None or not torch.equal(energy.weight.grad, before):
            raise Wrong("the gradient of the energy's weights has changed, which training will use: whose was wanted?")
        if not energy.weight.requires_grad:
            raise Wrong("the energy's weights want no gradient any more: how will it be trained after this chain?")
        if not torch.equal(energy.weight, weights):
            raise Wrong("the energy's weights have moved: only the points of the chain are to")
        hint = "these are images: is any axis but the first two of u taken for granted?"
        answer.should_be(steps(**inputs), hint, _suspects(**inputs))
        if answer.value.requires_grad:
            raise Wrong("the end of the chain drags its graph along, of all K steps. What cuts it off?")
