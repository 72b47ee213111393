"""Diagonal Gaussians and their KL divergence."""

import torch
from torch.distributions import Independent, Normal, kl_divergence

from gmcourse.vae import diagonal_normal, gaussian_kl


def gaussian(seed, shape=(7, 3)):
    g = torch.Generator().manual_seed(seed)
    return diagonal_normal(torch.randn(shape, generator=g), torch.randn(shape, generator=g))


def test_kl_to_the_standard_normal_is_torchs():
    q = gaussian(0)
    oracle = kl_divergence(q, Independent(Normal(torch.zeros(7, 3), torch.ones(7, 3)), 1))
    assert torch.allclose(gaussian_kl(q), oracle, atol=1e-5)


def test_kl_between_two_gaussians_is_torchs():
    q, p = gaussian(0), gaussian(1)
    assert torch.allclose(gaussian_kl(q, p), kl_divergence(q, p), rtol=1e-5, atol=1e-4)


def test_kl_sums_over_maps_too():
    q, p = gaussian(0, (4, 2, 3, 3)), gaussian(1, (4, 2, 3, 3))
    assert torch.allclose(gaussian_kl(q, p), kl_divergence(q, p), rtol=1e-5, atol=1e-4)


def test_kl_is_the_mean_of_the_log_ratio():
    torch.manual_seed(0)
    q, p = gaussian(0, (1, 2)), gaussian(1, (1, 2))
    z = q.sample((200_000,))
    ratio = q.log_prob(z) - p.log_prob(z)
    assert abs(ratio.mean() - gaussian_kl(q, p)) < 4 * ratio.std() / 200_000**0.5


def test_log_sigma_is_clamped_but_its_gradient_lives():
    log_sigma = torch.tensor([[-50.0, 0.0, 50.0]], requires_grad=True)
    sigma = diagonal_normal(torch.zeros(1, 3), log_sigma).base_dist.scale
    assert torch.allclose(sigma.log(), torch.tensor([[-5.0, 0.0, 5.0]]))
    gradient = torch.autograd.grad(sigma.log().sum(), log_sigma)[0]
    assert gradient.isfinite().all() and gradient[0, 1] == 1
