"""The StyleGAN: each piece against its formula, and what styles, noise and truncation do and don't do to the image."""

import math

import pytest
import torch
from torch.nn import functional as F

from gmcourse.gan.gan import GAN
from gmcourse.gan.regularisers import R1
from gmcourse.nets.dcgan import DCCritic
from gmcourse.nets.style import MODULATIONS, AdaIN, DemodulatedConv, MappingNetwork, StyleGenerator

IMAGE = (2, 8, 12)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def net(strength=0.0, **settings):
    """A small generator in evaluation mode, its pixel noise turned up."""
    made = StyleGenerator(IMAGE, latent=6, style=5, width=4, **settings).eval()
    for layer in made.synthesis:
        layer.strength.data.fill_(strength)
    return made


def noise(generator, n, seed=0):
    return random(n, sum(generator.noise_blocks.values()), seed=seed)


def test_adain_gives_each_channel_the_mean_and_deviation_its_style_asks_for():
    """Mean shift(w), standard deviation |1 + scale(w)|, whatever x had."""
    adain = AdaIN(3, 5)
    adain.affine.bias.data.normal_()
    x, w = 40 * random(4, 3, 9, 7).double() + 6, random(4, 5, seed=1).double()
    y = adain.double()(x, w)
    scale, shift = (w @ adain.affine.weight.T + adain.affine.bias).chunk(2, 1)
    assert torch.allclose(y.mean((2, 3)), shift)
    assert torch.allclose(y.std((2, 3), correction=0), (1 + scale).abs(), rtol=1e-6)


def test_adain_forgets_brightness_and_contrast_of_its_input_and_keeps_a_flat_channel_flat():
    adain, x, w = AdaIN(3, 5).double(), random(4, 3, 9, 7).double(), random(4, 5, seed=1).double()
    assert torch.allclose(adain(x, w), adain(7 * x - 2, w), atol=1e-4)
    for flat in (torch.ones_like(x), random(4, 3, 1, 1).double()):
        shift = adain.affine(w).chunk(2, 1)[1][..., None, None]
        assert torch.allclose(adain(flat, w), shift.expand_as(flat))


def test_the_mapping_sees_the_direction_of_z_only_and_neither_shrinks_nor_explodes():
    mapping = MappingNetwork(64, 64, layers=8)
    z = random(500, 64)
    assert torch.allclose(mapping(z), mapping(3 * z), atol=1e-4)
    assert 0.2 < mapping(z).square().mean() < 5


def test_demodulation_is_a_convolution_with_weights_scaled_by_hand():
    """w'_jik = d_j s_i w_jik with Σ_ik w'² = 1, one set of weights for each row (Karras et al. 2020, eqs. 1 and 3)."""
    conv, x, w = DemodulatedConv(3, 4, 5), random(2, 3, 6, 6), random(2, 5, seed=1)
    conv.bias.data.normal_()
    for row in range(2):
        weight = conv.conv.weight * conv.affine(w)[row][:, None, None]
        weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        wanted = F.conv2d(x[row : row + 1], weight, padding=1) + conv.bias
        assert torch.allclose(conv(x, w)[row : row + 1], wanted, atol=1e-5)


def test_demodulation_keeps_white_inputs_at_variance_one():
    """Expected over inputs, away from the rim, for each style and channel: n = 200 · 14² numbers, correlated over 3 × 3."""
    conv, w = DemodulatedConv(8, 4, 5), random(1, 5)
    with torch.no_grad():
        variance = conv(random(200, 8, 16, 16), 10 * w.expand(200, -1))[..., 1:-1, 1:-1].var((0, 2, 3))
    assert (variance - 1).abs().max() < 5 * math.sqrt(2 * 9 / (200 * 14**2))


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_the_image_is_a_function_of_eps_and_rows_do_not_see_each_other(modulation):
    generator = net(0.3, modulation=modulation)
    eps = noise(generator, 5)
    x = generator(eps)
    assert x.shape == (5, *IMAGE) and x.abs().max() <= 1
    assert torch.equal(x, generator(eps))
    assert torch.allclose(x, torch.cat([generator(row[None]) for row in eps]), atol=1e-5)
    assert torch.pdist(x.flatten(1)).min() > 1e-3


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_pixel_noise_of_strength_zero_has_no_effect_and_else_changes_its_own_image(modulation):
    eps = noise(net(), 3)
    other = torch.cat([eps[:, :6], eps[:, 6:].flip(0)], 1)
    still, moved = net(modulation=modulation), net(0.3, modulation=modulation)
    assert torch.equal(still(eps), still(other))
    assert not torch.allclose(moved(eps), moved(other), atol=1e-3)


def test_noise_starts_at_strength_zero_and_every_pixel_of_every_layer_has_its_own():
    generator = StyleGenerator(IMAGE, latent=6, style=5, width=4).eval()
    assert all(layer.strength.abs().max() == 0 for layer in generator.synthesis)
    assert generator.noise_blocks == {"z": 6, "pixels": 2 * (2 * 3 + 4 * 6 + 8 * 12)}
    loud, eps = net(0.3), noise(generator, 1).requires_grad_()
    loud(eps).square().sum().backward()
    assert (eps.grad.abs() > 0).float().mean() > 0.98


@pytest.mark.parametrize("crossover", [0, 2, 6])
def test_mixed_styles_are_coarse_before_the_crossover_and_fine_after_it(crossover):
    generator = net()
    coarse, fine = random(3, 5), random(3, 5, seed=1)
    w = generator.mix(coarse, fine, crossover)
    assert w.shape == (3, generator.layers, 5) and generator.layers == 6
    assert torch.equal(w[:, :crossover], coarse[:, None].expand(-1, crossover, -1))
    assert torch.equal(w[:, crossover:], fine[:, None].expand(-1, 6 - crossover, -1))


def test_mixing_at_the_ends_gives_the_image_of_one_style_and_each_row_may_have_its_own_crossover():
    generator, pixels = net(0.3), random(3, 252)
    coarse, fine = random(3, 5), random(3, 5, seed=1)
    images = [generator.synthesise(generator.mix(coarse, fine, k), pixels) for k in (0, 3, 6)]
    assert torch.allclose(images[0], generator.synthesise(fine, pixels), atol=1e-6)
    assert torch.allclose(images[2], generator.synthesise(coarse, pixels), atol=1e-6)
    own = generator.synthesise(generator.mix(coarse, fine, torch.tensor([0, 3, 6])), pixels)
    assert torch.allclose(own, torch.stack([images[k][k] for k in range(3)]), atol=1e-6)


def test_truncation_draws_towards_one_image():
    """ψ = 0 is the image of the mean style, up to pixel noise; ψ = 1 is none; between, w is on the line."""
    generator = net()
    generator.mean_style.copy_(random(5, seed=2))
    eps = noise(generator, 4)
    plain = generator(eps)
    generator.psi = 0.0
    one = generator(eps)
    assert torch.allclose(one, one[:1].expand_as(one), atol=1e-6)
    assert torch.allclose(one[:1], generator.synthesise(generator.mean_style[None], eps[:1, 6:]), atol=1e-6)
    generator.psi = 1.0
    assert torch.equal(generator(eps), plain)
    w = random(4, 5)
    assert torch.allclose(generator.truncate(w, 0.25), generator.mean_style + 0.25 * (w - generator.mean_style))


def test_the_mean_style_follows_the_styles_in_training_only():
    generator = StyleGenerator((1, 2, 2), latent=6, style=5, width=1, levels=1).eval()
    with torch.no_grad():
        generator(noise(generator, 4))
        assert generator.mean_style.abs().max() == 0
        generator.train()
        for seed in range(800):
            generator(noise(generator, 16, seed))
        w = generator.style(random(20_000, 6, seed=5000))
    error = w.std(0) * math.sqrt(0.005 / 2 / 16)  # of an exponential average with momentum .995 over batches of 16
    assert ((generator.mean_style - w.mean(0)).abs() < 5 * error + 0.995**800 * w.mean(0).abs()).all()


def test_in_training_fine_styles_come_from_the_row_before_for_the_share_that_was_asked_for(monkeypatch):
    """The styles that reach the synthesis: coarse ones a row's own, fine ones its own or a neighbour's; crossovers even."""
    generator = net(mixing=0.7).train()
    seen = []
    monkeypatch.setattr(generator, "synthesise", lambda w, pixels: seen.append(w))
    with torch.no_grad():
        eps = noise(generator, 3000)
        generator(eps)
        w = generator.style(eps[:, :6])
    own = (seen[0] == w[:, None]).all(2)
    assert own[:, 0].all() and (own | (seen[0] == w.roll(1, 0)[:, None]).all(2)).all()
    crossovers = own.sum(1)
    assert torch.equal(own, torch.arange(6) < crossovers[:, None])
    share = crossovers.bincount(minlength=7) / 3000
    wanted = torch.tensor([0, 0.14, 0.14, 0.14, 0.14, 0.14, 0.3])
    assert ((share - wanted).abs() <= 5 * (wanted * (1 - wanted) / 3000).sqrt()).all()


def test_without_mixing_training_draws_the_image_of_evaluation():
    generator = net(0.3, mixing=0.0)
    eps = noise(generator, 3)
    assert torch.allclose(generator(eps), generator.train()(eps), atol=1e-6)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_a_gan_of_it_has_finite_slopes_for_everything_that_is_learned(modulation):
    """Above all for the constant, which is the same for all images."""
    generator = net(0.1, modulation=modulation)
    critic = DCCritic(IMAGE, width=4, minibatch_std=True)
    gan = GAN(generator, critic, event_shape=IMAGE, latent=generator.noise_blocks, regularisers=R1(1.0)).train()
    sum(player.loss(random(6, *IMAGE).tanh()).mean() for player in gan.players()).backward()
    for name, p in gan.named_parameters():
        assert p.grad.isfinite().all() and p.grad.abs().max() > 0, name
    eps = gan.noise(2)
    gan.eval()
    assert torch.equal(gan.push(eps), gan.push(eps)) and gan.sample(3).shape == (3, *IMAGE)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda g: g(torch.zeros(2, 6)), r"eps must have shape \(n, 6 \+ 252\); got \(2, 6\)"),
        (lambda g: g.style(torch.zeros(2, 7)), r"z must have shape \(n, 6\); got \(2, 7\)"),
        (lambda g: g.synthesise(torch.zeros(2, 4), torch.zeros(2, 252)), r"w must have shape \(n, 5\) or \(n, 6, 5\)"),
        (lambda g: g.synthesise(torch.zeros(2, 3, 5), torch.zeros(2, 252)), r"w must .*; got \(2, 3, 5\)"),
        (lambda g: g.synthesise(torch.zeros(2, 5), torch.zeros(1, 252)), r"pixels must have shape \(2, 252\)"),
        (lambda g: g.mix(torch.zeros(2, 5), torch.zeros(2, 5), 7), r"crossover must be one number in 0 … 6, .*; got 7"),
        (lambda g: g.mix(torch.zeros(2, 5), torch.zeros(3, 5), 1), "coarse and fine must have one shape"),
        (lambda g: net(mixing=1.5), r"mixing must lie in \[0, 1\]; got 1.5"),
        (lambda g: net(modulation="film"), "modulation must be one of adain, demodulated; got 'film'"),
        (lambda g: net(levels=3), "divisible by 8 for levels=3; got 8 × 12"),
        (lambda g: MappingNetwork(3, 3, 0), "layers must be a positive whole number; got 0"),
    ],
)
def test_what_does_not_fit_is_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(net())
