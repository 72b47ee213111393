r"""Training by the reverse KL: a flow learns a density that can be evaluated and not sampled (thesis 2.25).

    KL(p_θ ‖ e^{−E}/Z) = E_{z~p₀}[log p_θ(T(z)) + E(T(z))] + log Z

The data of this game are draws of the base, z; the gradient goes through the samples x = T(z). The flow hears only of
places where it already is, so a mode that it has never met costs it nothing.
"""

from collections.abc import Callable

from torch import Tensor

from gmcourse.flows.flow import Flow
from gmcourse.model import Trainable


def reverse_kl(flow: Flow, energy: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """log p_θ(x) + E(x) at x = T(z) for draws z (n, *base.event_shape) of the base, (n,), in nats.

    Its mean is the divergence of thesis (2.25) less log Z. The gradient goes through the samples. Raises ValueError for a
    flow with layers that are no bijections.
    """
    x, contribution = flow.to_data(z)
    return flow.base.log_prob(z) + contribution + energy(x)


class ReverseKL(Trainable):
    """A flow and the energy that it is to imitate; `fit` it on a Distribution of base draws z.

    Args:
        flow: layers whose inverse is cheap; a flow without context.
        energy: E, x (n, *event_shape) -> (n,), in nats.

    >>> import torch
    >>> from gmcourse.flows import real_nvp
    >>> ReverseKL(real_nvp(), lambda x: x.square().sum(1) / 2).loss(torch.randn(5, 2)).shape
    torch.Size([5])
    """

    def __init__(self, flow: Flow, energy: Callable[[Tensor], Tensor]):
        if flow.context:
            raise ValueError(f"flow must have no context; got context={flow.context}")
        super().__init__(flow.base.event_shape)
        self.flow, self.energy = flow, energy

    def loss(self, z: Tensor) -> Tensor:
        """log p_θ(x) + E(x) at x = T(z), shape (n,): its mean is the reverse KL minus log Z."""
        return reverse_kl(self.flow, self.energy, self.check_batch(z, "z"))
