r"""Energies: any function of x that gives one number per point is a density, once divided by its integral (thesis 2.3.1).

    p(x) = e^{−E(x)} / Z,     Z = ∫ e^{−E(x)} dx                                             thesis (2.31)–(2.33)
    s(x) = ∇ log p(x) = −∇E(x)          Z is gone: all that Langevin needs

An energy is a module or callable, x (n, *event_shape) -> (n,) in nats. Low energy means probable; a constant added to E
changes nothing. A net is under no duty to have a finite Z: what holds training together is kept small from outside,

    E(x)² + E(x⁻)²          the free constant, and the gap between data and negatives (`contrastive(l2=)`)
    Σ_l σ_max(W_l)          how fast E can change: |∇E| ≤ Π_l r_l s_l σ_max(W_l)

with s_l the steepest slope of the activation (1 for Tanh and ReLU, 1.0998 for SiLU), and r_l = 1 for a linear layer. The W
of a convolution acts on patches, and a pixel lies in up to kh·kw of them: r_l = √(kh·kw) bounds it, 3 for a 3 × 3.
"""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn

from gmcourse.nets.embedding import FourierFeatures
from gmcourse.nets.mlp import MLP
from gmcourse.sampling.gradient import one_per_row, value_and_gradient

Energy = Callable[[Tensor], Tensor]
Kinds = tuple[type[nn.Module], ...]


def mlp_energy(
    event_shape: int | Sequence[int],
    hidden: Sequence[int] = (128, 128),
    *,
    features: int = 0,
    feature_scale: float = 4.0,
    input_scale: float = 1.0,
    activation: type[nn.Module] = nn.SiLU,
) -> nn.Sequential:
    """A multilayer perceptron as an energy, x (n, *event_shape) -> (n,); points on the line, (n,), enter it as (n, 1).

    Args:
        event_shape: of one datum; a whole number d stands for (d,).
        hidden: widths of the hidden layers.
        features: random Fourier frequencies before the first layer; 0 for none. In 2-D 32 of them are the main lever.
        feature_scale: their standard deviation, see `FourierFeatures`.
        input_scale: factor on the first layer's initial weights, see `MLP`.
        activation: between the layers; score matching needs a second derivative, which ReLU lacks.

    >>> mlp_energy(2, (64, 64), features=32)(torch.zeros(5, 2)).shape
    torch.Size([5])
    """
    shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
    vectors = [] if len(shape) == 1 else [nn.Flatten(1) if shape else nn.Unflatten(0, (-1, 1))]
    waves = [FourierFeatures(prod(shape), features, feature_scale)] if features else []
    inputs = prod(shape) + 2 * features
    net = MLP(inputs, 1, hidden, activation=activation, input_scale=input_scale)
    return nn.Sequential(*vectors, *waves, net, nn.Flatten(0))


def values(energy: Energy, x: Tensor) -> Tensor:
    """E(x) in nats, x (n, *event_shape) -> (n,); ValueError if the energy gives another shape."""
    return one_per_row(energy, x, "energy")


def score(energy: Energy, x: Tensor, create_graph: bool = False) -> Tensor:
    """s(x) = −∇E(x), with the shape of x; `create_graph` keeps it differentiable, in the weights and in x.

    Works under `torch.no_grad` and `torch.inference_mode`, too. Raises ValueError if E can't be differentiated.
    """
    return -value_and_gradient(energy, x, "energy", create_graph=create_graph)[1]


def spectral_regularisation(net: nn.Module, kinds: Kinds = (nn.Conv2d,)) -> Tensor:
    """Σ σ_max(W) over the layers of these kinds, a scalar; a convolution's W is (out, in·kh·kw). Thesis: times 0.2.

    Each is exact, the root of the largest eigenvalue of W Wᵀ. As a map between images a convolution may stretch by up to
    √(kh·kw) times that. Raises ValueError if there are no such layers.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, kinds)]
    if not layers:
        raise ValueError(f"net must have layers of kind {', '.join(k.__name__ for k in kinds)}; got none")
    return torch.stack([_spectral_norm(layer.weight.flatten(1)) for layer in layers]).sum()


def _spectral_norm(weight: Tensor) -> Tensor:
    small = weight if weight.shape[0] <= weight.shape[1] else weight.t()
    gram = small @ small.t()
    gram = gram.cpu() if gram.device.type == "mps" else gram  # Apple's has no eigenvalues
    return torch.linalg.eigvalsh(gram)[-1].clamp(min=1e-12).sqrt().to(weight.device)
