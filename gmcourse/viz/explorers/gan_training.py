r"""A game in training: what the critic thinks of every place, where that pushes the fakes, and which modes they reach.

    fakes move along −g'(D(x)) ∇D(x), uphill where g' < 0 (least squares: D < 1)          thesis 2.5, slides (40)

The critic's logits D have no zero that would mean the same in all games (Wasserstein's are defined up to a constant, least
squares' best critic is (p − q)/(p + q), that of the first two log p/q). Colours therefore count from halfway between its
means over data and over fakes: blue is nearer to what it says of data, purple to what it says of fakes. The difference of
the two means is what the critic has to say in all; under a Lipschitz bound of 1 it estimates W₁, thesis (2.81).
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import avg_pool2d

from gmcourse.gan.gan import GAN
from gmcourse.metrics.density import draw
from gmcourse.metrics.modes import mode_report
from gmcourse.metrics.transport import sliced_wasserstein
from gmcourse.model import check_count
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.plane import Extent, extent_of, grid, on_grid
from gmcourse.viz.plots import draw_arrows, draw_density

CRITIC = LinearSegmentedColormap.from_list("gmcourse-critic", ("#6d3a72", "#c79ac4", "#ffffff", "#8dbfe0", style.BLUE))
ARROWS, FINE = 12, 128  # arrows per side; cells of the true density
WINDOW = (-3.0, 3.0, -3.0, 3.0)


class Film:
    """A callback for `fit` that films a GAN of the plane: fakes of always the same noise, and the critic's logits.

    Args:
        every: steps between two pictures.
        extent: the window (xmin, xmax, ymin, ymax), or a distribution that names one.
        fakes, resolution: number of fakes, and cells per side of the window, a multiple of 12.
        seed: of the noise.

    Attributes:
        samples: {step: fakes (n, 2)}; logits: {step: (r, r)}, lowest y first; both on the CPU.

    >>> film = Film(every=50)
    >>> # film(0, gan); fit(gan, data, callback=film, ...); gan_training({"plain": film}, data)
    """

    def __init__(
        self,
        every: int = 50,
        *,
        extent: Extent | Distribution = WINDOW,
        fakes: int = 500,
        resolution: int = 60,
        seed: int = 0,
    ):
        self.every, self.fakes, self.seed = check_count(every, "every"), check_count(fakes, "fakes"), seed
        self.extent = extent_of(extent, extent if isinstance(extent, tuple) else None)
        if check_count(resolution, "resolution") % ARROWS:
            raise ValueError(f"resolution must be a multiple of {ARROWS}; got {resolution}")
        self.resolution = resolution
        self.samples: dict[int, Tensor] = {}
        self.logits: dict[int, Tensor] = {}

    def __call__(self, step: int, model: GAN) -> None:
        if step % self.every == 0:
            generator = torch.Generator(model.origin.device).manual_seed(self.seed)
            self.samples[step] = model.sample(self.fakes, generator=generator).float().cpu()
            self.logits[step] = on_grid(model.logits, self.extent, self.resolution).float()


class Scene(NamedTuple):
    """One picture of a film, ready to be drawn: colours (r, r, 4), slopes (144, 2), fakes, words, and how good they are."""

    colours: np.ndarray
    slopes: Tensor
    fakes: np.ndarray
    says: str
    reached: str
    score: float


def slopes(logits: Tensor, extent: Extent) -> Tensor:
    """∇D (ARROWS², 2) at `grid(extent, ARROWS)` from logits (r, r): central differences, averaged around each place."""
    r = len(logits)
    spacing = ((extent[3] - extent[2]) / r, (extent[1] - extent[0]) / r)
    d_y, d_x = torch.gradient(logits, spacing=spacing, edge_order=2)
    return avg_pool2d(torch.stack((d_x, d_y))[None], r // ARROWS)[0].flatten(1).T


def at(logits: Tensor, x: Tensor, extent: Extent) -> Tensor:
    """The logit (n,) of the cell in which each x (n, 2) lies, or of the nearest one."""
    low, high = torch.tensor(extent[::2]), torch.tensor(extent[1::2])
    column, row = ((x - low) / (high - low) * len(logits)).long().clamp(0, len(logits) - 1).unbind(1)
    return logits[row, column]


def gan_training(films: Mapping[str, Film], data: Distribution, *, seed: int = 0) -> Explorer:
    """Scrub through the training of one or several GANs on the plane: the critic's landscape, the fakes, the modes.

    Args:
        films: by the name of the run; a film that ends earlier than others stands still at its end.
        data: their data, with `sample` and `log_prob`; for a mixture with `weights`, `means` and `sigmas` modes are counted,
            for others it is the sliced W₂ distance between fakes and as many data.
        seed: of the data that the critic is asked about.

    Raises:
        ValueError: no film, films of fewer than two pictures or of different windows, data not of the plane.
    """
    _check(films, data)
    extent = next(iter(films.values())).extent
    real = draw(data, max(film.fakes for film in films.values()), seed, "data").float().cpu()
    times = {name: sorted(film.samples) for name, film in films.items()}
    scenes = {name: [_scene(film, time, data, real) for time in times[name]] for name, film in films.items()}
    clock = max(times.values(), key=lambda steps: (steps[-1], len(steps)))
    modes = len(data.means) if _is_mixture(data) else None
    top = modes or max(scene.score for film in scenes.values() for scene in film)
    density = on_grid(data.log_prob, extent, FINE).exp()
    outlines, places = _outlines(density, extent), grid(extent, ARROWS)

    def compute(film, snapshot):
        now = max(0, bisect_right(times[film], clock[snapshot]) - 1)
        return film, scenes[film][now], times[film][now]

    def backdrop(axes):
        for ax in axes[:2]:
            ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="$x_1$", title=" ")
        axes[0].set_ylabel("$x_2$")
        draw_density(axes[1], density, extent)
        words = "modes covered" if modes else "sliced $W_2$"
        axes[2].set(xlim=(0, clock[-1]), ylim=(0, 1.04 * top), xlabel="training step", title=words)
        for name, film in scenes.items():
            axes[2].plot(times[name], [scene.score for scene in film], color="0.75", linewidth=1.2)

    def show(axes, drawn):
        name, scene, time = drawn
        axes[0].imshow(scene.colours, extent=extent, origin="lower", interpolation="bilinear")
        axes[0].add_collection(LineCollection(outlines, colors="0.35", linewidths=0.8), autolim=False)
        draw_arrows(axes[0], places, scene.slopes, extent)
        for ax in axes[:2]:
            ax.plot(*scene.fakes.T, ".", color=style.VERMILION, markersize=3.5, alpha=0.8, markeredgewidth=0)
        axes[2].plot(times[name], [scene.score for scene in scenes[name]], color=style.BLUE)
        axes[2].plot(time, scene.score, "o", color=style.VERMILION, markersize=8, clip_on=False)
        for ax, text in zip(axes[:2], (f"step {time}: {scene.says}", scene.reached), strict=True):
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        show,
        {
            "film": Choice(tuple(films), label="run"),
            "snapshot": Slider(0, len(clock) - 1, 1, len(clock) - 1, label="picture of the film"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(10.8, 3.8),
        caption="Left: the critic, blue where it thinks of data, purple where of fakes, white halfway, each picture on its "
        "own scale; its slope (arrows, compressed lengths), along which it pushes the fakes (orange); thin lines, where the "
        "data are. Above, its mean over data less its mean over fakes. Middle: the fakes over the true density. "
        f"Right: {'modes that the fakes cover' if modes else 'how far the fakes are from data'}, this run in blue.",
    )


def _check(films: Mapping[str, Film], data: Distribution) -> None:
    if not films:
        raise ValueError("films must hold at least one film; got none")
    for name, film in films.items():
        if len(film.samples) < 2:
            raise ValueError(f"films must hold at least two pictures each; {name!r} has {len(film.samples)}")
    if len(windows := {film.extent for film in films.values()}) > 1:
        raise ValueError(f"films must have one window; got {', '.join(map(str, windows))}")
    if tuple(data.event_shape) != (2,):
        raise ValueError(f"data must have event shape (2,); got {tuple(data.event_shape)}")


def _is_mixture(data: Distribution) -> bool:
    return all(hasattr(data, name) for name in ("weights", "means", "sigmas"))


def _scene(film: Film, step: int, data: Distribution, real: Tensor) -> Scene:
    logits, fakes = film.logits[step], film.samples[step]
    of_data, of_fakes = (float(at(logits, x, film.extent).mean()) for x in (real, fakes))
    if _is_mixture(data):
        report = mode_report(fakes, data)
        score, reached = report.covered, f"{report.covered} of {report.modes} modes, {100 * report.within:.0f} % within 4σ"
    else:
        score = sliced_wasserstein(fakes, real[: len(fakes)])
        reached = f"sliced $W_2$ to the data: {score:.3f}"
    says = f"data − fakes = {of_data - of_fakes:+.2f}".replace("-", "−")
    colours = _coloured(logits - (of_data + of_fakes) / 2)
    return Scene(colours, slopes(logits, film.extent), fakes.numpy(), says, reached, score)


def _coloured(heights: Tensor) -> np.ndarray:
    """Colours (r, r, 4) of heights (r, r): white is 0, the strongest colours are the 98 % quantile of |height|."""
    largest = float(heights.abs().flatten().quantile(0.98)) or 1.0
    return CRITIC(((heights / largest + 1) / 2).numpy(), bytes=True)


def _outlines(density: Tensor, extent: Extent) -> list[np.ndarray]:
    """Lines (k, 2) around where the density (r, r) exceeds a tenth of its highest value."""
    xmin, xmax, ymin, ymax = extent
    centres = (np.arange(len(density)) + 0.5) / len(density)
    places = xmin + (xmax - xmin) * centres, ymin + (ymax - ymin) * centres
    return Figure().add_subplot().contour(*places, density.numpy(), levels=[0.1 * float(density.max())]).allsegs[0]
