r"""Quality against evaluations: denoising diffusion GANs of few steps beside a diffusion model's samplers (thesis Fig. 6.6).

Samples are counted by the modes of the data, p_k of them within 4σ of mode k (and nearest to it), p_0 = 1 − Σ p_k nowhere:

    misplaced = ½ (Σ_k |p_k − w_k q| + |p_0 − (1 − q)|),      q = P(χ²_2 ≤ 16) = 1 − e⁻⁸

the total variation between these counts and the data's own: the share of samples that would have to move. Smeared modes,
missing ones and wrong weights all count in it. n draws from the data themselves have, as each p_k is binomial, about
½ Σ √(2 w (1 − w)/πn), the sum over modes: what is as low as that cannot be told from data with so many samples.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.metrics.modes import WIDTHS, mode_report, nearest_mode
from gmcourse.viz import style
from gmcourse.viz.controls import Choice
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.stops import Stops
from gmcourse.viz.plane import extent_of

INSIDE = 1 - math.exp(-(WIDTHS**2) / 2)
SHOWN = 1500  # points of a picture
COLOURS = (style.VERMILION, style.BLUE)


class Cloud(NamedTuple):
    """Samples to be shown, those within a mode (m, 2) and the others; how good they are in words; the misplaced share."""

    within: np.ndarray
    beside: np.ndarray
    words: str
    misplaced: float


def misplaced(x: Tensor, data: Distribution) -> float:
    """The total variation between samples x (n, 2) and a mixture in the plane, counted by modes within 4σ, and elsewhere."""
    near, widths = nearest_mode(x, data)
    weights = data.weights * INSIDE
    shares = near[widths <= WIDTHS].bincount(minlength=len(weights)) / len(x)
    return 0.5 * float((shares - weights).abs().sum() + abs(float(shares.sum()) - INSIDE))


def by_chance(n: int, data: Distribution) -> float:
    """About what `misplaced` comes to for n draws from the data."""
    w = data.weights
    return 0.5 * float((2 * w * (1 - w) / (math.pi * n)).sqrt().sum())


def few_steps(
    models: Mapping[int, DenoisingDiffusionGAN],
    diffusion_samples: Mapping[tuple[str, int], Tensor],
    data: Distribution,
    *,
    seed: int = 0,
) -> Explorer:
    """Samples of denoising diffusion GANs of few steps beside a diffusion model's, and how many are misplaced.

    Args:
        models: by their number of evaluations, of the plane; as many samples are drawn of each as there are of the others.
        diffusion_samples: by (name of the sampler, evaluations), (n, 2) each, n the same; all samplers at the same
            evaluations.
        data: a mixture of the plane, with `weights`, `means` and `sigmas`.
        seed: of the GANs' samples.

    Raises ValueError for no models or samples, and for samplers of different evaluations.
    """
    prices, names, n = _check(models, diffusion_samples)
    extent, chance = extent_of(data), by_chance(n, data)
    drawn = {T: model.sample(n, generator=_seeded(model, seed)).float().cpu() for T, model in sorted(models.items())}
    gans = {T: _cloud(x, data, extent) for T, x in drawn.items()}
    others = {key: _cloud(x.detach().float().cpu(), data, extent) for key, x in diffusion_samples.items()}
    curve = {name: [others[name, price].misplaced for price in prices] for name in names}
    steps = list(gans)
    usual = min(steps, key=lambda T: abs(math.log2(T / 4)))

    def compute(T, sampler, price):
        enough = [k for k in prices if others[sampler, k].misplaced <= max(gans[T].misplaced, chance)]
        told = f"{enough[0]}" if enough else f"more than {prices[-1]}"
        return gans[T], others[sampler, price], (T, sampler, price), f"{sampler} needs {told} for as few"

    def backdrop(axes):
        for ax in axes[:2]:
            ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="$x_1$", title=" \n ")
            ax.scatter(*data.means.T, s=150, facecolors="none", edgecolors="0.85", linewidths=1)
        axes[0].set_ylabel("$x_2$")
        every = [cloud.misplaced for cloud in (*gans.values(), *others.values())]
        ax, ends = axes[2], sorted({*steps, *prices})
        ax.set(xscale="log", yscale="log", xlim=(0.8 * ends[0], 1.25 * ends[-1]), box_aspect=1, title=" \n ")
        ax.set(ylim=(0.75 * min(*every, chance), 1.15), xlabel="evaluations of the net", ylabel="misplaced samples")
        ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if tick > 0.75 * min(*every, chance)]
        ax.set_yticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks])
        ax.set_xticks(ends[:: math.ceil(len(ends) / 9)], ends[:: math.ceil(len(ends) / 9)])
        ax.minorticks_off()
        ax.axhline(chance, color="0.5", linestyle=(0, (4, 3)), linewidth=1.2)
        ax.text(ends[0], 0.96 * chance, "data", color="0.4", va="top", fontsize=10)
        for values in curve.values():
            ax.plot(prices, values, color="0.8", linewidth=1.2)
        ax.plot(steps, [gans[T].misplaced for T in steps], "o-", color=style.VERMILION, markersize=4)

    def draw(axes, told):
        one, other, (T, sampler, price), words = told
        names = f"DDGAN, T = {T}", f"{sampler}, {price} evaluation{'s' * (price > 1)}"
        for ax, cloud, colour, name in zip(axes, (one, other), COLOURS, names, strict=False):
            ax.plot(*cloud.beside.T, ".", color=style.INK, markersize=2.5)
            ax.plot(*cloud.within.T, ".", color=colour, markersize=2.5)
            ax.text(0.5, 1.12, name, transform=ax.transAxes, ha="center", fontsize=13, color=colour)
            ax.text(0.5, 1.03, cloud.words, transform=ax.transAxes, ha="center", fontsize=11)
        ax = axes[2]
        ax.plot(prices, curve[sampler], "o-", color=style.BLUE, markersize=4)
        ax.plot((T, prices[-1]), (one.misplaced, one.misplaced), color=style.VERMILION, linewidth=1, linestyle=(0, (2, 2)))
        for at, cloud, colour in ((T, one, style.VERMILION), (price, other, style.BLUE)):
            ax.plot(at, cloud.misplaced, "o", color=colour, markersize=12, markeredgecolor="white", markeredgewidth=1.5)
        ax.text(0.5, 1.03, words, transform=ax.transAxes, ha="center", fontsize=11)

    return Explorer(
        compute,
        draw,
        {
            "T": Choice(steps, usual, "steps T of the GAN", buttons=True),
            "sampler": Choice(names, label="diffusion sampler"),
            "price": Stops({str(k): k for k in prices}, prices[len(prices) // 2], "its evaluations"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.4, 4.5),
        caption="Samples of a denoising diffusion GAN (orange) and of a diffusion model (blue); dark, those more than four "
        "widths from every mode. Right: the share of samples that would have to move, to another mode or to any, for all "
        f"modes to have their weights (grey: the other samplers); dashed, what {n} draws from the data themselves have.",
    )


def _check(models: Mapping, clouds: Mapping) -> tuple[list[int], list[str], int]:
    """The evaluations, the samplers' names, and the number of samples."""
    if not models:
        raise ValueError("models must hold at least one model; got none")
    for steps, model in models.items():
        if not isinstance(model, DenoisingDiffusionGAN) or model.nfe != steps or tuple(model.event_shape) != (2,):
            told = f"{type(model).__name__} of shape {tuple(getattr(model, 'event_shape', ()))}"
            raise ValueError(f"models must be DenoisingDiffusionGANs of the plane by their T; got {told} for {steps}")
    names = list(dict.fromkeys(name for name, _ in clouds))
    prices = {name: sorted(price for known, price in clouds if known == name) for name in names}
    if not names or len(prices[names[0]]) < 2 or len({tuple(found) for found in prices.values()}) > 1:
        raise ValueError(f"diffusion_samples must have each sampler at the same evaluations, two or more; got {prices}")
    shapes = {tuple(x.shape) for x in clouds.values()}
    if len(shapes) > 1 or len(shape := next(iter(shapes))) != 2 or shape[1] != 2:
        raise ValueError(f"diffusion_samples must all have one shape (n, 2); got {sorted(shapes)}")
    return prices[names[0]], names, shape[0]


def _seeded(model: DenoisingDiffusionGAN, seed: int) -> torch.Generator:
    return torch.Generator(model.origin.device).manual_seed(seed)


def _cloud(x: Tensor, data: Distribution, extent) -> Cloud:
    report, shown = mode_report(x, data), x[:SHOWN]
    inside = nearest_mode(shown, data)[1] <= WIDTHS
    words = f"{report.covered} of {report.modes} modes, {100 * report.within:.0f} % within 4σ"
    return Cloud(shown[inside].numpy(), shown[~inside].numpy(), words, misplaced(x, data))
