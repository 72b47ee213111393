r"""Noise carried by a map, however the map is given: colours that tell where a point began, and the density it makes.

    z ~ N(0, I),  x = T(z)      p(x) = ∫ N(z; 0, I) δ(x − T(z)) dz  ≈  Σ_j m_j [T(z_j) in the cell of x] / area of a cell

The z_j are a fine lattice and m_j the mass around each, so that no chance is in it. T need not be a bijection, nor have a
known determinant: this draws densities halfway between two layers of a flow, and those of maps that fold.
"""

import math

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor
from torch.nn.functional import interpolate

from gmcourse.viz import style
from gmcourse.viz.plane import Extent

REACH = 4.2  # the lattice's half width: 5e-5 of the mass lies beyond
_HUES = tuple(style.PALETTE[k] for k in (0, 9, 2, 8, 1, 3, 4, 0))
WHEEL = LinearSegmentedColormap.from_list("gmcourse-wheel", _HUES)  # the first colour is the last


def lattice(side: int) -> tuple[Tensor, Tensor]:
    """`side`² points z (side², 2), row by row from below, and the mass of N(0, I) around each, summing to 1."""
    axis = (torch.arange(side) + 0.5) * (2 * REACH / side) - REACH
    mass = torch.exp(-0.5 * axis.square())
    mass = mass / mass.sum()
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()), 1), (mass[:, None] * mass).flatten()


def refined(x: Tensor, factor: int) -> Tensor:
    """Where a lattice `factor` times as fine goes, by cubics between the images x (side², 2) of a coarse one."""
    square = x.T.unflatten(1, (math.isqrt(len(x)),) * 2)[None]
    # With antialias the cubics keep straight lines straight, without they do not.
    return interpolate(square, scale_factor=factor, mode="bicubic", antialias=True)[0].flatten(1).T


def spread(x: Tensor, mass: Tensor, extent: Extent, resolution: int) -> Tensor:
    """Density (resolution, resolution), lowest y first, of masses (m,) at x (m, 2); each falls to its four nearest cells."""
    xmin, xmax, ymin, ymax = extent
    width, height = (xmax - xmin) / resolution, (ymax - ymin) / resolution
    rim = resolution + 3  # cells on every side take what falls outside
    total = torch.zeros(rim * rim)
    column = ((x[:, 0] - xmin) / width + 0.5).clamp_(0, resolution + 1)
    row = ((x[:, 1] - ymin) / height + 0.5).clamp_(0, resolution + 1)
    left, below = column.int(), row.int()
    right, above = column - left, row - below
    first = below * rim + left
    upper = mass * above
    lower = mass - upper
    for step, part in ((0, lower), (rim, upper)):
        far = part * right
        total += torch.bincount(first + step, part - far, rim * rim)
        total += torch.bincount(first + (step + 1), far, rim * rim)
    return total.reshape(rim, rim)[1:-2, 1:-2] / (width * height)


def hues(z: Tensor) -> np.ndarray:
    """A colour (n, 4) for each z (n, 2): the hue is its angle, and it pales towards the origin."""
    angle = torch.atan2(z[:, 1], z[:, 0]) / (2 * math.pi) % 1
    colours = WHEEL(angle.numpy())
    strength = (z.norm(dim=1) / 1.2).clamp(max=1).numpy()[:, None]
    colours[:, :3] = strength * colours[:, :3] + (1 - strength) * 0.72
    return colours


def net_of_lines(reach: float = 2.4, lines: int = 13, points: int = 121) -> Tensor:
    """A square grid of lines, (2·lines, points, 2): first those of constant z₁, then those of constant z₂."""
    at, along = torch.linspace(-reach, reach, lines), torch.linspace(-reach, reach, points)
    fixed, free = torch.meshgrid(at, along, indexing="ij")
    return torch.cat((torch.stack((fixed, free), 2), torch.stack((free, fixed), 2)))
