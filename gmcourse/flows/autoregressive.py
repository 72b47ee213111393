r"""Autoregressive flows: every coordinate is transformed by what came before it (slides, eq. (11)–(13)).

    z_i = τ(x_i; h_i),   h_i = net(x_1, …, x_{i−1})        log|det ∂z/∂x| = Σ_i log τ′(x_i; h_i): the Jacobian is triangular

MAF reads h off the data: x → z is one pass of a masked net, so the density is cheap, but x_i is needed before h_{i+1} and
sampling goes coordinate by coordinate. IAF reads h off the noise, x_i = τ(z_i; net(z_1, …, z_{i−1})): sampling is one pass,
the density of given data takes d steps. So MAF is for maximum likelihood and IAF for variational posteriors; the two are
the same layer with its directions exchanged.
"""

import torch
from torch import Tensor

from gmcourse.flows.elementwise import Transformer
from gmcourse.flows.inverted import Inverted
from gmcourse.flows.layer import Layer, beside
from gmcourse.flows.masked import MaskedMLP, Unrolled


class MaskedAutoregressive(Layer):
    """x (n, d) → z in one pass, z → x in d steps.

    Args:
        net: MaskedMLP(d, transformer.numbers, ...); its order is the order of the coordinates.
        transformer: what is done to each coordinate.

    >>> from gmcourse.flows import Affine, MaskedMLP
    >>> MaskedAutoregressive(MaskedMLP(3, 2), Affine())(torch.zeros(5, 3))[0].shape
    torch.Size([5, 3])
    """

    def __init__(self, net: MaskedMLP, transformer: Transformer):
        super().__init__()
        if net.numbers != transformer.numbers:
            wanted = f"{transformer.numbers} numbers per coordinate, as {type(transformer).__name__} wants"
            raise ValueError(f"net must give {wanted}; got {net.numbers}")
        self.net, self.transformer = net, transformer

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, d) -> (n, d) and Σ log τ′, in one pass."""
        h = self.net(beside(self._check(x), context)).T.unflatten(0, (-1, self.net.features))
        z, log_slope = self.transformer(x.T.contiguous(), h)
        return z.T, log_slope.sum(0)

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, d) -> (n, d) and Σ log τ′, in d steps."""
        rows = self._check(z).T.contiguous()
        net, found, contribution = Unrolled(self.net, z, context), [], 0
        for i in self.net.order.tolist():
            x, log_slope = self.transformer.invert(rows[i], net.numbers(i))
            net.append(x)
            found.append(x)
            contribution = contribution + log_slope
        return torch.stack(found).index_select(0, self.net.order.argsort()).T, contribution

    def _check(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (self.net.features,):
            raise ValueError(f"x must have shape (n, {self.net.features}); got {tuple(x.shape)}")
        return x


class InverseAutoregressive(Inverted):
    """z (n, d) → x in one pass, x → z in d steps: MaskedAutoregressive(net, transformer) the other way round."""

    def __init__(self, net: MaskedMLP, transformer: Transformer):
        super().__init__(MaskedAutoregressive(net, transformer))
