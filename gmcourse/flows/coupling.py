r"""Coupling layers: one part of x stays, and decides what happens to the other (slides, eq. (6); thesis 2.2.2, RealNVP).

    z_kept = x_kept,    z_moved = τ(x_moved; h),  h = net(x_kept)

           ⎡ I        0     ⎤
    ∂z/∂x =⎢                ⎥     log|det| = Σ log τ′(x_moved; h)                              thesis (2.28), (2.29)
           ⎣ ∂z/∂x  diag τ′ ⎦

The net is never inverted: z_kept is x_kept, so the inverse asks it the same question. One layer leaves half of x as it was;
the next one uses the opposite mask. Any mask will do: `alternating`, `random`, and for images `checkerboard` and `channels`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.flows.elementwise import Transformer
from gmcourse.flows.layer import Layer, beside


class Coupling(Layer):
    """The coordinates where `mask` is True stay and steer the others.

    Args:
        mask: bool, shape (d,): coordinates of vectors, or channels of images (n, d, h, w); or the shape of a whole event,
            whose coordinates then count as one vector.
        net: x_kept (n, kept [+ context]) -> (n, k·moved), the k numbers of one coordinate `moved` apart; images accordingly.
            `conditioner` builds one.
        transformer: what is done to the moved coordinates, by k = `transformer.numbers` numbers each.

    >>> from gmcourse.flows import Affine, conditioner
    >>> Coupling(alternating(4), conditioner(2, 4), Affine())(torch.zeros(5, 4))[0].shape
    torch.Size([5, 4])
    """

    def __init__(self, mask: Tensor | Sequence[bool], net: nn.Module, transformer: Transformer):
        super().__init__()
        mask = torch.as_tensor(mask, dtype=torch.bool)
        if mask.ndim == 0 or mask.all() or not mask.any():
            raise ValueError(f"mask must keep at least one coordinate and move at least one; got {mask.tolist()}")
        self.net, self.transformer, self.shape = net, transformer, tuple(mask.shape)
        self.register_buffer("kept", mask.flatten().nonzero().flatten())
        self.register_buffer("moved", (~mask).flatten().nonzero().flatten())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, *shape) -> (n, *shape) and Σ log τ′."""
        return self._move(self.transformer.forward, x, context)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, *shape) -> (n, *shape) and Σ log τ′."""
        return self._move(self.transformer.invert, z, context)

    def _move(self, transform, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Coordinates come first in here, (d, n, ...): rows are cheap to pick, and to put back."""
        dims = len(self.shape)
        if x.shape[1 : 1 + dims] != self.shape:
            raise ValueError(f"x must have shape (n, {', '.join(map(str, self.shape))}); got {tuple(x.shape)}")
        rows = x.flatten(1, dims).transpose(0, 1)
        kept, moved = rows.index_select(0, self.kept), rows.index_select(0, self.moved)
        h = self.net(beside(kept.transpose(0, 1), context)).transpose(0, 1).unflatten(0, (-1, len(moved)))
        moved, log_slope = transform(moved, h)
        z = rows.index_copy(0, self.moved, moved).transpose(0, 1).unflatten(1, self.shape)
        contribution = log_slope.sum(0)
        return z, contribution.flatten(1).sum(1) if contribution.ndim > 1 else contribution


def alternating(size: int, *, flip: bool = False) -> Tensor:
    """Every second of `size` coordinates is kept: True, False, True, …; with `flip` the others."""
    return torch.arange(size) % 2 == int(flip)


def random(size: int, *, seed: int = 0) -> Tensor:
    """A random half of `size` coordinates is kept."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)) < (size + 1) // 2


def checkerboard(shape: Sequence[int], *, flip: bool = False) -> Tensor:
    """The white squares of every channel of an image (c, h, w) are kept; with `flip` the black ones."""
    c, h, w = shape
    squares = torch.arange(h).unsqueeze(1) + torch.arange(w)
    return (squares % 2 == int(flip)).expand(c, h, w).clone()


def channels(size: int, *, flip: bool = False) -> Tensor:
    """The first half of `size` channels is kept; with `flip` the second."""
    first = torch.arange(size) < (size + 1) // 2
    return ~first if flip else first
