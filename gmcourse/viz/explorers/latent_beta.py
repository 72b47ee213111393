r"""What β does to a VAE with flow prior, and what is left of it in the limit (thesis 3.3.1, Fig. 3.6).

    E_q[β log N(x; G(z), I) + log p(z) − log q(z|x)]                                                 thesis (3.2), (3.4)
    KL(q(z|x) ‖ p) = E_q[−log p(z)] − H(q(z|x)),       H = Σ_j log σ_j + d/2 log 2πe

As β grows the posteriors shrink, the reconstructions get sharper, and the gap between −log p, which learns where the codes
are, and the entropy H widens without end. In the limit q(z|x) is a point, H = −∞, and generative latent flow is left.

−log p and H depend on the unit of z, in the same way. Here the unit is s, the codes' spread, so that runs can be compared.
(Source writes the entropy as −Σ log(σ_j)/2; its sign is that of a loss, and there σ_j is a variance.)
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from torch import Tensor

from gmcourse.model import GenerativeModel
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.latent_plane import EXTENT, LatentPlane, classes, pale
from gmcourse.viz.mosaic import mosaic_array

SIDE = 5  # of the grid of samples
ELLIPSES = 80  # posteriors shown


class Run(NamedTuple):
    """One model: pictures of its prior and its samples, posteriors in units of s, and its numbers.

    sigma is the mean posterior standard deviation in units of s (0 for an auto-encoder), entropy and nll are H(q(z|x)) and
    E_q[−log p(z)] in nats with s as the unit of z, error the mean square per pixel of x − G(z), z ~ q(z|x).
    """

    prior: np.ndarray
    samples: np.ndarray
    means: np.ndarray
    sigmas: np.ndarray
    sigma: float
    entropy: float
    nll: float
    error: float


def run(plane: LatentPlane, images: Tensor, noise: Tensor) -> Run:
    """What is shown of a model: `images` are those of the plane, `noise` (n, 2) makes the samples."""
    p = plane.densities()[0]
    samples = mosaic_array(plane.decode(plane.push(noise)), SIDE)
    sigmas = plane.sigma / plane.scale
    shift = 2 * math.log(plane.scale)
    return Run(
        prior=pale(p, float(p.flatten().quantile(0.995))),
        samples=samples if samples.ndim == 3 else samples[..., None].repeat(3, 2),
        means=plane.units(plane.mean[:ELLIPSES]).numpy(),
        sigmas=sigmas[:ELLIPSES].numpy(),
        sigma=float(sigmas.mean()),
        entropy=float(sigmas.log().sum(1).mean()) + math.log(2 * math.pi * math.e),
        nll=-float(plane.log_p(plane.codes).mean()) - shift,
        error=float((plane.decode(plane.codes) - images.float().cpu()).square().mean()),
    )


def latent_beta(models: Mapping[float, GenerativeModel], images: Tensor, labels: Tensor, *, seed: int = 0) -> Explorer:
    """Turn β: posteriors over the prior, samples, and four numbers, of trained models.

    Args:
        models: by β, in the order of the picture; `math.inf` is the limit, a deterministic auto-encoder. Two latents each.
        images, labels: data (n, c, h, w) in [-1, 1] and their classes (n,), below 10; the first 80 posteriors are drawn.
        seed: of the noise: the same for all samples.

    Raises ValueError without a model, for models that have not two latents or whose prior has no `push`.
    """
    if not models:
        raise ValueError("models must hold at least one model; got none")
    noise = torch.randn(SIDE**2, 2, generator=torch.Generator().manual_seed(seed))
    runs = {beta: run(LatentPlane(model, images, seed=seed), images, noise) for beta, model in models.items()}
    colours, places = classes(labels, images)[:ELLIPSES], {beta: k for k, beta in enumerate(runs)}
    names = ["∞" if math.isinf(beta) else f"{beta:g}" for beta in runs]

    def compute(beta, k):
        return runs[beta], places[beta], k

    def backdrop(axes):
        _lay_out(axes)
        axes[0].set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", xticks=range(-3, 4), yticks=range(-3, 4))
        axes[0].set(title="q(z|x) over p(z)", xlabel="$(z_1 - m_1)\\,/\\,s$", ylabel="$(z_2 - m_2)\\,/\\,s$")
        axes[1].set(title="samples", xticks=[], yticks=[], aspect="equal", xlim=(0, 1), ylim=(0, 1))
        axes[1].set_frame_on(False)
        _draw_numbers(axes[2:], list(runs.values()), names)

    def draw(axes, drawn):
        now, at, k = drawn
        axes[0].imshow(now.prior, extent=EXTENT, origin="lower", interpolation="bilinear")
        sizes = {"widths": 2 * k * now.sigmas[:, 0], "heights": 2 * k * now.sigmas[:, 1], "angles": 0}
        where = {"units": "xy", "offsets": now.means, "offset_transform": axes[0].transData}
        axes[0].add_collection(EllipseCollection(**sizes, **where, facecolors="none", edgecolors=colours), autolim=False)
        axes[0].scatter(*now.means.T, s=5, c=colours, linewidths=0)
        axes[1].imshow(now.samples, extent=(0, 1, 0, 1), interpolation="nearest")
        for ax, values in zip(axes[2:], ((now.sigma,), (now.nll, now.entropy), (now.error,)), strict=True):
            ax.axvline(at, color=style.VERMILION, linewidth=1, alpha=0.6)
            ax.plot([at] * len(values), values, "o", color=style.VERMILION, markersize=7)

    return Explorer(
        compute,
        draw,
        {
            "beta": Choice(dict(zip(names, runs, strict=True)), label="β", buttons=True),
            "k": Slider(1, 10, 1, 1, label="ellipses at k σ"),
        },
        backdrop=backdrop,
        panels=(1, 5),
        size=(11.4, 4.2),
        caption="β weighs the reconstruction; ∞ is generative latent flow. Left: posteriors of test digits, one colour per "
        "digit, over the prior's density, in units of the codes' spread s. Middle: samples, all runs from the same noise. "
        "Right: how wide posteriors are; the prior's −log p(z) at the codes and the posterior's entropy, whose gap is "
        "the KL; and the squared error of the reconstruction. Arrows point to what is at −∞ or 0 in the limit.",
    )


def _lay_out(axes: Sequence[Axes]) -> None:
    """Two squares, and three charts above one another."""
    cells = axes[0].figure.add_gridspec(3, 3, width_ratios=(1, 1, 0.85))
    for ax, cell in zip(axes, (cells[:, 0], cells[:, 1], cells[0, 2], cells[1, 2], cells[2, 2]), strict=True):
        ax.set_subplotspec(cell)


def _draw_numbers(axes: Sequence[Axes], runs: Sequence[Run], names: Sequence[str]) -> None:
    upper = [("sigma", style.BLUE, "posterior σ / s", "left")]
    middle = [("nll", style.BLUE, "−log p(z), nats", "left"), ("entropy", style.GREEN, "entropy, nats", "right")]
    lower = [("error", style.BLUE, "squared error per pixel", "left")]
    for ax, lines in zip(axes, (upper, middle, lower), strict=True):
        for name, colour, words, side in lines:
            values = np.array([getattr(run, name) for run in runs])
            seen = np.isfinite(values) & ((values > 0) | (name != "sigma"))
            ax.plot(np.flatnonzero(seen), values[seen], "o-", color=colour, markersize=4, linewidth=1.5)
            ax.set_title(words, loc=side, fontsize=10, color=colour)
        ax.set(xlim=(-0.4, len(runs) - 0.6), xticks=range(len(runs)), xticklabels=[])
        ax.tick_params(labelsize=9)
    if any(run.sigma > 0 for run in runs):
        axes[0].set_yscale("log")
    axes[2].set_xticks(range(len(runs)), names)
    axes[2].set_xlabel("β")
    for at, run in enumerate(runs):
        if run.sigma == 0:
            for ax, colour in zip(axes[:2], (style.BLUE, style.GREEN), strict=True):
                ax.text(at, 0.06, "↓", color=colour, ha="center", transform=ax.get_xaxis_transform(), fontsize=13)
