"""Five families, one line of data: what each net learns, and what its samples look like while it learns.

Everything is exact, on the mixture of thesis Fig. 6.3; s runs from knowing nothing (0) to having learned everything (1).

    VAE         x = G(z) + σ ε                 a decoder and a cloud around it: the density is blurred by σ
    flow        x = G(z), G invertible         the density follows from the slope: N(z) / G′(z)
    EBM         p ∝ exp(−E(x))                 the energy is learned, sampling is a walk
    diffusion   ∇ log p_t(x)                   the score at every noise level
    GAN         D = p / (p + p_G)              a judge, at a loss (D = ½) when the generator is perfect
"""

import math

import numpy as np
import torch

from gmcourse.data.toy1d import Mixture1D
from gmcourse.viz import style
from gmcourse.viz.controls import Slider
from gmcourse.viz.explorer import Explorer

FAMILIES = ("VAE", "flow", "EBM", "diffusion", "GAN")
LEARNED = ("decoder $G(z) \\pm \\sigma$", "map $x = G(z)$", "energy $E(x)$", "score $\\nabla\\log p_t(x)$", "judge $D(x)$")
BLUR = 0.2


class OnTheLine:
    """All five families on one mixture, exactly: `at(s)` gives what each has learned and the density it then samples.

    Attributes:
        x: where densities, energy, score and judge are evaluated; `truth` is the data's density there.
        axis: where the decoder G is evaluated.
    """

    def __init__(self, data: Mixture1D):
        self.data = data
        self.x, self.axis = np.linspace(-2.6, 2.6, 261), np.linspace(-3, 3, 301)
        self.truth = data.log_prob(torch.from_numpy(self.x)).exp().numpy()
        self._quantile, self._z = _transport(data)
        self._normal = _normal(self._z)
        self._slope = self._normal / data.log_prob(torch.from_numpy(self._quantile)).exp().numpy()

    def at(self, s: float) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """(learned, densities) in the order of FAMILIES; s = 0 knows nothing, s = 1 everything."""
        x, g = self.x, (1 - s) * self._z + s * self._quantile
        decoder = np.interp(self.axis, self._z, g)
        flow = np.interp(x, g, self._normal / ((1 - s) + s * self._slope))
        few = slice(None, None, 10)  # of the dense points: enough under a blur
        mass = (self._normal * np.gradient(self._z))[few] * 10
        blurred = _normal((x[:, None] - g[few]) / BLUR) @ mass / BLUR
        energy = -s * np.log(self.truth) + (1 - s) * 0.5 * x**2
        energy -= energy.min()
        boltzmann = np.exp(-energy)
        noisy = self.data.diffused(math.sin(math.pi / 2 * s), math.cos(math.pi / 2 * s))
        points = torch.from_numpy(x)
        judge = self.truth / (self.truth + flow)
        learned = (decoder, decoder, energy, noisy.score(points).numpy(), judge)
        densities = (blurred, flow, boltzmann / np.trapezoid(boltzmann, x), noisy.log_prob(points).exp().numpy(), flow)
        return learned, densities


def five_families() -> Explorer:
    """One slider from nothing learned to everything learned, for all five families side by side."""
    line = OnTheLine(Mixture1D())
    x, axis = line.x, line.axis

    def backdrop(axes):
        limits = ((-2.6, 2.6), (-2.6, 2.6), (-0.3, 8), (-12, 12), (0, 1.05))
        for top, bottom, family, learned, limit in zip(axes[:5], axes[5:], FAMILIES, LEARNED, limits, strict=True):
            noise = family in ("VAE", "flow")
            top.set_title(f"{family}\n{learned}", fontsize=11)
            top.set(xlim=(-3, 3) if noise else (-2.6, 2.6), ylim=limit, xlabel="$z$" if noise else "$x$")
            bottom.set(xlim=(-2.6, 2.6), ylim=(0, 1.6), xlabel="$x$", yticks=[])
            bottom.fill_between(x, line.truth, color="0.85")
        axes[4].axhline(0.5, color="0.7", linestyle=":")
        axes[5].set_ylabel("density")

    def draw(axes, drawn):
        learned, densities = drawn
        axes[0].fill_between(axis, learned[0] - BLUR, learned[0] + BLUR, color=style.VERMILION, alpha=0.25)
        for i, (top, bottom) in enumerate(zip(axes[:5], axes[5:], strict=True)):
            top.plot(axis if i < 2 else x, learned[i], color=style.VERMILION)
            bottom.plot(x, densities[i], color=style.BLUE)

    return Explorer(
        line.at,
        draw,
        {"s": Slider(0.0, 1.0, 0.01, 0.7, label="learned so far")},
        backdrop=backdrop,
        panels=(2, 5),
        size=(12.0, 4.6),
        caption="Above, what the net of each family learns; below, the density of its samples (blue) over the data (grey).",
    )


def _transport(data: Mixture1D) -> tuple[np.ndarray, np.ndarray]:
    """The increasing map that carries N(0, 1) to the data, as points (G(z), z) that are dense where G is steep."""
    quantile = torch.linspace(-3.2, 3.2, 6401, dtype=torch.float64)
    z = torch.special.ndtri(data.cdf(quantile))
    inside = z.abs() < 6
    return quantile[inside].numpy(), z[inside].numpy()


def _normal(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
