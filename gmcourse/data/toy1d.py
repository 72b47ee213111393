r"""Densities on the line: Gaussian mixtures, with the one the diffusion chapters begin with as default.

    p(x) = Σ_k w_k N(x; m_k, σ_k²)

Thesis Fig. 6.3 shows such a mixture dissolving in noise, and the true denoising law q(x_s | x_t) growing several
humps when the step from t to s is large. Its parameters are not given; the default here was chosen to show the same:
three humps, more than four σ apart on either side, unequal in weight and width, mean about 0, variance about 1.2.
"""

import torch
from torch import Tensor
from torch.distributions import constraints

from gmcourse.data.mixtures import IsotropicMixture

WEIGHTS = (0.5, 0.2, 0.3)
MEANS = (-1.0, 0.2, 1.5)
SIGMAS = (0.15, 0.1, 0.2)


class Mixture1D(IsotropicMixture):
    """Gaussian mixture on the line: weights (k,), means (k,), sigmas (k,) or one number; by default Fig. 6.3's.

    Points have any shape; `log_prob`, `score` and `cdf` keep it.

    >>> Mixture1D([1.0], [0.0], 1.0).cdf(torch.tensor([0.0, 1.0]))
    tensor([0.5000, 0.8413])
    """

    support = constraints.real

    def __init__(self, weights=WEIGHTS, means=MEANS, sigmas=SIGMAS):
        super().__init__(weights, means, sigmas, dims=0)

    def cdf(self, x: Tensor) -> Tensor:
        """P(X ≤ x), with the shape, device and dtype of x."""
        standard = (self._rows(x) - self.means.to(x)) / self.sigmas.to(x)
        return (torch.special.ndtr(standard) @ self.weights.to(x)).reshape(x.shape)

    def diffused(self, alpha: float, sigma: float) -> "Mixture1D":
        """The mixture that alpha·x + sigma·ε follows."""
        return Mixture1D(*self._diffused(alpha, sigma))
