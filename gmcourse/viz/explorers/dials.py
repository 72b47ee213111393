r"""Planar, radial and Sylvester layers of the plane with the same dials, invertible or not.

    planar      x = z + u h(wᵀz + b)                 det = 1 + wᵀu h′                        slides (7), (8)
    radial      x = z + β h(r) (z − x₀),  h = 1/(α + r)    det = (1 + βh)(1 + αβh²)             slides (10), D = 2
    Sylvester   x = z + Q R h(R̃ Qᵀz + b)             det = (1 + r₁₁r̃₁₁ h₁′)(1 + r₂₂r̃₂₂ h₂′)     slides (9), D = M = 2

With h = tanh one dial serves all three. The strength s is wᵀu, β/α, or both products r_ii r̃_ii: every factor of a
determinant lies between 1 and 1 + s, which it reaches at the place c. s > −1 is the condition for a bijection: below, the
plane is folded over itself. The dials, e the unit vector of the angle:

    sharpness k     ‖w‖, 1/α, r̃_ii              place c    b = −kc, or x₀ = c e
    planar          w = k e,  u = (s/k) e + t e⊥         shear t: u across w does not change volumes
    Sylvester       Q = (e, e⊥),  R = [[s/k, t], [0, s/k]],  R̃ = k I

Along one coordinate planar and Sylvester layers are the same map, a ↦ a + (s/k) tanh(k(a − c)), which a table inverts.
Here noise → data is the layer's own formula, so that its strength can be read off the picture.
"""

import math
from abc import ABC, abstractmethod

import numpy as np

TABLE = np.linspace(-60, 60, 48001)
FLOOR = 1e-3  # densities are computed as if no determinant were smaller


class Dial(ABC):
    """A layer noise → data of strength s, sharpness k, place c and shear t, in coordinates (2, n) along (e, e⊥)."""

    shown = 1  # factors that differ along e

    def __init__(self, strength: float, sharpness: float, place: float, shear: float):
        self.s, self.k, self.c, self.t = strength, sharpness, place, shear

    @abstractmethod
    def forward(self, y: np.ndarray) -> np.ndarray:
        """z (2, n) -> x (2, n)."""

    @abstractmethod
    def inverse(self, y: np.ndarray) -> np.ndarray:
        """x (2, n) -> z (2, n), for s ≥ −1."""

    @abstractmethod
    def parts(self, y: np.ndarray) -> np.ndarray:
        """The factors of the determinant at z (2, n), one in each row."""

    def det(self, y: np.ndarray) -> np.ndarray:
        """det ∂x/∂z at z (2, n), shape (n,)."""
        return self.parts(y).prod(0)

    def _bend(self, a: np.ndarray) -> np.ndarray:
        return np.tanh(self.k * (a - self.c))

    def _slope(self, a: np.ndarray) -> np.ndarray:
        return 1 + self.s * (1 - self._bend(a) ** 2)

    def _unbend(self, goal: np.ndarray) -> np.ndarray:
        """a with a + (s/k) tanh(k(a − c)) = goal."""
        return np.interp(goal, TABLE + self.s / self.k * self._bend(TABLE), TABLE)


class PlanarDial(Dial):
    def forward(self, y: np.ndarray) -> np.ndarray:
        h = self._bend(y[0])
        return np.stack((y[0] + self.s / self.k * h, y[1] + self.t * h))

    def inverse(self, y: np.ndarray) -> np.ndarray:
        a = self._unbend(y[0])
        return np.stack((a, y[1] - self.t * self._bend(a)))

    def parts(self, y: np.ndarray) -> np.ndarray:
        return self._slope(y[0])[None]


class SylvesterDial(Dial):
    def forward(self, y: np.ndarray) -> np.ndarray:
        h = self._bend(y)
        return np.stack((y[0] + self.s / self.k * h[0] + self.t * h[1], y[1] + self.s / self.k * h[1]))

    def inverse(self, y: np.ndarray) -> np.ndarray:
        below = self._unbend(y[1])
        return np.stack((self._unbend(y[0] - self.t * self._bend(below)), below))

    def parts(self, y: np.ndarray) -> np.ndarray:
        return self._slope(y)


class RadialDial(Dial):
    shown = 2

    def forward(self, y: np.ndarray) -> np.ndarray:
        offset, r = self._polar(y)
        return y + self.s / (1 + self.k * r) * offset

    def inverse(self, y: np.ndarray) -> np.ndarray:
        offset, rho = self._polar(y)
        alpha = 1 / self.k
        half = (alpha * (1 + self.s) - rho) / 2  # r² + (α + β − ρ) r − αρ = 0
        r = np.sqrt(half**2 + alpha * rho) - half
        return y - offset + offset / (1 + self.s / (1 + self.k * r))

    def parts(self, y: np.ndarray) -> np.ndarray:
        h = 1 / (1 + self.k * self._polar(y)[1])
        return np.stack((1 + self.s * h, 1 + self.s * h**2))

    def _polar(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        offset = y - np.array([[self.c], [0.0]])
        return offset, np.hypot(*offset)


DIALS: dict[str, type[Dial]] = {"planar": PlanarDial, "radial": RadialDial, "Sylvester": SylvesterDial}


def rotation(degrees: float) -> np.ndarray:
    """Q = (e, e⊥), (2, 2)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def log_density(dial: Dial, repeats: int, y: np.ndarray) -> np.ndarray:
    """log p at x (2, n) of N(0, I) after `repeats` times the layer, by the change of variables; for s ≥ −1."""
    volume = 0.0
    for _ in range(repeats):
        y = dial.inverse(y)
        volume = volume + np.log(np.maximum(dial.det(y), FLOOR))
    return -0.5 * (y**2).sum(0) - math.log(2 * math.pi) - volume
