r"""Nearest neighbours: has the model memorised its training data?

    nearest(x) = argmin_i ‖f(x) − f(x_i)‖

A model that hands out its training set scores well in FID, KID, precision and recall. Beside each sample its nearest
training images show it: in pixel space (`net=None`) copies, at distance 0, in feature space also the same thing moved a
little. Distances are summed from differences, so that the distance of a copy is exactly 0; ‖a‖² + ‖b‖² − 2aᵀb, which is
faster, would lose it in rounding.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.data.gaussians import blocks
from gmcourse.metrics.features import Net, feature_pair
from gmcourse.model import check_count


class Neighbours(NamedTuple):
    """Of each sample the k nearest data, the nearest first: `data[indices]` are they. Both (n, k)."""

    indices: Tensor
    distances: Tensor


def nearest_neighbours(x: Tensor, data: Tensor, *, k: int = 5, net: Net = None) -> Neighbours:
    """The k nearest of data (m, *event_shape) to each x (n, *event_shape), Euclidean in the features of `net`.

    `net` is what `gmcourse.metrics.features` takes; None compares pixels. Memory stays small at any n and m.
    Raises ValueError for k > m, for event shapes that differ and for features that are not finite.

    >>> nearest_neighbours(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0], [3.0]]), k=2).indices
    tensor([[1, 0]])
    """
    if check_count(k, "k") > len(data):
        raise ValueError(f"k must be at most the number of data, {len(data)}; got {k}")
    return nearest_rows(*feature_pair(x, data, net, names=("x", "data")), k)


def nearest_rows(x: Tensor, data: Tensor, k: int) -> Neighbours:
    """The k rows of data (m, d) nearest to each row of x (n, d)."""
    found = [distances(block, data).topk(k, 1, largest=False) for block in blocks(x, len(data))]
    return Neighbours(torch.cat([part.indices for part in found]), torch.cat([part.values for part in found]))


def distances(x: Tensor, data: Tensor) -> Tensor:
    """‖x_i − data_j‖ of rows (n, d) and (m, d), shape (n, m), exactly 0 for equal rows."""
    return torch.cdist(x, data, compute_mode="donot_use_mm_for_euclid_dist")
