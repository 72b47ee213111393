"""The thesis' image energies: sizes of Tables 4.9 and 5.2, weight normalisation with its data-dependent start."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from gmcourse import checkpoint
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import score, spectral_regularisation
from gmcourse.ebm.images import TABLE_4_9, TABLE_5_2, Block, WeightNormConv2d, conv_energy, resnet_energy


def images(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def conv(inputs, outputs, kernel):
    return outputs * (inputs * kernel**2 + 1)


def size(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("image", "widths", "wanted"),
    [
        ((1, 32, 32), "mnist", conv(1, 32, 3) + conv(32, 64, 4) + 2 * conv(64, 64, 4) + 64 * 16 + 1),
        ((3, 32, 32), "cifar10", conv(3, 64, 3) + conv(64, 128, 4) + conv(128, 256, 4) + conv(256, 512, 4) + 512 * 16 + 1),
        ((1, 28, 28), (8, 16), conv(1, 8, 3) + conv(8, 16, 4) + 16 * 14 * 14 + 1),
        ((1, 7, 9), (8, 16, 16), conv(1, 8, 3) + conv(8, 16, 4) + conv(16, 16, 4) + 16 * 2 + 1),
    ],
)
def test_conv_energies_have_the_parameters_of_their_table(image, widths, wanted):
    net = conv_energy(image, widths)
    assert size(net) == wanted
    assert net(images(2, *image)).shape == (2,)


def test_celeba_has_one_level_more_than_cifar():
    assert [w / TABLE_5_2["celeba"][0] for w in TABLE_5_2["celeba"]] == [1, 2, 4, 8, 16]
    assert [w / TABLE_5_2["cifar10"][0] for w in TABLE_5_2["cifar10"]] == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("cifar10", [128, -128, 128, -256, 256, -256, 256]),
        ("celeba64", [64, -64, 64, -128, 128, -128, 256, -256, 256]),
        ("lsun64", [64, -64, 64, -128, 128, -128, 256, 256, -256, 256]),
        ("celebahq256", [64, -64, 64, -128, 128, -128, 128, -256, 256, -256, 256, -512, 512]),
    ],
)
def test_resnet_columns_are_those_of_the_table(name, rows):
    """Table 4.9 from top to bottom: the stem's width, then that of every block, "ResBlock down" with a minus."""
    assert [int(b.rstrip("↓")) * (-1 if b.endswith("↓") else 1) for b in TABLE_4_9[name].split()] == rows


@pytest.mark.parametrize("image", [(1, 8, 8), (2, 9, 6)])
def test_conv_energies_are_convolutions_with_swish_after_each_and_a_linear_layer(image):
    torch.manual_seed(0)
    net, h = conv_energy(image, (4, 6, 5)), images(3, *image)
    x, (*convs, (weight, bias)) = h, list(zip(*[iter(net.parameters())] * 2, strict=True))
    for level, (w, b) in enumerate(convs):
        a = functional.conv2d(h, w, b, stride=2 if level else 1, padding=1)
        h = a * torch.sigmoid(a)
    assert len(convs) == 3 and torch.allclose(net(x), (h.flatten(1) @ weight.T + bias)[:, 0], atol=1e-6)


@pytest.mark.parametrize("after", [3, 5])
@pytest.mark.parametrize("halve", [False, True])
def test_a_block_is_swish_of_the_skip_plus_two_convolutions_halved_by_means(after, halve):
    torch.manual_seed(0)
    block, x = Block(3, after, halve=halve, conv=nn.Conv2d, activation=nn.SiLU), images(2, 3, 6, 4)
    first, last = [layer for layer in block.body if isinstance(layer, nn.Conv2d)]
    inner = functional.conv2d(x, first.weight, first.bias, padding=1)
    inner = functional.conv2d(inner * inner.sigmoid(), last.weight, last.bias, padding=1)
    skip = x if after == 3 else functional.conv2d(x, block.skip.weight, block.skip.bias)
    a = skip + inner
    if halve:
        a = a.unflatten(3, (2, 2)).unflatten(2, (3, 2)).mean((3, 5))
    assert torch.allclose(block(x), a * a.sigmoid(), atol=1e-6)


def test_a_resnet_energy_sums_over_places_and_does_not_average():
    """Far from its borders a constant image looks the same everywhere: each place more adds the same to E."""
    torch.manual_seed(0)
    net = resnet_energy((1, 8, 8), "4 4↓", normalise=None).double()
    sizes = [net(torch.ones(1, 1, side, 8, dtype=torch.float64)).item() for side in (16, 24, 32)]
    assert abs(sizes[1] - sizes[0]) > 1e-3 and sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0])


def test_cifars_resnet_has_the_parameters_of_its_table():
    """3×3 stem, blocks of two 3×3 (1×1 on the skip where widths differ), linear; weight norm adds a gain per channel."""
    widths = [128, 128, 128, 256, 256, 256, 256]
    layers = [(3, 128, 3)]
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [(before, after, 3), (after, after, 3)] + [(before, after, 1)] * (before != after)
    plain = sum(conv(*layer) for layer in layers) + 257
    assert size(resnet_energy((3, 32, 32), normalise=None)) == plain
    assert size(resnet_energy((3, 32, 32))) == plain + sum(outputs for _, outputs, _ in layers)


@pytest.mark.parametrize("normalise", ["weight", "spectral", None])
def test_a_resnet_energy_has_a_smooth_score_and_a_gradient_for_every_weight(normalise):
    net = resnet_energy((2, 9, 8), "8 8↓ 12 12↓", normalise=normalise)
    x = images(6, 2, 9, 8)
    assert net(x).shape == (6,) and score(net, x).shape == x.shape
    score(net, x, create_graph=True).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in net.named_parameters() if "bias" not in name)


def test_the_first_training_batch_gives_every_channel_mean_zero_and_variance_one():
    layer, x = WeightNormConv2d(3, 5, 3, padding=1), 4 * images(16, 3, 8, 8) + 7
    out = layer(x).transpose(0, 1).flatten(1)
    assert out.mean(1).abs().max() < 1e-5 and (out.std(1, correction=0) - 1).abs().max() < 1e-4


def test_the_weight_is_gain_times_direction_and_starts_once():
    layer, x = WeightNormConv2d(3, 5, 3), images(8, 3, 6, 6)
    layer(x)
    gain, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    assert torch.allclose(layer.weight, gain * direction / direction.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))
    before = layer.weight.clone()
    layer(10 * x)
    assert torch.equal(layer.weight, before)


def test_evaluation_does_not_start_it_and_a_constant_channel_stays_finite():
    layer = WeightNormConv2d(1, 2, 1).eval()
    before = layer.weight.clone()
    layer(images(4, 1, 3, 3))
    assert torch.equal(layer.weight, before) and not layer.started
    layer.train()
    assert layer(torch.ones(4, 1, 3, 3)).isfinite().all() and layer.started


def test_a_resnet_comes_back_from_a_checkpoint_started(tmp_path):
    net, x = resnet_energy((1, 8, 8), "8 8↓ 12"), images(6, 1, 8, 8)
    net(x)
    checkpoint.save(tmp_path / "net.safetensors", net)
    other = resnet_energy((1, 8, 8), "8 8↓ 12")
    checkpoint.load(tmp_path / "net.safetensors", other)
    assert torch.equal(other(3 * x), net(3 * x))


def test_the_spectral_penalty_sees_the_normalised_weights():
    net = resnet_energy((1, 8, 8), "8 8↓ 12")
    wanted = sum(torch.linalg.matrix_norm(m.weight.flatten(1), 2) for m in net.modules() if isinstance(m, nn.Conv2d))
    assert math.isclose(spectral_regularisation(net).item(), wanted.item(), rel_tol=1e-4)


def test_held_still_computes_normed_weights_once_and_leaves_everything_as_it_was():
    net, x = resnet_energy((1, 8, 8), "8 8↓ 12", normalise="spectral"), images(4, 1, 8, 8)
    power = net[0].parametrizations.weight[0]._u.clone()
    with held_still(net):
        first = net[0].weight
        net(x)
        assert net[0].weight is first and not net.training and not first.requires_grad
    assert torch.equal(net[0].parametrizations.weight[0]._u, power)
    assert net.training and all(p.requires_grad for p in net.parameters()) and net[0].weight is not first


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: conv_energy((1, 32, 32), "imagenet"), "widths must be one of mnist, cifar10, celeba"),
        (lambda: conv_energy((1, 4, 4), "mnist"), "image must be at least 8 wide and high"),
        (lambda: resnet_energy((1, 32, 32), "mnist"), "blocks must be one of cifar10"),
        (lambda: resnet_energy((3, 4, 32)), "image must be at least 8"),
        (lambda: resnet_energy((3, 32, 32), normalise="batch"), "normalise must be one of"),
    ],
)
def test_bad_settings_are_refused_by_name(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
