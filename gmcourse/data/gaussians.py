r"""Sums of isotropic Gaussians: the one formula behind the mixtures and the curves.

    p(x) = Σ_k w_k N(x; m_k, σ_k² I)
    ∇ log p(x) = Σ_k r_k(x) (m_k − x) / σ_k²,     r_k(x) = w_k N(x; m_k, σ_k² I) / p(x)

Both go through log w_k N(x; m_k, σ_k² I), never through the densities themselves, so that points a thousand σ
away still have a finite log-density and the right score. Squared distances are summed from differences, coordinate
by coordinate: the usual |x|² − 2 x·m + |m|² would lose three digits of float32 at σ = 1/30.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """k weighted isotropic Gaussians in d dimensions: log_weights (k,), means (k, d), sigmas (k,)."""

    log_weights: Tensor
    means: Tensor
    sigmas: Tensor

    def like(self, x: Tensor) -> "Gaussians":
        """The same, with the device and dtype of x."""
        return Gaussians(self.log_weights.to(x), self.means.to(x), self.sigmas.to(x))

    def log_heights(self) -> Tensor:
        """log w_k N(m_k; m_k, σ_k² I), each one's contribution at its own centre, shape (k,)."""
        return self.log_weights - self.means.shape[1] * (self.sigmas.log() + 0.5 * math.log(2 * math.pi))

    def log_terms(self, x: Tensor) -> Tensor:
        """log w_k N(x; m_k, σ_k² I) for x (n, d), shape (n, k)."""
        squares = (x[:, :1] - self.means[:, 0]).square()
        for i in range(1, x.shape[1]):
            squares = squares + (x[:, i, None] - self.means[:, i]).square()
        terms = self.log_heights() - squares * (0.5 / self.sigmas.square())
        return terms.clamp(min=torch.finfo(x.dtype).min)  # where squares overflow: so far out all terms are alike

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (n, d) -> (n,)."""
        return torch.cat([log_sum_exp(self.log_terms(block)) for block in blocks(x, len(self.means))])

    def score(self, x: Tensor) -> Tensor:
        """∇ log p(x), (n, d) -> (n, d)."""
        return torch.cat([self._pull(block) for block in blocks(x, len(self.means))])

    def _pull(self, x: Tensor) -> Tensor:
        strength = self.log_terms(x).softmax(1) / self.sigmas.square()
        return torch.stack([(strength * (self.means[:, i] - x[:, i, None])).sum(1) for i in range(x.shape[1])], 1)


def blocks(x: Tensor, k: int) -> tuple[Tensor, ...]:
    """Cut x (n, d) into blocks so that (rows, k) numbers stay in the cache; for a GPU into few large ones."""
    numbers = 2**17 if x.device.type == "cpu" else 2**22
    return x.split(max(1, numbers // k))


def log_sum_exp(terms: Tensor) -> Tensor:
    """log Σ_k exp(terms) of (n, k), shape (n,): `torch.logsumexp`, but fast.

    Nothing below e⁻⁸⁰ of the largest term is exponentiated: results under the normal numbers of float32 take six
    times as long, and they are most of what a sum over far Gaussians meets.
    """
    largest = terms.detach().amax(1, keepdim=True)
    return (terms - largest).clamp(min=-80.0).exp().sum(1).log() + largest[:, 0]
