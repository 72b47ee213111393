r"""Minimum probability flow: a model is right if it leaves the data where they are (Sohl-Dickstein et al. 2011; slides).

Let probability flow between neighbours x → x' at the rate e^{½(E(x) − E(x'))}. The model p_θ ∝ e^{−E} is at rest under it:
e^{−E(x)} times that rate is the same in both directions. Started from the data, probability leaves them at the rate

    K = E_{x ~ p} Σ_{x' next to x} e^{½(E_θ(x) − E_θ(x'))}

which is to be as small as it can be. Only differences of energies occur, so Z drops out, and there are no chains to run. At
p_θ = p the gradient is 0 whatever the neighbourhood, if x is next to x' as often as x' to x; here

    real x      x' = x + σε, ε ~ N(0, I), by sampling. σ → 0: K = 1 + (σ²/4)(implicit score matching), thesis (2.41)
    binary x    the d states that differ from x in one place, all of them

The exponential punishes a datum with high energy beyond measure: start from energies that are nearly flat.
"""

import torch
from torch import Tensor

from gmcourse.ebm.energy import Energy, values
from gmcourse.model import check_count, check_positive
from gmcourse.sampling.sampler import rows


def minimum_probability_flow(energy: Energy, x: Tensor, *, sigma: float, neighbours: int = 1) -> Tensor:
    """Mean of e^{½(E(x) − E(x'))} over draws x' ~ N(x, σ² I), for real x (n, *event_shape), (n,).

    Args:
        sigma: σ, as large as the structure that is to be learned. Noise comes from the global state.
        neighbours: draws x' per datum.

    >>> minimum_probability_flow(lambda x: 0 * x.sum(1), torch.zeros(3, 2), sigma=0.5)     # flat: all leave at rate 1
    tensor([1., 1., 1.])
    """
    noise = torch.randn(check_count(neighbours, "neighbours"), *x.shape, dtype=x.dtype, device=x.device)
    return _rates(energy, x, x + check_positive(sigma, "sigma") * noise).mean(0)


def binary_probability_flow(energy: Energy, x: Tensor) -> Tensor:
    """Σ_i e^{½(E(x) − E(x with bit i flipped))} for x (n, *event_shape) of zeros and ones, (n,); without chance.

    `energy` sees all (1 + d) n states at once; an RBM's is its `free_energy`. Raises ValueError for x other than 0 and 1.

    >>> binary_probability_flow(lambda x: 0 * x.sum(1), torch.zeros(2, 5))
    tensor([5., 5.])
    """
    if not ((x == 0) | (x == 1)).all():
        raise ValueError("x must hold zeros and ones only; for real x see minimum_probability_flow")
    bits = torch.eye(rows(x).shape[1], dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
    return _rates(energy, x, (x - bits).abs()).sum(0)


def _rates(energy: Energy, x: Tensor, neighbours: Tensor) -> Tensor:
    """e^{½(E(x) − E(x'))}, (k, n), of neighbours (k, n, *event_shape)."""
    e = values(energy, torch.cat([x[None], neighbours]).flatten(0, 1)).unflatten(0, (1 + len(neighbours), len(x)))
    return (0.5 * (e[0] - e[1:])).exp()
