r"""The Gaussian–Bernoulli machine: real x, binary z (Hinton & Salakhutdinov 2006; units as in Cho, Ilin & Raiko 2011).

    −E(x, z) = −½ |(x − b)/σ|² + cᵀz + (x/σ²)ᵀ W z
    p(x | z) = N(x; b + Wz, σ²),        p(z_j = 1 | x) = σ(c_j + Σ_i W_ij x_i/σ_i²)         σ(·) the logistic function

So p(x) is a mixture of 2^h Gaussians of one width, with means b + Wz: the corners of a box whose edges are the columns of W,
seen in the space of x. All 2^h weights are told by h (d + 1) numbers, too, log p(z) = cᵀz + ½ |(b + Wz)/σ|² + const, so they
are not free: columns at right angles are on and off independently, all others attract or repel, by W_iᵀW_j/σ².
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.data.known import check_width
from gmcourse.ebm.boltzmann import BoltzmannMachine


class GaussianRBM(BoltzmannMachine):
    """Real visible units of width σ, binary hidden units. Standardise the data first.

    Args:
        visible: number of visible units, or the shape of one datum.
        hidden: number of hidden units; up to 20, `log_prob` is exact and `sample` needs no chain.
        sigma: σ at the start, the same for all units.
        learn_sigma: whether log σ, one number for each unit, is trained. It finds a wide σ long before bonds have grown, and
            then none are needed: train W at a narrow σ first.
        k, chains, sweeps: of CD-k, PCD and `sample`, see `BoltzmannMachine`.

    >>> GaussianRBM(2, hidden=4, sigma=0.5).sample(3).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        visible: int | Sequence[int],
        hidden: int,
        *,
        sigma: float = 1.0,
        learn_sigma: bool = False,
        k: int = 1,
        chains: int = 0,
        sweeps: int = 1000,
    ):
        super().__init__((visible,) if isinstance(visible, int) else visible, hidden, k=k, chains=chains, sweeps=sweeps)
        start = torch.full_like(self.b, math.log(check_width(sigma)))
        self.log_sigma = nn.Parameter(start, requires_grad=learn_sigma)

    def visible_mean(self, z: Tensor) -> Tensor:
        """b + Wz, (n, h) -> (n, *event_shape)."""
        return self._input(z).reshape(len(z), *self.event_shape)

    def _drive(self, x: Tensor) -> Tensor:
        return x * (-2 * self.log_sigma).exp()

    def _field(self, x: Tensor, b: Tensor) -> Tensor:
        return -0.5 * ((x - b) * (-self.log_sigma).exp()).square().sum(1)

    def _draw(self, a: Tensor, generator: torch.Generator | None = None) -> Tensor:
        omega = torch.randn(a.shape, generator=generator, device=a.device, dtype=a.dtype)
        return a + self.log_sigma.exp() * omega

    def _log_partition(self, a: Tensor, b: Tensor) -> Tensor:
        quadratic = 0.5 * (a - b) * (a + b) * (-2 * self.log_sigma).exp()
        return (quadratic + self.log_sigma + 0.5 * math.log(2 * math.pi)).sum(1)

    def _fitted(self, data: Tensor) -> Tensor:
        return data.mean(0)

    def _observed(self, x: Tensor) -> Tensor:
        return x

    def _valued(self, x: Tensor) -> Tensor:
        return x
