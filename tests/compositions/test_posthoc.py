"""Priors fitted to the codes: against moments and scikit-learn."""

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import nn

from gmcourse import checkpoint
from gmcourse.compositions.posthoc import codes, fit_gaussian, fit_mixture
from gmcourse.compositions.rae import RegularisedAutoencoder
from gmcourse.mixture import MixtureModel
from gmcourse.model import StandardNormal
from gmcourse.vae import aggregated_posterior, mlp_vae


def model(components, d=2, scale=1.0):
    torch.manual_seed(0)
    found = RegularisedAutoencoder((4,), nn.Linear(4, d), nn.Linear(d, 4), MixtureModel(components, d))
    with torch.no_grad():
        found.encoder.weight.mul_(scale)
    return found


def clusters(n=600, spread=0.5):
    g = torch.Generator().manual_seed(3)
    return 3 * torch.randn(3, 4, generator=g)[torch.arange(n) % 3] + spread * torch.randn(n, 4, generator=g)


def test_codes_are_those_of_evaluation_mode_however_they_are_split():
    auto, x = model(1), clusters(25)
    auto.encoder = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    wanted = auto.encode(x)
    assert torch.allclose(codes(auto, x, batch=7), wanted, atol=1e-6) and auto.encoder.training
    assert float(auto.encoder[0].num_batches_tracked) == 0 and not codes(auto, x).requires_grad


def test_codes_of_a_vae_are_draws_of_its_aggregated_posterior():
    torch.manual_seed(0)
    vae, x = mlp_vae().eval(), torch.randn(4000, 2)
    z, q = codes(vae, x), aggregated_posterior(vae, x)
    assert ((z.mean(0) - q.mean).abs() < 5 * q.variance.sqrt() / 4000**0.5).all()
    assert ((z.var(0) / q.variance - 1).abs() < 5 * (2 / 4000) ** 0.5).all()
    vae.prior = MixtureModel(1, 2)
    fit_gaussian(vae, x)
    assert ((vae.prior.means[0] - q.mean).abs() < 5 * q.variance.sqrt() / 4000**0.5).all()


def test_one_gaussian_has_the_moments_of_the_codes_and_the_best_likelihood():
    auto, x = model(1), clusters()
    score = fit_gaussian(auto, x)
    z = auto.encode(x)
    assert torch.allclose(auto.prior.means[0], z.mean(0), atol=1e-5)
    assert torch.allclose(auto.prior.covariances[0], z.T.cov(correction=0), rtol=1e-4)
    assert float(auto.prior.weights) == 1
    entropy = torch.distributions.MultivariateNormal(z.mean(0), z.T.cov(correction=0)).entropy()
    assert score == pytest.approx(-float(entropy), abs=1e-3)  # at the maximum, −log p averages to the entropy


def test_the_mixture_is_scikit_learns():
    auto, x = model(3), clusters()
    score = fit_mixture(auto, x, components=3, seed=4)
    z = auto.encode(x)
    theirs = GaussianMixture(3, random_state=4, max_iter=500).fit(z.double().numpy())
    wanted = torch.from_numpy(theirs.score_samples(z.double().numpy()))
    assert torch.allclose(auto.prior.log_prob(z).double(), wanted, atol=1e-3)
    assert score == pytest.approx(float(wanted.mean()), abs=1e-4)


def test_the_mixture_beats_one_gaussian_on_clusters():
    one, three, x = model(1), model(3), clusters()
    assert fit_mixture(three, x, components=3) > fit_gaussian(one, x) + 0.3


def test_the_fit_does_not_depend_on_the_scale_of_the_codes():
    x, found = clusters(), []
    for scale in (1.0, 1e-4):
        auto = model(3, scale=scale)
        with torch.no_grad():
            auto.encoder.bias.zero_()
        fit_mixture(auto, x, components=3)
        found.append(auto.prior.covariances / scale**2)
    assert torch.allclose(found[0], found[1], rtol=1e-2, atol=1e-4)


def test_codes_in_a_subspace_give_a_density_all_the_same():
    auto = model(2, d=2)
    with torch.no_grad():
        auto.encoder.weight[1], auto.encoder.bias[1] = auto.encoder.weight[0], auto.encoder.bias[0]
    x = clusters()
    fit_mixture(auto, x, components=2)
    assert auto.prior.log_prob(auto.encode(x)).isfinite().all() and auto.sample(5).isfinite().all()


def test_the_seed_decides():
    first, second, x = model(5), model(5), clusters()
    assert fit_mixture(first, x, 5, seed=1) == fit_mixture(second, x, 5, seed=1)
    assert torch.equal(first.prior.means, second.prior.means)


def test_a_checkpoint_brings_the_fitted_prior_back(tmp_path):
    auto, other = model(3), model(3)
    fit_mixture(auto, clusters(), components=3)
    checkpoint.save(tmp_path / "m.safetensors", auto)
    checkpoint.load(tmp_path / "m.safetensors", other)
    z = torch.randn(9, 2)
    assert torch.equal(auto.prior.log_prob(z), other.prior.log_prob(z))
    first, second = (m.sample(6, generator=torch.Generator().manual_seed(1)) for m in (auto, other))
    assert torch.equal(first, second)


def test_the_prior_keeps_its_dtype():
    auto = model(3)
    fit_mixture(auto, clusters(), components=3)
    assert auto.prior.means.dtype == auto.prior.covariances.dtype == torch.float32


def test_bad_input_is_named():
    x = clusters()
    with pytest.raises(ValueError, match="at least as many data as there are components, 10; got 9"):
        fit_mixture(model(10), x[:9])
    with pytest.raises(ValueError, match="model.prior must be a MixtureModel with components=10; got 3 components"):
        fit_mixture(model(3), x)
    with pytest.raises(ValueError, match="model.prior must be a MixtureModel with components=1; got 3 components"):
        fit_gaussian(model(3), x)
    plain = RegularisedAutoencoder((4,), nn.Linear(4, 2), nn.Linear(2, 4), StandardNormal(2))
    with pytest.raises(ValueError, match="components=1; got a StandardNormal"):
        fit_gaussian(plain, x)
    other = model(1)
    other.prior = MixtureModel(1, 3)
    with pytest.raises(ValueError, match=r"the codes z must have shape \(n, 3\); got \(600, 2\)"):
        fit_gaussian(other, x)
    with pytest.raises(ValueError, match="codes that differ from one another; all 5 are the same"):
        fit_gaussian(model(1), x[:1].expand(5, -1))
    with pytest.raises(ValueError, match="components must be a positive whole number; got 0"):
        fit_mixture(model(1), x, components=0)
    with pytest.raises(ValueError, match="batch must be a positive whole number; got 0"):
        codes(model(1), x, batch=0)
