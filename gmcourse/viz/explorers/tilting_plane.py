r"""A base times e^{−λE} in the plane: what the tilt makes of the density, and how chains get there (thesis 4.3).

    p_λ(x) = q(x) e^{−λE(x)} / Z_λ,    Z_λ = E_q[e^{−λE}]                                      thesis (4.4)

λ = 0 is the base, λ = 1 the model, and beyond the energy is believed more than it was trained to be. In the plane Z_λ is a
sum over the window, and with it the gap KL(data ‖ p_λ) in nats. `tilt_chains` walks in the noise of the base, which takes
no log q, or in x. Both keep p_λ if their step is short enough, and both then stay in the basin in which they began: the base
has to have spread them. A step too long for the curvature of U keeps another law, in the noise perhaps one at the rim of the
base, where it is flat; in x the chains run away. Stable is η < 4/L, in x with 1/L the variance of a mode.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy
from gmcourse.model import GenerativeModel, Likelihood
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, LogSlider, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.tilt_chains import CHAINS, LENGTH, STEPS, TILTS, Settings, Slopes, in_data, in_noise, walked
from gmcourse.viz.plane import Extent, extent_of, grid, on_grid
from gmcourse.viz.plots import draw_density

RESOLUTION = 96
NEAR = 4.0  # σ of a mode
SPACES = {"in ε": "noise", "in x, from draws of q": "data", "in x, from noise": "far"}
SHARES = (("near a mode", style.BLUE, (0.0, 1.03)), ("moved", style.VERMILION, (0.68, 1.03)))
CIRCLE = np.stack((np.cos(np.linspace(0, 2 * np.pi, 30)), np.sin(np.linspace(0, 2 * np.pi, 30))), 1)


class Modes(NamedTuple):
    """Centres (k, 2) and width of what the data are made of."""

    centres: Tensor
    width: float

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which mode each of x (…, 2) is nearest to, and whether it is within `NEAR` widths of it; far away, not."""
        distance, mode = torch.cdist(x.nan_to_num(1e6, 1e6, -1e6), self.centres).min(-1)
        return mode, distance <= NEAR * self.width


class Tilt(NamedTuple):
    """p_λ on the window, (r, r); log Z_λ and KL(data ‖ p_λ) in nats; the share of p_λ that is near a mode."""

    density: Tensor
    log_z: float
    gap: float
    near: float


class Walk(NamedTuple):
    """Chains of one space by λ and η: points (7, 7, steps + 1, n, 2); shares near a mode, and moved, (7, 7, steps + 1)."""

    points: np.ndarray
    near: np.ndarray
    moved: np.ndarray


def tilted(tilt: float, log_q: Tensor, energies: Tensor, log_data: Tensor, near: Tensor, cell: float) -> Tilt:
    """p_λ from log q, E, the data's log p, and what is near a mode, at cells (r, r) of a window that holds both laws."""
    log_f = (log_q - tilt * energies).double()
    log_z = float(log_f.flatten().logsumexp(0)) + math.log(cell)
    log_p, data = log_f - log_z, log_data.double().exp() * cell
    gap = float((data * (log_data - log_p)).sum())
    return Tilt(log_p.exp(), log_z, gap, float(log_p.exp()[near].sum()) * cell)


def arranged(path: Tensor, modes: Modes) -> Walk:
    """A path (steps + 1, m, 2) of all settings, by λ and η, with its shares."""
    settings = (len(TILTS), len(STEPS), CHAINS)
    mode, near = modes.nearest(path)
    shares = [s.unflatten(1, settings).float().mean(-1).movedim(0, 2).numpy() for s in (near, mode != mode[0])]
    return Walk(path.unflatten(1, settings).movedim(0, 2).numpy(), *shares)


@torch.no_grad()
def walks(base: GenerativeModel, energy: Energy, slopes: Slopes, modes: Modes, seed: int) -> dict[str, Walk]:
    """The chains of each of `SPACES`; those in ε and those in x begin at the same draws of the base."""
    generator = torch.Generator().manual_seed(seed)
    tilt, step = Settings.all()
    noise, far = base.noise(CHAINS, generator=generator), torch.randn(CHAINS, 2, generator=generator)
    starts = {"noise": noise, "data": base.push(noise), "far": modes.centres.mean(0) + modes.centres.std(0) * far}
    in_x = in_data(slopes, tilt)
    looks = {"noise": in_noise(base, energy, tilt), "data": in_x, "far": in_x}
    return {name: arranged(walked(looks[name], start, step, generator), modes) for name, start in starts.items()}


def tilting_plane(
    base: GenerativeModel,
    energy: Energy,
    data: GaussianMixture,
    *,
    log_q: Callable[[Tensor], Tensor] | None = None,
    extent: Extent | None = None,
    seed: int = 0,
) -> Explorer:
    """Tilt a base of the plane by a trained energy, more or less, and let chains walk there, in the noise or in x.

    Args:
        base: a transport of 2-D data, with `noise` and `push`, on the CPU.
        energy: x (n, 2) -> (n,), in nats, on the CPU.
        data: the law both were trained on; its modes are what a chain is to find.
        log_q: the base's log-density, x (n, 2) -> (n,); `base.log_prob` by default. For a VAE, whose own is a random bound,
            `LatentGrid(vae, resolution=80, extent=4.0).log_prob`.
        extent: the window, over which p_λ is normalised; the data's by default.
        seed: of all chains.

    Raises ValueError for a base that is no transport or without a density, and for data that are no mixture in the plane.

    >>> from gmcourse.data import toy2d
    >>> from gmcourse.model import StandardNormal
    >>> tilting_plane(StandardNormal(2), lambda x: x.square().sum(1), toy2d.get("gaussians8")).values["tilt"]
    1.0
    """
    for needed in ("noise", "push"):
        if not hasattr(base, needed):
            raise ValueError(f"base must be a transport, with noise and push; {type(base).__name__} has no {needed}")
    if not isinstance(data, GaussianMixture) or tuple(data.event_shape) != (2,):
        raise ValueError(f"data must be a Gaussian mixture in the plane; got {type(data).__name__}")
    if log_q is None and base.likelihood is not Likelihood.EXACT:
        raise ValueError(f"log_q must be given: the likelihood of {type(base).__name__} is {base.likelihood.value}")
    extent = extent_of(data, extent)
    modes = Modes(data.modes, float(data.sigmas.max()))
    cell = (extent[1] - extent[0]) * (extent[3] - extent[2]) / RESOLUTION**2
    with held_still(base), held_still(energy):
        fields = [on_grid(f, extent, RESOLUTION) for f in (base.log_prob if log_q is None else log_q, energy, data.log_prob)]
        near = modes.nearest(grid(extent, RESOLUTION))[1].reshape(RESOLUTION, -1)
        laws = [tilted(tilt, *fields, near, cell) for tilt in TILTS.tolist()]
        paths = walks(base, energy, Slopes(torch.stack(fields[:2]), extent), modes, seed)
    rings = modes.centres.numpy()[:, None] + NEAR * modes.width * CIRCLE

    def compute(space, tilt, step, length):
        row = int((TILTS - tilt).abs().argmin()), int((STEPS.log() - math.log(step)).abs().argmin())
        walk = paths[space]
        start, end = walk.points[row][[0, length]]
        mode, close = modes.nearest(torch.from_numpy(end))
        return laws[row[0]], (start, end), (walk.near[row], walk.moved[row]), length, len(mode[close].unique())

    def backdrop(axes):
        for ax in axes[:2]:
            ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="$x_1$", title=" ")
        axes[0].set_ylabel("$x_2$")
        axes[2].set(xlim=(0, LENGTH), ylim=(0, 1.02), xlabel="step of the chains", ylabel="share of the chains", title=" ")

    def draw(axes, drawn):
        law, (start, end), shares, length, met = drawn
        top = float(law.density.max())
        for ax, most in zip(axes[:2], (top, 2.5 * top), strict=True):
            draw_density(ax, law.density, extent, most)
        axes[0].add_collection(LineCollection(rings, colors="0.55", linewidths=0.8), autolim=False)
        axes[1].plot(*start.T, ".", color="0.6", markersize=4, markeredgewidth=0)
        axes[1].plot(*end.T, ".", color=style.VERMILION, markersize=6, markeredgewidth=0)
        axes[2].plot([0, LENGTH], [law.near] * 2, color="0.5", linestyle=(0, (4, 3)), linewidth=1.4)
        for share, (name, colour, place) in zip(shares, SHARES, strict=True):
            axes[2].plot(share, color=colour)
            axes[2].plot(length, share[length], "o", color=colour, markersize=7, clip_on=False)
            words = f"{name} {100 * share[length]:.0f} %"
            axes[2].text(*place, words, color=colour, fontsize=12, transform=axes[2].transAxes)
        words = f"log Z = {law.log_z:z.2f},  gap {law.gap:.2f} nats", f"near {met} of {len(rings)} modes"
        for ax, text in zip(axes, words, strict=False):
            ax.text(0.5, 1.03, text.replace("-", "−"), transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "space": Choice(SPACES, label="chains walk"),
            "tilt": Slider(0.0, float(TILTS[-1]), float(TILTS[1]), 1.0, label="tilt λ"),
            "step": LogSlider(float(STEPS[0]), float(STEPS[-1]), float(STEPS[1]), label="step η", steps=len(STEPS) - 1),
            "length": Slider(0, LENGTH, 1, 50, label="steps of the chains"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.0, 3.8),
        caption="Left: q e^{−λE}/Z, the base at λ = 0, the model at λ = 1, with circles around all within 4 σ of a mode of "
        "the data; above, KL(data ‖ p). Middle: where chains began (grey) and where they are (orange), the density paler. "
        "Right: how many are within a circle (blue), and nearest to another mode than at first (orange); dashed, how many "
        "should be within. Same starts and same noise for all λ and η.",
    )
