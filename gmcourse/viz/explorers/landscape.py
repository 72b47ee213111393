"""A density dissolving in noise, with its score: the picture behind every diffusion model.

    x ~ Σ_k w_k N(μ_k, s² I)    ⇒    α x + σ ε ~ Σ_k w_k N(α μ_k, (α² s² + σ²) I),    α² + σ² = 1

A mixture stays a mixture, so density and score are exact at every noise level: nothing here is learned.
"""

import math

from gmcourse.data import toy2d
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.plane import grid, on_grid
from gmcourse.viz.plots import draw_arrows, draw_density

SETS = {
    "25 Gaussians": "gaussians25",
    "9 on a grid": "gaussian_grid9",
    "8 on a ring": "gaussians8",
}
EXTENT = (-3.0, 3.0, -3.0, 3.0)
RESOLUTION, ARROWS = 100, 16


def mixture_landscape() -> Explorer:
    """Density and score of a Gaussian mixture from the data (σ = 0) to pure noise (σ = 1)."""
    arrow_places = grid(EXTENT, ARROWS)

    def compute(data, sigma):
        noisy = toy2d.get(data).diffused(math.sqrt(1 - sigma**2), sigma)
        return sigma, on_grid(noisy.log_prob, EXTENT, RESOLUTION).exp(), noisy.score(arrow_places)

    def backdrop(ax):
        ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", title=" ", xlabel="$x_1$", ylabel="$x_2$")

    def draw(ax, drawn):
        sigma, density, score = drawn
        draw_density(ax, density, EXTENT)
        draw_arrows(ax, arrow_places, score, EXTENT)
        law = f"{math.sqrt(1 - sigma**2):.2f} x + {sigma:.2f} ε"
        ax.text(0.5, 1.03, law, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {"data": Choice(SETS, label="data"), "sigma": Slider(0.0, 1.0, 0.01, 0.2, label="noise level σ")},
        backdrop=backdrop,
        size=(4.5, 4.4),
        caption="Blue: the density of data with noise added, each picture on its own scale. "
        "Arrows: its score, the direction in which the density grows fastest.",
    )
