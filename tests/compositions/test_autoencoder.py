"""The base of the deterministic auto-encoders: distortion, samples, and what it refuses."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from gmcourse.compositions import Autoencoder, SquaredError
from gmcourse.compositions.autoencoder import check_latent
from gmcourse.flows import real_nvp
from gmcourse.mixture import MixtureModel
from gmcourse.model import Likelihood, StandardNormal
from gmcourse.vae import GaussianEncoder


class Plain(Autoencoder):
    """With nothing asked of the codes."""

    def latent_term(self, z):
        """0."""
        return z.new_zeros(len(z))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Plain((4,), nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)), real_nvp((2,)))


def test_squared_error_is_the_gaussian_log_density_but_for_its_constant():
    x, found = torch.randn(2, 6, 1, 3, 3).unbind()
    exact = -Independent(Normal(found, 2.0), 3).log_prob(x)
    constant = -Independent(Normal(found, 2.0), 3).log_prob(found)
    assert torch.allclose(SquaredError(2.0)(x, found), exact - constant, atol=1e-5)


def test_samples_are_decoded_draws_of_the_prior(model):
    z = model.prior.sample(5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(model.sample(5, generator=torch.Generator().manual_seed(3)), model.decode(z))


def test_samples_do_not_see_the_batch_they_are_drawn_with(model):
    model.train()
    z = torch.randn(6, 2)
    assert torch.allclose(model.decode(z)[:2], model.decode(z[:2]), atol=1e-6)
    assert model.training and model.decoder[1].training


def test_push_carries_noise_as_sample_does_and_keeps_the_graph(model):
    model.eval()
    eps = model.noise(5, generator=torch.Generator().manual_seed(3)).requires_grad_()
    x = model.push(eps)
    assert torch.allclose(x, model.sample(5, generator=torch.Generator().manual_seed(3)), atol=1e-6)
    assert torch.autograd.grad(x.sum(), eps)[0].abs().sum() > 0


def test_reconstruction_goes_through_the_code(model):
    x = torch.randn(3, 4)
    assert torch.equal(model.reconstruct(x), model.decode(model.encode(x)))


def test_there_is_no_density_of_x(model):
    assert model.likelihood is Likelihood.NONE
    with pytest.raises(NotImplementedError, match="no log_prob"):
        model.log_prob(torch.zeros(1, 4))


def test_a_prior_without_push_makes_no_transport():
    plain = Plain((4,), nn.Linear(4, 2), nn.Linear(2, 4), MixtureModel(3, 2))
    assert plain.sample(2).shape == (2, 4)
    with pytest.raises(NotImplementedError, match="MixtureModel has no push"):
        plain.noise_blocks  # noqa: B018


def test_codes_and_prior_of_different_dimension_are_refused():
    with pytest.raises(ValueError, match=r"encoder's dimension, \(2,\); got a StandardNormal on \(3,\)"):
        Plain((4,), nn.Linear(4, 2), nn.Linear(2, 4), StandardNormal(3))
    with pytest.raises(ValueError, match=r"encoder's dimension, \(2,\)"):
        check_latent((4,), GaussianEncoder(nn.Linear(4, 4)), StandardNormal(4))


def test_a_decoder_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"the decoder's x must have shape \(n, 4\); got \(2, 5\) for n = 2"):
        Plain((4,), nn.Linear(4, 2), nn.Linear(2, 5), StandardNormal(2))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("inf")])
def test_a_weight_that_is_not_positive_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be positive"):
        Plain((4,), nn.Linear(4, 2), nn.Linear(2, 4), StandardNormal(2), beta=beta)
    with pytest.raises(ValueError, match="sigma must be positive"):
        SquaredError(beta)
