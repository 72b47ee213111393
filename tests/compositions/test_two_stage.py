"""The two-stage VAE: bounds against a linear model's exact density, and the second stage closing the hole."""

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gmcourse import checkpoint
from gmcourse.compositions import latent_diagnostics
from gmcourse.compositions.two_stage import TwoStageVAE
from gmcourse.fit import fit
from gmcourse.metrics import mmd2
from gmcourse.model import Likelihood, StandardNormal
from gmcourse.vae import VAE, Gaussian, GaussianEncoder, aggregated_posterior, elbo, mlp_vae
from gmcourse.vae.bounds import log_weights


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def small(seed=0):
    torch.manual_seed(seed)
    return TwoStageVAE(mlp_vae((3,), latent=2), mlp_vae((2,), latent=2))


class Posterior(nn.Module):
    """The exact posterior of z in y = W z + b + s ε, z ~ N(m, v) for orthogonal columns W: diagonal."""

    def __init__(self, linear, s, m, v):
        super().__init__()
        self.linear, self.s, self.m, self.v = linear, s, m, v

    def forward(self, y):
        w = self.linear.weight
        precision = 1 / self.v + w.square().sum(0) / self.s**2
        mean = (self.m / self.v + (y - self.linear.bias) @ w / self.s**2) / precision
        return torch.distributions.Independent(torch.distributions.Normal(mean, precision.rsqrt().expand_as(mean)), 1)


def linear(s_z=0.5, s_x=0.7, encoders=True):
    """x = W z + b + s_x ε, z = A u + a + s_z ε: p(x) is Gaussian, and so are the posteriors, here diagonal ones."""
    torch.manual_seed(0)
    down, top = nn.Linear(2, 4), nn.Linear(2, 2)
    with torch.no_grad():
        down.weight.copy_(torch.linalg.qr(torch.randn(4, 2)).Q * torch.tensor([1.5, 0.8]))
        top.weight.copy_(torch.diag(torch.tensor([1.2, 0.4])))
    v = top.weight.diagonal().detach() ** 2 + s_z**2
    one, two = torch.ones(2), torch.zeros(2)
    first = Posterior(down, s_x, top.bias.detach(), v) if encoders else GaussianEncoder(nn.Linear(4, 4))
    second = Posterior(top, s_z, two, one) if encoders else GaussianEncoder(nn.Linear(2, 4))
    model = TwoStageVAE(
        VAE((4,), first, down, prior=StandardNormal(2), likelihood=Gaussian(s_x)),
        VAE((2,), second, top, prior=StandardNormal(2), likelihood=Gaussian(s_z)),
    )
    cov = down.weight @ torch.diag(v) @ down.weight.mT + s_x**2 * torch.eye(4)
    return model, MultivariateNormal(down(top.bias).detach(), cov.detach())


def test_with_exact_posteriors_the_bound_is_the_exact_density():
    model, exact = linear()
    x = torch.randn(20, 4, generator=seeded())
    assert torch.allclose(model.log_prob(x, k=1), exact.log_prob(x), atol=1e-4)
    assert model.likelihood is Likelihood.LOWER_BOUND


def test_with_other_posteriors_the_bound_is_below_and_rises_with_k():
    model, exact = linear(encoders=False)
    with torch.no_grad():
        for p in [*model.first.encoder.parameters(), *model.second.encoder.parameters()]:
            p.mul_(0.1)  # nearly N(0, I) for all x
        torch.manual_seed(0)
        x = exact.sample((20,))
        draws = log_weights(model, x, 1000)
        below, error = exact.log_prob(x) - draws.mean(1), draws.std(1) / 1000**0.5
        assert (below > 4 * error).all()
        sharp = model.log_prob(x, k=4000)
        assert (sharp > draws.mean(1)).all() and ((sharp - exact.log_prob(x)).abs() < 0.5).all()
        closed = elbo(model, x, samples=1000).value  # the KL of u in closed form, the rest drawn
    assert ((closed - draws.mean(1)).abs() < 5 * 2**0.5 * error).all()


def test_samples_and_push_follow_the_linear_models_law():
    model, exact = linear()
    pushed = model.push(model.noise(40_000, generator=seeded())).detach()
    assert model.noise_blocks == {"u": 2, "z": 2, "x": 4}
    spread = exact.covariance_matrix.diagonal().sqrt()
    assert ((pushed.mean(0) - exact.mean).abs() < 5 * spread / 200).all()
    assert torch.allclose(pushed.T.cov(), exact.covariance_matrix, atol=5 * 2**0.5 * float(spread.max()) ** 2 / 200)
    shown = model.sample(40_000, generator=seeded())  # E[x|z]: without the noise of x, with that of z
    clean = exact.covariance_matrix - 0.49 * torch.eye(4)
    assert torch.allclose(shown.T.cov(), clean, atol=5 * 2**0.5 * float(spread.max()) ** 2 / 200)


def test_push_is_differentiable():
    model = small().eval()
    eps = model.noise(3, generator=seeded()).requires_grad_()
    model.push(eps).sum().backward()
    assert (eps.grad.abs() > 0).all()


def test_draws_of_the_aggregated_posterior_have_its_moments():
    torch.manual_seed(0)
    vae, x = mlp_vae((3,), latent=2).eval(), 2 * torch.randn(700, 3)
    z, q = aggregated_posterior(vae, x, batch=300).sample((40_000,)), aggregated_posterior(vae, x)
    assert z.shape == (40_000, 2) and not z.requires_grad
    assert ((z.mean(0) - q.mean).abs() < 5 * q.variance.sqrt() / 200).all()
    assert ((z.var(0) / q.variance - 1).abs() < 5 * 2**0.5 / 200 * 1.5).all()


def test_each_stage_leaves_the_other_alone():
    model, x = small(), torch.randn(256, 3, generator=seeded())
    start = {name: p.clone() for name, p in model.state_dict().items()}
    fit(model, x, steps=5, progress=False)
    between = {name: p.clone() for name, p in model.state_dict().items()}
    moved = {name.split(".")[0] for name, p in between.items() if not torch.equal(p, start[name])}
    history = model.fit_prior(x, steps=5, batch_size=64, progress=False)
    after = {name.split(".")[0] for name, p in model.state_dict().items() if not torch.equal(p, between[name])}
    assert moved == {"first"} and after == {"second"} and history.steps == 5


def test_the_second_stage_closes_the_hole_of_the_first():
    torch.manual_seed(0)
    ring = torch.randn(1500, 2)
    ring = 2 * ring / ring.norm(dim=1, keepdim=True) + 0.05 * torch.randn(1500, 2)
    nets = {"latent": 2, "hidden": (64,)}
    model = TwoStageVAE(mlp_vae((2,), likelihood=Gaussian(0.05), **nets), mlp_vae((2,), **nets))
    fit(model, ring, steps=150, lr=3e-3, batch_size=128, progress=False)
    held, q = {n: p.clone() for n, p in model.first.state_dict().items()}, aggregated_posterior(model.first, ring)
    model.fit_prior(ring, steps=400, lr=1e-2, batch_size=128, progress=False)
    assert all(torch.equal(p, held[n]) for n, p in model.first.state_dict().items())
    z = q.sample((1000,))
    before = mmd2(z, torch.randn(1000, 2), bandwidth=0.5)
    after = mmd2(z, model.sample_latent(1000, generator=seeded()), bandwidth=0.5)
    assert after.value + 4 * after.stderr < 0.5 * (before.value - 4 * before.stderr)


def test_a_checkpoint_brings_both_stages_back(tmp_path):
    model, other = small(0).eval(), small(1).eval()
    checkpoint.save(tmp_path / "m.safetensors", model)
    checkpoint.load(tmp_path / "m.safetensors", other)
    assert torch.equal(model.sample(5, generator=seeded()), other.sample(5, generator=seeded()))
    x = torch.randn(5, 3)
    assert torch.equal(model.reconstruct(x), other.reconstruct(x))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"prior of z must be of the encoder's dimension, \(2,\); got a VAE on \(3,\)"):
        TwoStageVAE(mlp_vae((3,), latent=2), mlp_vae((3,), latent=2))
    with pytest.raises(ValueError, match=r"x must have shape \(n, 3\)"):
        small().fit_prior(torch.zeros(4, 2), steps=1)
    with pytest.raises(ValueError, match="n must be a positive whole number; got 0"):
        small().sample(0)
    model = small()
    del model.first.encoder
    model.first.encoder = lambda x: StandardNormal(2)
    with pytest.raises(ValueError, match="must be a diagonal Gaussian, as GaussianEncoder gives it; got StandardNormal"):
        model.fit_prior(torch.zeros(4, 3), steps=1)


def test_it_can_be_diagnosed_as_any_model_with_codes():
    """With the second VAE for a prior, both in their ranges."""
    model, x = small(), torch.randn(200, 3)
    assert latent_diagnostics.mismatch(model, x).nll.value > 0
    assert 0 <= latent_diagnostics.holes(model, x, n=100, level=0.05).share.value <= 1
