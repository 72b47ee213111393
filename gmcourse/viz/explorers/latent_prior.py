r"""Chapter 8's latent plane: what the prior expects, where the codes are, and what the decoder makes of any place.

    generate   ε ~ N(0, I),  z = f⁻¹(ε),  x = G(z)              N(0, I) as prior: f is the identity
    hole       p(z) > 5 q(z), and ‖ε‖ < 3: the prior goes there, and no digit was ever there in training

A flow is trained to put p where q is, so that little of p is left where no digit is: thin bridges between clusters, since a
bijection tears nothing apart, and tails. `latent_plane` says how q is estimated, and what u is.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from gmcourse.model import GenerativeModel
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.latent_plane import EXTENT, REACH, LatentPlane, classes, pale
from gmcourse.viz.mosaic import mosaic_array

_SIDES = ("#b35c00", "#f3c58f", "#ffffff", "#8dbfe0", style.BLUE)
DIFFERENCE = LinearSegmentedColormap.from_list("gmcourse-difference", _SIDES)
DRAWS, SHOWN = 2000, 250  # draws of the prior to measure with; draws, and codes, on the picture
MASS = 0.9  # of q, within its outline
TOP, WORDS = -0.04, {"va": "top", "fontsize": 10, "linespacing": 1.35}  # below the image
LIKELY, FACTOR = 3.0, 5.0  # ‖ε‖ up to where 99 % of N(0, I) is; what makes a hole
UNDER = {"prior p(z)": "p", "digits' q(z)": "q", "p(z), and where q(z) is": "both", "p(z) − q(z)": "difference"}
POINTS = {"test digits": "codes", "draws of the prior": "draws", "both": "both", "none": "none"}


class Scene(NamedTuple):
    """What is prepared of one model: a plane, its pictures by name, the outline of q, points, and how far p is from q."""

    plane: LatentPlane
    pictures: dict[str, np.ndarray]
    outline: np.ndarray
    codes: np.ndarray
    carried: np.ndarray
    draws: np.ndarray
    mismatch: float


class Place(NamedTuple):
    """Where the reader stands: z, its ε and u, (2,) each, log p and log q, and the image there."""

    z: np.ndarray
    eps: np.ndarray
    u: np.ndarray
    log_p: float
    log_q: float
    image: np.ndarray

    @property
    def numbers(self) -> list[str]:
        """z, ε, log p and log q as they are written below the image."""
        pairs = ("({:z.2f}, {:z.2f})".format(*x) for x in (self.z, self.eps))
        return [words.replace("-", "−") for words in (*pairs, f"{self.log_p:z.2f}", f"{self.log_q:z.2f}")]

    @property
    def verdict(self) -> str:
        """What p and q together say of it."""
        near, ratio = float(np.hypot(*self.eps)) < LIKELY, self.log_p - self.log_q
        if ratio > math.log(FACTOR):
            return "a hole: the prior comes here,\nno digit does" if near else "neither comes here"
        if ratio < -math.log(FACTOR):
            return "digits are here, the prior\nrarely comes"
        return "" if near else "neither comes here"


def place(plane: LatentPlane, way: str, u1: float, u2: float) -> Place:
    """The place with these coordinates, of u or of ε."""
    at = torch.tensor([[u1, u2]])
    z = plane.push(at) if way == "eps" else plane.place(at)
    eps, log_p = plane.pull(z)
    image = mosaic_array(plane.decode(z).expand(-1, 3, -1, -1))
    numbers = (x[0].numpy() for x in (z, eps, plane.units(z)))
    return Place(*numbers, float(log_p), float(plane.log_q(z)), image)


def latent_prior(models: Mapping[str, GenerativeModel], images: Tensor, labels: Tensor, *, seed: int = 0) -> Explorer:
    """Walk through the latent planes of several auto-encoders, by z or by the noise ε, and see what is decoded there.

    Args:
        models: VAEs and deterministic auto-encoders with two latents, by name.
        images, labels: data (n, c, h, w) in [-1, 1] and their classes (n,), below 10; their codes make up q(z).
        seed: of all draws.

    Raises ValueError without a model, for models that have not two latents or whose prior has no `push`, for labels of
        another number than images.
    """
    if not models:
        raise ValueError("models must hold at least one model; got none")
    noise = torch.randn(DRAWS, 2, generator=torch.Generator().manual_seed(seed))
    seen = noise[:SHOWN].numpy()
    scenes = {name: _scene(LatentPlane(model, images, seed=seed), noise) for name, model in models.items()}
    colours, circle = classes(labels, images)[:SHOWN], np.linspace(0, 2 * np.pi, 100)

    def compute(model, under, points, way, u1, u2):
        return scenes[model], under, points, place(scenes[model].plane, way, u1, u2)

    def backdrop(axes):
        for radius, colour in ((3, "#edf5fa"), (2, "#d6e8f4"), (1, "#bad8ec")):
            axes[0].fill(radius * np.cos(circle), radius * np.sin(circle), color=colour, linewidth=0)
        axes[0].set(title="noise ε", xlabel=r"$\varepsilon_1$", ylabel=r"$\varepsilon_2$")
        axes[1].set(title="codes z", xlabel="$(z_1 - m_1)\\,/\\,s$", ylabel="$(z_2 - m_2)\\,/\\,s$")
        for ax in axes[:2]:
            ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", anchor="N", xticks=range(-3, 4), yticks=range(-3, 4))
        _lay_out(axes[2])

    def draw(axes, drawn):
        scene, under, points, here = drawn
        axes[1].imshow(scene.pictures[under], extent=EXTENT, origin="lower", interpolation="bilinear")
        if under == "both":
            axes[1].plot(*scene.outline.T, color="0.25", linewidth=0.9)
        for ax, codes, draws in ((axes[0], scene.carried, seen), (axes[1], scene.codes, scene.draws)):
            if points in ("draws", "both"):
                ax.plot(*draws.T, ".", color=style.INK, markersize=3, markeredgewidth=0)
            if points in ("codes", "both"):
                ax.scatter(*codes.T, s=8, c=colours, linewidths=0)
        for ax, at in ((axes[0], here.eps), (axes[1], here.u)):
            ax.plot(*at, "P", color=style.VERMILION, markersize=15, markeredgecolor="white", markeredgewidth=1.5)
        axes[2].imshow(here.image, extent=(0, 1, 0, 1), interpolation="nearest")
        axes[2].text(0.5, TOP, "\n".join((*here.numbers, f"{scene.mismatch:.2f}")), **WORDS)
        if here.verdict:
            axes[2].text(0.5, -0.53, here.verdict, ha="center", color=style.VERMILION, **WORDS)

    return Explorer(
        compute,
        draw,
        {
            "model": Choice(tuple(models), label="model"),
            "under": Choice(UNDER, value="both", label="laid under"),
            "points": Choice(POINTS, label="points"),
            "way": Choice({"z": "z", "noise ε": "eps"}, label="move in", buttons=True),
            "u1": Slider(-REACH, REACH, 0.05, 0.0, label="across"),
            "u2": Slider(-REACH, REACH, 0.05, 0.0, label="up"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(9.9, 4.4),
        caption="Left: the noise, N(0, I), with 1, 2 and 3 σ in blues, and the ε that the prior carries to each code. "
        "Middle: the latent plane in units of the codes' spread s about their mean m; p(z) is the prior, q(z) the law of "
        f"the digits' codes (dark lines: around {100 * MASS:.0f} % of it). p(z) − q(z) is blue where the prior expects too "
        "much, orange where too little. The cross is one place in both: the sliders move it through z or through ε. Right: "
        "its image.",
    )


def _lay_out(ax: Axes) -> None:
    """The third panel, narrower: room for the image, the words that stand still, and the digits in their colours."""
    grid = ax.figure.add_gridspec(1, 3, width_ratios=(1, 1, 0.74))
    for k, panel in enumerate(ax.figure.axes):
        panel.set_subplotspec(grid[0, k])
    ax.set(title="decoded", xticks=[], yticks=[], aspect="equal", anchor="N", xlim=(0, 1), ylim=(0, 1))
    ax.text(0.5, TOP, "z = \nε = \nlog p(z) = \nlog q(z) = \n½∫|p − q| dz = ", ha="right", **WORDS)
    for k in range(10):
        ax.text(0.05 + 0.1 * k, -0.73, k, color=style.PALETTE[k], ha="center", va="top", weight="bold")


def _scene(plane: LatentPlane, noise: Tensor) -> Scene:
    p, q = plane.densities()
    drawn = plane.push(noise)
    top = [float(density.flatten().quantile(0.995)) for density in (p, q)]
    both = (p - q) / (2 * max(top)) + 0.5
    pictures = {"p": pale(p, top[0]), "q": pale(q, top[1]), "difference": DIFFERENCE(both.clamp(0, 1).numpy(), bytes=True)}
    pictures["both"] = pictures["p"]
    codes = plane.codes[:SHOWN]
    points = (plane.units(codes).numpy(), plane.pull(codes)[0].numpy(), plane.units(drawn[:SHOWN]).numpy())
    return Scene(plane, pictures, _outline(q), *points, plane.mismatch(drawn))


def _outline(density: Tensor) -> np.ndarray:
    """Lines (k, 2), NaN between them, around the places of highest density that hold `MASS` of what is in the window."""
    heights = density.flatten().sort(descending=True).values
    level = float(heights[int((heights.cumsum(0) < MASS * heights.sum()).sum())])
    centres = EXTENT[0] + (EXTENT[1] - EXTENT[0]) * (np.arange(len(density)) + 0.5) / len(density)
    lines = Figure().add_subplot().contour(centres, centres, density.numpy(), levels=[level]).allsegs[0]
    return np.concatenate([part for line in lines for part in (line, [[np.nan, np.nan]])])
