"""Hierarchical VAEs: their evidence by quadrature over the noise, and what top-down inference promises."""

import math

import pytest
import torch

from gmcourse.vae import Gaussian, elbo, iwae_bound, mlp_hierarchy


def evidence_by_noise(model, x, resolution=300, extent=5.0):
    """log p(x) = log ∫ p(x | z(ε)) N(ε) dε over the latent noise of two one-dimensional groups."""
    axis = (torch.arange(resolution) + 0.5) * 2 * extent / resolution - extent
    eps = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mean = model.push(torch.cat([eps, torch.zeros(len(eps), 2)], 1))
    log_prior = -0.5 * eps.square().sum(1) - math.log(2 * math.pi) + 2 * math.log(2 * extent / resolution)
    sigma = model.likelihood_of_x.log_sigma.exp()
    log_x = torch.distributions.Normal(mean, sigma).log_prob(x.unsqueeze(1)).sum(2)
    return (log_x + log_prior).logsumexp(1)


@pytest.mark.parametrize("inference", ["top_down", "bottom_up"])
def test_many_importance_samples_reach_the_evidence(inference):
    """The noise integral knows only the generative path; the IWAE bound goes through inference and must meet it."""
    torch.manual_seed(0)
    model = mlp_hierarchy(latents=(1, 1), width=16, inference=inference, likelihood=Gaussian(0.7))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.03 * torch.randn_like(p))
        x = model.sample(20)
        truth, bound = evidence_by_noise(model, x), iwae_bound(model, x, 20_000)
        assert torch.allclose(bound, truth, atol=0.08)
        assert elbo(model, x, samples=200).value.mean() < truth.mean()


def test_a_posterior_that_changes_nothing_is_the_prior():
    """Top-down inference tells q as a change of p: with a zero change the KL is exactly 0."""
    model = mlp_hierarchy(latents=(2, 3))
    with torch.no_grad():
        for group in model.groups:
            group.posterior[-1].weight.zero_()
            group.posterior[-1].bias.zero_()
        assert elbo(model, torch.randn(5, 2)).kl.abs().max() < 1e-5


def test_groups_depend_on_all_groups_above():
    torch.manual_seed(0)
    model = mlp_hierarchy(latents=(1, 1, 1), width=8)
    eps = torch.zeros(1, 5, requires_grad=True)
    assert list(model.noise_blocks) == ["z3", "z2", "z1", "x"]
    (gradient,) = torch.autograd.grad(model.push(eps).sum(), eps)
    assert (gradient != 0).all()


@pytest.mark.parametrize("inference", ["top_down", "bottom_up"])
def test_analytic_and_monte_carlo_kl_agree_on_average(inference):
    """Bottom-up, z_2 is drawn from z_1, and KL(q(z_1|x) ‖ p(z_1|z_2)) is not the mean log-ratio at that pair."""
    torch.manual_seed(0)
    model, x = mlp_hierarchy(latents=(2, 2), width=16, inference=inference), torch.randn(3, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.08 * torch.randn_like(p))
        draws = [
            torch.stack([elbo(model, x, kl=kind, samples=500).kl for _ in range(60)]) for kind in ("analytic", "monte_carlo")
        ]
    error = (draws[0].var(0) / 60 + draws[1].var(0) / 60).sqrt()
    assert ((draws[0].mean(0) - draws[1].mean(0)).abs() < 4.5 * error + 1e-4).all()


def test_cold_samples_scatter_less():
    torch.manual_seed(0)
    model = mlp_hierarchy(latents=(2, 2))
    with torch.no_grad():
        model.groups[1].prior[-1].bias.fill_(-3.0)  # p(z_1|z_2) narrow, so that the first group is what scatters
    warm, cold = (model.sample(2000, mean=True, temperature=t).std(0).mean() for t in (1.0, 0.1))
    assert cold < 0.5 * warm


def test_unknown_inference_is_named():
    with pytest.raises(ValueError, match="inference must be 'top_down' or 'bottom_up'; got 'sideways'"):
        mlp_hierarchy(inference="sideways")
