"""The discriminator's loss on pairs (x_{t−1}, x_t), with R1 in x_{t−1} alone; thesis (6.3), (6.4), (6.16)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.nn.functional import logsigmoid, softplus

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student, Wrong

Judge = Callable[[Tensor, Tensor, Tensor], Tensor]


def discriminator_loss(judge: Judge, before: Tensor, fake: Tensor, xt: Tensor, t: Tensor, gamma: float) -> Tensor:
    """−log σ(D) at (x_{t−1}, x_t), −log(1 − σ(D)) at (x'_{t−1}, x_t), + γ/2 ‖∇D‖² in x_{t−1}, (n,); thesis (6.3), (6.16)."""
    slope = _slope(lambda x: judge(x, xt, t), before)
    return gamma / 2 * _square(slope) - logsigmoid(judge(before, xt, t)) - logsigmoid(-judge(fake, xt, t))


def _slope(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The slope of each logit for its own row, out of the whole Jacobian; it leads to the weights."""
    return torch.einsum("nn...->n...", jacobian(critic, x, create_graph=True))


def _square(slope: Tensor) -> Tensor:
    return torch.einsum("ni,ni->n", slope.flatten(1), slope.flatten(1))


def _judge(random: Random, dims: int, units: int, scale: float = 1.0) -> tuple[Judge, Tensor]:
    """A smooth D that minds its time, the order of the two, and their shapes; and its weights."""
    weights, out = (random.normal(2 * dims, units) / dims**0.5).requires_grad_(), scale * random.normal(units)

    def judge(before: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        if before.shape != xt.shape or not isinstance(t, Tensor) or t.shape != before.shape[:1]:
            shapes = ", ".join(str(tuple(getattr(v, "shape", ()))) for v in (before, xt, t))
            raise ValueError(f"D wants x_(t-1) and x_t of one shape, and t (n,); got {shapes}")
        both = torch.cat([before.flatten(1), xt.flatten(1)], 1)
        return torch.tanh(both @ weights + 0.3 * t[:, None]) @ out

    return judge, weights


def _inputs(random: Random, *shape: int, gamma: float, scale: float = 1.0) -> tuple[dict, Tensor]:
    judge, weights = _judge(random, torch.Size(shape[1:]).numel(), random.sizes(1)[0], scale)
    before, fake, xt = random.normal(*shape), 1 + random.normal(*shape), random.normal(*shape)
    t = torch.arange(shape[0]) % 4
    return {"judge": judge, "before": before, "fake": fake, "xt": xt, "t": t, "gamma": gamma}, weights


def _of_the_game(
    judge: Judge, before: Tensor, fake: Tensor, xt: Tensor, t: Tensor, penalty: Tensor
) -> list[tuple[str, Tensor]]:
    """Other games, with the right penalty (n,)."""
    real, made = judge(before, xt, t), judge(fake, xt, t)
    want = softplus(-real) + softplus(made)

    def fakes_at(other: Tensor) -> Tensor:
        return softplus(-real) + softplus(judge(fake, other, t))

    def told(time: Tensor) -> Tensor:
        return softplus(-judge(before, xt, time)) + softplus(judge(fake, xt, time))

    other = "the fakes are judged beside another x_t than the one they were made of: how would D know what to compare?"
    cases = [
        ("the signs are turned round: for which pairs should D be large?", softplus(real) + softplus(-made)),
        ("real pairs are called fake: for which pairs should D be large?", softplus(real) + softplus(made)),
        ("fake pairs are called real: that is the generator's wish", softplus(-real) + softplus(-made)),
        ("the fakes are missing: D could call everything real", softplus(-real)),
        ("the real pairs are missing: D could call everything fake", softplus(made)),
        ("the two terms are subtracted: (6.3) adds them", softplus(-real) - softplus(made)),
        ("that is the other way up: a loss falls where D is right", -want),
        ("that is Wasserstein's loss: (6.3) has logarithms", made - real),
        ("that is the hinge loss: (6.3) has logarithms", (1 - real).relu() + (1 + made).relu()),
        ("the logarithms are missing", torch.sigmoid(-real) + torch.sigmoid(made)),
        ("half of it? (6.3) has no half", want / 2),
        (other, fakes_at(xt.flip(0))),
        (other, fakes_at(xt.roll(1, 0))),
        (other, fakes_at(xt.roll(-1, 0))),
        (other, fakes_at(xt[torch.zeros_like(t)])),
        ("the fakes are judged beside the real x_{t−1}: what is the condition?", fakes_at(before)),
        ("the fakes are judged beside themselves: what is the condition?", fakes_at(fake)),
        ("the fakes come second: D looks at x_{t−1} first, then at x_t", softplus(-real) + softplus(judge(xt, fake, t))),
        ("D looks at x_{t−1} first, then at x_t", softplus(-judge(xt, before, t)) + softplus(judge(xt, fake, t))),
        ("real and fake are exchanged", softplus(-made) + softplus(real)),
        ("D is told t − 1: it is called with t, as the generator is", told(t - 1)),
        ("D is told t + 1: times count from 0 here", told(t + 1)),
        ("D is told time 0 for all rows", told(torch.zeros_like(t))),
        ("that is the mean over all pairs: each has a loss of its own", want.mean().expand_as(want)),
        ("that is the sum over all pairs: each has a loss of its own", want.sum().expand_as(want)),
    ]
    return [(hint, value + penalty) for hint, value in cases]


def without_a_penalty(student: Student, random: Random) -> None:
    """γ = 0; and D that is very sure, where the logarithm of a probability that is 0 would be inf."""
    n, d = random.sizes(2)
    for scale in (1.0, 2000.0):
        inputs, _ = _inputs(random, n, d, gamma=0.0, scale=scale)
        game = {name: value for name, value in inputs.items() if name != "gamma"}
        want = discriminator_loss(**inputs).detach()
        suspects = [(hint, value.detach()) for hint, value in _of_the_game(**game, penalty=torch.zeros_like(want))]
        own = _square(_slope(lambda x, given=inputs: given["judge"](x, given["xt"], given["t"]), inputs["before"])).detach()
        suspects += [("γ is 0 here: then the penalty does not count", want + share * own) for share in (1, 0.5)]
        hint = "minus the logarithm of how real the real pair is found, and of how fake the fake one, both at the same x_t"
        nonfinite = "inf or nan where D is very sure: a probability has become 0 or 1 before its logarithm was taken"
        student(**inputs).should_be(want, hint, suspects, nonfinite)


def with_r1(student: Student, random: Random) -> None:
    """As many rows as columns, where a norm along the wrong axis would show in no shape."""
    (n,) = random.sizes(1)
    inputs, _ = _inputs(random, n, n, gamma=float(random.uniform(3, 9)))
    judge, before, fake, xt, t, gamma = inputs.values()
    want = discriminator_loss(**inputs).detach()
    real, made = judge(before, xt, t).detach(), judge(fake, xt, t).detach()
    loss = softplus(-real) + softplus(made)
    slope, at_fake = (_slope(lambda x: judge(x, xt, t), x).detach() for x in (before, fake))
    of_xt = _slope(lambda x: judge(before, x, t), xt).detach()
    own, other = _square(slope), _square(of_xt)
    p, q = torch.sigmoid(real), torch.sigmoid(made)
    penalties = [
        ("the slope is taken at the fakes: R1 is at the real x_{t−1}", gamma / 2 * _square(at_fake)),
        ("the slope is taken at the fakes, too: R1 is at the real x_{t−1} alone", gamma / 2 * (own + _square(at_fake))),
        ("the slope for x_t counts, too: x_t is only the condition, (6.16) has ∇ for x_{t−1}", gamma / 2 * (own + other)),
        ("the slope is that for x_t, the condition: (6.16) has ∇ for x_{t−1}", gamma / 2 * other),
        ("x_{t−1} and x_t are exchanged in the penalty",
         gamma / 2 * _square(_slope(lambda x: judge(xt, x, t), before).detach())),
        ("the half of (6.16) is missing", gamma * own),
        ("γ is missing: how much does the penalty count?", own),
        ("γ is missing: how much does the penalty count?", own / 2),
        ("γ is squared with the rest: it stands in front", gamma**2 / 2 * own),
        ("that is the length of the slope: its square is wanted", gamma / 2 * own.sqrt()),
        ("that is a mean over the dimensions: a squared length is a sum", gamma / 2 * own / n),
        ("the sum runs over the rows: each datum has a slope of its own", gamma / 2 * slope.square().sum(0)),
        ("the gradient is that of the mean: each row has a slope of its own", gamma / 2 * own / n**2),
        ("the penalty is averaged over the batch: each pair has its own", gamma / 2 * own.mean()),
        ("the penalty is summed over the batch: each pair has its own", gamma / 2 * own.sum()),
        ("a slope of 1 is the aim of another penalty: R1 wants none at the data", gamma / 2 * (own.sqrt() - 1).square()),
        ("that is the slope of the probability: D in (6.16) is the logit", gamma / 2 * own * (p * (1 - p)).square()),
        ("that is the slope of the loss: D in (6.16) is the logit", gamma / 2 * own * (1 - p).square()),
        ("that is the slope of both terms of the loss: D in (6.16) is the logit, at the real pair",
         gamma / 2 * ((1 - p).square() * own + q.square() * _square(at_fake))),
        ("the penalty is taken off: then steep is good", -gamma / 2 * own),
        ("the penalty is missing: (6.16) is to be added, at every pair", torch.zeros_like(own)),
    ]  # fmt: skip
    right = {name: value for name, value in inputs.items() if name != "gamma"}
    suspects = [(hint, loss + penalty) for hint, penalty in penalties]
    suspects += [(hint, value.detach()) for hint, value in _of_the_game(**right, penalty=gamma / 2 * own)]
    hint = "(6.3) was one part; the other: the slope of each real pair's logit for its own x_{t−1}, squared and summed up"
    student(**inputs).should_be(want, hint, suspects)


def its_gradient(student: Student, random: Random) -> None:
    """Of images: the weights feel the game and the penalty, inputs that carry graphs are left alone."""
    n, c, h = random.sizes(3)
    inputs, weights = _inputs(random, n, c, h, h + 1, gamma=4.0)
    judge, before, fake, xt, t, gamma = inputs.values()
    shape = torch.Size((n,))
    if not student(**inputs).tensor(shape).requires_grad:
        raise Wrong("no gradient reaches the weights of D: what cuts it off (detach, no_grad, a float for a tensor)?")

    def gradient(value: Tensor) -> Tensor:
        return torch.autograd.grad(value.sum(), weights, retain_graph=True)[0]

    want, game = gradient(discriminator_loss(**inputs)), gradient(discriminator_loss(judge, before, fake, xt, t, 0.0))
    penalty = want - game
    suspects = [
        ("the penalty does not train D: its slope has lost its graph", game),
        ("the game does not train D: only the penalty has a graph", penalty),
        ("the half of (6.16) is missing", game + 2 * penalty),
        ("the penalty counts half: a half too many, or is one of two ways to the weights cut off?", game + penalty / 2),
        ("the fakes do not train D: stop their own gradient, not that of D",
         penalty + gradient(softplus(-judge(before, xt, t)))),
        ("the real pairs do not train D", penalty + gradient(softplus(judge(fake, xt, t)))),
    ]  # fmt: skip
    hint = "it differs from that of the loss: does part of the way to the weights get lost, or is the value wrong?"
    student.gradient(weights, shape, **inputs).should_be(want, hint, suspects)
    if weights.grad is not None:
        raise Wrong("the weights of D have got a gradient already: return the loss, and let the training loop do the rest")
