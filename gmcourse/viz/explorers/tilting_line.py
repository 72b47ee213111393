r"""Tilting on the line: a base, an energy, and by how much (thesis 4.3).

    p_λ(x) = q(x) e^{−λE(x)} / Z_λ,    Z_λ = E_q[e^{−λE}]                                     thesis (4.4)
    d/dλ KL(data ‖ p_λ) = E_data[E] − E_{p_λ}[E]                                               thesis (4.9), for one weight

The best energy there is is known: E = log q − log p_data makes p_1 the data's law, with Z = 1, whatever the base. A tilt
only moves mass that the base has: of n draws, weighted by e^{−λE}, as many count as

    n (E_q w)² / E_q w² = n Z_λ² / Z_{2λ}

and where q is thinner than the data that is next to none. All integrals are sums over a grid, in float64.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.data.toy1d import Mixture1D
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, LogSlider, Slider
from gmcourse.viz.explorer import Explorer

DATA = Mixture1D()
LINE = torch.linspace(-15, 15, 3001, dtype=torch.float64)
CELL = float(LINE[1] - LINE[0])
LOG_DATA = DATA.log_prob(LINE)
VIEW = slice(1150, 1851, 2)  # −3.5 … 3.5
MOST, RUNGS = 2.0, 33
LADDER = torch.linspace(0, MOST, RUNGS, dtype=torch.float64)
DEPTH, APART, DRAWS = 3.0, 1.2, 40
TALL = 2.0  # of densities
TOP = 3.0  # nats of KL that are shown
KINDS = {"log q − log p of the data": "ratio", "a parabola": "parabola", "a dip": "dip", "a hill": "hill"}
BASES = {"one bell": 1, "two bells": 2}


def base(bells: int, mean: float, width: float) -> Mixture1D:
    """N(μ, s²), or two of these in equal parts, at μ ± `APART`."""
    return Mixture1D([1.0], [mean], width) if bells == 1 else Mixture1D([0.5, 0.5], [mean - APART, mean + APART], width)


def energy(kind: str, place: float, width: float, log_q: Tensor) -> Tensor:
    """E on `LINE`, in nats: dip and hill are `DEPTH` nats deep and high, the parabola is (x − c)²/2w²."""
    if kind == "ratio":
        return log_q - LOG_DATA
    parabola = 0.5 * ((LINE - place) / width).square()
    return {"parabola": parabola, "dip": -DEPTH * (-parabola).exp(), "hill": DEPTH * (-parabola).exp()}[kind]


class Tilts(NamedTuple):
    """What a base and an energy make for λ of `LADDER`: log Z, and KL(data ‖ p_λ) in nats; the share of draws that count."""

    log_z: Tensor
    kl: Tensor
    share: Tensor


def log_z(log_q: Tensor, energies: Tensor, tilts: Tensor) -> Tensor:
    """log Z_λ for each λ (k,), (k,)."""
    return (log_q - tilts[:, None] * energies).logsumexp(1) + math.log(CELL)


def measured(log_q: Tensor, energies: Tensor, tilts: Tensor) -> Tilts:
    """log Z, KL and share for each λ (k,)."""
    z, twice, data = log_z(log_q, energies, tilts), log_z(log_q, energies, 2 * tilts), LOG_DATA.exp() * CELL
    at_base, slope = (data * (LOG_DATA - log_q)).sum(), (data * energies).sum()
    return Tilts(z, at_base + tilts * slope + z, (2 * z - twice).exp())


def tilting_line() -> Explorer:
    """A base on the line, times e^{−λE}: density, log Z, how far the data are, and how many draws of the base count."""
    normals = torch.randn(DRAWS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sides = torch.arange(DRAWS) % 2 * 2.0 - 1
    x, data = LINE[VIEW], LOG_DATA[VIEW].exp()

    @lru_cache(maxsize=64)
    def prepared(bells, mean, width, kind, place, reach):
        log_q = base(bells, mean, width).log_prob(LINE)
        energies = energy(kind, place, reach, log_q)
        return log_q, energies, measured(log_q, energies, LADDER)

    def compute(bells, mean, width, kind, tilt, place, reach):
        log_q, energies, along = prepared(bells, mean, width, kind, place, reach)
        here = measured(log_q, energies, torch.tensor([tilt], dtype=torch.float64))
        factor = -tilt * energies[VIEW]
        p = (log_q[VIEW] + factor - here.log_z).exp()
        draws = mean + width * normals + (sides * APART if bells == 2 else 0)
        nearest = ((draws - LINE[0]) / CELL).round().long().clamp(0, len(LINE) - 1)
        weights = (-tilt * energies[nearest]).softmax(0)
        return log_q[VIEW].exp(), (factor - factor.max()).exp(), p, (draws, weights), along, (tilt, here)

    def backdrop(axes):
        for ax in axes[:2]:
            ax.set(xlim=(-3.5, 3.5), xlabel="x", title=" ", yticks=[])
        axes[0].set(ylim=(0, 1.08))
        axes[1].set(ylim=(-0.16, TALL))
        axes[1].axhline(0, color="0.8", linewidth=0.8)
        axes[2].set(xlim=(0, MOST), ylim=(0, TOP), xticks=(0, 0.5, 1, 1.5, 2), xlabel="tilt λ", title=" ")
        for ax, names in zip(axes, WORDS, strict=True):
            for (text, colour), (at, side) in zip(names, ((0, "left"), (0.96, "right")), strict=True):
                ax.text(at, 1.03, text, color=colour, ha=side, fontsize=12, transform=ax.transAxes)

    def draw(axes, drawn):
        q, factor, p, (draws, weights), along, (tilt, here) = drawn
        axes[0].fill_between(x, q / q.max(), color=style.BLUE, alpha=0.25, linewidth=0)
        axes[0].plot(x, q / q.max(), color=style.BLUE)
        axes[0].plot(x, factor, color=style.ORANGE)
        axes[1].plot(x, data, color=style.INK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes[1].fill_between(x, p, color=style.VERMILION, alpha=0.3, linewidth=0)
        axes[1].plot(x, p, color=style.VERMILION)
        below = torch.full_like(draws, -0.08)
        axes[1].scatter(draws, below, s=6 * DRAWS * weights, color=style.BLUE, alpha=0.6, linewidths=0)
        for values, value, colour in ((along.kl, here.kl, style.VERMILION), (along.share, here.share, style.BLUE)):
            axes[2].plot(LADDER, values, color=colour)
            axes[2].plot(tilt, min(float(value), TOP), "o", color=colour, markersize=8, clip_on=False)
        log_z, kl, share = (float(value) for value in here)
        words = f"log Z = {log_z:z.2f}\nKL = {_short(kl)} nats\n{100 * share:.1f} % of draws count".replace("-", "−")
        axes[2].text(0.97, 0.96, words, transform=axes[2].transAxes, ha="right", va="top", fontsize=12, bbox=style.PLATE)

    return Explorer(
        compute,
        draw,
        {
            "bells": Choice(BASES, label="base q"),
            "mean": Slider(-2.0, 2.0, 0.1, 0.0, label="its place μ"),
            "width": LogSlider(0.3, 3.0, 1.0, label="its width s", steps=40),
            "kind": Choice(KINDS, label="energy E"),
            "tilt": Slider(0.0, MOST, 0.05, 1.0, label="tilt λ"),
            "place": Slider(-2.0, 2.0, 0.1, -1.0, label="place of E, c"),
            "reach": LogSlider(0.2, 2.0, 0.5, label="width of E, w", steps=40),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.0, 3.5),
        caption="Left: the base (blue) and what it is multiplied with (orange), each to its own height. Middle: the "
        "product, normalised (orange), and the data (dashed); below, draws of the base, as large as their weights. Right: "
        "KL(data ‖ p) (orange, nats) and the share of the base's draws that count (blue) for all λ. c and w are of the "
        f"parabola (x − c)²/2w² and of dip and hill, {DEPTH:g} nats at c; log q − log p has none.",
    )


def _short(value: float) -> str:
    return f"{max(value, 0):.3f}" if value < 100 else f"{value:.0f}"


WORDS = (
    (("q", style.BLUE), ("$e^{-\\lambda E}$", style.ORANGE)),
    (("$q\\,e^{-\\lambda E}/Z$", style.VERMILION), ("data", style.INK)),
    (("KL(data ‖ p)", style.VERMILION), ("draws that count", style.BLUE)),
)
