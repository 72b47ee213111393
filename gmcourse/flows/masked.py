r"""MADE: one net that computes the numbers of all coordinates at once, each from the ones before it (Germain et al. 2015).

Every unit gets a degree: input i its place 1 … D in the order, a hidden unit some m < D, the outputs for i the place of i.
A weight may be non-zero only where

    hidden layers   degree(unit) ≥ degree(what it reads)          output layer   degree(output) > degree(what it reads)

so a unit of degree m depends on the first m inputs, and the output for i on those strictly before i: the Jacobian of the
whole net is strictly triangular in the order (slides, eq. (11), (12)). Context has degree 0: all may read it.

Unrolled evaluates the same net when the inputs become known one after the other. A hidden unit is final as soon as its last
input is, so each is computed once: all D steps together cost one pass.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmcourse.flows.conditioner import in_place


class MaskedMLP(nn.Module):
    """The net (n, features [+ context]) -> (n, numbers·features): output j·features + i is number j for coordinate i.

    Args:
        features: D.
        numbers: how many numbers each coordinate gets.
        order: the coordinates, first to last; 0, 1, …, D − 1 if None.
        context: numbers that follow the D inputs and that everything may depend on.
    """

    def __init__(
        self,
        features: int,
        numbers: int,
        hidden: Sequence[int] = (64, 64),
        *,
        order: Sequence[int] | None = None,
        context: int = 0,
        activation: type[nn.Module] = nn.SiLU,
    ):
        super().__init__()
        order = torch.arange(features) if order is None else torch.as_tensor(order)
        if order.sort().values.tolist() != list(range(features)):
            raise ValueError(f"order must be a permutation of 0 … {features - 1}; got {order.tolist()}")
        if not hidden:
            raise ValueError("hidden must name the width of at least one hidden layer; got none")
        self.features, self.numbers, self.context = features, numbers, context
        self.activation = in_place(activation())
        self.register_buffer("order", order)
        lowest = 0 if context or features == 1 else 1
        degrees = [order.argsort() + 1]
        degrees += [torch.arange(width) * (features - lowest) // width + lowest for width in hidden]  # ascending
        read = [torch.cat((degrees[0], torch.zeros(context, dtype=torch.long))), *degrees[1:]]
        masks = [after[:, None] >= before for before, after in zip(read, degrees[1:], strict=False)]
        masks.append(degrees[0].repeat(numbers)[:, None] > read[-1])
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in masks)
        places = torch.arange(features + 1)
        self.below = [torch.searchsorted(d, places).tolist() for d in degrees[1:]]  # units of degree < place, by layer

    def forward(self, x: Tensor) -> Tensor:
        """(n, features + context) -> (n, numbers·features), stored column after column."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return torch.addmm(last.bias.unsqueeze(1), last.masked(), x.T).T


class MaskedLinear(nn.Linear):
    """A linear layer without the weights where `mask` (outputs, inputs) is False."""

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs)."""
        return F.linear(x, self.masked(), self.bias)

    def masked(self) -> Tensor:
        """The weights (outputs, inputs) that count."""
        return self.weight * self.mask


class Unrolled:
    """The net, asked for one coordinate after the other; everything is kept as rows (units, n).

    Args:
        net: of D coordinates.
        blank: any (n, ...) tensor on the right device: how many data there are.
        context: (n, c) or None.
    """

    def __init__(self, net: MaskedMLP, blank: Tensor, context: Tensor | None):
        self.net, self.place = net, 0
        self.weights = [layer.masked() for layer in net.layers]
        self.biases = [layer.bias.unsqueeze(1) for layer in net.layers]
        first = self.weights[0]
        if context is not None:
            self.biases[0] = torch.addmm(self.biases[0], first[:, net.features :], context.T)
        self.weights[0] = first.index_select(1, net.order)
        self.weights[-1] = self.weights[-1].unflatten(0, (net.numbers, net.features))
        self.biases[-1] = self.biases[-1].unflatten(0, (net.numbers, net.features))
        self.known = [blank.new_empty(0, len(blank)) for _ in net.layers]  # inputs, then hidden units, as far as final

    def numbers(self, coordinate: int) -> Tensor:
        """h (numbers, n) of the coordinate whose turn it is."""
        for k, below in enumerate(self.net.below):
            new = slice(below[self.place], below[self.place + 1])
            if new.start < new.stop:
                known = self.known[k]
                units = torch.addmm(self.biases[k][new], self.weights[k][new, : len(known)], known)
                self.known[k + 1] = torch.cat((self.known[k + 1], self.net.activation(units)))
        known = self.known[-1]
        return torch.addmm(self.biases[-1][:, coordinate], self.weights[-1][:, coordinate, : len(known)], known)

    def append(self, x: Tensor) -> None:
        """The coordinate's value (n,) is known now: on to the next."""
        self.known[0] = torch.cat((self.known[0], x.unsqueeze(0)))
        self.place += 1
