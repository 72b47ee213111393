"""Aggregated posterior and active units."""

import math

import torch

from gmcourse.vae import active_units, aggregated_posterior, mlp_vae


def test_aggregated_posterior_is_the_average_of_the_posteriors():
    torch.manual_seed(0)
    vae, x, z = mlp_vae(), torch.randn(7, 2), torch.randn(5, 2)
    average = torch.stack([vae.encoder(x[i : i + 1]).log_prob(z) for i in range(7)]).logsumexp(0) - math.log(7)
    assert torch.allclose(aggregated_posterior(vae, x).log_prob(z), average, atol=1e-5)


def test_aggregated_posterior_samples_come_from_it():
    torch.manual_seed(0)
    vae, x = mlp_vae(), torch.randn(7, 2)
    q = vae.encoder(x)
    z = aggregated_posterior(vae, x).sample((50_000,))
    assert torch.allclose(z.mean(0), q.mean.mean(0), atol=0.03)


def test_a_unit_the_encoder_ignores_is_inactive():
    vae = mlp_vae(latent=3)
    last = vae.encoder.net.layers[-1]
    with torch.no_grad():
        last.weight[:3] *= 10
        last.weight[1] = 0
    assert active_units(vae, torch.randn(500, 2)).tolist() == [True, False, True]
