r"""Preconditioning: the same chain in other coordinates, where the density is rounder.

Write M = L Lᵀ and x = L y. A Langevin step of y, moved back to x, is

    y' = y + (η/2) Lᵀ s(x) + √(ηT) ω      ⇔      x' = x + (η/2) M s(x) + √(ηT) L ω

So all a sampler needs is L (`push`: a move of y becomes a move of x) and Lᵀ (`pull`: the score in x becomes the score in y).
M ≈ the covariance makes every direction equally wide, and one step size fits all. HMC's mass matrix is M⁻¹.
"""

import torch
from torch import Tensor

Matrix = Tensor | list | None


class Preconditioner:
    """The map L, factored once: the identity, a positive diagonal or a triangular matrix on the flattened event.

    Args:
        matrix: None, a positive diagonal (d,), or a symmetric positive definite (d, d).
        inverse: whether M is the inverse of `matrix` rather than `matrix` itself.
        name: what the caller calls `matrix`, for messages.

    Raises ValueError for a matrix of another shape, or one that is not symmetric and positive definite.
    """

    def __init__(self, matrix: Matrix, *, inverse: bool = False, name: str = "preconditioner"):
        self.name, self._root = name, None
        if matrix is not None:
            given = torch.as_tensor(matrix).detach().to("cpu", torch.float64)
            self._root = _root(given, name)
            if inverse:
                self._root = 1 / self._root if given.ndim == 1 else torch.linalg.inv(self._root).mT.contiguous()
        self._cast = self._root

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless the matrix acts on events like those of x (n, *event_shape)."""
        d = x[0].numel()
        if self._root is not None and len(self._root) != d:
            wanted = f"({d},) or ({d}, {d}) for events of shape {tuple(x.shape[1:])}"
            raise ValueError(f"{self.name} must have shape {wanted}; got {tuple(self._root.shape)}")

    def push(self, v: Tensor) -> Tensor:
        """L v for each of the rows of v (n, *event_shape)."""
        return v if self._root is None else self._apply(v, transpose=False)

    def pull(self, v: Tensor) -> Tensor:
        """Lᵀ v for each of the rows of v (n, *event_shape)."""
        return v if self._root is None else self._apply(v, transpose=True)

    def _apply(self, v: Tensor, *, transpose: bool) -> Tensor:
        if self._cast.dtype != v.dtype or self._cast.device != v.device:  # once a run, not once a step
            self._cast = self._root.to(v)
        if self._cast.ndim == 1:
            return v * self._cast.reshape(v.shape[1:])
        return (v.reshape(len(v), -1) @ (self._cast if transpose else self._cast.mT)).reshape(v.shape)


def _root(matrix: Tensor, name: str) -> Tensor:
    """√m of a diagonal m (d,), the Cholesky factor of a matrix (d, d)."""
    if not matrix.isfinite().all():
        raise ValueError(f"{name} must be finite; got NaN or inf in it")
    if matrix.ndim == 1:
        if not (matrix > 0).all():
            raise ValueError(f"{name} must be positive; got a smallest value of {matrix.min():g}")
        return matrix.sqrt()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must have shape (d,) or (d, d); got {tuple(matrix.shape)}")
    if not torch.allclose(matrix, matrix.mT, rtol=1e-4, atol=1e-6 * matrix.abs().max().item()):
        raise ValueError(f"{name} must be symmetric; it differs from its transpose by {(matrix - matrix.mT).abs().max():g}")
    root, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        least = torch.linalg.eigvalsh(matrix)[0]
        raise ValueError(f"{name} must be positive definite; its smallest eigenvalue is {least:g}")
    return root
