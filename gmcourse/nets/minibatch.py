r"""How much the rows of a batch differ, shown to a critic as one more feature (Karras et al. 2018, sec. 3).

A critic that sees one datum at a time cannot know that a generator always makes the same one: each by itself is good. Shown
how much a batch varies, it can: data vary, copies do not, and the generator is taught to vary as well.

    s = mean over features j of σ_j,    σ_j = √(variance over the rows of x_j + ε²) − ε,    ε = 2⁻¹³

σ_j is the standard deviation (that of the rows themselves, divisor n) but for a smooth foot, so that a penalty on the
critic's slope can be trained where all rows agree.
"""

import torch
from torch import Tensor, nn

from gmcourse.model import check_count

FOOT = 2.0**-13  # whose square has an exact root


class MinibatchStd(nn.Module):
    """Append the batch's mean standard deviation: (n, d) -> (n, d + 1), (n, c, h, w) -> (n, c + 1, h, w).

    What comes out for a row now depends on its neighbours, in evaluation mode as well: compare logits of equally large
    batches only. One row by itself has s = 0.

    Args:
        group: s is that of each `group` rows in turn instead of the whole batch.

    Raises ValueError for batches that are no multiple of `group`.

    >>> MinibatchStd()(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))     # σ = 1 and 0
    tensor([[1.0000, 5.0000, 0.5000],
            [3.0000, 5.0000, 0.5000]])
    """

    def __init__(self, group: int | None = None):
        super().__init__()
        self.group = None if group is None else check_count(group, "group")

    def forward(self, x: Tensor) -> Tensor:
        """x and s, which is the same in all places."""
        size = self.group or max(1, len(x))
        if x.ndim < 2 or len(x) % size:
            wanted = f"(n, features, ...) with n a multiple of group={size}"
            raise ValueError(f"x must have shape {wanted}; got {tuple(x.shape)}")
        groups = x.unflatten(0, (-1, size))
        variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)  # var() warns of groups of one
        spread = ((variance + FOOT**2).sqrt() - FOOT).flatten(1).mean(1).repeat_interleave(size)
        places = (len(x), 1, *x.shape[2:])
        return torch.cat([x, spread.reshape(-1, *[1] * (x.ndim - 1)).expand(places)], 1)

    def extra_repr(self) -> str:
        """As in the constructor."""
        return f"group={self.group}"
