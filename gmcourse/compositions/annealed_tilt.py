r"""Sequential Monte Carlo along the tilt: from the base to the tilted law in stages, and nobody is left in the wrong basin.

    h_λ(ε) ∝ N(ε; 0, I) e^{−λ E(push(ε))},   0 = λ₀ < λ₁ < … < λ_K = 1        from the base to thesis (4.8)

    weigh       w_i ∝ e^{−(λ_k − λ_{k−1}) E(push(ε_i))}
    resample    n particles, each as often as its weight says
    move        some MALA steps that keep h_{λ_k}

Chains alone keep the mass of each basin as they found it; weights alone come to rest on a few draws where the tilt is
strong. Here the weights of a stage are even, resampling carries mass from basin to basin, and the moves part the copies. The
product of the mean weights estimates Z without bias (Del Moral et al. 2006).
"""

import math

import torch
from torch import Tensor

from gmcourse.compositions.negatives import LEAST, Even, noise_energy
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy, values
from gmcourse.model import GenerativeModel, check_count, check_positive
from gmcourse.sampling import MALA


class AnnealedTilt(Even):
    """Sequential Monte Carlo in the noise of the base, with MALA moves.

    Args:
        stages: K equal steps of λ.
        step: η of the moves.
        moves: of MALA in every stage.

    >>> from gmcourse.model import StandardNormal
    >>> AnnealedTilt(3, 0.5).draw(StandardNormal(2), lambda x: x.square().sum(1), 5).shape
    torch.Size([5, 2])
    """

    def __init__(self, stages: int, step: float, *, moves: int = 1):
        super().__init__()
        self.stages, self.moves = check_count(stages, "stages"), check_count(moves, "moves")
        self.step = check_positive(step, "step")
        self.nfe = self.stages * (2 + self.moves)

    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n of as many particles ε, or of 256 if that is more, (n, D); they are not independent."""
        eps = self.run(base, energy, max(check_count(n), LEAST), generator)[0]
        return eps[torch.randperm(len(eps), generator=generator, device=eps.device)[:n]]

    def run(
        self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, float]:
        """n particles ε (n, D) at λ = 1, and log Z = log E_q[e^{−E}] in nats, whose exponential is unbiased."""
        eps, log_z = base.noise(n, generator=generator), 0.0
        with held_still(energy), held_still(base):
            for k in range(1, self.stages + 1):
                with torch.no_grad():
                    log_w = -values(energy, base.push(eps)) / self.stages
                log_z += float(log_w.logsumexp(0)) - math.log(n)
                eps = eps[torch.multinomial(log_w.softmax(0), n, replacement=True, generator=generator)]
                chain = MALA(noise_energy(base, _share(energy, k / self.stages)), step=self.step)
                eps = chain.run(eps, self.moves, generator=generator)
        return eps, log_z


def _share(energy: Energy, weight: float) -> Energy:
    return lambda x: weight * energy(x)
