"""The course's pictures of distributions: density, samples, score, latent space, training.

Each function draws on the axes it is given and returns them; without any it makes a new pyplot figure.
Pyplot's state is not touched when axes are given, so the same functions serve notebooks, files and
explorers. Two-dimensional things are drawn over an `extent` (xmin, xmax, ymin, ymax), by default the one
the distribution itself names. Dense parts (density images, clouds of points) are rasterised, which keeps
vector files small. Bands and error bars are standard errors of the mean over seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.quiver import Quiver
from torch import Tensor, as_tensor

from gmcourse.training.history import History
from gmcourse.viz import style
from gmcourse.viz.mosaic import enlarge, mosaic_array
from gmcourse.viz.plane import Extent, around, evaluate, extent_of, grid, on_grid

MARKERS = "oX^sD"
MOSAIC_WIDTH = 400  # pixels, about


def new_axes(width: float = 5.0, height: float = 4.0) -> Axes:
    """Axes of a new pyplot figure of this size in inches."""
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def density(
    log_prob: Any,
    extent: Extent | None = None,
    ax: Axes | None = None,
    resolution: int = 200,
    vmax: float | None = None,
) -> Axes:
    """The density exp(log p) of a distribution, a model with `log_prob`, or a callable `(n, 2) -> (n,)`.

    White is 0 and the darkest blue `vmax` (default: the highest value in view): panels with one `vmax` can
    be compared.

    Raises ValueError without `extent` where the object names none, or for a `log_prob` of another shape.
    """
    extent = extent_of(log_prob, extent)
    values = on_grid(getattr(log_prob, "log_prob", log_prob), extent, resolution).exp()
    ax = _square(ax, extent)
    draw_density(ax, values, extent, vmax)
    return ax


def draw_density(ax: Axes, values: Tensor, extent: Extent, vmax: float | None = None) -> AxesImage:
    """Density values `(rows, columns)`, already computed, lowest y first, as an image on the axes."""
    vmax = float(values.nan_to_num().max()) if vmax is None else vmax
    # Coloured before matplotlib enlarges it: half the time, which counts under a slider.
    colours = style.DENSITY((values / (vmax or 1.0)).numpy(), bytes=True)
    where = {"extent": extent, "origin": "lower", "aspect": ax.get_aspect()}
    return ax.imshow(colours, **where, interpolation="bilinear", rasterized=True)


def samples(
    x: Tensor,
    ax: Axes | None = None,
    over: Any = None,
    extent: Extent | None = None,
    size: float = 6.0,
    color: str = style.VERMILION,
    label: str | None = None,
) -> Axes:
    """Points `x` `(n, 2)`, over the density of `over` (distribution or model) if given; `size` in points²."""
    points = _pairs("x", x)
    if extent is None and getattr(over, "extent", None) is None:
        extent = around(points)
    extent = extent_of(over, extent)
    ax = _square(ax, extent)
    if over is not None:
        density(over, extent, ax)
    ax.scatter(*points.T, s=size, color=color, alpha=0.6, linewidths=0, label=label, rasterized=True)
    return ax


def score_field(
    score: Any,
    extent: Extent | None = None,
    ax: Axes | None = None,
    resolution: int = 16,
    color: str = style.INK,
) -> Axes:
    """Arrows along ∇ log p: `score` is a distribution with `score(x)`, or a callable `(n, 2) -> (n, 2)`.

    Directions are exact. Lengths are compressed, s ↦ s / (s + median s), because scores differ by orders of
    magnitude.
    """
    extent = extent_of(score, extent)
    points = grid(extent, resolution)
    field = evaluate(getattr(score, "score", score), points)
    if field.shape != points.shape:
        raise ValueError(f"score must return shape (n, 2); got {tuple(field.shape)} for n = {len(points)}")
    ax = _square(ax, extent)
    draw_arrows(ax, points, field, extent, color)
    return ax


def draw_arrows(ax: Axes, points: Tensor, field: Tensor, extent: Extent, color: str = style.INK) -> Quiver:
    """Arrows of `field` at the centres `points` of a grid over the extent, both `(n, 2)`."""
    length = field.norm(dim=-1, keepdim=True)
    spacing = (extent[1] - extent[0]) / len(points) ** 0.5
    arrows = 0.95 * spacing * field / (length + length.median()).clamp_min(1e-12)
    scale = {"angles": "xy", "scale_units": "xy", "scale": 1, "pivot": "mid"}
    shape = {"width": 0.005, "headwidth": 4, "headlength": 4.5, "headaxislength": 4}
    return ax.quiver(*points.T.numpy(), *arrows.T.numpy(), color=color, alpha=0.75, **scale, **shape)


def mosaic(images: Tensor, columns: int | None = None, ax: Axes | None = None) -> Axes:
    """Images `(n, c, h, w)` in [-1, 1], grey or colour, on a grid without axes.

    A figure of its own is made to measure: every image pixel is the same whole number of pixels wide.
    """
    page = mosaic_array(images, columns)
    page = enlarge(page, max(1, round(MOSAIC_WIDTH / page.shape[1])))
    ax = _axes_for(page) if ax is None else ax
    ax.imshow(page, cmap="gray", vmin=0, vmax=255, rasterized=True)
    ax.set_axis_off()
    return ax


def latent_map(means: Tensor, labels: Tensor, ax: Axes | None = None, names: Sequence[str] | None = None) -> Axes:
    """Two-dimensional latent means `(n, 2)` coloured by class `labels` `(n,)`, with a legend beside the axes.

    Beyond ten classes the markers change as well as the colours. `names[k]` is what class k is called.
    """
    points, classes = _pairs("means", means), _array(labels)
    if classes.shape != points.shape[:1]:
        raise ValueError(f"labels must have shape ({len(points)},), one per mean; got {classes.shape}")
    ax = new_axes(5.6, 4.4) if ax is None else ax
    for k in np.unique(classes).astype(int):
        turn, hue = divmod(k, len(style.PALETTE))
        look = {"color": style.PALETTE[hue], "marker": MARKERS[turn % len(MARKERS)], "alpha": 0.7}
        label = str(k) if names is None else names[k]
        ax.scatter(*points[classes == k].T, s=9, linewidths=0, label=label, rasterized=True, **look)
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "borderaxespad": 0.3}
    ax.legend(**beside, markerscale=2.2, handletextpad=0.2)
    return ax


def loss_curves(history: Any, ax: Axes | None = None, log: bool = False) -> Axes:
    """Each player's losses by step, as a `History` plots itself; a dict from names to losses will do. `log`: log axis."""
    losses = {name: as_tensor(values) for name, values in getattr(history, "losses", history).items()}
    ax = History(losses).plot(new_axes(5.0, 3.2) if ax is None else ax)
    if log:
        ax.set_yscale("log")
    return ax


def band(x: Sequence[float], ys: Any, ax: Axes | None = None, label: str | None = None, color: str | None = None) -> Axes:
    """The mean over seeds of `ys` `(seeds, points)` at `x` `(points,)`, with a band of one standard error."""
    x, ys = _array(x), _array(ys)
    if ys.ndim != 2 or ys.shape[1:] != x.shape:
        raise ValueError(f"ys must have shape (seeds, {len(x)}), a row per seed; got {ys.shape}")
    ax = new_axes(5.0, 3.4) if ax is None else ax
    mean, error = ys.mean(0), _standard_error(ys)
    line = ax.plot(x, mean, label=label, color=color)[0]
    if len(ys) > 1:
        ax.fill_between(x, mean - error, mean + error, color=line.get_color(), alpha=0.2, linewidth=0)
    if label is not None:
        ax.legend()
    return ax


def bars(values: Mapping[str, Sequence[float]], ax: Axes | None = None) -> Axes:
    """A bar per name: the mean over seeds, its standard error, and each seed's value as a dot."""
    if not values:
        raise ValueError("values must hold at least one name; got none")
    ax = new_axes(max(3.0, 1.2 * len(values) + 1), 3.4) if ax is None else ax
    for place, run in enumerate(np.atleast_1d(_array(v)) for v in values.values()):
        ax.bar(place, run.mean(), width=0.62, color=style.BLUE, alpha=0.55)
        apart = 0.16 * np.linspace(-1, 1, len(run)) if len(run) > 1 else 0.0
        ax.scatter(place + apart + 0 * run, run, s=16, color=style.BLUE, zorder=3)
        if len(run) > 1:
            error = _standard_error(run)
            ax.errorbar(place, run.mean(), error, color=style.INK, capsize=6, capthick=1.5, zorder=4)
    ax.set_xticks(range(len(values)), list(values))
    ax.axhline(0, color=style.INK, linewidth=1)
    return ax


def _axes_for(page: np.ndarray) -> Axes:
    from matplotlib import pyplot

    height, width = np.array(page.shape[:2]) / pyplot.rcParams["figure.dpi"]
    return pyplot.figure(figsize=(width, height), layout="none").add_axes((0, 0, 1, 1))


def _square(ax: Axes | None, extent: Extent) -> Axes:
    ax = new_axes(4.0, 4.0) if ax is None else ax
    ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    return ax


def _standard_error(values: np.ndarray) -> np.ndarray:
    return values.std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.zeros_like(values[0])


def _pairs(name: str, values: Any) -> np.ndarray:
    points = _array(values)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name} must have shape (n, 2); got {points.shape}")
    return points


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
