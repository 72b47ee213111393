r"""A net that is sure to grow: E(x) = f(x) + w‖x‖², so that e^{−E} has an integral and no gradient flow leads to infinity.

A net with bounded slopes grows at most linearly: the square wins in the end, whatever f has learned.
"""

from torch import Tensor, nn

from gmcourse.model import check_positive


class Confined(nn.Module):
    """f(x) + w‖x‖².

    Args:
        net: f, x (n, *event_shape) -> (n,).
        weight: w.

    >>> import torch
    >>> Confined(nn.Flatten(0))(torch.tensor([[1.0], [2.0]]))
    tensor([2., 6.])
    """

    def __init__(self, net: nn.Module, weight: float = 1.0):
        super().__init__()
        self.net, self.weight = net, check_positive(weight, "weight")

    def forward(self, x: Tensor) -> Tensor:
        """(n, *event_shape) -> (n,)."""
        return self.net(x) + self.weight * x.square().flatten(1).sum(1)
