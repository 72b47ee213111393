r"""Energies of several experts as one: and, or, not (thesis 2.3.1; Hinton 2002; Du et al. 2020).

An expert says p̃_i(x) = e^{−E_i(x)}, and needs no Z: that is what makes it easy to combine (the thesis writes f for E).

    and     p ∝ Π_i p̃_i^{w_i}                 E = Σ_i w_i E_i                        thesis 2.3.1, below (2.33)
    or      p = Σ_i π_i p̃_i / Z_i             E = −log Σ_i π_i e^{−E_i − log Z_i}
    not     p ∝ p̃_a / p̃_b^α                   E = E_a − α E_b

A product is small wherever *one* expert says no, a mixture is large wherever one says yes; so a product of broad experts can
be narrow, and a mixture is never narrower than the narrowest of its parts. The scores of a product add, too:
∇ log p = −Σ w_i ∇E_i. A mixture needs the Z_i, or it is not clear which expert counts for how much. And "not" is a density
only where E_a outgrows α E_b: past that, the mass flees to infinity.

All three are energies themselves: x (n, *event_shape) -> (n,) in nats, to be combined again.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.ebm.energy import Energy, values


class ProductOfExperts(nn.Module):
    """E(x) = Σ_i w_i E_i(x), the energy of Π p̃_i^{w_i}; thesis 2.3.1.

    Args:
        energies: one or more, x (n, *event_shape) -> (n,); those that are modules train and move with the product.
        weights: w_i, 1 each unless given; the sharper an expert is to be, the larger, and below 0 it repels. Not all 0.

    >>> left, right = (lambda x, m=m: (x - m).square().sum(1) / 2 for m in (-1.0, 1.0))
    >>> ProductOfExperts(left, right)(torch.tensor([[0.0], [1.0]]))     # x² + 1: a normal law of variance ½
    tensor([1., 2.])
    """

    def __init__(self, *energies: Energy, weights: Sequence[float] | None = None):
        super().__init__()
        self.energies, self.experts = _experts(energies)
        self.weights = _numbers(weights, "weights", len(energies), 1.0)
        if not any(self.weights):
            raise ValueError(f"weights must not all be 0: that is no energy; got {list(self.weights)}")

    def forward(self, x: Tensor) -> Tensor:
        """Σ_i w_i E_i(x), (n, *event_shape) -> (n,). An expert of weight 0 is not asked.

        Where an expert of positive weight says p = 0, E is +inf, whatever the others say.
        """
        terms = [weight * values(energy, x) for weight, energy in zip(self.weights, self.energies, strict=True) if weight]
        total = torch.stack(terms)
        if min(self.weights) >= 0:
            return total.sum(0)
        return torch.where((total == math.inf).any(0), math.inf, total.sum(0))


class MixtureOfExperts(nn.Module):
    """E(x) = −log Σ_i π_i e^{−E_i(x) − log Z_i}, the energy of the mixture of the normalised experts.

    Args:
        energies: as in `ProductOfExperts`.
        log_z: log Z_i in nats, 0 each unless given: then e^{−E_i} must be normalised, or the shares are not π_i.
        weights: π_i > 0, scaled to sum 1; equal unless given.

    >>> left, right = (lambda x, m=m: (x - m).square().sum(1) / 2 for m in (-1.0, 1.0))
    >>> MixtureOfExperts(left, right)(torch.zeros(1, 1))
    tensor([0.5000])
    """

    def __init__(self, *energies: Energy, log_z: Sequence[float] | None = None, weights: Sequence[float] | None = None):
        super().__init__()
        self.energies, self.experts = _experts(energies)
        self.log_z = _numbers(log_z, "log_z", len(energies), 0.0)
        shares = _numbers(weights, "weights", len(energies), 1.0)
        if min(shares) <= 0:
            raise ValueError(f"weights must be positive in a mixture; got {list(shares)}")
        self.weights = tuple(share / sum(shares) for share in shares)

    def forward(self, x: Tensor) -> Tensor:
        """−log Σ_i π_i e^{−E_i(x)}/Z_i, (n, *event_shape) -> (n,)."""
        everyone = zip(self.weights, self.log_z, self.energies, strict=True)
        return -torch.stack([math.log(share) - log_z - values(energy, x) for share, log_z, energy in everyone]).logsumexp(0)


def negation(energy: Energy, without: Energy, alpha: float = 1.0) -> ProductOfExperts:
    """E_a − α E_b, the energy of p̃_a / p̃_b^α: what `energy` likes and `without` does not (Du et al. 2020).

    Normalisable only where E_a grows faster than α E_b. Raises ValueError unless α is positive.
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive; got {alpha}")
    return ProductOfExperts(energy, without, weights=(1.0, -alpha))


def _experts(energies: tuple[Energy, ...]) -> tuple[tuple[Energy, ...], nn.ModuleList]:
    if not energies:
        raise ValueError("energies must hold at least one expert; got none")
    for energy in energies:
        if not callable(energy):
            raise ValueError(f"energies must be functions of x; got {type(energy).__name__}")
    return energies, nn.ModuleList(energy for energy in energies if isinstance(energy, nn.Module))


def _numbers(given: Sequence[float] | None, name: str, k: int, default: float) -> tuple[float, ...]:
    numbers = (default,) * k if given is None else tuple(float(value) for value in given)
    if len(numbers) != k:
        raise ValueError(f"{name} must hold one number for each of {k} experts; got {len(numbers)}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite; got {list(numbers)}")
    return numbers
