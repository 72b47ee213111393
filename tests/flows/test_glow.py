"""Flows for images: squeeze, split, Glow's step, RealNVP's masks, the flows as wholes."""

import pytest
import torch
from problems.flow_layers_images import CONDITIONAL
from torch.distributions import Normal

from gmcourse.data.images import load_images
from gmcourse.fit import fit
from gmcourse.flows.coupling import Coupling
from gmcourse.flows.dequantise import bits_per_dim
from gmcourse.flows.glow import SigmoidAffine, glow, image_real_nvp
from gmcourse.flows.layer import Chain
from gmcourse.flows.linear import ActNorm, Conv1x1
from gmcourse.flows.split import Split
from gmcourse.flows.squeeze import Flatten, Squeeze
from gmcourse.model import Likelihood

BUILDERS = {"glow": glow, "image_real_nvp": image_real_nvp}


def stirred(model):
    """Away from the first weights, where every net is 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


def digits(n, split="train"):
    return load_images("digits", split)[0][:n]


def test_a_conditional_layer_scales_and_shifts_by_its_context():
    layer = CONDITIONAL["conditional"]().double()
    x, context = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    z, contribution = layer(x, context)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda v, i=i: layer(v[None], context[i : i + 1])[0][0], x[i])
        assert abs(torch.linalg.slogdet(jacobian)[1] - contribution[i]) < 1e-10
    torch.testing.assert_close(layer.inverse(z, context), x)


def test_squeeze_makes_the_pixels_of_a_block_the_channels_of_a_pixel():
    x = torch.arange(2 * 4 * 6).view(1, 2, 4, 6).float()
    z, _ = Squeeze((2, 4, 6))(x)
    assert z.shape == (1, 8, 2, 3)
    assert z[0, :4, 1, 2].tolist() == x[0, 0, 2:4, 4:6].flatten().tolist()
    assert z[0, 4:, 0, 1].tolist() == x[0, 1, 0:2, 2:4].flatten().tolist()


def test_split_is_the_chain_rule_of_probability():
    """log N(z) + contribution = log N(a) + log N(b; μ(a), σ(a)²), by torch.distributions."""
    layer = stirred(Split((4, 3, 3), Flatten((2, 3, 3)), width=8))
    x = torch.randn(5, 4, 3, 3)
    z, contribution = layer(x)
    a, b = x.chunk(2, 1)
    mean, raw = layer.net(a).chunk(2, 1)
    given_a = Normal(mean, (4 * torch.tanh(raw / 4)).exp())
    log_p = Normal(0, 1).log_prob(a) + given_a.log_prob(b)
    torch.testing.assert_close(Normal(0, 1).log_prob(z).sum(1) + contribution, log_p.sum((1, 2, 3)))
    assert torch.equal(z[:, :18], a.flatten(1))


def test_glows_coupling_shifts_and_then_scales_by_a_sigmoid():
    x, h = torch.randn(6).double(), torch.randn(2, 6).double()
    z, log_slope = SigmoidAffine(floor=0.0)(x, h)
    torch.testing.assert_close(z, (x + h[0]) / (1 + torch.exp(-h[1] - 2)))
    torch.testing.assert_close(log_slope, -torch.log1p(torch.exp(-h[1] - 2)))
    h[1] = -1e4
    transformer = SigmoidAffine()
    torch.testing.assert_close(transformer.invert(transformer(x, h)[0], h)[0], x)


def test_real_nvps_first_coupling_moves_one_colour_of_a_checkerboard_and_looks_at_the_other():
    flow = stirred(image_real_nvp((3, 4, 4), levels=1, depth=2, width=8))
    squeeze, *couplings = flow.chain.layers[2].layers[:3]
    colour = (torch.arange(4)[:, None] + torch.arange(4)) % 2
    x = torch.randn(1, 3, 4, 4)
    for coupling, moved in zip(couplings, (1, 0), strict=True):
        z = squeeze.inverse(coupling(squeeze(x)[0])[0])
        assert torch.equal((z != x)[0].all(0), colour == moved) and torch.equal((z != x)[0].any(0), colour == moved)


@pytest.mark.parametrize(("build", "variational"), [(glow, False), (glow, True), (image_real_nvp, False)])
def test_every_parameter_gets_a_gradient_and_training_lowers_the_bits(build, variational):
    torch.manual_seed(0)
    flow = build((1, 8, 8), bins=17, depth=2, width=8, variational=variational)
    x = digits(512)
    fit(flow, x, steps=40, batch_size=64, lr=5e-3, progress=False)
    flow.loss(x[:8]).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in flow.parameters())
    with torch.no_grad():
        assert bits_per_dim(flow.log_prob(digits(200, "test")), flow.event_shape).mean() < 3.2  # a coin's: log₂ 17 = 4.09


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_the_flow_is_a_transport_from_flat_noise_to_the_grid(build):
    flow = stirred(build((3, 8, 8), bins=17, width=8, levels=3))
    assert flow.likelihood is Likelihood.LOWER_BOUND and flow.noise_blocks == {"z": 192}
    x = flow.sample(4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(x, flow.sample(4, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close((x * 8).round() / 8, x, atol=1e-6, rtol=0)
    assert x.shape == (4, 3, 8, 8) and x.abs().max() <= 1 + 1e-6
    eps = flow.noise(4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    pushed = flow.push(eps)
    torch.testing.assert_close(pushed, x)
    assert torch.autograd.grad(pushed.square().sum(), eps)[0].isfinite().all()


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_images_come_back_from_their_noise_and_so_a_path_between_two_has_the_right_ends(build):
    flow = stirred(build((1, 8, 8), bins=17, width=8))
    z, _ = flow.encode(digits(2))
    path = torch.lerp(z[:1], z[1:], torch.linspace(0, 1, 5)[:, None])
    torch.testing.assert_close(flow.push(path)[[0, -1]], digits(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_dequantised_images_come_back_before_any_rounding_hides_an_error(build):
    flow = stirred(build((1, 8, 8), bins=17, width=8)).double()
    noise, *bijections = flow.chain.layers
    y, _ = noise(digits(20).double())
    chain = Chain(*bijections)
    z, contribution = chain(y)
    back, found = chain.invert(z)
    torch.testing.assert_close(back, y, atol=1e-9, rtol=0)
    torch.testing.assert_close(found, contribution, atol=1e-8, rtol=0)


def test_every_step_of_glow_normalises_mixes_and_couples():
    level = glow((1, 8, 8), levels=1, depth=3, width=8).chain.layers[2]
    assert [type(layer) for layer in level.layers] == [Squeeze, *[ActNorm, Conv1x1, Coupling] * 3, Flatten]


def test_real_nvps_masks_take_turns():
    level = image_real_nvp((1, 8, 8), levels=1, depth=3, width=8).chain.layers[2]
    kept = [layer.kept.tolist() for layer in level.layers[1:-1]]
    assert kept == [[0, 3], [1, 2], [0, 3], [0, 1], [2, 3], [0, 1]]


def test_a_flow_with_context_needs_it_and_hears_it():
    flow = stirred(glow((1, 8, 8), bins=17, width=8, context=10)).eval()
    x, labels = digits(4), torch.eye(10)[:4]

    def log_prob(context):
        torch.manual_seed(1)
        return flow.log_prob(x, context)

    assert not torch.allclose(log_prob(labels), log_prob(labels.roll(1, 0)))
    assert flow.sample(4, context=labels).shape == (4, 1, 8, 8)
    with pytest.raises(ValueError, match=r"context must be of shape \(4, 10\); got None"):
        flow.log_prob(x)


def test_images_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="event_shape must have height and width divisible by 8 for levels=3; got 28 × 28"):
        glow((1, 28, 28), levels=3)
    with pytest.raises(ValueError, match=r"shape must be that of an image, \(channels, height, width\); got \(8,\)"):
        image_real_nvp((8,))
    with pytest.raises(ValueError, match="levels must be a positive whole number; got 0"):
        glow(levels=0)
    with pytest.raises(ValueError, match="depth must be a positive whole number; got 0"):
        glow(depth=0)
    with pytest.raises(ValueError, match="shape must have even height and width to be squeezed; got 3 × 4"):
        Squeeze((1, 3, 4))
    with pytest.raises(ValueError, match="shape must have an even number of channels to be split; got 3"):
        Split((3, 2, 2), Flatten((1, 2, 2)))
    with pytest.raises(ValueError, match=r"data must lie in \[-1, 1\] for Flow"):
        glow((1, 8, 8), bins=17).check_data(digits(4) + 1)
