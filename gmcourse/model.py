r"""The one protocol: what every generative model of the course can do.

A model describes a distribution p(x) over data of a fixed `event_shape`. It can always draw from it (`sample`);
what `log_prob` means differs between families, and `likelihood` says which it is:

    EXACT          log p(x)                              flows, autoregressive models, continuous flows
    LOWER_BOUND    at most log p(x)                      VAEs, diffusion models, surjective flows
    UNNORMALIZED   log p(x) + log Z, Z unknown           energies
    NONE           there is none                         GANs

Training is a game of `players()`: each has parameters, one loss and one optimiser. A VAE has one player, a GAN two.
A model that maps noise to data is also a *transport*: `noise(n)` draws ε ~ N(0, I) as one flat tensor and `push(eps)`
carries it to x, differentiably, so that densities can be moved or tilted in the space of the noise.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn


class Likelihood(Enum):
    """What a model's `log_prob` means."""

    EXACT = "exact"
    LOWER_BOUND = "lower bound"
    UNNORMALIZED = "unnormalized"
    NONE = "none"


@dataclass(frozen=True)
class Player:
    """One participant of the training game: who is trained (`parameters`), on what (`loss`), and how often.

    `loss` maps a batch to a tensor of shape (n,) or to a scalar; its mean is minimised. The player moves on every
    `every`-th step.
    """

    name: str
    parameters: Callable[[], Iterable[nn.Parameter]]
    loss: Callable[[Tensor], Tensor]
    every: int = 1

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(f"every must be a positive number of steps; got {self.every} for player {self.name!r}")


class Trainable(nn.Module):
    """What `fit` can train: data of one `event_shape`, and a game. Most are generative models; classifiers are, too.

    Args:
        event_shape: shape of one datum, without the batch dimension.
    """

    data_range: tuple[float, float] = (-math.inf, math.inf)  # values a datum may take

    def __init__(self, event_shape: Sequence[int]):
        super().__init__()
        self.event_shape = torch.Size(event_shape)

    def players(self) -> Sequence[Player]:
        """Who is trained on what: unless a family says else one player, named after the class, on `self.loss`."""
        return [Player(type(self).__name__.lower(), self.parameters, self.loss)]

    def loss(self, x: Tensor) -> Tensor:
        """Loss of a batch (n, *event_shape): shape (n,) where there is a loss per sample, else a scalar."""
        raise NotImplementedError(f"{type(self).__name__} has no single loss; train it through players()")

    def check_batch(self, x: Tensor, name: str = "x") -> Tensor:
        """Return x if it is a batch (n, *event_shape) of floating-point numbers, else raise ValueError saying what came."""
        if tuple(x.shape[1:]) != tuple(self.event_shape) or x.ndim == 0:
            wanted = ", ".join(["n", *map(str, self.event_shape)])
            raise ValueError(f"{name} must have shape ({wanted}); got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"{name} must hold floating-point numbers; got {x.dtype}")
        return x

    def check_data(self, x: Tensor, name: str = "data") -> Tensor:
        """Return x if it is a non-empty batch of finite numbers within `data_range`, else raise ValueError."""
        self.check_batch(x, name)
        if len(x) == 0:
            raise ValueError(f"{name} is empty")
        if not (whole := x.reshape(len(x), -1).isfinite().all(1)).all():
            bad = (~whole).nonzero().flatten().tolist()
            found = f"{len(bad)} of {len(x)} rows hold NaN or inf, the first is row {bad[0]}"
            raise ValueError(f"{name} must be finite; {found}")
        low, high = (float(v) for v in x.aminmax())
        if low < self.data_range[0] or high > self.data_range[1]:
            wanted = f"[{self.data_range[0]:g}, {self.data_range[1]:g}]"
            raise ValueError(f"{name} must lie in {wanted} for {type(self).__name__}; got values from {low:g} to {high:g}")
        return x


class GenerativeModel(Trainable):
    """Base of all models: an `event_shape`, a meaning of `log_prob`, a way to sample and a game to train it."""

    likelihood: Likelihood = Likelihood.NONE
    nfe: int = 1  # network evaluations per sample

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples, shape (n, *event_shape), without gradients, on the model's device."""
        raise NotImplementedError(f"{type(self).__name__} does not sample")

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of x (n, *event_shape) in nats, shape (n,); read `likelihood` for what the number means."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob (likelihood: {self.likelihood.value})")


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within, the module and all its parts are in evaluation mode; afterwards each part is as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:  # not module.train(): parts that were in evaluation mode stay so
            part.training = True


def check_count(n: int, name: str = "n") -> int:
    """Return n if it is a positive whole number, else raise ValueError (a sampler asked for 0 samples is a mistake)."""
    if int(n) != n or n < 1:
        raise ValueError(f"{name} must be a positive whole number; got {n}")
    return int(n)


def check_positive(value: float, name: str) -> float:
    """Return value as a float if it is positive and finite, else raise ValueError."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive; got {value}")
    return float(value)


def check_not_negative(value: float, name: str) -> float:
    """Return value as a float if it is finite and 0 or more, else raise ValueError."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must not be negative; got {value}")
    return float(value)


class StandardNormal(GenerativeModel):
    """N(0, I) on `event_shape`: the noise every model starts from, and the smallest complete example of the protocol.

    >>> StandardNormal(3).sample(2).shape
    torch.Size([2, 3])
    """

    likelihood = Likelihood.EXACT
    nfe = 0

    def __init__(self, event_shape: int | Sequence[int]):
        super().__init__((event_shape,) if isinstance(event_shape, int) else event_shape)
        self.register_buffer("origin", torch.zeros(()), persistent=False)  # knows the device and the dtype

    @property
    def noise_blocks(self) -> dict[str, int]:
        """Sizes of the named parts of the flat noise vector."""
        return {"z": self.event_shape.numel()}

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; 0, I) in nats, shape (n,)."""
        self.check_batch(x)
        return -0.5 * (x.square() + math.log(2 * math.pi)).reshape(len(x), self.event_shape.numel()).sum(1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, *event_shape)."""
        return torch.randn(
            check_count(n), *self.event_shape, generator=generator, device=self.origin.device, dtype=self.origin.dtype
        )

    def noise(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw flat noise (n, d); here it already is the sample."""
        return self.sample(n, generator=generator).flatten(1)

    def push(self, eps: Tensor) -> Tensor:
        """Carry noise (n, d) to data (n, *event_shape): the identity, reshaped."""
        return eps.reshape(len(eps), *self.event_shape)


def device() -> torch.device:
    """The best device present: cuda, else mps (Apple), else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
