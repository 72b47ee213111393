r"""Where samples are compared: the one place that turns data into features.

    net = None               the data are the features, flattened to (n, d)
    net = a Classifier       f(x), what it computes before its last layer; its logits for the Inception Score
    net = anything else      a module or function x (n, *event_shape) -> (n, d)

Distances between pixels say little: a digit moved by two pixels is far from itself. A trained net f maps pictures that show
the same thing close together, and sample metrics compare the laws of f(real) and f(fake). Their values belong to that net:
published FIDs are made with Inception's weights, and somebody who has them can pass them here. Modules run in evaluation
mode, without gradients, on their own device and in their own precision; the
features come back to the device of x.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from gmcourse.classifier import Classifier
from gmcourse.metrics.density import home
from gmcourse.model import evaluating

Net = nn.Module | Callable[[Tensor], Tensor] | None


def features(x: Tensor, net: Net = None, *, name: str = "x", batch: int = 500) -> Tensor:
    """Features (n, d) of x (n, *event_shape), `batch` rows at a time; `name` is what errors call x.

    Raises ValueError where x is empty or the features are not finite, floating-point and of shape (n, d).

    >>> features(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 784])
    """
    return _apply(x, net, net.features if isinstance(net, Classifier) else net, name, batch)


def logits(x: Tensor, net: Net, *, name: str = "x", batch: int = 500) -> Tensor:
    """Logits (n, classes) of x, what a Classifier returns; any other `net` as in `features`."""
    return _apply(x, net, net, name, batch)


def feature_pair(
    first: Tensor, second: Tensor, net: Net = None, *, names: tuple[str, str] = ("real", "fake")
) -> tuple[Tensor, Tensor]:
    """Features of two sets of the same kind, both on the device and in the dtype of the first.

    Raises ValueError where their event shapes differ.
    """
    if first.shape[1:] != second.shape[1:]:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"{' and '.join(names)} must have the same event shape; got {shapes}")
    found = features(first, net, name=names[0])
    return found, features(second, net, name=names[1]).to(found)


@torch.no_grad()
def _apply(x: Tensor, net: Net, function: Callable[[Tensor], Tensor] | None, name: str, batch: int) -> Tensor:
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{name} must have shape (n, ...) with n at least 1; got {tuple(x.shape)}")
    if function is None:
        return _check(x.detach().reshape(len(x), -1), len(x), name)
    there = home(net)
    with evaluating(net) if isinstance(net, nn.Module) else nullcontext():
        found = [function(part if there is None else part.to(there)).to(x.device) for part in x.split(batch)]
    found = torch.cat(found)
    return _check(found, len(x), f"the features of {name}")


def _check(found: Tensor, n: int, name: str) -> Tensor:
    if found.ndim != 2 or len(found) != n or not found.is_floating_point():
        raise ValueError(f"{name} must be floating-point, shape ({n}, d); got {found.dtype} of shape {tuple(found.shape)}")
    if not (whole := found.isfinite().all(1)).all():
        bad = (~whole).nonzero().flatten().tolist()
        raise ValueError(f"{name} must be finite; {len(bad)} of {n} rows hold NaN or inf, the first is row {bad[0]}")
    return found.float() if found.dtype in (torch.float16, torch.bfloat16) else found
