"""The thesis' denoising diffusion GANs: Tables 6.6 to 6.8 and 6.4.7, counts by hand, and a training step of every model."""

import pytest
import torch

from gmcourse.compositions import ddgan_settings
from gmcourse.compositions.ddgan_settings import ddgan, fit_settings
from gmcourse.fit import fit
from gmcourse.gan.regularisers import R1
from gmcourse.nets.time_critic import PairBlock
from gmcourse.nets.unet import AdaptiveGroupNorm, Attention, Block


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def full():
    """The nets at full size, without memory for their weights."""
    with torch.device("meta"):
        return {name: setting.nets() for name, setting in ddgan_settings.SETTINGS.items()}


# thesis Tables 6.6 and 6.8, γ and the lengths from the text of 6.4.7; stacked_mnist as cifar10 but for the iterations
TABLES_6_6_AND_6_8 = """
    name           side  width  multipliers  latent  style  gamma  lr_d  lr_g    ema     batch  iterations
    cifar10        32    128    1,2,2,2      256     512    0.05   1e-4  1.6e-4  0.9999  128    400000
    stacked_mnist  32    128    1,2,2,2      256     512    0.05   1e-4  1.6e-4  0.9999  128    150000
    celeba_hq      256   64     1,1,2,2,4,4  100     256    1      1e-4  1.6e-4  0.999   32     750000
    lsun_church    256   128    1,1,2,2,4,4  100     256    1      1e-4  2e-4    0.999   64     600000
"""
HEAD, *ROWS = (line.split() for line in TABLES_6_6_AND_6_8.strip().splitlines())
IMAGES = {row[0]: dict(zip(HEAD, row, strict=True)) for row in ROWS}

# thesis Table 6.7: channels after each block, with the blocks that halve
SMALL = [(128, False), (256, True), (512, True), (512, True), (512, True)]
LARGE = [(256, True), (512, True), (512, True), (512, True), (512, True), (512, True)]
TABLE_6_7 = {"cifar10": SMALL, "stacked_mnist": SMALL, "celeba_hq": LARGE, "lsun_church": LARGE}


@pytest.mark.parametrize("name", IMAGES)
def test_table_6_6_of_the_generator(name, full):
    row, generator = IMAGES[name], full[name][0]
    net, width, side = generator.net, int(row["width"]), int(row["side"])
    multipliers = [int(m) for m in row["multipliers"].split(",")]
    assert net.image == (3, side, side) and net.fir and len(net.pyramid) == len(multipliers) - 1
    assert (generator.latent, net.context) == (int(row["latent"]), int(row["style"])) and generator.bounded
    assert net.enter.out_channels == width and net.time[-2].out_features == 4 * width
    levels, blocks = iter(multipliers), []
    for _ in multipliers:  # two blocks of a level's channels, and one that halves after all levels but the last
        wide = next(levels) * width
        blocks += [(wide, ""), (wide, ""), (wide, "down")]
    assert [(block.first.out_channels, block.resize) for block in net.down] == blocks[:-1]
    assert [block.resize for block in net.up].count("") == 3 * len(multipliers)


@pytest.mark.parametrize("name", IMAGES)
def test_attention_is_at_16_by_16_and_at_the_bottom(name, full):
    net, size = full[name][0].net, int(IMAGES[name]["side"])
    found = set()
    for block in [*net.down, *net.up]:
        size = {"down": size // 2, "up": size * 2, "": size}[block.resize]
        found |= {size} if isinstance(block.attention, Attention) else set()
    assert found == {16} and isinstance(net.bottom[0].attention, Attention)


@pytest.mark.parametrize("name", IMAGES)
def test_table_6_7_of_the_discriminator(name, full):
    critic = full[name][1]
    blocks = [part for part in critic.modules() if isinstance(part, PairBlock)]
    assert [(block.second.out_channels, block.resize == "down") for block in blocks] == TABLE_6_7[name]
    assert critic.enter.kernel_size == (1, 1) and (critic.enter.in_channels, critic.enter.out_channels) == (6, 128)
    assert all(block.fir for block in blocks) and critic.logit.out_features == 1


@pytest.mark.parametrize("name", IMAGES)
def test_table_6_8_of_the_training(name):
    row, settings = IMAGES[name], fit_settings(name)
    assert settings["lr"] == {"discriminator": float(row["lr_d"]), "generator": float(row["lr_g"])}
    assert settings["ema"] == {"discriminator": None, "generator": float(row["ema"])}
    assert (settings["batch_size"], settings["steps"]) == (int(row["batch"]), int(row["iterations"]))
    factor = [settings["schedule"](done) for done in (0.0, 0.5, 1.0)]
    assert factor == pytest.approx([1, 0.5, 0], abs=1e-6)
    model = ddgan(name, shrink=32)
    assert model.regularisers == (R1(float(row["gamma"])),)
    assert (model.nfe, model.parameterization, model.objective.name) == (4, "x0", "non-saturating")


def test_section_6_4_7_of_the_points():
    settings = fit_settings("gaussians25")
    assert (settings["lr"], settings["batch_size"], settings["steps"]) == (1e-4, 512, 50_000)
    assert not ddgan("gaussians25").regularisers and {"ema", "schedule"}.isdisjoint(settings)


@pytest.mark.parametrize("name", ddgan_settings.SETTINGS)
def test_adam_has_the_betas_of_table_6_8(name):
    adam = fit_settings(name)["optimizer"]([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    assert type(adam) is torch.optim.Adam and adam.defaults["betas"] == (0.5, 0.9)


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


def test_the_generator_of_cifar_by_hand(full):
    """Table 6.6: each residual block has two 3×3, two linear layers (of τ and of w, 512 both) for each of its two norms, and
    a 1×1 where channels change; attention a norm and four 1×1; down go two blocks and a halving, up three and a doubling,
    beside maps from the way down."""

    def block(a, b, attention=False):
        norms = 2 * 513 * 2 * (a + b)
        convs = 9 * a * b + b + 9 * b * b + b + (a * b + b if a != b else 0)
        return norms + convs + (2 * b + 4 * (b * b + b) if attention else 0)

    def pair(c):  # two blocks, or a block and its halving, that keep c channels
        return 2 * block(c, c)

    down = pair(128) + block(128, 128) + block(128, 256, True) + block(256, 256, True) + block(256, 256)
    down += pair(256) + block(256, 256) + pair(256)
    bottom = block(256, 256, True) + block(256, 256)
    up = 3 * block(512, 256) + block(256, 256) + 3 * block(512, 256) + block(256, 256)  # 4 × 4, 8 × 8
    up += 2 * block(512, 256, True) + block(384, 256, True) + block(256, 128)  # 16 × 16
    up += 3 * block(256, 128)  # 32 × 32
    pyramid = (9 * 3 + 1) * 128 + (9 * 128 + 1) * 256 + (9 * 256 + 1) * 256
    time = 129 * 512 + 513 * 512
    ends = (9 * 3 + 1) * 128 + 2 * 128 + (9 * 128 + 1) * 3
    assert count(full["cifar10"][0].net) == down + bottom + up + pyramid + time + ends


def test_the_pair_of_points_by_hand(full):
    """2 + 16 + 2 inputs and 2 outputs; 2 + 2 + 16 inputs and a logit; three layers of 512."""
    hidden = 21 * 512 + 2 * 513 * 512
    assert tuple(map(count, full["gaussians25"])) == (hidden + 513 * 2, hidden + 513)


@pytest.mark.parametrize("name", IMAGES)
def test_every_block_of_the_generator_hears_the_latent(name, full):
    style, net = int(IMAGES[name]["style"]), full[name][0].net
    norms = [part for part in net.modules() if isinstance(part, AdaptiveGroupNorm)]
    assert len(norms) == 2 * sum(isinstance(part, Block) for part in net.modules())
    assert all(norm.of_context.in_features == style for norm in norms)


@pytest.mark.parametrize("name", ["cifar10", "celeba_hq", "gaussians25"])
def test_two_steps_move_both_players(name):
    """In the second step of `fit` the generator's last layers are no longer zero."""
    torch.manual_seed(0)
    model = ddgan(name, shrink=64)
    before = {k: v.clone() for k, v in model.named_parameters()}
    settings = {**fit_settings(name), "steps": 2, "batch_size": 2, "progress": False}
    history = fit(model, torch.rand(4, *model.event_shape) * 2 - 1, **settings)
    moved = {k.split(".")[0] for k, v in model.named_parameters() if not v.equal(before[k])}
    assert moved == {"generator", "discriminator"} == set(history.losses)
    assert all(losses.isfinite().all() for losses in history.losses.values())


def test_samples_of_a_shrunk_model_are_images_in_their_range_and_cost_four_evaluations():
    model = ddgan("cifar10", shrink=32)
    x = model.sample(3)
    assert x.shape == (3, 3, 32, 32) and x.abs().max() <= 1 and model.nfe == 4


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
