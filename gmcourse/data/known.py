r"""Densities that are known: everything a model estimates can be compared with the truth, in nats.

A `KnownDensity` is a `torch.distributions.Distribution` that can, beside `sample` and `log_prob`, tell

    score(x)              ∇ₓ log p(x), in closed form
    entropy()             −E[log p(x)]: the best average log-likelihood any model can reach is its negative
    diffused(α, σ)        the law of α x + σ ε with ε ~ N(0, I): what a diffusion model sees at one time, exactly
    modes, extent         where it lives

All four families here (mixtures, curves with a width, the checkerboard) are closed under `diffused`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

Box = list[tuple[float, float]]  # (low, high) of every axis
MAX_NODES = 10_000_000  # of a quadrature grid


class KnownDensity(Distribution, ABC):
    """Base of the toy densities. Subclasses fill in the hooks below, which see points as a matrix (n, d).

    Args:
        event_shape: (d,), or () for densities on the line.
    """

    arg_constraints = {}
    support = constraints.real_vector

    def __init__(self, event_shape: Sequence[int]):
        super().__init__(torch.Size(), torch.Size(event_shape), validate_args=False)

    def sample(
        self, sample_shape: Sequence[int] | int = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw samples of shape (*sample_shape, *event_shape); a whole number n stands for (n,).

        They come in torch's default dtype, on the generator's device where one is given.
        """
        shape = torch.Size((sample_shape,) if isinstance(sample_shape, int) else sample_shape)
        with torch.no_grad():
            return self._draw(shape.numel(), generator).reshape(shape + self.event_shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, x of shape (..., *event_shape), result of shape (...), with x's device and dtype.

        Raises ValueError for another shape or for whole numbers.
        """
        return self._log_prob(self._rows(x)).reshape(x.shape[: x.ndim - len(self.event_shape)])

    def score(self, x: Tensor) -> Tensor:
        """∇ₓ log p(x) in closed form, with the shape, device and dtype of x."""
        return self._score(self._rows(x)).reshape(x.shape)

    def entropy(self) -> Tensor:
        """H = −E[log p] in nats, a scalar; computed once per instance."""
        return torch.tensor(self._entropy_once)

    @property
    def extent(self) -> tuple[float, ...]:
        """Window for plots: (xmin, xmax, ymin, ymax) in the plane, (xmin, xmax) on the line."""
        margins = [(low, high, 0.05 * (high - low)) for low, high in self._box(4.0)]
        return tuple(chain.from_iterable((low - margin, high + margin) for low, high, margin in margins))

    @property
    def modes(self) -> Tensor | None:
        """Centres of separate modes, shape (k, *event_shape), where the density has such."""
        return None

    @abstractmethod
    def diffused(self, alpha: float, sigma: float) -> "KnownDensity":
        """The law of alpha·x + sigma·ε, ε ~ N(0, I); alpha and sigma are ≥ 0, not both 0, else ValueError."""

    @abstractmethod
    def _draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """n samples, (n, d)."""

    @abstractmethod
    def _log_prob(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,)"""

    @abstractmethod
    def _score(self, x: Tensor) -> Tensor:
        """(n, d) -> (n, d)"""

    @abstractmethod
    def _box(self, widths: float) -> Box:
        """A box with all the mass but what lies so many standard deviations out."""

    @abstractmethod
    def _entropy(self) -> float:
        """−E[log p] in nats, to 1e-3 or better; called once."""

    @cached_property
    def _entropy_once(self) -> float:
        return self._entropy()

    def _rows(self, x: Tensor) -> Tensor:
        dims = len(self.event_shape)
        if x.shape[x.ndim - dims :] != self.event_shape:
            wanted = "(..., " + ", ".join(map(str, self.event_shape)) + ")"
            raise ValueError(f"x must have shape {wanted}; got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"x must hold floating-point numbers; got {x.dtype}")
        return x.reshape(-1, self.event_shape.numel())


def entropy_on_grid(density: KnownDensity, finest: float) -> float:
    """−∫ p log p in nats by the trapezoid rule, in float64.

    The step is σ/2, with σ = `finest` the smallest width in p. On a sum of Gaussians the rule then errs by
    exp(−2π²σ²/step²) < 1e-30; what is left, below 1e-5, comes from the logarithm. Raises NotImplementedError where
    the grid would be too large.

    >>> from gmcourse.data.mixtures import GaussianMixture
    >>> bell = GaussianMixture([1.0], [[0.0, 0.0]], 1.0)
    >>> entropy_on_grid(bell, finest=1.0)     # log(2πe)
    2.837877
    """
    box, step = density._box(8.0), finest / 2
    counts = [math.ceil((high - low) / step) + 1 for low, high in box]
    size = math.prod(counts)
    if size > MAX_NODES:
        raise NotImplementedError(f"entropy() would need {size:.1g} grid points; the limit is {MAX_NODES:.0g}")
    axes = [low + step * torch.arange(n, dtype=torch.float64) for (low, _), n in zip(box, counts, strict=True)]
    total = 0.0
    for part in axes[0].split(max(1, 200_000 * counts[0] // size)):
        nodes = torch.cartesian_prod(part, *axes[1:]).reshape(-1, *density.event_shape)
        total += torch.special.entr(density.log_prob(nodes).exp()).sum().item()
    return total * step ** len(box)


def check_width(sigma: float, name: str = "sigma") -> float:
    """Return sigma as a float if it is positive and finite, else raise ValueError."""
    if not (0 < sigma < math.inf):
        raise ValueError(f"{name} must be positive and finite; got {float(sigma)}")
    return float(sigma)


def check_diffusion(alpha: float, sigma: float) -> tuple[float, float]:
    """Return (alpha, sigma) as floats; raise ValueError unless both are finite and ≥ 0, and one is positive."""
    if not (0 <= alpha < math.inf and 0 <= sigma < math.inf and alpha + sigma > 0):
        got = f"alpha {float(alpha)}, sigma {float(sigma)}"
        raise ValueError(f"alpha and sigma must be finite, at least 0 and not both 0; got {got}")
    return float(alpha), float(sigma)
