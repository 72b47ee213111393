r"""Which Gaussian is nearest to a target with two modes? That depends on what "near" means (thesis (1.1)–(1.5)).

The target p has a left mode N(−d/2, 1) of weight w and a right one N(d/2, s²); q = N(μ, σ²) has one hump to spend.

    forward KL     ∫ p log p/q             all of p must be covered: μ, σ are p's mean and standard deviation
    reverse KL     ∫ q log q/p             q must not lie where p does not: it takes one mode and forgets the other
    JS             ½ KL(p‖m) + ½ KL(q‖m)   with m = (p + q)/2: between the two, at most ln 2
    TV             ½ ∫ |p − q|
    Fisher         ½ ∫ p (∇log p − ∇log q)² = ½ (I(p) − 2/σ² + E_p(x − μ)²/σ⁴), least where forward KL is
    Wasserstein-2  E (x(z) − μ − σz)², with x(z) the increasing map from N(0, 1) to p: σ = E x'(z)

Integrals are sums over equally spaced nodes. The q that make up the landscape are the same for every target, so that
their densities are computed once, and most divergences are a product of a matrix and a vector.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from gmcourse.data.toy1d import Mixture1D
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer

NODES = torch.linspace(-26, 26, 401, dtype=torch.float64)
CELL = float(NODES[1] - NODES[0])
MEANS = torch.linspace(-5.6, 5.6, 49, dtype=torch.float64)
LOG_SIGMAS = torch.linspace(math.log(0.36), math.log(5.2), 35, dtype=torch.float64)
EDGE = 0.5 * math.log(2 * math.pi)
ROUNDS = 12
FLAT = 0.95  # of the highest value: beyond, JS and TV are level but for rounding
WINDOW = tuple(float(v) for a in (MEANS, LOG_SIGMAS) for v in (1.5 * a[0] - 0.5 * a[1], 1.5 * a[-1] - 0.5 * a[-2]))
BANDS = style.DENSITY(np.linspace(0.95, 0.0, 14), bytes=True)


class Target:
    """p at the nodes: `log` (n,) of its density and `mass` (n,), which sums to 1; `information` I(p), `slope` E x'(z)."""

    def __init__(self, p: Mixture1D):
        self.log = p.log_prob(NODES)
        self.mass = _density(self.log) * CELL
        self.mean, self.variance = float(p.mean), float(p.variance)
        self.entropy = -float(self.mass @ self.log)
        self.information = float(self.mass @ p.score(NODES).square())
        z = torch.special.ndtri(p.cdf(NODES))
        self.slope = float((-0.5 * z.square() - EDGE).exp().sum()) * CELL


class Bells:
    """k Gaussians N(μ, σ²) at the nodes: `mean`, `sigma`, `entropy` (k,), and `log`, `mass` (k, n)."""

    def __init__(self, mean: Tensor, log_sigma: Tensor, dtype: torch.dtype = torch.float64):
        self.mean, self.sigma, self.entropy = mean, log_sigma.exp(), log_sigma + EDGE + 0.5
        z = (NODES - mean[:, None]) / self.sigma[:, None]
        self.log = (-0.5 * z.square() - log_sigma[:, None] - EDGE).to(dtype)
        self.mass = _density(self.log) * CELL


def _density(log: Tensor) -> Tensor:
    return log.clamp_min(-80).exp()  # below the normal numbers of float32 arithmetic is slow


def forward_kl(p: Target, q: Bells) -> Tensor:
    """KL(p‖q) = CE(p, q) − H(p) in nats, (k,); thesis (1.2)."""
    return -(q.log @ p.mass.to(q.log)) - p.entropy


def reverse_kl(p: Target, q: Bells) -> Tensor:
    """KL(q‖p) in nats, (k,)."""
    return -(q.mass @ p.log.to(q.mass)) - q.entropy


def jensen_shannon(p: Target, q: Bells) -> Tensor:
    """H(m) − ½ H(p) − ½ H(q) in nats, m = (p + q)/2, (k,)."""
    m = (q.mass + p.mass.to(q.mass)) / 2
    return math.log(CELL) - (m * m.log()).sum(1) - 0.5 * (p.entropy + q.entropy)


def total_variation(p: Target, q: Bells) -> Tensor:
    """½ ∫ |p − q|, (k,), between 0 and 1; p − q is taken as linear between nodes, so that kinks do no harm."""
    gap = q.mass - p.mass.to(q.mass)
    size = gap.abs()
    product, both = -gap[:, :-1] * gap[:, 1:], (size[:, :-1] + size[:, 1:]).clamp_min(1e-30)
    crossed = torch.where(product > 0, product / both - both / 6, 0.0)  # Euler and Maclaurin's correction for a kink
    return 0.5 * (size.sum(1) - crossed.sum(1))


def fisher(p: Target, q: Bells) -> Tensor:
    """½ E_p (∇log p − ∇log q)², (k,); the mixed term is E_p[∇log p (x − μ)] = −1."""
    spread = p.variance + (q.mean - p.mean).square()
    return 0.5 * (p.information - 2 / q.sigma.square() + spread / q.sigma.pow(4))


def wasserstein(p: Target, q: Bells) -> Tensor:
    """The distance W₂, (k,), in units of x: on the line the increasing map is the best transport."""
    square = (q.mean - p.mean).square() + p.variance + q.sigma.square() - 2 * q.sigma * p.slope
    return square.clamp_min(0).sqrt()


Divergence = Callable[[Target, Bells], Tensor]
DIVERGENCES: dict[str, tuple[Divergence, str, str]] = {  # its name here: function, in the title, unit
    "forward KL": (forward_kl, "KL(p‖q)", " nats"),
    "reverse KL": (reverse_kl, "KL(q‖p)", " nats"),
    "Jensen–Shannon": (jensen_shannon, "JS", " nats"),
    "total variation": (total_variation, "TV", ""),
    "Fisher": (fisher, "Fisher", ""),
    "Wasserstein-2": (wasserstein, "W₂", ""),
}


class Fit(NamedTuple):
    """A Gaussian where a divergence has a minimum, and its value there."""

    value: float
    mean: float
    sigma: float


def two_modes(distance: float, weight: float, width: float = 1.0) -> Mixture1D:
    """w N(−d/2, 1) + (1 − w) N(d/2, width²)."""
    return Mixture1D([weight, 1 - weight], [-distance / 2, distance / 2], [1.0, width])


class Landscape:
    """All Gaussians of a grid over (log σ, μ): `values(divergence, p)` there, and `fits(…)`, the minima, lowest first."""

    def __init__(self):
        log_sigma, mean = torch.meshgrid(LOG_SIGMAS, MEANS, indexing="ij")
        self._at = torch.stack((mean, log_sigma), -1)
        self._rows = [Bells(*row.T, torch.float32) for row in self._at]  # row by row the numbers stay in the cache

    def values(self, divergence: Divergence, p: Target) -> Tensor:
        """The divergence at every Gaussian of the grid, (σ, μ)."""
        return torch.stack([divergence(p, row) for row in self._rows])

    def fits(self, divergence: Divergence, p: Target, values: Tensor) -> list[Fit]:
        """The minima: from the grid's, ever finer grids of 5 × 5 around the best point so far; who still travels is none."""
        lowest = -max_pool2d(-values[None], 3, stride=1)[0]
        inner = values[1:-1, 1:-1]
        at = self._at[1:-1, 1:-1][(inner <= lowest) & (inner < FLAT * values.max())]
        start = torch.stack((MEANS[1] - MEANS[0], LOG_SIGMAS[1] - LOG_SIGMAS[0]))
        reach = start.expand(at.shape)
        around = torch.cartesian_prod(*(torch.linspace(-1, 1, 5, dtype=torch.float64),) * 2)
        for _ in range(ROUNDS):
            tried = at[:, None] + reach[:, None] * around
            value, best = divergence(p, Bells(*tried.flatten(0, 1).T)).reshape(tried.shape[:2]).min(1)
            at = tried[torch.arange(len(at)), best]
            inside = around[best].abs().amax(1, keepdim=True) < 1
            reach = torch.where(inside, reach / 2.5, reach)  # on the border: the minimum lies farther on
            settled = reach[:, 0] < 0.005 * start[0]
            if settled.all():
                break
        fits = sorted(Fit(*row) for row in torch.stack((value.clamp_min(0), at[:, 0], at[:, 1].exp()), 1)[settled].tolist())
        return [fit for k, fit in enumerate(fits) if not any(_same(fit, other) for other in fits[:k])]


def _same(one: Fit, other: Fit) -> bool:
    return abs(one.mean - other.mean) + abs(one.sigma - other.sigma) < 0.1


def divergence_fit() -> Explorer:
    """The Gaussian nearest to a target with two modes, and the landscape of the divergence over all Gaussians."""
    landscape = Landscape()
    x = np.linspace(-8.0, 8.0, 321)
    sigmas = (0.5, 1, 2, 4)

    def compute(divergence, distance, weight, width):
        function, name, unit = DIVERGENCES[divergence]
        p = two_modes(distance, weight, width)
        target = Target(p)
        values = landscape.values(function, target)
        fits = landscape.fits(function, target, values)
        return p.log_prob(torch.from_numpy(x)).exp().numpy(), values, fits, (name, unit)

    def backdrop(axes):
        axes[0].set(xlim=(-8, 8), ylim=(0, 1.12), yticks=[], xlabel="$x$", ylabel="density", title=" ")
        axes[1].set(xlim=WINDOW[:2], ylim=WINDOW[2:], title="all Gaussians, darker where nearer")
        axes[1].set(xlabel="mean μ", ylabel="standard deviation σ")
        axes[1].set_yticks([math.log(s) for s in sigmas], [f"{s:g}" for s in sigmas])

    def draw(axes, drawn):
        density, values, fits, (name, unit) = drawn
        bells = [np.exp(-0.5 * ((x - fit.mean) / fit.sigma) ** 2 - EDGE) / fit.sigma for fit in fits]
        top = max(density.max(), *(bell.max() for bell in bells))
        axes[0].fill_between(x, density / top, color="0.82", linewidth=0)
        axes[1].imshow(_bands(values), extent=WINDOW, origin="lower", aspect="auto")
        for fit, bell in zip(fits, bells, strict=True):
            best = fit.value - fits[0].value < 1e-4
            color = style.VERMILION if best else style.INK
            line = {"linewidth": 2} if best else {"linewidth": 1.4, "linestyle": (0, (4, 3))}
            place = {"marker": "*", "markersize": 16} if best else {"marker": "o", "markersize": 8}
            axes[0].plot(x, np.where(bell > 2e-3 * top, bell / top, np.nan), color=color, **line)
            words = f"μ {fit.mean:.2f}, σ {fit.sigma:.2f}" if best else f"{fit.value:.3f}"
            axes[0].text(fit.mean, bell.max() / top + 0.02, words.replace("-", "−"), ha="center", color=color)
            axes[1].plot(fit.mean, math.log(fit.sigma), color=color, markeredgecolor="white", markeredgewidth=1.2, **place)
        axes[0].text(0.5, 1.03, f"{name} = {fits[0].value:.3f}{unit}", transform=axes[0].transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "divergence": Choice(tuple(DIVERGENCES), label="divergence"),
            "distance": Slider(0.0, 8.0, 0.1, 6.0, label="distance of the modes"),
            "weight": Slider(0.05, 0.95, 0.01, 0.4, label="weight of the left"),
            "width": Slider(0.5, 2.0, 0.05, 1.0, label="width of the right"),
        },
        backdrop=backdrop,
        panels=(1, 2),
        size=(8.8, 3.7),
        caption="Left: the target p (grey), the nearest Gaussian q (orange) and, dashed, Gaussians that are only nearer "
        "than their neighbours, with their divergence; each picture has its own scale. Right: the divergence of every "
        "Gaussian, darker where it is smaller, in bands of equal area; star and dots mark the minima.",
    )


def _bands(values: Tensor) -> np.ndarray:
    """The landscape as a picture in steps of colour, each with the same area, dark where the values are low."""
    fine = interpolate(values[None, None], scale_factor=4, mode="bicubic")[0, 0]
    edges = torch.quantile(values, torch.linspace(0, 1, len(BANDS) + 1, dtype=values.dtype)[1:-1])
    return BANDS[torch.bucketize(fine, edges).numpy()]
