"""The thesis' settings: its tables word for word, and one training step of every model."""

import pytest
import torch

from gmcourse.compositions.negatives import Importance
from gmcourse.compositions.vaebm import BETAS, SETTINGS, SPECTRAL, WEIGHT_DECAY, fit_settings, vaebm
from gmcourse.ebm.energy import spectral_regularisation
from gmcourse.ebm.images import Block
from gmcourse.fit import fit
from gmcourse.flows.coupling import Coupling
from gmcourse.flows.glow import glow
from gmcourse.model import StandardNormal
from gmcourse.training.clipped_adam import ClippedAdam

# thesis Table 4.10, as printed, with the buffers, the steps at test time and the iterations of the text beside it
TABLE_4_10 = """
    name                 LR    BS  Persistent  steps  step   buffer  ramp  test  iterations
    cifar10              4e-5  32  No          10     8e-5   0       0     16    25000
    cifar10_persistent   4e-5  32  Yes         6      6e-5   10000   5000  16    25000
    celeba64             5e-5  32  No          10     5e-6   0       0     20    20000
    lsun64               4e-5  32  Yes         10     4e-6   10000   5000  20    20000
    celebahq256          4e-5  16  Yes         6      3e-6   8000    3000  24    9000
"""
ROWS = [line.split() for line in TABLE_4_10.strip().splitlines()[1:]]
SMALL = ("mnist", "fashion_mnist", "cifar10_small", "glow_mnist", "glow_fashion", "glow_cifar10")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_table_4_10(row):
    name, lr, batch, persistent, *numbers = row
    at = SETTINGS[name]
    assert (at.lr, at.batch_size, at.buffer > 0) == (float(lr), int(batch), persistent == "Yes")
    assert [at.steps, at.step, at.buffer, at.ramp, at.test_steps, at.iterations] == [float(v) for v in numbers]
    assert at.l2 == 0 and at.energy == name.removesuffix("_persistent")  # a column of Table 4.9


@pytest.mark.parametrize("name", SMALL)
def test_section_4_4_1(name):
    """60 Langevin steps of 0.01, 100 at test time, energies regularised by 0.1, three blocks of 64 and three of 128."""
    at = SETTINGS[name]
    assert (at.steps, at.step, at.test_steps, at.l2, at.buffer) == (60, 0.01, 100, 0.1, 0)
    net = vaebm(name, StandardNormal(at.image)).energy
    assert [block.body[2].out_channels for block in net if isinstance(block, Block)] == [64, 64, 64, 128, 128, 128]
    trained = {"mnist": (256, 128, 1e-3), "fashion_mnist": (256, 128, 1e-3), "cifar10_small": (256, 128, 1e-3)}
    trained |= {"glow_mnist": (128, 64, 5e-4), "glow_fashion": (128, 64, 5e-4), "glow_cifar10": (256, 64, 5e-4)}
    assert tuple(at.base_fit[key] for key in ("epochs", "batch_size", "lr")) == trained[name]


def test_the_bases_have_the_thesis_depths():
    """Latent dimension 100; 2 × 16 and 3 × 32 flow steps; 30, 15, 15 and 20 groups."""
    assert vaebm("mnist", shrink=16).base.noise_blocks == {"z": 100, "x": 0}
    assert vaebm("cifar10_small", shrink=16).base.noise_blocks == {"z": 100, "x": 3 * 32 * 32}
    groups = {"cifar10": 30, "cifar10_persistent": 30, "celeba64": 15, "lsun64": 15, "celebahq256": 20}
    assert {name: len(vaebm(name, shrink=32).base.groups) for name in groups} == groups
    for name, steps in {"glow_mnist": 2 * 16, "glow_fashion": 2 * 16, "glow_cifar10": 3 * 32}.items():
        levels, depth, _ = SETTINGS[name].base.args
        flow = glow(SETTINGS[name].image, levels=levels, depth=depth, width=2)
        assert sum(isinstance(layer, Coupling) for layer in flow.modules()) == steps


def test_what_all_energies_are_trained_with():
    assert (SPECTRAL, WEIGHT_DECAY, BETAS) == (0.2, 3e-5, (0.99, 0.999))
    settings = fit_settings("cifar10")
    adam = settings.pop("optimizer")([torch.nn.Parameter(torch.zeros(1))], lr=settings["lr"])
    assert settings == {"lr": 4e-5, "batch_size": 32, "steps": 25_000}
    assert isinstance(adam, ClippedAdam) and adam.deviations == 3 and adam.defaults["weight_decay"] == 3e-5
    assert adam.defaults["betas"] == (0.99, 0.999)
    assert fit_settings("mnist").keys() == {"lr", "batch_size", "optimizer"}
    chains = vaebm("celeba64", shrink=32).negatives
    assert (chains.steps, chains.sample_steps, chains.step, chains.persistence) == (10, 20, 5e-6, None)


def test_the_spectral_norms_are_in_the_loss():
    torch.manual_seed(0)
    model = vaebm("mnist", shrink=16, steps=1)
    x = torch.rand(2, 1, 28, 28)
    model.loss(x)  # starts the weight normalisation
    model.energy.eval()
    torch.manual_seed(1)
    whole = model.loss(x)
    penalty, model.penalty = model.penalty(model.energy), None
    torch.manual_seed(1)
    assert torch.allclose(whole - model.loss(x), 0.2 * spectral_regularisation(model.energy), rtol=1e-3)
    assert penalty > 0


@pytest.mark.parametrize("name", SETTINGS)
def test_every_model_makes_one_step_and_moves_only_its_energy(name):
    torch.manual_seed(0)
    model = vaebm(name, shrink=16, steps=1)
    base = {key: value.clone() for key, value in model.base.state_dict().items()}
    energy = [p.detach().clone() for p in model.energy.parameters()]
    fit(model, torch.rand(2, *model.event_shape), progress=False, **fit_settings(name) | {"batch_size": 2, "steps": 1})
    assert all(torch.equal(value, base[key]) for key, value in model.base.state_dict().items())
    assert any(not torch.equal(p, before) for p, before in zip(model.energy.parameters(), energy, strict=True))
    assert model.sample(2).shape == (2, *SETTINGS[name].image)


def test_buffers_keep_z_and_are_ramped_to_sixty_percent():
    model = vaebm("cifar10_persistent", shrink=32, steps=1)
    kept = model.negatives.persistence
    assert (kept.last, kept.ramp, len(kept.buffer.chains)) == (0.6, 5000, 10_000 // 32)
    assert int(kept.keeps.sum()) == sum(size for part, size in model.base.noise_blocks.items() if part != "x")


def test_a_trained_base_takes_the_place_of_the_new_one():
    base = StandardNormal((1, 28, 28))
    model = vaebm("mnist", base, shrink=16)
    assert model.base is base
    model.negatives = Importance()
    assert model.sample(2).shape == (2, 1, 28, 28)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="name must be one of mnist, fashion_mnist, .*; got 'cifar100'"):
        vaebm("cifar100")
    with pytest.raises(ValueError, match=r"base must be of images \(1, 28, 28\) for 'mnist'; got \(2,\)"):
        vaebm("mnist", StandardNormal(2))
    with pytest.raises(ValueError, match="shrink must be a positive whole number; got 0"):
        vaebm("mnist", shrink=0)
