"""A transformer steered by the context alone: z_i = τ(x_i; h_i), h = net(context), the start of a conditional density."""

from torch import Tensor, nn

from gmcourse.flows.elementwise import Transformer
from gmcourse.flows.layer import Layer


class Conditional(Layer):
    """Every coordinate of x is moved, none is looked at; without a net it would be `Elementwise`.

    Args:
        net: context (n, c, ...) -> (n, k d, ...) for x (n, d, ...), the k numbers of one coordinate d apart.
        transformer: what is done to each coordinate, by k = `transformer.numbers` numbers.
    """

    def __init__(self, net: nn.Module, transformer: Transformer):
        super().__init__()
        self.net, self.transformer = net, transformer

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (n, d, ...) -> z (n, d, ...) and Σ log τ′. Raises ValueError without a context."""
        z, log_slope = self.transformer(x, self._numbers(context))
        return z, log_slope.flatten(1).sum(1)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z (n, d, ...) -> x (n, d, ...) and Σ log τ′. Raises ValueError without a context."""
        x, log_slope = self.transformer.invert(z, self._numbers(context))
        return x, log_slope.flatten(1).sum(1)

    def _numbers(self, context: Tensor | None) -> Tensor:
        if context is None:
            raise ValueError("context must be given to a conditional layer; got None")
        return self.net(context).unflatten(1, (self.transformer.numbers, -1)).transpose(0, 1)
