r"""One way to ask anything that has a density: what p may be in `kl(p, q, grid)`, and where its numbers are computed.

    a Distribution          its `log_prob`; the course's own also tell their score
    a model                 its `log_prob`, on the model's device and in the model's precision
    a function              x (n, *event_shape) -> log p(x) (n,)

Points come in and numbers go out on the caller's device and in the caller's precision. A log-density of −inf says p = 0;
NaN and +inf are refused.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from gmcourse import randomness
from gmcourse.data.known import KnownDensity
from gmcourse.model import GenerativeModel, check_count
from gmcourse.sampling.gradient import one_per_row, value_and_gradient
from gmcourse.sampling.sampler import beside

Function = Callable[[Tensor], Tensor]
Density = Distribution | GenerativeModel | Function
ROWS = 50_000  # points that go through a density at once


def home(owner) -> Tensor | None:
    """A tensor with the device and precision in which `owner` computes; None if it follows its argument's."""
    if isinstance(owner, nn.Module):
        return next((v for v in chain(owner.parameters(), owner.buffers()) if v.is_floating_point()), None)
    if isinstance(owner, Distribution) and not isinstance(owner, KnownDensity):
        try:
            return owner.mean
        except NotImplementedError:
            return None
    return None


def evaluate(function: Function, x: Tensor, name: str) -> Tensor:
    """function(x), shape (n,), computed at the home of its owner, returned with the device and dtype of x.

    Raises ValueError for another shape; looks at no value, so that nothing waits for the device.
    """
    owner = getattr(function, "__self__", function)
    there = home(owner)
    if isinstance(owner, Distribution) and not isinstance(owner, KnownDensity):
        function = partial(_within_support, owner)
    parts = (part if there is None else part.to(there) for part in _laid_out(x, owner).split(ROWS))
    return torch.cat([one_per_row(function, part, name) for part in parts]).to(x)


def log_density(p: Density, x: Tensor, name: str = "p") -> Tensor:
    """log p at x (n, *event_shape) in nats, shape (n,); ValueError for NaN or +inf."""
    return _checked(evaluate(getattr(p, "log_prob", p), x, name), x, f"{name} must have log-densities below +inf")


def negative_energy(energy: Function, x: Tensor) -> Tensor:
    """−E at x (n, *event_shape), the log of an unnormalised density, shape (n,); ValueError for E = NaN or −inf."""
    return _checked(-evaluate(energy, x, "energy"), x, "energy must lie above -inf")


def score(p: Density, x: Tensor, name: str = "p") -> Tensor:
    """∇ₓ log p at x (n, *event_shape), with x's shape: in closed form where p has one, else by autograd."""
    if isinstance(p, KnownDensity):
        return torch.cat([p.score(part) for part in _laid_out(x, p).split(ROWS)]).reshape(x.shape)
    return torch.cat([_slope(p, part, name) for part in x.split(ROWS)])


def draw(p: Distribution | GenerativeModel, n: int, seed: int, name: str = "p") -> Tensor:
    """n samples of p where p lives, without gradients; the same seed gives the same, and leaves torch's own state alone."""
    if not hasattr(p, "sample"):
        raise ValueError(f"{name} must be able to sample; got {p!r}")
    there = home(p)
    place = torch.device("cpu") if there is None else there.device
    return randomness.draw(p, check_count(n), generator=torch.Generator(place).manual_seed(seed), device=place)


def seeds(seed: int, k: int) -> list[int]:
    """k seeds for k independent streams of random numbers."""
    return torch.randint(2**62, (k,), generator=torch.Generator().manual_seed(seed)).tolist()


def _slope(p: Density, x: Tensor, name: str) -> Tensor:
    return value_and_gradient(lambda at: log_density(p, at, name), x.detach(), name)[1]


def _laid_out(x: Tensor, owner) -> Tensor:
    """x in the owner's event shape, where that holds as many numbers: the line is () for one and (1,) for another."""
    shape = getattr(owner, "event_shape", None)
    return x.reshape(len(x), *shape) if shape is not None and shape.numel() == x.shape[1:].numel() else x


def _within_support(p: Distribution, x: Tensor) -> Tensor:
    """log p with −inf outside of the support, where PyTorch's distributions would raise an error."""
    try:
        inside = p.support.check(x)
    except NotImplementedError:
        return p.log_prob(x)
    if inside.all():
        return p.log_prob(x)
    found = p.log_prob(torch.where(beside(inside, x), x, p.sample()))
    return torch.where(inside, found, -math.inf)


def _checked(log_p: Tensor, x: Tensor, wanted: str) -> Tensor:
    if (bad := ~(log_p < math.inf)).any():
        what = "NaN" if log_p.isnan().any() else "an overflow"
        raise ValueError(f"{wanted}; got {what} at {int(bad.sum())} of {len(bad)} points, the first is {x[bad][0].tolist()}")
    return log_p
