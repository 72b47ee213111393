"""One planar, radial or Sylvester layer in the hand: what it does to the noise, and where it would stop being invertible.

`dials` has the formulas. Down to strength s = −1 densities are exact, by the change of variables; below, where the plane is
folded and has no change of variables, they are those of the mass that a lattice of points carries.
"""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.collections import LineCollection

from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.carried import lattice, net_of_lines, spread
from gmcourse.viz.explorers.dials import DIALS, FLOOR, log_density, rotation
from gmcourse.viz.plane import grid
from gmcourse.viz.plots import draw_density

EXTENT = (-4.5, 4.5, -4.5, 4.5)
RESOLUTION, SIDE = 96, 220
ALONG = np.linspace(EXTENT[0], EXTENT[1], 241)
TOUCH = 1e-6  # from s = −1, as far as sliders can tell
TURNED = (110, 110, 110, 255)


def verdict(strength: float) -> str:
    """What 1 + s, the extreme of a factor of the determinant, says of the map."""
    at = f"1 + s = {1 + strength:.2f}".replace("-", "−")
    if strength > -1 + TOUCH:
        return at
    return f"{at}: crushed, no inverse" if strength >= -1 - TOUCH else f"{at}: folded, no inverse"


def flow_playground() -> Explorer:
    """Turn the parameters of a planar, radial or Sylvester layer: the plane, the density, the determinant."""
    cells = grid(EXTENT, RESOLUTION).double().numpy().T
    mesh, mass = lattice(SIDE)
    mesh, net = mesh.double().numpy().T, net_of_lines(3.0, 13, 97).double().numpy()

    def compute(kind, strength, angle, place, sharpness, shear, repeats):
        dial, q = DIALS[kind](strength, sharpness, place, shear), rotation(angle)

        def push(y: np.ndarray) -> np.ndarray:
            for _ in range(repeats):
                y = dial.forward(y)
            return q @ y

        if strength < -1 - TOUCH:
            image = spread(torch.from_numpy(push(mesh).T).float(), mass, EXTENT, RESOLUTION)
        else:
            image = torch.from_numpy(np.exp(log_density(dial, repeats, q.T @ cells)).reshape(RESOLUTION, -1))
        lines = push(q.T @ net.reshape(-1, 2).T).T.reshape(net.shape)
        det = dial.det(q.T @ cells).reshape(RESOLUTION, -1)
        profile = dial.parts(np.stack((ALONG, np.zeros_like(ALONG))))[: dial.shown]
        return _volumes(det), q[:, 0], place, image, lines, profile, strength

    def backdrop(axes):
        for ax, title in zip(axes, ("noise: where it swells", "after the layer"), strict=False):
            ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", xlabel="$x_1$", title=title)
        axes[0].set(xlabel="$z_1$", ylabel="$z_2$")
        axes[2].set(xlim=EXTENT[:2], ylim=(-1.3, 4.3), xlabel="place along the direction", ylabel="determinant", title=" ")
        axes[2].axhspan(-1.3, 0, color=style.VERMILION, alpha=0.12, linewidth=0)
        axes[2].axhline(0, color=style.VERMILION, linewidth=1)
        axes[2].axhline(1, color="0.7", linewidth=1, linestyle=(0, (4, 3)))

    def draw(axes, drawn):
        volumes, e, place, image, lines, profile, strength = drawn
        axes[0].imshow(volumes, extent=EXTENT, origin="lower")
        axes[0].plot(*np.outer(e, (-7, 7)), color=style.INK, linewidth=1, linestyle=(0, (4, 3)))
        axes[0].plot(*(place * e), "o", color=style.INK, markersize=6)
        draw_density(axes[1], image, EXTENT, float(image.flatten().quantile(0.997)))
        axes[1].add_collection(LineCollection(lines, colors=style.INK, linewidths=0.6, alpha=0.6), autolim=False)
        for values, colour in zip(profile, (style.BLUE, style.ORANGE), strict=False):
            axes[2].plot(ALONG, values, color=colour, linewidth=2)
        axes[2].plot(place, 1 + strength, "o", color=style.INK, markersize=6)
        colour = style.INK if strength > -1 + TOUCH else style.VERMILION
        axes[2].text(0.5, 1.03, verdict(strength), transform=axes[2].transAxes, ha="center", fontsize=12, color=colour)

    return Explorer(
        compute,
        draw,
        {
            "kind": Choice(tuple(DIALS), label="layer"),
            "strength": Slider(-2.0, 3.0, 0.05, 2.0, label="strength s"),
            "angle": Slider(-180, 180, 5, 30, label="direction, degrees"),
            "place": Slider(-2.0, 2.0, 0.1, 0.0, label="place"),
            "sharpness": Slider(0.3, 4.0, 0.1, 1.5, label="sharpness"),
            "shear": Slider(-2.0, 2.0, 0.1, 0.0, label="shear (not radial)"),
            "repeats": Slider(1, 4, 1, 1, label="times in a row"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(10.5, 3.7),
        caption="Left: the noise before the layer; purple swells, orange shrinks, grey turns over; dashed, the direction; "
        "dot, the place. Middle: the density and a square grid after it. Right: the determinant along the "
        "dashed line, or its factors: for a radial layer that around the centre (blue) and that along the radius (orange), "
        "for a Sylvester layer one of its two. At the dot it is 1 + s. From 0 downwards the layer has no inverse, which is "
        "why planar layers need wᵀu > −1.",
    )


def _volumes(det: np.ndarray) -> np.ndarray:
    """Determinants as colours (rows, columns, 4): purple where volumes grow, orange where they shrink, grey below 0."""
    colours = colormaps["PuOr"](0.5 + np.log(np.maximum(det, FLOOR)) / 4, bytes=True)
    colours[det < 0] = TURNED
    return colours
