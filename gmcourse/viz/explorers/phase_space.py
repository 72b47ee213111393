r"""Langevin diffusion in phase space: noise enters at a velocity and reaches the data smoothly (slides (34)–(36)).

    du = A u β dt + (0, √(2Γβ) dw),     u = (x, v),   A = [0, 1/M; −1, −Γ/M]                      slides (34)

A mixture on the line with velocities N(0, γM) is a mixture of Gaussians in the plane at all times. On the clock B = βt

    mean          E (m, 0),    E = e^{AB}
    covariance    S + E (Σ_0 − S) Eᵀ,    S = diag(1, M) of the law at rest

for every friction Γ. At Γ² = 4M, critical damping, what is left of the start fades as e^{−B/√M}. Under less friction it
swings and lasts longer, e^{−ΓB/2M}; under more it creeps. Back in time the score s of v alone counts (36): a step moves as
if at rest for half its time, which is exact, adds 2Γβ (s + v/M) dt to v, and moves again. This is SSCS, as in
`gmcourse.diffusion.cld_samplers`, for any Γ. It begins at rest, as if nothing of the data were left at t = 1.
"""

from functools import lru_cache

import numpy as np
import torch
from matplotlib.collections import LineCollection
from scipy.linalg import expm

from gmcourse.data.toy1d import Mixture1D
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, LogSlider, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.plots import draw_density

LAW = Mixture1D()
BETA, MASS, GAMMA0 = 4.0, 0.25, 0.04
CRITICAL = 2 * MASS**0.5
REST = np.diag([1.0, MASS])
STEPS, PARTICLES, TRAILS, TRAIL = 100, 300, 5, 16
TIMES = np.linspace(0, 1, STEPS + 1) ** 2  # finer near the data, where v is narrow
EXTENT = (-2.8, 2.8, -1.6, 1.6)
COLUMNS, ROWS = 84, 48
BINS = np.linspace(*EXTENT[:2], 57)


class Modes:
    """The law of u at times t (m,): modes of `weights` (k,), `means` (m, k, 2) and `covariances` (m, k, 2, 2)."""

    def __init__(self, t: np.ndarray, friction: float):
        self.weights = LAW.weights.numpy()
        e = propagator(BETA * t, friction)
        start = np.zeros((len(self.weights), 2, 2))
        start[:, 0, 0], start[:, 1, 1] = LAW.sigmas.square().numpy(), GAMMA0 * MASS
        self.left = e[:, 0, 0]  # of x_0 in the mean of x
        self.means = e[:, None, :, 0] * LAW.means.numpy()[:, None]
        self.covariances = REST + e[:, None] @ (start - REST) @ e[:, None].swapaxes(-1, -2)
        self._inverses = np.linalg.inv(self.covariances)
        self._logs = np.log(self.weights) - 0.5 * np.linalg.slogdet(2 * np.pi * self.covariances)[1]

    def density(self, at: int, u: np.ndarray) -> np.ndarray:
        """p(u) at the time of that number, u (2, n) -> (n,)."""
        return np.exp(self._terms(at, u)[0]).sum(0)

    def score(self, at: int, u: np.ndarray) -> np.ndarray:
        """∂ log p/∂v, u (2, n) -> (n,)."""
        logs, slopes = self._terms(at, u)
        share = np.exp(logs - logs.max(0))
        return (share * slopes).sum(0) / share.sum(0)

    def marginal(self, at: int, x: np.ndarray) -> np.ndarray:
        """p(x), (n,) -> (n,)."""
        variance = self.covariances[at, :, 0, 0, None]
        squares = (x - self.means[at, :, 0, None]) ** 2 / variance
        return self.weights @ (np.exp(-0.5 * squares) / np.sqrt(2 * np.pi * variance))

    def _terms(self, at: int, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log of each mode's part of p(u), and its slope by v, both (k, n)."""
        x, v = u[:, None] - self.means[at].T[:, :, None]
        p = self._inverses[at][:, :, :, None]
        pull = p[:, 0, 1] * x + p[:, 1, 1] * v
        squares = x * (p[:, 0, 0] * x + p[:, 0, 1] * v) + v * pull
        return self._logs[at][:, None] - 0.5 * squares, -pull


def propagator(clock: np.ndarray, friction: float) -> np.ndarray:
    """e^{AB} for each B (m,), (m, 2, 2)."""
    return expm(clock[:, None, None] * np.array([[0.0, 1 / MASS], [-1.0, -friction / MASS]]))


def motion(clock: np.ndarray, friction: float) -> tuple[np.ndarray, np.ndarray]:
    """E and L, both (m, 2, 2), with u after B on the clock = E u + L z; L is lower triangular."""
    e = propagator(clock, friction)
    spread = REST - e @ REST @ e.swapaxes(1, 2)
    root = np.zeros_like(spread)
    root[:, 0, 0] = np.sqrt(np.maximum(spread[:, 0, 0], 1e-30))  # of order B³, and lost in round-off before it is 0
    root[:, 1, 0] = spread[:, 1, 0] / root[:, 0, 0]
    root[:, 1, 1] = np.sqrt(np.maximum(spread[:, 1, 1] - root[:, 1, 0] ** 2, 0))
    return e, root


class Noise:
    """What all walks draw: data and velocities, rest, and z for the steps forward and for the half steps back."""

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        kind = {"generator": generator, "dtype": torch.float64}
        x = LAW.sample(PARTICLES, generator=generator).double()
        v = torch.randn(PARTICLES, **kind)
        self.data = torch.stack((x, (GAMMA0 * MASS) ** 0.5 * v)).numpy()
        self.rest = np.sqrt(np.diag(REST))[:, None] * torch.randn(2, PARTICLES, **kind).numpy()
        self.forward = torch.randn(STEPS, 2, PARTICLES, **kind).numpy()
        self.back = torch.randn(STEPS, 2, 2, PARTICLES, **kind).numpy()


def forward(friction: float, noise: Noise) -> np.ndarray:
    """u at each of `TIMES`, exact in law, (STEPS + 1, 2, n)."""
    path = [noise.data]
    for e, root, z in zip(*motion(BETA * np.diff(TIMES), friction), noise.forward, strict=True):
        path.append(e @ path[-1] + root @ z)
    return np.stack(path)


def back(friction: float, noise: Noise) -> np.ndarray:
    """u at each of `TIMES`, walked from rest at the last to data at the first, (STEPS + 1, 2, n)."""
    gaps, turn = BETA * np.diff(TIMES), np.array([[-1.0], [1.0]])
    halves, roots = motion(gaps / 2, friction)
    halves, roots = turn * halves * turn.T, turn * roots  # the way of (−x, v)
    middle = Modes((TIMES[1:] + TIMES[:-1]) / 2, friction)
    u, path = noise.rest, [noise.rest]
    for k in reversed(range(STEPS)):
        u = halves[k] @ u + roots[k] @ noise.back[k, 0]
        u[1] += 2 * friction * gaps[k] * (middle.score(k, u) + u[1] / MASS)
        u = halves[k] @ u + roots[k] @ noise.back[k, 1]
        path.append(u)
    return np.stack(path[::-1])


def damping(friction: float) -> str:
    """Which of the three."""
    ratio = friction / CRITICAL
    return "critical" if abs(ratio - 1) < 0.01 else "underdamped: swings" if ratio < 1 else "overdamped: creeps"


def cld_phase_space() -> Explorer:
    """The law of position and velocity at time t under any friction, particles on the way there or on the way back."""
    noise = Noise()
    plane = np.stack(np.meshgrid(_centres(*EXTENT[:2], COLUMNS), _centres(*EXTENT[2:], ROWS))).reshape(2, -1)
    line = np.linspace(*EXTENT[:2], 281)
    data = LAW.log_prob(torch.from_numpy(line)).exp().numpy()
    law = lru_cache(maxsize=64)(lambda friction: Modes(TIMES, friction))
    walked = lru_cache(maxsize=64)(lambda way, friction: WAYS[way](friction, noise))

    def compute(way, t, friction):
        at, modes, path = round(STEPS * t**0.5), law(friction), walked(way, friction)
        so_far = slice(0, at + 1) if way == "forward" else slice(at, None)
        recent = slice(max(0, at - TRAIL), at + 1) if way == "forward" else slice(at, at + TRAIL + 1)
        density = torch.from_numpy(modes.density(at, plane).reshape(ROWS, COLUMNS))
        counts = np.histogram(path[at, 0], BINS)[0] / (PARTICLES * (BINS[1] - BINS[0]))
        words = damping(friction), f"mean of x: {modes.left[at]:.3f} x₀"
        lines = path[recent, :, :TRAILS].transpose(2, 0, 1)
        return density, path[at], lines, (counts, modes.marginal(at, line)), (TIMES[so_far], path[so_far, :, :2]), words

    def backdrop(axes):
        axes[0].set(xlim=EXTENT[:2], ylim=EXTENT[2:], title=" ", xlabel="position x", ylabel="velocity v")
        axes[1].set(xlim=EXTENT[:2], ylim=(0, 1.6), yticks=[], title=" ", xlabel="position x")
        axes[1].plot(line, data, color="0.7", linewidth=1.2)
        axes[2].set(xlim=(0, 1), ylim=(-2.8, 2.8), xlabel="time t", title="two particles")
        axes[2].axhline(0, color="0.8", linewidth=0.8)

    def draw(axes, drawn):
        density, u, lines, (counts, marginal), (times, pair), words = drawn
        draw_density(axes[0], density, EXTENT)
        axes[0].scatter(*u, s=5, color=style.VERMILION, linewidths=0)
        axes[0].add_collection(LineCollection(lines, colors=style.INK, linewidths=0.9, alpha=0.7), autolim=False)
        axes[1].stairs(counts, BINS, fill=True, color=style.VERMILION, alpha=0.5)
        axes[1].plot(line, marginal, color=style.BLUE)
        for part, colour in ((1, style.ORANGE), (0, style.BLUE)):
            axes[2].plot(times, pair[:, part], color=colour, linewidth=1.2)
        for ax, text in zip(axes, words, strict=False):
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "way": Choice(list(WAYS), label="particles go", buttons=True),
            "t": Slider(0.0, 1.0, 0.01, 0.15, label="time t"),
            "friction": LogSlider(0.2, 5.0, CRITICAL, label="friction Γ", steps=28),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(9.6, 3.4),
        caption=f"β = {BETA:g}, M = {MASS:g}: critical damping is Γ = {CRITICAL:g}. Left: the law of position and velocity "
        "at t, particles, and the last steps of some. Middle: x, its law (blue) and the particles (orange); grey, the data; "
        "above, what is left of where a particle began. Right: x (blue) is smooth and v (orange) rough, since noise enters "
        "at v. The way back begins at rest, at t = 1, and has the exact score of v.",
    )


def _centres(low: float, high: float, n: int) -> np.ndarray:
    """Of n equal cells, (n,)."""
    return low + (high - low) * (np.arange(n) + 0.5) / n


WAYS = {"forward": forward, "back": back}
