r"""Perceptual loss: two images are alike when a trained net sees the same in them (thesis 3.4.1; Johnson et al. 2016).

    L_perc(x, x̂) = w Σ_l mean |a_l(x) − a_l(x̂)|  (+ a loss on the pixels)         Hoshen & Wolf 2018

a_l are the activations of layer l of a net that was trained for something else, here to classify; the mean is over the
channels and places of the layer, so that every layer counts alike, whatever its size. The first layers see edges, the last
ones what the image shows. The squared error of pixels asks x̂ to be the average of all that x might be, which is blurred; to
these activations a blurred image is no average of sharp ones, so blur costs. The thesis looks through VGG, a net for
photographs; for digits the course's own classifiers (`zoo.feature_net`) do.

The net must not learn: else it would make all images look alike. It is a frozen copy, always in evaluation mode. And it is
no judge of what it has taught: a Fréchet distance in its features flatters the model; take another net's, or say so.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy

from torch import Tensor, nn

from gmcourse.classifier import Classifier
from gmcourse.model import check_positive, evaluating


class PerceptualLoss(nn.Module):
    """L1 distance of a net's activations at x and x̂; a `distortion` for an `Autoencoder`.

    Args:
        net: a `Classifier`, of which the trunk is used, or any module of the images. It is copied, and the copy is saved
            with the model that owns this loss.
        layers: which of its parts to look at, by name as `named_modules` has it, or by number in an `nn.Sequential`; all
            activation functions unless given.
        weight: w. On digits in [−1, 1], w = 100 makes it about as large as `SquaredError()`.
        pixels: a distortion to add, e.g. `SquaredError()`; none unless given.

    Raises ValueError for layers that the net has not got, and for w ≤ 0.

    >>> import torch
    >>> eye = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    >>> loss = PerceptualLoss(eye)
    >>> loss.layers, loss(torch.zeros(5, 1, 2, 2), torch.zeros(5, 1, 2, 2))
    (('2',), tensor([0., 0., 0., 0., 0.]))
    """

    def __init__(
        self,
        net: Classifier | nn.Module,
        layers: Sequence[str | int] | None = None,
        *,
        weight: float = 1.0,
        pixels: nn.Module | None = None,
    ):
        super().__init__()
        self.net = deepcopy(net.trunk if isinstance(net, Classifier) else net).requires_grad_(False).eval()
        parts = {name: part for name, part in self.net.named_modules() if name}
        self.layers = tuple(_activations(parts) if layers is None else map(str, layers))
        if not self.layers or not parts.keys() >= set(self.layers):
            raise ValueError(f"layers must name some of {', '.join(parts) or 'no parts'} of the net; got {self.layers}")
        self.weight = check_positive(weight, "weight")
        self.pixels = pixels

    def forward(self, x: Tensor, found: Tensor) -> Tensor:
        """x and its reconstruction, both (n, *event_shape) -> (n,); the gradient is that of the reconstruction only."""
        if x.shape != found.shape:
            shapes = f"{tuple(x.shape)} and {tuple(found.shape)}"
            raise ValueError(f"x and its reconstruction must have the same shape; got {shapes}")
        x = x.detach()
        pairs = zip(self.activations(x), self.activations(found), strict=True)
        loss = self.weight * sum((a - b).abs().flatten(1).mean(1) for a, b in pairs)
        return loss if self.pixels is None else loss + self.pixels(x, found)

    def activations(self, x: Tensor) -> list[Tensor]:
        """a_l(x) of every layer looked at, each (n, …), in the order in which the net comes to them."""
        seen: list[Tensor] = []
        with ExitStack() as hooks, evaluating(self.net):
            for name in self.layers:
                part = self.net.get_submodule(name)
                hooks.enter_context(part.register_forward_hook(lambda _part, _given, made: seen.append(made.clone())))
            self.net(x)
        return seen


def _activations(parts: dict[str, nn.Module]) -> list[str]:
    """Names of the activation functions, which all live in one file of PyTorch's."""
    return [name for name, part in parts.items() if type(part).__module__ == nn.ReLU.__module__]
