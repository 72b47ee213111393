"""Noise between two noises, thesis 5.1.1: the way from one sample to another."""

import torch
from torch import Tensor

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student


def interpolate(z1: Tensor, z2: Tensor, rho: Tensor) -> Tensor:
    """z_ρ = ρ z₁ + √(1 − ρ²) z₂ for each ρ (m,), (m, *shape of z₁): N(0, I) as they are; thesis 5.1.1, Fig. 5.2."""
    angle = torch.arccos(rho)
    return torch.tensordot(angle.cos(), z1, dims=0) + torch.tensordot(angle.sin(), z2, dims=0)


def _mixed(z1: Tensor, z2: Tensor, first: Tensor, second: Tensor) -> Tensor:
    shape = (-1, *[1] * z1.ndim)
    return first.reshape(shape) * z1 + second.reshape(shape) * z2


def _slerp(z1: Tensor, z2: Tensor, rho: Tensor) -> Tensor:
    angle = torch.arccos((z1 * z2).sum() / (z1.norm() * z2.norm()))
    return _mixed(z1, z2, (rho * angle).sin() / angle.sin(), ((1 - rho) * angle).sin() / angle.sin())


def of_vectors_and_images(student: Student, random: Random) -> None:
    """Vectors and images, with more values of ρ than there are axes, 0 and 1 among them."""
    n, d, m, h = random.sizes(4)
    for shape in ((n, d), (3, 1, h, h + 1), (d,)):
        z1, z2 = random.normal(*shape), random.normal(*shape)
        rho = torch.cat([random.uniform(0.1, 0.9, m), torch.tensor([0.0, 1.0], dtype=torch.float64)])
        root, want = (1 - rho.square()).sqrt(), interpolate(z1, z2, rho)
        line, narrow = 1 - rho, "the middle is too narrow: which variance has a sum of two independent normal numbers?"
        length = want.reshape(len(rho), -1).norm(dim=1).reshape(-1, *[1] * len(shape))
        suspects = [
            (narrow, _mixed(z1, z2, rho, line)),
            ("the middle is too narrow, and the ends are exchanged: ρ = 1 is z₁", _mixed(z1, z2, line, rho)),
            ("the ends are exchanged: ρ = 1 is z₁", _mixed(z1, z2, root, rho)),
            ("the middle is too wide: variances are squares of the factors, and have to add up to 1",
             _mixed(z1, z2, rho, line.sqrt())),
            (narrow, _mixed(z1, z2, rho, 1 - rho.square())),
            ("both factors have a root: the first is ρ itself", _mixed(z1, z2, rho.sqrt(), line.sqrt())),
            ("both factors have a root: the first is ρ itself, and the ends are exchanged",
             _mixed(z1, z2, line.sqrt(), rho.sqrt())),
            ("the middle is too wide: variances are squares of the factors, and have to add up to 1",
             _mixed(z1, z2, rho, (1 + rho.square()).sqrt())),
            ("the squares of the factors themselves must add up to 1, not those of their squares",
             _mixed(z1, z2, rho.square(), 1 - rho.square())),
            ("z₂ is subtracted: the law is the same, but at ρ = 0 it should be z₂", _mixed(z1, z2, rho, -root)),
            ("z₂ has no factor: at ρ = 1 only z₁ is left", _mixed(z1, z2, rho, torch.ones_like(rho))),
            ("z₁ has no factor: at ρ = 0 only z₂ is left", _mixed(z1, z2, torch.ones_like(rho), root)),
            ("z₂ is not there: what is left at ρ = 0?", _mixed(z1, z2, rho, torch.zeros_like(rho))),
            ("z₁ is not there: what is left at ρ = 1?", _mixed(z1, z2, torch.zeros_like(rho), root)),
            ("ρ is taken for an angle's share: there is a cosine, but ρ is the cosine itself",
             _mixed(z1, z2, (rho * torch.pi / 2).sin(), (rho * torch.pi / 2).cos())),
            ("the angle is that of these two noises: the factors have to know ρ alone", _slerp(z1, z2, rho)),
            ("the noise is divided by its length: N(0, I) has noises of many lengths", want / length),
            ("only the factors' signs or roots differ: is it 1 − ρ², and is the root taken of it?",
             _mixed(z1, z2, rho, (rho.square() - 1).abs())),
        ]  # fmt: skip
        hint = "two factors whose squares add up to 1: at ρ = 1 which noise is left alone?"
        nonfinite = "inf or nan: what is under the root at ρ = 1, and at ρ = 0?"
        student(z1=z1, z2=z2, rho=rho).should_be(want, hint, suspects, nonfinite)
