r"""Langevin chains of a tilted base in the plane, for all tilts and steps at once: in the noise and in x (thesis 4.3).

    p_λ(x) = q(x) e^{−λE(x)} / Z_λ
    in ε    ε' = ε − (η/2) ∇[λE(push(ε)) + ½‖ε‖²] + √η ω,    x = push(ε)                       thesis (4.8), (4.10)
    in x    x' = x − (η/2) ∇[λE(x) − log q(x)] + √η ω                                          thesis (2.39)

All settings of one space get the same starts and the same ω, so that only λ and η make the difference, and walk in one
batch. In x the slopes of log q and E are read off a table, between whose nodes they are linear: exact for Gaussian hills.
Beyond the table they stay as they are at its rim.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.ebm.energy import Energy, values
from gmcourse.model import GenerativeModel
from gmcourse.viz.plane import Extent

CHAINS, LENGTH = 100, 100
TILTS = torch.arange(7) * 0.25
STEPS = torch.logspace(-3, 0, 7)
Look = Callable[[Tensor], tuple[Tensor, Tensor]]


class Settings(NamedTuple):
    """λ and η of every chain of a batch, (m, 1) each: all pairs of `TILTS` and `STEPS`, `CHAINS` of each."""

    tilt: Tensor
    step: Tensor

    @classmethod
    def all(cls) -> "Settings":
        tilt, step = (t.flatten().repeat_interleave(CHAINS)[:, None] for t in torch.meshgrid(TILTS, STEPS, indexing="ij"))
        return cls(tilt, step)


def in_noise(base: GenerativeModel, energy: Energy, tilt: Tensor) -> Look:
    """ε (m, D) -> x = push(ε) (m, 2), and the slope of λE(push(ε)) + ½‖ε‖², (m, D)."""

    def look(eps: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            eps = eps.detach().requires_grad_()
            x = base.push(eps)
            (slope,) = torch.autograd.grad((tilt[:, 0] * values(energy, x)).sum(), eps)
        return x.detach(), slope + eps.detach()

    return look


class Slopes:
    """∇ of k functions given at the cells of a window, (k, r, r) with lowest x₂ first: x (m, 2) -> (m, k, 2)."""

    def __init__(self, tables: Tensor, extent: Extent):
        self.low = torch.tensor(extent[::2])
        self.side = (torch.tensor(extent[1::2]) - self.low) / tables.shape[-1]
        up, across = torch.gradient(tables, spacing=(float(self.side[1]), float(self.side[0])), dim=(1, 2), edge_order=2)
        self.size, self.table = tables.shape[-1], torch.stack((across, up), -1).movedim(0, 2).flatten(0, 1).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        place = ((x - self.low) / self.side - 0.5).nan_to_num().clamp(0, self.size - 1.001)
        corner = place.long()
        right, up = (place - corner).T[:, :, None, None]
        at = corner[:, 1] * self.size + corner[:, 0]
        below = torch.lerp(self.table[at], self.table[at + 1], right)
        above = torch.lerp(self.table[at + self.size], self.table[at + self.size + 1], right)
        return torch.lerp(below, above, up)


def in_data(slopes: Slopes, tilt: Tensor) -> Look:
    """x (m, 2) -> x and the slope of λE(x) − log q(x), (m, 2), by the slopes of log q and E, in this order."""

    def look(x: Tensor) -> tuple[Tensor, Tensor]:
        of_q, of_energy = slopes(x).unbind(1)
        return x, tilt * of_energy - of_q

    return look


def walked(look: Look, start: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
    """The x of chains from `start` (n, D), for m/n settings each, after 0 … `LENGTH` steps, (LENGTH + 1, m, 2)."""
    copies = len(step) // len(start)
    state, path = start.repeat(copies, 1), []
    for _ in range(LENGTH):
        x, slope = look(state)
        path.append(x)
        omega = torch.randn(start.shape, generator=generator).repeat(copies, 1)
        state = state - step / 2 * slope + step.sqrt() * omega
    return torch.stack([*path, look(state)[0]])
