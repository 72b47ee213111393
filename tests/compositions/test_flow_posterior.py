"""Flow posteriors: densities against autograd and grids, bounds against exact log p(x)."""

import math

import pytest
import torch
from torch import nn

from gmcourse import checkpoint
from gmcourse.compositions.flow_posterior import FlowPosterior, flow_posterior_vae
from gmcourse.fit import fit
from gmcourse.flows import Flow
from gmcourse.model import StandardNormal
from gmcourse.nets.mlp import MLP
from gmcourse.vae import VAE, Gaussian, GaussianEncoder, elbo, iwae_bound
from gmcourse.vae.bounds import log_weights

KINDS = ("planar", "sylvester", "iaf")
every_kind = pytest.mark.parametrize("kind", KINDS)


def small(kind, data=3, rough=0.3, **options):
    torch.manual_seed(0)
    vae = flow_posterior_vae((data,), MLP(data, 4 + 5, (16,)), nn.Linear(2, data), latent=2, kind=kind, context=5, **options)
    with torch.no_grad():
        for p in vae.encoder.chain.parameters():
            p.add_(rough * torch.randn_like(p))  # away from the identity that layers start near
    return vae


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@every_kind
def test_the_density_integrates_to_one_whatever_x(kind):
    vae, axis = small(kind), (torch.arange(160) + 0.5) / 160 * 24 - 12
    grid = torch.cartesian_prod(axis, axis)
    for x in torch.randn(2, 3, generator=seeded()):
        with torch.no_grad():
            p = vae.encoder(x.repeat(len(grid), 1)).log_prob(grid).exp()
        assert abs(float(p.sum()) * 0.15**2 - 1) < 2e-3


@every_kind
def test_a_draw_has_the_density_of_the_change_of_variables_by_autograd(kind):
    encoder, x = small(kind).encoder.double(), torch.randn(6, 3, generator=seeded()).double()
    q = encoder(x)
    torch.manual_seed(5)
    z = q.rsample()
    torch.manual_seed(5)
    start = q.start.rsample()
    for i in range(6):
        context = q.context[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, h=context: q.chain.inverse(v[None], h)[0], start[i])
        mu, log_sigma = encoder.net(x)[i, :4].chunk(2)
        eps = (start[i] - mu) / (5 * torch.tanh(log_sigma / 5)).exp()
        log_normal = (-0.5 * eps**2 - 0.5 * math.log(2 * math.pi) - 5 * torch.tanh(log_sigma / 5)).sum()
        wanted = log_normal - torch.linalg.slogdet(jacobian).logabsdet
        assert torch.allclose(q.log_prob(z)[i], wanted, rtol=0, atol=1e-9)


@every_kind
def test_the_density_of_a_draw_needs_no_inversion_and_equals_the_one_with(kind):
    q = small(kind).encoder.double()(torch.randn(50, 3, generator=seeded()).double())
    z, found = q.rsample(), []
    q.chain.register_forward_hook(lambda *_: found.append(1))
    known = q.log_prob(z)
    assert not found
    assert torch.allclose(q.log_prob(z.clone()), known, rtol=0, atol=1e-7) and found
    q.rsample()
    assert torch.allclose(q.log_prob(z), known, rtol=0, atol=1e-7)  # no longer the last draw


def straighten(kind, encoder):
    """Set the layers to the identity."""
    with torch.no_grad():
        for layer in encoder.chain.layers:
            if kind == "iaf":
                for p in layer.layer.net.layers[-1].parameters():
                    p.zero_()
                continue
            parts = layer.layer.parts
            parts.slope.zero_()
            first = {"planar": "u", "sylvester": "mix"}[kind]
            offset = 0
            for name, shape in parts.shapes.items():
                if name == first:
                    parts.values[offset : offset + shape.numel()] = 0
                offset += shape.numel()
            if kind == "planar":
                parts.values[:2] = torch.tensor([1.0, 0.0])  # w; û = u where wᵀu = 0


@every_kind
def test_with_identity_layers_it_is_the_gaussian_encoder(kind):
    encoder = small(kind).encoder
    straighten(kind, encoder)
    x = torch.randn(7, 3, generator=seeded())
    plain = GaussianEncoder(lambda x: encoder.net(x)[:, :4])(x)
    q = encoder(x)
    torch.manual_seed(0)
    z = q.rsample()
    torch.manual_seed(0)
    assert torch.allclose(z, plain.rsample(), atol=1e-6)
    assert torch.allclose(q.log_prob(z), plain.log_prob(z), atol=1e-5)
    assert q.batch_shape == (7,) and q.event_shape == (2,)


def test_without_layers_and_context_the_bound_is_that_of_the_plain_vae():
    net, decoder = MLP(3, 4), nn.Linear(2, 3)
    encoders = FlowPosterior(net, Flow(StandardNormal(2), [])), GaussianEncoder(net)
    bent, plain = (VAE((3,), e, decoder, prior=StandardNormal(2), likelihood=Gaussian(), kl="monte_carlo") for e in encoders)
    x = torch.randn(9, 3, generator=seeded())
    torch.manual_seed(0)
    first = elbo(bent, x).value
    torch.manual_seed(0)
    assert torch.allclose(first, elbo(plain, x, kl="monte_carlo").value, atol=1e-5)


@every_kind
def test_the_bound_is_below_the_exact_log_density_of_a_linear_model(kind):
    vae = small(kind, rough=0.02, sigma=2.0, beta=4.0)  # standard deviation 2/√4 = 1
    x = torch.randn(8, 3, generator=seeded())
    with torch.no_grad():
        w, b = vae.decoder.weight, vae.decoder.bias
        exact = torch.distributions.MultivariateNormal(b, w @ w.mT + torch.eye(3)).log_prob(x)
        draws = log_weights(vae, x, 1000)
        below, error = exact - draws.mean(1), draws.std(1) / 1000**0.5
        assert (below > 4 * error).all()  # this encoder knows nothing
        sharp = iwae_bound(vae, x, 4000)
    assert ((sharp - exact).abs() < 0.1).all() and below.mean() > 0.3


class Fold(nn.Module):
    """x = z₂ + z₁² of standard normals: the posterior is a banana on p(z)."""

    def forward(self, z):
        return z[:, 1:] + z[:, :1].square()


def exact_log_p(x, sigma):
    axis = (torch.arange(240) + 0.5) / 240 * 12 - 6
    z = torch.cartesian_prod(axis, axis)
    log_joint = torch.distributions.Normal(Fold()(z).T, sigma).log_prob(x) + StandardNormal(2).log_prob(z)
    return log_joint.logsumexp(1) + 2 * math.log(0.05)


def test_a_flow_narrows_the_gap_that_a_gaussian_leaves_at_a_bent_posterior():
    """At one x, whose posterior is a banana: what the best Gaussian leaves there, no training mends."""
    x = torch.ones(64, 1)
    gaps = {}
    for kind in ("gaussian", "iaf"):
        torch.manual_seed(1)
        if kind == "gaussian":
            encoder = GaussianEncoder(MLP(1, 4, (8,)))
            vae = VAE((1,), encoder, Fold(), prior=StandardNormal(2), likelihood=Gaussian(0.3))
        else:
            net = MLP(1, 4 + 2, (8,))
            vae = flow_posterior_vae((1,), net, Fold(), latent=2, kind="iaf", layers=4, context=2, sigma=0.3)
        fit(vae, x, steps=250, lr=1e-2, batch_size=64, progress=False)
        with torch.no_grad():
            gaps[kind] = float((exact_log_p(x[:1], 0.3) - elbo(vae, x, samples=200).value).mean())
    assert 0 < gaps["iaf"] < 0.5 * gaps["gaussian"], gaps


@every_kind
def test_fit_moves_every_part_and_a_checkpoint_brings_it_back(kind, tmp_path):
    vae, other = small(kind, learned=True), small(kind, learned=True)
    before = {name: p.clone() for name, p in vae.named_parameters()}
    x = torch.randn(64, 3, generator=seeded())
    history = fit(vae, x, steps=5, batch_size=32, progress=False)
    assert history.steps == 5
    still = {name for name, p in vae.named_parameters() if torch.equal(p, before[name])}
    assert not still
    checkpoint.save(tmp_path / "m.safetensors", vae)
    checkpoint.load(tmp_path / "m.safetensors", other.eval())
    assert torch.equal(vae.sample(4, generator=seeded()), other.sample(4, generator=seeded()))
    z = torch.randn(64, 2, generator=seeded())
    assert torch.equal(vae.encoder(x).log_prob(z), other.encoder(x).log_prob(z))


def test_the_mean_is_the_mean_of_many_draws_within_its_error():
    vae = small("planar")
    x = torch.randn(1, 3, generator=seeded()).expand(20_000, -1)
    with torch.no_grad():
        z, estimate = vae.encoder(x).rsample(), vae.encoder(x[:1]).mean[0]
        assert ((estimate - z.mean(0)).abs() < 5 * z.std(0) / 8).all()
    assert vae.reconstruct(x[:3]).shape == (3, 3)


def test_samples_are_means_and_the_noise_is_sigma_over_root_beta():
    vae = small("planar", sigma=2.0, beta=16.0)
    assert vae.show_mean and float(vae.likelihood_of_x.log_sigma.exp()) == pytest.approx(0.5)


def test_bad_input_is_named():
    net, decoder = nn.Linear(3, 9), nn.Linear(2, 3)
    with pytest.raises(ValueError, match="kind must be 'planar', 'sylvester' or 'iaf'; got 'maf'"):
        flow_posterior_vae((3,), net, decoder, latent=2, kind="maf", context=5)
    with pytest.raises(ValueError, match="net must give 2·2 \\+ 4 numbers, for μ, log σ and the context; got \\(9,\\)"):
        flow_posterior_vae((3,), net, decoder, latent=2, context=4)
    with pytest.raises(ValueError, match="beta must be positive; got 0"):
        flow_posterior_vae((3,), net, decoder, latent=2, context=5, beta=0)
    with pytest.raises(ValueError, match=r"prior of z must be of the encoder's dimension, \(2,\)"):
        flow_posterior_vae((3,), net, decoder, latent=2, context=5, prior=StandardNormal(3))
    with pytest.raises(ValueError, match="flow must consist of bijections on vectors"):
        FlowPosterior(net, Flow(StandardNormal((1, 2)), []))
    with pytest.raises(ValueError, match="layers must be a positive whole number; got 0"):
        flow_posterior_vae((3,), net, decoder, latent=2, context=5, layers=0)
