r"""Many points and many Gaussians of one width: each point is shown only the Gaussians that matter to it.

The plane is cut into square cells. Let a be the centre of a cell, ρ the distance of its farthest point from there,
and m_i the mean nearest to a. For every point x of the cell

    |x − m_k|² − |x − m_i|²  ≥  |a − m_k|² − |a − m_i|² − 2 ρ |m_k − m_i| ,

so k is left out where this makes its term less than e⁻²⁰ of i's. What is left, seen from a with y = x − a, is

    log p(x) = log Σ_k exp(b_k + s_k·y) − |y|²/2σ²,     s_k = (m_k − a)/σ²,     b_k = log w_k N(a; m_k, σ² I)
    ∇ log p(x) = Σ_k r_k(x) s_k − y/σ²

one small matrix product instead of all the distances, and without cancellation because m_k − a and y are short.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gmcourse.data.gaussians import Gaussians, blocks, log_sum_exp

NEGLIGIBLE = 20.0  # nats: a term e⁻²⁰ = 2e-9 times another one is left out
CELL = 5.0  # side of a cell in units of σ
ACROSS = 64  # cells along the longer side of the window, at most


@dataclass(frozen=True)
class View:
    """Gaussians of width sigma seen from the centre a (d,): slopes s (k, d) and offsets b (k,)."""

    centre: Tensor
    slopes: Tensor
    offsets: Tensor
    sigma: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (n, d) -> (n,)."""
        y = x - self.centre
        log_sum = log_sum_exp(torch.addmm(self.offsets, y, self.slopes.T))
        log_p = log_sum - y.square().sum(1) / (2 * self.sigma**2)
        return log_p.clamp(min=torch.finfo(x.dtype).min)

    def score(self, x: Tensor) -> Tensor:
        """∇ log p(x), (n, d) -> (n, d)."""
        y = x - self.centre
        return torch.addmm(self.offsets, y, self.slopes.T).softmax(1) @ self.slopes - y / self.sigma**2


@dataclass(frozen=True)
class Cells:
    """Points sorted by cell; cells without points are left out.

    `order` (n,) sorts the points, `sizes` says how many lie in each cell, `centres` (cells, 2) where it is, and
    `radii` (cells,) how far its farthest point lies from there.
    """

    order: Tensor
    sizes: list[int]
    centres: Tensor
    radii: Tensor

    @classmethod
    def of(cls, x: Tensor, low: Tensor, high: Tensor, side: Tensor) -> "Cells":
        """Sort x (n, 2) into cells of the given side between two corners; points outside go to the nearest cell."""
        last = ((high - low) / side).floor()
        column, row = ((x - low) / side).floor().nan_to_num().clamp(min=0).minimum(last).int().T
        key, order = (column * (ACROSS + 1) + row).sort()
        key, cell, sizes = key.unique_consecutive(return_inverse=True, return_counts=True)
        corners = torch.stack([key // (ACROSS + 1), key % (ACROSS + 1)], 1)
        centres = low + (corners + 0.5) * side
        distances = (x.index_select(0, order) - centres[cell]).norm(dim=1)
        radii = distances.new_zeros(len(sizes)).scatter_reduce_(0, cell, distances, "amax")
        return cls(order, sizes.tolist(), centres, radii)


def visible(gaussians: Gaussians, cells: Cells) -> tuple[Tensor, Tensor]:
    """Which of the gaussians matter in which cell, a mask (cells, k); and log w_k N(a; m_k, σ² I), (cells, k)."""
    direct = "donot_use_mm_for_euclid_dist"
    squares = torch.cdist(cells.centres, gaussians.means, compute_mode=direct).square()
    least, i = squares.min(1, keepdim=True)
    apart = torch.cdist(gaussians.means[i[:, 0]], gaussians.means, compute_mode=direct)
    precision = 0.5 / gaussians.sigmas.square()
    behind = (squares - least - 2 * cells.radii[:, None] * apart) * precision
    log_weights = gaussians.log_weights
    hidden = behind > NEGLIGIBLE + log_weights - log_weights[i]  # False for NaN: a NaN in x hides nothing, and shows
    return ~hidden, gaussians.log_heights() - squares * precision


def by_cell(formula: Callable[[View, Tensor], Tensor], gaussians: Gaussians, x: Tensor) -> Tensor:
    """`View.log_prob` or `View.score` of all the points x (n, 2), cell by cell."""
    means, sigma = gaussians.means, gaussians.sigmas[0]
    with torch.no_grad():
        low, high = means.amin(0), means.amax(0)
        cells = Cells.of(x, low, high, torch.maximum(CELL * sigma, (high - low).amax() / ACROSS))
        seen, offsets = visible(gaussians, cells)
        place = torch.empty_like(cells.order).scatter_(0, cells.order, torch.arange(len(x), device=x.device))
    values = []
    for c, points in enumerate(x.index_select(0, cells.order).split(cells.sizes)):
        k = seen[c].nonzero()[:, 0]
        view = View(cells.centres[c], (means[k] - cells.centres[c]) / sigma**2, offsets[c, k], sigma)
        values += [formula(view, block) for block in blocks(points, len(k))]
    return torch.cat(values).index_select(0, place)
