"""Nets of points for denoising diffusion GANs, and the preconditioning around one."""

import math

import pytest
import torch
from torch import nn

from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
from gmcourse.nets.plane_pair import PointCritic, PointGenerator
from gmcourse.nets.preconditioned import Preconditioned


@pytest.mark.parametrize("shape", [(), (2,), (1, 2, 2)])
def test_points_of_any_shape(shape):
    x, t = torch.randn(5, *shape), torch.arange(5)
    assert PointGenerator(shape, 3, (8,), frequencies=[1.0])(x, t, torch.randn(5, 3)).shape == x.shape
    assert PointCritic(shape, (8,), frequencies=[1.0])(x, x, t).shape == (5,)


def test_everything_that_goes_in_counts_and_rows_are_by_themselves():
    torch.manual_seed(0)
    generator, critic = PointGenerator((2,), 3, (16,)), PointCritic((2,), (16,))
    x, y, z, t = torch.randn(4, 2), torch.randn(4, 2), torch.randn(4, 3), torch.tensor([0, 1, 2, 3])
    said, judged = generator(x, t, z), critic(x, y, t)
    for other in (generator(x + 1, t, z), generator(x, t + 1, z), generator(x, t, z + 1)):
        assert (other != said).any(1).all()
    for other in (critic(x + 1, y, t), critic(x, y + 1, t), critic(x, y, t + 1)):
        assert (other != judged).all()
    assert generator(x[2:], t[2:], z[2:]).allclose(said[2:], atol=1e-6)
    assert critic(x[2:], y[2:], t[2:]).allclose(judged[2:], atol=1e-6)


def test_the_thesis_pair_has_as_many_weights_as_its_layers():
    """2 + 16 + 2 inputs, three layers of 512, two outputs; 2 + 2 + 16 inputs and one."""
    hidden = 2 * (512 * 512 + 512)
    assert sum(p.numel() for p in PointGenerator((2,), 2).parameters()) == 21 * 512 + hidden + 513 * 2
    assert sum(p.numel() for p in PointCritic((2,)).parameters()) == 21 * 512 + hidden + 513


def test_a_slope_of_leaky_relu_below_zero_is_a_fifth():
    net = PointGenerator((2,), 0, (4,)).net.layers[1]
    assert net(torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([-0.2, 1.0])


def test_preconditioning_is_the_posterior_of_gaussian_data():
    """With F = N(0, 1) of its own the output is a draw of p(x_0 | x_t) for data N(0, s²): (x_0, x_t) has its covariance."""
    chain, s, n = DiscreteDiffusion(vp_betas(4)), 1.5, 200_000

    class Fresh(nn.Module):
        def forward(self, x, t):
            return torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    net = Preconditioned(Fresh(), chain.alpha_bars, s)
    for t in range(4):
        bar = float(chain.alpha_bars[t])
        xt = math.sqrt(bar * s**2 + 1 - bar) * torch.randn(n, 1, generator=torch.Generator().manual_seed(t + 2))
        found = torch.cov(torch.cat([net(xt, torch.full((n,), t)), xt], 1).T)
        wanted = torch.tensor([[s**2, math.sqrt(bar) * s**2], [math.sqrt(bar) * s**2, bar * s**2 + 1 - bar]])
        assert found.sub(wanted).abs().max() < 0.03


def test_other_shapes_are_refused_by_name():
    x, t = torch.zeros(3, 2), torch.tensor(0)
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2\); got \(3, 3\)"):
        PointGenerator((2,), 0)(torch.zeros(3, 3), t)
    with pytest.raises(ValueError, match=r"before must have shape \(n, 2\); got \(3, 1\)"):
        PointCritic((2,))(torch.zeros(3, 1), x, t)
    with pytest.raises(ValueError, match=r"context must have shape \(3, 4\); got None"):
        PointGenerator((2,), 4)(x, t)
    with pytest.raises(ValueError, match="data_scale must be positive; got 0"):
        Preconditioned(nn.Identity(), torch.tensor([0.5]), 0.0)
