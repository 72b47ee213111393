"""Chains in (z, x): the law of chains in the noise, thesis 4.3.3's identity, and the step that small σ does not bear."""

import pytest
import torch
from torch import nn

from gmcourse.compositions.joint_chains import JointChains, joint_energy
from gmcourse.compositions.negatives import NoiseChains, noise_energy
from gmcourse.compositions.tilted import Tilted
from gmcourse.flows import real_nvp
from gmcourse.model import StandardNormal
from gmcourse.sampling import MALA
from gmcourse.vae import VAE, Bernoulli, Gaussian, GaussianEncoder
from gmcourse.vae.priors import MixturePrior

LAMBDA = 0.8


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_vae(sigma=0.6, likelihood=None, prior=None) -> VAE:
    torch.manual_seed(0)
    decoder = nn.Linear(2, 3, bias=False)
    nn.init.normal_(decoder.weight)
    encoder, likelihood = GaussianEncoder(nn.Linear(3, 4)), likelihood or Gaussian(sigma)
    return VAE((3,), encoder, decoder, prior=prior or StandardNormal(2), likelihood=likelihood)


class Quadratic(nn.Module):
    def forward(self, x):
        return 0.5 * LAMBDA * x.flatten(1).square().sum(1)


def test_its_energy_is_that_of_the_noise_but_for_the_jacobian():
    """U(z, x) = U(ε) + Σ log σ(z) + constant: thesis (4.25)–(4.29), for a decoder that gives σ at every value, too."""
    torch.manual_seed(0)
    encoder, decoder = GaussianEncoder(nn.Linear(3, 4)), nn.Sequential(nn.Linear(2, 6), nn.Tanh())
    base = VAE((3,), encoder, decoder, prior=StandardNormal(2), likelihood=Gaussian(0.3, learned="pixel"))
    eps = torch.randn(9, 5)
    with torch.no_grad():
        rows = torch.cat([eps[:, :2], base.push(eps)], 1)
        _, sigma = base.likelihood_of_x.parameters_of(base.decoder(eps[:, :2]))
        rest = joint_energy(base, Quadratic())(rows) - noise_energy(base, Quadratic())(eps) - sigma.log().sum(1)
    assert torch.allclose(rest, torch.full_like(rest, 5 / 2 * torch.log(torch.tensor(2 * torch.pi)).item()), atol=1e-4)


def test_the_law_is_that_of_the_chains_in_the_noise():
    """(C⁻¹ + λI)⁻¹ of x, and (I + λJᵀJ)⁻¹ of the noise that belongs to it."""
    base, n, sigma = linear_vae(), 6000, 0.6
    w = base.decoder.weight.detach()
    jacobian = torch.cat([w, sigma * torch.eye(3)], 1)
    of_noise = (torch.eye(5) + LAMBDA * jacobian.T @ jacobian).inverse()
    of_x = ((w @ w.T + sigma**2 * torch.eye(3)).inverse() + LAMBDA * torch.eye(3)).inverse()
    eps = JointChains(300, 0.2, sampler=MALA).draw(base, Quadratic(), n, seeded())
    assert ((eps.T @ eps / n - of_noise).abs() < 7 / n**0.5).all()
    x = Tilted(base, Quadratic(), JointChains(300, 0.2, sampler=MALA)).sample(n, generator=seeded(1))
    assert ((x.T @ x / n - of_x).abs() < 7 * of_x.diagonal().max() / n**0.5).all()


def test_a_step_in_the_paint_is_one_of_sigma_squared_times_it_in_x():
    """Thesis 4.3.3: where μ does not hang on z, x moves by σ²η as ε_x does by η, with the same noise."""
    sigma, eta = 0.3, 0.5
    base = linear_vae(sigma)
    nn.init.zeros_(base.decoder.weight)
    joint = JointChains(6, sigma**2 * eta).draw(base, Quadratic(), 20, seeded())
    noise = NoiseChains(6, eta).draw(base, Quadratic(), 20, seeded())
    assert torch.allclose(joint[:, 2:], noise[:, 2:], atol=1e-4)
    assert not torch.allclose(joint[:, :2], noise[:, :2], atol=0.1)  # the latents moved by σ²η as well


def test_a_small_sigma_makes_them_diverge_at_steps_that_chains_in_the_noise_bear():
    """The bound is 4σ²/(1 + s²), s the decoder's largest singular value, which is less than 4σ²."""
    sigma = 0.05
    base = linear_vae(sigma)
    s = torch.linalg.matrix_norm(base.decoder.weight.detach(), 2)
    bound = float(4 * sigma**2 / (1 + s**2))
    assert JointChains(400, 0.9 * bound).draw(base, Quadratic(), 10, seeded()).abs().max() < 20
    for step in (1.2 * bound, 4 * sigma**2):
        with pytest.raises(FloatingPointError, match="10 of 10 chains diverged"):
            JointChains(400, step).draw(base, Quadratic(), 10, seeded())
    for step in (4 * sigma**2, 40 * sigma**2):
        assert NoiseChains(400, step).draw(base, Quadratic(), 10, seeded()).abs().max() < 10


def test_negatives_are_where_the_chains_end():
    base = linear_vae()
    found = JointChains(5, 0.05)(base, Quadratic(), 6, seeded())
    eps = JointChains(5, 0.05).draw(base, Quadratic(), 6, seeded())
    assert torch.allclose(found.x, base.push(eps)) and torch.equal(found.weights, torch.full((6,), 1 / 6))
    assert not found.x.requires_grad


def test_images_keep_their_shape():
    encoder = GaussianEncoder(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)))
    decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))
    base = VAE((1, 4, 4), encoder, decoder, prior=StandardNormal(2), likelihood=Gaussian(0.5))
    assert Tilted(base, Quadratic(), JointChains(3, 0.05)).sample(2).shape == (2, 1, 4, 4)


def test_other_bases_are_refused():
    refused = {
        "must be a VAE for chains in (z, x); got Flow": real_nvp((3,)),
        "must have a StandardNormal prior for chains in (z, x); got MixturePrior": linear_vae(prior=MixturePrior(2, 3)),
        "must have a Gaussian likelihood for chains in (z, x); got Bernoulli": linear_vae(likelihood=Bernoulli()),
    }
    for message, base in refused.items():
        with pytest.raises(ValueError) as error:
            JointChains(3, 0.1).draw(base, Quadratic(), 2)
        assert str(error.value) == f"base {message}"
    with pytest.raises(ValueError, match="steps must be a positive whole number; got 0"):
        JointChains(0, 0.1)
    with pytest.raises(ValueError, match="step must be positive; got 0"):
        JointChains(3, 0.0)
