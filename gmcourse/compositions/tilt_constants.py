r"""log Z of a tilted model where draws of the base no longer find it: by annealing in the noise, or by quadrature.

    Z = E_q[e^{−E(x)}] = ∫ q(x) e^{−E(x)} dx                                                thesis (4.4)
      = E_{ε ~ N(0, I)}[e^{−E(push(ε))}] = ∫ (2π)^{−D/2} e^{−U(ε)} dε,   U(ε) = E(push(ε)) + ½‖ε‖²      by (4.8), (4.19)

The mean over draws of the base (`Tilted.normalise`) takes about e^{max −E}/Z of them: it fails, and its standard error with
it, once the tilted law is where the base seldom is. Annealed importance sampling goes there by bridges,

    h_β(ε) ∝ N(ε; 0, I) e^{−β E(push(ε))},   0 = β₀ < … < β_K = 1

and is unbiased for Z whatever push does; no density of x is asked for. In the plane, with an exact log q, there is the
integral over x itself; as ∫ q = 1, the grid checks itself. `AnnealedTilt.run` gives a third, by resampling.
"""

import math
import warnings

import torch

from gmcourse.compositions.negatives import noise_energy
from gmcourse.compositions.tilted import Tilted
from gmcourse.ebm.contrastive import held_still
from gmcourse.metrics.density import Function, home, log_density, negative_energy
from gmcourse.metrics.grid import Grid
from gmcourse.metrics.partition import LogZ, Stages, Step, log_z_ais
from gmcourse.model import Likelihood, StandardNormal, evaluating
from gmcourse.randomness import seeded

ENOUGH = 30  # effective chains below which log Z is not to be believed
MISSED = 0.01  # share of the base's mass that a grid may miss, or count twice


def log_z_annealed(
    tilted: Tilted, *, n: int = 1000, stages: Stages = 20, step: Step = 0.1, moves: int = 1, seed: int = 0
) -> LogZ:
    """log Z in nats by n chains that walk from N(0, I) to the tilted law of the noise; the options are `log_z_ais`'s.

    Unbiased for Z, so below log Z on average. Keeps nothing: `tilted.log_z.fill_(found.value)` does. Warns if fewer than 30
    chains carry the weight; raises ValueError where the energy is not finite. Where E is large on most of the base, most of
    the way is at small β: give `stages` as βs that grow like (k/K)².

    >>> from gmcourse.compositions.negatives import Importance
    >>> log_z_annealed(Tilted(StandardNormal(1), lambda x: x[:, 0].square() / 2, Importance()), n=4000).value     # −½ log 2
    -0.34...
    """
    place = home(tilted.base)
    with seeded(seed, "cpu" if place is None else place.device):
        like = tilted.base.noise(1)
    noise = StandardNormal(like.shape[1]).to(like)
    constant = 0.5 * like.shape[1] * math.log(2 * math.pi)
    with held_still(tilted.energy), held_still(tilted.base):
        of_noise = noise_energy(tilted.base, tilted.energy)
        walk = {"stages": stages, "step": step, "moves": moves, "seed": seed}
        found = log_z_ais(lambda eps: of_noise(eps) + constant, noise, n=n, **walk)
    if found.ess < ENOUGH:
        told = f"log Z = {found}: only {found.ess:.1f} of {n} chains carry the weight"
        warnings.warn(f"{told}; take more stages, or longer moves", stacklevel=2)
    return found


@torch.no_grad()
def log_z_quadrature(tilted: Tilted, grid: Grid, log_prob: Function | None = None) -> float:
    """log Z = log ∫ q(x) e^{−E(x)} dx in nats over the grid's box, for models on the line and in the plane.

    Args:
        grid: with cells of at most a third of the smallest width of the base or the tilt.
        log_prob: the exact log q, x (n, *event_shape) -> (n,); the base's own unless given. A VAE's is a bound and refused:
            give `LatentGrid(vae).log_prob`, whose work is the product of the nodes of both grids.

    Keeps nothing: `tilted.log_z.fill_(…)` does. Warns if the grid holds less than 99 % of the base's mass or more than
    101 %: then it is too small or too coarse. Raises ValueError for a base without exact density, or of more dimensions.
    """
    if log_prob is None and tilted.base.likelihood is not Likelihood.EXACT:
        told = f"log_prob must be given where the base's own is not exact; {type(tilted.base).__name__}'s is: "
        raise ValueError(told + tilted.base.likelihood.value)
    if tilted.event_shape.numel() != len(grid.box):
        raise ValueError(f"grid must have {tilted.event_shape.numel()} axes, as x does; got {len(grid.box)}")
    place = home(tilted.base)
    x = (grid.nodes if place is None else grid.nodes.to(place)).reshape(-1, *tilted.event_shape)
    with evaluating(tilted):
        log_q = log_density(tilted.base if log_prob is None else log_prob, x, "base").double().cpu()
        log_tilt = negative_energy(tilted.energy, x).double().cpu()
    if abs((mass := math.exp(grid.log_integrate(log_q))) - 1) > MISSED:
        warnings.warn(f"the grid finds {mass:.3f} of the base's mass; widen the box or take more points", stacklevel=2)
    return grid.log_integrate(log_q + log_tilt)
