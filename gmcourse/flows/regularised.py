r"""Maximum likelihood of a continuous flow with a price on long and crooked paths (RNODE, Finlay et al. 2020).

    loss(x) = −log p(x) + λ_K ∫ ‖f‖² dt + λ_J ∫ ‖∂f/∂x‖²_F dt

The likelihood does not care which way data go to the noise; the price picks a way that a solver takes in few steps.
"""

from collections.abc import Iterator

from torch import Tensor

from gmcourse.flows.continuous import Continuous
from gmcourse.flows.flow import Flow
from gmcourse.flows.layer import Chain, Layer
from gmcourse.model import Trainable


class Regularised(Trainable):
    """What to `fit` in place of a flow with `Continuous` layers; the flow itself is trained.

    Args:
        flow: with one or more `Continuous` layers, among its layers or in Chains of them; ValueError where one hides within
            another kind of layer.
        kinetic, jacobian: λ_K and λ_J.

    >>> from gmcourse.flows.builders_free import ffjord
    >>> flow = ffjord()
    >>> Regularised(flow, kinetic=0.01).loss(flow.sample(5)).shape
    torch.Size([5])
    """

    def __init__(self, flow: Flow, *, kinetic: float = 0.0, jacobian: float = 0.0):
        super().__init__(flow.event_shape)
        layers = list(_unchained(flow.chain))
        if not any(isinstance(layer, Continuous) for layer in layers):
            raise ValueError("flow must have a Continuous layer; got none")
        for layer in layers:
            if not isinstance(layer, Continuous) and any(isinstance(part, Continuous) for part in layer.modules()):
                wanted = "flow must have its Continuous layers in a row, where they can be priced"
                raise ValueError(f"{wanted}; got one within {type(layer).__name__}")
        if kinetic < 0 or jacobian < 0:
            raise ValueError(f"kinetic and jacobian must not be negative; got {kinetic} and {jacobian}")
        self.flow, self.kinetic, self.jacobian = flow, kinetic, jacobian

    def loss(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Per datum, (n,); with a context x is a pair, as for `Flow.loss`."""
        x, context = x if isinstance(x, (tuple, list)) else (x, None)
        z, total = self.flow.check_batch(x), x.new_zeros(len(x))
        context = self.flow.check_context(context, len(x))
        for layer in _unchained(self.flow.chain):
            if isinstance(layer, Continuous):
                path = layer.path(z, context, costs=True)
                z = path.end
                total = total - path.trace + self.kinetic * path.kinetic + self.jacobian * path.jacobian
            else:
                z, contribution = layer(z, context)
                total = total - contribution
        return total - self.flow.base.log_prob(z)


def _unchained(layer: Layer) -> Iterator[Layer]:
    """The layers of chains within chains, in a row."""
    if isinstance(layer, Chain):
        for part in layer.layers:
            yield from _unchained(part)
    else:
        yield layer
