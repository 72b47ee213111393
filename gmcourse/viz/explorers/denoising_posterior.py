r"""How wrong a Gaussian step back is: the true denoising law q(x_s | x_t) on the line (thesis 6.1).

    x_u = α_u x_0 + σ_u ε of the VP diffusion, 0 ≤ u ≤ 1;      t = u,  s = u (1 − step),   step = 1 leads to the data
    KL(q(x_s | x_t) ‖ N(mean, variance))                       nats; a net that outputs a Gaussian cannot do better

x_t is chosen by its quantile under q(x_t), so that it is always one that the diffusion visits. All laws are those of
`diffusion.denoising_posterior`; what depends on u alone, the steps of all lengths from all quantiles, is kept.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.denoising_posterior import true_denoising
from gmcourse.diffusion.edit import marginal_at
from gmcourse.diffusion.sde import VP
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.stops import Stops

DATA = {
    "three": Mixture1D(),
    "two": Mixture1D([0.5, 0.5], [-1.8, 1.8], 0.15),
    "bell": Mixture1D([1.0], [0.0], 0.6),
}
NAMES = {"three spots": "three", "two far spots": "two", "one broad bell": "bell"}
SDE = VP()
STEPS = (0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.28, 0.35, 0.43, 0.52, 0.62, 0.74, 0.87, 1.0)
QUANTILES = np.linspace(0.01, 0.99, 50)  # midpoints of fiftieths: their mean is that over q(x_t)
POINTS = 300  # of the quadrature
WIDE = 3.2
LINE = torch.linspace(-WIDE, WIDE, 401, dtype=torch.float64)
TIMES = torch.linspace(0, 1, 121, dtype=torch.float64)
LEAST, MOST = 1e-6, 20.0  # nats that are shown
COUNTS = 10.0  # where numbers of humps stand
FAINT = 2e-3  # of a law's height
BUMP = 0.16  # of u, the height of a law drawn beside its time


class Row(NamedTuple):
    """Steps from x_t at all quantiles (n,), of all lengths: KL in nats and humps, (steps, n)."""

    x: Tensor
    gaps: Tensor
    humps: Tensor


def quantiles(data: Mixture1D, u: float) -> Tensor:
    """x_t at `QUANTILES` of q(x_t), (n,), by interpolating its distribution function."""
    law = data.diffused(*marginal_at(SDE, u))
    nodes = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    return torch.from_numpy(np.interp(QUANTILES, law.cdf(nodes), nodes))


def law_of(name: str, u: float, step: float, x: Tensor):
    """q(x_s | x_t = x) from u back by that share of it."""
    return true_denoising(DATA[name], SDE, u, 0.0 if step == 1 else u * (1 - step), x, points=POINTS)


@lru_cache(maxsize=256)
def row(name: str, u: float) -> Row:
    """All steps from u."""
    x = quantiles(DATA[name], u)
    laws = [law_of(name, u, step, x) for step in STEPS]
    return Row(x, torch.stack([law.gaussian_gap() for law in laws]), torch.stack([law.modes() for law in laws]))


def film(name: str) -> np.ndarray:
    """The densities q(x_u) of all u, (x, u), each over its largest value, as colours."""
    laws = [DATA[name].diffused(*marginal_at(SDE, float(u))) for u in TIMES]
    densities = torch.stack([law.log_prob(LINE).exp() for law in laws], 1)
    return style.DENSITY((0.6 * densities / densities.amax(0)).numpy(), bytes=True)


def denoising_posterior() -> Explorer:
    """q(x_s | x_t), exact and as the best Gaussian has it, for all noise levels, steps and x_t; KL and humps by the step."""
    films = {name: film(name) for name in DATA}

    def compute(data, u, step, quantile):
        all_steps, k, chosen = row(data, u), STEPS.index(step), int(np.abs(QUANTILES - quantile).argmin())
        x = all_steps.x[chosen]
        law = law_of(data, u, step, x)
        densities = law.log_prob(LINE).exp(), law.gaussian().log_prob(LINE).exp()
        along = all_steps.gaps[:, chosen], all_steps.gaps.mean(1), all_steps.humps[:, chosen], k
        return films[data], (u, u * (1 - step), float(x)), densities, along

    def backdrop(axes):
        axes[0].set(
            xlim=(0, 1.04), ylim=(-WIDE, WIDE), xticks=(0, 0.25, 0.5, 0.75, 1), xlabel="time u", ylabel="x", title=" "
        )
        axes[1].set(xlim=(-WIDE, WIDE), ylim=(0, 1.32), xlabel="$x_s$", title=" ", yticks=[])
        axes[2].set(
            xlim=(0.017, 1.2), ylim=(LEAST, MOST), xscale="log", yscale="log", xlabel="step, a share of u", title=" "
        )
        axes[2].set_xticks((0.02, 0.05, 0.1, 0.2, 0.5, 1), ("0.02", "0.05", "0.1", "0.2", "0.5", "1"))
        axes[2].set_yticks((1e-6, 1e-4, 1e-2, 1), ("$10^{-6}$", "$10^{-4}$", "0.01", "1"))
        axes[2].minorticks_off()
        axes[2].text(0.019, 3.0, "humps", fontsize=10, color=style.INK, va="center")
        for ax, names in zip(axes, WORDS, strict=True):
            for (text, colour), (at, side) in zip(names, ((0, "left"), (0.96, "right")), strict=True):
                ax.text(at, 1.03, text, color=colour, ha=side, fontsize=12, transform=ax.transAxes)

    def draw(axes, drawn):
        colours, (t, s, x), (law, gaussian), (gaps, mean, humps, k) = drawn
        axes[0].imshow(colours, extent=(0, 1, -WIDE, WIDE), origin="lower", aspect="auto", interpolation="nearest")
        axes[0].plot((t, t), (-WIDE, WIDE), color=style.INK, linewidth=1, linestyle=(0, (4, 3)))
        top = law.max()
        bump = torch.where(law > FAINT * top, s + BUMP * law / top, torch.nan)
        axes[0].fill_betweenx(LINE, s, bump, color=style.VERMILION, alpha=0.75, linewidth=0)
        axes[0].plot((s, s), (-WIDE, WIDE), color=style.VERMILION, linewidth=1, linestyle=(0, (4, 3)))
        axes[0].plot(t, x, "o", color=style.INK, markersize=8, markeredgecolor="white", clip_on=False)
        axes[1].fill_between(LINE, law / top, color=style.VERMILION, alpha=0.3, linewidth=0)
        axes[1].plot(LINE, law / top, color=style.VERMILION)
        axes[1].plot(LINE, gaussian / top, color=style.BLUE)
        axes[1].plot(x, 0, "o", color=style.INK, markersize=8, markeredgecolor="white", clip_on=False, zorder=5)
        count = int(humps[k])
        words = f"{count} hump{'s' if count > 1 else ''}\nKL = {_short(float(gaps[k]))} nats"
        axes[1].text(0.02, 0.98, words, transform=axes[1].transAxes, va="top", fontsize=12, bbox=style.PLATE)
        axes[2].plot(STEPS, mean.where(mean >= LEAST, torch.nan), color="0.45", linewidth=1.5, linestyle=(0, (4, 3)))
        axes[2].plot(STEPS, gaps.where(gaps >= LEAST, torch.nan), color=style.VERMILION)
        for number in humps.unique().tolist():
            there = np.array(STEPS)[humps == number]
            axes[2].scatter(there, np.full_like(there, COUNTS), marker=f"${number}$", s=40, color=style.INK, linewidths=0)
        axes[2].plot(STEPS[k], gaps[k].clamp_min(LEAST), "o", color=style.VERMILION, markersize=8, clip_on=False)

    return Explorer(
        compute,
        draw,
        {
            "data": Choice(NAMES, label="data"),
            "u": Slider(0.1, 1.0, 0.02, 0.5, label="where the step begins, u"),
            "step": Stops({f"{v:g}" if v < 1 else "1, the data": v for v in STEPS}, 0.87, label="step, a share of u"),
            "quantile": Slider(0.01, 0.99, 0.02, 0.51, label="x_t, as quantile"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.0, 3.6),
        caption="Left: the data dissolve (blue, each time to its own height); x_t (dot) and what may have been before it, "
        "q(x_s | x_t) (orange). Middle: the same law and the best Gaussian. Right: what that Gaussian loses, in nats, for "
        "steps of all lengths, from this x_t (orange) and in the mean over x_t (dashed), and how many humps the law has. "
        "For short steps the loss falls with the third power of the step's variance.",
    )


def _short(value: float) -> str:
    if value < 1e-6:
        return "0"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e−")


WORDS = (
    (("$q(x_u)$", style.BLUE), ("$q(x_s\\,|\\,x_t)$", style.VERMILION)),
    (("$q(x_s\\,|\\,x_t)$", style.VERMILION), ("best Gaussian", style.BLUE)),
    (("KL in nats", style.VERMILION), ("mean over $x_t$", "0.45")),
)
