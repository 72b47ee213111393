"""ELBO and IWAE bound against a model that can be solved by hand."""

import math

import pytest
import torch
from problems.linear_vae import SIGMA, W, X, evidence, posterior, solved_vae
from torch.distributions import MultivariateNormal, kl_divergence

from gmcourse.vae import elbo, iwae_bound, mlp_vae
from gmcourse.vae.bounds import log_weights


def test_with_the_exact_posterior_every_weight_is_the_evidence():
    """(2.10) with KL = 0, and more: p(x, z)/q(z|x) does not depend on z at all."""
    weights = log_weights(solved_vae(), X, 5)
    assert torch.allclose(weights, evidence().log_prob(X).unsqueeze(1).expand(-1, 5), atol=1e-10)


def test_the_gap_of_the_bound_is_the_kl_to_the_true_posterior():
    """Thesis (2.10): log p(x) − L(x) = KL(q(z|x) ‖ p(z|x)), both sides in closed form."""
    torch.manual_seed(0)
    vae = solved_vae(shift=0.2, widen=1.4)
    q = vae.encoder(X).base_dist
    mean, covariance = posterior(X)
    kl = kl_divergence(MultivariateNormal(q.loc, torch.diag_embed(q.scale**2)), MultivariateNormal(mean, covariance))
    draws = torch.stack([elbo(vae, X).value for _ in range(2000)])
    error = (evidence().log_prob(X) - draws.mean(0) - kl).abs()
    assert (error < 5 * draws.std(0) / 2000**0.5).all()


def test_expected_reconstruction_has_its_closed_form():
    """E_q log N(x; Wz, σ²I) = −d/2 log 2πσ² − (‖x − Wμ‖² + tr(W S Wᵀ)) / 2σ²."""
    torch.manual_seed(1)
    vae = solved_vae(shift=0.3)
    q = vae.encoder(X).base_dist
    spread = (q.scale**2 @ W.T.square()).sum(1)
    wanted = -1.5 * math.log(2 * math.pi * SIGMA**2) - ((X - q.loc @ W.T).square().sum(1) + spread) / (2 * SIGMA**2)
    assert torch.allclose(elbo(vae, X, samples=20_000).reconstruction, wanted, atol=0.05)


def test_analytic_and_monte_carlo_kl_agree_on_average():
    torch.manual_seed(0)
    vae = solved_vae(shift=0.2)
    analytic, sampled = elbo(vae, X).kl, elbo(vae, X, kl="monte_carlo", samples=20_000).kl
    assert torch.allclose(analytic, sampled, atol=0.05)


def test_bounds_grow_with_k_towards_the_evidence():
    torch.manual_seed(0)
    vae = solved_vae(shift=0.5, widen=1.5)
    bounds = [iwae_bound(vae, X.repeat(50, 1), k).mean() for k in (1, 4, 16, 64, 1024)]
    truth = evidence().log_prob(X).mean()
    assert all(a < b for a, b in zip(bounds, bounds[1:], strict=False)) and abs(truth - bounds[-1]) < 0.01
    assert bounds[0] < truth - 0.2


def test_one_sample_of_iwae_is_the_elbo():
    torch.manual_seed(0)
    vae = solved_vae(shift=0.3)
    many = X.repeat(2000, 1)
    assert abs(iwae_bound(vae, many, 1).mean() - elbo(vae, many).value.mean()) < 0.02


def test_chunks_change_memory_not_the_estimate():
    """With the exact posterior all weights are equal, so any chunking must give the evidence."""
    for chunk in (1, 70, 10**6):
        assert torch.allclose(iwae_bound(solved_vae(), X, 7, chunk=chunk), evidence().log_prob(X), atol=1e-6)


def test_the_bound_survives_weights_that_overflow():
    vae = solved_vae(shift=30.0)
    assert iwae_bound(vae, 1e3 * X, 10).isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vae: elbo(vae, torch.zeros(3, 5)), r"x must have shape \(n, 2\); got \(3, 5\)"),
        (lambda vae: elbo(vae, torch.zeros(3, 2), kl="exact"), "kl must be 'analytic' or 'monte_carlo'; got 'exact'"),
        (lambda vae: elbo(vae, torch.zeros(3, 2), samples=0), "samples must be a positive whole number"),
        (lambda vae: iwae_bound(vae, torch.zeros(3, 2), 0), "k must be a positive whole number"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(mlp_vae())
