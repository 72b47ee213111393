"""The discriminator of pairs of images: what a logit depends on, its gradients, its parts against formulas written out."""

import math

import pytest
import torch
from torch import nn

from gmcourse.nets.time_critic import PairBlock, TimeCritic


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


def rows_that_move(net, n=4, row=1):
    """Which logits a change of x_{t−1} in one row moves, (n,)."""
    before, x, t = torch.randn(n, 1, 8, 8), torch.randn(n, 1, 8, 8), torch.tensor(0)
    slopes = torch.autograd.functional.jacobian(lambda at: net(at, x, t), before)[:, row]
    return (slopes.abs().amax((1, 2, 3)) > 0).tolist()


def test_the_gradient_of_the_sum_is_that_of_each_logit_if_the_batch_is_not_shown():
    """What R1 needs; shown the batch, other rows answer as well, but only those of the same group."""
    assert rows_that_move(critic(minibatch_std=False)) == [False, True, False, False]
    assert rows_that_move(critic(minibatch_group=2)) == [True, True, False, False]
    assert rows_that_move(critic()) == [True] * 4


def test_every_parameter_learns_from_the_logit_and_every_weight_from_its_slope():
    """A bias moves slopes only where it bends something: leaky ReLUs do not, but at 0."""
    net, before, t = critic().double(), torch.randn(4, 1, 8, 8).double().requires_grad_(), torch.tensor([0, 1, 2, 3])
    judged, names = net(before, torch.randn(4, 1, 8, 8).double(), t), [name for name, _ in net.named_parameters()]
    (slope,) = torch.autograd.grad(judged.sum(), before, create_graph=True)
    for value, learning in ((judged, names), (slope, [name for name in names if name.endswith("weight")])):
        grads = torch.autograd.grad(value.square().sum(), list(net.parameters()), retain_graph=True, allow_unused=True)
        moved = {name for name, grad in zip(names, grads, strict=True) if grad is not None and grad.abs().max() > 0}
        assert set(learning) <= moved


@pytest.mark.parametrize(("fir", "kernel"), [(True, [1.0, 3.0, 3.0, 1.0]), (False, [0.0, 1.0, 1.0, 0.0])])
def test_blocks_halve_through_the_binomial_filter_or_the_mean(fir, kernel):
    """Seen on the skip path, away from the border: every second pixel of the filtered image."""
    block, x = PairBlock(1, 1, 7, down=True, fir=fir), torch.randn(2, 1, 12, 12)
    for weight in block.second.parameters():
        nn.init.zeros_(weight)
    nn.init.ones_(block.skip.weight)
    line = torch.tensor(kernel) / sum(kernel)
    wanted = nn.functional.conv2d(x, (line[:, None] * line)[None, None], stride=2, padding=1) * 0.5**0.5
    found = block(x, torch.randn(2, 7))
    assert found.shape == (2, 1, 6, 6) and found[..., 1:-1, 1:-1].allclose(wanted[..., 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("fir", [True, False])
def test_a_logit_is_the_formula_written_out(fir):
    """All of Table 6.7 in small, with the spread of the batch as the mean over features and places of σ over the rows."""
    net, before, x, t = critic(fir=fir), torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    weights, conv = dict(net.named_parameters()), nn.functional.conv2d

    def lrelu(h):
        return torch.where(h > 0, h, 0.2 * h)

    def smaller(h):
        if not fir:
            return h.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
        return nn.functional.interpolate(h, scale_factor=0.5, mode="bilinear", antialias=True)  # pinned above

    def layer(name, h):
        return conv(h, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    tau = net.time(t)
    h = conv(torch.cat([before, x], 1), weights["enter.weight"], weights["enter.bias"])
    for name, block, shrink in (("blocks.0", net.blocks[0], smaller), ("blocks.1", net.blocks[1], lambda h: h)):
        inner = lrelu(layer(f"{name}.first", lrelu(h)) + block.of_time(tau)[..., None, None])
        skip = conv(shrink(h), weights[f"{name}.skip.weight"])
        h = (layer(f"{name}.second", shrink(inner)) + skip) / math.sqrt(2)
    h = lrelu(h)
    spread = h.std(0, correction=0).mean().expand(4, 1, *h.shape[2:])
    h = lrelu(layer("spread.1", torch.cat([h, spread], 1))).sum((2, 3))
    wanted = (h @ weights["logit.weight"].T + weights["logit.bias"])[:, 0]
    torch.testing.assert_close(net(before, x, t), wanted, rtol=1e-3, atol=1e-3)


def test_pictures_of_28_pass_few_levels_and_the_last_map_has_7():
    net, seen = TimeCritic((3, 28, 28), (16, 32, 32)), []
    assert net.blocks[0].resize == "down" and net.blocks[1].resize == ""
    net = TimeCritic((3, 28, 28), (16, 32, 32), down=[True, True])
    net.blocks[-1].register_forward_hook(lambda _, given, made: seen.append(tuple(made.shape)))
    x = torch.randn(2, 3, 28, 28)
    assert net(x, x, torch.tensor([0, 3])).shape == (2,) and seen == [(2, 32, 7, 7)]


def test_a_batch_that_no_group_divides_is_refused():
    x = torch.zeros(3, 1, 8, 8)
    with pytest.raises(ValueError, match="n a multiple of group=2"):
        critic(minibatch_group=2)(x, x, torch.tensor(0))
    with pytest.raises(ValueError, match="group must be a positive whole number; got 0"):
        critic(minibatch_group=0)
