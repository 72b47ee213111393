"""The density that a flow gives to a code, thesis (3.3) and (3.6)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from gmcourse.exercises.ch08.flow import log_normal, well_conditioned
from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

Layer = Callable[[Tensor], tuple[Tensor, Tensor]]


def prior_term(z: Tensor, layer: Layer) -> Tensor:
    """−log p(z) in nats, (n,), of codes z (n, d); layer: z -> (f(z) (n, d), log|det| (n,)); thesis (3.6).

    The determinant is that of the whole Jacobian of f: what the layer says about it is not used.
    """
    slopes = torch.einsum("nanb->nab", jacobian(lambda z: layer(z)[0], z))
    return -log_normal(layer(z)[0]) - torch.linalg.slogdet(slopes).logabsdet


def _prior(student: Student, z: Tensor, layer: Layer, hint: str) -> None:
    want, (u, log_det), d = prior_term(z, layer), layer(z), z.shape[1]
    squares, each = u.square().sum(1), math.log(2 * math.pi) / 2
    constant, base = d * each, -log_normal(u)
    suspects = [
        ("that is log p(z): the loss is what is to get small", -want),
        ("the constant of the Gaussian is missing: with it the number is in nats and can be compared", want - constant),
        ("the Gaussian's constant is there once: what does each further dimension bring?", want - constant + each),
        ("the Gaussian's constant lacks its half", want + constant),
        ("the constant has the wrong sign: is a density in many dimensions higher or lower?", want - 2 * constant),
        ("that is a mean over the dimensions: logarithms of independent densities add up", want / d),
        ("the squares are averaged over the dimensions, but they add up", want - squares * (1 - 1 / d) / 2),
        ("Gaussian part averaged over the dimensions: logarithms of independent densities add up", base / d - log_det),
        ("the squares lack their half", want + squares / 2),
        ("is the base density taken at z? It belongs to the noise", -log_normal(z) - log_det),
        ("where f stretches, codes lie denser than noise: what sign has log|det| in −log p?", base + log_det),
        ("that is the density of the noise: by how much does f stretch space there?", base),
        ("only the stretching is there: the density of the noise is missing", -log_det),
        ("log|det| is one number for each code, of all dimensions at once: nothing is to be averaged", base - log_det / d),
        ("log|det| differs from code to code: it is not to be averaged over the batch", base - log_det.mean()),
        ("log|det| differs from code to code: it is not to be summed over the batch", base - log_det.sum()),
        ("log|det| is a logarithm already: what is added in the logarithm multiplies the density", base - log_det.exp()),
        ("the determinant counts once: it is no variance", base - 2 * log_det),
        ("the determinant counts once: it is no variance", base - log_det / 2),
        ("that is p(z) itself: minus its logarithm is wanted", (-want).exp()),
        ("that is in bits: nats are wanted", want / math.log(2)),
    ]
    nonfinite = "inf or nan: the layer hands over a logarithm, is another one taken of it?"
    student(z=z, layer=layer).should_be(want, hint, suspects, nonfinite)


def where_volume_stays(student: Student, random: Random) -> None:
    """A turn and a shift: log|det| is 0, and what is left is the density of the noise."""
    n, d = random.sizes(2)
    turn, shift = torch.linalg.qr(random.normal(d, d)).Q, random.normal(d)

    def layer(z: Tensor) -> tuple[Tensor, Tensor]:
        return z @ turn + shift, z.new_zeros(len(z))

    hint = "this f only turns and shifts: what is left is minus the logarithm of a standard Gaussian, at which point?"
    _prior(student, random.normal(n, d), layer, hint)


def where_the_flow_stretches(student: Student, random: Random) -> None:
    """f(z) = (z + c tanh z) A, whose determinant is known in closed form; d is 3 or more."""
    n, d = random.sizes(2)
    matrix, c = 0.6 * well_conditioned(random.normal(d, d)), random.uniform(0.5, 2, d)

    def layer(z: Tensor) -> tuple[Tensor, Tensor]:
        slopes = torch.log1p(c / z.cosh().square()).sum(1)
        return (z + c * z.tanh()) @ matrix, slopes + torch.linalg.slogdet(matrix).logabsdet

    hint = "the density of the noise at f(z), and how much f stretches space at z: how do they combine in the logarithm?"
    _prior(student, 1.2 * random.normal(n, d), layer, hint)
