r"""Toys of the plane as rows of Gaussian spots of equal weight and width: quick to diffuse and to differentiate.

    p = 1/k Σ_j N(m_j, s² I)    ⇒    α x + σ ε ~ 1/k Σ_j N(α m_j, (α² s² + σ²) I)
    ∇ log p(x) = (Σ_j r_j m_j − x)/s²,     r = softmax(m_j·x/s² − |m_j|²/2s²)

The mixtures are what they are; curves become spots at even steps, about one width apart. So the law at every noise level and
its score are exact, in a few products of matrices, where a sampler under a slider asks for thousands of them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse.data import toy2d

SETS = {"8 Gaussians": "gaussians8", "two moons": "two_moons", "25 Gaussians": "gaussians25"}
ROW = 32  # spots along a branch


class Spots(NamedTuple):
    """1/k Σ_j N(m_j, s² I) in the plane, with its centres (k, 2) and its width s."""

    centres: Tensor
    width: float

    def noised(self, alpha: float, sigma: float) -> "Spots":
        """The law of α x + σ ε."""
        return Spots(alpha * self.centres, math.hypot(alpha * self.width, sigma))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (n, 2) -> (n,)."""
        logits = self._logits(x) - x.square().sum(1, keepdim=True) / (2 * self.width**2)
        return logits.logsumexp(1) - math.log(2 * math.pi * len(self.centres) * self.width**2)

    def score(self, x: Tensor) -> Tensor:
        """∇ log p(x), (n, 2) -> (n, 2)."""
        return (self._logits(x).softmax(1) @ self.centres - x) / self.width**2

    def _logits(self, x: Tensor) -> Tensor:
        scaled = self.centres / self.width**2
        return torch.addmm((scaled * self.centres).sum(1) * -0.5, x, scaled.T)


def spots(name: str) -> Spots:
    """The toy of that name, in float32."""
    toy = toy2d.get(name)
    centres = toy.means if hasattr(toy, "means") else toy.curve((torch.arange(ROW) + 0.5) / ROW).flatten(0, 1)
    return Spots(centres.float(), toy.sigma)
