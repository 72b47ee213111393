"""What the checks of this chapter hand over and ask back: a small flow, and gradients for several tensors at once."""

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from gmcourse.exercises.student import Answer, Student, Wrong


class Affine:
    """The flow f(z) = (z − b) A to standard normal noise: A (d, d), b (d,). All that it can do is `log_prob`."""

    def __init__(self, matrix: Tensor, shift: Tensor):
        self.matrix, self.shift = matrix, shift

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, (n, d) -> (n,)."""
        if z.ndim != 2 or z.shape[1] != len(self.shift):
            raise ValueError(f"flow wants z of shape (n, {len(self.shift)}); got {tuple(z.shape)}")
        return log_normal((z - self.shift) @ self.matrix) + torch.linalg.slogdet(self.matrix).logabsdet

    def __repr__(self) -> str:
        return f"on {len(self.shift)} dimensions"


def log_normal(z: Tensor, mean: Tensor | float = 0.0, sd: Tensor | float = 1.0) -> Tensor:
    """log N(z; mean, diag sd²) in nats, (n, d) -> (n,); standard unless told otherwise."""
    return Independent(Normal(mean + torch.zeros_like(z), sd), 1).log_prob(z)


def well_conditioned(matrix: Tensor) -> Tensor:
    """A matrix with the singular vectors of this one and singular values from ½ to 2."""
    u, _, v = torch.linalg.svd(matrix)
    return u * torch.linspace(0.5, 2, len(matrix), dtype=matrix.dtype) @ v


def gradients(student: Student, shape: tuple[int, ...], of: dict[str, Tensor], arguments: dict) -> list[Answer]:
    """The gradient of the sum of the answer, which has `shape`, for each of the named tensors, else Wrong."""
    answer = student(**arguments)
    value = answer.tensor(torch.Size(shape))
    found = (None,) * len(of)
    if value.requires_grad:
        found = torch.autograd.grad(value.sum(), list(of.values()), allow_unused=True)
    for name, slope in zip(of, found, strict=True):
        if slope is None:
            raise Wrong(f"no gradient reaches {name}: what cuts it off (detach, no_grad, a new tensor)?")
    return [
        Answer(slope, answer.call, lambda k=k: gradients(student, shape, of, arguments)[k], f"gradient of {name}")
        for k, (name, slope) in enumerate(zip(of, found, strict=True))
    ]
