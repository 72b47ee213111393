r"""A continuous flow at work: particles on their way from noise to data, and the density they make meanwhile.

    dx/dt = f(x, t),   noise at t = 1, data at t = 0        slides (17): sampling follows −f from 1 back to 0

No two particles ever meet, so colours that lie side by side as noise stay side by side. Paths are solved for once, by the
flow's own solver, coarse or fine; between its steps a cubic follows the field at both ends. A lattice of points travels with
the particles: the density at time t is that of the mass which it carries. Evaluations of f are what sampling pays with.
"""

import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gmcourse.flows.continuous import FIXED, Continuous
from gmcourse.flows.flow import Flow
from gmcourse.viz import style
from gmcourse.viz.controls import Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.carried import hues, lattice, refined, spread
from gmcourse.viz.plane import Extent, around, grid
from gmcourse.viz.plots import draw_arrows, draw_density

PICTURES = 25  # from noise to data
PARTICLES, COARSE, FINER, RESOLUTION, ARROWS = 240, 96, 5, 96, 12
TRAIL = 8  # pictures back


class Journey:
    """Particles and a lattice of mass under way, where the flow's own solver takes them.

    Attributes:
        noise: where the particles start, (PARTICLES, 2).
        times: t of each picture, from 1 to 0.
        particles, mesh: their places, (pictures, n, 2).
        calls: evaluations of the field when t is reached, one number per picture.
    """

    def __init__(self, layer: Continuous, seed: int = 0):
        self.layer, self.like = layer, next(layer.parameters(), torch.zeros(()))
        self.times = [1 - k / PICTURES for k in range(PICTURES)] + [0.0]
        self.noise = torch.randn(PARTICLES, 2, generator=torch.Generator().manual_seed(seed))
        asked: list[float] = []
        hook = layer.field.register_forward_hook(lambda net, given, out: asked.append(float(given[1])))
        steps = layer.steps if layer.solver in FIXED else PICTURES  # other times would change a fixed solver's steps
        nodes = [1 - k / steps for k in range(steps)] + [0.0]
        try:
            path = layer.trajectories(torch.cat((self.noise, lattice(COARSE)[0])).to(self.like), nodes)
        finally:
            hook.remove()
        slopes = [self.velocity(x, t) / steps for x, t in zip(path, nodes, strict=True)]
        places = [_hermite(path.float().cpu(), slopes, steps * (1 - t)) for t in self.times]
        self.particles, self.mesh = torch.stack(places).split((PARTICLES, COARSE**2), 1)
        reached = [next((k + 1 for k, s in enumerate(asked) if s < t + 1e-5), len(asked)) for t in self.times]
        self.calls = [0, *reached[1:-1], len(asked)]

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """−f, which sampling follows, at x (n, 2)."""
        x = x.to(self.like)
        return -self.layer.field(x, torch.tensor(t).to(x), None).float().cpu()

    def density(self, extent: Extent) -> list[Tensor]:
        """The density of each picture, (RESOLUTION, RESOLUTION); paths between those of the lattice are interpolated."""
        mass = lattice(COARSE * FINER)[1]
        return [spread(refined(mesh, FINER), mass, extent, RESOLUTION) for mesh in self.mesh]


def _hermite(places: Tensor, slopes: list[Tensor], at: float) -> Tensor:
    """The cubic through two neighbouring places with their slopes; `at` counts from the first of them."""
    k = min(int(at + 1e-6), len(places) - 2)
    r = at - k
    a, b = places[k], places[k + 1]
    bend = (1 - r) * (slopes[k] - (b - a)) - r * (slopes[k + 1] - (b - a))
    return a + r * (b - a) + r * (1 - r) * bend


@torch.no_grad()
def cnf_trajectories(flow: Flow) -> Explorer:
    """Particles of a continuous flow travelling from noise to data, with the density and the field at that time.

    Args:
        flow: on the plane, of one `Continuous` layer over a standard normal, without context.

    Raises:
        ValueError: it is another kind of flow.
    """
    layers = list(flow.chain.layers)
    if tuple(flow.event_shape) != (2,) or flow.context or [isinstance(one, Continuous) for one in layers] != [True]:
        found = ", ".join(type(layer).__name__ for layer in layers)
        raise ValueError(
            f"flow must be one Continuous layer on the plane without context; got event_shape {tuple(flow.event_shape)}, "
            f"context {flow.context}, layers {found or 'none'}"
        )
    journey = Journey(layers[0])
    colours = hues(journey.noise)
    extent = around(torch.cat((journey.noise, journey.particles[-1])).numpy())
    densities, places = journey.density(extent), grid(extent, ARROWS)
    velocities = [journey.velocity(places, t) for t in journey.times]

    def compute(passed):
        k = round(passed * PICTURES)
        trails = journey.particles[max(0, k - TRAIL) : k + 1].transpose(0, 1).numpy()
        words = f"t = {journey.times[k]:.2f} after {journey.calls[k]} of {journey.calls[-1]} evaluations"
        return trails, densities[k], velocities[k], words

    def backdrop(axes):
        for ax, title in zip(axes, (" ", "density and velocity"), strict=True):
            ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", title=title, xlabel="$x_1$")
        axes[0].set_ylabel("$x_2$")

    def draw(axes, drawn):
        trails, density, velocity, words = drawn
        axes[0].add_collection(LineCollection(trails, colors=colours, linewidths=0.9, alpha=0.55), autolim=False)
        axes[0].scatter(*trails[:, -1].T, s=12, c=colours, linewidths=0, zorder=3)
        draw_density(axes[1], density, extent)
        draw_arrows(axes[1], places, velocity, extent, color=style.INK)
        axes[0].text(0.5, 1.03, words, transform=axes[0].transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {"passed": Slider(0.0, 1.0, 1 / PICTURES, 0.48, label="time since noise, 1 − t")},
        backdrop=backdrop,
        panels=(1, 2),
        size=(8.2, 4.6),
        caption="From noise (t = 1) to data (t = 0). Left: particles with the last third of their way, in the colour of "
        "the direction in which they began, and what sampling has paid so far in evaluations of the field. Right: the "
        "density at this time, each picture on its own scale, and the velocity that carries it; arrows have the right "
        "directions and compressed lengths.",
    )
