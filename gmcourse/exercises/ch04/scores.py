"""Score matching without the data's score, from thesis 2.3.3 and the slides: implicit, denoising, sliced."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Field = Callable[[Tensor], Tensor]


def implicit_score_matching(energy: Field, x: Tensor) -> Tensor:
    """tr ∇s + ½‖s‖² at x (n, d), (n,), with s = −∇E, from the whole Hessian; thesis (2.41)."""

    def one(point: Tensor) -> Tensor:
        return energy(point[None])[0]

    s, slope = -torch.func.vmap(torch.func.grad(one))(x), -torch.func.vmap(torch.func.hessian(one))(x)
    return torch.linalg.eigvalsh(slope).sum(1) + s.square().sum(1) / 2


def _implicit(student: Student, random: Random, mixing: float) -> None:
    n, d = random.sizes(2)
    a, weights = random.uniform(0.5, 2, d), mixing * random.normal(d, d)
    x = random.normal(n, d)

    def energy(x: Tensor) -> Tensor:
        return (a * x.square()).sum(1) / 2 + x.pow(4).sum(1) / 12 + torch.tanh(x @ weights).sum(1)

    at = x.clone().requires_grad_()
    s = -torch.autograd.grad(energy(at).sum(), at, create_graph=True)[0]
    slope = torch.stack([torch.autograd.grad(column.sum(), at, retain_graph=True)[0] for column in s.T], 1)
    s = s.detach()
    trace, half = slope.diagonal(dim1=1, dim2=2).sum(1), s.square().sum(1) / 2
    suspects = [
        ("the trace has the sign of E's: the score is −∇E, and so are its slopes", half - trace),
        ("the square lacks its half: write out (2.40), then integrate by parts", trace + 2 * half),
        ("the trace has a half that belongs to the square", trace / 2 + half),
        ("both are halved: the cross term of (2.40) has lost its half against the 2", trace / 2 + half / 2),
        ("the trace is missing: what keeps the score from vanishing everywhere?", half),
        ("the square is missing: the trace alone has no minimum", trace),
        ("the square has the wrong sign: a large score should cost", trace - half),
        ("all entries of the matrix are summed up: a trace has only its diagonal", slope.sum((1, 2)) + half),
        ("all entries of the matrix are summed up: a trace has only its diagonal, and its sign is the score's",
         half - slope.sum((1, 2))),
        ("that is a mean over the dimensions: a trace and a squared length are sums", (trace + half) / d),
        ("the trace is a mean over the dimensions", trace / d + half),
        ("the square is a mean over the dimensions", trace + half / d),
        ("the length of the score is not squared", trace + s.norm(dim=1) / 2),
        ("the trace of the data is mixed: each datum has its own", trace.sum() + half),
        ("only the first dimension's second derivative is there", slope[:, 0, 0] + half),
    ]  # fmt: skip
    hint = "which second derivatives does the trace hold, and how do trace and squared length of the score go together?"
    student(energy=energy, x=x).should_be(implicit_score_matching(energy, x), hint, suspects)


def of_separate_dimensions(student: Student, random: Random) -> None:
    """The Hessian is diagonal: its entries may be summed up carelessly."""
    _implicit(student, random, 0.0)


def of_entangled_dimensions(student: Student, random: Random) -> None:
    _implicit(student, random, 0.7)


def denoising_score_matching(score: Field, x: Tensor, eps: Tensor, sigma: float) -> Tensor:
    """½‖s(x̃) − ∇ log q(x̃|x)‖² at x̃ = x + σε, (n,), by the slope of q itself, from x and ε (n, d); thesis (2.42)."""
    noisy = x + sigma * eps
    slope = torch.func.grad(lambda at: Normal(x, sigma).log_prob(at).sum())(noisy)
    return (score(noisy) - slope).square().sum(1) / 2


def _denoising(student: Student, random: Random, sigma: float) -> None:
    n, d = random.sizes(2)
    x, eps, weights = random.normal(n, d), random.normal(n, d), random.normal(d, d)

    def score(x: Tensor) -> Tensor:
        return torch.tanh(x @ weights) - x

    want, s, clean = denoising_score_matching(score, x, eps, sigma), score(x + sigma * eps), score(x)

    def half(difference: Tensor) -> Tensor:
        return difference.square().sum(1) / 2

    suspects = [
        ("the half is missing in front of the square", 2 * want),
        ("that is a mean over the dimensions: a squared length is a sum", want / d),
        ("the score is taken at the clean x: where is its slope to be learned?", half(clean + eps / sigma)),
        ("the score is to point back from the noisy point to the datum, not on", half(s - eps / sigma)),
        ("the target is the slope of a Gaussian of width σ: which power of σ divides ε?", half(s + eps)),
        ("the target is the slope of a Gaussian of width σ: which power of σ divides ε?", half(s + eps / sigma**2)),
        ("the target is the slope of a Gaussian of width σ: does σ multiply ε or divide it?", half(s + sigma * eps)),
        ("a variance is no width: where does σ stand in the noisy point?", half(score(x + sigma**2 * eps) + eps / sigma)),
        ("a variance is no width: where does σ stand in the noisy point?", half(score(x + sigma**0.5 * eps) + eps / sigma)),
        ("the noise is not scaled: the noisy point has noise of width σ", half(score(x + eps) + eps / sigma)),
        ("that is weighted by the square of σ, which is for many scales at once", sigma**2 * want),
        ("that is weighted by σ: in (2.42) there is no weight", sigma * want),
        ("the target is missing: that only makes the score small", half(s)),
        ("the noise is centred at the datum x, not at 0", half(s + (x + sigma * eps) / sigma**2)),
        ("that is the mean over all data: each has its own loss", want.mean().expand(n)),
        ("that is the sum over all data: each has its own loss", want.sum().expand(n)),
        ("the length of the difference is not squared", (s + eps / sigma).norm(dim=1)),
    ]
    hint = "the slope of log q at the noisy point, as a function of ε and σ; half the squared distance of the score from it"
    student(score=score, x=x, eps=eps, sigma=sigma).should_be(want, hint, suspects)


def at_unit_noise(student: Student, random: Random) -> None:
    """All powers of σ are the same."""
    _denoising(student, random, 1.0)


def at_little_noise(student: Student, random: Random) -> None:
    _denoising(student, random, float(random.uniform(0.2, 0.4)))


def sliced_score_matching(score: Field, x: Tensor, v: Tensor) -> Tensor:
    """vᵀ∇s v + ½(vᵀs)² at x (n, d) along v (n, d), (n,), by a forward derivative; slides (23)."""
    s, moved = torch.func.jvp(score, (x,), (v,))
    return (v * moved).sum(1) + (v * s).sum(1).square() / 2


def _sliced(student: Student, random: Random, n: int, d: int, v: Tensor) -> None:
    x, weights, skew = random.normal(n, d), random.normal(d, d), random.normal(d, d)

    def score(x: Tensor) -> Tensor:
        return torch.tanh(x @ weights) @ skew - x

    jacobian = torch.func.vmap(torch.func.jacrev(lambda point: score(point[None])[0]))(x)
    s, forth, back = score(x), torch.einsum("nij,nj->ni", jacobian, v), torch.einsum("nij,ni->nj", jacobian, v)
    slope, half = (v * forth).sum(1), (v * s).sum(1).square() / 2
    trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    suspects = [
        ("v is there only once in the first term: it takes a number out of the matrix", back.sum(1) + half),
        ("v is there only once in the first term: it takes a number out of the matrix", forth.sum(1) + half),
        ("the half of the square is missing", slope + 2 * half),
        ("the first term has a half that belongs to the second", slope / 2 + half),
        ("the first term has the wrong sign: it is ∇s, not the Hessian of an energy, that stands there", half - slope),
        ("the second term has the wrong sign: a large slope along v should cost", slope - half),
        ("the second term is missing", slope),
        ("the first term is missing: what keeps the score from vanishing?", half),
        ("the second term has the whole of s: that is the form with less variance, not (23)", slope + s.square().sum(1) / 2),
        ("the trace itself is there: what is v for?", trace + half),
        ("that is implicit score matching, at the price of d directions: what is v for?", trace + s.square().sum(1) / 2),
        ("the product along v is not squared", slope + (v * s).sum(1) / 2),
        ("the squares are summed up, but it is the sum that is squared", slope + (v * s).square().sum(1) / 2),
        ("that is a mean over the dimensions: products with v are sums", (slope + half) / d),
        ("the length of ∇s v is no product with v", forth.square().sum(1) + half),
        ("the estimates of different data are mixed: each has a slope of its own", slope.sum() + half),
        ("that is divided by the length of v: with E[vvᵀ] = I that is not wanted", (slope + half) / v.square().sum(1)),
    ]
    hint = "how fast the part of s along v changes along v, and half the square of that part"
    student(score=score, x=x, v=v).should_be(sliced_score_matching(score, x, v), hint, suspects)


def along_axes(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    axes = torch.eye(d, dtype=torch.float64)[random.uniform(0, d, n).long()]
    _sliced(student, random, n, d, axes)


def along_random_directions(student: Student, random: Random) -> None:
    n, d = random.sizes(2)
    _sliced(student, random, n, d, random.normal(n, d))
