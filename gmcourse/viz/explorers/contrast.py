r"""How noise contrastive estimation dies as the noise moves away from the data (thesis (1.12) and below).

A classifier D tells data p from noise q. With e^{h} = p̂ for its unnormalised model of the data,

    D = p̂ / (p̂ + q)   ⇔   p̂ = D/(1 − D) q,        log p̂(x) = log N(x; 0, 1.5²) + θ₀ + Σ_k θ_k bump_k(x)

and θ minimises the cross-entropy of n data and n noise samples plus λ/2 |θ|²: logistic regression with the offset
log N(x; 0, 1.5²) − log q(x), solved by Newton's method. Nothing forces ∫ p̂ = 1; it must come out of the classification.
Samples of p̂ are picked from the noise with weights w = p̂/q (SIR). Of n they are worth

    (Σ w)² / Σ w²   →   n / ∫ p²/q                  with p̂ = p: the effective sample size

On the line samples may be counted in narrow cells, so that a fit costs the same for a hundred as for ten thousand of
them. Quantiles of a fixed u ~ U(0, 1) are the samples: as q moves, so do they, without a new draw.
"""

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor
from torch.nn.functional import pad

from gmcourse.data.toy1d import Mixture1D
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer

DATA = Mixture1D([0.6, 0.4], [-1.0, 1.1], [0.45, 0.35])
BASE = Mixture1D([1.0], [0.0], 1.5)
CELL = 0.04
NODES = torch.arange(-9.0, 16.5, CELL, dtype=torch.float64)
CENTRES, BUMP = torch.linspace(-2.75, 2.75, 12, dtype=torch.float64), 0.5
RIDGE, NEWTON, STRIDE = 0.1, 10, 3.0
DRAWS, SIZES, PICKED = 12, (100, 1000, 10000), 200
FARTHEST, SEEN = 6.0, (-3.5, 8.5)
HEIGHTS = -0.02 - 0.13 * (np.arange(PICKED) * 0.618034 % 1)  # one above the other, where one node is picked again


def noise(shift: float, width: float) -> Mixture1D:
    """q = N(shift, width²)."""
    return Mixture1D([1.0], [shift], width)


def bumps(x: Tensor) -> Tensor:
    """Features (1, bump_1(x), …, bump_12(x)) of x (n,), shape (n, 13)."""
    return torch.cat((torch.ones_like(x)[:, None], (-0.5 * ((x[:, None] - CENTRES) / BUMP).square()).exp()), 1)


def newton(features: Tensor, offset: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
    """Weights θ (r, f) of r logistic regressions at once, each on its own counts in the same m cells.

    θ minimises Σ ones·softplus(−l) + zeros·softplus(l) + λ/2 |θ|² with l = features θ + offset.

    Args:
        features, offset: (m, f) and (m,), the same for all.
        ones, zeros: (r, m), how many samples of either class lie in each cell.
    """
    f = features.shape[1]
    products = (features[:, :, None] * features[:, None, :]).reshape(-1, f * f)
    ridge = RIDGE * torch.eye(f, dtype=features.dtype)
    theta = torch.zeros(len(ones), f, dtype=features.dtype)
    for _ in range(NEWTON):
        d = torch.sigmoid(theta @ features.T + offset)
        gradient = (d * (ones + zeros) - ones) @ features + RIDGE * theta
        hessian = ((ones + zeros) * d * (1 - d) @ products).reshape(-1, f, f) + ridge
        move = torch.linalg.solve(hessian, gradient)
        theta = theta - move * (STRIDE / move.abs().amax(1, keepdim=True)).clamp_max(1)
    return theta


def effective_share(log_p: Tensor, log_q: Tensor) -> Tensor:
    """1 / ∫ p²/q from log-densities at the nodes (..., m): the worth of a sample of q reweighted to p, at most 1."""
    return 1 / ((2 * log_p - log_q).exp().sum(-1) * CELL)


def share(weights: Tensor, counts: Tensor) -> Tensor:
    """Effective sample size over sample size, (r,), of weights (r, m) that counts (r, m) samples have."""
    total, squares = (weights * counts).sum(1), (weights.square() * counts).sum(1)
    return total.square() / squares / counts.sum(1)


def picked(weights: Tensor) -> np.ndarray:
    """SIR: PICKED nodes by their weights (m,), at equal distances along the sum of the weights."""
    steps = (torch.arange(PICKED, dtype=weights.dtype) + 0.5) / PICKED
    total = weights.cumsum(0)
    return NODES[torch.searchsorted(total, steps * total[-1])].numpy()


class Samples:
    """`DRAWS` independent sets of n samples as quantiles of fixed uniform numbers, counted in the cells around NODES."""

    def __init__(self, n: int, seed: int):
        u = torch.rand(DRAWS, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self._sorted = u.sort(1).values

    def counts(self, density: Mixture1D) -> Tensor:
        """How many samples of `density` lie in each cell, (DRAWS, m); what lies beyond counts in the outermost."""
        border = density.cdf(NODES[:-1] + CELL / 2).expand(DRAWS, -1).contiguous()
        below = pad(torch.searchsorted(self._sorted, border).double(), (1, 0))
        return below.diff(dim=1, append=torch.full((DRAWS, 1), float(self._sorted.shape[1])))


class Contrast:
    """`at(shift, width, n)`: what NCE learns from n data and n noise samples, `DRAWS` times over."""

    def __init__(self):
        self._features = bumps(NODES)
        self._data = {n: Samples(n, seed=2 * k).counts(DATA) for k, n in enumerate(SIZES)}
        self._noise = {n: Samples(n, seed=2 * k + 1) for k, n in enumerate(SIZES)}
        self._base = BASE.log_prob(NODES)

    def at(self, shift: float, width: float, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """(log p̂, log q, noise counts) at the nodes, shapes (DRAWS, m), (m,) and (DRAWS, m)."""
        q = noise(shift, width)
        log_q, drawn = q.log_prob(NODES), self._noise[n].counts(q)
        theta = newton(self._features, self._base - log_q, self._data[n], drawn)
        return self._base + theta @ self._features.T, log_q, drawn


def noise_contrastive() -> Explorer:
    """Data, noise, and what a classifier between them knows of the data: the nearer the noise, the more."""
    contrast = Contrast()
    log_p = DATA.log_prob(NODES)
    p, shifts = log_p.exp(), torch.linspace(0, FARTHEST, 31, dtype=torch.float64)
    seen = (NODES > SEEN[0]) & (NODES < SEEN[1])
    x = NODES[seen].numpy()

    def compute(shift, width, n):
        log_model, log_q, drawn = contrast.at(shift, width, n)
        q, d = log_q.exp(), torch.sigmoid(log_model - log_q)
        right = 0.5 * CELL * float(((d > 0.5) * p + (d <= 0.5) * q).sum(1).mean())
        log_weights = torch.where(drawn > 0, log_model - log_q, -torch.inf)
        weights = (log_weights - log_weights.amax(1, keepdim=True)).exp()
        curve = effective_share(log_p, noise(0.0, width).log_prob(NODES - shifts[:, None]))
        mass = log_model.exp().sum(1) * CELL
        best = p / (p + q)
        lines = tuple(v[..., seen].numpy() for v in (log_model.exp(), q, d, best))
        chosen, worth = picked(weights[0] * drawn[0]), share(weights, drawn)
        return lines, chosen, (right, mass.min(), mass.max()), (shift, n, worth.numpy(), curve.numpy())

    def backdrop(axes):
        axes[0].set(ylim=(-0.17, 1.0), yticks=[], ylabel="density", title=" ")
        axes[1].set(ylim=(-0.03, 1.03), ylabel="$D(x)$", title=" ")
        for ax, height in zip(axes, (1.0, 1.0 / float(p.max())), strict=False):
            ax.fill_between(x, height * p[seen].numpy(), color="0.86" if ax is axes[0] else "0.93", linewidth=0)
            ax.set(xlim=SEEN, xlabel="$x$")
        axes[0].axhline(0, color=style.INK, linewidth=0.8)
        axes[2].set(xlim=(-0.1, FARTHEST + 0.1), ylim=(1e-6, 1.3), yscale="log", xlabel="distance of the noise")
        axes[2].set(title="worth of a noise sample", ylabel="effective samples / n")

    def draw(axes, drawn):
        (models, q, judges, best), chosen, (right, least, most), (shift, n, worth, curve) = drawn
        bundle = {"color": style.VERMILION, "linewidth": 0.9, "alpha": 0.75}
        axes[0].plot(x, q, color=style.BLUE)
        axes[0].add_collection(_bundle(x, models, **bundle))
        axes[0].plot(chosen, HEIGHTS, ".", color=style.VERMILION, markersize=3)
        axes[1].add_collection(_bundle(x, judges, **bundle))
        axes[1].plot(x, best, color=style.INK, linewidth=1.4, linestyle=(0, (4, 3)))
        axes[2].plot(shifts, curve, color=style.BLUE)
        axes[2].plot([0, FARTHEST], [1 / n, 1 / n], color="0.6", linestyle=":")
        axes[2].plot(np.full(DRAWS, shift), worth, "o", color=style.VERMILION, markersize=5, alpha=0.6, markeredgewidth=0)
        above = {"x": 0.5, "y": 1.03, "ha": "center", "fontsize": 12}
        axes[0].text(s=f"∫ p̂ from {least:.2g} to {most:.2g}", transform=axes[0].transAxes, **above)
        axes[1].text(s=f"D is right in {100 * right:.0f} %", transform=axes[1].transAxes, **above)

    return Explorer(
        compute,
        draw,
        {
            "shift": Slider(0.0, FARTHEST, 0.1, 1.0, label="distance of the noise"),
            "width": Slider(0.6, 3.0, 0.1, 1.5, label="width of the noise"),
            "n": Choice({f"{n:,}".replace(",", " "): n for n in SIZES}, value=1000, label="samples of each"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.0, 3.6),
        caption="Left: the data (grey), the noise (blue) and what NCE makes of the data in twelve repetitions (orange); "
        "dots: samples that resampling the noise gives the first of them. Middle: their classifiers; dashed, the best "
        "there is. Right: what a noise sample is worth after reweighting, in theory (blue) and in each repetition; at the "
        "dotted line one sample has all the weight.",
    )


def _bundle(x: np.ndarray, ys: np.ndarray, **look) -> LineCollection:
    """Many curves ys (r, m) as one artist."""
    return LineCollection(np.stack((np.broadcast_to(x, ys.shape), ys), -1), **look)
