"""Isotropic Gaussian mixtures in any dimension, against torch's own."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gmcourse.data.mixtures import GaussianMixture

F64 = torch.float64


def mixture(d: int, k: int = 4) -> GaussianMixture:
    g = torch.Generator().manual_seed(d)
    means = torch.randn(k, d, generator=g, dtype=F64)
    return GaussianMixture(1 + torch.rand(k, generator=g), means, 0.3 + torch.rand(k, generator=g))


def torchs(p: GaussianMixture) -> MixtureSameFamily:
    components = Independent(Normal(p.means, p.sigmas[:, None].expand_as(p.means)), 1)
    return MixtureSameFamily(Categorical(p.weights), components)


dimensions = pytest.mark.parametrize("d", [1, 2, 3, 10])


@dimensions
def test_log_prob_score_and_moments(d):
    p = mixture(d)
    x = 2 * torch.randn(7, 5, d, dtype=F64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    log_p = torchs(p).log_prob(x)
    assert torch.allclose(p.log_prob(x), log_p)
    assert torch.allclose(p.score(x), torch.autograd.grad(log_p.sum(), x)[0])
    assert torch.allclose(p.mean, torchs(p).mean) and torch.allclose(p.variance, torchs(p).variance)


@dimensions
def test_samples_have_the_moments_of_the_mixture(d):
    p = mixture(d)
    x = p.sample((200_000,), generator=torch.Generator().manual_seed(1)).double()
    error = (p.variance / len(x)).sqrt()
    assert ((x.mean(0) - p.mean).abs() < 4.5 * error).all()
    assert ((x.var(0) / p.variance - 1).abs() < 0.03).all()


@dimensions
def test_diffused_has_scaled_means_and_added_variance(d):
    """Means α m, variances α²σ_k² + s², weights as they were."""
    p = mixture(d)
    q = p.diffused(0.6, 0.8)
    assert torch.allclose(q.means, 0.6 * p.means) and torch.equal(q.weights, p.weights)
    assert torch.allclose(q.sigmas.square(), 0.36 * p.sigmas.square() + 0.64)


def test_entropy_of_one_gaussian_in_one_to_three_dimensions():
    for d in (1, 2, 3):
        p = GaussianMixture([2.0], torch.zeros(1, d), 0.7)
        assert p.entropy().item() == pytest.approx(d / 2 * math.log(2 * math.pi * math.e * 0.49), abs=1e-5)


def test_entropy_beyond_quadrature_says_so():
    for p in (mixture(6), GaussianMixture([1.0, 1.0], [[0.0, 0.0], [1e4, 1e4]], 0.1)):
        with pytest.raises(NotImplementedError, match=r"entropy\(\) would need .* grid points; the limit is 1e\+07"):
            p.entropy()


def test_parameters_are_kept_apart_from_those_given():
    means = torch.zeros(1, 2, dtype=F64)
    p = GaussianMixture([1.0], means, 1.0)
    means += 5
    assert p.mean.abs().max() == 0


def test_means_of_a_wrong_shape_are_refused():
    for means in ([0.0, 1.0], torch.zeros(2, 2, 2), torch.zeros(0, 2), torch.zeros(2, 0)):
        with pytest.raises(ValueError, match=r"means must have shape \(k, d\), not empty; got \("):
            GaussianMixture([1.0, 1.0], means, 1.0)
