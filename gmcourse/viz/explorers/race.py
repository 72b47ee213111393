r"""Four ways back from noise at the same price, so many evaluations of the score (thesis 2.4.3, slides (30)).

    Euler–Maruyama     the reverse SDE: one evaluation a step, weak order 1
    DDIM               the probability flow with its linear part exact: one a step, order 1
    Heun               the probability flow, mean slope of both ends: two a step, order 2
    DPM-Solver++(2M)   DDIM that remembers the step before: one a step, order 2

The process is VP, from t = 1 to t = 10⁻³, and scores of mixtures are exact: all that is wrong is the step size. All start
from the same noise. Three follow the same map, so that only by their errors they differ in where a point lands (its colour
is that of its start); Euler–Maruyama follows none. How far samples x are from data y is told by the energy distance

    2 E|x − y| − E|x − x′| − E|y − y′|

For n independent draws from the data it would be E|y − y′|/n on average, not 0. Starts and data fill their laws more evenly
than that, so a sampler that follows the flow can fall below.
"""

import math
from functools import cache, partial
from itertools import product

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gmcourse.diffusion.flow_samplers import DPMSolverPP, FlowHeun
from gmcourse.diffusion.reverse import EulerMaruyama, falling_times
from gmcourse.diffusion.samplers import run
from gmcourse.diffusion.sde import SDE, VP, Score
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, LogSlider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.carried import hues
from gmcourse.viz.explorers.spots import SETS, Spots, spots
from gmcourse.viz.plane import grid
from gmcourse.viz.plots import draw_density

PARTICLES, DRAWS = 512, 1024
PRICES = (4, 8, 16, 32, 64)
RACERS = {
    "Euler–Maruyama": EulerMaruyama,
    "DDIM": partial(DPMSolverPP, order=1),
    "Heun": FlowHeun,
    "DPM-Solver++(2M)": DPMSolverPP,
}
SPACINGS = {"even in t": "uniform", "even in log-SNR": "log_snr"}
EXTENT = (-3.2, 3.2, -3.2, 3.2)
RESOLUTION = 72
WHOLE = (-6.4, 6.4, -6.4, 6.4)  # four pictures
TILES = 3.2 * torch.tensor([[-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])  # their centres
COLOURS = (style.VERMILION, style.ORANGE, style.GREEN, style.BLUE)
NEAR = 4.0  # widths that belong to a spot


def score_of(sde: SDE, data: list[Spots]) -> Score:
    """∇ log p_t of several data sets side by side, (x (n, sets, 2), t (n,)) -> (n, sets, 2), t the same for all."""

    @cache
    def laws(t: float) -> list[Spots]:
        alpha, sigma = (float(v) for v in sde.marginal(torch.tensor(t)))
        return [law.noised(alpha, sigma) for law in data]

    return lambda x, t: torch.stack([law.score(x[:, i]) for i, law in enumerate(laws(float(t[0])))], 1)


def races(data: list[Spots], noise: Tensor) -> dict[tuple, Tensor]:
    """Where each sampler leads from noise (n, 2), by (spacing, racer, price): (n, sets, 2), all sets side by side."""
    sde = VP()
    score, start, ends = score_of(sde, data), noise[:, None].expand(-1, len(data), -1), {}
    grid_of = cache(lambda steps, spacing: falling_times(sde, steps, spacing=spacing))
    for spacing, (name, make), price in product(SPACINGS.values(), RACERS.items(), PRICES):
        sampler, generator = make(sde, score), torch.Generator().manual_seed(0)
        steps = grid_of(price // sampler.evaluations, spacing)
        ends[spacing, name, price] = run(sampler.step, start, steps, generator=generator)
    return ends


def even(n: int, dims: int) -> Tensor:
    """N(0, I) in n points (n, dims) that fill it more evenly than chance does: Sobol's sequence, n a power of 2."""
    u = torch.quasirandom.SobolEngine(dims, scramble=True, seed=0).draw(n)
    return torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))


def evenly_drawn(law: Spots, n: int) -> Tensor:
    """n points (n, 2) of the law, spread in the same way: the same number for each spot, give or take one."""
    z = even(n, 3)
    chosen = (torch.special.ndtr(z[:, 0]) * len(law.centres)).long().clamp_(max=len(law.centres) - 1)
    return law.centres[chosen] + law.width * z[:, 1:]


def mean_distance(x: Tensor, y: Tensor) -> float:
    """E|x − y| over all pairs of rows of x (n, 2) and y (m, 2)."""
    return float(torch.cdist(x, y).mean())


def energy_distance(x: Tensor, y: Tensor, apart: float) -> float:
    """2 E|x − y| − E|x − x′| − E|y − y′| between rows of x (n, 2) and y (m, 2), whose E|y − y′| is `apart`."""
    return 2 * mean_distance(x, y) - mean_distance(x, x) - apart


def near(x: Tensor, law: Spots) -> float:
    """The share of x (n, 2) within `NEAR` widths of a spot."""
    return float((torch.cdist(x, law.centres).amin(1) <= NEAR * law.width).float().mean())


def sampler_race() -> Explorer:
    """Samples of four samplers at the same number of score evaluations, and how far they are from the data."""
    noise = even(PARTICLES, 2)
    laws = {name: spots(name) for name in SETS.values()}
    ends = races(list(laws.values()), noise)
    pictures, results = {}, {}
    for k, (data, law) in enumerate(laws.items()):
        draws = evenly_drawn(law, DRAWS)
        apart = mean_distance(draws, draws)
        density = law.log_prob(grid(EXTENT, RESOLUTION)).exp().reshape(RESOLUTION, -1)
        pictures[data] = density.tile(2, 2), apart / PARTICLES
        for key, end in ends.items():
            x = end[:, k].contiguous()
            distance = energy_distance(x, draws, apart)
            results[data, *key] = x.clamp(*EXTENT[:2]), distance, near(x, law)
    colours = np.tile(hues(noise), (len(RACERS), 1))

    def compute(data, price, spacing):
        at = min(PRICES, key=lambda known: abs(math.log(known / price)))
        found = [results[data, spacing, name, at] for name in RACERS]
        x = torch.cat([x + shift for (x, _, _), shift in zip(found, TILES, strict=True)]).numpy()
        words = [f"{100 * share:.0f} %" for _, _, share in found]
        curves = [[results[data, spacing, name, p][1] for p in PRICES] for name in RACERS]
        return *pictures[data], x, words, curves, PRICES.index(at)

    def backdrop(axes):
        axes[0].set(xlim=WHOLE[:2], ylim=WHOLE[2:], aspect="equal", xticks=[], yticks=[], title=" ", xlabel=" ")
        for name, colour, (x, y) in zip(RACERS, COLOURS, TILES.tolist(), strict=True):
            axes[0].text(x, 2.1 * y, name, color=colour, ha="center", va="bottom" if y > 0 else "top")
        axes[0].spines[:].set_visible(False)
        axes[1].set(xlim=(3.5, 73), ylim=(1e-4, 1), xscale="log", yscale="log", title="energy distance to the data")
        axes[1].set_xticks(PRICES, PRICES)
        axes[1].minorticks_off()
        axes[1].set_xlabel("score evaluations")

    def draw(axes, drawn):
        density, chance, x, words, curves, at = drawn
        draw_density(axes[0], density, WHOLE)
        axes[0].scatter(*x.T, s=6, c=colours, linewidths=0)
        for text, colour, (left, low) in zip(words, COLOURS, TILES.tolist(), strict=True):
            axes[0].text(left - 3.0, low + 2.7, text, color=colour, fontsize=9)
        lines = [np.stack((PRICES, curve), 1) for curve in curves]
        axes[1].add_collection(LineCollection(lines, colors=COLOURS, linewidths=1.5), autolim=False)
        axes[1].scatter([PRICES[at]] * len(curves), [curve[at] for curve in curves], s=50, c=COLOURS, linewidths=0, zorder=3)
        axes[1].plot((PRICES[0], PRICES[-1]), (chance, chance), color="0.6", linestyle="--", linewidth=1.2)

    return Explorer(
        compute,
        draw,
        {
            "data": Choice(SETS, label="data"),
            "price": LogSlider(PRICES[0], PRICES[-1], 16, label="score evaluations", steps=len(PRICES) - 1),
            "spacing": Choice(SPACINGS, label="times"),
        },
        backdrop=backdrop,
        panels=(1, 2),
        size=(8.6, 4.4),
        caption="Four samplers with exact scores from the same noise, each sample in the colour of the direction where it "
        "began, over the density of the data; Heun takes two evaluations a step, hence half as many steps. Percent: samples "
        "within four widths of the nearest spot, where nearly all data are; what leaves a picture is drawn at its edge. "
        "Right: the energy distance to the data, by evaluations; dashed, that of as many independent draws from the data. "
        "The starts are spread more evenly than by chance, so samplers without noise can fall below.",
    )
