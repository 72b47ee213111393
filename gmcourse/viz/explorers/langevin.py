r"""Langevin particles in a landscape with two modes (thesis (1.15)–(1.18)).

    p(x) = w N(x; (−d/2, 0), σ² I) + (1 − w) N(x; (d/2, 0), σ² I),     s = ∇ log p = −∇E
    ULA     x' = x + (η/2) s(x) + √(ηT) ω
    MALA    the same as a proposal, accepted with probability min(1, e^{−(E(x')−E(x))/T} q(x|x') / q(x'|x))

Both are to sample p^{1/T}. All particles start in the left mode, the lighter one, and have to find the right one. Beside
that, ULA has its own error: across the modes (x₂) its variance is σ²T / (1 − η/(4σ²)) instead of σ²T, and for η above
4σ² = 4/L, L the largest curvature of E, it runs away.

The walk is that of `gmcourse.sampling`, written out for this one density: its score takes a logistic function of x₁.
"""

import math
from functools import lru_cache

import numpy as np
import torch

from gmcourse.viz import style
from gmcourse.viz.controls import LogSlider, Slider, Switch
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.plots import draw_density

WEIGHT, SIGMA = 0.3, 0.4
LIMIT = 4 * SIGMA**2  # 4/L
PARTICLES, STEPS = 250, 200
EXTENT = (-4.0, 4.0, -3.0, 3.0)
FAR = 100.0  # beyond, particles have run away
TAIL = 25  # steps of one particle that are shown
BINS = np.linspace(-4.0, 4.0, 65)


class TwoModes:
    """p with modes at (∓distance/2, 0): energy up to a constant, and score; at x₁ = `border` one mode hands over."""

    def __init__(self, distance: float):
        self.pull = distance / SIGMA**2
        self.offset = math.log((1 - WEIGHT) / WEIGHT)
        self.left = -distance / 2
        self.border = -self.offset / self.pull

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """E (n,) and s (2, n) of points x (2, n)."""
        logit = self.pull * x[0] + self.offset  # of the right mode against the left
        softplus = np.logaddexp(0, logit)
        away = x.copy()
        away[0] -= self.left
        score = away * (-1 / SIGMA**2)
        energy = (away * score).sum(0) * -0.5 - softplus
        score[0] += np.exp(logit - softplus) * self.pull
        return energy, score


class Noise:
    """What every walk draws, in the order in which MALA does: ω (STEPS, 2, n), log u (STEPS, n), and a start (2, n)."""

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        kind = {"generator": generator, "dtype": torch.float64}
        draws = [(torch.randn(PARTICLES, 2, **kind), torch.rand(PARTICLES, **kind)) for _ in range(STEPS)]
        self.omega = torch.stack([omega.T for omega, _ in draws]).numpy().copy()
        self.log_u = torch.stack([u for _, u in draws]).log().numpy()
        self.start = 0.1 * torch.randn(2, PARTICLES, **kind).numpy()


def walk(modes: TwoModes, noise: Noise, step: float, temperature: float, mala: bool) -> tuple[np.ndarray, np.ndarray]:
    """Points (STEPS + 1, 2, n) from the left mode on, and the share of accepted proposals in each step (STEPS,)."""
    x = noise.start + np.array([[modes.left], [0.0]])
    energy, score = modes(x)
    points, accepted = np.empty((STEPS + 1, *x.shape)), np.ones(STEPS)
    points[0] = x
    spread, back = math.sqrt(step * temperature), 0.5 * math.sqrt(step / temperature)
    for t, omega in enumerate(noise.omega):
        new = x + 0.5 * step * score + spread * omega
        new_energy, new_score = modes(new)
        if mala:
            omega_back = omega + back * (score + new_score)
            log_ratio = (energy - new_energy) / temperature + 0.5 * (omega * omega - omega_back * omega_back).sum(0)
            stays = ~(noise.log_u[t] < log_ratio)
            for now, before in ((new, x), (new_score, score), (new_energy, energy)):
                np.copyto(now, before, where=stays)
            accepted[t] = 1 - stays.mean()
        x, energy, score = new, new_energy, new_score
        points[t + 1] = x
    return points, accepted


def tempered(modes: TwoModes, temperature: float, x1: np.ndarray) -> np.ndarray:
    """The marginal of x₁ under p^{1/T}, normalised over the equally spaced points x1 (m,): x₂ drops out."""
    energy = modes(np.stack((x1, np.zeros_like(x1))))[0]
    values = np.exp((energy.min() - energy) / temperature)
    return values / (values.sum() * (x1[1] - x1[0]))


def langevin_particles() -> Explorer:
    """Particles that start in one of two modes and walk by ULA or MALA: do they find the other, is the law right?"""
    noise = Noise()
    x1, x2 = np.linspace(-6.0, 6.0, 1201), np.linspace(EXTENT[2], EXTENT[3], 61)
    seen = slice(200, 1001, 8)
    recorded = lru_cache(maxsize=8)(lambda distance, *how: walk(TwoModes(distance), noise, *how))

    @np.errstate(over="ignore", invalid="ignore")  # some steps are too large
    def compute(step, temperature, steps, mala, distance):
        modes = TwoModes(distance)
        points, accepted = recorded(distance, step, temperature, mala)
        marginal = tempered(modes, temperature, x1)
        across = np.exp(-0.5 * x2**2 / (SIGMA**2 * temperature))
        truth = marginal[x1 > modes.border].sum() * (x1[1] - x1[0])
        late = points[(steps + 1) // 2 : steps + 1]
        right = (points[:, 0] > modes.border).mean(1)
        picture = torch.from_numpy(across[:, None] * marginal[seen])
        sd = late[:, 1].std()
        fate = f"MALA: {100 * accepted[:steps].mean():.0f} % taken" if mala and steps else "MALA" if mala else "ULA"
        words = (
            f"diverges: η > 4/L = {LIMIT:.2f}" if step > LIMIT and not mala else fate,
            f"sd of x₂: {sd:.2f} ({SIGMA * math.sqrt(temperature):.2f})" if sd < FAR else "sd of x₂: ∞",
        )
        return picture, points[: steps + 1], late[:, 0], marginal[seen], (right, truth), words

    def backdrop(axes):
        axes[0].set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", title=" ", xlabel="$x_1$", ylabel="$x_2$")
        axes[1].set(xlim=EXTENT[:2], ylim=(0, 1.08), yticks=[], xlabel="$x_1$", title=" ")
        axes[2].set(xlim=(0, STEPS), ylim=(0, 1), xlabel="step", title="share in the right mode")

    def draw(axes, drawn):
        density, points, late, marginal, (right, truth), words = drawn
        steps = len(points) - 1
        draw_density(axes[0], density, EXTENT)
        if np.abs(points[-1]).max() < FAR:
            axes[0].plot(*points[-TAIL:, :, 0].T, color=style.INK, linewidth=1)
        axes[0].plot(*points[-1], ".", color=style.VERMILION, markersize=5, alpha=0.7, markeredgewidth=0)
        found = np.histogram(late, BINS)[0] / (late.size * (BINS[1] - BINS[0]))
        top = max(found.max(), marginal.max())
        axes[1].fill_between(x1[seen], marginal / top, color="0.82", linewidth=0)
        axes[1].plot(BINS, np.append(found, 0.0) / top, drawstyle="steps-post", color=style.VERMILION, linewidth=1.6)
        axes[2].plot([0, STEPS], [truth, truth], color="0.5", linestyle=(0, (4, 3)), linewidth=1.4)
        axes[2].plot(right, color=style.VERMILION, alpha=0.3)
        axes[2].plot(right[: steps + 1], color=style.VERMILION)
        axes[2].plot(steps, right[steps], "o", color=style.VERMILION, markersize=7)
        for ax, text in zip(axes, words, strict=False):
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "step": LogSlider(0.005, 2.0, 0.1, label="step η", steps=52),
            "temperature": LogSlider(0.25, 4.0, 1.0, label="temperature T", steps=24),
            "steps": Slider(0, STEPS, 1, 100, label="steps"),
            "mala": Switch(False, label="MALA"),
            "distance": Slider(0.8, 4.0, 0.1, 2.0, label="distance of the modes"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(11.0, 3.2),
        caption="All particles start in the left mode; more steps continue the same walk. Left: p at temperature T (blue), "
        "the particles, and the last 25 steps of one. Middle: x₁ in the second half of the walk so far (orange) and as it "
        "should be (grey); above, how far x₂ spreads and, in brackets, how far it should. Right: the particles that have "
        "found the right mode; dashed, how many belong there.",
    )

