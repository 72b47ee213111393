"""Who is best when several numbers count: nobody, perhaps, but some are worse in everything (Pareto)."""

from torch import Tensor


def undominated(scores: Tensor) -> Tensor:
    """Rows of scores (n, m), larger is better, that no row equals or beats in every column and beats in one: bool (n,).

    Of equal rows none dominates the other. Raises ValueError for another shape and for NaN, which compares with nothing.

    >>> import torch
    >>> undominated(torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.5, 3.0]]))
    tensor([ True,  True, False])
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must have shape (n, m); got {tuple(scores.shape)}")
    if scores.isnan().any():
        raise ValueError("scores must be numbers; got NaN among them")
    not_worse = (scores[:, None] >= scores).all(2)  # [i, j]: i against j
    better = (scores[:, None] > scores).any(2)
    return ~(not_worse & better).any(0)
