"""Posterior collapse where it can be computed: the linear VAE, whose best likelihood is probabilistic PCA."""

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gmcourse import StandardNormal, fit
from gmcourse.vae import VAE, Gaussian, GaussianEncoder, active_units, elbo, linear_beta

VARIANCES = torch.tensor([4.0, 1.5, 0.3])


SETTINGS = {"steps": 1200, "batch_size": 256, "lr": 2e-2, "schedule": lambda done: 1 - done, "progress": False}


def linear_vae(beta=1.0):
    torch.manual_seed(0)
    encoder, decoder = GaussianEncoder(nn.Linear(3, 6)), nn.Linear(3, 3)
    return VAE((3,), encoder, decoder, prior=StandardNormal(3), likelihood=Gaussian(0.8), beta=beta)


@pytest.fixture(scope="module")
def trained():
    model = linear_vae()
    data = MultivariateNormal(torch.zeros(3), VARIANCES.diag())
    fit(model, data, **SETTINGS)
    return model, data


def test_directions_below_the_noise_level_collapse(trained):
    """Tipping & Bishop 1999: the optimum is W Wᵀ = Σ (λ_i − σ²)₊ u_i u_iᵀ. With λ = (4, 1.5, 0.3) and σ² = 0.64 the third
    direction is not worth its KL: two units stay active, one dies, and no training trick can change that."""
    model, data = trained
    found = model.decoder.weight @ model.decoder.weight.T
    wanted = (VARIANCES - 0.64).clamp(min=0).diag()
    assert torch.allclose(found, wanted, atol=0.15)
    assert active_units(model, data.sample((2000,))).sum() == 2


def test_the_elbo_reaches_the_evidence_of_that_optimum(trained):
    model, data = trained
    x = data.sample((20_000,))
    best = MultivariateNormal(torch.zeros(3), VARIANCES.clamp(min=0.64).diag()).log_prob(x).mean()
    assert abs(elbo(model, x).value.mean() - best) < 0.03


def test_annealing_does_not_change_where_the_optimum_is(trained):
    model = linear_vae(beta=linear_beta(500))
    fit(model, trained[1], **SETTINGS)
    assert active_units(model, trained[1].sample((2000,))).sum() == 2
