r"""Sums of isotropic Gaussians: the one formula behind the mixtures and the curves.

    p(x) = Σ_k w_k N(x; m_k, σ_k² I)
    ∇ log p(x) = Σ_k r_k(x) (m_k − x) / σ_k²,     r_k(x) = w_k N(x; m_k, σ_k² I) / p(x)

Both go through log w_k N(x; m_k, σ_k² I), never through the densities themselves, so that points a thousand σ away still
have a finite log-density and the right score. Squared distances are summed coordinate by coordinate from differences: the
usual |x|² − 2 x·m + |m|² would lose three digits of float32 at σ = 1/30. Points are taken in blocks that fit the cache.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NEGLIGIBLE = 30.0  # nats: a term e⁻³⁰ times another one is left out


@dataclass(frozen=True)
class Gaussians:
    """k weighted isotropic Gaussians in d dimensions: log_weights (k,), means (k, d), sigmas (k,)."""

    log_weights: Tensor
    means: Tensor
    sigmas: Tensor

    def like(self, x: Tensor) -> "Gaussians":
        """The same, with the device and dtype of x."""
        return Gaussians(self.log_weights.to(x), self.means.to(x), self.sigmas.to(x))

    def log_terms(self, x: Tensor) -> Tensor:
        """log w_k N(x; m_k, σ_k² I) for x (n, d), shape (n, k)."""
        d = self.means.shape[1]
        constants = self.log_weights - d * (self.sigmas.log() + 0.5 * math.log(2 * math.pi))
        squares = (x[:, :1] - self.means[:, 0]).square()
        for i in range(1, d):
            squares = squares + (x[:, i, None] - self.means[:, i]).square()
        return constants - squares * (0.5 / self.sigmas.square())

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (n, d) -> (n,)."""
        return torch.cat([self.log_terms(block).logsumexp(1) for block in x.split(self._block(x))])

    def score(self, x: Tensor) -> Tensor:
        """∇ log p(x), (n, d) -> (n, d)."""
        return torch.cat([self._pull(block) for block in x.split(self._block(x))])

    def _pull(self, x: Tensor) -> Tensor:
        pull = self.log_terms(x).softmax(1) / self.sigmas.square()
        return torch.stack([(pull * (self.means[:, i] - x[:, i, None])).sum(1) for i in range(x.shape[1])], 1)

    def _block(self, x: Tensor) -> int:
        numbers = 2**14 if x.device.type == "cpu" else 2**22
        return max(1, numbers // len(self.means))

    def near(self, x: Tensor) -> "Gaussians":
        r"""Those that matter for at least one of the points x (n, d); all must have the same σ.

        With the points in a ball of centre a and radius ρ, and m_i the mean nearest to a,

            |x − m_j|² − |x − m_i|²  ≥  |m_j − a|² − |m_i − a|² − 2 ρ |m_j − m_i|,

        and j is left out where this makes its term at most e⁻³⁰ times that of i. The sum then errs by less than k·e⁻³⁰.
        """
        centre = (x.amin(0) + x.amax(0)) / 2
        radius = (x - centre).norm(dim=1).amax()
        squares = (self.means - centre).square().sum(1)
        i = squares.argmin()
        at_least = squares - squares[i] - 2 * radius * (self.means - self.means[i]).norm(dim=1)
        behind = at_least / (2 * self.sigmas.square()) - self.log_weights + self.log_weights[i]
        keep = ~(behind > NEGLIGIBLE)  # so written, a NaN among the points keeps everything and shows in the result
        return Gaussians(self.log_weights[keep], self.means[keep], self.sigmas[keep])
