"""The U-Net: shapes, sizes, what each output depends on, and its parts against formulas written out."""

import math

import pytest
import torch
from torch import nn

from gmcourse.nets.embedding import FourierTime
from gmcourse.nets.unet import AdaptiveGroupNorm, Attention, Block, UNet, resized


def small(**options):
    return UNet((1, 8, 8), width=8, multipliers=(1, 2), time=FourierTime(8), **options)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def awake(net, seed=0, scale=0.2):
    """The net with random numbers where it starts with zeros."""
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data.copy_(scale * torch.randn(p.shape, generator=generator))
    return net


@pytest.mark.parametrize(
    ("image", "options"),
    [
        ((1, 8, 12), {"width": 8, "multipliers": (1, 2)}),
        ((3, 8, 8), {"width": 12, "multipliers": (1, 2, 3), "blocks": 2, "attention": (0, 2), "outputs": 6}),
        ((2, 6, 6), {"width": 4, "multipliers": (1,), "attention": ()}),
        ((1, 8, 8), {"width": 8, "multipliers": (2, 1), "context": 5, "dropout": 0.1}),
        ((3, 8, 12), {"width": 8, "multipliers": (1, 2), "patch": 2, "outputs": 6}),
    ],
)
def test_shapes_and_that_the_output_starts_at_zero(image, options):
    net = UNet(image, **options)
    x, c = normal(3, *image), normal(3, 5) if "context" in options else None
    shape = (3, options.get("outputs", image[0]), *image[1:])
    assert torch.equal(net(x, torch.rand(3), c), torch.zeros(shape))
    assert awake(net)(x, torch.rand(3), c).std() > 0


@pytest.mark.parametrize(("image", "width"), [((1, 28, 28), 16), ((3, 32, 32), 16), ((1, 28, 28), 32), ((3, 32, 32), 40)])
def test_nets_for_small_images_have_a_third_of_a_million_to_three_million_parameters(image, width):
    with torch.device("meta"):
        assert 0.3e6 < sum(p.numel() for p in UNet(image, width=width).parameters()) < 3e6


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("t", [torch.tensor([0.1, 0.9]), torch.tensor([1, 900])])
def test_every_image_has_its_own_time_and_context_and_no_other(t, patch):
    net = awake(UNet((1, 8, 8), width=8, multipliers=(1, 2), context=3, patch=patch))
    x, c = normal(2, 1, 8, 8), normal(2, 3, seed=1)
    together = net(x, t, c)
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], c[i : i + 1]) for i in range(2)])
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-3 * together.std().item())
    for other in (net(x, t.flip(0), c), net(x, t, c.flip(0))):
        assert (together - other).std() > 0.05 * together.std()


def test_with_patches_it_is_the_net_of_the_patches_as_channels():
    """Pixel (2i + a, 2j + b) is channel 2a + b at place (i, j), on the way in and on the way out."""
    patched = awake(UNet((1, 8, 8), width=8, multipliers=(1, 2), outputs=2, patch=2, time=FourierTime(8)))
    plain = UNet((4, 4, 4), width=8, multipliers=(1, 2), outputs=8, time=FourierTime(8))
    plain.load_state_dict(patched.state_dict())
    x, t = normal(3, 1, 8, 8), torch.rand(3)
    found = plain(x.reshape(3, 4, 2, 4, 2).permute(0, 2, 4, 1, 3).reshape(3, 4, 4, 4), t)
    wanted = found.reshape(3, 2, 2, 2, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(3, 2, 8, 8)
    torch.testing.assert_close(patched(x, t), wanted)


def test_every_pixel_is_seen_from_every_place():
    net = awake(small()).double()
    x = normal(1, 1, 8, 8).double().requires_grad_()
    (slope,) = torch.autograd.grad(net(x, 0.5)[0, 0, 0, 0], x)
    assert (slope != 0).all()


def test_detail_passes_beside_the_bottom():
    net = awake(small())
    net.bottom[-1].register_forward_hook(lambda module, given, found: torch.zeros_like(found))
    one, other = net(normal(1, 1, 8, 8), 0.5), net(normal(1, 1, 8, 8, seed=1), 0.5)
    assert (one - other).std() > 0.05 * one.std()


def test_every_parameter_is_used():
    net = awake(small(context=3, blocks=2))
    net(normal(4, 1, 8, 8), torch.rand(4), normal(4, 3)).square().sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle


def test_from_the_start_the_last_layer_learns_and_then_the_rest():
    net = small()
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        sgd.zero_grad()
        (net(normal(4, 1, 8, 8), torch.rand(4)) - 1).square().mean().backward()
        sgd.step()
    assert all(p.grad.abs().max() > 0 for block in net.down for p in block.second.parameters())


def test_adaptive_group_norm_is_its_formula():
    norm, h, time, context = AdaptiveGroupNorm(8, 5, 3), normal(4, 8, 3, 3), normal(4, 5), normal(4, 3)
    groups = h.reshape(4, 2, -1)  # four channels in each
    wanted = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    t_s, t_b = norm.of_time(time)[:, :, None, None].split(8, 1)
    s, b = norm.of_context(context)[:, :, None, None].split(8, 1)
    wanted = (1 + s) * ((1 + t_s) * wanted.reshape(h.shape) + t_b) + b
    torch.testing.assert_close(norm(h, time, context), wanted, rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_pytorch_between_places():
    ours, h = awake(Attention(8), scale=0.5), normal(2, 8, 3, 4)
    theirs = nn.MultiheadAttention(8, 1, batch_first=True)
    for mine, its in ((ours.look, (theirs.in_proj_weight, theirs.in_proj_bias)), (ours.leave, theirs.out_proj.parameters())):
        for p, q in zip(mine.parameters(), its, strict=True):
            q.data.copy_(p.data.reshape(q.shape))
    places = ours.norm(h).flatten(2).mT
    found = (h + theirs(places, places, places)[0].mT.reshape(h.shape)) / math.sqrt(2)
    torch.testing.assert_close(ours(h), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("resize", "size"), [("", 4), ("up", 8), ("down", 2)])
def test_a_block_starts_as_its_skip_and_keeps_the_variance_of_two_equal_branches(resize, size):
    block, x = Block(8, 8, 5, resize=resize), normal(2, 8, 4, 4)
    up, down = x.repeat_interleave(2, 2).repeat_interleave(2, 3), x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    plain = {"": x, "up": up, "down": down}
    torch.testing.assert_close(block(x, normal(2, 5)), plain[resize] / math.sqrt(2))
    assert awake(Block(8, 12, 5, resize=resize))(x, normal(2, 5)).shape == (2, 12, size, size)


BINOMIAL = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("resize", ["up", "down"])
def test_fir_is_the_binomial_filter_between_two_sizes(resize):
    """Away from the border: zeros between the pixels, then the filter, or the filter, then every second pixel."""
    x, kernel = normal(2, 3, 8, 10).double(), (BINOMIAL[:, None] * BINOMIAL)[None, None] / 64
    flat = x.reshape(6, 1, 8, 10)
    if resize == "up":
        wanted = nn.functional.conv_transpose2d(flat, 4 * kernel, stride=2, padding=1)
    else:
        wanted = nn.functional.conv2d(flat, kernel, stride=2, padding=1)
    found = resized(x, resize, fir=True)
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], wanted.reshape(found.shape)[:, :, 1:-1, 1:-1])


@pytest.mark.parametrize("resize", ["up", "down"])
def test_fir_leaves_a_constant_image_constant_and_a_slope_a_slope(resize):
    constant, size = torch.full((1, 2, 8, 8), 0.7), {"up": 16, "down": 4}[resize]
    torch.testing.assert_close(resized(constant, resize, fir=True), torch.full((1, 2, size, size), 0.7))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    steps = resized(ramp, resize, fir=True)[0, 0, 0, 1:-1].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 8 / size))


@pytest.mark.parametrize("frequency", [0.25, 0.3, 0.4, 0.5])
def test_fir_damps_the_waves_that_the_small_image_cannot_hold(frequency):
    """|H| = cos³(πf) against the mean's cos(πf): at f = ½, the checkerboard's, nothing is left; at ¼ .35 against .71."""
    wave = torch.polar(torch.ones(64, dtype=torch.float64), 2 * math.pi * frequency * torch.arange(64.0).double())
    image = torch.stack([wave.real, wave.imag])[None, :, None, :].expand(1, 2, 4, 64)

    def gain(fir):
        return resized(image, "down", fir)[0, :, 0, 2:-2].square().sum(0).sqrt()

    response = math.cos(math.pi * frequency)
    for fir, wanted in ((True, response**3), (False, response)):
        torch.testing.assert_close(gain(fir), torch.full((28,), wanted, dtype=torch.float64))


def test_on_the_way_up_fir_shows_no_blocks():
    """Copies of pixels have edges at every second place; up and down again gives back what is smooth."""
    x = torch.cos(torch.arange(32.0) * 2 * math.pi / 32).expand(1, 1, 32, 32)
    copies, smooth = (resized(x, "up", fir)[0, 0, 0].diff() for fir in (False, True))
    assert (copies[::2] == 0).all() and (smooth[4:28] < 0).all()
    assert (resized(resized(x, "down", True), "up", True) - x)[..., 2:-2].abs().max() < 0.04


def test_a_net_with_fir_has_the_same_parameters_and_other_values():
    plain, fir = (awake(small(fir=fir)) for fir in (False, True))
    fir.load_state_dict(plain.state_dict())
    x, t = normal(2, 1, 8, 8), torch.rand(2)
    assert fir(x, t).shape == x.shape and (fir(x, t) - plain(x, t)).std() > 0.01 * plain(x, t).std()
    assert all(block.fir for block in [*fir.down, *fir.bottom, *fir.up])


NET = small(context=3)
X, T, C = torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: UNet((1, 30, 30)), r"image must be \(c, h, w\), h and w divisible by 4 for 3 levels and patch = 1"),
        (lambda: UNet((28, 28)), r"image must be \(c, h, w\)"),
        (lambda: UNet((1, 28, 28), patch=2), r"divisible by 8 for 3 levels and patch = 2; got \(1, 28, 28\)"),
        (lambda: UNet((1, 28, 28), patch=0), "patch must be at least 1; got 0"),
        (lambda: UNet((1, 28, 28), width=30), "width must be divisible by 4; got 30"),
        (lambda: UNet((1, 28, 28), multipliers=()), "multipliers must be positive"),
        (lambda: UNet((1, 28, 28), blocks=0), "blocks must be at least 1"),
        (lambda: UNet((1, 28, 28), attention=(16,)), r"attention must name levels 0 … 2; got \(16,\)"),
        (lambda: NET(torch.zeros(2, 1, 8, 4), T, C), r"x must have shape \(n, 1, 8, 8\); got \(2, 1, 8, 4\)"),
        (lambda: NET(X, torch.zeros(3), C), r"t must have shape \(2,\)"),
        (lambda: NET(X, T), r"context must have shape \(2, 3\); got None"),
        (lambda: NET(X, T, torch.zeros(2, 4)), r"context must have shape \(2, 3\); got \(2, 4\)"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def halvings(net, x):
    """What the blocks make at each halving, and what goes on from there to the next block: two lists of maps."""
    made, onward = [], []
    for k, block in enumerate(net.down):
        if block.resize:
            block.register_forward_hook(lambda _, given, found: made.append(found))
            net.down[k + 1].register_forward_pre_hook(lambda _, given: onward.append(given[0]))
    net(x, torch.rand(len(x)))
    return made, onward


def with_pyramid(**options):
    settings = {"width": 4, "multipliers": (1, 2, 2), "attention": ()} | options
    return awake(UNet((2, 32, 32), pyramid=True, **settings))


def test_with_the_convolutions_of_the_pyramid_at_zero_features_are_only_scaled():
    net = with_pyramid()
    for p in net.pyramid.parameters():
        nn.init.zeros_(p)
    made, onward = halvings(net, normal(3, 2, 32, 32))
    assert len(made) == 2 and all(o.allclose(m / math.sqrt(2), atol=1e-6) for m, o in zip(made, onward, strict=True))


@pytest.mark.parametrize(("fir", "kernel"), [(True, BINOMIAL), (False, torch.tensor([0.0, 1.0, 1.0, 0.0]))])
def test_the_image_is_added_at_each_halving_and_the_sum_is_the_next_image(fir, kernel):
    """(h + conv(↓image))/√2, first with the image itself, then with the sum; away from the border, where the filter ends."""
    net, x = with_pyramid(fir=fir), normal(3, 2, 32, 32)
    assert [(c.in_channels, c.out_channels) for c in net.pyramid] == [(2, 4), (4, 8)]
    made, onward = halvings(net, x)
    kernel = (kernel / kernel.sum()).float()
    for image, conv, h, found in zip([x, onward[0]], net.pyramid, made, onward, strict=True):
        each = (kernel[:, None] * kernel).expand(image.shape[1], 1, 4, 4)
        smaller = nn.functional.conv2d(image, each, stride=2, padding=1, groups=image.shape[1])[..., 1:-1, 1:-1]
        wanted = (h[..., 2:-2, 2:-2] + nn.functional.conv2d(smaller, conv.weight, conv.bias)) / math.sqrt(2)
        torch.testing.assert_close(found[..., 2:-2, 2:-2], wanted, rtol=1e-4, atol=1e-5)


def test_a_pyramid_beside_patches_starts_with_the_patches_and_every_parameter_is_used():
    net = with_pyramid(patch=2, multipliers=(1, 2))
    assert [(c.in_channels, c.out_channels) for c in net.pyramid] == [(8, 4)]
    net(normal(4, 2, 32, 32), torch.rand(4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_without_a_pyramid_there_are_no_weights_of_one():
    plain, more = (UNet((2, 8, 8), width=4, multipliers=(1, 2), attention=(), pyramid=there) for there in (False, True))
    assert set(more.state_dict()) - set(plain.state_dict()) == {"pyramid.0.weight", "pyramid.0.bias"}


@pytest.mark.parametrize("places", [False, True])
def test_only_with_places_it_draws_by_itself_what_is_not_in_the_image(places):
    """Of an image that is the same everywhere a net of convolutions makes one that is the same beyond the border's reach,
    twelve pixels here, whatever the context says."""
    net = awake(UNet((1, 32, 32), width=4, multipliers=(1,), attention=(), context=3, places=places))
    with torch.no_grad():
        drawn = net(torch.ones(1, 1, 32, 32), torch.tensor(0.5), normal(1, 3))[0, 0, 13:-13, 13:-13]
    assert (drawn.std() > 1e-2) if places else (drawn.std() < 1e-5)


def test_places_are_a_map_at_the_door_and_one_for_each_context_at_the_bottom():
    settings = {"width": 4, "multipliers": (1, 2), "patch": 2, "context": 3}
    plain, more = (UNet((2, 8, 12), **settings, places=there) for there in (False, True))
    added = {key: tuple(value.shape) for key, value in more.state_dict().items() if key not in plain.state_dict()}
    assert added == {"places": (4, 4, 6), "drawn.0.weight": (8 * 2 * 3, 3), "drawn.0.bias": (8 * 2 * 3,)}
    silent = UNet((2, 8, 12), **settings | {"context": 0}, places=True).state_dict()
    assert "places" in silent and not any(key.startswith("drawn") for key in silent)


def test_the_map_of_the_context_is_added_where_the_bottom_begins():
    net = awake(UNet((1, 8, 8), width=4, multipliers=(1,), attention=(), context=2, places=True))
    maps, found, context = [], [], normal(3, 2)
    net.bottom[0].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    net.down[-1].register_forward_hook(lambda net, inputs, said: maps.append(said))
    with torch.no_grad():
        net(normal(3, 1, 8, 8), torch.tensor(0.3), context)
        wanted = (maps[0] + net.drawn[0](context).reshape(3, 4, 8, 8)) / math.sqrt(2)
    assert torch.allclose(found[0], wanted, atol=1e-6)
