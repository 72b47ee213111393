r"""Wasserstein auto-encoder with MMD: an auto-encoder whose batch of codes must look like draws of the prior (thesis 3.2).

    W_c(p_data, p_G) = min over encoders with q(z) = p(z) of E c(x, G(E(x)))               Tolstikhin et al. 2017, th. 1
    L^WAE = β L_recon(x, G(E(x))) + weight · MMD²(q, p)                                    the same with a penalty, ibid. (4)
    MMD²(q, p) = E k(z, z′) + E k(y, y′) − 2 E k(z, y),      z, z′ ~ q,   y, y′ ~ p

With means over pairs of different rows the estimate from a batch is a U-statistic: right on average, and so is its gradient.
Of codes that already follow the prior it is a little below 0 as often as above, or more often, and asks nothing on average.
There is no adversary.

    RBF   exp(−‖a − b‖²/2h²)                         codes many h away feel nothing
    IMQ   C/(C + ‖a − b‖²),   C = 2dσ²               a tail that falls like a power: far codes are still drawn in

C is the mean squared distance of two draws of N(0, σ²I). (Thesis 3.2 has p(x) for p(z), twice.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gmcourse.compositions.autoencoder import Autoencoder
from gmcourse.model import GenerativeModel, check_positive

Kernel = Callable[[Tensor, Tensor], Tensor]
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of C, in the code of Tolstikhin et al.


@dataclass(frozen=True)
class RBF:
    """k(a, b) = exp(−‖a − b‖²/2h²), h the `width`; ValueError for h ≤ 0.

    >>> RBF(width=2.0)(torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]))
    tensor([[1.0000, 0.6065]])
    """

    width: float

    def __post_init__(self):
        check_positive(self.width, "width")

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """k of all pairs of rows, (n, d) and (m, d) -> (n, m)."""
        return (-squared_distances(a, b) / (2 * self.width**2)).exp()


@dataclass(frozen=True)
class IMQ:
    """k(a, b) = Σ_s sC/(sC + ‖a − b‖²), C = 2dσ², over the `scales` s, e.g. `SCALES`; ValueError for σ ≤ 0 and s ≤ 0.

    >>> IMQ()(torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]))
    tensor([[1.0000, 0.3333]])
    """

    sigma: float = 1.0
    scales: Sequence[float] = (1.0,)

    def __post_init__(self):
        check_positive(self.sigma, "sigma")
        if len(self.scales) == 0:
            raise ValueError("scales must hold at least one; got none")
        for scale in self.scales:
            check_positive(scale, "scales")

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """k of all pairs of rows, (n, d) and (m, d) -> (n, m)."""
        squares, c = squared_distances(a, b), 2 * a.shape[1] * self.sigma**2
        return sum(s * c / (s * c + squares) for s in self.scales)


class WassersteinAutoencoder(Autoencoder):
    """WAE-MMD; with an adversary in place of the MMD it is `WAEGAN`.

    Args:
        event_shape, encoder, decoder, and among the options beta, distortion: as of `Autoencoder`.
        prior: p(z), which stays as it is.
        weight: of MMD²(q, p), which is at most 2 max k, beside a distortion in nats.
        kernel: (n, d), (m, d) -> (n, m); `IMQ()` unless given.

    Raises ValueError for a weight or β ≤ 0, for a prior on other than d dimensions, and in `loss` for fewer than two rows.

    >>> from gmcourse.model import StandardNormal
    >>> WassersteinAutoencoder((4,), nn.Linear(4, 2), nn.Linear(2, 4), StandardNormal(2)).sample(3).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        prior: GenerativeModel,
        *,
        weight: float = 10.0,
        kernel: Kernel | None = None,
        **options,
    ):
        super().__init__(event_shape, encoder, decoder, prior, **options)
        self.weight = check_positive(weight, "weight")
        self.kernel = IMQ() if kernel is None else kernel

    def latent_term(self, z: Tensor) -> Tensor:
        """weight · MMD² between the codes z (n, d) and n fresh draws of the prior, a scalar."""
        return self.weight * mmd2_unbiased(z, self.prior.sample(len(z)), self.kernel)


def mmd2_unbiased(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """The U-statistic of MMD² from rows x (n, d) and y (m, d), a scalar that is differentiable in both.

    No row is paired with itself: sums over n(n − 1), m(m − 1) and nm pairs. Averaged over samples it is MMD²(p_x, p_y).
    Raises ValueError for other shapes and for fewer than two rows. Its standard error is told by `gmcourse.metrics.mmd2`.

    >>> mmd2_unbiased(torch.zeros(2, 1), torch.ones(3, 1), RBF(width=1.0))     # 1 + 1 − 2 exp(−1/2)
    tensor(0.7869)
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have shapes (n, d) and (m, d); got {tuple(x.shape)} and {tuple(y.shape)}")
    for name, rows in (("x", x), ("y", y)):
        if len(rows) < 2:
            raise ValueError(f"{name} must have at least 2 rows for an unbiased MMD²; got {len(rows)}")
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.to(dtype), y.to(dtype)
    with torch.autocast(x.device.type, enabled=False):  # differences of distances don't survive half precision
        return _off_diagonal_mean(kernel(x, x)) + _off_diagonal_mean(kernel(y, y)) - 2 * kernel(x, y).mean()


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² of rows (n, d) and (m, d), (n, m), as ‖a‖² + ‖b‖² − 2aᵀb; differentiable where rows coincide."""
    centre = b.detach().mean(0)  # distances do not see it, rounding does
    a, b = a - centre, b - centre
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


def _off_diagonal_mean(k: Tensor) -> Tensor:
    return (k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1))
