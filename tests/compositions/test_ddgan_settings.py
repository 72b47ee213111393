"""The thesis' own networks and settings, Tables 6.6 to 6.8."""

import pytest
import torch

from gmcourse.compositions import ddgan_settings
from gmcourse.compositions.ddgan_settings import ddgan, fit_settings
from gmcourse.fit import fit
from gmcourse.nets.unet import AdaptiveGroupNorm


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def full():
    """The nets at full size, without memory for their weights."""
    with torch.device("meta"):
        return {name: setting.nets() for name, setting in ddgan_settings.SETTINGS.items()}


COUNTS = {
    "cifar10": (67_928_963, 18_543_617),
    "stacked_mnist": (67_928_963, 18_543_617),
    "celeba_hq": (44_698_947, 28_655_233),
    "lsun_church": (162_739_075, 28_655_233),
    "gaussians25": (537_090, 536_577),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_thesis_networks_have_as_many_weights(name, full):
    assert tuple(map(count, full[name])) == COUNTS[name]


def test_the_mapping_network_has_three_layers_from_the_latent_to_the_style(full):
    """256 -> 512 -> 512 -> 512, with biases; 100 -> 256 -> 256 -> 256."""
    assert count(full["cifar10"][0].mapping) == 257 * 512 + 2 * 513 * 512
    assert count(full["celeba_hq"][0].mapping) == 101 * 256 + 2 * 257 * 256


def test_the_discriminator_of_cifar_by_hand(full):
    """Table 6.7: 1×1 to 128; blocks to 128, 256, 512, 512, 512 of two 3×3, a 1×1 without bias and a linear layer of time
    each; the batch's spread as channel 513 of a 3×3; the logit; the time's two layers of 512."""

    def block(a, b):
        return 9 * a * b + b + 9 * b * b + b + a * b + 513 * b

    channels = [128, 128, 256, 512, 512, 512]
    blocks = sum(block(a, b) for a, b in zip(channels, channels[1:], strict=False))
    time = 129 * 512 + 513 * 512
    assert count(full["cifar10"][1]) == 7 * 128 + blocks + 9 * 513 * 512 + 512 + 513 + time


def test_every_normalisation_of_the_generator_hears_the_latent(full):
    norms = [part for part in full["cifar10"][0].modules() if isinstance(part, AdaptiveGroupNorm)]
    assert len(norms) > 20 and all(norm.of_context.in_features == 512 for norm in norms)


def test_attention_is_at_16_by_16_and_at_the_bottom(full):
    """32 / 2 and 256 / 16: levels 1 and 4."""
    for name, level, sides in (("cifar10", 1, 32), ("celeba_hq", 4, 256), ("lsun_church", 4, 256)):
        assert sides // 2**level == 16 and tuple(ddgan_settings.SETTINGS[name].attention) == (level,)


@pytest.mark.parametrize("name", ["cifar10", "gaussians25"])
def test_a_step_moves_both_players(name):
    torch.manual_seed(0)
    model = ddgan(name, shrink=32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    data = torch.rand(4, *model.event_shape) * 2 - 1
    settings = {**fit_settings(name), "steps": 2, "batch_size": 2, "progress": False}
    fit(model, data, **settings)
    moved = {k.split(".")[0] for k, v in model.state_dict().items() if not v.equal(before[k])}
    assert {"generator", "discriminator"} <= moved
    assert model.sample(2).shape == (2, *model.event_shape) and model.nfe == 4


def test_images_of_256_go_through_a_shrunk_model():
    model = ddgan("celeba_hq", shrink=16)
    x = torch.rand(1, 3, 256, 256)
    assert model.discriminator_loss(x).shape == (1,) and model.discriminator_loss(x).isfinite().all()


def test_the_chain_is_that_of_the_thesis():
    assert ddgan("gaussians25", shrink=64).chain.betas.tolist() == pytest.approx(
        [0.47632, 0.84902, 0.95647, 0.98745], abs=1e-5
    )


def test_other_names_are_refused():
    with pytest.raises(
        ValueError, match="name must be one of cifar10, stacked_mnist, celeba_hq, lsun_church, gaussians25; got"
    ):
        ddgan("imagenet")
    with pytest.raises(ValueError, match="shrink must be a positive whole number; got 0"):
        ddgan("cifar10", shrink=0)
