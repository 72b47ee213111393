r"""Through a trained flow layer by layer: how noise becomes data (thesis (2.26) and (2.27)).

    x_0 = z ~ N(0, I),      x_k = f⁻¹_{K−k+1}(x_{k−1}),      x_K = x         f_1, …, f_K the layers, data → noise

After k of the K layers the density is that of the flow that has only the last k of them: it is drawn by the change of
variables, exactly. Between two layers, where there is no flow, points move along straight lines and the density is that of
the points that they carry. A coupling moves every point along one axis only.
"""

from collections.abc import Sequence

import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gmcourse.flows.flow import Flow
from gmcourse.flows.layer import Chain, Layer
from gmcourse.viz import style
from gmcourse.viz.controls import Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.carried import hues, lattice, net_of_lines, refined, spread
from gmcourse.viz.plane import Extent, around, on_grid
from gmcourse.viz.plots import draw_density

POINTS, SIDE, FINER, RESOLUTION, SHOWN = 500, 120, 3, 96, 150


def single(chain: Chain) -> list[Layer]:
    """The layers of a chain, with those of the chains in it."""
    return [one for layer in chain.layers for one in (single(layer) if isinstance(layer, Chain) else [layer])]


class Stages:
    """What a flow makes of noise after k = 0, …, K of its layers, counted from the noise.

    Attributes:
        points, lines, mesh: where samples, a grid of lines and a fine lattice then are, a tensor for every k.
        flows: the flow of the last k layers, for every k.
    """

    def __init__(self, flow: Flow, *, side: int = SIDE, seed: int = 0):
        layers = single(flow.chain)
        self.names = [type(layer).__name__ for layer in reversed(layers)]
        self.flows = [Flow(flow.base, layers[len(layers) - k :]) for k in range(len(layers) + 1)]
        self.noise = torch.randn(POINTS, 2, generator=torch.Generator().manual_seed(seed))
        mesh, self.mass = lattice(side)[0], lattice(FINER * side)[1]
        net = net_of_lines()
        like = next(flow.parameters(), mesh)
        at, stages = torch.cat((self.noise, net.flatten(0, 1), mesh)), []
        for layer in (None, *reversed(layers)):
            at = at if layer is None else layer.inverse(at.to(like)).float().cpu()
            stages.append(at.split((POINTS, len(net) * net.shape[1], len(mesh))))
        self.points, lines, mesh = zip(*stages, strict=True)
        self.mesh = [refined(part, FINER) for part in mesh]
        self.lines = [part.reshape(net.shape) for part in lines]

    def window(self, data: Tensor) -> Extent:
        """A square that holds nearly all of the points at all stages, and the data."""
        return around(torch.cat((*self.points, data)).numpy())


def between(stages: Sequence[Tensor], k: int, part: float) -> Tensor:
    """A `part` of the way from stage k to the next."""
    return torch.lerp(stages[k], stages[k + 1], part) if part else stages[k]


@torch.no_grad()
def flow_layers(flow: Flow, data: Tensor) -> Explorer:
    """Step through the layers of a trained flow, from noise to data: samples, a warped grid, the density.

    Args:
        flow: of bijective layers on the plane, without context, over a standard normal.
        data: (n, 2), shown over the density; their mean log-likelihood is that of the flow so far.

    Raises:
        ValueError: the flow is none of the plane, or conditional, or has layers that are no bijections.
    """
    if tuple(flow.event_shape) != (2,) or flow.context or not flow.chain.bijective:
        found = f"event_shape {tuple(flow.event_shape)}, context {flow.context}, bijective {flow.chain.bijective}"
        raise ValueError(f"flow must be a bijection of the plane without context; got {found}")
    data = data.detach().float().cpu()
    stages = Stages(flow)
    last = len(stages.names)
    extent, colours = stages.window(data), hues(stages.noise)
    like = next(flow.parameters(), data)
    exact = [on_grid(lambda x, f=f: f.log_prob(x.to(like)).float().cpu(), extent, RESOLUTION).exp() for f in stages.flows]
    scores = [float(f.log_prob(data.to(like)).mean()) for f in stages.flows]
    shown = data[:SHOWN].numpy()

    def compute(layers):
        k = min(int(layers + 1e-6), last)
        part = round(layers - k, 6)
        mesh = between(stages.mesh, k, part)
        density = spread(mesh, stages.mass, extent, RESOLUTION) if part else exact[k]
        state = f"{stages.names[k]} at work" if part else f"{scores[k]:.2f} nats per datum".replace("-", "−")
        words = f"after {layers:.3g} of {last} layers: {state}"
        points, lines = between(stages.points, k, part).numpy(), between(stages.lines, k, part).numpy()
        return points, lines, density, words

    def backdrop(axes):
        for ax, title in zip(axes, ("samples", "a grid of the noise", " "), strict=True):
            ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", title=title, xlabel="$x_1$")
        axes[0].set_ylabel("$x_2$")

    def draw(axes, drawn):
        points, lines, density, words = drawn
        axes[0].scatter(*points.T, s=9, c=colours, linewidths=0)
        half = len(lines) // 2
        for part, colour in ((lines[:half], style.BLUE), (lines[half:], style.ORANGE)):
            axes[1].add_collection(LineCollection(part, colors=colour, linewidths=0.9), autolim=False)
        draw_density(axes[2], density, extent)
        axes[2].plot(*shown.T, ".", color=style.VERMILION, markersize=3, markeredgewidth=0, alpha=0.6)
        axes[2].text(0.5, 1.03, words, transform=axes[2].transAxes, ha="center", fontsize=11)

    return Explorer(
        compute,
        draw,
        {"layers": Slider(0.0, float(last), 0.1, float(last // 2), label="layers")},
        backdrop=backdrop,
        panels=(1, 3),
        size=(10.5, 3.8),
        caption="From noise (0) to data. Left: samples, in the colour of the direction in which they lay as noise, pale "
        "near its centre. Middle: a square grid of the noise, carried along; lines of constant z₁ are blue, those of "
        "constant z₂ orange. Right: the density, each picture on its own scale; orange: data, and above, their "
        "mean log-likelihood. Between whole layers all moves in straight lines.",
    )
