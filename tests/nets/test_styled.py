"""The net that a latent tells how to draw: z goes through the mapping network, and what comes out lies in its range."""

import math

import pytest
import torch
from torch import nn

from gmcourse.nets.styled import Styled
from gmcourse.nets.unet import UNet


def styled(**settings):
    torch.manual_seed(0)
    net = UNet((1, 8, 8), width=8, multipliers=(1, 2), attention=(), context=6)
    for part in net.modules():  # what starts at zero would hide z
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.1)
    return Styled(net, 5, 6, **settings)


def test_what_is_said_depends_on_the_direction_of_z_only():
    net, x, t, z = styled(), torch.randn(3, 1, 8, 8), torch.tensor(2), torch.randn(3, 5)
    said = net(x, t, z)
    assert net(x, t, 2 * z).allclose(said, atol=1e-5) and net(x, t, -z).sub(said).abs().amax((1, 2, 3)).min() > 1e-3


def test_images_lie_in_their_range_unless_that_is_lifted():
    x, t, z = 30 * torch.randn(3, 1, 8, 8), torch.tensor(2), torch.randn(3, 5)
    bounded, free = styled(), styled(bounded=False)
    nn.init.ones_(bounded.net.leave[-1].weight)
    nn.init.ones_(free.net.leave[-1].weight)
    assert bounded(x, t, z).abs().max() <= 1 < free(x, t, z).abs().max()
    assert bounded(x, t, z).allclose(free(x, t, z).tanh())


def test_a_latent_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"z must have shape \(3, 5\); got \(3, 4\)"):
        styled()(torch.randn(3, 1, 8, 8), torch.tensor(2), torch.randn(3, 4))


def test_a_row_hears_its_own_latent_and_no_other():
    net, x, t, z = styled(), torch.randn(3, 1, 8, 8), torch.tensor(2), torch.randn(3, 5)
    slopes = torch.autograd.functional.jacobian(lambda at: net(x, t, at).square().sum((1, 2, 3)), z).abs().amax(2)
    assert (slopes > 0).equal(torch.eye(3, dtype=torch.bool))


def test_the_net_is_told_the_style_by_hand():
    """z to length √latent, then three linear layers with leaky ReLU of slope 0.2."""
    told, z = [], torch.randn(4, 5)
    net = styled(bounded=False)
    net.net.register_forward_pre_hook(lambda _, given: told.append(given[2]))
    net(torch.randn(4, 1, 8, 8), torch.tensor(0), z)
    w = z * math.sqrt(5) / z.norm(dim=1, keepdim=True)
    linear = [part for part in net.mapping if isinstance(part, nn.Linear)]
    assert [(part.in_features, part.out_features) for part in linear] == [(5, 6), (6, 6), (6, 6)]
    for part in linear:
        w = w @ part.weight.T + part.bias
        w = torch.where(w > 0, w, 0.2 * w)
    assert told[0].allclose(w, atol=1e-5)


def test_the_mapping_network_learns():
    net = styled()
    net(torch.randn(3, 1, 8, 8), torch.tensor(1), torch.randn(3, 5)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in net.mapping.parameters())
