r"""What z decides: one noisy point, and which of the data that may have been before it the generator says (thesis 6.3).

    q(x_0 | x_t) ∝ Σ_k w_k N(x_0; m_k, σ_k² I) N(x_t; √ᾱ_t x_0, (1 − ᾱ_t) I)                       Bayes' rule
                 = Σ_k w′_k N(x_0; m′_k, σ′_k² I),      w′_k ∝ w_k N(x_t; √ᾱ_t m_k, (ᾱ_t σ_k² + 1 − ᾱ_t) I)
    1/σ′_k² = 1/σ_k² + ᾱ_t/(1 − ᾱ_t),     m′_k = σ′_k² (m_k/σ_k² + √ᾱ_t x_t/(1 − ᾱ_t))

A generator with a z of the plane divides that plane among the modes k. If it is right, the share of N(0, I) in the country
of k is w′_k, and with Φ(z_1), Φ(z_2) for coordinates a share is an area. Half of Σ_k |share − w′_k| is the total variation
between the two. A generator is continuous, so that between two countries there is a strip whose z end at no mode. At
t > 0 strips may be wide and shares wrong: what is said is noised again, to x_{t−1}, and is judged through that noise.
"""

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.patches import Circle
from torch import Tensor

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.diffusion.edit import marginal_at
from gmcourse.metrics.modes import WIDTHS, nearest_mode
from gmcourse.model import check_count, evaluating
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.explorers.carried import WHEEL
from gmcourse.viz.explorers.stops import Stops
from gmcourse.viz.plane import extent_of, grid

FINE, SIDE, DRAWS = 140, 96, 400  # cells a side of the plane and of that of z; dots
REACH = 3.0  # of z
BARS = 25
VIEWS = {"z": "z", "Φ(z): areas are probabilities": "area"}
HOLD = (1.177, 2.448)  # radii that hold half of z and 95 %
SAYS = "the likeliest: {:.0f} % of z,\ntruly {:.0f} %"
CORNER = {"ha": "right", "va": "top", "fontsize": 11}


class Posterior(NamedTuple):
    """q(x_0 | x_t), a mixture: weights (k,), means (k, 2), widths (k,)."""

    weights: Tensor
    means: Tensor
    sigmas: Tensor


class Scene(NamedTuple):
    """x_t/√ᾱ_t (2,); the posterior; its picture; dots (n, 2), their colours; maps of z by view; shares; TV."""

    seen: np.ndarray
    law: Posterior
    density: np.ndarray
    dots: np.ndarray
    colours: np.ndarray
    maps: dict[str, np.ndarray]
    shares: Tensor
    apart: float


def posterior(data: GaussianMixture, alpha: float, sigma: float, xt: Tensor) -> Posterior:
    """q(x_0 | x_t) at x_t = α x_0 + σ ε, (2,)."""
    xt, prior = xt.to(data.means), data.sigmas.square()
    wide = alpha**2 * prior + sigma**2
    logits = data.weights.log() - wide.log() - (xt - alpha * data.means).square().sum(1) / (2 * wide)
    narrow = 1 / (1 / prior + alpha**2 / sigma**2)
    means = narrow[:, None] * (data.means / prior[:, None] + alpha * xt / sigma**2)
    return Posterior(logits.softmax(0), means, narrow.sqrt())


def colours_of(modes: int) -> np.ndarray:
    """A colour for each mode (modes, 3), those of neighbours in order or in rows of five far apart."""
    k = np.arange(modes)
    colours, shade = WHEEL((0.24 * k) % 1)[:, :3], np.array([0.0, 0.4, -0.25])[k % 3, None]
    return np.where(shade > 0, colours + shade * (1 - colours), colours * (1 + shade))


def observations(data: GaussianMixture, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """x_0 and ε, (count, 2) both: what all times' x_t of an observation are made of."""
    generator = torch.Generator().manual_seed(seed)
    return data.sample((count,), generator=generator).float(), torch.randn(count, 2, generator=generator)


def latents() -> dict[str, Tensor]:
    """Cells of the two maps of z, (SIDE², 2) each: even in z, and even in Φ(z), which all have the same probability."""
    return {
        "z": grid((-REACH, REACH, -REACH, REACH), SIDE),
        "area": torch.special.ndtri(grid((0, 1, 0, 1), SIDE)),
    }


def denoising_latent(model: DenoisingDiffusionGAN, data: GaussianMixture, *, count: int = 6, seed: int = 51) -> Explorer:
    """Turn z and see which mode of q(x_0 | x_t) the generator goes to; a map of z, and its shares beside the true ones.

    Args:
        model: trained on `data`, of the plane, with a z of the plane, a generator that says x_0 or the noise.
        data: a mixture of Gaussians of the plane.
        count: observations to choose from.
        seed: of x_0 and noise of the observations, and of the dots' z.

    All maps are made beforehand. Raises ValueError for another model, and for data that are no such mixture.
    """
    _check(model, data)
    extent, steps = extent_of(data), len(model.chain)
    clean, eps = observations(data, check_count(count, "count"), seed)
    colours, levels = colours_of(len(data.means)), [marginal_at(model.chain, t) for t in range(steps)]
    cells, dots = latents(), torch.randn(DRAWS, 2, generator=torch.Generator().manual_seed(seed + 1))
    places = grid(extent, FINE)

    @torch.no_grad()
    def said(xt, t, z):
        owner = model.origin
        x, time = xt.to(owner).expand(len(z), 2), torch.full((len(z),), t, device=owner.device)
        with evaluating(model):
            return model.predict(x, time, z.to(owner)).cpu()

    def observed(t, k):
        return levels[t][0] * clean[k] + levels[t][1] * eps[k]

    def scene(t, k):
        xt = observed(t, k)
        law = posterior(data, *levels[t], xt)
        to = {view: nearest_mode(said(xt, t, z), data) for view, z in cells.items()}
        maps = {view: _mapped(*found, colours) for view, found in to.items()}
        modes = to["area"][0]
        shares = modes.bincount(minlength=len(colours)) / len(modes)
        points = said(xt, t, dots)
        look = colours[nearest_mode(points, data)[0]]
        variation = 0.5 * float((shares - law.weights).abs().sum())
        tinted = _tinted(law, places, colours)
        return Scene((xt / levels[t][0]).numpy(), law, tinted, points.numpy(), look, maps, shares, variation)

    scenes = {(t, k): scene(t, k) for t in range(steps) for k in range(count)}

    def compute(t, observation, z1, z2, view):
        z, k = torch.tensor([[z1, z2]]), observation - 1
        chosen = said(observed(t, k), t, z)
        mode = int(nearest_mode(chosen, data)[0])
        where = torch.special.ndtr(z) if view == "area" else z
        return scenes[t, k], t, view, where[0].numpy(), chosen[0].numpy(), mode

    def backdrop(axes):
        axes[0].set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="$x_1$", ylabel="$x_2$", title=" ")
        axes[1].set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[], title=" ")
        axes[1].set(xlabel="$z_1$ →", ylabel="$z_2$ →")
        axes[2].set(xlim=(-0.7, BARS - 0.3), ylim=(0, 1.3), xticks=[], yticks=[], title=" ", box_aspect=1)
        axes[2].set(xlabel="modes, the likeliest first", ylabel="their shares")

    def draw(axes, drawn):
        now, t, view, where, chosen, mode = drawn
        axes[0].imshow(now.density, extent=extent, origin="lower", interpolation="bilinear")
        axes[0].scatter(*now.dots.T, s=9, c=now.colours, linewidths=0)
        inside = np.clip(now.seen, np.array(extent[::2]) * 0.97, np.array(extent[1::2]) * 0.97)
        axes[0].plot(*inside, "x", color=style.INK, markersize=10, markeredgewidth=2.2)
        axes[1].imshow(now.maps[view], extent=(0, 1, 0, 1), origin="lower", interpolation="nearest")
        if view == "z":
            for radius in HOLD:
                axes[1].add_patch(Circle((0.5, 0.5), radius / (2 * REACH), fill=False, color=style.INK, linewidth=1))
            where = (where + REACH) / (2 * REACH)
        dot = {"color": colours[mode], "markersize": 13, "markeredgecolor": style.INK, "markeredgewidth": 2}
        for ax, at in ((axes[0], chosen), (axes[1], where)):
            ax.plot(*at, "o", **dot, clip_on=False, zorder=5)
        order = now.law.weights.argsort(descending=True)[:BARS]
        found, true, at = now.shares[order], now.law.weights[order], np.arange(len(order))
        high = max(found.max(), true[0])
        axes[2].vlines(at, 0, found / high, colours[order], linewidth=7.5)
        axes[2].hlines(true / high, at - 0.45, at + 0.45, style.INK)
        axes[2].text(0.97, 0.96, SAYS.format(*100 * found[:1], *100 * true[:1]), **CORNER, transform=axes[2].transAxes)
        words = (
            f"{DRAWS} draws of $G(x_t, z, t)$",
            "$\\Phi(z)$: areas are probabilities" if view == "area" else "z; circles hold 50 and 95 %",
            f"total variation from the true: {now.apart:.2f}",
        )
        for ax, text in zip(axes, words, strict=True):
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "t": Stops({f"{t}: σ/α = {s / a:.2g}": t for t, (a, s) in enumerate(levels)}, min(2, steps - 1), "time t"),
            "observation": Choice(tuple(range(1, count + 1)), label="observation"),
            "z1": Slider(-REACH, REACH, 0.05, 0.5, label="z₁"),
            "z2": Slider(-REACH, REACH, 0.05, 0.5, label="z₂"),
            "view": Choice(VIEWS, label="plane of z"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.4, 4.1),
        caption="Left: the cross is x_t/√ᾱ_t (at the edge where it lies beyond), the soft spots are the true q(x_0 | x_t), "
        "each mode in its colour, the dots what the generator says; large, to the chosen z. Middle: the plane of z, each z "
        f"in the colour of the mode it leads to, pale where it ends more than {WIDTHS:g} widths from it. Right: the modes' "
        "shares in all z (bars) and their true probabilities (lines). At t > 0 noise comes on top again: what it hides need "
        "not be right.",
    )


def _check(model: DenoisingDiffusionGAN, data: GaussianMixture) -> None:
    if not isinstance(model, DenoisingDiffusionGAN) or tuple(model.event_shape) != (2,):
        shape = tuple(getattr(model, "event_shape", ()))
        raise ValueError(f"model must be a DenoisingDiffusionGAN of the plane; got {type(model).__name__} of shape {shape}")
    if model.latent != 2:
        raise ValueError(f"model must have a z of the plane, latent = 2; got {model.latent}")
    if model.parameterization == "direct":
        raise ValueError("model must have a generator that says x_0 or the noise; got parameterization 'direct'")
    if not isinstance(data, GaussianMixture) or tuple(data.event_shape) != (2,):
        raise ValueError(f"data must be a GaussianMixture of the plane; got {type(data).__name__}")


def _mapped(modes: Tensor, apart: Tensor, colours: np.ndarray) -> np.ndarray:
    """A map (SIDE, SIDE, 3) as bytes: the mode's colour, nearly white where no mode is near."""
    found = colours[modes] * 0.85 + 0.15
    found = np.where((apart <= WIDTHS).numpy()[:, None], found, 0.25 * found + 0.75)
    return (255 * found).round().astype(np.uint8).reshape(SIDE, SIDE, 3)


def _tinted(law: Posterior, places: Tensor, colours: np.ndarray) -> np.ndarray:
    """The density (FINE, FINE, 3) as bytes: each component in its colour, the more of it the higher, on white."""
    heights = law.weights * (-0.5 * (torch.cdist(places.double(), law.means) / law.sigmas).square()).exp()
    heights = (heights / law.sigmas.square()).sqrt()  # what is likely but little should be seen, too
    paint = 0.75 * (heights / heights.max()).numpy()
    white = 1 - paint.sum(1, keepdims=True).clip(max=1)
    found = (white + paint @ colours).clip(0, 1)
    return (255 * found).round().astype(np.uint8).reshape(FINE, FINE, 3)
