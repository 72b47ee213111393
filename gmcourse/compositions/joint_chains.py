r"""Chains in the space of (z, x) itself: what the reparameterisation of VAEBM spares us (thesis 4.3.3, Figure 4.19).

    p(x, z) ∝ e^{−U(z, x)},   U(z, x) = −log p(z) − log p(x|z) + E(x)                     thesis (4.11)
    (z, x)' = (z, x) − (η/2) ∇U(z, x) + √η ω,  ω ~ N(0, I)

The law is the one that chains in ε = (ε_z, ε_x) have, z = ε_z and x = μ(z) + σ ε_x, but not the geometry. x is as narrow as
σ around μ(z), and μ moves with z by its stretch s: ‖x − μ(z)‖²/2σ² has curvature (1 + s²)/σ², and Langevin is stable only
for about η < 4σ²/(1 + s²). Where σ is small such a step moves z by next to nothing. For x alone a step η in ε_x is one of
σ²η in x (thesis 4.3.3): it is one η for all coordinates that does the harm. In ε the bound is 4/(1 + (s² + σ²)/w²), w the
finest detail of e^{−E} (see `gmcourse.compositions.stability`). If s is not below 1, chains in ε bear more where σ is below
w, and less above.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.compositions.negatives import Even
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy, values
from gmcourse.model import GenerativeModel, StandardNormal, check_count, check_positive
from gmcourse.sampling import ULA, Sampler
from gmcourse.vae import VAE, Gaussian


class JointChains(Even):
    """Langevin, or another sampler, in (z, x) of a VAE, with one step for all coordinates; for comparison.

    Args:
        steps: transitions of every chain; they begin at draws of the VAE.
        step: η, stable below 4σ²/(1 + s²), s the decoder's largest singular value, and somewhat less where E is steep.
        sampler: `sampler(energy, step=)`, of gmcourse.sampling.

    `draw` gives the noise (z, (x − μ(z))/σ) that leads to where the chains are. Raises ValueError for a base other than a
    VAE with a standard normal prior and a Gaussian likelihood.
    """

    def __init__(self, steps: int, step: float, *, sampler: Callable[..., Sampler] = ULA):
        super().__init__()
        self.steps, self.step, self.sampler = check_count(steps, "steps"), check_positive(step, "step"), sampler
        self.nfe = self.steps

    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The noise that belongs to where n chains end, (n, D). Raises FloatingPointError if they diverge."""
        _check(base)
        eps = base.noise(check_count(n), generator=generator)
        with held_still(energy), held_still(base), torch.no_grad():
            x = base.push(eps).flatten(1)
            start = torch.cat([eps[:, : eps.shape[1] - x.shape[1]], x], 1)
            chains = self.sampler(joint_energy(base, energy), step=self.step)
            z, x = split(base, chains.run(start, self.steps, generator=generator))
            mean, sigma = base.likelihood_of_x.parameters_of(base.decoder(z))
            return torch.cat([z.flatten(1), ((x - mean) / sigma).flatten(1)], 1)


def joint_energy(base: VAE, energy: Energy) -> Energy:
    """U(z, x) = −log p(z) − log p(x|z) + E(x) in nats, of rows (z, x) (n, D) -> (n,); thesis (4.11)."""

    def potential(rows: Tensor) -> Tensor:
        z, x = split(base, rows)
        return values(energy, x) - base.prior.log_prob(z) - base.likelihood_of_x(base.decoder(z)).log_prob(x)

    return potential


def split(base: VAE, rows: Tensor) -> tuple[Tensor, Tensor]:
    """z (n, *latent shape) and x (n, *event_shape) of rows (n, D)."""
    z, x = rows.split(list(base.noise_blocks.values()), dim=1)
    return z.unflatten(1, base.prior.event_shape), x.unflatten(1, base.event_shape)


def _check(base: GenerativeModel) -> None:
    if not isinstance(base, VAE):
        raise ValueError(f"base must be a VAE for chains in (z, x); got {type(base).__name__}")
    for name, part, wanted in (("prior", base.prior, StandardNormal), ("likelihood", base.likelihood_of_x, Gaussian)):
        if not isinstance(part, wanted):
            raise ValueError(f"base must have a {wanted.__name__} {name} for chains in (z, x); got {type(part).__name__}")
