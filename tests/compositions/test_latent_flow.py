"""Generative latent flow: what reaches whom, what happens without the stop, and where it comes from."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gmcourse import checkpoint
from gmcourse.compositions import GenerativeLatentFlow, flow_prior_vae
from gmcourse.data import toy2d
from gmcourse.fit import fit
from gmcourse.flows import Flow, neural_spline_flow, real_nvp
from gmcourse.flows.elementwise import Affine, Elementwise
from gmcourse.flows.linear import ActNorm
from gmcourse.model import StandardNormal
from gmcourse.nets.mlp import MLP
from gmcourse.vae import GaussianEncoder


def linear_glf(**options) -> GenerativeLatentFlow:
    torch.manual_seed(0)
    return GenerativeLatentFlow((4,), nn.Linear(4, 2), nn.Linear(2, 4), real_nvp((2,)), **options).double()


def gradients(model: nn.Module, loss) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found, strict=True)}


def test_the_likelihood_of_the_codes_has_no_gradient_in_the_encoder():
    model, x = linear_glf(), torch.randn(8, 4).double()
    found = gradients(model, model.latent_term(model.encoder(x)).mean())
    assert all(not g.any() for name, g in found.items() if name.startswith(("encoder", "decoder")))
    assert any(g.any() for name, g in found.items() if name.startswith("prior"))


def test_the_encoder_learns_from_the_reconstruction_alone():
    model, x = linear_glf(beta=3.0), torch.randn(8, 4).double()
    whole = gradients(model, model.loss(x).mean())
    part = gradients(model, 3.0 * model.distortion(x, model.decoder(model.encoder(x))).mean())
    assert all(torch.equal(whole[name], part[name]) for name in whole if not name.startswith("prior"))


def test_without_the_stop_it_learns_from_both():
    model, x = linear_glf(stop_gradient=False), torch.randn(8, 4).double()
    found = gradients(model, model.latent_term(model.encoder(x)).mean())
    assert found["encoder.weight"].any() and not found["decoder.weight"].any()


def test_the_loss_is_reconstruction_and_likelihood_of_the_codes():
    """With an affine flow, whose density is a Gaussian's."""
    torch.manual_seed(0)
    layer = Elementwise((2,), Affine())
    flow = Flow(StandardNormal(2), [layer])
    nn.init.normal_(next(layer.parameters()))
    model = GenerativeLatentFlow((4,), nn.Linear(4, 2), nn.Linear(2, 4), flow, beta=0.7)
    x = torch.randn(6, 4)
    z = model.encoder(x)
    mean, unit = flow.push(torch.zeros(1, 2)), flow.push(torch.eye(2)) - flow.push(torch.zeros(2, 2))
    law = MultivariateNormal(mean[0], unit.T @ unit)
    expected = 0.7 * 0.5 * (x - model.decoder(z)).square().sum(1) - law.log_prob(z)
    assert torch.allclose(model.loss(x), expected, atol=1e-5)


def linear_vae_of(glf: GenerativeLatentFlow, beta: float):
    """The VAE with the same nets, whose posterior variance is the best for a decoder W: 1/(1 + β ‖w_j‖²)."""
    d = glf.prior.event_shape[0]
    variance = 1 / (1 + beta * glf.decoder.weight.detach().square().sum(0))
    net = nn.Linear(4, 2 * d).double()
    with torch.no_grad():
        net.weight.zero_()
        net.weight[:d].copy_(glf.encoder.weight)
        net.bias[:d].copy_(glf.encoder.bias)
        net.bias[d:].copy_(5 * torch.atanh(0.5 * variance.log() / 5))  # log σ is softly clamped
    return flow_prior_vae((4,), GaussianEncoder(net), glf.decoder, glf.prior, beta=beta)


def test_a_vae_with_flow_prior_tends_to_it_as_beta_grows():
    """Its gradient in the nets, by β, and in the flow, as it is, tend to those of GLF; so does its loss, by β, up to the
    constants, the posterior's entropy and the codes' likelihood, which are O(log β / β)."""
    glf = linear_glf()
    x = torch.randn(4000, 4).double()
    goal = gradients(glf, glf.loss(x).mean())
    apart = []
    for beta in (1.0, 10.0, 100.0, 1000.0, 10000.0):
        vae = linear_vae_of(glf, beta).double()
        torch.manual_seed(1)
        loss = vae.loss(x).mean()
        found, loss = gradients(vae, loss), loss.detach()
        encoder = (found["encoder.net.weight"][:2] / beta - goal["encoder.weight"]).norm() / goal["encoder.weight"].norm()
        decoder = (found["decoder.weight"] / beta - goal["decoder.weight"]).norm() / goal["decoder.weight"].norm()
        names = [name for name in goal if name.startswith("prior")]
        error = sum((found[name] - goal[name]).square().sum() for name in names).sqrt()
        flow = error / sum(goal[name].square().sum() for name in names).sqrt()
        constant = 0.5 * 4 * math.log(2 * math.pi / beta)
        value = abs((loss - constant) / beta - glf.distortion(x, glf.reconstruct(x)).mean()) / loss.abs() * beta
        apart.append([float(encoder), float(decoder), float(flow), float(value)])
    apart = torch.tensor(apart)
    assert (apart[1:] < apart[:-1]).all(), apart
    assert (apart[-1] < 0.02).all(), apart


def degenerated(stop_gradient: bool) -> tuple[float, float, float]:
    """Spread of the codes, mean NLL of the codes and mean reconstruction error after a training on 25 Gaussians."""
    torch.manual_seed(0)
    spline = neural_spline_flow((2,), layers=2, bins=8, bound=4.0, hidden=(32, 32))
    flow = Flow(spline.base, [ActNorm(2), spline.chain])
    nets = MLP(2, 2, (64, 64)), MLP(2, 2, (64, 64))
    model = GenerativeLatentFlow((2,), *nets, flow, stop_gradient=stop_gradient)
    data = toy2d.get("gaussians25")
    fit(model, data, steps=300, lr=2e-3, clip=100.0, progress=False)
    x = data.sample((1000,))
    z = model.encode(x)
    nll = model.latent_term(z).mean()
    return float(z.std(0).mean()), float(nll), float(model.distortion(x, model.decode(z)).mean())


def test_without_the_stop_codes_shrink_and_their_likelihood_runs_away():
    wide, calm, exact = degenerated(stop_gradient=True)
    narrow, wild, _ = degenerated(stop_gradient=False)
    assert narrow < 0.2 * wide
    assert wild < calm - 3 and wild < -1
    assert exact < 0.02  # what the codes are for is there with the stop


def test_a_file_keeps_the_flow(tmp_path):
    """Masks and permutations come back with the weights, whatever was drawn at the building."""
    model = linear_glf().float()
    path = checkpoint.save(tmp_path / "glf.safetensors", model, {})
    torch.manual_seed(7)
    other = GenerativeLatentFlow((4,), nn.Linear(4, 2), nn.Linear(2, 4), real_nvp((2,)))
    checkpoint.load(path, other)
    z = torch.randn(5, 2)
    assert torch.equal(model.prior.log_prob(z), other.prior.log_prob(z))
    generators = (torch.Generator().manual_seed(0) for _ in range(2))
    assert torch.equal(*(m.sample(4, generator=g) for m, g in zip((model, other), generators, strict=True)))


def test_a_flow_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match=r"encoder's dimension, \(2,\); got a Flow on \(3,\)"):
        GenerativeLatentFlow((4,), nn.Linear(4, 2), nn.Linear(2, 4), real_nvp((3,)))
