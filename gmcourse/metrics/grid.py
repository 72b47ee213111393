r"""Integrals on the line and in the plane, done honestly: every node of a grid is visited.

    ∫ f(x) dx ≈ Σ_i f(x_i) Δ          x_i the centres of equal cells of volume Δ       (midpoint rule)

For smooth densities that vanish at the border of the box the rule converges faster than any power of the step: on a
Gaussian of width σ it errs by 2 exp(−2π²σ²/step²), below 1e-8 at step = σ. So the step should be at most the smallest
width in the integrand, and the box should hold the mass. A density with jumps is integrated exactly if the jumps lie on
borders of cells, else to first order in the step only.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.data.known import MAX_NODES, Box
from gmcourse.model import check_count

POINTS = {1: 4000, 2: 400}  # nodes per axis, by the number of axes


class Grid:
    """Centres of equal cells that fill a box of one or two dimensions.

    `nodes` is (m,) on the line and (m, 2) in the plane, float64; `shape` the nodes per axis, so that
    `values.reshape(grid.shape)` is indexed [x₁, x₂]; `axes` the coordinates along each axis; `cell` the volume of a cell.

    Args:
        box: (low, high) of every axis, one or two of them.
        points: nodes per axis; by default 4000 on the line, 400 in the plane.

    >>> grid = Grid([(-8.0, 8.0)], 100)
    >>> grid.integrate(torch.exp(-grid.nodes.square() / 2))     # √2π
    2.506628...
    """

    def __init__(self, box: Box, points: int | None = None):
        self.box = [(float(low), float(high)) for low, high in box]
        if len(self.box) not in POINTS:
            raise ValueError(f"box must have 1 or 2 axes; got {len(self.box)}")
        if not all(-math.inf < low < high < math.inf for low, high in self.box):
            raise ValueError(f"box must hold finite (low, high) with low < high; got {self.box}")
        self.points = check_count(POINTS[len(self.box)] if points is None else points, "points")
        self.shape = (self.points,) * len(self.box)
        if math.prod(self.shape) > MAX_NODES:
            raise ValueError(f"points must give at most {MAX_NODES:,} nodes; got {math.prod(self.shape):,}")
        steps = [(high - low) / self.points for low, high in self.box]
        middle = torch.arange(self.points, dtype=torch.float64) + 0.5
        self.axes = tuple(low + step * middle for (low, _), step in zip(self.box, steps, strict=True))
        self.nodes = torch.cartesian_prod(*self.axes)
        self.cell = math.prod(steps)

    @classmethod
    def around(cls, *densities: Distribution, points: int | None = None, margin: float = 0.25) -> "Grid":
        """The grid that holds all the densities: their extents, widened on both sides by `margin` of the length.

        A density without `extent` needs a mean and a standard deviation: it is taken to reach 5 of them.
        """
        if not densities:
            raise ValueError("around needs at least one density; got none")
        boxes = [_reach(density) for density in densities]
        if len({len(box) for box in boxes}) > 1:
            raise ValueError(f"densities must live in the same space; got {[len(box) for box in boxes]} dimensions")
        box = []
        for sides in zip(*boxes, strict=True):
            low, high = min(side[0] for side in sides), max(side[1] for side in sides)
            box.append((low - margin * (high - low), high + margin * (high - low)))
        return cls(box, points)

    def integrate(self, values: Tensor) -> float:
        """∫ f dx of the values (m,) of f at the nodes."""
        return float(self._checked(values).sum()) * self.cell

    def log_integrate(self, log_values: Tensor) -> float:
        """log ∫ f dx of the values (m,) of log f at the nodes; f may be far outside the range of floats."""
        return float(self._checked(log_values).logsumexp(0)) + math.log(self.cell)

    def _checked(self, values: Tensor) -> Tensor:
        if values.shape != self.nodes.shape[:1]:
            raise ValueError(f"values must have shape ({len(self.nodes)},), one for each node; got {tuple(values.shape)}")
        return values


def _reach(density: Distribution) -> Sequence[tuple[float, float]]:
    if hasattr(density, "extent"):
        extent = density.extent
        return list(zip(extent[::2], extent[1::2], strict=True))
    try:
        mean, width = density.mean.double().flatten(), density.stddev.double().flatten()
    except (AttributeError, NotImplementedError):
        raise ValueError(f"{density!r} tells neither its extent nor its width; give Grid a box") from None
    return list(zip((mean - 5 * width).tolist(), (mean + 5 * width).tolist(), strict=True))
