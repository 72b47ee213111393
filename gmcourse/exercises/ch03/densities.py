"""Densities under a change of variables, from thesis 2.2.1, and what they cost in bits."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Gumbel, LogNormal, Normal

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

FALLS = "f falls, so its slope is negative: what stands around the determinant in (2.20)?"
VANISHES = "far out the density vanishes in exp: the logarithm of a product can be had without the product"
CONSTANT = math.log(2 * math.pi) / 2


def change_of_variables(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """log p(x) in nats, (n,), if z = f(x) ~ N(0, 1) for a monotone f that works on each number alone; thesis (2.20)."""
    return Normal(0.0, 1.0).log_prob(f(x)) + _slope(f, x).abs().log()


def _slope(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(f(x).sum(), x)[0]


def _change(student: Student, x: Tensor, f: Callable, want: Tensor, **options) -> None:
    z, slope = f(x), _slope(f, x).abs()
    base = Normal(0.0, 1.0).log_prob(z)
    suspects = [
        ("that is the density of z at f(x): by how much does f stretch the line there?", base),
        ("where f is steep much of z's mass lies on little x: is p(x) larger there, or smaller?", base - slope.log()),
        ("the slope multiplies the density: what does it do to the logarithm?", base + slope),
        ("the slope multiplies the density: what does it do to the logarithm?", base * slope),
        ("is the base density taken at x? It belongs to z", Normal(0.0, 1.0).log_prob(x) + slope.log()),
        ("only the stretching is there: the density of z is missing", slope.log()),
        ("the constant of N(0, 1) is missing", want + CONSTANT),
        ("the constant of N(0, 1) is there twice", want - CONSTANT),
        ("the square of z lacks its factor", want - z.square() / 2),
        ("that is p(x) itself: its logarithm is wanted", want.exp()),
        ("that is in bits: nats are wanted", want / math.log(2)),
        ("the slope is squared: for one number the determinant is the slope", base + 2 * slope.log()),
        ("the slope is taken at z, but (2.20) has that of the inverse at x", base + _slope(f, z).abs().log()),
    ]
    hint = "the density of z at f(x), and how much f stretches the line at x: how do they combine in the logarithm?"
    student(x=x, f=f).should_be(want, hint, suspects, **options)


def increasing(student: Student, random: Random) -> None:
    """f = Φ⁻¹ ∘ F makes noise of data whose distribution function is F: their density must be F′."""
    loc, scale = random.uniform(-1, 1), random.uniform(0.5, 2)
    x = loc + 1.5 * scale * random.normal(*random.sizes(1))
    want = Gumbel(loc, scale).log_prob(x)
    _change(student, x, lambda v: torch.special.ndtri((-((loc - v) / scale).exp()).exp()), want)


def decreasing(student: Student, random: Random) -> None:
    """f = (μ − log x)/σ of log-normal data, at moderate x and then at very small and large ones."""
    loc, scale = random.uniform(-1, 1), random.uniform(0.5, 2)
    (n,) = random.sizes(1)
    for noise, nonfinite in ((random.normal(n), FALLS), (torch.linspace(-45, 45, n, dtype=torch.float64), VANISHES)):
        x = (loc + scale * noise).exp()
        _change(student, x, lambda v: (loc - v.log()) / scale, LogNormal(loc, scale).log_prob(x), nonfinite=nonfinite)


def bits_per_dim(log_prob: Tensor, dims: int) -> Tensor:
    """−log₂ P / D (n,) from log-densities (n,) in nats of D = `dims` dequantised values in [−1, 1] of 256 levels.

    The levels are −1 + 2k/255, so the mass P on a cell is about the density times (2/255)^D.
    """
    width = torch.linspace(-1, 1, 256, dtype=log_prob.dtype).diff().mean()
    return -(log_prob / dims + width.log()) / math.log(2)


def _bits(student: Student, log_prob: Tensor, dims: int) -> None:
    want = bits_per_dim(log_prob, dims)
    density = -log_prob / (dims * math.log(2))
    constant = math.log2(255 / 2)
    suspects = [
        ("a density is no probability: how wide is the cell of a value?", density),
        ("a density is no probability, and nats are no bits", -log_prob / dims),
        ("a narrower cell holds less probability: does it take fewer bits or more?", density - constant),
        ("256 levels from −1 to 1: how many gaps are there between them?", density + 7),
        ("that is right for values in [0, 1]: the interval [−1, 1] is twice as long", density + 8),
        ("that is right for values in [0, 1]: the interval [−1, 1] is twice as long", density + math.log2(255)),
        ("log_prob is in nats: what is one nat in bits?", -log_prob / dims + constant),
        ("the width of the cell is in nats, but the result should be in bits", density + math.log(255 / 2)),
        ("that is in nats: bits are wanted", want * math.log(2)),
        ("nats were turned into bits the wrong way round", -log_prob / dims * math.log(2) + constant),
        ("bits are a cost: the more probable an image, the fewer", constant - density),
        ("bits are a cost: the more probable an image, the fewer", -want),
        ("that is for the whole image: bits per dimension are wanted", want * dims),
        ("each value has its own cell: how often does its width enter?", density + constant / dims),
        ("log_prob is of the whole image: how many values share it?", density * dims + constant),
        ("the cell enters once for each value, and then all is shared by the values", density + constant * dims),
    ]
    hint = "density times the volume of a cell is a probability; its negative logarithm to base 2 is shared by the values"
    student(log_prob=log_prob, dims=dims).should_be(want, hint, suspects)


def of_one_value(student: Student, random: Random) -> None:
    """The first density is uniform on all 256 cells: a value then costs 8 bits."""
    uniform = -torch.tensor([2 * 256 / 255], dtype=torch.float64).log()
    _bits(student, torch.cat((uniform, random.uniform(-2, 4, *random.sizes(1)))), 1)


def of_images(student: Student, random: Random) -> None:
    for dims in (784, 3072):
        _bits(student, dims * random.uniform(-1, 3, *random.sizes(1)), dims)
