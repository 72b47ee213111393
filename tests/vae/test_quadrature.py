"""The integral over latent space against closed forms."""

import pytest
import torch
from problems.linear_vae import X, evidence, posterior, solved_vae
from torch.distributions import MultivariateNormal

from gmcourse.vae import LatentGrid, mlp_vae


def test_evidence_by_quadrature_is_exact():
    grid = LatentGrid(solved_vae(), resolution=200, extent=7.0)
    assert torch.allclose(grid.log_prob(X), evidence().log_prob(X), atol=1e-6)


def test_posterior_by_quadrature_is_the_closed_form():
    grid = LatentGrid(solved_vae(), resolution=100, extent=6.0)
    mean, covariance = posterior(X)
    oracle = MultivariateNormal(mean.unsqueeze(1), covariance).log_prob(grid.nodes.double()).exp()
    assert torch.allclose(grid.posterior(X).flatten(1), oracle, atol=1e-5)


def test_posterior_integrates_to_one():
    grid = LatentGrid(mlp_vae(), resolution=80)
    mass = grid.posterior(torch.randn(4, 2)).sum((1, 2)) * grid.step**2
    assert torch.allclose(mass, torch.ones(4), atol=1e-4)


def test_one_latent_dimension_works_too():
    grid = LatentGrid(mlp_vae(latent=1), resolution=50)
    assert grid.posterior(torch.randn(3, 2)).shape == (3, 50)


def test_more_than_two_dimensions_are_refused():
    with pytest.raises(ValueError, match="1 or 2 dimensions; got 3"):
        LatentGrid(mlp_vae(latent=3))
