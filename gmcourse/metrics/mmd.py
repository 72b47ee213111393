r"""Maximum mean discrepancy: compare two sets of samples by how alike their members are (Gretton et al. 2012).

    MMD²(p, q) = E k(x, x′) + E k(y, y′) − 2 E k(x, y),     k(a, b) = exp(−‖a − b‖² / 2h²)

It is 0 only for p = q. Averaged over pairs i ≠ j it is estimated without bias, so that under p = q the estimate is
negative about as often as positive.

The standard error is that of the U-statistic, to all orders. With g_i the mean of k(x_i, ·) over p less its own mean,
u_i the same over q, and r what is left of k after subtracting row and column means (Hoeffding's decomposition),

    Var = 4/n Var(g − u)_x + 4/m Var(g − u)_y + 2 E r_xx²/(n(n−1)) + 2 E r_yy²/(m(m−1)) + 4 E r_xy²/(nm)

The first two terms lead where p ≠ q; under p = q they vanish and the other three remain. Each is estimated without bias
as in an analysis of variance, residual sums of squares by their degrees of freedom; the first two together count as 0
where that comes out negative, which makes the standard error under p = q about 20 % too large.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.metrics.likelihood import Estimate
from gmcourse.metrics.neighbours import distances
from gmcourse.metrics.transport import check_samples

ROWS = 1024  # rows of the kernel matrix held at once
MEDIAN_OF = 1000  # points of each set whose distances enter the median


class _Layout(NamedTuple):
    """A kernel matrix in numbers: its mean, the effects of its rows and columns, the variance of what is left."""

    mean: float
    rows: Tensor
    columns: Tensor
    residual: float


@torch.no_grad()
def mmd2(x: Tensor, y: Tensor, *, bandwidth: float | None = None) -> Estimate:
    """MMD² between the samples x (n, d) and y (m, d) with its standard error; unbiased, so it may be negative.

    Args:
        bandwidth: h of the Gaussian kernel; by default `median_bandwidth(x, y)`. Compare numbers at equal h only.

    Raises ValueError for shapes that do not fit and for fewer than 4 rows.
    """
    x, y = check_samples(x, y, least=4)
    h = median_bandwidth(x, y) if bandwidth is None else float(bandwidth)
    if not 0 < h < float("inf"):
        raise ValueError(f"bandwidth must be positive and finite; got {bandwidth}")
    centre = torch.cat([x, y]).mean(0)  # distances do not see it, rounding does
    x, y, n, m = (x - centre) / h, (y - centre) / h, len(x), len(y)
    xx, yy, xy = _within(x), _within(y), _between(x, y)
    led_by_x = (xx.rows - xy.rows).var() - xx.residual / (n - 2) - xy.residual / m
    led_by_y = (yy.rows - xy.columns).var() - yy.residual / (m - 2) - xy.residual / n
    rest = 2 * xx.residual / (n * (n - 1)) + 2 * yy.residual / (m * (m - 1)) + 4 * xy.residual / (n * m)
    variance = max(0.0, float(4 * led_by_x / n + 4 * led_by_y / m)) + rest
    return Estimate(xx.mean + yy.mean - 2 * xy.mean, variance**0.5)


@torch.no_grad()
def median_bandwidth(x: Tensor, y: Tensor) -> float:
    """The median heuristic: h = median of the distances between the points of x (n, d) and y (m, d) together.

    Of large sets at most 1000 evenly spaced rows each are used. Raises ValueError if the median is 0.
    """
    x, y = (v[:: -(-len(v) // MEDIAN_OF)] for v in check_samples(x, y))
    both = torch.cat([x - x.mean(0), y - x.mean(0)])
    i, j = torch.triu_indices(len(both), len(both), 1, device=both.device)
    h = float(torch.cdist(both, both)[i, j].median())
    if h == 0:
        raise ValueError("the median distance must be positive for a bandwidth; more than half of the pairs coincide")
    return h


def _between(x: Tensor, y: Tensor) -> _Layout:
    """k(x_i, y_j) as a two-way layout without repetition."""
    n, m = len(x), len(y)
    rows, columns, squares = _sums(x, y)
    mean = float(rows.mean()) / m
    a, b = rows / m - mean, columns / n - mean
    left = squares - n * m * mean**2 - m * float(a.square().sum()) - n * float(b.square().sum())
    return _Layout(mean, a, b, max(0.0, left) / ((n - 1) * (m - 1)))


def _within(x: Tensor) -> _Layout:
    """k(x_i, x_j), i ≠ j, as a symmetric layout: k_ij = mean + g_i + g_j + residual over the pairs i < j."""
    n = len(x)
    rows, _, squares = _sums(x, x)
    rows, squares = rows - 1, squares - n  # k(x_i, x_i) = 1
    mean = float(rows.mean()) / (n - 1)
    excess = rows - (n - 1) * mean
    g = excess / (n - 2)
    left = squares / 2 - n * (n - 1) / 2 * mean**2 - float(excess.square().sum()) / (n - 2)
    return _Layout(mean, g, g, max(0.0, left) / (n * (n - 3) / 2))


def _sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """Row sums (n,), column sums (m,) and sum of squares of exp(−‖x_i − y_j‖²/2), in float64 on the CPU."""
    rows, columns, squares = [], torch.zeros(len(y), dtype=torch.float64), 0.0
    for part in x.split(ROWS):
        k = torch.exp(-0.5 * distances(part, y).square()).cpu().double()
        rows.append(k.sum(1))
        columns += k.sum(0)
        squares += float(k.square().sum())
    return torch.cat(rows), columns, squares
