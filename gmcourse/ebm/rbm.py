r"""The restricted Boltzmann machine: x ∈ {0, 1}^d, z ∈ {0, 1}^h (thesis (2.34), (2.35); Smolensky 1986).

    p(x, z) = exp(xᵀWz + bᵀx + cᵀz) / Z                                                      thesis (2.34)
    p(x) = (1/Z) Π_i e^{b_i x_i} Π_j (1 + e^{c_j + Σ_i W_ij x_i}),  log of it −F(x) − log Z     thesis (2.35)
    p(z_j = 1 | x) = σ(c_j + Σ_i W_ij x_i),        p(x_i = 1 | z) = σ(b_i + Σ_j W_ij z_j)

(2.35) is a product of experts: hidden unit j is one, and multiplies p by 1 + e^{…} where the picture fits its column of W.
Training, Z and sampling are those of all such machines, see `boltzmann`; Z may be summed over the smaller layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gmcourse.ebm.boltzmann import BoltzmannMachine


class RBM(BoltzmannMachine):
    """Binary visible units, binary hidden units; thesis (2.34).

    Grey values in [0, 1] are taken as probabilities: `loss` draws a black-and-white x from them, anew each time.

    Args:
        visible: number of visible units, or the shape of one datum.
        hidden: number of hidden units.
        k, chains, sweeps: of CD-k, PCD and `sample`, see `BoltzmannMachine`.

    >>> rbm = RBM((1, 8, 8), hidden=16)
    >>> rbm.sample(3).shape, rbm.log_z()     # nearly without bonds: 80 ln 2 = 55.45
    (torch.Size([3, 1, 8, 8]), tensor(55...., grad_fn=<LogsumexpBackward0>))
    """

    data_range = (0.0, 1.0)

    def __init__(
        self, visible: int | Sequence[int], hidden: int, *, k: int = 1, chains: int = 0, sweeps: int = 1000
    ):
        shape = torch.Size((visible,) if isinstance(visible, int) else visible)
        super().__init__(shape, hidden, k=k, chains=chains, sweeps=sweeps, enumerate_visible=shape.numel() < hidden)

    def visible_mean(self, z: Tensor) -> Tensor:
        """p(x_i = 1 | z), (n, h) -> (n, *event_shape)."""
        return self._input(z).sigmoid().reshape(len(z), *self.event_shape)

    def _drive(self, x: Tensor) -> Tensor:
        return x

    def _field(self, x: Tensor, b: Tensor) -> Tensor:
        return x @ b

    def _draw(self, a: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(a.sigmoid(), generator=generator)

    def _log_partition(self, a: Tensor, b: Tensor) -> Tensor:
        return softplus(a).sum(1)

    def _fitted(self, data: Tensor) -> Tensor:
        return ((data.sum(0) + 0.5) / (len(data) + 1)).logit()  # half a datum of each kind keeps it finite

    def _observed(self, x: Tensor) -> Tensor:
        return torch.bernoulli(x)

    def _valued(self, x: Tensor) -> Tensor:
        if not ((x == 0) | (x == 1)).all():
            raise ValueError(f"x must hold zeros and ones; got {float(x[(x != 0) & (x != 1)][0]):g} (binarise it first)")
        return x
