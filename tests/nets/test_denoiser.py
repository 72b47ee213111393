"""The small net of point and time: what it depends on, and that it learns what a linear formula gives."""

import pytest
import torch

from gmcourse.nets.denoiser import Denoiser
from gmcourse.nets.embedding import FourierTime


def awake(net, seed=0):
    """The net with random numbers where it starts with zeros."""
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return net


@pytest.mark.parametrize("shape", [2, (1, 4, 4), ()])
@pytest.mark.parametrize("features", [0, 8])
def test_the_output_has_the_shape_of_x_and_starts_at_zero(shape, features):
    net = Denoiser(shape, (16, 16), features=features)
    x = torch.randn(5, *net.event_shape)
    assert torch.equal(net(x, torch.rand(5)), torch.zeros_like(x))
    assert awake(net)(x, torch.rand(5)).shape == x.shape


@pytest.mark.parametrize("t", [torch.tensor([0.1, 0.9, 0.5]), torch.tensor([1, 9, 5])])
def test_every_datum_has_its_own_time_and_context_and_no_other(t):
    net = awake(Denoiser(2, (16, 16), features=4, context=3))
    x, c = torch.randn(3, 2), torch.randn(3, 3)
    together = net(x, t, c)
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], c[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together, net(x, t.flip(0), c), atol=1e-3)
    assert not torch.allclose(together, net(x, t, c.flip(0)), atol=1e-3)


def test_every_parameter_is_used():
    net = awake(Denoiser(2, (16, 16), features=4, context=3, time=FourierTime(8)))
    net(torch.randn(9, 2), torch.rand(9), torch.randn(9, 3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_it_learns_the_exact_noise_of_normal_data():
    """Data N(0, I) at α² + σ² = 1: E[ε | x] = σ x."""
    torch.manual_seed(0)
    net = Denoiser(2, (32, 32))
    adam = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(200):
        t, x0, eps = torch.rand(128), torch.randn(128, 2), torch.randn(128, 2)
        x = (1 - t**2).sqrt()[:, None] * x0 + t[:, None] * eps
        adam.zero_grad()
        (net(x, t) - eps).square().mean().backward()
        adam.step()
    t, x = torch.rand(2000), torch.randn(2000, 2)
    assert (net(x, t) - t[:, None] * x).square().mean() < 0.03


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: Denoiser(2)(torch.zeros(3, 4), torch.zeros(3)), r"x must have shape \(n, 2\); got \(3, 4\)"),
        (lambda: Denoiser(2)(torch.zeros(3, 2), torch.zeros(2)), r"t must have shape \(3,\)"),
        (lambda: Denoiser(2, context=4)(torch.zeros(3, 2), 0.5), r"context must have shape \(3, 4\); got None"),
        (lambda: Denoiser(2, context=4)(torch.zeros(3, 2), 0.5, torch.zeros(3)), r"context must .*; got \(3,\)"),
        (lambda: Denoiser(2)(torch.zeros(3, 2), 0.5, torch.zeros(3, 1)), "context must be left out"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
