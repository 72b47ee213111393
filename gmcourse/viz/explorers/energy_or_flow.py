r"""One energy, read in two ways: as the density of its flow, and as e^{−E/τ}/Z (thesis 5.3, Figs. 5.3 to 5.5).

    the flow    log p_T(x) = log p₀(x(0)) + ∫₀ᵀ tr ∇²E(x(t)) dt,   x′ = −∇E(x), x(T) = x       thesis (5.7)
    the EBM     log q_τ(x) = −E(x)/τ − log Z_τ,   Z_τ = ∫ e^{−E(x)/τ} dx
    the gap     E_data[log p_data(x) − log q(x)] in nats, which is KL(data ‖ q)

What is trained by (5.1) is right as a flow, at the T of training, and need not be right as an EBM at any τ. The field of the
flow does not depend on the time, so the way back from x passes the noise of every T: one solve gives the density at all T.
The gap is a sum over the window, Z over a grid twice as wide.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from gmcourse.compositions.dynamics import GradientFlow
from gmcourse.compositions.short_run import ShortRun
from gmcourse.data.known import KnownDensity
from gmcourse.metrics.grid import Grid
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, LogSlider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.stops import Stops
from gmcourse.viz.plane import CHUNK, Extent, extent_of, grid
from gmcourse.viz.plots import draw_density

RESOLUTION, NODES = 96, 192  # cells of the window, and of what Z is summed over, in each direction
SLICES, SHOWN = 10, 16  # of the time of training; times shown, 0 to 1.5 T
LADDER = torch.logspace(-1, 3, 81, dtype=torch.float64)  # of τ
ORDERS = 7.0  # nats below the highest density of the data, white on the logarithmic scale
TOP = 6.0  # nats of gap that are shown at most
SCALES = {"density": "plain", "log density": "log"}
UNIT = (0, 1, 0, 1)
WORDS = (
    ("flow, up to the time T:\n$\\log p_0(x(0)) + \\int_0^T \\mathrm{tr}\\,\\nabla^2 E\\,dt$", style.BLUE),
    ("EBM at the temperature τ:\n$-E(x)/τ - \\log Z_τ$", style.VERMILION),
    ("gap: $\\mathbb{E}_{data}[\\log p - \\log q]$", style.INK),
)


class Readings(NamedTuple):
    """Of one model, in the window: log p of the data and E, (r, r), log p_T at all T, (16, r, r); E on the wider grid, (m,).

    `cell` is the area of a cell of that; `weights` are the data's, (r, r)."""

    data: Tensor
    energy: Tensor
    flow: Tensor
    nodes: Tensor
    cell: float
    weights: Tensor

    def ebm(self, tau: Tensor) -> Tensor:
        """log q_τ for τ (k,), (k, r, r)."""
        log_z = (-self.nodes / tau[:, None]).logsumexp(1) + math.log(self.cell)
        return -self.energy / tau[:, None, None] - log_z[:, None, None]

    def gap(self, log_q: Tensor) -> Tensor:
        """E_data[log p − log q] in nats, (k, r, r) -> (k,)."""
        return (self.weights * (self.data - log_q)).sum((1, 2))


@torch.no_grad()
def flow_log_probs(model: ShortRun, x: Tensor) -> Tensor:
    """log p_T(x) for T = 0, 0.1, …, 1.5 times that of training, x (n, 2) -> (16, n): one way back from x."""
    flow, z, contribution = model.under(_slice(model)).eval().flow(), x, torch.zeros(len(x))
    found = [model.prior.log_prob(x)]
    for _ in range(SHOWN - 1):
        z, part = flow.encode(z)
        contribution = contribution + part
        found.append(model.prior.log_prob(z) + contribution)
    return torch.stack(found)


def _slice(model: ShortRun) -> GradientFlow:
    """A tenth of the flow, as finely solved as the whole is; steps of descent are read as the flow that they follow."""
    dynamics = model.dynamics
    if isinstance(dynamics, GradientFlow):
        return GradientFlow(dynamics.time / SLICES, **dynamics.settings | {"steps": math.ceil(dynamics.steps / SLICES)})
    return GradientFlow(dynamics.steps * dynamics.step / 2 / SLICES, steps=math.ceil(dynamics.steps / SLICES / 2))


def readings(model: ShortRun, data: KnownDensity, extent: Extent) -> Readings:
    """All that is drawn of a model."""
    x, square = grid(extent, RESOLUTION), (RESOLUTION, RESOLUTION)
    box = [(1.5 * low - 0.5 * high, 1.5 * high - 0.5 * low) for low, high in (extent[:2], extent[2:])]
    wide, energy = Grid(box, NODES), model.as_ebm().values
    with torch.no_grad():
        values, nodes = (energy(at.float()).double() for at in (x, wide.nodes))
    flow = torch.cat([flow_log_probs(model, part) for part in x.split(CHUNK)], 1).double()
    truth, energies = (found.double().reshape(square) for found in (data.log_prob(x), values))
    weights = truth.flatten().softmax(0).reshape(square)
    return Readings(truth, energies, flow.unflatten(1, square), nodes, wide.cell, weights)


def energy_or_flow(
    models: Mapping[str, ShortRun],
    data: KnownDensity | Mapping[str, KnownDensity],
    *,
    extent: Extent | None = None,
) -> Explorer:
    """Read trained energies as flows, of any time, and as EBMs, of any temperature, beside the truth.

    Args:
        models: by name, of the plane and without noise on the way, on the CPU. Each takes some seconds.
        data: what each was trained on, by the same names, or one for all.
        extent: the window, which must hold the data; that of each model's data by default.

    Raises ValueError without a model, for models with noise or not of the plane, and for names without data.

    >>> from gmcourse.data import toy2d
    >>> from gmcourse.ebm import mlp_energy
    >>> model = ShortRun(mlp_energy(2, (8,)), GradientFlow(0.2), event_shape=(2,))
    >>> energy_or_flow({"untrained": model}, toy2d.get("gaussian_grid9")).values
    {'model': 'untrained', 'time': 1.0, 'temperature': 1.0, 'scale': 'plain'}
    """
    laws = _checked(models, data)
    read = {name: readings(model, laws[name], extent_of(laws[name], extent)) for name, model in models.items()}
    flows = {name: found.gap(found.flow).numpy() for name, found in read.items()}
    ebms = {name: torch.cat([found.gap(found.ebm(tau[None])) for tau in LADDER]).numpy() for name, found in read.items()}
    shares = [k / SLICES for k in range(SHOWN)]
    top = min(TOP, 1.1 * max(float(gaps.max()) for gaps in flows.values()))
    top = max(top, 1.3 * max(float(gaps.min()) for gaps in ebms.values()))

    def compute(model, time, temperature, scale):
        found, k = read[model], shares.index(time)
        ebm = found.ebm(torch.tensor([temperature], dtype=torch.float64))
        pictures = [_shaded(log_p, found.data, scale) for log_p in (found.data, found.flow[k], ebm[0])]
        return pictures, (flows[model], k), (ebms[model], temperature, float(found.gap(ebm)))

    def backdrop(axes):
        for ax in axes[:3]:
            ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[], yticks=[], aspect="equal", title=" ")
            ax.add_patch(Rectangle((-0.01, -0.01), 1.02, 1.02, facecolor="none", edgecolor="0.6"))
        axes[0].set_title("the data")
        axes[3].set_axis_off()
        for ax in axes[:4]:
            ax.spines[:].set_visible(False)  # they would be drawn at every move
        for row, (text, colour) in enumerate(WORDS):
            axes[3].text(0.5, 0.82 - 0.36 * row, text, color=colour, ha="center", va="center", fontsize=12)
        axes[4].set(
            xlim=(0, shares[-1]), ylim=(0, top), xlabel="time T of the flow, that of training = 1", ylabel="gap, nats"
        )
        axes[5].set(
            xscale="log", xlim=(float(LADDER[0]), float(LADDER[-1])), ylim=(0, top), xlabel="temperature τ of the EBM"
        )
        for ax in axes[4:]:
            ax.axvline(1, color="0.75", linewidth=1)

    def draw(axes, drawn):
        pictures, (flow_gaps, k), (ebm_gaps, tau, gap) = drawn
        for ax, picture in zip(axes, pictures, strict=False):
            draw_density(ax, picture, UNIT, 1.0)
        best = int(ebm_gaps.argmin())
        here = (
            (axes[4], shares, flow_gaps, style.BLUE, shares[k], flow_gaps[k]),
            (axes[5], LADDER, ebm_gaps, style.VERMILION, tau, gap),
        )
        for ax, at, gaps, colour, place, value in here:
            ax.plot(at, gaps, color=colour)
            ax.plot(place, min(value, top), "o", color=colour, markersize=8, clip_on=False)
        axes[5].plot(LADDER[best], ebm_gaps[best], "D", color=style.INK, markersize=6)
        found = f"flow: gap {flow_gaps[k]:.2f} nats", f"EBM: gap {gap:.2f} nats, at best {ebm_gaps[best]:.2f}"
        for ax, words in zip(axes[1:], found, strict=False):
            ax.text(0.5, 1.03, words, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "model": Choice(tuple(models), label="model"),
            "time": Stops({f"{s:g}" + (", as trained" if s == 1 else ""): s for s in shares}, 1.0, "time T of the flow"),
            "temperature": LogSlider(float(LADDER[0]), float(LADDER[-1]), 1.0, "temperature τ", len(LADDER) - 1),
            "scale": Choice(SCALES, label="shown", buttons=True),
        },
        backdrop=backdrop,
        panels=(2, 3),
        size=(10.0, 5.6),
        caption="Above: the data, the flow of the energy after the time T, which is N(0, I) at T = 0, and the EBM of the "
        "same energy, on one scale. Below: the gap E_data[log p − log q], in nats, of the flow at all T and of the EBM at "
        "all τ, ◆ at its best. The upright lines are what training takes for granted.",
    )


def _shaded(log_q: Tensor, log_p: Tensor, scale: str) -> Tensor:
    """log q as shades in [0, 1]: 1 is the data's highest density."""
    below = log_q - log_p.max()
    return below.exp().clamp(max=1) if scale == "plain" else (1 + below / ORDERS).clamp(0, 1)


def _checked(models: Mapping[str, ShortRun], data) -> dict[str, KnownDensity]:
    """The law of each model's data."""
    if not models:
        raise ValueError("models must hold at least one model; got none")
    for name, model in models.items():
        if not isinstance(model, ShortRun) or tuple(model.event_shape) != (2,):
            raise ValueError(f"models must be ShortRuns of the plane; got {type(model).__name__} for {name!r}")
        if model.dynamics.noisy:
            raise ValueError(f"models must have no noise on the way, for with it they have no density; {name!r} has")
    laws = dict(data) if isinstance(data, Mapping) else dict.fromkeys(models, data)
    if missing := [name for name in models if name not in laws]:
        raise ValueError(f"data must name the law of every model; got none for {', '.join(map(repr, missing))}")
    return laws
