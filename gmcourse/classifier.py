r"""Classifiers p(y | x): the discriminative models, and the eyes through which sample metrics look at images.

    p(y | x) = softmax(W f(x) + b),        loss = −log p(y | x)

A classifier says nothing about how probable x itself is (thesis 1.1.3). What it learns on the way, the features f(x), are
the space in which Fréchet distance, kernel distance and precision/recall compare images: two pictures are close there when
they show the same thing, not when their pixels agree.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmcourse.model import Trainable, check_count, evaluating
from gmcourse.nets.conv import ConvEncoder
from gmcourse.nets.mlp import MLP


class Classifier(Trainable):
    """Class probabilities from features of the data; trained by `fit` on pairs (x, y).

    Args:
        event_shape: shape of one datum.
        trunk: x (n, *event_shape) -> features (n, width).
        width: number of features.
        classes: number of classes.
        dropout: fraction of features left out while training.

    >>> points = mlp_classifier((2,), classes=3)
    >>> points(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, event_shape: Sequence[int], trunk: nn.Module, width: int, classes: int, *, dropout: float = 0.0):
        super().__init__(event_shape)
        self.classes = check_count(classes, "classes")
        self.width = check_count(width, "width")
        self.trunk = trunk
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def features(self, x: Tensor) -> Tensor:
        """(n, *event_shape) -> f(x), (n, width)."""
        return self.trunk(self.check_batch(x))

    def forward(self, x: Tensor) -> Tensor:
        """(n, *event_shape) -> logits (n, classes); their softmax is p(y | x)."""
        return self.head(self.features(x))

    def loss(self, pairs: tuple[Tensor, Tensor]) -> Tensor:
        """−log p(y | x) in nats, (n,), of pairs x (n, *event_shape) and labels y (n,).

        Raises ValueError for labels that are not whole numbers in [0, classes).
        """
        x, y = pairs
        return F.cross_entropy(self(x), self._labels(y), reduction="none")

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor, *, batch: int = 500) -> float:
        """Fraction of x whose most probable class is y, in evaluation mode."""
        if len(x) != len(self._labels(y)):
            raise ValueError(f"y must hold a label for each of {len(x)} x; got {len(y)}")
        with evaluating(self):
            found = torch.cat([self(part).argmax(1) for part in x.split(batch)])
        return (found == y.to(found.device)).double().mean().item()

    def _labels(self, y: Tensor) -> Tensor:
        if y.is_floating_point() or y.ndim != 1:
            raise ValueError(f"y must hold whole numbers, shape (n,); got {y.dtype} of shape {tuple(y.shape)}")
        low, high = (int(v) for v in y.aminmax())
        if low < 0 or high >= self.classes:
            raise ValueError(f"y must lie in [0, {self.classes}); got labels from {low} to {high}")
        return y


def mlp_classifier(
    event_shape: Sequence[int], classes: int, *, hidden: Sequence[int] = (64, 64), input_scale: float = 1.0
) -> Classifier:
    """A multilayer perceptron; the last of `hidden` is the number of features."""
    trunk = nn.Sequential(MLP(event_shape, hidden[-1], hidden[:-1], input_scale=input_scale), nn.SiLU())
    return Classifier(event_shape, trunk, hidden[-1], classes)


def conv_classifier(
    event_shape: Sequence[int], classes: int, *, channels: int = 24, width: int = 32, dropout: float = 0.2
) -> Classifier:
    """Convolutions that halve the image twice, then `width` features of root mean square 1.

    Their size is fixed so that distances between features have a scale: a net could else make any distance large.
    """
    trunk = nn.Sequential(ConvEncoder(event_shape, width, width=channels), nn.RMSNorm(width, elementwise_affine=False))
    return Classifier(event_shape, trunk, width, classes, dropout=dropout)
