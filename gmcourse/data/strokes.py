"""Rough drawings of what is among the emoji: a few flat shapes on white, for a model to make pictures of (thesis 6.4.6).

A shape is a test of the points (x, y) of the unit square, y downwards; what lies within takes one colour, later shapes
cover earlier ones. A pixel is the mean of 4 × 4 points, so that edges are as soft as those of the emoji, but nothing is
shaded, and there is no detail.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SIZE, FINE = 32, 4  # pixels a side, points a side of a pixel
YELLOW, BROWN, RED, GREEN, BARK, BLUE = "#fdd835", "#4a3010", "#f44336", "#7cb332", "#75564c", "#1976d2"
BANDS = ("#f44336", "#ff8d00", "#fdd835", "#7cb332", "#00b0e9", "#8177fa")

Shape = Callable[[Tensor, Tensor], Tensor]


def disc(x0: float, y0: float, radius: float) -> Shape:
    """What lies within the radius of (x0, y0)."""
    return lambda x, y: (x - x0).square() + (y - y0).square() < radius**2


def box(left: float, right: float, top: float, bottom: float) -> Shape:
    """What lies between the edges."""
    return lambda x, y: (left < x) & (x < right) & (top < y) & (y < bottom)


def heart(x: Tensor, y: Tensor) -> Tensor:
    """(u² + v² − 1)³ < u² v³, stretched over the square."""
    u, v = (x - 0.5) / 0.405, (0.545 - y) / 0.385
    return (u.square() + v.square() - 1) ** 3 < u.square() * v**3


def mouth(x: Tensor, y: Tensor) -> Tensor:
    """The lower part of a ring."""
    r = ((x - 0.5).square() + (y - 0.5).square()).sqrt()
    return (0.2 < r) & (r < 0.28) & (y > 0.6)


def band(outer: float, inner: float) -> Shape:
    """A quarter of a ring around the lower right corner."""
    return lambda x, y: disc(0.98, 0.98, outer)(x, y) & ~disc(0.98, 0.98, inner)(x, y) & (x < 0.98) & (y < 0.98)


def _bands() -> list[tuple[Shape, str]]:
    edges = torch.linspace(0.95, 0.4, len(BANDS) + 1).tolist()
    return [(band(*pair), colour) for pair, colour in zip(zip(edges, edges[1:], strict=False), BANDS, strict=True)]


def painted(shapes: list[tuple[Shape, str]]) -> Tensor:
    """Shapes with their colours "#rrggbb", the lowest first, on white: an image (3, 32, 32) in [−1, 1]."""
    axis = (torch.arange(SIZE * FINE) + 0.5) / (SIZE * FINE)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    canvas = torch.ones(3, len(axis), len(axis))
    for within, colour in shapes:
        paint = torch.tensor([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 127.5 - 1
        canvas = torch.where(within(x, y), paint[:, None, None], canvas)
    return canvas.unflatten(2, (SIZE, FINE)).unflatten(1, (SIZE, FINE)).mean((2, 4))


def stroke_drawings() -> dict[str, Tensor]:
    """Five drawings by name, each an image (3, 32, 32) in [−1, 1] on white, as `load_images("emoji")` has them.

    >>> {name: tuple(image.shape) for name, image in stroke_drawings().items()}["heart"]
    (3, 32, 32)
    """
    eyes = [(disc(x, 0.4, 0.07), BROWN) for x in (0.34, 0.66)]
    crown = [(disc(x, y, r), GREEN) for x, y, r in ((0.3, 0.45, 0.22), (0.5, 0.3, 0.26), (0.7, 0.45, 0.22))]
    return {
        "face": painted([(disc(0.5, 0.5, 0.46), YELLOW), *eyes, (mouth, BROWN)]),
        "heart": painted([(heart, RED)]),
        "tree": painted([(box(0.43, 0.57, 0.55, 0.97), BARK), *crown]),
        "circle": painted([(disc(0.5, 0.5, 0.46), BLUE)]),
        "rainbow": painted(_bands()),
    }
