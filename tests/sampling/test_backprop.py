"""The gradient of a feed-forward energy, layer by layer, against autograd; and who is left to autograd."""

import pytest
import torch
from problems.gaussian_energy import GaussianEnergy, double_well
from torch import nn

from gmcourse.nets.confined import Confined
from gmcourse.nets.embedding import FourierFeatures
from gmcourse.nets.mlp import MLP
from gmcourse.sampling.backprop import layers
from gmcourse.sampling.target import Target

TWICE = nn.SiLU()
NETS = {
    "a layer twice": nn.Sequential(nn.Linear(2, 9), TWICE, nn.Linear(9, 9), TWICE, nn.Linear(9, 1), nn.Flatten(0)),
    "silu": nn.Sequential(MLP(2, 1, (16, 16)), nn.Flatten(0)),
    "tanh": nn.Sequential(nn.Linear(2, 16, bias=False), nn.Tanh(), nn.Sequential(nn.Linear(16, 1), nn.Flatten(0))),
    "relu": nn.Sequential(nn.ReLU(), nn.Linear(2, 40), nn.ReLU(), nn.SiLU(), nn.Linear(40, 1), nn.Flatten(0)),
    "fourier": nn.Sequential(FourierFeatures(2, 12, 3.0), MLP(26, 1, (16, 16)), nn.Flatten(0)),
    "fourier of a layer": nn.Sequential(
        nn.Linear(2, 20), nn.SiLU(), FourierFeatures(20, 3, 0.5), nn.Linear(26, 1), nn.Flatten(0)
    ),
    "linear": nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)),
}


@pytest.mark.parametrize("name", NETS)
def test_the_gradient_layer_by_layer_is_that_of_autograd(name):
    net = NETS[name].double()
    x = 5 * torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = x.clone()
    assert layers(net) is not None
    value, score = Target(net, None).energy_and_score(x)
    plain_value, plain_score = Target(lambda x: net(x), None).energy_and_score(x)
    assert torch.allclose(value, plain_value) and torch.allclose(score, plain_score, atol=1e-12)
    assert torch.equal(Target(net, None).score(x), score) and torch.equal(x, before)
    assert not (value.requires_grad or score.requires_grad)


def test_large_numbers_do_not_overflow():
    net = nn.Sequential(nn.Linear(1, 1), nn.SiLU(), nn.Linear(1, 1), nn.Flatten(0))
    for p in net.parameters():
        nn.init.ones_(p)
    x = torch.tensor([[-1e4], [-100.0], [100.0], [1e4]])
    assert Target(net, None).score(x).flatten().tolist() == pytest.approx([0.0, 0.0, -1.0, -1.0])


def test_fourier_features_are_x_and_the_waves_of_its_columns():
    features = FourierFeatures(2, columns=5, scale=4.0).double()
    x = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    waves = torch.einsum("abi,ij->abj", x, features.frequencies)
    assert features.outputs == 12 and features(x).shape == (7, 3, 12)
    assert torch.allclose(features(x), torch.cat([x, waves.sin(), waves.cos()], -1))


def test_the_frequencies_have_their_scale_and_travel_with_the_weights_untrained():
    torch.manual_seed(0)
    features = FourierFeatures(100, columns=200, scale=4.0)
    assert features.frequencies.std().item() == pytest.approx(4.0, abs=5 * 4 / 40_000**0.5)
    assert not list(features.parameters()) and list(features.state_dict()) == ["frequencies"]


@pytest.mark.parametrize(("options", "complaint"), [({"columns": 0}, "columns must be"), ({"scale": 0.0}, "scale must be")])
def test_features_that_see_nothing_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        FourierFeatures(2, **options)


def hooked():
    net = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    net.register_forward_hook(lambda module, x, y: 2 * y)
    return net


@pytest.mark.parametrize(
    "net",
    [
        hooked(),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 1)), nn.Flatten(0)),
        nn.Sequential(nn.Linear(2, 1), nn.Dropout(), nn.Flatten(0)),
        nn.Sequential(nn.Linear(2, 8), nn.GELU(), nn.Linear(8, 1), nn.Flatten(0)),
        nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Flatten(0)),
        nn.Sequential(nn.Linear(2, 1), nn.Flatten(0, 0)),
        nn.Sequential(nn.Linear(2, 1)),
        nn.Sequential(),
        GaussianEnergy(),
        double_well,
    ],
)
def test_every_other_energy_is_left_to_autograd(net):
    assert layers(net) is None


def test_hooks_on_the_gradient_are_heard():
    """A backward hook changes what autograd gives, so such a net must go through autograd."""
    net = nn.Sequential(nn.Linear(2, 4), nn.SiLU(), nn.Linear(4, 1), nn.Flatten(0))
    net[1].register_full_backward_hook(lambda module, grads, _: tuple(torch.zeros_like(g) for g in grads))
    assert layers(net) is None
    assert Target(net, None).score(torch.randn(5, 2)).abs().max() == 0


def test_a_confined_net_is_differentiated_as_one_and_leaves_no_graph():
    net = nn.Sequential(MLP(2, 1, (8,)), nn.Flatten(0)).double()
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    value, slope = Target(Confined(net, 0.7), None).energy_and_score(x)
    plain_value, plain_slope = Target(lambda x: net(x) + 0.7 * x.square().sum(1), None).energy_and_score(x)
    assert torch.allclose(value, plain_value) and torch.allclose(slope, plain_slope)
    assert not value.requires_grad and not slope.requires_grad
