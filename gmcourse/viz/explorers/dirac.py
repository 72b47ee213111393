r"""The Dirac-GAN in its plane: what every step of two players does near an equilibrium, and far from it (slides (45)).

    θ: the only fake, data at 0     ψ: the critic's slope, D(x) = ψx     both sides blurred by z ~ N(0, s²) if there is noise
    dθ/dτ = −ψ E g'(ψ(θ + z))
    dψ/dτ = −θ E f'(ψ(θ + z)) − s²ψ E[f''(ψ(θ + z)) + f''(ψz)] − γψ − penalty's slope

The second line is that of `gmcourse.gan.dynamics` after Stein's lemma, E[z h(z)] = s² E h', and r'(t) = −f'(−t), which all
five games share: instance noise is an R1 whose γ is s² times the curvature of the loss. Steps are those of `simulate`, the
way of infinitely small ones that of `flow`, here in plain numbers: a slider asks for a thousand of them, one by one.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gmcourse.gan.dynamics import SLOPES, DiracGAN
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, LogSlider, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.plane import grid
from gmcourse.viz.plots import draw_arrows

EXTENT, ARROWS = (-3.0, 3.0, -3.0, 3.0), 15
STEPS, FAR = 200, 1e3
LONG, PACE, SMOOTH_PACE = 40.0, 0.05, 0.25  # the flow's time, its steps, and those with noise, which rounds all corners
SEEN = (1e-3, 1e2)  # distances
NUDGE = 1e-5  # for central differences
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
WEIGHTS = WEIGHTS / WEIGHTS.sum()

Pair = tuple[float, float]
Step = Callable[["Duel", Pair, Pair, float], Pair]

REGULARISERS: dict[str, Callable[[float], dict]] = {
    "none": lambda strength: {},
    "R1, γ": lambda strength: {"r1": strength},
    "gradient penalty, λ": lambda strength: {"penalty": strength},
    "one-sided penalty, λ": lambda strength: {"penalty": strength, "one_sided": True},
    "instance noise, s": lambda strength: {"noise": strength},
    "clipping, c": lambda strength: {"clip": strength},
}


def _sigmoid(t: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * t))


def _logistic(mean: float, width: float) -> Pair:
    """E σ(t) and E σ'(t) for t ~ N(mean, width²)."""
    if width == 0:
        p = _sigmoid(mean)
        return p, p * (1 - p)
    p = 0.5 * (1 + np.tanh(0.5 * (mean + width * NODES)))
    return float(WEIGHTS @ p), float(WEIGHTS @ (p * (1 - p)))


def _hinge(mean: float, width: float) -> Pair:
    """P(t > −1) and the density of t at −1; without noise the jump is left out, as autograd does."""
    if width == 0:
        return float(mean > -1), 0.0
    u = (1 + mean) / width
    return 0.5 * (1 + math.erf(u / math.sqrt(2))), math.exp(-0.5 * u * u) / (width * math.sqrt(2 * math.pi))


class Play(NamedTuple):
    """A game's slopes under noise: (E f', E f'') by the fake logit's mean and width, and E g' by its mean and E f'."""

    fake: Callable[[float, float], Pair]
    generator: Callable[[float, float], float]


PLAYS = {
    "minimax": Play(_logistic, lambda mean, slope: -slope),
    "non-saturating": Play(_logistic, lambda mean, slope: slope - 1),
    "least-squares": Play(lambda mean, width: (mean + 1, 1.0), lambda mean, slope: mean - 1),
    "wasserstein": Play(lambda mean, width: (1.0, 0.0), lambda mean, slope: -1.0),
    "hinge": Play(_hinge, lambda mean, slope: -1.0),
}


class Duel:
    """The field of a `DiracGAN` at one point, in floats."""

    def __init__(self, game: DiracGAN):
        self.game, self.play = game, PLAYS[game.objective]

    def free(self, theta: float, psi: float) -> Pair:
        """(dθ/dτ, dψ/dτ) without R1 and gradient penalty."""
        width, mean = abs(psi) * self.game.noise, theta * psi
        slope, bend = self.play.fake(mean, width)
        damping = self.game.noise**2 * (bend + self.play.fake(0.0, width)[1]) if self.game.noise else 0.0
        return -psi * self.play.generator(mean, slope), -theta * slope - damping * psi

    def penalised(self, psi: float) -> Pair:
        """What R1 and gradient penalty take from dψ/dτ, and the derivative of that."""
        game, excess = self.game, abs(psi) - 1
        twice = 0.0 if psi == 0 or (game.one_sided and excess < 0) else 2 * game.penalty
        return game.r1 * psi + twice * math.copysign(1.0, psi) * excess, game.r1 + twice

    def field(self, x: Pair) -> Pair:
        """(dθ/dτ, dψ/dτ)."""
        d_theta, d_psi = self.free(*x)
        return d_theta, d_psi - self.penalised(x[1])[0]

    def pull(self, x: Pair, v: Pair) -> Pair:
        """Jᵀv, by central differences where there are no kinks."""
        (theta, psi), e = x, NUDGE
        columns = []
        for before, after in (((theta - e, psi), (theta + e, psi)), ((theta, psi - e), (theta, psi + e))):
            low, high = self.free(*before), self.free(*after)
            columns.append(((high[0] - low[0]) * v[0] + (high[1] - low[1]) * v[1]) / (2 * e))
        return columns[0], columns[1] - self.penalised(psi)[1] * v[1]

    def clipped(self, x: Pair) -> Pair:
        """x with |ψ| ≤ c."""
        return x[0], min(max(x[1], -self.game.clip), self.game.clip)


def simultaneous(duel: Duel, x: Pair, before: Pair, h: float) -> Pair:
    """Both players answer the same point."""
    v = duel.field(x)
    return x[0] + h * v[0], x[1] + h * v[1]


def alternating(duel: Duel, x: Pair, before: Pair, h: float) -> Pair:
    """The critic moves, and the generator answers."""
    x = duel.clipped((x[0], x[1] + h * duel.field(x)[1]))
    return x[0] + h * duel.field(x)[0], x[1]


def optimistic(duel: Duel, x: Pair, before: Pair, h: float) -> Pair:
    """2v − v before."""
    v, last = duel.field(x), duel.field(before)
    return x[0] + h * (2 * v[0] - last[0]), x[1] + h * (2 * v[1] - last[1])


def consensus(duel: Duel, x: Pair, before: Pair, h: float) -> Pair:
    """v − Jᵀv."""
    v = duel.field(x)
    pull = duel.pull(x, v)
    return x[0] + h * (v[0] - pull[0]), x[1] + h * (v[1] - pull[1])


RULES: dict[str, Step] = {
    "simultaneous": simultaneous,
    "alternating": alternating,
    "optimistic": optimistic,
    "consensus": consensus,
}


def steps(duel: Duel, x: Pair, rule: Step, h: float, count: int = STEPS) -> np.ndarray:
    """Points (up to count + 1, 2) of the steps from x; they end where the players have run away."""
    path = [x, x]
    while len(path) < count + 2 and math.hypot(*path[-1]) < FAR:
        path.append(duel.clipped(rule(duel, path[-1], path[-2], h)))
    return np.array(path[1:])


def flow(duel: Duel, x: Pair, time: float, pace: float) -> np.ndarray:
    """Points (k + 1, 2) of the flow from x, evenly in time, by RK4 with k steps of at most `pace`."""

    def within(theta: float, psi: float) -> Pair:
        inside = duel.clipped((theta, psi))
        v = duel.field(inside)
        return v if abs(psi) < duel.game.clip or v[1] * psi <= 0 else (v[0], 0.0)

    count = math.ceil(time / pace)
    h, path = time / count, [duel.clipped(x)]
    for _ in range(count):
        theta, psi = path[-1]
        a = within(theta, psi)
        b = within(theta + h / 2 * a[0], psi + h / 2 * a[1])
        c = within(theta + h / 2 * b[0], psi + h / 2 * b[1])
        d = within(theta + h * c[0], psi + h * c[1])
        ends = (y + h / 6 * (p + 2 * q + 2 * r + s) for y, p, q, r, s in zip((theta, psi), a, b, c, d, strict=True))
        path.append(duel.clipped(tuple(ends)))
    return np.array(path)


def eigenvalues(game: DiracGAN, h: float | None) -> str:
    """Eigenvalues of J at (0, 0) in words; with h also |1 + hλ|, the factor of a simultaneous step."""
    if game.penalty and not game.one_sided:
        return "a kink at (0, 0): no Jacobian"
    first, second = (complex(value) for value in game.eigenvalues())
    if first.imag:
        words = f"λ = {first.real:.2g} ± {abs(first.imag):.2g}i" if first.real else f"λ = ±{abs(first.imag):.2g}i"
    else:
        words = f"λ = {first.real:.2g}, {second.real:.2g}"
    if h is not None:
        words += f",  |1 + hλ| = {max(abs(1 + h * first), abs(1 + h * second)):.4g}"
    return words.replace("-", "−")


def dirac_gan() -> Explorer:
    """Steps and flow of the Dirac-GAN for all objectives, regularisers and rules, and the eigenvalues at (0, 0)."""
    places = grid(EXTENT, ARROWS)

    @lru_cache(maxsize=32)
    def played(objective, regulariser, strength):
        game = DiracGAN(objective, **REGULARISERS[regulariser](strength))
        return game, Duel(game), game.field(places)

    @lru_cache(maxsize=256)
    def flowed(objective, regulariser, strength, radius, time):
        game, duel, _ = played(objective, regulariser, strength)
        return flow(duel, (radius, 0.0), time, SMOOTH_PACE if game.noise else PACE)

    def compute(objective, regulariser, strength, rule, h, radius):
        game, duel, field = played(objective, regulariser, strength)
        path = steps(duel, (radius, 0.0), RULES[rule], h)
        time = min(STEPS * h, LONG)
        smooth = flowed(objective, regulariser, strength, radius, time)
        words = eigenvalues(game, h if rule == "simultaneous" else None)
        return field, path, (smooth, time / h), game.clip, words

    def backdrop(axes):
        axes[0].set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", title=" ")
        axes[0].set(xlabel="θ, the fake", ylabel="ψ, the critic's slope")
        axes[0].axhline(0, color="0.85", linewidth=0.8)
        axes[0].axvline(0, color="0.85", linewidth=0.8)
        axes[1].set(xlim=(0, STEPS), ylim=SEEN, yscale="log", xlabel="step", title=" ")
        axes[1].set_ylabel("distance from (0, 0)")
        axes[1].set_yticks([0.001, 0.01, 0.1, 1, 10, 100], ["0.001", "0.01", "0.1", "1", "10", "100"])
        axes[1].minorticks_off()

    def draw(axes, drawn):
        field, path, (smooth, lasts), clip, words = drawn
        draw_arrows(axes[0], places, field, EXTENT, color="0.6")
        axes[0].plot(*smooth.T, color=style.BLUE, linewidth=1.5)
        axes[0].plot(*path.T, ".-", color=style.VERMILION, linewidth=0.7, markersize=4.5)
        axes[0].plot(*path[0], "o", color=style.INK, markersize=7)
        if clip < EXTENT[3]:
            axes[0].hlines([-clip, clip], *EXTENT[:2], color=style.INK, linewidth=1, linestyle=(0, (4, 3)))
        axes[1].plot(np.linspace(0, lasts, len(smooth)), np.hypot(*smooth.T), color=style.BLUE)
        axes[1].plot(np.hypot(*path.T), color=style.VERMILION)
        axes[0].text(0.5, 1.03, _fate(path), transform=axes[0].transAxes, ha="center", fontsize=12)
        axes[1].text(0.5, 1.03, words, transform=axes[1].transAxes, ha="center", fontsize=12)

    return Explorer(
        compute,
        draw,
        {
            "objective": Choice(tuple(SLOPES), value="wasserstein", label="game"),
            "regulariser": Choice(tuple(REGULARISERS), label="regulariser, strength"),
            "strength": Slider(0.05, 2.0, 0.05, 0.5, label="its strength"),
            "rule": Choice(tuple(RULES), label="steps are"),
            "h": LogSlider(0.02, 0.5, 0.1, label="step h", steps=28),
            "radius": Slider(0.1, 2.5, 0.1, 1.5, label="fakes begin at θ"),
        },
        backdrop=backdrop,
        panels=(1, 2),
        size=(8.8, 4.2),
        caption="One fake at θ, the data at 0, a critic that is a line of slope ψ. Left: where both players want to go "
        f"(arrows, right directions and compressed lengths), {STEPS} steps from the black dot (orange), and infinitely "
        f"small steps for the same time, {LONG:g} at most (blue); dashed, the bounds of a clipped critic. Right: distance "
        "from the equilibrium; above, the eigenvalues λ of the field there, clipping apart, and what a simultaneous step "
        "near it multiplies distances by, which has to be below 1.",
    )


def _fate(path: np.ndarray) -> str:
    """What became of the players, in words."""
    end = math.hypot(*path[-1])
    if end >= FAR:
        return f"ran away within {len(path) - 1} steps"
    outside = np.abs(path).max(1) > EXTENT[1]
    if outside[-1]:
        return f"out of the window since step {len(path) - int(outside[::-1].argmin())}"
    return f"after {STEPS} steps at distance {end:.2g}"
