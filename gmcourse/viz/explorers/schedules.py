r"""A noise schedule, and what it does to samples when nothing else is wrong (thesis 2.4.1, (2.62), (6.15)).

    ᾱ_t = Π_{i≤t} (1 − β_i),      log-SNR = log ᾱ_t/(1 − ᾱ_t)

The data are a mixture on the line, so the noise ε(x_t, t) is known exactly. What can still go wrong:

    too few steps       over a large step the true q(x_s | x_t) has several humps, ancestral sampling has one Gaussian
    steps misplaced     one large step where modes are decided costs more than many where nothing happens
    signal left over    sampling starts from N(0, 1), and x_T is that only where ᾱ_T is nearly 0

The distance to the data is W₁ = ∫ |F⁻¹ − F̂⁻¹|. All starts together are the quantiles of N(0, 1): without noise on the way
(DDIM) chance has no part in it. With noise it has, and so much that W₁ of as many draws from the data themselves is about
√(2/(πn)) ∫ √(F (1 − F)). A step is one product with (1, x, x²), so a thousand of them fit under a slider.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.schedule import LARGEST, DiscreteDiffusion, bridge, cosine_betas, sigmoid_betas, vp_betas
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, LogSlider, Switch
from gmcourse.viz.explorer import Explorer

LAW = Mixture1D()
PARTICLES, MOST = 1000, 1000  # MOST steps
START = 0.1  # β by unit of time where it rises from
WINDOW = (-2.4, 2.6)
BINS = np.linspace(*WINDOW, 76)
KINDS = ("linear", "(6.15)", "cosine", "sigmoid")
END, OFFSET, TEMPERATURE = 20.0, 0.008, 1.0


def betas(kind: str, steps: int, end: float, offset: float, temperature: float) -> torch.Tensor:
    """β (T,), at most 0.999; `end` is that of linear and (6.15) at t = T, by unit of time t/T."""
    if kind == "linear":
        return torch.linspace(START / steps, end / steps, steps, dtype=torch.float64).clamp(max=LARGEST)
    if kind == "(6.15)":
        return vp_betas(steps, START, end)
    return cosine_betas(steps, offset) if kind == "cosine" else sigmoid_betas(steps, temperature=temperature)


class Back(NamedTuple):
    """x_s = Σ_k r_k(x_t) (shift_k + slope_k x_t) + width z, with r = softmax(logits), for t from T − 1 to 0."""

    logits: np.ndarray  # (T, k, 3), to multiply (1, x, x²)
    means: np.ndarray  # (T, k, 2), to multiply (1, x)
    widths: np.ndarray  # (T,)


def way_back(chain: DiscreteDiffusion, ddim: bool) -> Back:
    """The sampler's steps where the data are `LAW`: x̂_0 = E[x_0 | x_t] in ancestral sampling (2.62), or DDIM with η = 0."""
    now = chain.alpha_bars.numpy()
    then = np.append(1.0, now[:-1])
    of_x0, of_x, variance = bridge(now, then)
    if ddim:
        of_x = np.sqrt((1 - then) / (1 - now))
        of_x0, variance = np.sqrt(then) - of_x * np.sqrt(now), 0 * now
    alpha, m, s2 = np.sqrt(now)[:, None], LAW.means.numpy(), LAW.sigmas.square().numpy()
    wide = now[:, None] * s2 + 1 - now[:, None]  # variance of a component at t
    gain = alpha * s2 / wide
    shift, slope = of_x0[:, None] * (m - gain * alpha * m), of_x0[:, None] * gain + of_x[:, None]
    height = np.log(LAW.weights.numpy()) - 0.5 * np.log(wide) - 0.5 * (alpha * m) ** 2 / wide
    logits = np.stack((height, alpha * m / wide, -0.5 / wide), -1)
    parts = logits, np.stack((shift, slope), -1), np.sqrt(variance)
    return Back(*(part[::-1].astype(np.float32) for part in parts))


def sample(back: Back, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """x_0 (n,) from x_T (n,); noise (at least T, n), whose last rows belong to the last steps."""
    powers = np.stack((np.ones_like(x), x, x * x))
    for logits, means, width, z in zip(*back, noise[len(noise) - len(back.widths) :], strict=True):
        share = logits @ powers
        share -= share.max(0)
        np.exp(share, out=share)
        x = (share * (means @ powers[:2])).sum(0) / share.sum(0) + width * z
        powers[1], powers[2] = x, x * x
    return x


def quantiles(n: int) -> np.ndarray:
    """F⁻¹((i + ½)/n) of `LAW`, (n,)."""
    x = torch.linspace(-4, 4, 20001, dtype=torch.float64)
    return np.interp((np.arange(n) + 0.5) / n, LAW.cdf(x), x)


def by_chance(n: int) -> float:
    """About the mean of W₁ between `LAW` and n draws from it."""
    x = torch.linspace(-4, 4, 20001, dtype=torch.float64)
    f = LAW.cdf(x)
    return math.sqrt(2 / (math.pi * n)) * float(torch.trapezoid((f * (1 - f)).clamp(min=0).sqrt(), x))


def schedule_designer() -> Explorer:
    """The curves of a schedule with T steps, and samples of exact scores that its chain makes."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(MOST, PARTICLES, generator=generator).numpy()
    start = torch.special.ndtri((torch.randperm(PARTICLES, generator=generator) + 0.5) / PARTICLES).numpy()
    wanted, chance = quantiles(PARTICLES), by_chance(PARTICLES)
    x = torch.linspace(*WINDOW, 301)
    truth = LAW.log_prob(x).exp().numpy()
    usual = [betas(kind, MOST, END, OFFSET, TEMPERATURE) for kind in KINDS]

    @lru_cache(maxsize=64)
    def drawn(ddim, *how):
        chain = DiscreteDiffusion(betas(*how))
        found = np.sort(sample(way_back(chain, ddim), start, noise))
        heights = np.histogram(found, BINS)[0] / (PARTICLES * (BINS[1] - BINS[0]))
        return chain, heights, np.abs(found - wanted).mean()

    def compute(kind, steps, end, offset, temperature, ddim):
        chain, counts, distance = drawn(ddim, kind, round(steps), end, offset, temperature)
        words = f"T = {len(chain)}, ᾱ_T = {chain.alpha_bars[-1]:.1e}", f"W₁ {distance:.3f}" + (
            " (no chance in it)" if ddim else f" (by chance {chance:.3f})"
        )
        return _curves(chain.betas), counts, words

    def backdrop(axes):
        for ax, title in zip(axes, (" ", "log-SNR", "β by unit of time, T β", " "), strict=True):
            ax.set(xlim=(0, 1), xlabel="t / T", title=title)
        axes[0].set(ylim=(0, 1.02), ylabel="ᾱ")
        axes[1].set(ylim=(-12, 10))
        axes[2].set(ylim=(0.05, 1500), yscale="log")
        axes[3].set(xlim=WINDOW, ylim=(0, 1.75), yticks=[], xlabel="x")
        axes[1].axhline(0, color="0.8", linewidth=0.8)
        for b in usual:
            for ax, (u, y) in zip(axes[:3], _curves(b), strict=True):
                ax.plot(u, y, color="0.8", linewidth=1.0)

    def draw(axes, shown):
        curves, counts, words = shown
        for ax, (u, y) in zip(axes[:3], curves, strict=True):
            ax.plot(u, y, "-o" if len(u) < 60 else "-", color=style.BLUE, markersize=3)
        axes[3].stairs(counts, BINS, fill=True, color=style.VERMILION, alpha=0.55)
        axes[3].plot(x, truth, color=style.INK, linewidth=1.4)
        for ax, text in zip((axes[0], axes[3]), words, strict=True):
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "kind": Choice(KINDS, label="schedule"),
            "steps": LogSlider(4, MOST, 50, label="steps T"),
            "end": LogSlider(1.0, 40.0, END, label="β end (linear, 6.15)"),
            "offset": LogSlider(0.001, 0.1, OFFSET, label="offset (cosine)"),
            "temperature": LogSlider(0.3, 3.0, TEMPERATURE, label="temperature (sigmoid)"),
            "ddim": Switch(False, label="DDIM"),
        },
        backdrop=backdrop,
        panels=(2, 2),
        size=(8.0, 5.4),
        caption="Blue: the schedule; grey: all four with a thousand steps and their usual numbers. β end is what T β rises "
        "to; β is cut at 0.999, which (6.15) does not need. Below, right: the data (black) and a thousand samples (orange), "
        "walked from N(0, 1) through all T steps with the exact noise, not a net; above, their distance, and that of a "
        "thousand true draws. ᾱ_T is the signal that is left where sampling begins as if there were none.",
    )


def _curves(b: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """(t/T, value) of ᾱ, log-SNR and T β, at T times."""
    bars = torch.log1p(-b).cumsum(0).exp()
    u = (torch.arange(len(b)) + 1) / len(b)
    return [(u.numpy(), v.numpy()) for v in (bars, torch.logit(bars), len(b) * b)]
