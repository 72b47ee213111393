r"""Sylvester flows: a planar flow with M directions at once, and a determinant of size M instead of D.

    z = x + Q R h(R̃ Qᵀx + b),  h = tanh                                           slides (9); van den Berg et al. 2018
    det(I_D + AB) = det(I_M + BA)                                                  the lemma; A = Q R diag(h′), B = R̃ Qᵀ
    ⇒  det ∂z/∂x = det(I_M + diag(h′) R̃ R) = Π_i (1 + h′_i r̃_ii r_ii)             as QᵀQ = I_M, R and R̃ upper triangular

It is a bijection if all r_ii r̃_ii > −1. As h is odd, r̃_ii > 0 is no loss; then r_ii = m(a_i)/r̃_ii with the m of `planar`
allows exactly the products that are lawful. Three ways to an orthonormal Q (D × M):

    "orthogonal"     the Q of the QR decomposition of a free D × M matrix
    "householder"    a product of reflections I − 2vvᵀ/‖v‖², M = D
    "triangular"     fixed: the identity, or with `flip` the reversing permutation, M = D

With y = Qᵀx the inverse is a triangular system, y + R h(R̃y + b) = Qᵀz: from the last row to the first each equation is
increasing in one unknown. Data → noise is the cheap direction, as with planar layers.
"""

import torch
from torch import Tensor

from gmcourse.flows.amortised import Amortised, check_vectors
from gmcourse.flows.layer import Layer
from gmcourse.flows.planar import above_minus_one
from gmcourse.flows.solve import bisect


def reflections(v: Tensor) -> Tensor:
    """Product of the Householder reflections of k vectors: v (b, k, d) -> (b, d, d)."""
    q = torch.eye(v.shape[2], dtype=v.dtype, device=v.device).expand(len(v), -1, -1)
    for w in (v / v.norm(dim=2, keepdim=True)).unbind(1):
        q = q - 2 * (q @ w[:, :, None]) @ w[:, None, :]
    return q


class Sylvester(Layer):
    """z = x + Q R tanh(R̃ Qᵀx + b) on vectors of size `dim`, slides (9).

    Args:
        rank: M ≤ dim, for the kind "orthogonal"; the others have M = dim.
        kind: where Q comes from: "orthogonal", "householder" (`dim` reflections) or "triangular".
        flip: reverse the dimensions; for the kind "triangular", in every other layer.
    """

    def __init__(
        self, dim: int, rank: int | None = None, *, kind: str = "orthogonal", flip: bool = False, context: int = 0
    ):
        super().__init__()
        if kind not in ("orthogonal", "householder", "triangular"):
            raise ValueError(f"kind must be 'orthogonal', 'householder' or 'triangular'; got {kind!r}")
        self.dim, self.kind, self.rank = dim, kind, dim if rank is None else rank
        if not 1 <= self.rank <= dim or (kind != "orthogonal" and self.rank != dim):
            wanted = f"between 1 and {dim}" if kind == "orthogonal" else f"{dim} for kind {kind!r}"
            raise ValueError(f"rank must be {wanted}; got {rank}")
        m = self.rank
        initial = {"mix": 0.3 * torch.randn(m, m) / m**0.5, "scale": torch.zeros(m), "b": torch.randn(m)}
        if kind == "triangular":
            fixed = torch.eye(dim)
            self.register_buffer("fixed", fixed.flip(0) if flip else fixed)
        else:
            initial["q"] = torch.randn(dim, m)
        self.parts = Amortised(initial, context)

    def matrices(self, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Q (1 or n, D, M), R, R̃ (1 or n, M, M), b and the products r_ii r̃_ii (1 or n, M)."""
        parts = self.parts(context)
        if self.kind == "triangular":
            q = self.fixed[None]
        else:
            q = torch.linalg.qr(parts["q"]).Q if self.kind == "orthogonal" else reflections(parts["q"])
        mix, diagonal = parts["mix"], parts["scale"].exp()  # mix holds R above the diagonal and R̃ᵀ below it
        products = above_minus_one(mix.diagonal(dim1=1, dim2=2))
        r = mix.triu(1) + torch.diag_embed(products / diagonal)
        r_tilde = mix.tril(-1).mT + torch.diag_embed(diagonal)
        return q, r, r_tilde, parts["b"], products

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The cheap direction."""
        q, r, r_tilde, b, products = self.matrices(context)
        y = _times(check_vectors(x, self.dim), q.mT)
        h = torch.tanh(_times(y, r_tilde) + b)
        return x + _times(_times(h, r), q), torch.log1p(products * (1 - h.square())).sum(1)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solves the triangular system; gradients by the implicit function theorem, to first order."""
        q, r, r_tilde, b, products = self.matrices(context)
        goal = _times(check_vectors(z, self.dim), q.mT)
        y = self._solve(goal, r, r_tilde, b)
        h = torch.tanh(_times(y, r_tilde) + b)
        slopes = torch.eye(self.rank).to(y) + r @ ((1 - h.square())[:, :, None] * r_tilde)
        newton = torch.linalg.solve_triangular(slopes, (y + _times(h, r) - goal)[:, :, None], upper=True)
        h = torch.tanh(_times(y - newton[:, :, 0], r_tilde) + b)
        return z - _times(_times(h, r), q), torch.log1p(products * (1 - h.square())).sum(1)

    @torch.no_grad()
    def _solve(self, goal: Tensor, r: Tensor, r_tilde: Tensor, b: Tensor) -> Tensor:
        y, h = torch.zeros_like(goal), torch.zeros_like(goal)
        for i in reversed(range(self.rank)):  # the system is triangular: row i needs the rows below
            shift = (y * r_tilde[:, i]).sum(1) + b[:, i]
            rest = goal[:, i] - (h * r[:, i]).sum(1)
            gain, factor = r[:, i, i], r_tilde[:, i, i]
            reach = gain.abs()

            def excess(a: Tensor, shift=shift, rest=rest, gain=gain, factor=factor) -> Tensor:
                return a + gain * torch.tanh(factor * a + shift) - rest

            y[:, i] = bisect(excess, rest - reach, rest + reach)
            h[:, i] = torch.tanh(factor * y[:, i] + shift)
        return y


def _times(x: Tensor, a: Tensor) -> Tensor:
    """Rows A x: x (n, k) with one matrix a (1, m, k) or one per row (n, m, k) -> (n, m)."""
    return x @ a[0].mT if len(a) == 1 else (a @ x[:, :, None])[:, :, 0]
