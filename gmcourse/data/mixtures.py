r"""Gaussian mixtures with isotropic components, in any dimension.

    p(x) = Σ_k w_k N(x; m_k, σ_k² I)

Noise keeps them mixtures: α x + σ ε has means α m_k and widths √(α²σ_k² + σ²) with the same weights. So the score that
a diffusion model has to learn from such data is known exactly, at every noise level.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmcourse.data.gaussians import Gaussians
from gmcourse.data.known import Box, KnownDensity, check_diffusion, entropy_on_grid


class IsotropicMixture(KnownDensity):
    """What mixtures on the line and in space share; `weights`, `means` and `sigmas` are kept in float64.

    Args:
        weights: (k,) positive, normalised here to sum 1.
        means: (k, *event_shape).
        sigmas: (k,) positive, or one number for all.
    """

    def __init__(self, weights: Sequence[float] | Tensor, means, sigmas, *, dims: int):
        given = (torch.as_tensor(v, dtype=torch.float64).detach().cpu().clone() for v in (weights, means, sigmas))
        self.weights, self.means, self.sigmas = given
        if self.means.ndim != 1 + dims or self.means.numel() == 0:
            wanted = "(k, d)" if dims else "(k,)"
            raise ValueError(f"means must have shape {wanted}, not empty; got {tuple(self.means.shape)}")
        k = len(self.means)
        self.sigmas = self.sigmas.expand(k) if self.sigmas.ndim == 0 else self.sigmas
        for name in ("weights", "sigmas"):
            value = getattr(self, name)
            if value.shape != (k,):
                raise ValueError(f"{name} must have shape ({k},), one for each of the means; got {tuple(value.shape)}")
            if not ((value > 0) & value.isfinite()).all():
                raise ValueError(f"{name} must be positive and finite; got {value.tolist()}")
        if not self.means.isfinite().all():
            raise ValueError("means must be finite; got NaN or inf among them")
        self.weights = self.weights / self.weights.sum()
        super().__init__(self.means.shape[1:])
        self._gaussians = Gaussians(self.weights.log(), self.means.reshape(k, -1), self.sigmas)

    @property
    def modes(self) -> Tensor:
        """The component means (k, *event_shape) in torch's default dtype: modes while components keep apart."""
        return self.means.to(torch.get_default_dtype())

    @property
    def mean(self) -> Tensor:
        """E[x], shape (*event_shape,), float64."""
        return torch.tensordot(self.weights, self.means, 1)

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, shape (*event_shape,), float64."""
        return torch.tensordot(self.weights, (self.means - self.mean).square(), 1) + self.weights @ self.sigmas.square()

    def _diffused(self, alpha: float, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        alpha, sigma = check_diffusion(alpha, sigma)
        return self.weights, alpha * self.means, (alpha**2 * self.sigmas.square() + sigma**2).sqrt()

    def _draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        device = generator.device if generator else None
        u = torch.rand(n, generator=generator, device=device)
        k = torch.searchsorted(self.weights.cumsum(0).to(u)[:-1], u, right=True)
        means, sigmas = self._gaussians.means.to(u), self.sigmas.to(u)
        return means[k] + sigmas[k, None] * torch.randn(n, means.shape[1], generator=generator, device=device)

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._gaussians.like(x).log_prob(x)

    def _score(self, x: Tensor) -> Tensor:
        return self._gaussians.like(x).score(x)

    def _box(self, widths: float) -> Box:
        reach = widths * self.sigmas[:, None]
        low, high = (self._gaussians.means - reach).amin(0), (self._gaussians.means + reach).amax(0)
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def _entropy(self) -> float:
        return entropy_on_grid(self, self.sigmas.min().item())


class GaussianMixture(IsotropicMixture):
    """Mixture of isotropic Gaussians in d dimensions: weights (k,), means (k, d), sigmas (k,) or one number.

    >>> two = GaussianMixture([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], 0.5)
    >>> two.log_prob(torch.tensor([[2.0, 0.0]]))     # −ln 2 − ln(2πσ²)
    tensor([-1.1447])
    """

    def __init__(self, weights, means, sigmas):
        super().__init__(weights, means, sigmas, dims=1)

    def diffused(self, alpha: float, sigma: float) -> "GaussianMixture":
        """The mixture that alpha·x + sigma·ε follows."""
        return GaussianMixture(*self._diffused(alpha, sigma))
