r"""What denoising score matching learns, as its noise σ goes from too little to too much (thesis (2.42)).

Data x ~ p with two modes, noisy x̃ = x + σε. The energy is linear in what it learns, so that (2.42) is a least-squares fit,

    E_θ(x) = x²/2B² + Σ_k θ_k bump_k(x),     s_θ = −E_θ′,     θ = argmin Σ_i ½ (s_θ(x̃_i) + ε_i/σ)² + λ/2 |θ|²

solved at once for a dozen draws of data and noise. With endless data s_θ → ∇ log p_σ, p_σ = p * N(0, σ²): the blurred law.

    bias        KL(p‖p_σ): grows with σ
    variance    the target −ε/σ has variance 1/σ², nearly all of it noise once σ is small against the modes
    the gap     where no x̃ ever falls nothing is learned. Between far modes that is the score which decides how much
                mass each of them has: shapes right, shares wrong. A large σ fills the gap, and blurs the modes.

One σ cannot do both, hence many at once. Noisy samples are counted in narrow cells, together with their ε, so that a fit
costs the same for a hundred as for ten thousand of them.
"""

from functools import cache

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from gmcourse.data.toy1d import Mixture1D
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, LogSlider, Slider
from gmcourse.viz.explorer import Explorer

CELL = 0.04
NODES = torch.arange(-11.0, 11.0, CELL, dtype=torch.float64)
CENTRES, BUMP, BASE = torch.arange(-5.95, 6.0, 0.35, dtype=torch.float64), 0.35, 1.5
RIDGE = 3.0
DRAWS, SIZES = 12, (100, 1000, 10000)
SIGMA, RIGHT = 0.35, 0.3  # of p: width of the modes, share of the right one
DISTANCES = (1.0, 2.0, 3.0, 4.0, 5.0)
LEVELS = torch.logspace(-1.3, 0.3, 13, dtype=torch.float64)  # σ of the curves on the right
WINDOW = (-4.2, 4.2)


def data_law(distance: float) -> Mixture1D:
    """p: 0.7 N(−d/2, 0.35²) + 0.3 N(d/2, 0.35²)."""
    return Mixture1D([1 - RIGHT, RIGHT], [-distance / 2, distance / 2], SIGMA)


def bumps(x: Tensor) -> Tensor:
    """bump_k at x (m,), shape (m, k)."""
    return (-0.5 * ((x[:, None] - CENTRES) / BUMP).square()).exp()


def slopes(x: Tensor) -> Tensor:
    """bump_k′ at x (m,), shape (m, k)."""
    return -bumps(x) * (x[:, None] - CENTRES) / BUMP**2


class Draws:
    """`DRAWS` sets of n data and their noise, the same uniform and normal numbers at all distances and all σ."""

    def __init__(self, n: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        kind = {"generator": generator, "dtype": torch.float64}
        self.side = (torch.rand(DRAWS, n, **kind) < RIGHT).double() - 0.5
        self.within = SIGMA * torch.randn(DRAWS, n, **kind)
        self.eps = torch.randn(DRAWS, n, **kind)
        self.set = torch.arange(DRAWS)[:, None] * len(NODES)

    def counted(self, distance: float, sigma: float) -> tuple[Tensor, Tensor]:
        """How many x̃ lie in each cell and the sum of their ε, both (DRAWS, m); what lies beyond counts in the outermost."""
        noisy = distance * self.side + self.within + sigma * self.eps
        cell = ((noisy - NODES[0]) / CELL + 0.5).long().clamp_(0, len(NODES) - 1) + self.set
        size = DRAWS * len(NODES)
        counts = torch.bincount(cell.flatten(), minlength=size).double()
        sums = torch.bincount(cell.flatten(), self.eps.flatten(), minlength=size)
        return counts.reshape(DRAWS, -1), sums.reshape(DRAWS, -1)


class Denoising:
    """`at(σ, distance, n)`: what (2.42) makes of n data, `DRAWS` times over."""

    def __init__(self):
        self._draws = {n: Draws(n, seed) for seed, n in enumerate(SIZES)}
        self._bumps, self._slopes = bumps(NODES), slopes(NODES)
        self._products = (self._slopes[:, :, None] * self._slopes[:, None, :]).flatten(1)
        self._ridge = RIDGE * torch.eye(len(CENTRES), dtype=NODES.dtype)

    def theta(self, sigma: float, distance: float, n: int) -> Tensor:
        """θ (DRAWS, k): Σ_i bump′ (bump′ᵀθ + x̃/B² − ε/σ) + λθ = 0."""
        counts, sums = self._draws[n].counted(distance, sigma)
        hessian = (counts @ self._products).unflatten(1, self._ridge.shape) + self._ridge
        return torch.linalg.solve(hessian, (sums / sigma - counts * NODES / BASE**2) @ self._slopes)

    def at(self, sigma: float, distance: float, n: int) -> tuple[Tensor, Tensor]:
        """log p̂, normalised, and its score at the nodes, both (DRAWS, m)."""
        theta = self.theta(sigma, distance, n)
        log_p = -0.5 * (NODES / BASE).square() - theta @ self._bumps.T
        return normalised(log_p), -NODES / BASE**2 - theta @ self._slopes.T


def normalised(log_p: Tensor) -> Tensor:
    """log p minus log ∫ p over the nodes, (…, m)."""
    return log_p - (log_p.logsumexp(-1, keepdim=True) + np.log(CELL))


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p‖q) in nats from log-densities at the nodes, (…, m) -> (…)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1) * CELL


def right_of_zero(log_p: Tensor) -> Tensor:
    """∫_0^∞ p, (…, m) -> (…)."""
    return log_p[..., NODES > 0].exp().sum(-1) * CELL


def dsm_sigma() -> Explorer:
    """Two modes, a noise level, a dozen repetitions: the density and the score that denoising score matching finds."""
    learner = Denoising()
    seen = torch.nonzero((NODES >= WINDOW[0]) & (NODES <= WINDOW[1])).flatten()[::2]
    x, there_and_back = NODES[seen].numpy(), np.concatenate((LEVELS, LEVELS.flip(0)))

    @cache
    def truth(distance):
        p = data_law(distance)
        log_p = p.log_prob(NODES)
        blurred = torch.stack([kl(log_p, p.diffused(1.0, float(s)).log_prob(NODES)) for s in LEVELS])
        return log_p, p.score(NODES[seen]).numpy(), blurred.numpy()

    curves = {
        (d, n): torch.stack([kl(truth(d)[0], learner.at(float(s), d, n)[0]) for s in LEVELS]).numpy()
        for d in DISTANCES
        for n in SIZES
    }

    def compute(sigma, distance, n):
        log_p, score, blurred = truth(distance)
        found, scores = learner.at(sigma, distance, n)
        smooth = data_law(distance).diffused(1.0, sigma)
        smooth = smooth.log_prob(NODES[seen]).exp().numpy(), smooth.score(NODES[seen]).numpy()
        right = [100 * float(v) for v in (*right_of_zero(found).aminmax(), right_of_zero(log_p))]
        densities = log_p[seen].exp().numpy(), smooth[0], found[:, seen].exp().numpy()
        gaps = kl(log_p, found).numpy(), blurred, curves[distance, n]
        return densities, (score, smooth[1], scores[:, seen].numpy()), gaps, sigma, right

    def backdrop(axes):
        axes[0].set(xlim=WINDOW, ylim=(0, 1.15), yticks=[], xlabel="$x$", ylabel="density", title=" ")
        axes[1].set(xlim=WINDOW, ylim=(-14, 14), xlabel="$x$", title="score")
        axes[1].axhline(0, color="0.8", linewidth=0.8)
        axes[2].set(xlim=(0.045, 2.2), ylim=(0.01, 6), xscale="log", yscale="log", title=" ")
        axes[2].set(xlabel="noise level σ", ylabel="nats")

    def draw(axes, drawn):
        (p, smooth, found), (score, smooth_score, scores), (gaps, blurred, curve), sigma, right = drawn
        bundle = {"color": style.VERMILION, "linewidth": 0.9, "alpha": 0.7}
        dashes = {"color": style.BLUE, "linewidth": 1.6, "linestyle": (0, (4, 2))}
        for ax, height, mine, soft, many in (
            (axes[0], p.max(), p, smooth, found),
            (axes[1], 1.0, score, smooth_score, scores),
        ):
            ax.add_collection(_bundle(x, many / height, **bundle), autolim=False)
            ax.plot(x, soft / height, **dashes)
            ax.plot(x, mine / height, color=style.INK, linewidth=1.4)
        axes[1].fill(x, -14 + 5 * p / p.max(), color="0.85", linewidth=0)
        axes[2].fill(there_and_back, _outline(curve), color=style.VERMILION, alpha=0.2, linewidth=0)
        axes[2].plot(LEVELS, np.median(curve, 1), color=style.VERMILION)
        axes[2].plot(LEVELS, blurred, **dashes)
        axes[2].plot(np.full(DRAWS, sigma), gaps, "o", color=style.VERMILION, markersize=5, alpha=0.6, markeredgewidth=0)
        words = "right of 0: {:.0f} to {:.0f} % ({:.0f} %)".format(*right), f"KL(p‖p̂) {np.median(gaps):.2g} nats"
        for ax, text in zip((axes[0], axes[2]), words, strict=True):
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "sigma": LogSlider(0.05, 2.0, 0.2, label="noise level σ", steps=40),
            "distance": Slider(DISTANCES[0], DISTANCES[-1], 1.0, 3.0, label="distance of the modes"),
            "n": Choice({f"{n:,}".replace(",", " "): n for n in SIZES}, value=1000, label="data"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(9.3, 3.2),
        caption="Black: the data's law p and its score. Blue, dashed: p blurred by the noise, what endless data would give. "
        "Orange: what twelve sets of data and noise give. Above the left panel, the mass found to the right of 0, and "
        "in brackets what belongs there. In the middle, grey: where the data are. Right: how far the result is from p, by "
        "σ: median and range of the twelve (orange), and the blur alone (dashed).",
    )


def _outline(curves: np.ndarray) -> np.ndarray:
    """The outline of a bundle of curves (m, r): the lowest from left to right, the highest back, (2m,)."""
    return np.concatenate((curves.min(1), curves.max(1)[::-1]))


def _bundle(x: np.ndarray, ys: np.ndarray, **look) -> LineCollection:
    """Many curves ys (r, m) as one artist."""
    return LineCollection(np.stack((np.broadcast_to(x, ys.shape), ys), -1), **look)
