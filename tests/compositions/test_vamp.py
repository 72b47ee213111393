"""The VampPrior in its VAE: the optimum, shared encoder, batch norm."""

import copy

import pytest
import torch
from torch import nn

from gmcourse import checkpoint
from gmcourse.compositions.flow_posterior import FlowPosterior
from gmcourse.compositions.vamp import vampprior_vae
from gmcourse.fit import fit
from gmcourse.flows import iaf
from gmcourse.model import StandardNormal
from gmcourse.nets.mlp import MLP
from gmcourse.vae import GaussianEncoder, aggregated_posterior, elbo


def data(n=40):
    return 2 * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))


def small(pseudo_inputs, net=None, **options):
    torch.manual_seed(0)
    return vampprior_vae((3,), GaussianEncoder(net or MLP(3, 4)), nn.Linear(2, 3), pseudo_inputs, **options)


def normed():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize("net", [None, normed])
def test_with_all_data_as_pseudo_inputs_the_prior_is_the_aggregated_posterior(net):
    x, z = data(), torch.randn(50, 2)
    vae = small(x, net and net()).eval()
    assert torch.allclose(vae.prior.log_prob(z), aggregated_posterior(vae, x).log_prob(z), atol=1e-5)


def test_at_that_prior_the_bound_is_largest():
    x, bounds = data(), {}
    vae = small(x, nn.Linear(3, 4)).eval()
    with torch.no_grad():
        vae.encoder.net.bias[2:] = -2.0  # narrow posteriors: their mixture is far from Gaussian
    others = {"optimum": vae.prior, "normal": StandardNormal(2), "few": small(x[:3]).prior}
    others["few"].encoder = vae.prior.encoder
    for name, prior in others.items():
        vae.prior = prior
        torch.manual_seed(0)
        with torch.no_grad():
            bounds[name] = float(elbo(vae, x, kl="monte_carlo", samples=200).value.mean())
    assert bounds["optimum"] > bounds["normal"] + 0.01 and bounds["optimum"] > bounds["few"] + 0.01, bounds


def test_gradients_reach_pseudo_inputs_and_training_moves_them():
    x = data(200)
    vae = small(x[:5], normed(), learned=True)
    start = vae.prior.pseudo_inputs.detach().clone()
    vae.loss(x).mean().backward()
    assert (vae.prior.pseudo_inputs.grad.abs().sum(1) > 0).all()
    fit(vae, x, steps=5, batch_size=50, progress=False)
    assert (vae.prior.pseudo_inputs != start).any(1).all()
    assert torch.equal(start, x[:5])  # the data are not the parameter


def test_gradients_of_the_prior_reach_the_encoder_too():
    vae = small(data(5))
    vae.prior.log_prob(torch.randn(4, 2)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in vae.encoder.parameters())


def test_batch_norm_learns_the_statistics_of_the_data_alone():
    x = data(64)
    vae = small(100 + data(5), normed()).train()
    alone = copy.deepcopy(vae.encoder).train()
    alone(x)
    vae.loss(x)
    norm, wanted = vae.encoder.net[1], alone.net[1]
    assert torch.equal(norm.running_mean, wanted.running_mean) and int(norm.num_batches_tracked) == 1
    assert vae.encoder.training and norm.training


def test_the_prior_in_training_is_the_prior_of_evaluation():
    vae, z = small(data(5), normed()), torch.randn(4, 2)
    assert torch.equal(vae.train().prior.log_prob(z), vae.eval().prior.log_prob(z))


def test_the_encoder_is_one_to_parameters_and_checkpoints(tmp_path):
    vae, other = small(data(5), normed()), small(data(5) + 1, normed())
    assert len(list(vae.parameters())) == len(list(vae.encoder.parameters())) + 2 + 1  # decoder, pseudo-inputs
    fit(vae, data(100), steps=3, ema=0.5, progress=False)
    checkpoint.save(tmp_path / "m.safetensors", vae)
    checkpoint.load(tmp_path / "m.safetensors", other.eval())
    z = torch.randn(9, 2)
    assert torch.equal(vae.prior.log_prob(z), other.prior.log_prob(z))
    assert other.prior.encoder.encoder is other.encoder
    first, second = (m.sample(4, generator=torch.Generator().manual_seed(1)) for m in (vae, other))
    assert torch.equal(first, second)


def test_samples_are_means_and_the_noise_is_sigma_over_root_beta():
    vae = small(data(5), sigma=3.0, beta=9.0)
    assert vae.show_mean and float(vae.likelihood_of_x.log_sigma.exp()) == pytest.approx(1.0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"pseudo_inputs must have shape \(K, \*\(3,\)\); got \(5, 2\)"):
        small(torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"pseudo_inputs must have shape .* got \(0, 3\)"):
        small(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="beta must be positive; got -1"):
        small(data(5), beta=-1)
    bent = FlowPosterior(nn.Linear(3, 4 + 2), iaf((2,), context=2))
    with pytest.raises(ValueError, match="encoder must give diagonal Gaussians, .* got BentNormal"):
        vampprior_vae((3,), bent, nn.Linear(2, 3), data(5))
