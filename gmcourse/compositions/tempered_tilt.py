r"""Parallel tempering along the tilt: chains at all strengths of the energy side by side, which change places.

    h_λ(ε) ∝ N(ε; 0, I) e^{−λ E(push(ε))},   0 = λ₀ < λ₁ < … < λ_K = 1        from the base to thesis (4.8)

    refresh     at λ₀ = 0 the law is N(0, I): draw it
    move        at the others some MALA steps that keep h_λ
    swap        neighbours i, j with probability min(1, e^{(λ_i − λ_j)(E_i − E_j)}), E_i = E(push(ε_i)); even and odd pairs
                take turns

A chain at λ = 1 alone stays in the basin where it began. Here a draw of the base, which may lie in any basin, is handed up
the ladder as far as the energy lets it come, and what it displaces goes down. Every part keeps ∏_k h_{λ_k}(ε_k), so the
replica at λ = 1 tends to the tilted law; a ladder is fine enough if all swaps are taken now and then (Geyer 1991).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmcourse.compositions.negatives import Even
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy, values
from gmcourse.model import GenerativeModel, check_count, check_positive
from gmcourse.sampling import MALA


class TemperedTilt(Even):
    """Parallel tempering in the noise of the base, every sample with a ladder of its own.

    Args:
        ladder: λ₀ = 0 < … < λ_K = 1.
        step: η of the moves, the same at every λ.
        sweeps: rounds of refreshing, moving and swapping.
        moves: of MALA in every sweep.

    Raises ValueError for a ladder that does not climb from 0 to 1.

    >>> from gmcourse.model import StandardNormal
    >>> TemperedTilt((0, 0.3, 1), 0.5, sweeps=10).draw(StandardNormal(2), lambda x: x.square().sum(1), 5).shape
    torch.Size([5, 2])
    """

    def __init__(self, ladder: Sequence[float], step: float, sweeps: int, *, moves: int = 1):
        super().__init__()
        rungs = [float(rung) for rung in ladder]
        climbs = all(low < high for low, high in zip(rungs, rungs[1:], strict=False))
        if len(rungs) < 2 or rungs[0] != 0 or rungs[-1] != 1 or not climbs:
            raise ValueError(f"ladder must climb from 0 to 1; got {rungs}")
        self.register_buffer("ladder", torch.tensor(rungs), persistent=False)
        self.sweeps, self.moves = check_count(sweeps, "sweeps"), check_count(moves, "moves")
        self.step = check_positive(step, "step")
        self.nfe = self.sweeps * (len(rungs) + (len(rungs) - 1) * (1 + self.moves))

    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The replicas at λ = 1 of n ladders, (n, D)."""
        return self.run(base, energy, check_count(n), generator)[-1]

    def run(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The replicas of n ladders on all rungs, (K + 1, n, D), which began at fresh noise."""
        eps = base.noise(len(self.ladder) * n, generator=generator).unflatten(0, (-1, n))
        ladder = self.ladder.to(eps)

        def tilted(moving: Tensor) -> Tensor:
            tilt = ladder[1:, None] * values(energy, base.push(moving)).unflatten(0, (-1, n))
            return tilt.flatten() + 0.5 * moving.square().sum(1)

        chains = MALA(tilted, step=self.step)
        with held_still(energy), held_still(base):
            for sweep in range(self.sweeps):
                moved = chains.run(eps[1:].flatten(0, 1), self.moves, generator=generator)
                eps = torch.cat([base.noise(n, generator=generator).to(eps), moved]).unflatten(0, (-1, n))
                with torch.no_grad():
                    energies = values(energy, base.push(eps.flatten(0, 1))).unflatten(0, (-1, n))
                eps, _ = swap(eps, energies, ladder, first=sweep % 2, generator=generator)
        return eps


@torch.no_grad()
def swap(
    eps: Tensor, energies: Tensor, ladder: Tensor, *, first: int = 0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Offer the neighbours (first, first + 1), (first + 2, first + 3), … each other's places.

    Takes replicas ε (K + 1, n, D), their E (K + 1, n) in nats and λ (K + 1,). Gives the replicas after it, and who changed,
    (pairs, n), for the pairs in that order: with probability min(1, e^{(λ_i − λ_j)(E_i − E_j)}).
    """
    lower = torch.arange(first, len(ladder) - 1, 2, device=eps.device)
    upper = lower + 1
    log_ratio = (ladder[lower] - ladder[upper])[:, None] * (energies[lower] - energies[upper])
    u = torch.rand(log_ratio.shape, generator=generator, device=eps.device, dtype=eps.dtype)
    change = u.log() < log_ratio
    new = eps.clone()
    new[lower] = torch.where(change[..., None], eps[upper], eps[lower])
    new[upper] = torch.where(change[..., None], eps[lower], eps[upper])
    return new, change
