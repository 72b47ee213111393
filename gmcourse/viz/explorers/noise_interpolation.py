r"""Between two noises: what short runs make of the way from z₁ to z₂ (thesis 5.1.1, Figs. 5.1 and 5.2).

    z_ρ = ρ z₁ + √(1 − ρ²) z₂,   0 ≤ ρ ≤ 1                        N(0, I) for all ρ, where z₁ and z₂ are

A short run does not forget where it began: neighbouring z_ρ end at neighbouring images, and the row leads from the one
sample to the other. Chains that had reached their law would not know ρ any more. The ρ shown are cos 0°, …, cos 90°, at
equal angles. Noise on the way, where a model has it, is one u for all, so that z alone makes the difference.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from gmcourse.compositions.dynamics import Dynamics, GradientFlow, Langevin
from gmcourse.compositions.inversion import interpolate
from gmcourse.compositions.short_run import ShortRun
from gmcourse.model import check_count
from gmcourse.viz import style
from gmcourse.viz.controls import Choice
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.stops import Stops
from gmcourse.viz.mosaic import mosaic_array

PLACES = 9  # ρ, both ends among them
STOPS = 10  # of the steps of training; about so many more beyond
RHO = torch.cos(torch.linspace(0, math.pi / 2, PLACES)).clamp(min=0).round(decimals=6)


class Rows(NamedTuple):
    """Samples (stops, draws of z₁, draws of z₂, places, c, h, w), and the number of steps of each stop."""

    images: Tensor
    steps: list[int]


def prolonged(dynamics: Dynamics, factor: int) -> Dynamics:
    """The same way, gone on to so many times its length."""
    if isinstance(dynamics, Langevin):
        return Langevin(factor * dynamics.steps, dynamics.step, noise=dynamics.noise)
    return GradientFlow(factor * dynamics.time, **dynamics.settings | {"steps": factor * dynamics.steps})


@torch.no_grad()
def rows(model: ShortRun, draws: int, factor: int, seed: int) -> Rows:
    """Walk from z_ρ for all pairs of draws of z₁ and z₂ at all ρ of `RHO`; an end is walked again in each row it ends."""
    steps, walker = model.dynamics.steps, model.under(prolonged(model.dynamics, factor))
    generator, d = torch.Generator().manual_seed(seed), model.event_shape.numel()
    z = torch.randn(2, draws, d, generator=generator)
    first, second = (part.flatten(0, 1) for part in torch.broadcast_tensors(z[0][:, None], z[1][None]))
    eps = interpolate(first, second, RHO).transpose(0, 1).flatten(0, 1)
    u = torch.randn(1, sum(walker.noise_blocks.values()) - d, generator=generator)
    stops = sorted({steps, *(round(k * steps / STOPS) for k in range(factor * STOPS + 1))})
    path = walker.path(torch.cat((eps, u.expand(len(eps), -1)), 1).to(walker.noise(1)))[stops].float().cpu()
    return Rows(path.nan_to_num().clamp(-1, 1).unflatten(1, (draws, draws, PLACES)), stops)


def distances(images: Tensor) -> np.ndarray:
    """Root mean square distance of the images of rows (…, places, c, h, w) from the first and the last, (…, 2, places)."""
    ends = images[..., [0, -1], None, :, :, :]
    return (images.unsqueeze(-5) - ends).square().mean((-3, -2, -1)).sqrt().numpy()


def noise_interpolation(model: ShortRun, *, draws: int = 3, factor: int = 2, seed: int = 0) -> Explorer:
    """Lead the noise between two draws to images, and stop the way there earlier or later than in training.

    Args:
        model: trained on images (1 or 3, h, w).
        draws: of z₁, and as many of z₂; all pairs are walked beforehand, 9 ways each.
        factor: how far the ways go, in lengths of that of training.
        seed: of z₁, z₂ and u.

    Raises ValueError for a model that is none of images, and for draws or factor below 1.

    >>> from gmcourse.ebm import conv_energy
    >>> model = ShortRun(conv_energy((1, 8, 8), (4, 4)), Langevin(10, 0.1, noise=0), event_shape=(1, 8, 8))
    >>> noise_interpolation(model).values
    {'first': 1, 'second': 1, 'rho': 0.707107, 'steps': 10}
    """
    shape = tuple(getattr(model, "event_shape", ()))
    if not isinstance(model, ShortRun) or len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"model must be a ShortRun of images (1 or 3, h, w); got {type(model).__name__} of shape {shape}")
    images, lengths = rows(model, check_count(draws, "draws"), check_count(factor, "factor"), seed)
    apart = distances(images)
    high = 1.05 * max(float(apart.max()), 1e-3)
    usual, rhos, wide = model.dynamics.steps, RHO.tolist(), shape[2] + 1

    def compute(first, second, rho, steps):
        k, place = lengths.index(steps), rhos.index(rho)
        row, began = images[k, first - 1, second - 1], images[0, first - 1, second - 1, place]
        pictures = [_colours(part) for part in (row, began[None], row[place, None])]
        return pictures, apart[k, first - 1, second - 1], place, steps

    def backdrop(axes):
        grid = axes[0].figure.add_gridspec(2, 3, height_ratios=(1, 2), width_ratios=(1, 1, 1.2))
        for panel, where in zip(axes, (grid[0, :], grid[1, 0], grid[1, 1], grid[1, 2]), strict=True):
            panel.set_subplotspec(where)
        _bare(axes[0], PLACES * wide - 1, shape[1], "from $z_1$ (left) to $z_2$ (right)")
        _bare(axes[1], shape[2], shape[1], " ")
        _bare(axes[2], shape[2], shape[1], " ")
        axes[3].set(xlim=(-0.2, PLACES - 0.8), ylim=(0, high), xlabel="ρ", ylabel="distance per pixel", title=" ")
        shown = range(0, PLACES, 2)
        axes[3].set_xticks(shown, [f"{rhos[k]:.2g}" for k in shown])
        for text, at, side, colour in (
            ("from the first", 0, "left", style.BLUE),
            ("from the last", 1, "right", style.VERMILION),
        ):
            axes[3].text(at, 1.03, text, color=colour, ha=side, fontsize=12, transform=axes[3].transAxes)

    def draw(axes, drawn):
        pictures, both, place, done = drawn
        for ax, picture in zip(axes, pictures, strict=False):
            height, width = picture.shape[:2]
            ax.imshow(picture, interpolation="nearest", extent=(0, width, height, 0))
        corner, look = (place * wide - 0.5, -0.5), {"edgecolor": style.VERMILION, "linewidth": 3}
        axes[0].add_patch(Rectangle(corner, shape[2] + 1, shape[1] + 1, fill=False, **look))
        words = (
            f"z at ρ = {rhos[place]:.2f}",
            f"after {done} of {usual} steps" if done <= usual else f"after {done} steps",
        )
        for ax, text in zip(axes[1:], words, strict=False):
            ax.text(0.5, 1.03, text, ha="center", fontsize=12, transform=ax.transAxes)
        for values, colour in zip(both, (style.BLUE, style.VERMILION), strict=True):
            axes[3].plot(values, color=colour)
            axes[3].plot(place, values[place], "o", color=colour, markersize=8, clip_on=False)

    return Explorer(
        compute,
        draw,
        {
            "first": Choice(tuple(range(1, draws + 1)), label="draw of z₁", buttons=True),
            "second": Choice(tuple(range(1, draws + 1)), label="draw of z₂", buttons=True),
            "rho": Stops({f"{rho:.2f}": rho for rho in rhos}, rhos[PLACES // 2], "ρ"),
            "steps": Stops({f"{k}, as trained" if k == usual else f"{k}": k for k in lengths}, usual, "steps K₂"),
        },
        backdrop=backdrop,
        panels=(1, 4),
        size=(9.0, 4.9),
        caption="Above: where the ways from z_ρ are after K₂ steps, for ρ from 1 (z₁ alone) to 0 (z₂ alone). Below: the one "
        "in the frame, what it began as, and how far the row is from its two ends (root mean square of pixels in [−1, 1]).",
    )


def _colours(images: Tensor) -> np.ndarray:
    """A row of images (n, c, h, w) as one picture (height, width, 3), uint8."""
    page = np.atleast_3d(mosaic_array(images, len(images)))
    return np.broadcast_to(page, (*page.shape[:2], 3))


def _bare(ax: Axes, width: int, height: int, title: str) -> None:
    """Axes for a picture of so many pixels, and nothing else."""
    ax.set(xlim=(-1, width + 1), ylim=(height + 1, -1), aspect="equal", xticks=[], yticks=[], title=title)
    for spine in ax.spines.values():
        spine.set_visible(False)
