r"""One energy, shorter and longer walks down it, with less and more noise on the way: what K and σ do (thesis 5.1).

    x_{k+1} = x_k − (η/2) ∇E(x_k) + σ u_k,   x_0 = z ~ N(0, I)                                 thesis (5.3), where σ = √η

K steps last the time T = Kη/2, and small steps for ever have e^{−E/τ}/Z as their law, τ = σ²/η. Training with K steps makes
the place right where K steps end: at fewer the data are not there yet, at more the points run on, into the minima of E and,
with noise, from one into another. Where the walk is short, z decides where it ends: points keep the colour of their z.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gmcourse.compositions.dynamics import Langevin
from gmcourse.compositions.short_run import ShortRun
from gmcourse.data.known import KnownDensity
from gmcourse.metrics.transport import wasserstein
from gmcourse.model import check_count, check_positive
from gmcourse.viz import style
from gmcourse.viz.controls import Choice
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.carried import hues
from gmcourse.viz.explorers.stops import Stops
from gmcourse.viz.plane import Extent, extent_of, on_grid
from gmcourse.viz.plots import draw_density

RESOLUTION = 120
FLOW_STEPS = 40  # of descent, for a model that is trained as a flow
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # σ/√η
LONGEST, PER_OCTAVE = 10, 3  # of K: the last is so many times that of training; so many stops for a factor of two
UNDER = {"energy E": "energy", "law of long walks": "law", "the data": "data"}


class Ways(NamedTuple):
    """Ways from one z, by noise and K: points (levels, stops, n, 2), W₂ to data (levels, stops), NaN if some ran away."""

    points: np.ndarray
    apart: np.ndarray


def trained(model: ShortRun, step: float | None) -> tuple[int, float, float]:
    """K, η and σ/√η of the training; a flow is K = `FLOW_STEPS` steps of descent, or as many as `step` makes of its time."""
    dynamics = model.dynamics
    if isinstance(dynamics, Langevin):
        eta = dynamics.step if step is None else check_positive(step, "step")
        return max(1, round(dynamics.steps * dynamics.step / eta)), eta, dynamics.noise / math.sqrt(dynamics.step)
    eta = 2 * dynamics.time / FLOW_STEPS if step is None else check_positive(step, "step")
    return max(1, round(2 * dynamics.time / eta)), eta, 0.0


def stops(steps: int) -> list[int]:
    """0, and K from 1 to `LONGEST` times `steps` by equal ratios, `steps` among them."""
    low, high = (math.floor(PER_OCTAVE * math.log2(ratio)) for ratio in (steps, LONGEST))
    ratios = [2 ** (k / PER_OCTAVE) for k in range(-low, high + 1)]
    return sorted({0, 1, steps, *(int(float(f"{steps * ratio:.2g}")) for ratio in ratios), LONGEST * steps})


@torch.no_grad()
def ways(model: ShortRun, step: float, levels: Sequence[float], lengths: Sequence[int], z: Tensor, seed: int) -> np.ndarray:
    """Points (levels, stops, n, 2) after `lengths` steps from z (n, 2), with one u for all `levels` of σ/√η."""
    most = lengths[-1]
    u = torch.randn(len(z), 2 * most, generator=torch.Generator().manual_seed(seed))
    found = []
    for level in levels:
        walker = model.under(Langevin(most, step, noise=level * math.sqrt(step)))
        path = walker.path(torch.cat((z, u), 1) if level else z)
        found.append(path[list(lengths)].float().cpu())
    return torch.stack(found).numpy()


def apart(points: np.ndarray, x: Tensor) -> np.ndarray:
    """W₂ between the points (levels, stops, n, 2) and data x (n, 2), (levels, stops); NaN where points ran away."""
    sets = torch.from_numpy(points)
    found = [[wasserstein(at, x) if at.isfinite().all() else math.nan for at in level] for level in sets]
    return np.array(found)


def short_run_steps(
    model: ShortRun,
    data: KnownDensity,
    *,
    step: float | None = None,
    chains: int = 300,
    extent: Extent | None = None,
    seed: int = 0,
) -> Explorer:
    """Walk down a trained energy of the plane, shorter or longer than it was trained for, with less or more noise.

    Args:
        model: trained, on the CPU; only its energy and how long its way is count.
        data: the law it was trained on.
        step: η; the model's own by default, and for a gradient flow the one that makes 40 steps of its time.
        chains: how many walk.
        extent: the window; by default the data's and a fifth more on every side.
        seed: of z, u and the data.

    Raises ValueError for a model that is none of the plane.

    >>> from gmcourse.data import toy2d
    >>> from gmcourse.ebm import mlp_energy
    >>> model = ShortRun(mlp_energy(2), Langevin(10, 0.1, noise=0), event_shape=(2,))
    >>> short_run_steps(model, toy2d.get("gaussian_grid9"), chains=50).values
    {'steps': 10, 'noise': 0.0, 'under': 'energy'}
    """
    if not isinstance(model, ShortRun) or tuple(model.event_shape) != (2,):
        raise ValueError(f"model must be a ShortRun of the plane; got {_named(model)}")
    extent, n = extent_of(data, extent) if extent else _wider(extent_of(data)), check_count(chains, "chains")
    usual, eta, share = trained(model, step)
    of_k = "as trained" if isinstance(model.dynamics, Langevin) else "T as trained"  # a flow has its time and no K
    lengths, levels = stops(usual), sorted({*SHARES, round(share, 3)})
    generator = torch.Generator().manual_seed(seed)
    z, x, again = torch.randn(n, 2, generator=generator), *(data.sample((n,), generator=generator) for _ in range(2))
    points = ways(model, eta, levels, lengths, z, seed + 1)
    walked, floor = Ways(points, apart(points, x)), wasserstein(x, again)
    energy = on_grid(model.as_ebm().values, extent, RESOLUTION)
    fields = {"energy": _landscape(energy), "data": 0.5 * _relative(on_grid(data.log_prob, extent, RESOLUTION))}
    colours, at = hues(z), np.arange(len(lengths))

    def compute(steps, noise, under):
        level, k = levels.index(noise), lengths.index(steps)
        field = _relative(-energy / max(noise, 0.02) ** 2) if under == "law" else fields[under]
        return field, walked.points[level, k], walked.apart[level], k, noise

    def backdrop(axes):
        for ax, title in zip(axes[:2], ("z, where all begin", " "), strict=True):
            ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="$x_1$", title=title)
        axes[0].set_ylabel("$x_2$")
        axes[0].scatter(*z.T, s=14, c=colours, linewidths=0)
        high = 1.1 * float(np.nanmax(np.append(walked.apart, floor)))
        axes[2].set(xlim=(-0.4, at[-1] + 0.4), ylim=(0, high), xlabel="steps K", ylabel="$W_2$ to data", title=" ")
        shown = _ticks(lengths, usual)
        axes[2].set_xticks(shown, [str(lengths[k]) for k in shown])
        axes[2].axvline(lengths.index(usual), color="0.75", linewidth=1)
        axes[2].axhline(floor, color="0.5", linestyle=(0, (4, 3)), linewidth=1.2)
        axes[2].plot(at, walked.apart.T, color="0.85", linewidth=1)

    def draw(axes, drawn):
        field, now, distances, k, noise = drawn
        draw_density(axes[1], field, extent, 1.0)
        axes[1].scatter(*now.T, s=14, c=colours, linewidths=0)
        axes[2].plot(at, distances, color=style.VERMILION)
        axes[2].plot(k, distances[k], "o", color=style.VERMILION, markersize=8, clip_on=False)
        ran = "" if math.isfinite(distances[k]) else ", some ran away"
        words = f"K = {lengths[k]},  T = {lengths[k] * eta / 2:.3g}{ran}", f"τ = {noise**2:.2g},  $W_2$ = {distances[k]:.2f}"
        for ax, text in zip(axes[1:], words, strict=True):
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "steps": Stops({_marked(str(k), k == usual, of_k): k for k in lengths}, usual, "steps K"),
            "noise": Stops(
                {_marked(f"{s:g}", s == round(share, 3), "as trained"): s for s in levels}, round(share, 3), "noise σ/√η"
            ),
            "under": Choice(UNDER, label="beneath"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.0, 3.8),
        caption=f"Left: the noise {n} walks begin at. Middle: where they are after K steps of η = {eta:.3g}, each in the "
        "colour of its beginning, over the energy (dark: low). Right: how far they are from data, with this noise (orange) "
        f"and the others (grey); the upright line is the K of training, dashed is how far {n} data are from {n} others. "
        "T = Kη/2, τ = σ²/η.",
    )


def _wider(extent: Extent) -> Extent:
    """The extent and a fifth more on every side, for points that run on."""
    (left, right), (low, high) = extent[:2], extent[2:]
    across, up = 0.2 * (right - left), 0.2 * (high - low)
    return (left - across, right + across, low - up, high + up)


def _landscape(energy: Tensor) -> Tensor:
    """E as shades in [0, 0.6], the lower the darker; what lies above the middle of the window's values is white."""
    low, high = energy.min(), energy.flatten().median()
    return 0.6 * ((high - energy) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def _relative(log_p: Tensor) -> Tensor:
    """e^{log p} over its highest value, and no darker than points can be seen on."""
    return 0.6 * (log_p - log_p.max()).exp()


def _ticks(lengths: Sequence[int], usual: int) -> list[int]:
    """Which stops of K get a number: the first, that of training, the last, and some between, well apart."""
    chosen = {0, lengths.index(usual), len(lengths) - 1}
    for k in range(len(lengths)):
        if all(abs(k - other) > 3 for other in chosen):
            chosen.add(k)
    return sorted(chosen)


def _marked(name: str, mark: bool, words: str) -> str:
    return f"{name}, {words}" if mark else name


def _named(model) -> str:
    shape = tuple(getattr(model, "event_shape", ()))
    return f"{type(model).__name__} of shape {shape}" if shape else type(model).__name__
