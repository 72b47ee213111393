"""A VAE with flow prior: the objective with β, as a VAE with another observational noise."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from gmcourse.compositions import flow_prior_vae
from gmcourse.flows import Flow, real_nvp
from gmcourse.flows.elementwise import Affine, Elementwise
from gmcourse.model import StandardNormal
from gmcourse.vae import GaussianEncoder, elbo


def model(flow=None, **options):
    torch.manual_seed(0)
    nets = GaussianEncoder(nn.Linear(4, 4)), nn.Linear(2, 4)
    return flow_prior_vae((4,), *nets, flow or real_nvp((2,)), **options)


@pytest.mark.parametrize(("beta", "sigma"), [(1.0, 1.0), (7.0, 1.0), (7.0, 2.0)])
def test_its_loss_is_the_objective_but_for_a_constant(beta, sigma):
    """Thesis (3.4) term by term, with the same noise, from torch's own distributions."""
    vae, x = model(beta=beta, sigma=sigma), torch.randn(16, 4)
    torch.manual_seed(5)
    loss = vae.loss(x)
    torch.manual_seed(5)
    q = vae.encoder(x)
    z = q.rsample()
    f, log_det = vae.prior.encode(z)
    prior = Independent(Normal(torch.zeros(2), 1.0), 1).log_prob(f) + log_det
    objective = beta * Independent(Normal(vae.decoder(z), sigma), 1).log_prob(x) + prior - q.log_prob(z)
    constant = 2 * (1 - beta) * math.log(2 * math.pi * sigma**2) - 2 * math.log(beta)
    assert torch.allclose(loss, -objective + constant, atol=1e-4)


def test_its_bound_is_a_bound_at_every_beta():
    """With an affine flow log p(x) is a Gaussian's."""
    layer = Elementwise((2,), Affine())
    flow = Flow(StandardNormal(2), [layer])
    nn.init.normal_(next(layer.parameters()), std=0.3)
    for beta in (1.0, 20.0):
        vae, x = model(flow, beta=beta), torch.randn(32, 4)
        with torch.no_grad():
            mean = flow.push(torch.zeros(1, 2))[0]
            scales = flow.push(torch.eye(2)) - mean
            w = vae.decoder.weight @ scales.T
            law = MultivariateNormal(vae.decoder(mean), w @ w.T + torch.eye(4) / beta)
            exact = law.log_prob(x)
            bound = torch.stack([elbo(vae, x).value for _ in range(200)])
            assert (bound.mean(0) < exact + 5 * bound.std(0) / 200**0.5).all()


def test_a_learned_beta_starts_where_it_is_told():
    fixed, learned = model(beta=4.0, sigma=2.0), model(beta=4.0, sigma=2.0, learned=True)
    assert learned.likelihood_of_x.log_sigma.requires_grad and not fixed.likelihood_of_x.log_sigma.requires_grad
    assert float(learned.likelihood_of_x.log_sigma.exp()) == pytest.approx(1.0)
    assert float(fixed.likelihood_of_x.log_sigma.exp()) == pytest.approx(1.0)


def test_its_samples_are_decoded_draws_of_the_flow():
    vae = model()
    z = vae.prior.sample(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(vae.sample(3, generator=torch.Generator().manual_seed(1)), vae.decoder(z).detach())
    assert not torch.equal(vae.sample(3, generator=torch.Generator().manual_seed(1), mean=False), vae.decoder(z))


def test_flow_and_encoder_of_different_dimension_are_refused():
    with pytest.raises(ValueError, match=r"encoder's dimension, \(2,\); got a Flow on \(3,\)"):
        model(real_nvp((3,)))


@pytest.mark.parametrize("name", ["beta", "sigma"])
def test_weights_that_are_not_positive_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be positive; got 0"):
        model(**{name: 0})


def test_a_decoder_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"the decoder's x must have shape \(n, 4\); got \(2, 3\)"):
        flow_prior_vae((4,), GaussianEncoder(nn.Linear(4, 4)), nn.Linear(2, 3), real_nvp((2,)))
