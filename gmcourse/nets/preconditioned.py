r"""A generator of x_0 that starts as the best linear guess and adds to it, in units of what is missing (Karras et al. 2022).

    G(x_t, t, z) = α s²/(α² s² + σ²) x_t + s σ/√(α² s² + σ²) F(x_t, t, z),      x_t = α x_0 + σ ε

The first term is E[x_0 | x_t] for data N(0, s² I), the factor of the second the standard deviation of x_0 given x_t. Near
the data F hardly counts, near the noise it is all: at each level it has to say something of size 1.
"""

import torch
from torch import Tensor, nn

from gmcourse.model import check_positive


class Preconditioned(nn.Module):
    """x (n, *event_shape), t (n,) in torch.int64, … -> like x, around a net F of the same arguments.

    Args:
        net: F.
        alpha_bars: ᾱ_t of the chain, (T,).
        data_scale: s, the standard deviation of a coordinate of the data.
    """

    def __init__(self, net: nn.Module, alpha_bars: Tensor, data_scale: float):
        super().__init__()
        self.net, s2 = net, check_positive(data_scale, "data_scale") ** 2
        total = alpha_bars * s2 + 1 - alpha_bars
        factors = torch.stack([alpha_bars.sqrt() * s2 / total, (s2 * (1 - alpha_bars) / total).sqrt()])
        self.register_buffer("factors", factors.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor, t: Tensor, *context: Tensor) -> Tensor:
        """The guess, and what F adds."""
        skip, scale = self.factors[:, t].reshape(2, -1, *[1] * (x.ndim - 1))
        return skip * x + scale * self.net(x, t, *context)
