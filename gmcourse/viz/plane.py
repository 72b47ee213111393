"""The plane behind a two-dimensional picture: its extent, a grid on it, and functions evaluated on that grid.

An extent is (xmin, xmax, ymin, ymax). A grid has `resolution`² equal cells; functions are evaluated at the
cells' centres, so an image of the values lies exactly over the extent, and the mean over cells times the
area is the midpoint rule.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Extent = tuple[float, float, float, float]
CHUNK = 8192  # points evaluated at once: bounds the memory a model needs for a picture


def grid(extent: Extent, resolution: int) -> Tensor:
    """Centres of `resolution`² equal cells covering the extent, `(resolution², 2)`, row by row from below.

    >>> grid((0, 1, 0, 1), 2)
    tensor([[0.2500, 0.2500],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.7500, 0.7500]])
    """
    xmin, xmax, ymin, ymax = extent
    centres = (torch.arange(resolution) + 0.5) / resolution
    y, x = torch.meshgrid(ymin + (ymax - ymin) * centres, xmin + (xmax - xmin) * centres, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()), -1)


def on_grid(log_prob: Callable[[Tensor], Tensor], extent: Extent, resolution: int) -> Tensor:
    """`log_prob` `(n, 2) -> (n,)` on the cells of `grid`, shape `(resolution, resolution)`, lowest y first.

    Raises ValueError if `log_prob` returns another shape.
    """
    values = evaluate(log_prob, grid(extent, resolution))
    if values.shape != (resolution**2,):
        shape = tuple(values.shape)
        raise ValueError(f"log_prob must return shape (n,); got {shape} for n = {resolution**2}")
    return values.reshape(resolution, resolution)


def evaluate(function: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """`function(points)`, on the device of the model it belongs to, in chunks; back on the CPU, detached."""
    owner = getattr(function, "__self__", function)
    parameters = owner.parameters() if isinstance(owner, nn.Module) else iter(())
    device = next((p.device for p in parameters), points.device)
    # Gradients stay on: a score is often the gradient of an energy.
    return torch.cat([function(chunk.to(device)).detach().cpu() for chunk in points.split(CHUNK)])


def extent_of(thing: Any, extent: Extent | None = None) -> Extent:
    """The extent given, or the one the distribution itself names (its attribute `extent`).

    Raises ValueError if there is none, or if it is not (xmin, xmax, ymin, ymax) with min < max.
    """
    extent = getattr(thing, "extent", None) if extent is None else extent
    if extent is None:
        raise ValueError(f"extent must be given: {type(thing).__name__} names none of its own")
    if len(extent) != 4 or not (extent[0] < extent[1] and extent[2] < extent[3]):
        raise ValueError(f"extent must be (xmin, xmax, ymin, ymax) with min < max; got {tuple(extent)}")
    return tuple(map(float, extent))


def around(points: np.ndarray) -> Extent:
    """A square that holds 99 % of the points `(n, 2)` in each direction, with a margin."""
    low, high = np.quantile(points, (0.005, 0.995), axis=0)
    centre, half = (low + high) / 2, 0.55 * max(float((high - low).max()), 1e-3)
    return (centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half)
