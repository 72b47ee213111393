r"""Concepts as energies, and what adding, mixing and subtracting them does (thesis 2.3.1; Du et al. 2020).

    A and B        E_A + w E_B                                   p_A p_B^w, the product of experts
    A or B         −log(½ p_A + ½ p_B^w / Z_w)                   a mixture
    A, not B       E_A − w E_B                                   p_A / p_B^w

Every concept doubts itself: (1 − ε) p + ε N(0, 2²), as Hinton's experts of 2002 do. Without doubt one expert's "no" is
final; with it the others can overrule it. Far out both experts know nothing but that wide bell, whose exponents count:
1 + w for "and", 1 − w for "not". From w = 1 on "not" has no finite Z; what is drawn then is its part within the window.

Densities are sums over the cells of the window; samples are the same 300 points of the unit square, carried to them.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from gmcourse.data import toy2d
from gmcourse.ebm.product import MixtureOfExperts, ProductOfExperts, negation
from gmcourse.viz import style
from gmcourse.viz.controls import Choice, Slider
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.plane import grid
from gmcourse.viz.plots import draw_density

EXTENT, RESOLUTION, SHOWN = (-3.0, 3.0, -3.0, 3.0), 96, 300
CELL = ((EXTENT[1] - EXTENT[0]) / RESOLUTION) ** 2
RIM, AWAY = 3, 0.05  # so many cells along the border, so much mass in them: the density does not end here
WIDE = 2.0
Energy = Callable[[Tensor], Tensor]


def _bell(x: Tensor) -> Tensor:
    return x.square().sum(1) / (2 * WIDE**2) + math.log(2 * math.pi * WIDE**2)


def _ring(x: Tensor) -> Tensor:
    return 0.5 * ((x.norm(dim=1) - 1.6) / 0.25).square()


def _bar(x: Tensor) -> Tensor:
    return 0.5 * (x[:, 1] / 0.35).square() + (x[:, 0] / 2).pow(8)


def _half(x: Tensor) -> Tensor:
    return torch.nn.functional.softplus(-8 * x[:, 0]) + (x.norm(dim=1) / 2.2).pow(8)


def _disc(x: Tensor) -> Tensor:
    return (x.norm(dim=1) / 1.2).pow(12)


CONCEPTS: dict[str, Energy] = {
    "ring": _ring,
    "bar": _bar,
    "right half": _half,
    "disc": _disc,
    "nine spots": lambda x: -toy2d.GaussianGrid9(0.25).log_prob(x),
    "cross": lambda x: -torch.logaddexp(-_bar(x), -_bar(x.flip(1))),
}
HOWS = {"A and B": "and", "A or B": "or", "A, not B": "not"}


def log_z(energy: Energy, cells: Tensor) -> float:
    """log ∫ e^{−E} over the window, in nats."""
    return float((-energy(cells)).logsumexp(0)) + math.log(CELL)


def doubting(energy: Energy, doubt: float, cells: Tensor) -> Energy:
    """−log of (1 − ε) p + ε N(0, 2²), where p is e^{−E} normalised over the window."""
    if doubt == 0:
        return MixtureOfExperts(energy, log_z=(log_z(energy, cells),))
    return MixtureOfExperts(energy, _bell, log_z=(log_z(energy, cells), 0.0), weights=(1 - doubt, doubt))


def turned(energy: Energy, degrees: float) -> Energy:
    """The concept turned to the left."""
    angle = math.radians(degrees)
    back = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    return lambda x: energy(x @ back)


def composed(how: str, a: Energy, b: Energy, weight: float, cells: Tensor) -> Energy:
    """The energy of "A and B", "A or B" or "A, not B", where B counts w times; with w = 0 it does not count."""
    if how == "or":
        sharper = ProductOfExperts(b, weights=(weight,))
        return MixtureOfExperts(a, sharper, log_z=(log_z(a, cells), log_z(sharper, cells)))
    if how == "not" and weight > 0:
        return negation(a, b, weight)
    return ProductOfExperts(a, b, weights=(1.0, weight))


def carried(p: Tensor, u: Tensor) -> Tensor:
    """Points u (n, 2) of the unit square, carried to the density p (r, r): its cell by u₁, and within it by the rest."""
    total = p.flatten().cumsum(0)
    place = u[:, 0] * total[-1]
    cell = torch.searchsorted(total, place).clamp_max(len(total) - 1)
    within = torch.stack((1 - (total[cell] - place) / p.flatten()[cell], u[:, 1]), 1)
    corner = torch.stack((cell % RESOLUTION, cell // RESOLUTION), 1)
    return EXTENT[0] + (corner + within) * math.sqrt(CELL)


def compose_concepts() -> Explorer:
    """Two concepts on the plane, and what and, or, not make of them."""
    cells = grid(EXTENT, RESOLUTION).double()
    u = torch.rand(SHOWN, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    @lru_cache(maxsize=64)
    def concept(name, degrees, doubt):
        energies = doubting(turned(CONCEPTS[name], degrees), doubt, cells)(cells)
        return lambda _: energies

    def compute(a, b, how, weight, degrees, doubt):
        first, second = concept(a, 0, doubt), concept(b, degrees, doubt)
        energy = composed(how, first, second, weight, cells)
        pictures = [(-e(cells) - log_z(e, cells)).exp().reshape(RESOLUTION, -1) for e in (first, second, energy)]
        edge = 1 - float(pictures[2][RIM:-RIM, RIM:-RIM].sum()) * CELL
        return pictures, carried(pictures[2], u).numpy(), (a, b), _formula(how, weight), edge

    def backdrop(axes):
        for ax in axes:
            ax.set(xlim=EXTENT[:2], ylim=EXTENT[2:], aspect="equal", xlabel="$x_1$", title=" ")
        axes[0].set_ylabel("$x_2$")

    def draw(axes, drawn):
        pictures, samples, names, formula, edge = drawn
        words = [f"A: {names[0]}", f"B: {names[1]}", formula]
        if edge > AWAY:
            words[2] += f": {100 * edge:.0f} % at the edge"
        colours = (style.INK, style.INK, style.VERMILION if edge > AWAY else style.INK)
        for ax, picture, text, colour in zip(axes, pictures, words, colours, strict=True):
            draw_density(ax, picture, EXTENT)
            ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", fontsize=12, color=colour)
        axes[2].plot(*samples.T, ".", color=style.VERMILION, markersize=3.5, alpha=0.7, markeredgewidth=0)

    return Explorer(
        compute,
        draw,
        {
            "a": Choice(tuple(CONCEPTS), label="A"),
            "b": Choice(tuple(CONCEPTS), value="right half", label="B"),
            "how": Choice(HOWS, label="composed", buttons=True),
            "weight": Slider(0.0, 3.0, 0.05, 1.0, label="weight w of B"),
            "degrees": Slider(-180, 180, 5, 30, label="B turned, degrees"),
            "doubt": Slider(0.0, 0.2, 0.01, 0.02, label="doubt ε"),
        },
        backdrop=backdrop,
        panels=(1, 3),
        size=(9.6, 3.5),
        caption="Left and middle: two concepts, each a density of its own. Right: what their energies make together, with "
        "samples (orange). Adding energies keeps what both allow, mixing keeps what either allows, subtracting keeps what A "
        "allows and B does not; w is the power of B. Where the mass gathers at the window's edge there is no density.",
    )


def _formula(how: str, weight: float) -> str:
    power = "" if weight == 1 else f"^{weight:g}"
    return {"and": f"E(A) + {weight:g} E(B)", "or": f"½ p(A) + ½ p(B){power}", "not": f"E(A) − {weight:g} E(B)"}[how]
