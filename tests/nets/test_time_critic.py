"""The discriminator of pairs of images, and the net that a latent tells how to draw."""

import pytest
import torch
from torch import nn

from gmcourse.nets.styled import Styled
from gmcourse.nets.time_critic import PairBlock, TimeCritic
from gmcourse.nets.unet import UNet


def critic(**settings):
    torch.manual_seed(0)
    return TimeCritic((1, 8, 8), (4, 8, 8), **settings)


def test_rows_are_by_themselves_unless_the_batch_is_shown():
    before, x, t = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    for shown in (True, False):
        net = critic(minibatch_std=shown)
        alone = torch.cat([net(before[k : k + 1], x[k : k + 1], t[k : k + 1]) for k in range(4)])
        assert net(before, x, t).allclose(alone, atol=1e-5) is not shown


def test_both_images_and_the_time_count():
    net, before, x, t = critic(), torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    judged = net(before, x, t)
    for other in (net(before + 1, x, t), net(before, x + 1, t), net(before, x, t + 1)):
        assert other.sub(judged).abs().min() > 1e-6
    assert net(x, before, t).sub(judged).abs().min() > 1e-6


def test_sum_pooling_makes_a_logit_of_a_larger_picture_larger():
    """Of a picture laid out twice side by side the features are summed over twice the places, but for the seam."""
    torch.manual_seed(0)
    one, two = (TimeCritic((1, 32, side), (4, 8), down=[False], minibatch_std=False) for side in (32, 64))
    two.load_state_dict(one.state_dict())
    x, t = torch.randn(3, 1, 32, 32), torch.tensor(0)
    single, double = (net(v, v, t).detach() - one.logit.bias for net, v in ((one, x), (two, torch.cat([x, x], 3))))
    assert (double - 2 * single).abs().max() < 0.1 * single.abs().max()


def test_a_block_is_the_mean_of_two_paths_in_the_sense_of_variances():
    """(h + skip)/√2: with the second convolution at zero what is left is the skip path over √2."""
    block = PairBlock(3, 5, 7, down=False)
    nn.init.zeros_(block.second.weight)
    nn.init.zeros_(block.second.bias)
    x = torch.randn(2, 3, 4, 4)
    assert block(x, torch.randn(2, 7)).allclose(block.skip(x) * 0.5**0.5, atol=1e-6)


def test_the_time_is_added_after_the_first_convolution():
    """A shift of that convolution's bias and the same shift by time cannot be told apart."""
    block = PairBlock(3, 5, 7, down=True)
    x, time = torch.randn(2, 3, 4, 4), torch.randn(1, 7)
    wanted = block(x, time.expand(2, 7))
    with torch.no_grad():
        block.first.bias += block.of_time(time)[0] - block.of_time.bias
    assert block(x, torch.zeros(2, 7)).allclose(wanted, atol=1e-5)


def test_sizes_of_images_that_do_not_fit_are_refused_by_name():
    net, x, t = critic(), torch.zeros(2, 1, 8, 8), torch.tensor(0)
    with pytest.raises(ValueError, match=r"before must have shape \(n, 1, 8, 8\); got \(2, 1, 9, 8\)"):
        net(torch.zeros(2, 1, 9, 8), x, t)
    with pytest.raises(ValueError, match=r"x must have shape \(n, 1, 8, 8\); got \(2, 1, 8, 4\)"):
        net(x, x[..., :4], t)
    with pytest.raises(ValueError, match=r"image must be \(c, h, w\), h and w divisible by 4; got \(1, 28, 30\)"):
        TimeCritic((1, 28, 30))
    with pytest.raises(ValueError, match="down must say of each of 3 blocks"):
        TimeCritic((1, 28, 28), down=[True])


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
