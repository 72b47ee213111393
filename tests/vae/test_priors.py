"""Learned priors: densities against sums written out, samples against densities."""

import math

import pytest
import torch
from torch.distributions import Normal

from gmcourse.vae import MixturePrior, VampPrior, elbo, mlp_vae


def test_mixture_is_the_sum_it_claims_to_be():
    torch.manual_seed(0)
    prior = MixturePrior(2, components=4)
    with torch.no_grad():
        prior.logits.normal_()
        prior.log_sigmas.normal_()
    z = torch.randn(6, 2)
    sigma = (5 * torch.tanh(prior.log_sigmas / 5)).exp()
    parts = torch.stack([Normal(m, s).log_prob(z).sum(1).exp() for m, s in zip(prior.means, sigma, strict=True)])
    assert torch.allclose(prior.log_prob(z).exp(), prior.logits.softmax(0) @ parts, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mixture", "vamp"])
def test_samples_have_the_densitys_moments(kind):
    torch.manual_seed(0)
    prior = MixturePrior(1, 3) if kind == "mixture" else VampPrior(1, mlp_vae(latent=1).encoder, torch.randn(5, 2))
    axis = torch.linspace(-15, 15, 6001)
    with torch.no_grad():
        p = prior.log_prob(axis[:, None]).exp() * (axis[1] - axis[0])
    assert abs(p.sum() - 1) < 1e-3
    mean, sd = (p * axis).sum(), ((p * axis**2).sum() - (p * axis).sum() ** 2).sqrt()
    z = prior.sample(100_000, generator=torch.Generator().manual_seed(0))
    assert z.shape == (100_000, 1)
    assert abs(z.mean() - mean) < 0.02 * sd + 0.01 and abs(z.std() - sd) < 0.02 * sd


def test_vamp_prior_is_the_average_posterior_of_its_pseudo_inputs():
    torch.manual_seed(0)
    encoder, u, z = mlp_vae().encoder, torch.randn(3, 2), torch.randn(4, 2)
    average = torch.stack([encoder(u[i : i + 1]).log_prob(z) for i in range(3)]).logsumexp(0) - math.log(3)
    assert torch.allclose(VampPrior(2, encoder, u).log_prob(z), average, atol=1e-5)


def test_a_vae_trains_under_any_prior_with_log_prob_and_sample():
    vae = mlp_vae(prior=MixturePrior(2))
    vae.loss(torch.randn(8, 2)).mean().backward()
    assert vae.prior.means.grad.abs().sum() > 0
    assert elbo(vae, torch.randn(8, 2)).value.shape == (8,) and vae.sample(5).shape == (5, 2)


def test_a_prior_without_push_makes_no_transport():
    with pytest.raises(NotImplementedError, match="prior MixturePrior has no push"):
        mlp_vae(prior=MixturePrior(2)).noise(1)
