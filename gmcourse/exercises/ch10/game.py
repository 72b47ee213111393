"""One net as critic and as generator: which of its gradients are stopped, thesis (5.1), (5.13) and (5.14)."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from gmcourse.exercises.ch10.energies import Function, Landscape, slope
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Answer, Student, Wrong

Unroll = Callable[[Function, Tensor], Tensor]
ONE = torch.Size(())


def contrast(energy: nn.Module, unroll: Unroll, x: Tensor, x0: Tensor) -> Tensor:
    """E(x) − E(x⁻), x⁻ = G_sg(θ)(x₀), in the means over both: a number whose gradient is that of thesis (5.1)."""
    with torch.no_grad():
        ends = unroll(energy, x0)
    return energy(x).sum() / len(x) - energy(ends).sum() / len(ends)


def generator(energy: nn.Module, unroll: Unroll, x: Tensor, x0: Tensor) -> Tensor:
    """E_θ(x) − E_θ(G_sg(θ)(x₀)) + E_sg(θ)(G_θ(x₀)), in the means, with one way down; thesis (5.14)."""
    ends = unroll(energy, x0)
    stopped = deepcopy(energy).requires_grad_(False)
    return energy(x).sum() / len(x) + (stopped(ends) - energy(ends.detach())).sum() / len(ends)


class Counted:
    """K steps of descent that keep their graph where gradients are wanted, and count how often they are asked for."""

    def __init__(self, step: float, steps: int, *, opaque: bool = False):
        self.step, self.steps, self.opaque, self.calls = step, steps, opaque, 0

    def __call__(self, energy: Function, x0: Tensor) -> Tensor:
        """G_θ(x₀), (n, *event_shape); without any gradient if opaque."""
        self.calls += 1
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.opaque):
            for _ in range(self.steps):
                x0 = x0 - self.step / 2 * slope(energy, x0)
        return x0


def _inputs(random: Random, *, opaque: bool = False) -> dict:
    n, m, d, h = random.sizes(4)
    energy = Landscape(random, (d,), h)
    x, x0 = 1 + random.normal(n, d), random.normal(m, d)
    return {"energy": energy, "unroll": Counted(0.4, 3, opaque=opaque), "x": x, "x0": x0}


def _parts(energy: nn.Module, unroll: Unroll, x: Tensor, x0: Tensor) -> dict[str, Tensor]:
    """Gradients for the weights, each taken by itself: the means of E at data, at the ends, at x₀; the generator's."""
    weight, frozen = energy.weight, deepcopy(energy).requires_grad_(False)
    ends = unroll(energy, x0)
    still = ends.detach()

    def gradient(value: Tensor) -> Tensor:
        if not value.requires_grad:
            return torch.zeros_like(weight)
        return torch.autograd.grad(value, weight, retain_graph=True)[0]

    return {
        "data": gradient(energy(x).mean()),
        "ends": gradient(energy(still).mean()),
        "noise": gradient(energy(x0).mean()),
        "way": gradient(frozen(ends).mean()),
        "squares": gradient(energy(x).square().mean() - energy(still).square().mean()),
    }


def its_value(student: Student, random: Random) -> None:
    inputs = _inputs(random)
    energy, x, x0, n = inputs["energy"], inputs["x"], inputs["x0"], len(inputs["x0"])
    with torch.no_grad():
        ends = inputs["unroll"](energy, x0)
        at_x, at_ends, at_noise = energy(x), energy(ends), energy(x0)
        farther = energy(inputs["unroll"](energy, ends))
        from_data = energy(inputs["unroll"](energy, x))
    suspects = [
        ("data and samples are exchanged: whose energy should fall?", at_ends.mean() - at_x.mean()),
        ("energies are summed up: what would a batch of another size give?", at_x.sum() - at_ends.sum()),
        ("the data's energies are summed up: what would a batch of another size give?", at_x.sum() - at_ends.mean()),
        ("the samples' energies are summed up: what would a batch of another size give?", at_x.mean() - at_ends.sum()),
        ("data and samples are divided by the same number: each has its own", (at_x.sum() - at_ends.sum()) / len(x)),
        ("data and samples are divided by the same number: each has its own", (at_x.sum() - at_ends.sum()) / n),
        ("they are added: then all energies fall", at_x.mean() + at_ends.mean()),
        ("the samples are missing: the data's energy could fall for ever", at_x.mean()),
        ("the data are missing: what keeps their energy down?", -at_ends.mean()),
        ("the negatives are the noise itself: a sample is where its way ends", at_x.mean() - at_noise.mean()),
        ("the way is gone twice: where it first ends is a sample", at_x.mean() - farther.mean()),
        ("the ways begin at the data: here they begin at noise", at_x.mean() - from_data.mean()),
        ("the data are led down, too", from_data.mean() - at_ends.mean()),
        ("squares are no part of (5.1)", at_x.square().mean() - at_ends.square().mean()),
        ("half of it? (5.1) has no half", (at_x.mean() - at_ends.mean()) / 2),
        ("log Z cannot be had from a few samples; (5.1) is their mean energy", at_x.mean() + (-at_ends).logsumexp(0)),
        ("E itself is wanted, not e to the −E", (-at_ends).exp().mean() - (-at_x).exp().mean()),
        ("the generator's term is not asked for yet: (5.1) has two", at_x.mean() + 0 * at_ends.mean()),
    ]  # fmt: skip
    hint = "two means of energies: which is pulled down, which is pushed up, and where does a sample lie?"
    student(**inputs).should_be(at_x.mean() - at_ends.mean(), hint, suspects)


def _left_alone(energy: nn.Module, answer: Answer) -> None:
    """A loss carries its graph, and has done nothing else yet."""
    answer.tensor(ONE)
    if not energy.weight.requires_grad:
        raise Wrong("the energy's weights want no gradient any more, for good: the next step would train nothing")
    if energy.weight.grad is not None:
        raise Wrong(
            "the energy's weights have got a gradient already: return the loss, and let the training loop do the rest"
        )


def _gradient(student: Student, inputs: dict, want: Tensor, hint: str, suspects: list[tuple[str, Tensor]]) -> None:
    _left_alone(inputs["energy"], student(**inputs))
    student.gradient(inputs["energy"].weight, ONE, **inputs).should_be(want, hint, suspects)


def its_gradient(student: Student, random: Random) -> None:
    inputs = _inputs(random)
    parts = _parts(**inputs)
    data, ends, noise, way, squares = parts.values()
    n, m = len(inputs["x"]), len(inputs["x0"])
    suspects = [
        ("the gradient goes through the way down, too, and drives the samples up: (5.1) takes them as they are",
         data - ends - way),
        ("the gradient goes through the way down only: the energy at the samples should have one", data - way),
        ("only the data have a gradient: the samples' energies must keep theirs", data),
        ("only the samples have a gradient: the data's energies must keep theirs", -ends),
        ("data and samples are exchanged: whose energy should fall?", ends - data),
        ("they are added: then all energies fall", data + ends),
        ("the negatives are the noise itself: a sample is where its way ends", data - noise),
        ("energies are summed up: what would a batch of another size give?", n * data - m * ends),
        ("squares are no part of (5.1)", squares),
        ("half of it? (5.1) has no half", (data - ends) / 2),
    ]  # fmt: skip
    hint = "the gradient for the weights is the data's mean gradient of E less the samples', which are fixed points"
    _gradient(student, inputs, data - ends, hint, suspects)


def _both(parts: dict[str, Tensor], n: int, m: int) -> list[tuple[str, Tensor]]:
    data, ends, noise, way, _ = parts.values()
    return [
        ("that is (5.1) alone: does a gradient come down the way, or does the critic's term undo it?", data - ends),
        ("that is the generator's alone, (5.13): the critic's two terms are missing", way),
        ("the generator climbs: its samples should find a low energy, as the critic sees it", data - ends - way),
        ("in the generator's term E has a gradient of its own, which undoes the critic's: whose weights are stopped there?",
         data + way),
        ("nothing is stopped: two of three terms cancel, and only the data's is left", data),
        ("the generator counts twice", data - ends + 2 * way),
        ("the generator counts half", data - ends + way / 2),
        ("the samples' energies are added, not subtracted, in the critic's term", data + ends + way),
        ("the data's energy is missing", way - ends),
        ("the critic's sign is turned round: whose energy should fall?", ends - data + way),
        ("all of it is turned round", ends - data - way),
        ("the critic's negatives are the noise itself", data - noise + way),
        ("they are summed up: what would a batch of another size give?", n * data + m * (way - ends)),
        ("the generator's term is summed up: what would a batch of another size give?", data - ends + m * way),
        ("the generator's term is divided by the batch twice", data - ends + way / m),
        ("the samples' terms are summed up: what would a batch of another size give?", data + m * (way - ends)),
        ("half of it? Each of the three terms of (5.14) counts once", (data - ends + way) / 2),
    ]  # fmt: skip


def as_a_critic(student: Student, random: Random) -> None:
    """Where the way down carries no gradient (5.14) is (5.1): E_sg must not move the weights by itself."""
    inputs = _inputs(random, opaque=True)
    parts = _parts(**inputs)
    want = parts["data"] - parts["ends"]
    hint = "here the way down carries no gradient, and the third term must not have any: what is left is (5.1)"
    _gradient(student, inputs, want, hint, _both(parts, len(inputs["x"]), len(inputs["x0"])))


def as_both(student: Student, random: Random) -> None:
    """Through the way down: the sum of what two separate updates of two nets would do."""
    inputs = _inputs(random)
    parts = _parts(**inputs)
    want = parts["data"] - parts["ends"] + parts["way"]
    hint = "the gradient is the sum of the critic's, (5.1), and the generator's, (5.13), as if they were two nets"
    _gradient(student, inputs, want, hint, _both(parts, len(inputs["x"]), len(inputs["x0"])))


def step_after_step(student: Student, random: Random) -> None:
    """Two steps of training, each with one way down, which is what costs; the critic is that of now."""
    inputs = _inputs(random)
    energy = inputs["energy"]
    for k in range(2):
        parts, unroll = _parts(**inputs), Counted(0.4, 3)
        inputs["unroll"] = unroll
        answer = student(**inputs)
        _left_alone(energy, answer)
        if unroll.calls != 1:
            raise Wrong(f"the way down was gone {unroll.calls} times: (5.14) is for one batch of samples, gone down once")
        value = answer.tensor(ONE)
        if not value.requires_grad:
            raise Wrong("no gradient reaches the weights: what cuts it off (detach, no_grad, a float for a tensor)?")
        (found,) = torch.autograd.grad(value, energy.weight)
        want = parts["data"] - parts["ends"] + parts["way"]
        hint = "the weights have moved since the last step: is E_sg the energy of now?" if k else "as in one step of both"
        again = replace(answer, value=found, part="gradient")
        suspects = _both(parts, len(inputs["x"]), len(inputs["x0"]))
        replace(again, again=lambda again=again: again).should_be(want, hint, suspects)
        with torch.no_grad():
            energy.weight -= 0.3 * found
