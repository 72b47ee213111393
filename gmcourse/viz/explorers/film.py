r"""Data dissolve into noise and come back: the laws p_t, their scores, and particles on the way home (thesis 2.4.3).

    x_t = α x_0 + σ ε          drawn is x_t/√(α² + σ²), which stays in one window, whatever the process

The data are sums of Gaussians, so p_t and ∇ log p_t are exact. Drawn like this, p_t depends on the ratio α²/σ² alone: VP,
sub-VP and VE show the same film, each at its own pace, and one set of paths serves them all. Particles walk it back along a
chain of `LEVELS` even steps of the log-SNR, by

    reverse SDE          ancestral sampling, thesis (2.62): noise is taken out and, a little less, put in again
    probability flow     DDIM with η = 0, slides (30): nothing is put in, no two paths meet
"""

from functools import lru_cache

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gmcourse.diffusion.samplers import DDIM, Ancestral, walk
from gmcourse.diffusion.schedule import DiscreteDiffusion
from gmcourse.diffusion.sde import SDE, VE, VP, SubVP
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.carried import hues
from gmcourse.viz.explorers.spots import SETS, Spots, spots
from gmcourse.viz.plane import grid
from gmcourse.viz.plots import draw_arrows, draw_density

PROCESSES = {"VP": VP(), "sub-VP": SubVP(), "VE": VE(sigma_min=0.01, sigma_max=10.0)}
BACK = {"reverse SDE": Ancestral, "probability flow": DDIM}
LEVELS, HIGHEST, LOWEST = 160, 9.3, -10.1  # of the log-SNR
LADDER = torch.linspace(HIGHEST, LOWEST, LEVELS, dtype=torch.float64)
PARTICLES, TRAILS, TRAIL = 300, 30, 12
EXTENT = (-3.0, 3.0, -3.0, 3.0)
RESOLUTION, ARROWS = 64, 12
CURVE = torch.linspace(0, 1, 101, dtype=torch.float64)


def ladder() -> DiscreteDiffusion:
    """The chain whose log-SNRs are `LADDER`."""
    bars = torch.sigmoid(LADDER)
    return DiscreteDiffusion(1 - bars / torch.cat([torch.ones_like(bars[:1]), bars[:-1]]))


def paths(data: Spots, sampler: type, seed: int = 0) -> Tensor:
    """Particles on their way from noise, at LADDER[-1], to data, (LEVELS + 1, PARTICLES, 2)."""
    chain, generator = ladder(), torch.Generator().manual_seed(seed)
    laws = [(data.noised(a, s), s) for a, s in zip(*_shares(LADDER), strict=True)]

    def eps(x: Tensor, t: Tensor) -> Tensor:
        law, sigma = laws[int(t[0])]
        return -sigma * law.score(x)

    noise = torch.randn(PARTICLES, 2, generator=generator)
    return torch.stack(list(walk(sampler(chain, eps).step, noise, chain.times(), generator=generator)))


def level(log_snr: float) -> int:
    """Which picture of `paths` is nearest to this log-SNR; above the highest it is the last, the data."""
    below = round((HIGHEST - log_snr) / (HIGHEST - LOWEST) * (LEVELS - 1)) if log_snr < HIGHEST + 1 else -1
    return LEVELS - 1 - max(below, -1)


def moment(process: SDE, t: float) -> tuple[float, float, float]:
    """α, σ and the log-SNR at time t."""
    at = torch.tensor(t, dtype=torch.float64)
    return *(float(v) for v in process.marginal(at)), float(process.log_snr(at))


def diffusion_film() -> Explorer:
    """Density, score and returning particles of a diffusion at a time t, for three data sets and three processes."""
    data = {name: spots(name) for name in SETS.values()}
    films = {(name, back): paths(data[name], BACK[back]).numpy() for name in data for back in BACK}
    cells, places = grid(EXTENT, RESOLUTION), grid(EXTENT, ARROWS)
    paces = {name: process.log_snr(CURVE).numpy() for name, process in PROCESSES.items()}
    colours = hues(torch.from_numpy(films["gaussians8", "reverse SDE"][0]))

    @lru_cache(maxsize=256)
    def law(name, alpha, sigma):
        p = data[name].noised(alpha, sigma)
        return p.log_prob(cells).exp().reshape(RESOLUTION, -1), p.score(places)

    def compute(data, process, back, t):
        alpha, sigma, log_snr = moment(PROCESSES[process], t)
        scale, now = float(np.hypot(alpha, sigma)), level(log_snr)
        seen = films[data, back][max(0, now - TRAIL) : now + 1]
        words = f"α = {alpha:.3g}, σ = {sigma:.3g}"
        return seen, *law(data, alpha / scale, sigma / scale), (process, t, log_snr), words

    def backdrop(axes):
        for ax, title in zip(axes[:2], (" ", "density and score"), strict=True):
            ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", title=title)
            ax.set_xlabel(r"$x_1\,/\,\sqrt{\alpha^2+\sigma^2}$")
        axes[0].set_ylabel(r"$x_2\,/\,\sqrt{\alpha^2+\sigma^2}$")
        axes[2].set(xlim=(0, 1), ylim=(LOWEST - 0.4, 10), xlabel="time t", title="log-SNR")
        axes[2].axhline(0, color="0.8", linewidth=0.8)
        for pace in paces.values():
            axes[2].plot(CURVE, pace, color="0.75", linewidth=1.2)

    def draw(axes, drawn):
        seen, density, score, (process, t, log_snr), words = drawn
        lines = seen[:, :TRAILS].transpose(1, 0, 2)
        axes[0].add_collection(LineCollection(lines, colors=colours[:TRAILS], linewidths=0.8, alpha=0.5), autolim=False)
        axes[0].scatter(*seen[-1].T, s=11, c=colours, linewidths=0, zorder=3)
        draw_density(axes[1], density, EXTENT)
        draw_arrows(axes[1], places, score, EXTENT)
        axes[2].plot(CURVE, paces[process], color=style.BLUE)
        axes[2].plot(t, min(log_snr, 10), "o", color=style.VERMILION, markersize=8, clip_on=False)
        axes[0].text(0.5, 1.03, words, transform=axes[0].transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "data": Choice(SETS, label="data"),
            "process": Choice(list(PROCESSES), label="process"),
            "back": Choice(list(BACK), label="way back"),
            "t": Slider(0.0, 1.0, 0.01, 0.15, label="time t"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(9.6, 3.6),
        caption="From t = 1, noise, to t = 0, data. Left: particles and the last of their way back, in the colour of the "
        "direction in which they began. Middle: the density p_t, each picture on its own scale, and its score; arrows have "
        "the right directions and compressed lengths. All is divided by √(α² + σ²), so that only the ratio α/σ counts: "
        "right, log α²/σ² of the process (blue) and of the other two (grey). Where two processes have the same log-SNR, "
        "they show the same picture.",
    )


def _shares(log_snr: Tensor) -> tuple[list[float], list[float]]:
    """α and σ with these log α²/σ² and α² + σ² = 1."""
    return torch.sigmoid(log_snr).sqrt().tolist(), torch.sigmoid(-log_snr).sqrt().tolist()
