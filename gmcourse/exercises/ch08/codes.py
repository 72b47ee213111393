"""The loss of generative latent flow, and who learns from which of its terms, thesis (3.7)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.exercises.ch08.flow import Affine, gradients, log_normal, well_conditioned
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Net = Callable[[Tensor], Tensor]


def loss(encoder: Net, decoder: Net, flow: Affine, beta: float, x: Tensor) -> Tensor:
    """β ½‖x − G(z)‖² − log p(sg[z]), (n,) in nats, z = E(x); thesis (3.7).

    x (n, …); encoder x -> (n, d); decoder (n, d) -> shape of x; flow has log_prob.
    """
    z = encoder(x)
    wrong = (x - decoder(z)).flatten(1)
    return beta / 2 * torch.einsum("np,np->n", wrong, wrong) - flow.log_prob(z.detach())


def _inputs(random: Random) -> tuple[dict, dict[str, Tensor]]:
    """Arguments of the loss of some pictures, and the weights of encoder, decoder and flow."""
    n, d, c, h = random.sizes(4)
    w = h + 1
    into, out = random.normal(c * h * w, d) / 5, random.normal(d, c * h * w)
    matrix, shift = well_conditioned(random.normal(d, d)), random.normal(d)
    weights = {"the encoder": into, "the decoder": out, "the flow": matrix}
    inputs = {
        "encoder": lambda x: torch.sin(x.flatten(1) @ into),
        "decoder": lambda z: torch.tanh(z @ out).unflatten(1, (c, h, w)),
        "flow": Affine(matrix, shift),
        "beta": float(random.uniform(2, 6)),
        "x": random.uniform(-1, 1, n, c, h, w),
    }
    return inputs, weights


def of_images(student: Student, random: Random) -> None:
    """The value: both terms, their units, and what β weighs."""
    inputs, weights = _inputs(random)
    x, beta, flow, decoder = (inputs[name] for name in ("x", "beta", "flow", "decoder"))
    z = inputs["encoder"](x)
    found, nll, want = decoder(z), -flow.log_prob(z), loss(**inputs)
    wrong, d, n = (x - found).flatten(1), z.shape[1], len(z)
    pixels, half = wrong.shape[1], wrong.square().sum(1) / 2
    again = -flow.log_prob(inputs["encoder"](found))
    suspects = [
        ("the sign of all is turned round: the loss is what is to get small", -want),
        ("the likelihood of the codes has the wrong sign: the flow should find them likely", beta * half - nll),
        ("that is half a mean over the pixels: logarithms of independent densities add up", beta * half / pixels + nll),
        ("that is a mean over the pixels: logarithms of independent densities add up", 2 * beta * half / pixels + nll),
        ("that is a mean over pixels and batch: each datum has an error of its own", beta * wrong.square().mean() + nll),
        ("the half is missing: minus the logarithm of a Gaussian has one", 2 * beta * half + nll),
        ("the distance is not squared", beta * (2 * half).sqrt() + nll),
        ("the distance is not squared", beta * (2 * half).sqrt() / 2 + nll),
        ("that is the sum of absolute errors: here they are squared", beta * wrong.abs().sum(1) + nll),
        ("that is the sum of absolute errors: here they are squared", beta * wrong.abs().sum(1) / 2 + nll),
        ("the constant of a Gaussian is there: here the squared error alone is asked for",
         want + beta * pixels * math.log(2 * math.pi) / 2),
        ("β weighs the reconstruction: it stands on the other term", half + beta * nll),
        ("β is missing: which term does it weigh?", half + nll),
        ("β weighs everything: then it would change nothing but the step's length", beta * (half + nll)),
        ("β multiplies the reconstruction: a large β asks for a better one", half / beta + nll),
        ("log p is one number for each code, of all dimensions at once: nothing is to be averaged", beta * half + nll / d),
        ("each datum has a log p of its own: that is the mean over the batch", beta * half + nll.mean()),
        ("each datum has a log p of its own: that is the sum over the batch", beta * half + nll.sum()),
        ("each datum has an error of its own: that is the mean over the batch", beta * half.mean() + nll),
        ("each datum has an error of its own: that is the sum over the batch", beta * half.sum() + nll),
        ("that is the mean over the batch: each datum has a loss of its own", want.mean().expand(n)),
        ("the codes' likelihood is missing: then nothing trains the flow", beta * half),
        ("the reconstruction is missing: then nothing trains the auto-encoder", nll),
        ("the flow is not asked: a standard normal took its place", beta * half - log_normal(z)),
        ("the flow is given the code of the reconstruction: it should learn that of the datum", beta * half + again),
    ]  # fmt: skip
    hint = "half the squared error, over all that a datum consists of, times β, and minus log p of its code"
    student(**inputs).should_be(want, hint, suspects)


def who_learns_from_what(student: Student, random: Random) -> None:
    """The reconstruction moves encoder and decoder, the likelihood the flow, and nothing else."""
    inputs, weights = _inputs(random)
    for weight in weights.values():
        weight.requires_grad_()
    want = torch.autograd.grad(loss(**inputs).sum(), list(weights.values()))
    of_codes = -inputs["flow"].log_prob(inputs["encoder"](inputs["x"])).sum()
    (pull,) = torch.autograd.grad(of_codes, weights["the encoder"])
    suspects = [
        ("the likelihood of the codes moves it, too: with (3.5) it would shrink its codes. Where is sg?", want[0] + pull),
        ("it is the likelihood of the codes that moves it: should that, or the reconstruction?", pull),
    ]
    hints = (
        "it learns from the reconstruction alone, weighed by β: does something else arrive, or part of that not?",
        "it learns from the reconstruction alone, weighed by β: does something else arrive, or part of that not?",
        "it learns from the likelihood of the codes alone, which has no weight: does something else arrive?",
    )
    found = gradients(student, (len(inputs["x"]),), weights, inputs)
    for answer, slope, hint in zip(found, want, hints, strict=True):
        answer.should_be(slope, hint, suspects if slope is want[0] else ())
