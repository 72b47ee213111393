"""Energies whose parameters are to be found again: Gaussians and mixtures, and the search with error bars.

An objective is judged by what it does to the parameters of the energy that made the data: the gradient of its expectation
is 0 there, and its minimisers over independent data sets scatter around the truth.
"""

import torch
from torch import nn

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.randomness import seeded

MEAN = torch.tensor([0.6, -0.3], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.9, 0.35], [0.35, 0.5]], dtype=torch.float64)


class Quadratic(nn.Module):
    """E = ½ xᵀPx − hᵀx in the plane: N(P⁻¹h, P⁻¹); θ = (P₁₁, P₁₂, P₂₂, h₁, h₂)."""

    def __init__(self, theta=(1.0, 0.0, 1.0, 0.0, 0.0)):
        super().__init__()
        self.theta = nn.Parameter(torch.as_tensor(theta, dtype=torch.float64).clone())

    def forward(self, x):
        a, b, c, h1, h2 = self.theta
        u, v = x.unbind(1)
        return 0.5 * (a * u**2 + 2 * b * u * v + c * v**2) - h1 * u - h2 * v

    @staticmethod
    def of(mean, covariance):
        """θ of N(mean, covariance)."""
        precision = covariance.inverse()
        return torch.cat([precision[0], precision[1, 1:], precision @ mean])


class Pair(nn.Module):
    """E = −log(w N(x; m₁, σ²) + (1 − w) N(x; m₂, σ²)) for x (n, 1), up to a constant; θ = (m₁, m₂, log σ, logit w)."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.as_tensor(theta, dtype=torch.float64).clone())

    def forward(self, x):
        first, second, log_sigma, weight = self.theta
        means = torch.stack([first, second])
        log_w = nn.functional.logsigmoid(torch.stack([weight, -weight]))
        return -(log_w - 0.5 * ((x - means) / log_sigma.exp()).square()).logsumexp(1) + log_sigma

    @staticmethod
    def of(mixture):
        """θ of a mixture of two with one width."""
        weight, sigma = mixture.weights[0], mixture.sigmas[0]
        return torch.cat([mixture.means.flatten(), torch.stack([sigma.log(), weight.logit()])])


def gaussian(n, seed, mean=MEAN, covariance=COVARIANCE):
    """n draws of N(mean, covariance), float64."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, len(mean), generator=generator, dtype=torch.float64)
    return mean + noise @ torch.linalg.cholesky(covariance).T


def plane_mixture():
    """Three Gaussians of different widths, well within each other's reach."""
    return GaussianMixture([0.5, 0.3, 0.2], [[-1.0, 0.0], [1.0, 0.5], [0.2, -1.2]], [0.5, 0.6, 0.4])


def expected_gradient(objective, energy, x, parts=100, seed=0):
    """Mean of the loss's gradient for the parameters over all of x, and its standard error from `parts` equal shares."""
    parameters = [p for p in energy.parameters() if p.requires_grad]
    if isinstance(objective, nn.Module):
        parameters += [p for p in objective.parameters() if p.requires_grad]
    with seeded(10_000 + seed):
        shares = [
            torch.cat([g.flatten() for g in torch.autograd.grad(objective(energy, part).mean(), parameters)])
            for part in x.chunk(parts)
        ]
    shares = torch.stack(shares)
    return shares.mean(0), shares.std(0) / len(shares) ** 0.5


def minimise(objective, energy, x, seed=0):
    """Move the parameters of energy (and objective) to the minimum of the mean loss on x, with one set of noise throughout.

    The noise has seeds of its own: with those of `gaussian` it would be the data's.
    """
    parameters = [*energy.parameters(), *(objective.parameters() if isinstance(objective, nn.Module) else ())]
    search = torch.optim.LBFGS(parameters, max_iter=60, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def closure():
        search.zero_grad()
        with seeded(10_000 + seed):
            loss = objective(energy, x).mean()
        loss.backward()
        return loss

    search.step(closure)
    return torch.cat([p.detach().flatten() for p in parameters])


def estimates(fit_one, repeats=12):
    """Mean over data sets of the parameters that fit_one(seed) finds, and the standard error of that mean."""
    found = torch.stack([fit_one(seed) for seed in range(repeats)])
    return found.mean(0), found.std(0) / repeats**0.5
